//! PriorityClass.

use crate::kind::*;
use crate::lens::Lens;

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    name: "PriorityClass",
    plural: "priorityclasses",
    short: &["pc"],
    scope: Scope::Cluster,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column::number("Value", "value"),
    Column {
        kind: "boolean",
        ..Column::with("Global-Default", |tree, _| tree.flag("globalDefault").into())
    },
    Column::AGE,
    Column::path("PreemptionPolicy", "preemptionPolicy"),
];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.scheduling.v1
PriorityClass kind
   1 metadata         ObjectMeta
   2 value*           i32        immutable
   3 globalDefault    bool
   4 description      str
   5 preemptionPolicy str?       = PreemptLowerPriority immutable
";
