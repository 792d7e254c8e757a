//! Answers as bytes: objects, lists, tables and statuses in the negotiated form.

use api::codec::{self, ListMeta, Shown};
use api::kinds::SCALE;
use api::query::Query;
use api::{Form, Lens, LensMut, Object, Resource, Status, Value, json};
use client::{Answer, List};
use http::Response;
use rules::table::{self, IncludeObject};

use super::gzip;
use super::negotiate::{Format, Media, Shape};
use super::pieces::{Pieces, stream};
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
        (_, format)
            if format == Format::Protobuf || !wanted.media.pretty && format == Format::Json =>
        {
            let largest = list.items.iter().map(|object| object.bytes().len()).max().unwrap_or(0);
            listed + (stored / 4).max(2 * largest)
        }
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

/// How many letters a warning may have, and bytes all of a response's.
const WARNING_MAX: usize = 1024;
const WARNINGS_MAX_BYTES: usize = 4096;

/// Adds `Warning` headers, bounded as upstream bounds them.
pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    let mut left_bytes = WARNINGS_MAX_BYTES;
    for warning in warnings {
        let text: String = warning
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .take(WARNING_MAX)
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
    let shown = match wanted.media.shape {
        Shape::Object | Shape::Discovery { .. } => Shown::Whole(form),
        Shape::Metadata { beta } => metadata(beta),
        Shape::Table { beta } => {
            let metadata = json!({"resourceVersion": object.revision().to_string()});
            let row = row(object, form, wanted);
            let mut table = table::table(form, vec![row], metadata, true);
            set_version(&mut table, beta);
            return tree(code, &table, wanted);
        }
    };
    let mut out = Vec::new();
    match wanted.media.format {
        Format::Json if !wanted.media.pretty => {
            shown.write_json(object, &mut out);
            out.push(b'\n');
        }
        Format::Protobuf => shown.write_protobuf(object, &mut out),
        _ => {
            shown.write_json(object, &mut out);
            let whole: Value = serde_json::from_slice(&out).map_err(Status::internal)?;
            return tree(code, &whole, wanted);
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
    let (items, format) = (found.items, wanted.media.format);
    let metadata = match wanted.media.shape {
        Shape::Object | Shape::Discovery { .. } => None,
        Shape::Metadata { beta } => Some(beta),
        Shape::Table { beta } => {
            let mut head = table::table(form, Vec::new(), meta.tree(), true);
            set_version(&mut head, beta);
            if format == Format::Json && !wanted.media.pretty {
                return Ok(stream(Pieces::table(items, resource.clone(), head, *wanted), wanted));
            }
            // There is none in protobuf, which is said without making it.
            if format == Format::Protobuf {
                return tree(200, &head, wanted);
            }
            head["rows"] = items.iter().map(|object| row(object, form, wanted)).collect();
            return tree(200, &head, wanted);
        }
    };
    match format {
        Format::Protobuf => {
            Ok(stream(Pieces::protobuf(items, resource.clone(), metadata, &meta), wanted))
        }
        Format::Json if !wanted.media.pretty => {
            Ok(stream(Pieces::json(items, resource.clone(), metadata, &meta), wanted))
        }
        _ => {
            // The same text as a plain list, read again.
            let out = Pieces::json(items, resource.clone(), metadata, &meta).whole();
            let whole: Value = serde_json::from_slice(&out).map_err(Status::internal)?;
            tree(200, &whole, wanted)
        }
    }
}

/// The metadata of an object only, as whoever asks wants it.
pub(crate) fn metadata(beta: bool) -> Shown<'static> {
    Shown::Metadata(if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" })
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

pub(super) fn finish(code: u16, format: Format, bytes: Vec<u8>, wanted: &Wanted) -> Response {
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

pub(super) fn no_cache(mut response: Response) -> Response {
    response.headers.set("cache-control", "no-cache, private");
    response
}
