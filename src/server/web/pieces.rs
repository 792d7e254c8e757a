//! Lists that are encoded as the client reads them.

use std::task::{Context, Poll};

use api::codec::{self, ListMeta, Shown};
use api::{LensMut, Object, Resource, Value};
use http::body::Source;
use http::{Body, Chunk, Response};

use super::gzip;
use super::negotiate::Format;
use super::respond::{Wanted, finish, metadata, no_cache, row};

/// Lists are encoded in pieces of about this size.
const PIECE_BYTES: usize = 32 * 1024;

/// Objects in one piece, so that large ones do not pile up.
const PIECE_OBJECTS: usize = 64;

/// A list that fits one piece is answered whole, a longer one as it is read.
pub(crate) fn stream(mut pieces: Pieces, wanted: &Wanted) -> Response {
    let first = pieces.next_piece().unwrap_or_default();
    if pieces.done {
        return finish(200, pieces.format, first, wanted);
    }
    let media_type = pieces.format.media_type();
    let mut response = no_cache(Response::new(200).header("content-type", media_type));
    pieces.first = Some(first);
    response.body = match wanted.gzip {
        true => {
            response.headers.set("content-encoding", "gzip");
            response.headers.set("vary", "Accept-Encoding");
            Body::from_source(gzip::Stream::new(pieces), None)
        }
        false => Body::from_source(pieces, None),
    };
    response
}

/// Appends the text of one item.
type WriteItem = Box<dyn Fn(&Object, &mut Vec<u8>) + Send>;

/// A list's bytes, piece by piece.
pub(crate) struct Pieces {
    first: Option<Vec<u8>>,
    head: Vec<u8>,
    items: std::vec::IntoIter<Object>,
    write: WriteItem,
    started: bool,
    done: bool,
    format: Format,
}

/// As what the items are shown: whole, or their metadata (of the beta version, if true).
fn shown(resource: &Resource, of_metadata: Option<bool>) -> Shown<'_> {
    match of_metadata {
        None => Shown::Whole(resource.form()),
        Some(beta) => metadata(beta),
    }
}

impl Pieces {
    /// A list as JSON text: of whole objects, or of their metadata.
    pub(crate) fn json(
        items: Vec<Object>,
        resource: Resource,
        of_metadata: Option<bool>,
        meta: &ListMeta,
    ) -> Pieces {
        let head = shown(&resource, of_metadata).json_head(meta);
        let form = resource.form();
        // A list says once what its items are, but for kinds that come from outside.
        let typed = !form.kind.declared.json && of_metadata.is_none();
        let types =
            format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", form.kind.name, form.api_version());
        let write = move |object: &Object, out: &mut Vec<u8>| {
            let start = out.len();
            let form = resource.form();
            if typed && !form.is_stored() {
                let mut tree = codec::tree_in(object, form);
                tree.remove("kind");
                tree.remove("apiVersion");
                codec::write_tree_json(&tree, out);
                return;
            }
            shown(&resource, of_metadata).write_json(object, out);
            if typed {
                strip_types(out, start, types.as_bytes());
            }
        };
        Pieces::new(items, head, Box::new(write), Format::Json)
    }

    /// The same in protobuf. What stands before the items says how long they are, so they are encoded twice,
    /// which is mostly copying.
    pub(crate) fn protobuf(
        items: Vec<Object>,
        resource: Resource,
        of_metadata: Option<bool>,
        meta: &ListMeta,
    ) -> Pieces {
        let each = shown(&resource, of_metadata);
        let (mut items_bytes, mut one) = (0, Vec::new());
        for object in &items {
            one.clear();
            each.put_protobuf(object, &mut one);
            items_bytes += one.len();
        }
        let head = each.protobuf_head(meta, items_bytes);
        let write = move |object: &Object, out: &mut Vec<u8>| {
            shown(&resource, of_metadata).put_protobuf(object, out);
        };
        Pieces::new(items, head, Box::new(write), Format::Protobuf)
    }

    /// A table as JSON text; `head` is the table without rows.
    pub(crate) fn table(
        items: Vec<Object>,
        resource: Resource,
        mut head: Value,
        wanted: Wanted,
    ) -> Pieces {
        head.remove("rows");
        let mut text = Vec::new();
        codec::write_tree_json(&head, &mut text);
        text.pop();
        text.extend_from_slice(b",\"rows\":[");
        let write = move |object: &Object, out: &mut Vec<u8>| {
            codec::write_tree_json(&row(object, resource.form(), &wanted), out);
        };
        Pieces::new(items, text, Box::new(write), Format::Json)
    }

    fn new(items: Vec<Object>, head: Vec<u8>, write: WriteItem, format: Format) -> Pieces {
        let items = items.into_iter();
        Pieces { first: None, head, items, write, started: false, done: false, format }
    }

