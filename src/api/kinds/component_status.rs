//! ComponentStatus: whether the parts of the control plane are healthy, made up when it is asked for.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;

pub static COMPONENT_STATUS: Kind = Kind {
    name: "ComponentStatus",
    plural: "componentstatuses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["cs"],
        schema: SCHEMA,
        columns: &[
            Column::with("Status", |tree, _| {
                match healthy(tree).map(|condition| condition.str("status")) {
                    None => "Unknown",
                    Some("True") => "Healthy",
                    Some(_) => "Unhealthy",
                }
                .into()
            }),
            Column::with("Message", |tree, _| part(tree, "message")),
            Column::with("Error", |tree, _| part(tree, "error")),
        ],
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "Whether the parts of the control plane are healthy.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn healthy(tree: &Value) -> Option<&Value> {
    tree.list("conditions").iter().find(|condition| condition.str("type") == "Healthy")
}

fn part(tree: &Value, field: &str) -> Value {
    healthy(tree).map_or("", |condition| condition.str(field)).into()
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ComponentStatus kind
   1 metadata   ObjectMeta
   2 conditions []ComponentCondition map(type) merge(type)
ComponentCondition
   1 type~   str
   2 status~ str
   3 message str
   4 error   str
";
