//! Namespace.

use crate::kind::*;

pub static NAMESPACE: Kind = Kind {
    version: "v1",
    name: "Namespace",
    plural: "namespaces",
    short: &["ns"],
    scope: Scope::Cluster,
    generation: false,
    name_rule: NameRule::Label,
    subresources: &[Sub::Status, Sub::Named("finalize")],
    fields: &["status.phase"],
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
NamespaceSpec
   1 finalizers []str
NamespaceStatus
   1 phase      str                  = Active
   2 conditions []NamespaceCondition map(type) merge(type)
NamespaceCondition
   1 type~              str
   2 status~            str  in True|False|Unknown
   4 lastTransitionTime time
   5 reason             str
   6 message            str
Namespace kind
   1 metadata ObjectMeta
   2 spec     NamespaceSpec
   3 status   NamespaceStatus
";
