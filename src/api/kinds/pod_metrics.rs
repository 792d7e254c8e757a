//! PodMetrics: what a pod's containers use of processors and memory, made up when it is asked for.

use crate::kind::*;

pub static POD_METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    name: "PodMetrics",
    plural: "pods",
    scope: Scope::Namespaced,
    storage: "metrics.k8s.io/pods",
    declared: &Declared {
        version: "v1beta1",
        schema: SCHEMA,
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "What a pod's containers use of processors and memory.",
        ..Declared::BASE
    },
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.metrics.pkg.apis.metrics.v1beta1
PodMetrics kind
   1 metadata    ObjectMeta
   2 timestamp~  time     -- The end of the time that the usage is of.
   3 window~     duration -- How long that time is.
   4 containers~ []ContainerMetrics atomic -- Usage of each container.
ContainerMetrics
   1 name~  str -- The container's name.
   2 usage~ {}quantity  -- Usage of processors, as a mean of the time, and of memory, at its end.
";
