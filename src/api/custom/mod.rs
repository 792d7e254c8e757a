//! CustomResourceDefinitions: what one says, as a definition that kinds are served by.

pub mod approval;
pub mod conversion;

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use stdx::{Arrange, OrdSet};
use wire::protobuf::{self as pb, Reader};

use crate::lens::{Lens, LensMut};
use crate::message::{decode_content, decode_message};
use crate::object::Object;
use crate::schema::schema;
use crate::structural::Structural;

/// What the schemas that were read and are kept for the next use may take of memory together. The one
/// read last is always kept.
const READ_BYTES_MAX: usize = 4 << 20;

/// The schema of one version: the bytes of its definition, which the store holds anyway, read when used.
#[derive(Debug)]
pub struct Schema {
    /// By what it says and where it is from: those of the same key are the same.
    key: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// There is none: everything passes.
    None,
    /// Made in code.
    Json(Box<str>),
    /// A `JSONSchemaProps` inside a stored definition.
    Stored(Object, Range<usize>),
}

/// Schemas that were read, the latest last, with their keys.
static READ: Mutex<VecDeque<(u64, Arc<Structural>)>> = Mutex::new(VecDeque::new());

impl Schema {
    /// Everything passes.
    pub fn none() -> Schema {
        Schema { key: 0, source: Source::None }
    }

    /// Of a schema that is given.
    pub fn of(tree: &Value) -> Schema {
        let text = tree.to_string();
        Schema { key: key_of(&text), source: Source::Json(text.into()) }
    }

    /// What lies in the bytes of a stored definition. Those of the same `origin` are the same.
    pub(crate) fn stored(object: &Object, range: Range<usize>, origin: impl Hash) -> Schema {
        Schema { key: key_of(origin), source: Source::Stored(object.clone(), range) }
    }

    /// As it was given.
    pub fn tree(&self) -> Option<Value> {
        match &self.source {
            Source::None => None,
            Source::Json(text) => serde_json::from_str(text).ok(),
            Source::Stored(object, range) => {
                let bytes = object.bytes().get(range.clone())?;
                let root = schema().find(PACKAGE, "JSONSchemaProps")?;
                decode_message(root, bytes).ok().map(Value::Object)
            }
        }
    }

    /// Ready for use: read now, or lately. What cannot be read, which was written by another program,
    /// lets everything pass.
    pub fn read(&self) -> Arc<Structural> {
        if matches!(self.source, Source::None) {
            return Arc::default();
        }
        // Replaced in steps that leave a cache a cache. Reading under the lock bounds what is read at a time.
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = read.iter().position(|(key, _)| *key == self.key)
            && let Some(found) = read.remove(at)
        {
            let structural = Arc::clone(&found.1);
            read.push_back(found);
            return structural;
        }
        let structural = self.tree().map(|tree| Structural::read(&tree));
        let structural = Arc::new(structural.and_then(Result::ok).unwrap_or_default());
        read.push_back((self.key, Arc::clone(&structural)));
        let held = |read: &VecDeque<(u64, Arc<Structural>)>| -> usize {
            read.iter().map(|(_, structural)| structural.heap_bytes()).sum()
        };
        while read.len() > 1 && held(&read) > READ_BYTES_MAX {
            read.pop_front();
        }
        structural
    }
}

pub(crate) fn key_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

const PACKAGE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Where things lie in a stored definition.
mod tag {
    pub(super) const SPEC: u32 = 2;
    pub(super) const VERSIONS: u32 = 7;
    pub(super) const SCHEMA: u32 = 4;
    pub(super) const OPENAPI: u32 = 1;
}

/// A stored definition as a tree without its schemas, which would be the larger part of it.
pub fn outline(object: &Object) -> Value {
    let Some(raw) = object.message() else { return object.tree() };
    let mut lean = Vec::new();
    let path = [tag::SPEC, tag::VERSIONS, tag::SCHEMA];
    let read = without(raw, &path, &mut lean)
        .and_then(|()| decode_content(schema().root_of(object.kind(), None), &lean));
    // The constructors checked that the bytes decode.
    Value::Object(read.unwrap_or_default())
}

/// Copies a message without the fields at the end of a path of tags.
fn without(raw: &[u8], path: &[u32], out: &mut Vec<u8>) -> Result<(), pb::Error> {
    let [tag, rest @ ..] = path else { return Ok(()) };
    let mut reader = Reader::new(raw);
    loop {
        let start = raw.len() - reader.left();
        let Some((found, wire)) = reader.next()? else { return Ok(()) };
        match found == *tag {
            false => out.extend_from_slice(&raw[start..raw.len() - reader.left()]),
            true if rest.is_empty() => {}
            true => pb::put_message(out, found, |out| without(wire.bytes()?, rest, out))?,
        }
    }
}

/// Where in its bytes a stored definition has the schema of each version.
pub(crate) fn schema_places(object: &Object) -> Vec<Option<Range<usize>>> {
    let base = object.bytes().as_ptr() as usize;
    let raw = object.message().unwrap_or_default();
    let versions = fields(raw, tag::SPEC).flat_map(|spec| fields(spec, tag::VERSIONS));
    versions
        .map(|version| {
            let holder = fields(version, tag::SCHEMA).last()?;
            let bytes = fields(holder, tag::OPENAPI).last()?;
            let start = bytes.as_ptr() as usize - base;
            Some(start..start + bytes.len())
        })
        .collect()
}

fn fields(raw: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(raw);
    std::iter::from_fn(move || {
        while let Ok(Some((tag, wire))) = reader.next() {
            if tag == wanted {
                return wire.bytes().ok();
            }
        }
        None
    })
}

/// What is said of finalizers that come without a domain of their own. Objects of kinds in code may
/// not have them at all.
pub fn finalizer_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let path = "metadata.finalizers";
    let known = old.map_or(&[][..], |old| old.list(path)).iter().filter_map(Value::as_str);
    let known: OrdSet<&str> = known.collect();
    let mut names: Vec<&str> = new.list(path).iter().filter_map(Value::as_str).collect();
    names.retain(|name| !known.contains(name));
    names.arrange();
    names.retain(|name| {
        !name.contains('/') && !matches!(*name, "orphan" | "foregroundDeletion" | "kubernetes")
    });
    let tell = |name: &str| {
        let how = if name.contains('.') { " including a path (/)" } else { "" };
        format!(
            "{path}: {name:?}: prefer a domain-qualified finalizer name{how} to avoid accidental conflicts with other finalizer writers"
        )
    };
    names.into_iter().map(tell).collect()
}

/// Whether a condition is there and true.
pub fn is_true(tree: &Value, kind: &str) -> bool {
    let conditions = tree.list("status.conditions").iter();
    conditions.filter(|it| it.str("type") == kind).any(|it| it.str("status") == "True")
}

/// Sets a condition; its time moves with its status.
pub fn set_condition(
    tree: &mut Value,
    kind: &str,
    (status, reason): (&str, &str),
    message: &str,
    now: stdx::time::Wall,
) {
    let time = crate::time::format(now);
    let list = tree.list_mut("status.conditions");
    let at = list.iter().position(|it| it.str("type") == kind).unwrap_or_else(|| {
        list.push(serde_json::json!({"type": kind}));
        list.len() - 1
    });
    let condition = &mut list[at];
    if condition.str("status") != status || !condition.has("lastTransitionTime") {
        condition.set("lastTransitionTime", time);
    }
    for (field, text) in [("status", status), ("reason", reason), ("message", message)] {
        condition.set(field, text);
    }
}
