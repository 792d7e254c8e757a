//! An object at rest: one shared block of bytes with its revision, and readers that borrow from it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use stdx::{Context, Result};
use wire::protobuf::Reader;

use crate::json_index::{Members, inside};
use crate::kind::Kind;
use crate::lens::{Lens, LensMut};
use crate::message::{self, envelope};
use crate::schema::schema;

/// One stored version of an object. Cloning shares it; store, watches, informers and answers hold
/// the same bytes. Beside them it keeps some forty bytes of offsets; nothing is decoded until asked for.
#[derive(Clone)]
pub struct Object(Arc<Inner>);

struct Inner {
    kind: &'static Kind,
    /// The store revision that wrote it: `metadata.resourceVersion`. Not in the bytes.
    revision: u64,
    bytes: Arc<[u8]>,
    index: Index,
}

/// How metadata is found.
enum Index {
    /// In the protobuf bytes.
    Protobuf(Offsets),
    /// In JSON bytes (custom resources).
    Json(Offsets),
    /// JSON bytes that escape what is indexed: the strings are copied out.
    Copied(Box<Meta>),
}

/// Where things lie in the bytes. Objects are bounded far below 4 GiB by the request body limit.
#[derive(Clone, Copy, Default)]
struct Offsets {
    message: Span,
    metadata: Span,
    name: Span,
    namespace: Span,
    uid: Span,
    /// Of JSON only; protobuf's lie in several pieces.
    labels: Span,
    owners: Span,
    deleting: bool,
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// The metadata that indexes ask for, copied out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub name: Box<str>,
    pub namespace: Box<str>,
    pub uid: Box<str>,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    pub owners: Box<[Owner]>,
    pub deleting: bool,
}

/// One `metadata.ownerReferences` entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pub kind: Box<str>,
    pub api_version: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub controller: bool,
    pub block: bool,
}

/// The tags of `metav1.ObjectMeta` that are read without the schema.
mod tag {
    pub(super) const NAME: u32 = 1;
    pub(super) const NAMESPACE: u32 = 3;
    pub(super) const UID: u32 = 5;
    pub(super) const DELETION_TIMESTAMP: u32 = 9;
    pub(super) const LABELS: u32 = 11;
    pub(super) const OWNERS: u32 = 13;
}

impl Object {
    /// Reads stored bytes (protobuf envelope or JSON).
    ///
    /// # Errors
    /// If the bytes are not an object of `kind`.
    pub fn from_bytes(kind: &'static Kind, revision: u64, bytes: Arc<[u8]>) -> Result<Object> {
        Object::check(kind, &bytes)?;
        Object::from_checked(kind, revision, bytes)
    }

    /// Whether [`Object::from_bytes`] would read these bytes.
    ///
    /// # Errors
    /// If the bytes are not an object of `kind`.
    pub fn check(kind: &'static Kind, bytes: &[u8]) -> Result<()> {
        let what = || format!("decode a stored {}", kind.name);
        match envelope::open(bytes).context(what)? {
            Some(envelope) if envelope.content_type != "application/json" => {
                let root = schema().stored(kind);
                let root = root.context(|| format!("{}: it is protobuf", what()))?;
                // The whole message is read once, so that later readers meet no malformed bytes.
                message::check_message(root, envelope.raw).context(what)?;
                message::check_managed(root, envelope.raw).context(what)
            }
            // Written anew by whoever makes an object of it.
            Some(_) => Ok(()),
            None => match wire::json::is_valid(bytes) {
                true => Ok(()),
                false => Err(stdx::Error::new(format!("{}: it is no JSON", what()))),
            },
        }
    }

