//! Objects between trees, JSON, YAML and Kubernetes protobuf.
//!
//! A decoded tree is canonical: what Go's typed decoding and encoding again would give. Fields that
//! Go always writes are there (`status: {}`, `creationTimestamp: null`), other empty ones are not,
//! quantities and times are in their canonical text. Trees of the same content are equal.

mod lists;
mod received;

use serde_json::{Map, Value};
use wire::protobuf as pb;

use crate::form::{Form, Types};
use crate::lens::{Lens, LensMut};
use crate::message::{self, decode, encode, envelope, managed, normalize, stream};
use crate::object::Object;
use crate::schema::schema;
use crate::status::{Reason, Status};

pub use crate::message::{Mismatch, json_type, sample, write_tree_json, zero_of};
pub use lists::{JSON_END, ListMeta, PROTOBUF_END, Shown, write_list_protobuf};
pub use received::{
    Framed, Received, has_protobuf, received, received_status, watch_frame, watch_line,
};
pub use wire::yaml::{First, Meter};

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
    /// Canonical, without unknown fields; `apiVersion` and `kind` are as sent or filled in.
    pub tree: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.bar"`; for `Warning: 299 - "..."` headers.
    pub warnings: Vec<String>,
}

/// Decodes a JSON body as `form`, finding unknown and duplicate fields and type mismatches.
///
/// # Errors
/// 400 in upstream's words: malformed, another kind than `form`, a value of the wrong type, and, if
/// strict, `strict decoding error: unknown field "spec.foo"`.
pub fn decode_json_strict<'f>(
    form: impl Into<Form<'f>>,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let form = form.into();
    let parsed = wire::json::parse(bytes).map_err(|error| {
        let why = wire::json_syntax::unmarshal_words(bytes, &error);
        unrecognized(form, bytes, &format!("{PARSE_ERROR}: {why}"))
    })?;
    let tree = identified(form, bytes, parsed.tree)?;
    let twice = parsed.duplicates.iter().map(|path| format!("duplicate field \"{path}\""));
    decode_tree(form, tree, twice.collect(), validation)
}

/// Decodes a YAML body (apply patches, `application/yaml`) as `form`. JSON is YAML too.
///
/// # Errors
/// As `decode_json_strict`.
pub fn decode_yaml<'f>(
    form: impl Into<Form<'f>>,
    bytes: &[u8],
    validation: FieldValidation,
    meter: Meter<'_>,
) -> Result<Decoded, Status> {
    let form = form.into();
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && meter(wire::json::tree_bytes(bytes))
        && let Ok(parsed) = wire::json::parse(bytes)
        && parsed.duplicates.is_empty()
    {
        return decode_tree(form, identified(form, bytes, parsed.tree)?, Vec::new(), validation);
    }
    let read = first_yaml(bytes, meter)
        .map_err(|why| unrecognized(form, bytes, &format!("yaml: {why}")))?;
    decode_tree(form, identified(form, bytes, read.tree)?, read.twice, validation)
}

/// The tree of an apply's body, as it was sent, and which keys came twice.
///
/// # Errors
/// 400 where it is no YAML, or no object.
pub fn yaml_tree(bytes: &[u8], meter: Meter<'_>) -> Result<First, Status> {
    let refused = |why: &str| Status::bad_request(format!("error decoding YAML: {why}"));
    let mut read = first_yaml(bytes, meter)
        .map_err(|why| refused(&format!("error converting YAML to JSON: yaml: {why}")))?;
    match &read.tree {
        Value::Object(_) => {}
        Value::Null => read.tree = Value::Object(Map::new()),
        other => {
            return Err(refused(&format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_type(other)
            )));
        }
    }
    Ok(read)
}

fn first_yaml(bytes: &[u8], meter: Meter<'_>) -> Result<First, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "invalid leading UTF-8 octet".to_owned())?;
    wire::yaml::first_metered(text, meter).map_err(|error| wire::yaml::go_words(&error.to_string()))
}

/// Makes canonical what a conversion would, which cuts integers that do not fit; answers what the form does
/// not know. `sparse`: nothing is filled in.
///
/// # Errors
/// The first value that is none of its field.
pub fn convert(form: Form<'_>, tree: &mut Value, sparse: bool) -> Result<Vec<String>, Mismatch> {
    let mut walk = normalize::Walk { sparse, cuts: true, ..normalize::Walk::default() };
    walked(&mut walk, form, tree)?;
    Ok(unknown_fields(walk))
}

