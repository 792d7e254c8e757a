//! Who manages which field, as it lies at rest in what programs make: a sixth of the bytes of `metadata.managedFields`.
//!
//! Pods, replica sets, slices and events are many, and their managed fields would be more than half of each. So stored
//! metadata holds them under a tag of its own, which no other reader knows and which is the last one there, as
//! `managedFields` is. Names that the schema has are numbers (protobuf's own, so they mean the same in every version),
//! and words that such objects are full of are places in a table. Whoever shows an object, or makes a tree of it,
//! gets upstream's form. What people make keeps that form at rest: it is few, and copied into answers as it is.
//!
//! ```text
//! entry   = length, manager, operation (0 update, 1 apply), version, subresource, seconds + 1 or 0, set
//! set     = element...
//! element = number * 8 + (4 with a text) + how, [text], [set, end]      how: 0 itself, 1 what is below, 2 both;  end: 3
//! text    = (place in the table) * 2 + 1, or length * 2 and the bytes
//! ```
//! All numbers are protobuf's varints. The number of an element is the tag of a field of a message, or says in what
//! form its text is. What a later version has written and this one has no name for is passed over.

use serde_json::{Map, Value};
use wire::json::put_string;
use wire::protobuf::{self as pb, Error};

use crate::kind::{Durability, Kind};
use crate::lens::Lens;
use crate::schema::{Field, Shape, TypeId, schema};
use crate::time::Stamp;

/// The tag in stored metadata, far from those that upstream will use.
pub(crate) const TAG: u32 = 2000;

/// The tag of upstream's form.
pub(crate) const UPSTREAM_TAG: u32 = 17;

/// How deep sets may nest, as elsewhere.
const DEPTH_MAX: u32 = 100;

const ITSELF: u64 = 0;
const BELOW: u64 = 1;
const BOTH: u64 = 2;
const END: u64 = 3;

/// A text follows.
const TEXT: u64 = 4;

/// The text is the element as it is written.
const WHOLE: u64 = 0;
/// `f:TEXT`
const KEY: u64 = 1;
/// `k:{"NAME":"TEXT"}`, by the first key of the list.
const ITEM: u64 = 2;
/// `v:"TEXT"`
const VALUE: u64 = 3;

/// Words that have a number. What is stored counts on their places: new ones come last, and none goes.
const WORDS: [&str; 48] = [
    "",
    "k3rs",
    "kubelet",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-apiserver",
    "kubectl",
    "status",
    "scale",
    "v1",
    "apps/v1",
    "batch/v1",
    "discovery.k8s.io/v1",
    "events.k8s.io/v1",
    "coordination.k8s.io/v1",
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "DisruptionTarget",
    "app",
    "name",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "k8s-app",
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "endpointslice.kubernetes.io/managed-by",
    "kubernetes.io/service-name",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deployment.kubernetes.io/revision",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "Progressing",
];

/// Whether an object is one of those that programs make: a controller owns it, or nobody waits for it to be durable.
pub(crate) fn is_for(kind: &Kind, tree: &Value) -> bool {
    let owners = tree.list("metadata.ownerReferences");
    kind.declared.durability == Durability::Lazy
        || owners.iter().any(|owner| owner.flag("controller"))
}

/// Appends the managers of an object of this type to its metadata. `false`, and nothing is appended, if they say what this
/// form has no place for.
pub(crate) fn put(root: TypeId, entries: &[Value], out: &mut Vec<u8>) -> bool {
    let mut bytes = Vec::with_capacity(256);
    let fits = entries.iter().all(|entry| put_entry(root, entry, &mut bytes).is_some());
    if fits {
        pb::put_bytes(out, TAG, &bytes);
    }
    fits
}

fn put_entry(root: TypeId, entry: &Value, out: &mut Vec<u8>) -> Option<()> {
    let map = entry.as_object()?;
    let known = |key: &String| {
        ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"]
            .contains(&key.as_str())
    };
    if !map.keys().all(known) || entry.str("fieldsType") != "FieldsV1" {
        return None;
    }
    let mut body = Vec::with_capacity(128);
    put_text(entry.str("manager"), &mut body);
    body.push(match entry.str("operation") {
        "Update" => 0,
        "Apply" => 1,
        _ => return None,
    });
    put_text(entry.str("apiVersion"), &mut body);
    put_text(entry.str("subresource"), &mut body);
    let seconds = match entry.at("time") {
        Value::Null => 0,
        time => {
            let time = Stamp::parse(time.as_str()?).filter(|time| time.subsec_nanos() == 0)?;
            u64::try_from(time.secs()).ok()? + 1
        }
    };
    pb::put_varint(&mut body, seconds);
    let set = entry.get("fieldsV1")?.as_object()?;
    if set.contains_key(".") {
        return None;
    }
    put_set(Place::of_type(root), set, 0, &mut body)?;
    pb::put_varint(out, body.len() as u64);
    out.append(&mut body);
    Some(())
}

