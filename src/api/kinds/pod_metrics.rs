//! PodMetrics: what a pod's containers use of processors and memory, made up when it is asked for.

use serde_json::Value;
use stdx::time::Wall;
use wire::quantity::Quantity;

use crate::kind::*;
use crate::lens::Lens;

pub static POD_METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    name: "PodMetrics",
    plural: "pods",
    scope: Scope::Namespaced,
    storage: "metrics.k8s.io/pods",
    declared: &Declared {
        version: "v1beta1",
        schema: SCHEMA,
        columns: &[
            usage("cpu", |tree, _| sum(tree, "cpu")),
            usage("memory", |tree, _| sum(tree, "memory")),
            WINDOW,
        ],
        durability: Durability::Virtual,
        generation: false,
        computed: true,
        doc: "What a pod's containers use of processors and memory.",
        ..Declared::BASE
    },
};

pub(super) const fn usage(name: &'static str, cell: fn(&Value, Wall) -> Value) -> Column<'static> {
    Column { name, format: "quantity", cell: Cell::With(cell), ..Column::BASE }
}

pub(super) const WINDOW: Column<'static> =
    Column { format: "duration", ..Column::path("Window", "window") };

/// Of all containers together.
fn sum(tree: &Value, resource: &str) -> Value {
    let used = tree.list("containers").iter().filter_map(|it| it.entry("usage", resource));
    let sum = used.filter_map(|text| text.parse().ok()).fold(Quantity::ZERO, |a, b| a + b);
    sum.to_string().into()
}

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