/// How many bytes of memory the tree of a `k8s\0` protobuf body takes, about; more rather than less.
pub fn protobuf_tree_bytes<'f>(form: impl Into<Form<'f>>, bytes: &[u8]) -> usize {
    let raw = envelope::open(bytes).ok().flatten().map_or(&[][..], |envelope| envelope.raw);
    form.into().table().map_or(0, |root| decode::tree_bytes(root, raw, 0))
}

/// The same of a stored object.
pub fn object_tree_bytes(object: &Object) -> usize {
    match object.message() {
        Some(raw) => {
            let root = schema().root(Form::from(object.kind()));
            let managed = object.managed().map_or(0, |bytes| managed::tree_bytes(root, bytes));
            decode::tree_bytes(root, raw, 0) + managed
        }
        None => wire::json::tree_bytes(object.bytes()),
    }
}

/// Decodes a `k8s\0` protobuf body as `form`.
///
/// # Errors
/// 400 when malformed or of another kind.
pub fn decode_protobuf<'f>(form: impl Into<Form<'f>>, bytes: &[u8]) -> Result<Decoded, Status> {
    let form = form.into();
    let envelope = match envelope::open(bytes) {
        Ok(Some(envelope)) => envelope,
        Ok(None) => {
            let why = match bytes {
                [] => "empty data",
                _ => {
                    "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
                }
            };
            return Err(unrecognized(form, bytes, why));
        }
        Err(_) => return Err(unrecognized(form, bytes, "unexpected EOF")),
    };
    check_types(form, envelope.api_version, envelope.kind)?;
    let root = form.table().ok_or_else(|| unreadable(form, "it has no protobuf form"))?;
    let mut map = Map::new();
    decode::message(root, envelope.raw, 0, &mut map)
        .map_err(|error| unreadable(form, &error.to_string()))?;
    let mut tree = Value::Object(map);
    tree.set("apiVersion", form.api_version());
    tree.set("kind", form.kind.name);
    // Quantities and times may come in other than canonical text.
    let warnings = check_fields(form, &mut tree, FieldValidation::Ignore)?;
    Ok(Decoded { tree, warnings })
}

/// Brings a tree into canonical form, as after a patch: unknown fields are removed and reported,
/// wrong types refused.
///
/// # Errors
/// As `decode_json_strict`.
pub fn check_fields<'f>(
    form: impl Into<Form<'f>>,
    tree: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let form = form.into();
    let unknown = normalized(form, tree, false)?;
    judge(form, unknown, validation)
}

/// As `check_fields`, of what a strategic patch made: upstream converts it, which cuts integers that do not fit.
///
/// # Errors
/// As `decode_json_strict`.
pub fn check_converted(
    form: Form<'_>,
    tree: &mut Value,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let unknown = normalized(form, tree, true)?;
    judge(form, unknown, validation)
}

/// Takes out what the form does not know, told as warnings, and of kinds in code makes every value
/// canonical. Metadata is the same of every kind.
fn normalized(form: Form<'_>, tree: &mut Value, cuts: bool) -> Result<Vec<String>, Status> {
    let mut walk = normalize::Walk { cuts, ..normalize::Walk::default() };
    walked(&mut walk, form, tree).map_err(|mismatch| {
        let mismatch = if cuts { mismatch } else { mismatch.decoded() };
        unreadable(form, &mismatch.to_string())
    })?;
    Ok(unknown_fields(walk))
}

fn walked(walk: &mut normalize::Walk, form: Form<'_>, tree: &mut Value) -> Result<(), Mismatch> {
    match form.types() {
        Types::Table(root) => walk.root(root, tree),
        Types::Structural(schema) => {
            walk.unknown = schema.prune(tree);
            walk.metadata(form.kind.name, tree)
        }
        Types::Unknown => walk.metadata(form.kind.name, tree),
    }
}

fn unknown_fields(walk: normalize::Walk) -> Vec<String> {
    walk.unknown.into_iter().map(|path| format!("unknown field \"{path}\"")).collect()
}

fn decode_tree(
    form: Form<'_>,
    mut tree: Value,
    twice: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    check_types(form, tree.str("apiVersion"), tree.str("kind"))?;
    let unknown = normalized(form, &mut tree, false)?;
    tree.set_default("apiVersion", form.api_version());
    tree.set_default("kind", form.kind.name);
    let warnings = judge(form, unknown.into_iter().chain(twice).collect(), validation)?;
    Ok(Decoded { tree, warnings })
}

