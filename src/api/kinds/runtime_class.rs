//! RuntimeClass: how the containers of the pods that name it are run.

use crate::kind::*;

pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    name: "RuntimeClass",
    plural: "runtimeclasses",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        generation: false,
        doc: "How the containers of the pods that name it are run.",
        creates_on_update: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.node.v1
RuntimeClass kind
   1 metadata   ObjectMeta
   2 handler~   str -- What the container runtime calls it.
   3 overhead   Overhead? -- What a pod costs beside its containers.
   4 scheduling Scheduling? -- The nodes that can run it.
Overhead
   1 podFixed {}quantity
Scheduling
   1 nodeSelector {}str atomic
   2 tolerations  []Toleration
";
