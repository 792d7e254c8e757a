//! ControllerRevision.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "ControllerRevision",
    plural: "controllerrevisions",
    generation: false,
    schema: SCHEMA,
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    Column::with("Controller", |tree, _| controller(tree).into()),
    Column::number("Revision", "revision"),
    Column::AGE,
];

fn controller(tree: &Value) -> String {
    let owner = tree.list("metadata.ownerReferences").iter().find(|owner| owner.flag("controller"));
    let Some(owner) = owner else { return "<none>".into() };
    let group = owner
        .str("apiVersion")
        .rsplit_once('/')
        .map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{}{group}/{}", owner.str("kind").to_ascii_lowercase(), owner.str("name"))
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
ControllerRevision kind
   1 metadata  ObjectMeta
   2 data      raw
   3 revision* i64
";
