//! StorageClass: a way to provide volumes.

use crate::kind::*;

pub static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    name: "StorageClass",
    plural: "storageclasses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["sc"],
        generation: false,
        schema: SCHEMA,
        doc: "A way to provide volumes.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
TopologySelectorTerm atomic
   1 matchLabelExpressions []TopologySelectorLabelRequirement
TopologySelectorLabelRequirement
   1 key~    str
   2 values~ []str
package io.k8s.api.storage.v1
StorageClass kind
   1 metadata             ObjectMeta
   2 provisioner*         str -- Who makes the volumes.
   3 parameters           {}str -- Settings for the provisioner.
   4 reclaimPolicy        str?                   enum Delete|Recycle|Retain = Delete -- What becomes of volumes when their claims go.
   5 mountOptions         []str
   6 allowVolumeExpansion bool? -- Whether claims may grow.
   7 volumeBindingMode    str?                   in Immediate|WaitForFirstConsumer = Immediate -- WaitForFirstConsumer binds a claim once a pod needs it.
   8 allowedTopologies    []TopologySelectorTerm
";
