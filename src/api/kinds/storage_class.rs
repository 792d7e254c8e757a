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
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
TopologySelectorTerm atomic
   1 matchLabelExpressions []TopologySelectorLabelRequirement
TopologySelectorLabelRequirement
   1 key*    str
   2 values* []str
package io.k8s.api.storage.v1
StorageClass kind
   1 metadata             ObjectMeta
   2 provisioner*         str                    immutable
   3 parameters           {}str                  immutable
   4 reclaimPolicy        str?                   in Recycle|Delete|Retain = Delete immutable
   5 mountOptions         []str
   6 allowVolumeExpansion bool?
   7 volumeBindingMode    str?                   in Immediate|WaitForFirstConsumer = Immediate immutable
   8 allowedTopologies    []TopologySelectorTerm
";