    /// [`Object::from_bytes`] of bytes that it has read before or that came out of an object: only
    /// what is indexed is looked for.
    ///
    /// # Errors
    /// If the bytes are not an object of `kind`.
    pub fn from_checked(kind: &'static Kind, revision: u64, bytes: Arc<[u8]>) -> Result<Object> {
        let what = || format!("decode a stored {}", kind.name);
        let index = match envelope::open(&bytes).context(what)? {
            Some(envelope) if envelope.content_type != "application/json" => {
                if envelope.kind != kind.name || !kind.is_built_in() {
                    return Err(stdx::Error::new(format!("{}: it is a {}", what(), envelope.kind)));
                }
                Index::Protobuf(Offsets::find(&bytes, envelope.raw).context(what)?)
            }
            Some(envelope) => {
                let tree: Value = serde_json::from_slice(envelope.raw).context(what)?;
                // Rewritten as bare JSON, so that readers know two forms only.
                let bytes: Arc<[u8]> = serde_json::to_vec(&tree).context(what)?.into();
                let index = Index::of_json(&bytes).context(what)?;
                return Ok(Object(Arc::new(Inner { kind, revision, bytes, index })));
            }
            None => Index::of_json(&bytes).context(what)?,
        };
        Ok(Object(Arc::new(Inner { kind, revision, bytes, index })))
    }

    /// Encodes a tree of the stored form. `metadata.resourceVersion` in it is taken as the revision
    /// and left out of the bytes. Fields that the schema does not know are left out;
    /// `codec::check_fields` finds them.
    ///
    /// # Errors
    /// If a value does not fit the kind's schema.
    pub fn from_tree(kind: &'static Kind, tree: &Value) -> Result<Object> {
        let revision = tree.str("metadata.resourceVersion").parse().unwrap_or(0);
        let what = || format!("encode {} {}", kind.name, tree.str("metadata.name"));
        let bytes: Arc<[u8]> = message::encode_stored(kind, tree).context(what)?.into();
        let index = match envelope::open(&bytes).context(what)? {
            Some(envelope) => Index::Protobuf(Offsets::find(&bytes, envelope.raw).context(what)?),
            None => Index::of_json(&bytes).context(what)?,
        };
        Ok(Object(Arc::new(Inner { kind, revision, bytes, index })))
    }

    /// The same content at another revision: what a write becomes once the store has numbered it.
    pub fn at_revision(&self, revision: u64) -> Object {
        let index = match &self.0.index {
            Index::Protobuf(offsets) => Index::Protobuf(*offsets),
            Index::Json(offsets) => Index::Json(*offsets),
            Index::Copied(meta) => Index::Copied(meta.clone()),
        };
        let bytes = self.0.bytes.clone();
        Object(Arc::new(Inner { kind: self.0.kind, revision, bytes, index }))
    }

    /// The object as a tree, with `apiVersion`, `kind` and `metadata.resourceVersion`, but without
    /// `metadata.managedFields`: they can be the larger part, and only who stores or shows an object
    /// needs them (an update that says nothing of them keeps them). For one request or one
    /// reconcile; never kept.
    pub fn tree(&self) -> Value {
        match self.message() {
            // The constructors checked that the bytes decode.
            Some(raw) => {
                let content = message::decode_content(schema().root_of(self.0.kind, None), raw);
                self.headed(Value::Object(content.unwrap_or_default()))
            }
            None => {
                let mut tree = self.whole_tree();
                tree.remove("metadata.managedFields");
                tree
            }
        }
    }

    /// As [`Object::tree`], managed fields included: what is stored and what clients are shown.
    pub fn whole_tree(&self) -> Value {
        self.headed(match self.message() {
            Some(raw) => {
                let root = schema().root_of(self.0.kind, None);
                let mut tree =
                    Value::Object(message::decode_message(root, raw).unwrap_or_default());
                let managed = self.managed().and_then(|it| message::managed::tree(root, it).ok());
                if let Some(managed) = managed {
                    tree.set("metadata.managedFields", managed);
                }
                tree
            }
            None => serde_json::from_slice(&self.0.bytes).unwrap_or_default(),
        })
    }

