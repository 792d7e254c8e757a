//! Eviction: a request to end a pod if its disruption budget allows it.

use crate::kind::*;

pub static EVICTION: Kind = Kind {
    group: "policy",
    name: "Eviction",
    plural: "evictions",
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "A request to end a pod if its disruption budget allows it.",
        subresource_body: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.policy.v1
Eviction kind
   1 metadata      ObjectMeta
   2 deleteOptions DeleteOptions?
";
