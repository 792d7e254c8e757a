//! Answers as bytes: objects, lists, tables and statuses in the negotiated form.

use api::codec::{self, ListMeta};
use api::kinds::SCALE;
use api::query::Query;
use api::table::{self, IncludeObject};
use api::{Form, Lens, LensMut, Object, Resource, Status, Value, json};
use client::{Answer, List};
use http::body::Source;
use http::{Body, Chunk, Response};
use std::task::{Context, Poll};

use super::gzip;
use super::negotiate::{Format, Media, Shape};
use crate::core::Outcome;

/// What an answer needs to know of its request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub(crate) media: Media,
    pub(crate) include: IncludeObject,
    pub(crate) gzip: bool,
}

impl Wanted {
    /// Reads `includeObject`.
    ///
    /// # Errors
    /// 400 for a word that upstream does not know.
    pub(crate) fn of(media: Media, query: &Query, accept_encoding: &str) -> Result<Wanted, Status> {
        let include = match query.get("includeObject") {
            "" | "Metadata" => IncludeObject::Metadata,
            "None" => IncludeObject::None,
            "Object" => IncludeObject::Object,
            other => {
                return Err(Status::bad_request(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        let gzip = accept_encoding
            .split(',')
            .any(|coding| coding.split(';').next().unwrap_or("").trim() == "gzip");
        Ok(Wanted { media, include, gzip })
    }
}

/// Lists are encoded in pieces of about this size, as the client reads them.
const PIECE_BYTES: usize = 32 * 1024;

/// Objects in one piece, so that large ones do not pile up.
const PIECE_OBJECTS: usize = 64;

/// What an object of a list takes until it is sent: its index, and its place.
pub(super) const LISTED_BYTES: usize = 256;

/// What an answer takes of memory while it is made and sent, about.
pub(super) fn answer_bytes(outcome: &Outcome, wanted: &Wanted) -> usize {
    let Answer::List(list) = &outcome.answer else {
        let Answer::Object(object) = &outcome.answer else { return 0 };
        return 2 * object.bytes().len();
    };
    let stored: usize = list.items.iter().map(|object| object.bytes().len()).sum();
    let listed = LISTED_BYTES * list.items.len();
    match (wanted.media.shape, wanted.media.format) {
        // As it is read, so one object at least is there as text. What is replaced meanwhile is kept for it.
        (Shape::Object | Shape::Discovery { .. } | Shape::Table { .. }, Format::Json)
            if !wanted.media.pretty =>
        {
            let largest = list.items.iter().map(|object| object.bytes().len()).max().unwrap_or(0);
            listed + (stored / 4).max(2 * largest)
        }
        (Shape::Object | Shape::Discovery { .. }, Format::Protobuf) => listed + 2 * stored,
        (Shape::Metadata { .. }, _) => 8 * listed + stored,
        // The whole list is a tree.
        _ => listed + 2 * list.items.iter().map(codec::object_tree_bytes).sum::<usize>(),
    }
}

/// The answer to a request that succeeded.
///
/// # Errors
/// If there is no such form of the answer.
pub(crate) fn outcome(
    outcome: Outcome,
    resource: &Resource,
    wanted: &Wanted,
) -> Result<Response, Status> {
    let code = if outcome.created { 201 } else { 200 };
    let response = match outcome.answer {
        Answer::Object(object) => one(code, &object, resource.form(), wanted)?,
        Answer::List(found) => list(found, resource, wanted)?,
        Answer::Tree(tree) => match (wanted.media.shape, tree.str("kind")) {
            (Shape::Metadata { beta }, kind) if kind != "Status" => {
                let mut partial = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": tree.at("metadata"),
                });
                set_version(&mut partial, beta);
                self::tree(code, &partial, wanted)?
            }
            // Of what is seen and not kept, only this has columns.
            (Shape::Table { beta }, kind) if kind == SCALE.name => {
                let row = table::row(&SCALE, &tree, rt::now().wall, wanted.include);
                let metadata = json!({"resourceVersion": tree.str("metadata.resourceVersion")});
                let mut table = table::table(&SCALE, vec![row], metadata, true);
                set_version(&mut table, beta);
                self::tree(code, &table, wanted)?
            }
            _ => self::tree(code, &tree, wanted)?,
        },
    };
    Ok(with_warnings(response, &outcome.warnings))
}

/// Adds `Warning` headers, bounded as upstream bounds them.
pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    let mut left_bytes = 4096usize;
    for warning in warnings {
        let text: String = warning
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .take(256 * 4)
            .collect();
        if text.len() > left_bytes {
            break;
        }
        left_bytes -= text.len();
        response.headers.append("warning", format!("299 - \"{text}\""));
    }
    response
}

fn one(code: u16, object: &Object, form: Form<'_>, wanted: &Wanted) -> Result<Response, Status> {
    let mut out = Vec::new();
    match (wanted.media.shape, wanted.media.format) {
        (Shape::Object | Shape::Discovery { .. }, Format::Json) if !wanted.media.pretty => {
            codec::write_json(object, form, &mut out);
            out.push(b'\n');
        }
        (Shape::Object | Shape::Discovery { .. }, Format::Protobuf) => {
            codec::write_protobuf(object, form, &mut out);
        }
        (Shape::Object | Shape::Discovery { .. }, _) => {
            return tree(code, &form_tree(object, form), wanted);
        }
        (Shape::Table { beta }, _) => {
            let metadata = json!({"resourceVersion": object.revision().to_string()});
            let row = row(object, form, wanted);
            let mut table = table::table(form, vec![row], metadata, true);
            set_version(&mut table, beta);
            return tree(code, &table, wanted);
        }
        (Shape::Metadata { beta }, _) => {
            let mut partial = codec::partial_metadata(object);
            set_version(&mut partial, beta);
            return tree(code, &partial, wanted);
        }
    }
    Ok(finish(code, wanted.media.format, out, wanted))
}

fn set_version(tree: &mut Value, beta: bool) {
    if beta {
        tree.set("apiVersion", "meta.k8s.io/v1beta1");
    }
}

/// An object's tree in a served form.
pub(crate) fn form_tree(object: &Object, form: Form<'_>) -> Value {
    let mut tree = object.whole_tree();
    form.convert_from_stored(&mut tree);
    tree.set("apiVersion", form.api_version());
    tree
}

/// One table row. Columns are of the stored form, which every served form shows alike.
pub(crate) fn row(object: &Object, form: Form<'_>, wanted: &Wanted) -> Value {
    // Columns of kinds in code read the stored form, those of others the one that is shown.
    let tree = match form.kind.is_built_in() {
        true => object.whole_tree(),
        false => form_tree(object, form),
    };
    let mut row = table::row(form, &tree, rt::now().wall, wanted.include);
    if form.kind.is_built_in() && !form.is_stored() && wanted.include == IncludeObject::Object {
        row.set("object", form_tree(object, form));
    }
    row
}

fn list(found: List, resource: &Resource, wanted: &Wanted) -> Result<Response, Status> {
    let form = resource.form();
    let meta = ListMeta {
        revision: found.revision,
        next: found.continue_token,
        remaining: found.remaining,
    };
    let items = found.items;
    match (wanted.media.shape, wanted.media.format) {
        (Shape::Object | Shape::Discovery { .. }, Format::Json) if !wanted.media.pretty => {
            Ok(stream(Pieces::json(items, resource.clone(), &meta), wanted))
        }
        (Shape::Object | Shape::Discovery { .. }, Format::Protobuf) => {
            let mut out = Vec::new();
            codec::write_list_protobuf(form, &items, &meta, &mut out);
            Ok(finish(200, Format::Protobuf, out, wanted))
        }
        (Shape::Object | Shape::Discovery { .. }, _) => {
            // The same text as a plain list, read again.
            let mut pieces = Pieces::json(items, resource.clone(), &meta);
            let mut out = Vec::new();
            while let Some(mut piece) = pieces.next_piece() {
                out.append(&mut piece);
            }
            let whole: Value = serde_json::from_slice(&out).map_err(Status::internal)?;
            tree(200, &whole, wanted)
        }
        (Shape::Table { beta }, Format::Json) if !wanted.media.pretty => {
            let metadata = meta_tree(&meta);
            let mut head = table::table(form, Vec::new(), metadata, true);
            set_version(&mut head, beta);
            Ok(stream(Pieces::table(items, resource.clone(), head, *wanted), wanted))
        }
        (Shape::Table { beta }, _) => {
            let rows = items.iter().map(|object| row(object, form, wanted)).collect();
            let mut table = table::table(form, rows, meta_tree(&meta), true);
            set_version(&mut table, beta);
            tree(200, &table, wanted)
        }
        (Shape::Metadata { beta }, _) => {
            let partial: Vec<Value> = items
                .iter()
                .map(|object| {
                    let mut partial = codec::partial_metadata(object);
                    set_version(&mut partial, beta);
                    partial
                })
                .collect();
            let mut whole = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": meta_tree(&meta), "items": partial,
            });
            set_version(&mut whole, beta);
            tree(200, &whole, wanted)
        }
    }
}

