//! What the scheduler needs of a pod, read once from its tree.

use api::quantity::Quantity;
use api::{Lens, Object, Value, View};
use stdx::OrdMap;

use crate::profile::{Profile, Profiles};

/// Amounts by resource name; `cpu` in thousandths, everything else in whole units.
/// Amounts by name. Wider than any one quantity: pods ask for what they like, and sums of it must not turn negative.
pub(crate) type Resources = OrdMap<String, i128>;

/// A host port in use: protocol, address ("0.0.0.0" is all of them), number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    pub(crate) address: String,
    pub(crate) port: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) object: Object,
    pub(crate) tree: Value,
    pub(crate) requests: Resources,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) priority: i64,
}

impl Pod {
    pub(crate) fn new(object: Object) -> Pod {
        let tree = object.tree();
        let mut ports = Vec::new();
        for container in tree.list("spec.containers").iter().chain(sidecars(&tree)) {
            for port in container.list("ports") {
                if let Some(number) = port.int("hostPort").filter(|n| *n > 0) {
                    let or = |text: &str, default: &str| {
                        if text.is_empty() { default.to_owned() } else { text.to_owned() }
                    };
                    ports.push(HostPort {
                        protocol: or(port.str("protocol"), "TCP"),
                        address: or(port.str("hostIP"), "0.0.0.0"),
                        port: number,
                    });
                }
            }
        }
        Pod {
            requests: requests(&tree),
            ports,
            priority: tree.int("spec.priority").unwrap_or(0),
            object,
            tree,
        }
    }

    pub(crate) fn node(&self) -> &str {
        self.tree.str("spec.nodeName")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.object.namespace()
    }

    pub(crate) fn labels(&self) -> &Value {
        self.tree.at("metadata.labels")
    }

    /// Waits for a node: by this profile, where it waits for this scheduler.
    pub(crate) fn pending<'v>(&self, view: &View<'v>) -> Option<&'v Profile> {
        let waits = self.node().is_empty() && !self.object.deleting() && !self.finished();
        waits.then(|| Profiles::find(view, self.tree.str("spec.schedulerName"))).flatten()
    }

    /// Gated pods are not looked at until their gates are gone.
    pub(crate) fn gated(&self) -> bool {
        !self.tree.list("spec.schedulingGates").is_empty()
    }

    /// No longer uses what it asked for.
    pub(crate) fn finished(&self) -> bool {
        matches!(self.tree.str("status.phase"), "Succeeded" | "Failed")
    }
}

fn sidecars(tree: &Value) -> impl Iterator<Item = &Value> {
    tree.list("spec.initContainers")
        .iter()
        .filter(|container| container.str("restartPolicy") == "Always")
}

/// The pod's effective requests: the larger of its containers with sidecars together and of each
/// init container with the sidecars before it, plus overhead (KEP-753).
pub(crate) fn requests(tree: &Value) -> Resources {
    let mut running = Resources::new();
    for container in tree.list("spec.containers") {
        add(&mut running, container.at("resources.requests"));
    }
    let mut sidecars = Resources::new();
    let mut starting = Resources::new();
    for container in tree.list("spec.initContainers") {
        let mut peak = sidecars.clone();
        add(&mut peak, container.at("resources.requests"));
        if container.str("restartPolicy") == "Always" {
            add(&mut running, container.at("resources.requests"));
            sidecars = peak.clone();
        }
        raise(&mut starting, &peak);
    }
    raise(&mut running, &starting);
    add(&mut running, tree.at("spec.overhead"));
    running
}

fn add(total: &mut Resources, requests: &Value) {
    for (name, quantity) in requests.as_object().into_iter().flatten() {
        *total.entry(name.clone()).or_default() += amount(name, quantity);
    }
}

fn raise(total: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        let slot = total.entry(name.clone()).or_default();
        *slot = (*slot).max(*amount);
    }
}

/// A quantity in the unit that this room counts the resource in.
pub(crate) fn amount(name: &str, quantity: &Value) -> i128 {
    let amount = Quantity::from_tree(quantity)
        .map_or(0, |quantity| if name == "cpu" { quantity.milli() } else { quantity.units() });
    amount.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let tree = json!({"spec": {
            "overhead": {"cpu": "10m"},
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            ],
            "containers": [{"resources": {"requests": {"cpu": "200m", "memory": "64Mi"}}}],
        }});
        let got = requests(&tree);
        assert_eq!(got["cpu"], 1110, "the second init container runs beside the sidecar");
        assert_eq!(got["memory"], 1 << 30);
    }

    #[test]
    fn sums_of_the_largest_requests_do_not_turn_negative() {
        let most = json!({"resources": {"requests": {"memory": "9223372036854775807"}}});
        let tree = json!({"spec": {"containers": [most, most, most]}});
        assert_eq!(requests(&tree)["memory"], 3 * i128::from(i64::MAX));
    }
}