    fn headed(&self, mut tree: Value) -> Value {
        if self.0.kind.is_built_in() {
            tree.set("apiVersion", self.0.kind.api_version());
        }
        tree.set("kind", self.0.kind.name);
        if self.0.revision != 0 {
            tree.set("metadata.resourceVersion", self.0.revision.to_string());
        }
        tree
    }

    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    /// The version that it is stored in: `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.0.kind.is_built_in() {
            return self.0.kind.api_version();
        }
        // As it is mostly written; what is written in another way is read whole.
        let said = Members::of(&self.0.bytes).find(|(name, _)| *name == b"apiVersion");
        match said.and_then(|(_, value)| std::str::from_utf8(inside(value)).ok()) {
            Some(version) if !version.is_empty() && !version.contains('\\') => version.to_owned(),
            _ => self.whole_tree().str("apiVersion").to_owned(),
        }
    }

    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// The stored form.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// The protobuf message inside the envelope; `None` for JSON.
    pub(crate) fn message(&self) -> Option<&[u8]> {
        match &self.0.index {
            Index::Protobuf(offsets) => Some(self.span(offsets.message)),
            Index::Json(_) | Index::Copied(_) => None,
        }
    }

    /// Who manages which field, if that lies in the form of `message::managed`.
    pub(crate) fn managed(&self) -> Option<&[u8]> {
        match &self.0.index {
            Index::Protobuf(offsets) => message::managed::find(self.span(offsets.metadata)),
            Index::Json(_) | Index::Copied(_) => None,
        }
    }

    /// A copy of the indexed metadata. Prefer the borrowing readers below.
    pub fn meta(&self) -> Meta {
        match &self.0.index {
            Index::Copied(meta) => (**meta).clone(),
            Index::Protobuf(_) | Index::Json(_) => Meta {
                name: self.name().into(),
                namespace: self.namespace().into(),
                uid: self.uid().into(),
                labels: self.labels().map(|(k, v)| (k.into(), v.into())).collect(),
                owners: self.owners().into(),
                deleting: self.deleting(),
            },
        }
    }

    pub fn name(&self) -> &str {
        match &self.0.index {
            Index::Protobuf(offsets) | Index::Json(offsets) => self.text(offsets.name),
            Index::Copied(meta) => &meta.name,
        }
    }

    pub fn namespace(&self) -> &str {
        match &self.0.index {
            Index::Protobuf(offsets) | Index::Json(offsets) => self.text(offsets.namespace),
            Index::Copied(meta) => &meta.namespace,
        }
    }

    pub fn uid(&self) -> &str {
        match &self.0.index {
            Index::Protobuf(offsets) | Index::Json(offsets) => self.text(offsets.uid),
            Index::Copied(meta) => &meta.uid,
        }
    }

    /// True once `metadata.deletionTimestamp` is set.
    pub fn deleting(&self) -> bool {
        match &self.0.index {
            Index::Protobuf(offsets) | Index::Json(offsets) => offsets.deleting,
            Index::Copied(meta) => meta.deleting,
        }
    }

    /// The labels, in key order.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let (stored, written, copied) = match &self.0.index {
            Index::Protobuf(offsets) => {
                (Some(Reader::new(self.span(offsets.metadata))), None, None)
            }
            Index::Json(offsets) => (None, Some(Members::of(self.span(offsets.labels))), None),
            Index::Copied(meta) => (None, None, Some(&meta.labels)),
        };
        let stored = stored.into_iter().flat_map(|reader| Entries { reader, tag: tag::LABELS });
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let written = written.into_iter().flatten();
        let written = written.map(move |(key, value)| (text(key), text(inside(value))));
        stored.chain(written).chain(copied.into_iter().flatten().map(|(k, v)| (&**k, &**v)))
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The owner references, read from the bytes each time.
    pub fn owners(&self) -> Vec<Owner> {
        let offsets = match &self.0.index {
            Index::Protobuf(offsets) => offsets,
            Index::Json(offsets) => {
                let owners: Value =
                    serde_json::from_slice(self.span(offsets.owners)).unwrap_or_default();
                return owners.as_array().into_iter().flatten().map(Owner::of).collect();
            }
            Index::Copied(meta) => return meta.owners.to_vec(),
        };
        let mut owners = Vec::new();
        let mut reader = Reader::new(self.span(offsets.metadata));
        while let Ok(Some((tag, wire))) = reader.next() {
            if tag == tag::OWNERS
                && let Ok(bytes) = wire.bytes()
            {
                owners.push(Owner::read(bytes));
            }
        }
        owners
    }

    /// The owner that controls it.
    pub fn controller(&self) -> Option<Owner> {
        self.owners().into_iter().find(|owner| owner.controller)
    }

    fn span(&self, span: Span) -> &[u8] {
        // Spans were found in these very bytes.
        self.0.bytes.get(span.start as usize..(span.start + span.len) as usize).unwrap_or_default()
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.span(span)).unwrap_or_default()
    }
}