/// Warnings pass, are forgotten, or become an error.
///
/// # Errors
/// 400 of what is warned of, if that is asked for.
pub fn judge(
    form: Form<'_>,
    warnings: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    match validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            Err(unreadable(form, &format!("strict decoding error: {}", warnings.join(", "))))
        }
        FieldValidation::Ignore => Ok(Vec::new()),
        _ => Ok(warnings),
    }
}

fn unreadable(form: Form<'_>, why: &str) -> Status {
    let name = form.kind.name;
    Status::bad_request(format!(
        "{name} in version \"{}\" cannot be handled as a {name}: {why}",
        form.version()
    ))
}

const PARSE_ERROR: &str = "couldn't get version/kind; json parse error";
const VERSION_AND_KIND: &str = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

/// How much of a body that says nothing of itself is shown.
const SHOWN_BYTES: usize = 30;

/// A body of which not even the kind is known.
fn unrecognized(form: Form<'_>, bytes: &[u8], why: &str) -> Status {
    let start = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let dots = if bytes.len() > SHOWN_BYTES { " ..." } else { "" };
    let shown = match start.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned(),
        Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let name = form.kind.name;
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {name}): {why} ({shown}{dots})"
    ))
}

/// What is wrong with how a body says what it is; nothing at all is an empty object.
fn misnamed(tree: &Value) -> Option<String> {
    let Value::Object(map) = tree else {
        return Some(format!(
            "{PARSE_ERROR}: json: cannot unmarshal {} into Go value of type {VERSION_AND_KIND}",
            json_type(tree)
        ));
    };
    for name in ["apiVersion", "kind"] {
        if let Some(value) = map.get(name).filter(|it| !it.is_string() && !it.is_null()) {
            return Some(format!(
                "{PARSE_ERROR}: json: cannot unmarshal {} into Go struct field .{name} of type string",
                json_type(value)
            ));
        }
    }
    let version = tree.str("apiVersion");
    (version.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {version}"))
}

fn identified(form: Form<'_>, bytes: &[u8], mut tree: Value) -> Result<Value, Status> {
    if tree.is_null() {
        tree = Value::Object(Map::new());
    }
    match misnamed(&tree) {
        Some(why) => Err(unrecognized(form, bytes, &why)),
        None => Ok(tree),
    }
}

/// A body says what it is, or nothing. What it says must be known, and be what is asked for.
///
/// # Errors
/// 400 in upstream's words.
pub fn check_types(form: Form<'_>, api_version: &str, kind: &str) -> Result<(), Status> {
    let wanted = form.api_version();
    let said = if api_version.is_empty() { wanted.as_str() } else { api_version };
    let name = if kind.is_empty() { form.kind.name } else { kind };
    if said == wanted && name == form.kind.name {
        return Ok(());
    }
    let known = crate::kinds::KINDS.iter().flat_map(|kind| kind.forms());
    if said != wanted
        && known.into_iter().any(|it| it.kind.name == name && it.api_version() == said)
    {
        return Err(Status::bad_request(format!(
            "the API version in the data ({said}) does not match the expected API version ({wanted})"
        )));
    }
    let version = said.rsplit('/').next().unwrap_or(said);
    let why = match is_known(said, name) {
        true => format!(
            "converting ({version}.{name}) to ({}.{}): unknown conversion",
            match form.kind.group.split('.').next() {
                Some("") | None => "core",
                Some(first) => first,
            },
            form.kind.name
        ),
        false => unregistered(name, said),
    };
    let what = form.kind.name;
    Err(Status::bad_request(format!(
        "{name} in version \"{version}\" cannot be handled as a {what}: {why}"
    )))
}

fn unregistered(name: &str, version: &str) -> String {
    format!("no kind \"{name}\" is registered for version \"{version}\" {SCHEME}")
}

/// How the complaint about what is no kind at all ends.
pub const SCHEME: &str = "in scheme \"pkg/runtime/scheme.go:100\"";

/// Whether a kind in code, a list of one, or one of what every version has is of that name.
fn is_known(api_version: &str, name: &str) -> bool {
    const EVERYWHERE: [&str; 9] = [
        "Status",
        "DeleteOptions",
        "CreateOptions",
        "UpdateOptions",
        "PatchOptions",
        "ListOptions",
        "GetOptions",
        "WatchEvent",
        "List",
    ];
    let mut forms = crate::kinds::KINDS.iter().flat_map(|kind| kind.forms());
    let of_version = |form: &Form<'_>| form.api_version() == api_version;
    forms.any(|form| {
        let is_it = form.kind.name == name || name.strip_suffix("List") == Some(form.kind.name);
        of_version(&form)
            && (is_it || (EVERYWHERE.contains(&name) && (name != "List" || api_version == "v1")))
    })
}

/// Appends the object's JSON text in `form`.
pub fn write_json<'f>(object: &Object, form: impl Into<Form<'f>>, out: &mut Vec<u8>) {
    let form = form.into();
    if let (true, Some(raw)) = (form.is_stored(), object.message()) {
        let start = out.len();
        let root = schema().root(form);
        let mut stream = stream::Stream { out, revision: object.revision(), managed: root };
        match stream.root(&form.api_version(), form.kind.name, root, raw) {
            Ok(()) => return,
            // Stored bytes were checked when they were read; a store that lies gets the empty tree's text.
            Err(_) => out.truncate(start),
        }
    }
    write_tree_json(&tree_in(object, form), out);
}

