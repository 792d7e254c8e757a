//! NodeMetrics: what a node uses of processors and memory, made up when it is asked for.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;

pub static NODE_METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    name: "NodeMetrics",
    plural: "nodes",
    scope: Scope::Cluster,
    storage: "metrics.k8s.io/nodes",
    declared: &Declared {
        version: "v1beta1",
        schema: SCHEMA,
        columns: &[
            super::pod_metrics::usage("cpu", |tree, _| of(tree, "cpu")),
            super::pod_metrics::usage("memory", |tree, _| of(tree, "memory")),
            super::pod_metrics::WINDOW,
        ],
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "What a node uses of processors and memory.",
        ..Declared::BASE
    },
};

fn of(tree: &Value, resource: &str) -> Value {
    tree.entry("usage", resource).unwrap_or("0").into()
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.metrics.pkg.apis.metrics.v1beta1
NodeMetrics kind
   1 metadata   ObjectMeta
   2 timestamp~ time     -- The end of the time that the usage is of.
   3 window~    duration -- How long that time is.
   4 usage~     {}quantity  -- Usage of processors, as a mean of the time, and of memory, at its end.
";
