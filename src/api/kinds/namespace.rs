//! Namespace: a scope for names; most objects live in one.

use crate::kind::*;

pub static NAMESPACE: Kind = Kind {
    name: "Namespace",
    plural: "namespaces",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["ns"],
        generation: false,
        subresources: &[Sub::Status, Sub::Named("finalize")],
        fields: &["status.phase"],
        schema: SCHEMA,
        doc: "A scope for names; most objects live in one.",
        deletes_collections: false,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
NamespaceSpec
   1 finalizers []str
NamespaceStatus
   1 phase      str                  = Active enum Active|Terminating
   2 conditions []NamespaceCondition map(type) merge(type)
NamespaceCondition
   1 type~              str
   2 status~            str
   4 lastTransitionTime time
   5 reason             str
   6 message            str
Namespace kind
   1 metadata ObjectMeta
   2 spec     NamespaceSpec
   3 status   NamespaceStatus
";
