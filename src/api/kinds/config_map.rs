//! ConfigMap.

use crate::kind::*;
use crate::print::count;

pub static CONFIG_MAP: Kind = Kind {
    version: "v1",
    name: "ConfigMap",
    plural: "configmaps",
    short: &["cm"],
    generation: false,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column::with("Data", |tree, _| (count(tree, "data") + count(tree, "binaryData")).into())
        .integer(),
    Column::AGE,
];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ConfigMap kind
   1 metadata   ObjectMeta
   2 data       {}str
   3 binaryData {}bytes
   4 immutable  bool?
";
