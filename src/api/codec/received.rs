//! What a server answered, as objects: the client's side of the codec. The bytes may be anybody's.

use std::sync::Arc;

use serde_json::Value;
use stdx::{Context, Error, Result};
use wire::protobuf::{self as pb, Reader};

use super::{ListMeta, decode_meta, envelope};
use crate::kind::Kind;
use crate::lens::Lens;
use crate::message::managed;
use crate::object::Object;
use crate::status::Status;

/// What the tree of an answer in JSON may take of memory. Objects come in protobuf; this is for
/// custom resources and for answers that are not stored.
const TREE_MAX_BYTES: usize = 64 << 20;

/// Whether objects of the kind have a protobuf form.
pub fn has_protobuf(kind: &'static Kind) -> bool {
    !kind.declared.json
}

/// What an answer turned out to be.
#[derive(Debug)]
pub enum Received {
    /// An object of the kind that was asked for, in its stored form.
    Object(Object),
    List(Vec<Object>, ListMeta),
    /// Anything else: a `Status`, a review, an object in another version.
    Tree(Value),
}

/// Reads the whole body of a successful answer to a request about `kind`.
///
/// # Errors
/// If the bytes are malformed, or take too much memory.
pub fn received(kind: &'static Kind, bytes: &[u8]) -> Result<Received> {
    let what = || format!("decode an answer about {}", kind.plural);
    let Some(envelope) = envelope::open(bytes).context(what)? else {
        return received_tree(kind, tree(bytes).context(what)?).context(what);
    };
    if envelope.content_type == "application/json" {
        return received_tree(kind, tree(envelope.raw).context(what)?).context(what);
    }
    if envelope.api_version == kind.api_version() && kind.stored() && has_protobuf(kind) {
        if envelope.kind == kind.name {
            return from_message(kind, envelope.raw).map(Received::Object).context(what);
        }
        if envelope.kind.strip_suffix("List") == Some(kind.name) {
            return list(kind, envelope.raw).context(what);
        }
    }
    if envelope.kind == "Status" {
        let status = decode_meta("Status", bytes).map_err(|status| Error::new(status.message()));
        return status.map(Received::Tree).context(what);
    }
    envelope::tree(&envelope, 0).map(Received::Tree).context(what)
}

fn received_tree(kind: &'static Kind, tree: Value) -> Result<Received> {
    if !is_of(kind, tree.str("apiVersion")) || !kind.stored() {
        return Ok(Received::Tree(tree));
    }
    if tree.str("kind") == kind.name {
        return from_tree(kind, &tree).map(Received::Object);
    }
    if tree.str("kind").strip_suffix("List") != Some(kind.name) {
        return Ok(Received::Tree(tree));
    }
    let mut items = Vec::new();
    for item in tree.list("items") {
        items.push(from_tree(kind, item)?);
    }
    let meta = ListMeta {
        revision: revision(tree.str("metadata.resourceVersion"))?,
        next: tree.str("metadata.continue").to_owned(),
        remaining: tree.int("metadata.remainingItemCount").and_then(|n| u64::try_from(n).ok()),
    };
    Ok(Received::List(items, meta))
}

/// Whether objects of the kind may be in this version: of kinds that are defined at run time, any of
/// their group.
fn is_of(kind: &Kind, api_version: &str) -> bool {
    match kind.is_built_in() {
        true => api_version == kind.api_version(),
        false => api_version.rsplit_once('/').is_some_and(|(group, _)| group == kind.group),
    }
}

fn from_tree(kind: &'static Kind, tree: &Value) -> Result<Object> {
    revision(tree.str("metadata.resourceVersion"))?;
    Object::from_tree(kind, tree)
}