    pub(crate) fn next_piece(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.done {
            return None;
        }
        let mut out = std::mem::take(&mut self.head);
        for _ in 0..PIECE_OBJECTS {
            let Some(object) = self.items.next() else {
                self.done = true;
                match self.format {
                    Format::Protobuf => out.extend_from_slice(codec::PROTOBUF_END),
                    _ => {
                        out.extend_from_slice(codec::JSON_END);
                        out.push(b'\n');
                    }
                }
                break;
            };
            if self.started && self.format != Format::Protobuf {
                out.push(b',');
            }
            self.started = true;
            (self.write)(&object, &mut out);
            if out.len() >= PIECE_BYTES {
                break;
            }
        }
        Some(out)
    }

    /// All of it at once.
    pub(crate) fn whole(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(mut piece) = self.next_piece() {
            out.append(&mut piece);
        }
        out
    }
}

/// Removes `kind` and `apiVersion` from the head of an object's text.
fn strip_types(out: &mut Vec<u8>, start: usize, types: &[u8]) {
    if !out[start..].starts_with(types) {
        return;
    }
    let after = start + types.len();
    // The brace stays, the comma goes.
    let end = if out.get(after) == Some(&b',') { after + 1 } else { after };
    out.drain(start + 1..end);
}

impl Source for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<stdx::Result<Chunk>>> {
        Poll::Ready(self.next_piece().map(|piece| Ok(piece.into())))
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pieces({} objects left)", self.items.len())
    }
}

#[cfg(test)]
mod tests {
    use api::codec::Received;
    use api::kinds::CONFIG_MAP;
    use api::{Lens, json};

    use super::*;

    #[test]
    fn pieces_are_the_whole_list() {
        let objects: Vec<Object> = (1..200)
            .map(|n| {
                let metadata = json!({"name": format!("m{n}"), "namespace": "default", "resourceVersion": n.to_string()});
                let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "x".repeat(n)}});
                Object::from_tree(&CONFIG_MAP, &tree).unwrap()
            })
            .collect();
        let kinds = api::Kinds::built_in();
        let resource = kinds.find("", "v1", "configmaps").unwrap();
        let meta = ListMeta { revision: 300, next: "more".into(), remaining: Some(7) };
        let json = |of_metadata| {
            let pieces = Pieces::json(objects.clone(), resource.clone(), of_metadata, &meta);
            serde_json::from_slice::<Value>(&pieces.whole()).unwrap()
        };
        let protobuf = |of_metadata| {
            let mut pieces =
                Pieces::protobuf(objects.clone(), resource.clone(), of_metadata, &meta);
            assert!(pieces.next_piece().is_some() && !pieces.done, "it is one piece only");
            let pieces = Pieces::protobuf(objects.clone(), resource.clone(), of_metadata, &meta);
            let bytes = pieces.whole();
            let has_data = bytes.windows(100).any(|bytes| bytes.iter().all(|byte| *byte == b'x'));
            assert_eq!(has_data, of_metadata.is_none());
            codec::received(&CONFIG_MAP, &bytes).unwrap()
        };

        let Received::List(items, read) = protobuf(None) else { panic!("no list") };
        assert_eq!((&items, &read), (&objects, &meta));
        let text = json(None);
        assert_eq!((text.str("kind"), text.at("metadata")), ("ConfigMapList", &meta.tree()));
        for (item, object) in text.list("items").iter().zip(&objects) {
            let mut tree = object.tree();
            assert!(tree.remove("kind").is_some() && tree.remove("apiVersion").is_some());
            assert_eq!(*item, tree);
        }
        assert_eq!(text.list("items").len(), objects.len());

        for (beta, version) in [(false, "meta.k8s.io/v1"), (true, "meta.k8s.io/v1beta1")] {
            let Received::Tree(mut list) = protobuf(Some(beta)) else { panic!("no tree") };
            let text = json(Some(beta));
            assert_eq!(text.list("items").len(), objects.len());
            for (item, object) in text.list("items").iter().zip(&objects) {
                let metadata = object.tree().remove("metadata").unwrap();
                let types = json!({"kind": "PartialObjectMetadata", "apiVersion": version});
                assert_eq!(item.at("metadata"), &metadata);
                assert_eq!(
                    (item.at("kind"), item.at("apiVersion")),
                    (types.at("kind"), types.at("apiVersion"))
                );
            }
            // In protobuf only the list says its types.
            for item in list["items"].as_array_mut().unwrap() {
                item.set("kind", "PartialObjectMetadata");
                item.set("apiVersion", version);
            }
            assert_eq!(list, text);
        }
    }
}
