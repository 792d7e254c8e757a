//! StorageClass.

use crate::kind::*;

pub static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    name: "StorageClass",
    plural: "storageclasses",
    short: &["sc"],
    scope: Scope::Cluster,
    generation: false,
    ..Kind::BASE
};