impl Index {
    /// Of JSON text that is valid.
    fn of_json(bytes: &[u8]) -> Result<Index> {
        match Offsets::of_json(bytes) {
            Some(offsets) => Ok(Index::Json(offsets)),
            None => {
                let tree: Value = serde_json::from_slice(bytes).context(|| "read JSON")?;
                if !tree.is_object() {
                    return Err(stdx::Error::new("it is no object"));
                }
                Ok(Index::Copied(Box::new(Meta::of(&tree))))
            }
        }
    }
}

/// Where `inner` lies in `bytes`, of which it is a slice; an empty one may lie anywhere and has no length.
fn span_in(bytes: &[u8], inner: &[u8]) -> Span {
    Span {
        start: u32::try_from((inner.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize))
            .unwrap_or(0),
        len: u32::try_from(inner.len()).unwrap_or(0),
    }
}

impl Offsets {
    /// Finds the metadata in JSON text; `None` where it is written in another way than ours.
    fn of_json(bytes: &[u8]) -> Option<Offsets> {
        let span = |inner: &[u8]| span_in(bytes, inner);
        let plain = |text: &[u8]| !text.contains(&b'\\');
        let mut offsets = Offsets::default();
        let mut found = false;
        for (name, value) in Members::of(bytes) {
            match name {
                _ if !plain(name) => return None,
                b"metadata" if found || !value.starts_with(b"{") => return None,
                b"metadata" => {
                    offsets.metadata = span(value);
                    found = true;
                }
                _ => {}
            }
        }
        let metadata = bytes.get(offsets.metadata.start as usize..)?;
        for (name, value) in Members::of(metadata.get(..offsets.metadata.len as usize)?) {
            let (text, place) = match name {
                _ if !plain(name) => return None,
                b"name" => (inside(value), &mut offsets.name),
                b"namespace" => (inside(value), &mut offsets.namespace),
                b"uid" => (inside(value), &mut offsets.uid),
                b"labels" if value == b"null" => continue,
                b"labels" => (value, &mut offsets.labels),
                b"ownerReferences" => {
                    offsets.owners = span(value);
                    continue;
                }
                b"deletionTimestamp" => {
                    offsets.deleting = value != b"null";
                    continue;
                }
                _ => continue,
            };
            if place.len != 0 || !plain(text) {
                return None;
            }
            *place = span(text);
        }
        found.then_some(offsets)
    }

    /// Finds the metadata of a message `raw`, which lies inside `bytes`.
    fn find(bytes: &[u8], raw: &[u8]) -> Result<Offsets, wire::protobuf::Error> {
        let span = |inner: &[u8]| span_in(bytes, inner);
        let mut offsets = Offsets { message: span(raw), ..Offsets::default() };
        let mut reader = Reader::new(raw);
        while let Some((tag, wire)) = reader.next()? {
            if tag != 1 {
                continue;
            }
            let metadata = wire.bytes()?;
            offsets.metadata = span(metadata);
            let mut reader = Reader::new(metadata);
            while let Some((tag, wire)) = reader.next()? {
                match tag {
                    tag::NAME => offsets.name = span(wire.bytes()?),
                    tag::NAMESPACE => offsets.namespace = span(wire.bytes()?),
                    tag::UID => offsets.uid = span(wire.bytes()?),
                    tag::DELETION_TIMESTAMP => offsets.deleting = true,
                    _ => {}
                }
            }
        }
        Ok(offsets)
    }
}

/// The entries of a map of strings inside a message.
#[derive(Clone)]
struct Entries<'a> {
    reader: Reader<'a>,
    tag: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let (tag, wire) = self.reader.next().ok()??;
            if tag != self.tag {
                continue;
            }
            let mut entry = ("", "");
            let mut reader = Reader::new(wire.bytes().ok()?);
            while let Ok(Some((tag, wire))) = reader.next() {
                match tag {
                    1 => entry.0 = wire.str().ok()?,
                    2 => entry.1 = wire.str().ok()?,
                    _ => {}
                }
            }
            return Some(entry);
        }
    }
}

impl Owner {
    fn of(tree: &Value) -> Owner {
        Owner {
            kind: tree.str("kind").into(),
            api_version: tree.str("apiVersion").into(),
            name: tree.str("name").into(),
            uid: tree.str("uid").into(),
            controller: tree.flag("controller"),
            block: tree.flag("blockOwnerDeletion"),
        }
    }

