//! What a pod asks for in all, of requests or of limits.

use stdx::OrdMap;

use serde_json::Value;

use super::restartable;
use crate::lens::Lens;
use crate::quantity::Quantity;

/// Amounts by the name of a resource.
pub type Amounts = OrdMap<String, Quantity>;

/// The sum of a pod spec's `requests` or `limits`: the larger of its containers with sidecars together
/// and of each init container with the sidecars before it (KEP-753). Without overhead.
pub fn total(spec: &Value, what: &str) -> Amounts {
    let mut running = Amounts::new();
    for container in spec.list("containers") {
        add(&mut running, &amounts(container.at("resources").at(what)));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let own = amounts(container.at("resources").at(what));
        let mut peak = sidecars.clone();
        add(&mut peak, &own);
        if restartable(container) {
            add(&mut running, &own);
            sidecars = peak.clone();
        }
        raise(&mut starting, peak);
    }
    raise(&mut running, starting);
    running
}

/// As [`total`], with the pod's overhead; of limits only where there is one.
pub(crate) fn total_with_overhead(spec: &Value, what: &str) -> Amounts {
    let mut sum = total(spec, what);
    let mut overhead = amounts(spec.at("overhead"));
    overhead.retain(|name, _| what == "requests" || sum.contains_key(name));
    add(&mut sum, &overhead);
    sum
}

/// A map of quantities as a tree has it; what is no quantity is left out.
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(name, text)| Some((name.clone(), Quantity::from_tree(text)?))).collect()
}

/// Amounts as a tree.
pub fn tree(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, quantity)| (name.clone(), quantity.to_string())).collect()
}

/// Adds each amount of `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let slot = sum.entry(name.clone()).or_default();
        *slot = *slot + *amount;
    }
}

fn raise(sum: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let slot = sum.entry(name).or_insert(amount);
        *slot = (*slot).max(amount);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let spec = json!({
            "overhead": {"cpu": "10m", "memory": "1Mi"},
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
            ],
            "containers": [
                {"resources": {"requests": {"cpu": "200m", "memory": "64Mi"}}},
                {"resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "3Gi"}}},
            ],
        });
        for (what, overhead, wanted) in [
            ("requests", false, json!({"cpu": "1100m", "memory": "1Gi"})),
            ("requests", true, json!({"cpu": "1110m", "memory": "1025Mi"})),
            ("limits", true, json!({"memory": "3073Mi"})),
        ] {
            let sum = if overhead { total_with_overhead(&spec, what) } else { total(&spec, what) };
            assert_eq!(tree(&sum), wanted, "{what} {overhead}");
        }
    }
}