/// The object's tree in `form`.
pub fn tree_in<'f>(object: &Object, form: impl Into<Form<'f>>) -> Value {
    let form = form.into();
    let mut tree = object.whole_tree();
    form.convert_from_stored(&mut tree);
    if !form.is_stored() {
        tree.set("apiVersion", form.api_version());
        tree.set("kind", form.kind.name);
        // A conversion gives what its target's schema says; the meta-tests check it.
        let _ = normalized(form, &mut tree, false);
    }
    tree
}

/// Appends the object's protobuf envelope (`k8s\0`...) in `form`.
pub fn write_protobuf<'f>(object: &Object, form: impl Into<Form<'f>>, out: &mut Vec<u8>) {
    let form = form.into();
    let sealed = envelope::seal(&form.api_version(), form.kind.name, out, |out| {
        put_object(object, form, out);
        Ok(())
    });
    // The body cannot fail.
    let _ = sealed;
}

/// Appends the bare message of an object with its resource version in the metadata.
fn put_object(object: &Object, form: Form<'_>, out: &mut Vec<u8>) {
    if let (true, Some(raw)) = (form.is_stored(), object.message())
        && splice_revision(object, raw, true, out).is_ok()
    {
        return;
    }
    if let (Value::Object(map), Some(root)) = (tree_in(object, form), form.table()) {
        // A tree that came out of a decoder encodes.
        let _ = encode::message(root, &map, out);
    }
}

