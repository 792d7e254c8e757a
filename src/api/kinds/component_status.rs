//! ComponentStatus: whether the parts of the control plane are healthy, made up when it is asked for.

use crate::kind::*;

pub static COMPONENT_STATUS: Kind = Kind {
    name: "ComponentStatus",
    plural: "componentstatuses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["cs"],
        schema: SCHEMA,
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "Whether the parts of the control plane are healthy.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