/// Reads a `Status` that came with an HTTP code; `None` if it is none.
pub fn received_status(bytes: &[u8], code: u16) -> Option<Status> {
    if envelope::open(bytes).ok()?.is_none() && wire::json::tree_bytes(bytes) > TREE_MAX_BYTES {
        return None;
    }
    let tree = decode_meta("Status", bytes).ok()?;
    (tree.str("kind") == "Status").then(|| Status::from_tree(&tree, code))
}

/// One frame or line of a watch: the event's type, and the object's bytes.
#[derive(Debug)]
pub enum Framed<'a> {
    Protobuf(&'a str, &'a [u8]),
    Json(String, Value),
}

/// Takes a protobuf watch frame apart, its length already taken off.
///
/// # Errors
/// If the bytes are malformed.
pub fn watch_frame(bytes: &[u8]) -> Result<Framed<'_>> {
    let what = || "decode a watch event";
    let (mut event, mut object): (&str, &[u8]) = ("", b"");
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next().context(what)? {
        match tag {
            1 => event = wire.str().context(what)?,
            2 => {
                let mut raw = Reader::new(wire.bytes().context(what)?);
                while let Some((tag, wire)) = raw.next().context(what)? {
                    if tag == 1 {
                        object = wire.bytes().context(what)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Framed::Protobuf(event, object))
}

/// Takes a line of a JSON watch apart.
///
/// # Errors
/// If the text is malformed, or takes too much memory.
pub fn watch_line(line: &[u8]) -> Result<Framed<'static>> {
    let mut tree = tree(line).context(|| "decode a watch event")?;
    let event = tree.str("type").to_owned();
    Ok(Framed::Json(event, tree.get_mut("object").map(Value::take).unwrap_or_default()))
}

impl Framed<'_> {
    pub fn event(&self) -> &str {
        match self {
            Framed::Protobuf(event, _) => event,
            Framed::Json(event, _) => event,
        }
    }

    /// The object, of the kind that is watched.
    ///
    /// # Errors
    /// If it is none.
    pub fn object(&self, kind: &'static Kind) -> Result<Object> {
        match self {
            Framed::Protobuf(_, bytes) => Object::from_wire(kind, bytes),
            Framed::Json(_, tree) => from_tree(kind, tree),
        }
    }

    /// The `Status` of an `ERROR` event.
    pub fn status(&self) -> Option<Status> {
        let status = match self {
            Framed::Protobuf(_, bytes) => received_status(bytes, 500)?,
            Framed::Json(_, tree) => Status::from_tree(tree, 500),
        };
        let code = match self {
            Framed::Json(_, tree) => tree.int("code").and_then(|code| u16::try_from(code).ok()),
            Framed::Protobuf(..) => None,
        };
        let code = code.unwrap_or(status.reason().code());
        Some(status.with_code(code))
    }
}

impl Object {
    /// Reads one object of an answer: a protobuf envelope or JSON text of the kind's stored form.
    ///
    /// # Errors
    /// If the bytes are malformed, of another kind or version, or their resource version is no number.
    pub(crate) fn from_wire(kind: &'static Kind, bytes: &[u8]) -> Result<Object> {
        match received(kind, bytes)? {
            Received::Object(object) => Ok(object),
            _ => {
                Err(Error::new(format!("an answer holds no {} {}", kind.api_version(), kind.name)))
            }
        }
    }
}

/// Parses JSON text whose tree stays within its bound.
fn tree(text: &[u8]) -> Result<Value> {
    if wire::json::tree_bytes(text) > TREE_MAX_BYTES {
        return Err(Error::new(format!("its JSON takes more than {TREE_MAX_BYTES} bytes")));
    }
    Ok(wire::json::parse(text).context(|| "parse JSON")?.tree)
}

fn revision(text: &str) -> Result<u64> {
    match text {
        "" => Ok(0),
        text => text.parse().context(|| format!("read the resource version {text:?}")),
    }
}

/// A bare message with its resource version in the metadata, as an object at rest.
fn from_message(kind: &'static Kind, raw: &[u8]) -> Result<Object> {
    let mut at = 0;
    let mut out = Vec::with_capacity(raw.len() + 64);
    let mut failed = None;
    let sealed = envelope::seal(&kind.api_version(), kind.name, &mut out, |out| {
        match without_revision(raw, out) {
            Ok(found) => at = found,
            Err(error) => failed = Some(error),
        }
        Ok(())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    sealed.context(|| format!("seal a {}", kind.name))?;
    out.shrink_to_fit();
    Object::from_bytes(kind, at, Arc::from(out))
}

/// Copies a message with `metadata.resourceVersion` taken out, which it answers.
fn without_revision(raw: &[u8], out: &mut Vec<u8>) -> Result<u64> {
    let what = || "read its metadata";
    let mut found = 0;
    let mut reader = Reader::new(raw);
    loop {
        let start = raw.len() - reader.left();
        let Some((tag, wire)) = reader.next().context(what)? else { return Ok(found) };
        let end = raw.len() - reader.left();
        if tag != 1 {
            out.extend_from_slice(&raw[start..end]);
            continue;
        }
        let metadata = wire.bytes().context(what)?;
        pb::put_message::<Error>(out, 1, |out| {
            let mut reader = Reader::new(metadata);
            loop {
                let start = metadata.len() - reader.left();
                let Some((tag, wire)) = reader.next().context(what)? else { return Ok(()) };
                let end = metadata.len() - reader.left();
                match tag {
                    6 => {
                        found = revision(wire.str().context(what)?)?;
                        // As stored bytes have it: every text that Go's messages have is written.
                        pb::put_bytes(out, 6, b"");
                    }
                    // Clients inside k3rs ask for nobody's managed fields, and keep what they say of themselves by saying nothing.
                    managed::UPSTREAM_TAG | managed::TAG => {}
                    _ => out.extend_from_slice(&metadata[start..end]),
                }
            }
        })?;
    }
}

/// A bare list message.
fn list(kind: &'static Kind, raw: &[u8]) -> Result<Received> {
    let what = || "read the list";
    let (mut items, mut meta) = (Vec::new(), ListMeta::default());
    let mut reader = Reader::new(raw);
    while let Some((tag, wire)) = reader.next().context(what)? {
        match tag {
            1 => {
                let mut reader = Reader::new(wire.bytes().context(what)?);
                while let Some((tag, wire)) = reader.next().context(what)? {
                    match tag {
                        2 => meta.revision = revision(wire.str().context(what)?)?,
                        3 => meta.next = wire.str().context(what)?.to_owned(),
                        4 => meta.remaining = wire.varint().ok(),
                        _ => {}
                    }
                }
            }
            2 => items.push(from_message(kind, wire.bytes().context(what)?)?),
            _ => {}
        }
    }
    Ok(Received::List(items, meta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::form::Form;
    use crate::kinds::{ADDON, KINDS, POD};
    use crate::lens::LensMut;
    use crate::schema::schema;
    use serde_json::json;
    use stdx::prng::Prng;

    fn objects(kind: &'static Kind, prng: &mut Prng) -> Vec<Object> {
        let root = schema().root(Form::from(kind));
        (0..4)
            .map(|n| {
                let mut tree = codec::sample::full(root, prng, 0);
                // Protobuf comes without them.
                tree.remove("metadata.managedFields");
                tree.set("metadata.resourceVersion", (7 + n).to_string());
                tree.set("apiVersion", kind.api_version());
                tree.set("kind", kind.name);
                Object::from_tree(kind, &tree).unwrap()
            })
            .collect()
    }

    #[test]
    fn what_the_server_writes_is_read_as_what_it_stores() {
        let mut prng = Prng::new(8);
        for kind in KINDS.iter().copied().filter(|kind| kind.stored()) {
            let objects = objects(kind, &mut prng);
            let meta = ListMeta { revision: 99, next: "more".into(), remaining: Some(3) };
            let forms = if has_protobuf(kind) { &[true, false][..] } else { &[false][..] };
            for protobuf in forms {
                let mut out = Vec::new();
                match protobuf {
                    true => codec::write_list_protobuf(kind, &objects, &meta, &mut out),
                    false => codec::lists::write_list_json(kind, &objects, &meta, &mut out),
                }
                let Received::List(items, read) = received(kind, &out).unwrap() else {
                    panic!("{}: no list", kind.name);
                };
                assert_eq!((&items, read), (&objects, meta.clone()), "{} {protobuf}", kind.name);
                let mut frame = Vec::new();
                let framed = match protobuf {
                    true => {
                        let mut one = Vec::new();
                        codec::write_protobuf(&objects[0], kind, &mut one);
                        assert_eq!(Object::from_wire(kind, &one).unwrap(), objects[0]);
                        codec::write_watch_protobuf("ADDED", &one, &mut frame);
                        watch_frame(&frame[4..]).unwrap()
                    }
                    false => {
                        codec::write_watch_json("ADDED", &objects[0], kind, &mut frame);
                        watch_line(&frame).unwrap()
                    }
                };
                assert_eq!(
                    (framed.event(), framed.object(kind).unwrap()),
                    ("ADDED", objects[0].clone())
                );
            }
        }
    }

    #[test]
    fn managed_fields_stay_where_they_are_kept() {
        let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:nodeName": {}}}});
        for owners in [json!([]), json!([{"uid": "u", "controller": true}])] {
            let metadata = json!({"name": "p", "ownerReferences": owners, "managedFields": [entry], "resourceVersion": "3"});
            let pod = Object::from_tree(&POD, &json!({"metadata": metadata})).unwrap();
            assert_eq!(pod.whole_tree().list("metadata.managedFields").len(), 1);
            let mut one = Vec::new();
            codec::write_protobuf(&pod, &POD, &mut one);
            let read = Object::from_wire(&POD, &one).unwrap();
            assert_eq!(read.whole_tree(), pod.tree());
        }
    }

    #[test]
    fn errors_of_a_watch_are_statuses() {
        let gone = Status::expired("too old");
        for protobuf in [true, false] {
            let mut out = Vec::new();
            let framed = match protobuf {
                true => {
                    let one = codec::tree_to_protobuf(&gone.to_tree()).unwrap();
                    codec::write_watch_protobuf("ERROR", &one, &mut out);
                    watch_frame(&out[4..]).unwrap()
                }
                false => {
                    codec::write_watch_tree_json("ERROR", &gone.to_tree(), &mut out);
                    watch_line(&out).unwrap()
                }
            };
            assert_eq!(framed.status().unwrap(), gone, "{protobuf}");
            assert!(framed.object(&POD).is_err());
        }
    }

    #[test]
    fn a_hostile_servers_bytes_are_refused_without_a_panic() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": "5"}});
        let pod = Object::from_tree(&POD, &pod).unwrap();
        let mut good = Vec::new();
        codec::write_list_protobuf(&POD, [&pod], &ListMeta::default(), &mut good);
        let mut prng = Prng::new(11);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=prng.below(3) {
                let at = prng.below(bytes.len() as u64) as usize;
                match prng.below(3) {
                    0 => bytes[at] = prng.below(256) as u8,
                    1 => bytes.truncate(at),
                    _ => bytes.insert(at, prng.below(256) as u8),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            if let Ok(Received::List(items, _)) = received(&POD, &bytes) {
                items.iter().for_each(|item| drop(item.whole_tree()));
            }
            let _ = watch_frame(&bytes).map(|framed| framed.object(&POD).is_ok());
            let _ = watch_line(&bytes).map(|framed| framed.object(&ADDON).is_ok());
            received_status(&bytes, 500);
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(received(&ADDON, deep.as_bytes()).is_err());
        let text = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "x"}});
        assert!(Object::from_wire(&POD, text.to_string().as_bytes()).is_err());
    }
}