/// Copies a stored message, or its metadata only, with `metadata.resourceVersion` filled in and managed fields as
/// upstream has them.
fn splice_revision(
    object: &Object,
    raw: &[u8],
    whole: bool,
    out: &mut Vec<u8>,
) -> Result<(), pb::Error> {
    let revision = object.revision();
    let text = if revision == 0 { String::new() } else { revision.to_string() };
    let mut reader = pb::Reader::new(raw);
    loop {
        let start = raw.len() - reader.left();
        let Some((tag, wire)) = reader.next()? else { break };
        let end = raw.len() - reader.left();
        if tag != 1 {
            if whole {
                out.extend_from_slice(&raw[start..end]);
            }
            continue;
        }
        let metadata = wire.bytes()?;
        pb::put_message::<pb::Error>(out, 1, |out| {
            let mut reader = pb::Reader::new(metadata);
            let mut written = false;
            loop {
                let start = metadata.len() - reader.left();
                let Some((tag, wire)) = reader.next()? else { break };
                let end = metadata.len() - reader.left();
                if tag >= 6 && !written {
                    pb::put_bytes(out, 6, text.as_bytes());
                    written = true;
                }
                match tag {
                    6 => {}
                    managed::TAG => {
                        let root = schema().root(object.kind());
                        managed::write_protobuf(root, wire.bytes()?, out)?;
                    }
                    _ => out.extend_from_slice(&metadata[start..end]),
                }
            }
            if !written {
                pb::put_bytes(out, 6, text.as_bytes());
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Encodes a tree of a meta kind (`Status`, `APIGroupList`, ...) or a served kind as protobuf, by
/// its `apiVersion` and `kind`. `Table` and aggregated discovery have no protobuf form upstream.
///
/// # Errors
/// If the kind is unknown or the tree does not fit it.
pub fn tree_to_protobuf(tree: &Value) -> stdx::Result<Vec<u8>> {
    let mut out = Vec::new();
    envelope::seal_tree(tree, &mut out).map_err(|mismatch| {
        stdx::Error::wrap(format!("encode a {}", tree.str("kind")), mismatch)
    })?;
    Ok(out)
}

/// Decodes a body of a meta kind, JSON or protobuf by its first bytes: `DeleteOptions`, `Status`, ...
///
/// # Errors
/// 400 when malformed or of another kind.
pub fn decode_meta(kind: &str, bytes: &[u8]) -> Result<Value, Status> {
    // As upstream, which answers what its decoder says as it is, with 500.
    let unreadable = |why: &str| Status::new(Reason::Unknown, why).with_code(500);
    let id = schema().meta(kind).ok_or_else(|| unreadable("no such kind"))?;
    let mut tree = match envelope::open(bytes).map_err(|error| unreadable(&error.to_string()))? {
        Some(envelope) => {
            let map = message::decode_message(id, envelope.raw)
                .map_err(|error| unreadable(&error.to_string()))?;
            let mut tree = Value::Object(map);
            tree.set("apiVersion", envelope.api_version);
            tree.set("kind", envelope.kind);
            tree
        }
        None => {
            let parsed = wire::json::parse(bytes).map_err(|error| {
                let why = wire::json_syntax::unmarshal_words(bytes, &error);
                unreadable(&format!("{PARSE_ERROR}: {why}"))
            })?;
            match parsed.tree {
                Value::Null => Value::Object(Map::new()),
                tree => tree,
            }
        }
    };
    if let Some(why) = misnamed(&tree) {
        return Err(unreadable(&why));
    }
    let sent = tree.str("kind");
    if !sent.is_empty() && sent != kind {
        let version = match tree.str("apiVersion") {
            "" => "meta.k8s.io/v1",
            version => version,
        };
        return Err(unreadable(&unregistered(sent, version)));
    }
    let mut walk = normalize::Walk::default();
    walk.root(id, &mut tree).map_err(|mismatch| unreadable(&mismatch.decoded().to_string()))?;
    Ok(tree)
}

/// Appends one watch event in JSON: `{"type":"ADDED","object":...}` and a newline.
pub fn write_watch_json<'f>(
    event: &str,
    object: &Object,
    shown: impl Into<Shown<'f>>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    shown.into().write_json(object, out);
    out.extend_from_slice(b"}\n");
}

/// Appends one watch event in JSON from a tree (BOOKMARK, ERROR, Table).
pub fn write_watch_tree_json(event: &str, tree: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write_tree_json(tree, out);
    out.extend_from_slice(b"}\n");
}

/// Appends one protobuf watch frame: four bytes of big-endian length, then a `metav1.WatchEvent`
/// (bare, as upstream's streaming serializer writes it) whose object is `encoded` (`k8s\0`...).
pub fn write_watch_protobuf(event: &str, encoded: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    pb::put_bytes(out, 1, event.as_bytes());
    let inner = 1 + pb::varint_len(encoded.len() as u64) + encoded.len();
    pb::put_len(out, 2, inner);
    pb::put_bytes(out, 1, encoded);
    // A frame holds one object; bodies are bounded far below 4 GiB.
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

const PARTIAL: &str = "PartialObjectMetadata";

/// Appends the `PartialObjectMetadata` of an object, of this `apiVersion`, as JSON text.
fn write_metadata_json(object: &Object, api_version: &str, out: &mut Vec<u8>) {
    if let (Some(raw), Some(id)) = (object.message(), schema().meta(PARTIAL)) {
        let start = out.len();
        let managed = schema().root(object.kind());
        let mut stream = stream::Stream { out, revision: object.revision(), managed };
        // Its metadata has the tag that every kind's has; what else the message holds is passed over.
        match stream.root(api_version, PARTIAL, id, raw) {
            Ok(()) => return,
            Err(_) => out.truncate(start),
        }
    }
    let metadata = object.whole_tree().remove("metadata").unwrap_or_default();
    let tree =
        serde_json::json!({"kind": PARTIAL, "apiVersion": api_version, "metadata": metadata});
    write_tree_json(&tree, out);
}

/// As [`write_metadata_json`], in a protobuf envelope.
fn write_metadata_protobuf(object: &Object, api_version: &str, out: &mut Vec<u8>) {
    let sealed = envelope::seal(api_version, PARTIAL, out, |out| {
        put_metadata(object, out);
        Ok(())
    });
    // The body cannot fail.
    let _ = sealed;
}

/// Appends the bare message of a `PartialObjectMetadata`.
fn put_metadata(object: &Object, out: &mut Vec<u8>) {
    if let Some(raw) = object.message()
        && splice_revision(object, raw, false, out).is_ok()
    {
        return;
    }
    let metadata = object.whole_tree().remove("metadata").unwrap_or_default();
    let map: Map<_, _> = std::iter::once((String::from("metadata"), metadata)).collect();
    if let Some(id) = schema().meta(PARTIAL) {
        // A tree that came out of a decoder encodes.
        let _ = encode::message(id, &map, out);
    }
}

#[cfg(test)]
pub mod tests;
