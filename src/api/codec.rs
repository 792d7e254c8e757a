//! Objects between trees, JSON, YAML and Kubernetes protobuf.

use serde_json::Value;

use crate::kind::Form;
use crate::lens::{Lens, LensMut};
use crate::object::Object;
use crate::status::Status;

/// The `fieldValidation` query parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    /// Upstream's default: each unknown or duplicate field becomes a `Warning` header.
    #[default]
    Warn,
    Strict,
}

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Unknown fields are gone; `apiVersion` and `kind` are as sent or filled in.
    pub tree: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.bar"`; for `Warning: 299 - "..."` headers.
    pub warnings: Vec<String>,
}

/// Decodes a JSON body as `form`, finding unknown and duplicate fields and type mismatches.
///
/// # Errors
/// 400 in upstream's words: malformed, another kind than `form`, a value of the wrong type, and, if
/// strict, `strict decoding error: unknown field "spec.foo"`.
pub fn decode_json_strict(
    form: impl Into<Form>,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let (form, _) = (form.into(), validation);
    let mut tree: Value = serde_json::from_slice(bytes).map_err(|error| {
        Status::bad_request(format!("the object provided is unrecognized: {error}"))
    })?;
    tree.set_default("apiVersion", form.api_version());
    tree.set_default("kind", form.kind.name);
    Ok(Decoded { tree, warnings: Vec::new() })
}

/// Decodes a YAML body (apply patches, `application/yaml`) as `form`.
///
/// # Errors
/// As `decode_json_strict`.
pub fn decode_yaml(
    form: impl Into<Form>,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    decode_json_strict(form, bytes, validation)
}

/// Decodes a `k8s\0` protobuf body as `form`.
///
/// # Errors
/// 400 when malformed or of another kind.
pub fn decode_protobuf(form: impl Into<Form>, bytes: &[u8]) -> Result<Decoded, Status> {
    let _ = (form.into(), bytes);
    Err(Status::new(
        crate::status::Reason::UnsupportedMediaType,
        "protobuf bodies cannot be read yet",
    ))
}

/// Checks a tree after a patch: unknown fields are removed and reported, wrong types refused.
///
/// # Errors
/// As `decode_json_strict`.
pub fn check_fields(
    form: impl Into<Form>,
    tree: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let _ = (form.into(), tree, validation);
    Ok(Vec::new())
}

/// Appends the object's JSON text in `form`.
pub fn write_json(object: &Object, form: impl Into<Form>, out: &mut Vec<u8>) {
    let form = form.into();
    let mut tree = object.tree();
    form.convert_from_stored(&mut tree);
    write_tree_json(&tree, out);
}

/// Appends the object's protobuf envelope (`k8s\0`...) in `form`.
pub fn write_protobuf(object: &Object, form: impl Into<Form>, out: &mut Vec<u8>) {
    let _ = (form.into(), object, out);
}

/// Appends any tree as JSON.
pub fn write_tree_json(tree: &Value, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail, and trees have string keys only.
    let _ = serde_json::to_writer(out, tree);
}

/// The fields of a list answer's metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListMeta {
    pub revision: u64,
    pub next: String,
    pub remaining: Option<u64>,
}

/// Appends `{"kind":"PodList",...}` of objects in `form`.
pub fn write_list_json<'a>(
    form: impl Into<Form>,
    objects: impl IntoIterator<Item = &'a Object>,
    meta: &ListMeta,
    out: &mut Vec<u8>,
) {
    let form = form.into();
    let mut metadata = serde_json::json!({"resourceVersion": meta.revision.to_string()});
    if !meta.next.is_empty() {
        metadata.set("continue", meta.next.as_str());
    }
    if let Some(remaining) = meta.remaining {
        metadata.set("remainingItemCount", remaining);
    }
    let head = serde_json::json!({
        "kind": format!("{}List", form.kind.name), "apiVersion": form.api_version(), "metadata": metadata,
    });
    write_tree_json(&head, out);
    out.pop();
    out.extend_from_slice(b",\"items\":[");
    for (idx, object) in objects.into_iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write_json(object, form, out);
    }
    out.extend_from_slice(b"]}");
}

/// Appends a `PodList` in protobuf (`k8s\0`...), spliced from the objects' bytes.
pub fn write_list_protobuf<'a>(
    form: impl Into<Form>,
    objects: impl IntoIterator<Item = &'a Object>,
    meta: &ListMeta,
    out: &mut Vec<u8>,
) {
    let _ = (form.into(), objects.into_iter().count(), meta, out);
}

/// Encodes a tree of a meta kind (`Status`, `APIGroupList`, `Table` refused, ...) or a served kind as protobuf, by its
/// `apiVersion` and `kind`.
///
/// # Errors
/// If the kind is unknown or has no protobuf form.
pub fn tree_to_protobuf(tree: &Value) -> stdx::Result<Vec<u8>> {
    Err(stdx::Error::new(format!("{} has no protobuf form yet", tree.str("kind"))))
}

/// Decodes a body of a meta kind, JSON or protobuf by its first bytes: `DeleteOptions`, `Status`, ...
///
/// # Errors
/// 400 when malformed or of another kind.
pub fn decode_meta(kind: &str, bytes: &[u8]) -> Result<Value, Status> {
    let _ = kind;
    serde_json::from_slice(bytes).map_err(|error| {
        Status::bad_request(format!("the object provided is unrecognized: {error}"))
    })
}

/// Appends one watch event in JSON: `{"type":"ADDED","object":...}` and a newline.
pub fn write_watch_json(event: &str, object: &Object, form: impl Into<Form>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write_json(object, form, out);
    out.extend_from_slice(b"}\n");
}

/// Appends one watch event in JSON from a tree (BOOKMARK, ERROR, Table, PartialObjectMetadata).
pub fn write_watch_tree_json(event: &str, tree: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write_tree_json(tree, out);
    out.extend_from_slice(b"}\n");
}

/// Appends one protobuf watch frame: four bytes of big-endian length, then a `metav1.WatchEvent`
/// whose object is `encoded` (`k8s\0`...).
pub fn write_watch_protobuf(event: &str, encoded: &[u8], out: &mut Vec<u8>) {
    let _ = (event, encoded, out);
}

/// The `PartialObjectMetadata` of an object, as a tree.
pub fn partial_metadata(object: &Object) -> Value {
    serde_json::json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.tree().at("metadata"),
    })
}
