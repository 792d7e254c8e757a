//! NodeMetrics: what a node uses of processors and memory, made up when it is asked for.

use crate::kind::*;

pub static NODE_METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    name: "NodeMetrics",
    plural: "nodes",
    scope: Scope::Cluster,
    storage: "metrics.k8s.io/nodes",
    declared: &Declared {
        version: "v1beta1",
        schema: SCHEMA,
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "What a node uses of processors and memory.",
        ..Declared::BASE
    },
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.metrics.pkg.apis.metrics.v1beta1
NodeMetrics kind
   1 metadata   ObjectMeta
   2 timestamp~ time     -- The end of the time that the usage is of.
   3 window~    duration -- How long that time is.
   4 usage~     {}quantity  -- Usage of processors, as a mean of the time, and of memory, at its end.
";
