//! What pods and pod templates share beyond the schema: defaults, rules, quality of service, printing.

pub(crate) mod columns;
pub(crate) mod defaults;
pub(crate) mod validate;

use serde_json::Value;

use crate::lens::Lens;
use crate::quantity::Quantity;

/// The quality of service class of a pod's spec: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &Value) -> &'static str {
    let containers = || spec.list("containers").iter().chain(spec.list("initContainers"));
    let amount = |container: &Value, what: &str, resource: &str| {
        container
            .at("resources")
            .at(what)
            .get(resource)
            .and_then(Quantity::from_tree)
            .filter(|q| !q.is_zero())
    };
    let (mut any, mut guaranteed) = (false, true);
    for container in containers() {
        for resource in ["cpu", "memory"] {
            let limit = amount(container, "limits", resource);
            let request = amount(container, "requests", resource);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The containers of every sort with the field each stands in.
pub(crate) fn all_containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |field| {
        spec.list(field).iter().enumerate().map(move |(idx, c)| (field, idx, c))
    })
}

/// True for an init container that keeps running beside the others (a sidecar).
pub fn restartable(init_container: &Value) -> bool {
    init_container.str("restartPolicy") == "Always"
}
