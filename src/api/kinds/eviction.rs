//! Eviction: a request to end a pod if its disruption budget allows it.

use crate::kind::*;

pub static EVICTION: Kind = Kind {
    group: "policy",
    version: "v1",
    name: "Eviction",
    plural: "evictions",
    durability: Durability::Virtual,
    generation: false,
    schema: SCHEMA,
    doc: "A request to end a pod if its disruption budget allows it.",
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.policy.v1
Eviction kind
   1 metadata      ObjectMeta
   2 deleteOptions DeleteOptions?
";
