//! StorageClass.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;

pub static STORAGE_CLASS: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    name: "StorageClass",
    plural: "storageclasses",
    short: &["sc"],
    scope: Scope::Cluster,
    generation: false,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column { format: "name", ..Column::with("Name", |tree, _| name(tree).into()) },
    Column::path("Provisioner", "provisioner"),
    Column::path("ReclaimPolicy", "reclaimPolicy"),
    Column::path("VolumeBindingMode", "volumeBindingMode"),
    Column {
        kind: "boolean",
        ..Column::with("AllowVolumeExpansion", |tree, _| tree.flag("allowVolumeExpansion").into())
    },
    Column::AGE,
];

/// The class that claims without one get is marked.
fn name(tree: &Value) -> String {
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let default = marks.iter().any(|mark| tree.entry("metadata.annotations", mark) == Some("true"));
    format!("{}{}", tree.str("metadata.name"), if default { " (default)" } else { "" })
}

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