    fn read(bytes: &[u8]) -> Owner {
        let mut owner = Owner::default();
        let mut reader = Reader::new(bytes);
        while let Ok(Some((tag, wire))) = reader.next() {
            let text = || wire.str().unwrap_or_default().into();
            let flag = || wire.varint() == Ok(1);
            match tag {
                1 => owner.kind = text(),
                3 => owner.name = text(),
                4 => owner.uid = text(),
                5 => owner.api_version = text(),
                6 => owner.controller = flag(),
                7 => owner.block = flag(),
                _ => {}
            }
        }
        owner
    }
}

impl Meta {
    /// Reads the metadata of a tree.
    pub fn of(tree: &Value) -> Meta {
        let owners = tree.list("metadata.ownerReferences").iter().map(Owner::of);
        Meta {
            name: tree.str("metadata.name").into(),
            namespace: tree.str("metadata.namespace").into(),
            uid: tree.str("metadata.uid").into(),
            labels: tree.pairs("metadata.labels").map(|(k, v)| (k.into(), v.into())).collect(),
            owners: owners.collect(),
            deleting: tree.has("metadata.deletionTimestamp"),
        }
    }
}

/// Equal when they are the same stored content at the same revision.
impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.0.kind == other.0.kind
            && self.0.revision == other.0.revision
            && self.0.bytes == other.0.bytes
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}@{}", self.0.kind.name, self.namespace(), self.name(), self.0.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{ADDON, POD};
    use serde_json::json;

    #[test]
    fn metadata_reads_the_same_from_bytes_as_from_the_tree() {
        for (kind, api_version) in [(&POD, "v1"), (&ADDON, "k3s.cattle.io/v1")] {
            let tree = json!({
                "apiVersion": api_version, "kind": kind.name,
                "metadata": {
                    "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7",
                    "labels": {"x": "1", "y/z": ""}, "deletionTimestamp": "2024-01-01T00:00:00Z",
                    "ownerReferences": [
                        {"kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "r", "uid": "v", "controller": true},
                    ],
                },
            });
            let object = Object::from_tree(kind, &tree).unwrap();
            assert_eq!(object.meta(), Meta::of(&tree));
            assert_eq!(object.label("y/z"), Some(""));
            assert_eq!(object.label("z"), None);
            assert_eq!(object.controller().map(|owner| owner.name), Some("r".into()));
            assert_eq!(object.revision(), 7);
            let again = Object::from_bytes(kind, 8, object.bytes().clone()).unwrap();
            assert_eq!(again.meta(), object.meta());
            assert_eq!(again.tree().str("metadata.resourceVersion"), "8");
            assert_eq!(object.at_revision(8), again);
        }
    }

    #[test]
    fn json_that_escapes_what_is_indexed_reads_the_same() {
        for text in [
            r#"{"metadata":{"name":"a","namespace":"b","uid":"u","labels":{"k":"v"}}}"#,
            r#"{"metadata":{"name":"\u0061","namespace":"b","uid":"u","labels":{"k":"v"}}}"#,
            r#"{"metadata":{"n\u0061me":"a","namespace":"b","uid":"u","labels":{"k":"\u0076"}}}"#,
            r#"{"metadata":{"name":"x","name":"a","namespace":"b","uid":"u","labels":{"k":"v"}}}"#,
            r#"{"m\u0065tadata":{"name":"a","namespace":"b","uid":"u","labels":{"k":"v"}}}"#,
        ] {
            let object = Object::from_bytes(&ADDON, 1, text.as_bytes().into()).unwrap();
            let seen = (object.namespace(), object.name(), object.uid(), object.label("k"));
            assert_eq!(seen, ("b", "a", "u", Some("v")), "{text}");
            assert_eq!(object.meta(), Meta::of(&object.tree()), "{text}");
        }
        let deep = "[".repeat(200);
        for bad in ["[]", "1", "{", deep.as_str(), "{}x"] {
            assert!(Object::from_bytes(&ADDON, 1, bad.as_bytes().into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bad in [&b""[..], b"k8s\0\xff", b"{", b"nonsense"] {
            assert!(Object::from_bytes(&POD, 1, bad.into()).is_err());
        }
    }
}
