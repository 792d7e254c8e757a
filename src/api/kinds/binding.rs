//! Binding: ties an object to another: a pod to its node.

use crate::kind::*;

pub static BINDING: Kind = Kind {
    name: "Binding",
    plural: "bindings",
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Ties an object to another: a pod to its node.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Binding kind
   1 metadata ObjectMeta
   2 target*  ObjectReference
";
