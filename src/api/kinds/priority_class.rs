//! PriorityClass: a named priority for pods.

use crate::kind::*;

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    name: "PriorityClass",
    plural: "priorityclasses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["pc"],
        generation: false,
        schema: SCHEMA,
        doc: "A named priority for pods.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.scheduling.v1
PriorityClass kind
   1 metadata         ObjectMeta
   2 value*           i32 -- The priority; higher goes first.
   3 globalDefault    bool -- Pods that name no class get this one.
   4 description      str -- What the class is for.
   5 preemptionPolicy str?       = PreemptLowerPriority enum Never|PreemptLowerPriority -- Whether its pods may push others off a node.
";
