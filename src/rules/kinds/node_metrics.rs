//! NodeMetrics: what a node uses of processors and memory, made up when it is asked for.

use api::kinds::NODE_METRICS;
use api::lens::Lens;
use serde_json::Value;

use super::Rules;

pub(super) static RULES: Rules = Rules {
    kind: &NODE_METRICS,
    columns: &[
        super::pod_metrics::usage("cpu", |tree, _| of(tree, "cpu")),
        super::pod_metrics::usage("memory", |tree, _| of(tree, "memory")),
        super::pod_metrics::WINDOW,
    ],
    ..Rules::BASE
};

fn of(tree: &Value, resource: &str) -> Value {
    tree.entry("usage", resource).unwrap_or("0").into()
}
