//! Which nodes take a set's pod, and how a pod is made for one node.

use api::{Lens, LensMut, Object, Value, json};

use crate::support::nodes::{DAEMON_TOLERATED, accepts, untolerated};
use crate::support::pods::{self, Pod};

const NETWORK_TAINT: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");
const REQUIRED: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// Whether a node should get a pod, and whether one that is there may stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    pub(super) run: bool,
    pub(super) stay: bool,
}

/// The pod spec of the template with the tolerations that daemon pods have.
pub(super) fn spec(set: &Value) -> Value {
    let mut spec = set.at("spec.template.spec").clone();
    let network = spec.flag("hostNetwork").then_some(NETWORK_TAINT);
    let tolerations = spec.list_mut("tolerations");
    for (key, effect) in DAEMON_TOLERATED.into_iter().chain(network) {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        let same = |t: &Value| {
            t.str("key") == key && t.str("effect") == effect && t.str("value").is_empty()
        };
        match tolerations.iter_mut().find(|t| same(t)) {
            Some(present) => *present = toleration,
            None => tolerations.push(toleration),
        }
    }
    spec
}

pub(super) fn fit(spec: &Value, node: &Value) -> Fit {
    let pinned = spec.str("nodeName");
    let here = pinned.is_empty() || pinned == node.str("metadata.name");
    if !here || !accepts(spec, node) {
        return Fit { run: false, stay: false };
    }
    let tolerations = spec.list("tolerations");
    let bitten = |effects: &[&str]| untolerated(node, tolerations, effects).next().is_some();
    Fit { run: !bitten(&["NoSchedule", "NoExecute"]), stay: !bitten(&["NoExecute"]) }
}

/// The node that a pod is on, or that its affinity pins it to.
pub(super) fn target(pod: &Pod) -> &str {
    if !pod.node().is_empty() {
        return pod.node();
    }
    let terms = pod.tree.at("spec").at(REQUIRED).list("nodeSelectorTerms");
    let mut fields = terms.iter().flat_map(|term| term.list("matchFields"));
    let name = fields.rfind(|field| field.str("key") == "metadata.name");
    name.map_or("", |field| field.str("values.0"))
}

/// The pod for one node: the scheduler binds it, but has no choice.
pub(super) fn new_pod(set: &Value, owner: &Object, node: &str) -> Value {
    let mut pod = pods::from_template(set.at("spec.template"), owner);
    pod.set("spec", spec(set));
    let term =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
    pod.slot("spec").set(REQUIRED, json!({"nodeSelectorTerms": [term]}));
    pod
}