fn put_set(place: Place, set: &Map<String, Value>, depth: u32, out: &mut Vec<u8>) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    for (element, below) in set {
        let below = below.as_object()?;
        match (element.as_str(), below.is_empty()) {
            (".", true) => continue,
            (".", false) => return None,
            _ => {}
        }
        let how = match (below.is_empty(), below.contains_key(".")) {
            (true, _) => ITSELF,
            (false, false) => BELOW,
            (false, true) => BOTH,
        };
        let (number, text) = place.number(element);
        pb::put_varint(out, number << 3 | if text.is_some() { TEXT } else { 0 } | how);
        if let Some(text) = text {
            put_text(text, out);
        }
        if how != ITSELF {
            put_set(place.below(element), below, depth + 1, out)?;
            out.push(3);
        }
    }
    Some(())
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    match WORDS.iter().position(|word| *word == text) {
        Some(place) => pb::put_varint(out, (place as u64) << 1 | 1),
        None => {
            pb::put_varint(out, (text.len() as u64) << 1);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// What the elements of a set are below.
#[derive(Clone, Copy)]
enum Place {
    /// Fields of a message.
    Message(TypeId),
    /// Keys of a map or items of a list, of this type if they are messages; the first key of items.
    Keyed(Option<TypeId>, &'static str),
}

impl Place {
    const UNKNOWN: Place = Place::Keyed(None, "");

    fn of_type(id: TypeId) -> Place {
        if schema().of(id).union { Place::UNKNOWN } else { Place::Message(id) }
    }

    fn of(field: &Field) -> Place {
        match (field.shape, field.message()) {
            (Shape::Single, inner) => inner.map_or(Place::UNKNOWN, Place::of_type),
            (_, inner) => {
                let keys = field.extra().map_keys;
                Place::Keyed(inner, keys.split_once(',').map_or(keys, |(first, _)| first))
            }
        }
    }

    fn below(self, element: &str) -> Place {
        match self {
            Place::Message(id) => {
                let field = element.strip_prefix("f:").and_then(|name| schema().by_json(id, name));
                field.map_or(Place::UNKNOWN, Place::of)
            }
            Place::Keyed(inner, _) => inner.map_or(Place::UNKNOWN, Place::of_type),
        }
    }

    /// The number of an element, and the text that goes with it.
    fn number(self, element: &str) -> (u64, Option<&str>) {
        match self {
            Place::Message(id) => {
                let named = |field: &&Field| {
                    !field.inline() && Some(field.name) == element.strip_prefix("f:")
                };
                match schema().fields(id).iter().find(named) {
                    Some(field) => (u64::from(field.tag), None),
                    None => (WHOLE, Some(element)),
                }
            }
            Place::Keyed(_, key) => {
                let item = || {
                    let text = element.strip_prefix("k:{\"")?.strip_prefix(key)?;
                    text.strip_prefix("\":\"")?.strip_suffix("\"}").filter(|text| is_plain(text))
                };
                let value = || {
                    let text = element.strip_prefix("v:\"")?.strip_suffix('"');
                    text.filter(|text| is_plain(text))
                };
                if let Some(text) = element.strip_prefix("f:") {
                    return (KEY, Some(text));
                }
                match item() {
                    Some(text) => (ITEM, Some(text)),
                    None => value().map_or((WHOLE, Some(element)), |text| (VALUE, Some(text))),
                }
            }
        }
    }
}

/// Whether JSON writes a text as it is.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
}

/// The managers in stored metadata, if they are in this form.
pub(crate) fn find(metadata: &[u8]) -> Option<&[u8]> {
    let mut reader = pb::Reader::new(metadata);
    let mut found = None;
    while let Ok(Some((tag, wire))) = reader.next() {
        if tag == TAG {
            found = wire.bytes().ok();
        }
    }
    found
}

/// Whether the managers of an object of this type can be read. What passes is read without an error ever after.
///
/// # Errors
/// If they are malformed.
pub(crate) fn check(root: TypeId, bytes: &[u8]) -> Result<(), Error> {
    write_json(root, bytes, &mut Vec::new())
}

/// How much memory the tree of the managers takes, about; more rather than less.
pub(crate) fn tree_bytes(root: TypeId, bytes: &[u8]) -> usize {
    let mut json = Vec::new();
    let _ = write_json(root, bytes, &mut json);
    wire::json::tree_bytes(&json)
}

/// `metadata.managedFields` of an object of this type.
///
/// # Errors
/// If they are malformed.
pub(crate) fn tree(root: TypeId, bytes: &[u8]) -> Result<Value, Error> {
    let mut json = Vec::with_capacity(bytes.len() * 8);
    write_json(root, bytes, &mut json)?;
    serde_json::from_slice(&json).map_err(|_| Error::WrongType)
}

/// Appends them as JSON text.
///
/// # Errors
/// If they are malformed.
pub(crate) fn write_json(root: TypeId, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    out.push(b'[');
    let mut first = true;
    while !bytes.is_empty() {
        let Some(entry) = Entry::take(&mut bytes)? else { continue };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"manager\":");
        put_string(out, entry.manager);
        out.extend_from_slice(b",\"operation\":");
        put_string(out, entry.operation());
        out.extend_from_slice(b",\"apiVersion\":");
        put_string(out, entry.api_version);
        if let Some(time) = entry.time {
            out.extend_from_slice(b",\"time\":");
            put_string(out, &time.format());
        }
        out.extend_from_slice(b",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":");
        entry.write_set(root, out)?;
        if !entry.subresource.is_empty() {
            out.extend_from_slice(b",\"subresource\":");
            put_string(out, entry.subresource);
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Appends them to metadata in upstream's form.
///
/// # Errors
/// If they are malformed.
pub(crate) fn write_protobuf(
    root: TypeId,
    mut bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut set = Vec::new();
    while !bytes.is_empty() {
        let Some(entry) = Entry::take(&mut bytes)? else { continue };
        set.clear();
        entry.write_set(root, &mut set)?;
        pb::put_message::<Error>(out, UPSTREAM_TAG, |out| {
            pb::put_bytes(out, 1, entry.manager.as_bytes());
            pb::put_bytes(out, 2, entry.operation().as_bytes());
            pb::put_bytes(out, 3, entry.api_version.as_bytes());
            if let Some(time) = entry.time {
                super::encode::timestamp(out, 4, time.secs(), 0);
            }
            pb::put_bytes(out, 6, b"FieldsV1");
            pb::put_len(out, 7, 1 + pb::varint_len(set.len() as u64) + set.len());
            pb::put_bytes(out, 1, &set);
            pb::put_bytes(out, 8, entry.subresource.as_bytes());
            Ok(())
        })?;
    }
    Ok(())
}

/// One entry.
struct Entry<'a> {
    manager: &'a str,
    applies: bool,
    api_version: &'a str,
    subresource: &'a str,
    time: Option<Stamp>,
    set: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` for one that says words of a later version.
    fn take(bytes: &mut &'a [u8]) -> Result<Option<Entry<'a>>, Error> {
        let mut body = take_bytes(bytes)?;
        let manager = take_text(&mut body)?;
        let applies = take_varint(&mut body)? == 1;
        let (api_version, subresource) = (take_text(&mut body)?, take_text(&mut body)?);
        let time = match take_varint(&mut body)? {
            0 => None,
            seconds => {
                let seconds = i64::try_from(seconds - 1).map_err(|_| Error::WrongType)?;
                Some(Stamp::new(seconds, 0))
            }
        };
        let (Some(manager), Some(api_version), Some(subresource)) =
            (manager, api_version, subresource)
        else {
            return Ok(None);
        };
        Ok(Some(Entry { manager, applies, api_version, subresource, time, set: body }))
    }

    fn operation(&self) -> &'static str {
        if self.applies { "Apply" } else { "Update" }
    }

    /// Appends `fieldsV1`.
    fn write_set(&self, root: TypeId, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut bytes = self.set;
        out.push(b'{');
        write_elements(Place::of_type(root), &mut bytes, 0, true, out)?;
        out.push(b'}');
        Ok(())
    }
}

/// Appends the elements of a set up to its end.
fn write_elements(
    place: Place,
    bytes: &mut &[u8],
    depth: u32,
    mut first: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::BadTag);
    }
    while depth > 0 || !bytes.is_empty() {
        let head = take_varint(bytes)?;
        if head == END && depth > 0 {
            return Ok(());
        }
        let (number, how) = (head >> 3, head & 3);
        let text = if head & TEXT == 0 { None } else { Some(take_text(bytes)?) };
        let start = out.len();
        if !first {
            out.push(b',');
        }
        let named = match text {
            None => write_field(place, number, out)?,
            Some(Some(text)) => Some(write_text(place, number, text, out)?),
            Some(None) => None,
        };
        out.extend_from_slice(b":{");
        let below = named.unwrap_or(Place::UNKNOWN);
        match how {
            ITSELF => {}
            BELOW => write_elements(below, bytes, depth + 1, true, out)?,
            BOTH => {
                out.extend_from_slice(b"\".\":{}");
                write_elements(below, bytes, depth + 1, false, out)?;
            }
            _ => return Err(Error::BadTag),
        }
        out.push(b'}');
        match named {
            Some(_) => first = false,
            None => out.truncate(start),
        }
    }
    Ok(())
}

/// Appends the name of a field, if this version has it; answers what is below it.
fn write_field(place: Place, number: u64, out: &mut Vec<u8>) -> Result<Option<Place>, Error> {
    let tag = u32::try_from(number).map_err(|_| Error::BadTag)?;
    let Place::Message(id) = place else { return Ok(None) };
    let Some(field) = schema().by_tag(id, tag) else { return Ok(None) };
    // Field names need no escapes.
    out.extend_from_slice(b"\"f:");
    out.extend_from_slice(field.name.as_bytes());
    out.push(b'"');
    Ok(Some(Place::of(field)))
}

/// Appends an element that is written as a text; answers what is below it.
fn write_text(place: Place, number: u64, text: &str, out: &mut Vec<u8>) -> Result<Place, Error> {
    let key = if let Place::Keyed(_, key) = place { key } else { "" };
    match number {
        WHOLE => put_element(text, out),
        KEY => put_element(&["f:", text].concat(), out),
        ITEM => put_element(&["k:{\"", key, "\":\"", text, "\"}"].concat(), out),
        VALUE => put_element(&["v:\"", text, "\""].concat(), out),
        _ => return Err(Error::BadTag),
    }
    Ok(place.below(text))
}

/// As it is escaped in the stored text of other objects.
fn put_element(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// `None` for a word that only a later version has.
fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a str>, Error> {
    let head = take_varint(bytes)?;
    let number = usize::try_from(head >> 1).map_err(|_| Error::Truncated)?;
    if head & 1 == 1 {
        return Ok(WORDS.get(number).copied());
    }
    let (text, rest) = bytes.split_at_checked(number).ok_or(Error::Truncated)?;
    *bytes = rest;
    std::str::from_utf8(text).map(Some).map_err(|_| Error::NotUtf8)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let len = usize::try_from(take_varint(bytes)?).map_err(|_| Error::Truncated)?;
    let (taken, rest) = bytes.split_at_checked(len).ok_or(Error::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(Error::Truncated)?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(Error::BadVarint)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use stdx::prng::Prng;

    use super::*;
    use crate::codec::{self, FieldValidation};
    use crate::kinds::POD;
    use crate::lens::LensMut;
    use crate::object::Object;

    fn owned(mut tree: Value) -> Value {
        tree.set("metadata.ownerReferences", json!([{"uid": "u", "controller": true}]));
        tree
    }

    #[test]
    fn what_has_no_place_stays_in_upstreams_form() {
        let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2024-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:nodeName": {}, "f:of a later version": {"f:x": {}}}}});
        let with = |path: &str, value: Value| {
            let mut entry = entry.clone();
            entry.set(path, value);
            let mut tree = owned(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "managedFields": [entry]}}),
            );
            codec::check_fields(&POD, &mut tree, FieldValidation::Ignore).unwrap();
            let object = Object::from_tree(&POD, &tree).unwrap();
            assert_eq!(object.whole_tree(), tree, "{path}");
            object.managed().is_some()
        };
        assert!(with("subresource", "status".into()));
        assert!(with("time", Value::Null));
        for (path, value) in [
            ("operation", json!("Neither")),
            ("fieldsType", json!("FieldsV2")),
            ("time", json!("1960-01-01T00:00:00Z")),
            ("fieldsV1", json!({".": {}})),
            ("fieldsV1", json!({"f:spec": 1})),
            ("fieldsV1", json!({"f:spec": {".": {"f:x": {}}}})),
        ] {
            assert!(!with(path, value.clone()), "{path} {value}");
        }
        let mut deep = json!({});
        for _ in 0..110 {
            deep = json!({"f:x": deep});
        }
        assert!(!with("fieldsV1", deep));
    }

    #[test]
    fn what_a_later_version_wrote_is_passed_over() {
        let root = schema().root(&POD);
        // metadata.labels.app, a field 900 of metadata with something below it, and a key that is word 1000.
        let mut set = vec![];
        for number in [1 << 3 | BELOW, 11 << 3 | BELOW, KEY << 3 | TEXT | ITSELF] {
            pb::put_varint(&mut set, number);
        }
        put_text("app", &mut set);
        pb::put_varint(&mut set, KEY << 3 | TEXT | ITSELF);
        pb::put_varint(&mut set, 1000 << 1 | 1);
        set.push(3);
        for number in [900 << 3 | BOTH, 4 << 3, 2 << 3 | BELOW, 1 << 3, END, END] {
            pb::put_varint(&mut set, number);
        }
        set.push(3);
        let entry = |manager: u64| {
            let mut body = vec![];
            pb::put_varint(&mut body, manager << 1 | 1);
            body.push(0);
            put_text("v1", &mut body);
            put_text("", &mut body);
            body.push(0);
            body.extend_from_slice(&set);
            let mut entry = vec![];
            pb::put_varint(&mut entry, body.len() as u64);
            entry.append(&mut body);
            entry
        };
        let read = tree(root, &[entry(2), entry(1000)].concat()).unwrap();
        let wanted = json!([{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}}}}}]);
        assert_eq!(read, wanted);
    }

    #[test]
    fn malformed_bytes_are_refused_without_a_panic() {
        let entry = |name: &str, set: Value| {
            json!({"manager": name, "operation": "Update", "apiVersion": "v1", "time": "2024-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": set, "subresource": "status"})
        };
        let labels =
            json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:odd \" key": {}}}});
        let conditions = json!({"k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}}, "k:{\"type\":\"Own\"}": {}});
        let status = json!({"f:status": {"f:conditions": conditions, "f:podIP": {}}});
        let entries = [entry("kubelet", labels), entry("somebody", status)];
        let tree = owned(json!({"metadata": {"name": "p", "managedFields": entries}}));
        let object = Object::from_tree(&POD, &tree).unwrap();
        let mut prng = Prng::new(4);
        let (mut n_read, root) = (0, schema().root(&POD));
        for _ in 0..20_000 {
            let mut bytes = object.bytes().to_vec();
            for _ in 0..=prng.below(2) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.below(256) as u8;
            }
            let Ok(read) = Object::from_bytes(&POD, 1, Arc::from(bytes)) else { continue };
            n_read += 1;
            let whole = read.whole_tree();
            if !whole.has("metadata.name") {
                continue;
            }
            assert_eq!(whole.has("metadata.managedFields"), read.managed().is_some());
            let (mut json, mut protobuf) = (Vec::new(), Vec::new());
            codec::write_json(&read, &POD, &mut json);
            let json: Value = serde_json::from_slice(&json).unwrap();
            assert!(
                json.at("metadata.managedFields") == whole.at("metadata.managedFields"),
                "{json}"
            );
            codec::write_protobuf(&read, &POD, &mut protobuf);
            if let Some(bytes) = read.managed() {
                assert!(tree_bytes(root, bytes) > bytes.len());
            }
        }
        assert!(n_read > 1000);
        let nested = vec![BELOW as u8; 5000];
        let mut bytes = vec![];
        let body = [&[1, 0, 1, 1, 0][..], &nested].concat();
        pb::put_varint(&mut bytes, body.len() as u64);
        bytes.extend(body);
        assert!(check(root, &bytes).is_err());
    }
}
