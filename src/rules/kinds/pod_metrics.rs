//! PodMetrics: what a pod's containers use of processors and memory, made up when it is asked for.

use api::kinds::POD_METRICS;
use api::lens::Lens;
use serde_json::Value;
use stdx::time::Wall;
use wire::quantity::Quantity;

use super::Rules;
use crate::column::{Cell, Column};

pub(super) static RULES: Rules = Rules {
    kind: &POD_METRICS,
    columns: &[
        usage("cpu", |tree, _| sum(tree, "cpu")),
        usage("memory", |tree, _| sum(tree, "memory")),
        WINDOW,
    ],
    ..Rules::BASE
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
