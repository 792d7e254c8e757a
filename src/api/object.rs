//! An object at rest: one shared block of bytes with its revision, and a borrowed view of its metadata.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use stdx::{Context, Result};

use crate::kind::Kind;
use crate::lens::{Lens, LensMut};

/// One stored version of an object. Cloning shares it; store, watches, informers and answers hold the same bytes.
#[derive(Clone)]
pub struct Object(Arc<Inner>);

struct Inner {
    kind: &'static Kind,
    /// The store revision that wrote it: `metadata.resourceVersion`. Not in the bytes.
    revision: u64,
    bytes: Arc<[u8]>,
    meta: Meta,
}

/// The metadata that indexes ask for without a tree.
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

impl Object {
    /// Reads stored bytes (protobuf envelope or JSON).
    ///
    /// # Errors
    /// If the bytes are not an object of `kind`.
    pub fn from_bytes(kind: &'static Kind, revision: u64, bytes: Arc<[u8]>) -> Result<Object> {
        let tree: Value =
            serde_json::from_slice(&bytes).context(|| format!("decode a stored {}", kind.name))?;
        Ok(Object(Arc::new(Inner { kind, revision, bytes, meta: Meta::of(&tree) })))
    }

    /// Encodes a tree. `metadata.resourceVersion` in it is taken as the revision and left out of the bytes.
    ///
    /// # Errors
    /// If the tree does not fit the kind's schema.
    pub fn from_tree(kind: &'static Kind, tree: &Value) -> Result<Object> {
        let revision = tree.str("metadata.resourceVersion").parse().unwrap_or(0);
        let mut stored = tree.clone();
        stored.remove("metadata.resourceVersion");
        let bytes = serde_json::to_vec(&stored).context(|| format!("encode a {}", kind.name))?;
        Ok(Object(Arc::new(Inner { kind, revision, bytes: bytes.into(), meta: Meta::of(tree) })))
    }

    /// The whole object as a tree, with `apiVersion`, `kind` and `metadata.resourceVersion`.
    /// For one request or one reconcile; never kept.
    pub fn tree(&self) -> Value {
        // The constructors checked that the bytes decode.
        let mut tree: Value = serde_json::from_slice(&self.0.bytes).unwrap_or_default();
        tree.set("apiVersion", self.0.kind.api_version());
        tree.set("kind", self.0.kind.name);
        if self.0.revision != 0 {
            tree.set("metadata.resourceVersion", self.0.revision.to_string());
        }
        tree
    }

    pub fn kind(&self) -> &'static Kind {
        self.0.kind
    }

    pub fn revision(&self) -> u64 {
        self.0.revision
    }

    /// The stored form.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// A copy of the indexed metadata. Prefer the borrowing readers below.
    pub fn meta(&self) -> Meta {
        self.0.meta.clone()
    }

    /// The labels, in key order.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.meta.labels.iter().map(|(k, v)| (&**k, &**v))
    }

    /// The owner references. Read from the bytes each time.
    pub fn owners(&self) -> Vec<Owner> {
        self.0.meta.owners.to_vec()
    }

    pub fn name(&self) -> &str {
        &self.0.meta.name
    }

    pub fn namespace(&self) -> &str {
        &self.0.meta.namespace
    }

    pub fn uid(&self) -> &str {
        &self.0.meta.uid
    }

    /// True once `metadata.deletionTimestamp` is set.
    pub fn deleting(&self) -> bool {
        self.0.meta.deleting
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.0.meta.labels.iter().find(|(k, _)| &**k == key).map(|(_, v)| &**v)
    }

    /// The owner that controls it.
    pub fn controller(&self) -> Option<Owner> {
        self.0.meta.owners.iter().find(|owner| owner.controller).cloned()
    }
}

impl Meta {
    /// Reads the metadata of a tree.
    pub fn of(tree: &Value) -> Meta {
        let owners = tree.list("metadata.ownerReferences").iter().map(|owner| Owner {
            kind: owner.str("kind").into(),
            api_version: owner.str("apiVersion").into(),
            name: owner.str("name").into(),
            uid: owner.str("uid").into(),
            controller: owner.flag("controller"),
            block: owner.flag("blockOwnerDeletion"),
        });
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