fn meta_tree(meta: &ListMeta) -> Value {
    let mut tree = json!({"resourceVersion": meta.revision.to_string()});
    if !meta.next.is_empty() {
        tree.set("continue", meta.next.as_str());
    }
    if let Some(remaining) = meta.remaining {
        tree.set("remainingItemCount", remaining);
    }
    tree
}

/// A tree in the negotiated format.
///
/// # Errors
/// 406 if the tree has no protobuf form.
pub(crate) fn tree(code: u16, tree: &Value, wanted: &Wanted) -> Result<Response, Status> {
    let out = match wanted.media.format {
        Format::Protobuf => codec::tree_to_protobuf(tree)
            .map_err(|error| Status::new(api::status::Reason::NotAcceptable, error.to_string()))?,
        Format::Yaml => super::yaml::write(tree).into_bytes(),
        Format::Json if wanted.media.pretty => {
            let mut out = serde_json::to_vec_pretty(tree).map_err(Status::internal)?;
            out.push(b'\n');
            out
        }
        Format::Json => {
            let mut out = Vec::new();
            codec::write_tree_json(tree, &mut out);
            out.push(b'\n');
            out
        }
    };
    Ok(finish(code, wanted.media.format, out, wanted))
}

/// The answer to a request that failed: a `Status`, in protobuf if that was asked for.
pub(crate) fn status(status: &Status, format: Format) -> Response {
    let tree = status.to_tree();
    let encoded = match format {
        Format::Protobuf => codec::tree_to_protobuf(&tree).ok(),
        _ => None,
    };
    let (format, bytes) = match encoded {
        Some(bytes) => (Format::Protobuf, bytes),
        None if format == Format::Yaml => (Format::Yaml, super::yaml::write(&tree).into_bytes()),
        None => {
            let mut out = Vec::new();
            codec::write_tree_json(&tree, &mut out);
            out.push(b'\n');
            (Format::Json, out)
        }
    };
    let mut response =
        Response::new(status.code()).header("content-type", format.media_type()).body(bytes);
    if let Some(secs) = status.details().get("retryAfterSeconds").and_then(Value::as_i64) {
        response.headers.set("retry-after", secs.to_string());
    }
    if status.code() == 401 {
        response.headers.set("www-authenticate", "Bearer");
    }
    no_cache(response)
}

fn finish(code: u16, format: Format, bytes: Vec<u8>, wanted: &Wanted) -> Response {
    let response = Response::new(code).header("content-type", format.media_type());
    let response = no_cache(response);
    match wanted.gzip && bytes.len() >= gzip::THRESHOLD_BYTES {
        true => response
            .header("content-encoding", "gzip")
            .header("vary", "Accept-Encoding")
            .body(gzip::whole(&bytes)),
        false => response.body(bytes),
    }
}

fn no_cache(mut response: Response) -> Response {
    response.headers.set("cache-control", "no-cache, private");
    response
}

/// A list that fits one piece is answered whole, a longer one as it is read.
fn stream(mut pieces: Pieces, wanted: &Wanted) -> Response {
    let first = pieces.next_piece().unwrap_or_default();
    if pieces.done {
        return finish(200, Format::Json, first, wanted);
    }
    let mut response = no_cache(Response::new(200).header("content-type", "application/json"));
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

/// A list's JSON text, piece by piece.
pub(crate) struct Pieces {
    first: Option<Vec<u8>>,
    head: Vec<u8>,
    items: std::vec::IntoIter<Object>,
    write: WriteItem,
    started: bool,
    pub(crate) done: bool,
}

impl Pieces {
    fn json(items: Vec<Object>, resource: Resource, meta: &ListMeta) -> Pieces {
        let form = resource.form();
        let mut head = Vec::new();
        codec::write_list_json(form, std::iter::empty::<&Object>(), meta, &mut head);
        // The empty list ends in "]}": items go before that.
        head.truncate(head.len().saturating_sub(2));
        // A list says once what its items are, but for kinds that come from outside.
        let typed = !form.kind.declared.json;
        let types =
            format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\"", form.kind.name, form.api_version());
        let write = move |object: &Object, out: &mut Vec<u8>| {
            let start = out.len();
            let form = resource.form();
            if typed && !form.is_stored() {
                let mut tree = form_tree(object, form);
                tree.remove("kind");
                tree.remove("apiVersion");
                codec::write_tree_json(&tree, out);
                return;
            }
            codec::write_json(object, form, out);
            if typed {
                strip_types(out, start, types.as_bytes());
            }
        };
        Pieces::new(items, head, Box::new(write))
    }

    fn table(items: Vec<Object>, resource: Resource, head: Value, wanted: Wanted) -> Pieces {
        let mut head = head;
        head.remove("rows");
        let mut text = Vec::new();
        codec::write_tree_json(&head, &mut text);
        text.pop();
        text.extend_from_slice(b",\"rows\":[");
        let write = move |object: &Object, out: &mut Vec<u8>| {
            codec::write_tree_json(&row(object, resource.form(), &wanted), out);
        };
        Pieces::new(items, text, Box::new(write))
    }

    fn new(items: Vec<Object>, head: Vec<u8>, write: WriteItem) -> Pieces {
        let items = items.into_iter();
        Pieces { first: None, head, items, write, started: false, done: false }
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
                out.extend_from_slice(b"]}\n");
                break;
            };
            if self.started {
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
