//! Filters: may this pod run on this node, and if not, why (upstream's words, which users search for).

use api::{Lens, Value};
use stdx::OrdMap;

use crate::affinity::{self, Term};
use crate::node::Node;
use crate::pod::Pod;
use crate::profile::{Plugin, Profile};
use crate::volume::Volumes;

/// Why a node refuses a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reasons: Vec<String>,
    /// Removing pods from the node could change it.
    pub(crate) curable: bool,
}

fn curable(reasons: Vec<String>) -> Option<Refusal> {
    (!reasons.is_empty()).then_some(Refusal { reasons, curable: true })
}

fn final_(reason: impl Into<String>) -> Option<Refusal> {
    Some(Refusal { reasons: vec![reason.into()], curable: false })
}

/// What the filters look at beyond pod and node.
pub(crate) struct World<'a> {
    pub(crate) nodes: &'a OrdMap<String, Node>,
    pub(crate) namespace_labels: &'a dyn Fn(&str) -> Value,
    pub(crate) volumes: &'a Volumes,
    pub(crate) profile: &'a Profile,
}

/// The filters in upstream's order; the first refusal counts.
pub(crate) fn check(pod: &Pod, node: &Node, world: &World<'_>) -> Option<Refusal> {
    let on = |plugin| world.profile.has(plugin).then_some(());
    (on(Plugin::NodeUnschedulable).and_then(|()| unschedulable(pod, node)))
        .or_else(|| on(Plugin::TaintToleration).and_then(|()| taints(pod, node)))
        .or_else(|| on(Plugin::NodeAffinity).and_then(|()| node_affinity(pod, node, world)))
        .or_else(|| on(Plugin::NodePorts).and_then(|()| ports(pod, node)))
        .or_else(|| on(Plugin::NodeResourcesFit).and_then(|()| fit(pod, node, world.profile)))
        .or_else(|| on(Plugin::VolumeRestrictions).and_then(|()| exclusive_claims(pod, world)))
        .or_else(|| on(Plugin::NodeVolumeLimits).and_then(|()| volume_limits(node, world)))
        .or_else(|| {
            on(Plugin::VolumeBinding).and_then(|()| world.volumes.refusal(node)).and_then(final_)
        })
        .or_else(|| on(Plugin::PodTopologySpread).and_then(|()| topology_spread(pod, node, world)))
        .or_else(|| on(Plugin::InterPodAffinity).and_then(|()| pod_affinity(pod, node, world)))
}

fn unschedulable(pod: &Pod, node: &Node) -> Option<Refusal> {
    let taint = api::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    if node.tree.flag("spec.unschedulable") && !tolerates(&pod.tree, &taint) {
        return final_("node(s) were unschedulable");
    }
    None
}

fn taints(pod: &Pod, node: &Node) -> Option<Refusal> {
    let taint = untolerated(&pod.tree, node, &["NoSchedule", "NoExecute"]).next()?;
    final_(format!(
        "node(s) had untolerated taint {{{}: {}}}",
        taint.str("key"),
        taint.str("value")
    ))
}

/// The node's taints of these effects that the pod does not tolerate.
pub(crate) fn untolerated<'a>(
    pod: &'a Value,
    node: &'a Node,
    effects: &'a [&str],
) -> impl Iterator<Item = &'a Value> {
    node.tree
        .list("spec.taints")
        .iter()
        .filter(move |taint| effects.contains(&taint.str("effect")) && !tolerates(pod, taint))
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    pod.list("spec.tolerations").iter().any(|toleration| {
        let effect = toleration.str("effect");
        let key = toleration.str("key");
        let exists = toleration.str("operator") == "Exists";
        (effect.is_empty() || effect == taint.str("effect"))
            && (key == taint.str("key") || (key.is_empty() && exists))
            && (exists || toleration.str("value") == taint.str("value"))
    })
}

fn node_affinity(pod: &Pod, node: &Node, world: &World<'_>) -> Option<Refusal> {
    if !affinity::required_matches(&world.profile.added_affinity, node) {
        return final_("node(s) didn't match scheduler-enforced node affinity");
    }
    if affinity::node_matches(&pod.tree, node) {
        None
    } else {
        final_("node(s) didn't match Pod's node affinity/selector")
    }
}

fn ports(pod: &Pod, node: &Node) -> Option<Refusal> {
    match pod.ports.iter().any(|port| node.port_taken(port)) {
        true => curable(vec!["node(s) didn't have free ports for the requested pod ports".into()]),
        false => None,
    }
}

fn fit(pod: &Pod, node: &Node, profile: &Profile) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let pods_max = node.allocatable.get("pods").copied().unwrap_or(0);
    if i128::try_from(node.pods.len()).unwrap_or(i128::MAX) >= pods_max {
        reasons.push("Too many pods".to_owned());
    }
    let mut hopeless = false;
    for (name, request) in pod.requests.iter().filter(|(_, request)| **request > 0) {
        if profile.ignores(name) {
            continue;
        }
        let allocatable = node.allocatable.get(name).copied().unwrap_or(0);
        if *request > allocatable - node.requested.get(name).copied().unwrap_or(0) {
            reasons.push(format!("Insufficient {name}"));
            hopeless |= *request > allocatable;
        }
    }
    curable(reasons).map(|refusal| Refusal { curable: !hopeless, ..refusal })
}

/// A claim for one pod at a time is free on no node while another pod, wherever it is, has it.
fn exclusive_claims(pod: &Pod, world: &World<'_>) -> Option<Refusal> {
    let mut others = world.nodes.values().flat_map(|node| &node.pods);
    match others.any(|other| world.volumes.excluded(pod, other)) {
        true => curable(vec![
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode".into(),
        ]),
        false => None,
    }
}

fn volume_limits(node: &Node, world: &World<'_>) -> Option<Refusal> {
    match world.volumes.limits.exceeded(node) {
        true => curable(vec!["node(s) exceed max volume count".into()]),
        false => None,
    }
}

/// Hard constraints of `topologySpreadConstraints` (`whenUnsatisfiable: DoNotSchedule`).
fn topology_spread(pod: &Pod, node: &Node, world: &World<'_>) -> Option<Refusal> {
    let constraints = pod.tree.list("spec.topologySpreadConstraints");
    for constraint in constraints.iter().filter(|c| c.str("whenUnsatisfiable") != "ScheduleAnyway")
    {
        let key = constraint.str("topologyKey");
        let Some(domain) = node.label(key) else {
            return final_(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            );
        };
        let counts = spread_counts(pod, constraint, world);
        let selects_itself = i64::from(spread_selector(pod, constraint).matches_map(pod.labels()));
        let here = counts.get(domain).copied().unwrap_or(0);
        let min_domains = constraint.int("minDomains").unwrap_or(1);
        let lowest = match i64::try_from(counts.len()).unwrap_or(i64::MAX) < min_domains {
            true => 0,
            false => counts.values().copied().min().unwrap_or(0),
        };
        if here + selects_itself - lowest > constraint.int("maxSkew").unwrap_or(1) {
            return curable(vec!["node(s) didn't match pod topology spread constraints".into()]);
        }
    }
    None
}

/// Matching pods by domain, over the nodes that take part.
pub(crate) fn spread_counts(
    pod: &Pod,
    constraint: &Value,
    world: &World<'_>,
) -> OrdMap<String, i64> {
    let selector = spread_selector(pod, constraint);
    let mut counts = OrdMap::new();
    for node in world.nodes.values() {
        let honors = |policy: &str, default: &str| match constraint.str(policy) {
            "" => default == "Honor",
            policy => policy == "Honor",
        };
        let Some(domain) = node.label(constraint.str("topologyKey")) else { continue };
        if honors("nodeAffinityPolicy", "Honor") && !affinity::node_matches(&pod.tree, node) {
            continue;
        }
        if honors("nodeTaintsPolicy", "Ignore")
            && untolerated(&pod.tree, node, &["NoSchedule", "NoExecute"]).next().is_some()
        {
            continue;
        }
        let matching = |other: &&Pod| {
            other.namespace() == pod.namespace()
                && !other.object.deleting()
                && selector.matches_map(other.labels())
        };
        let n = i64::try_from(node.pods.iter().filter(matching).count()).unwrap_or(i64::MAX);
        *counts.entry(domain.to_owned()).or_insert(0) += n;
    }
    counts
}

fn spread_selector(pod: &Pod, constraint: &Value) -> api::selector::Selector {
    let mut selector = api::selector::Selector::from_label_selector(constraint.at("labelSelector"));
    for key in constraint.list("matchLabelKeys").iter().filter_map(Value::as_str) {
        if let Some(value) = pod.labels().get(key).and_then(Value::as_str) {
            selector
                .requirements
                .push(api::selector::Requirement::In(key.to_owned(), vec![value.to_owned()]));
        }
    }
    selector
}

fn pod_affinity(pod: &Pod, node: &Node, world: &World<'_>) -> Option<Refusal> {
    for term in &affinity::required_terms(pod, "podAffinity") {
        let Some(domain) = node.label(&term.topology_key) else {
            return final_("node(s) didn't match pod affinity rules");
        };
        if !in_domain(term, domain, world).any(|other| term.matches(other, world.namespace_labels))
        {
            // The first of a group that wants its own kind may go anywhere.
            let anywhere = world
                .nodes
                .values()
                .flat_map(|node| &node.pods)
                .any(|other| term.matches(other, world.namespace_labels));
            if anywhere || !term.matches(pod, world.namespace_labels) {
                return final_("node(s) didn't match pod affinity rules");
            }
        }
    }
    for term in &affinity::required_terms(pod, "podAntiAffinity") {
        let Some(domain) = node.label(&term.topology_key) else { continue };
        if in_domain(term, domain, world).any(|other| term.matches(other, world.namespace_labels)) {
            return curable(vec!["node(s) didn't match pod anti-affinity rules".into()]);
        }
    }
    for other_node in world.nodes.values() {
        for other in &other_node.pods {
            for term in affinity::required_terms(other, "podAntiAffinity") {
                let same_domain = node.label(&term.topology_key).is_some()
                    && node.label(&term.topology_key) == other_node.label(&term.topology_key);
                if same_domain && term.matches(pod, world.namespace_labels) {
                    return curable(vec![
                        "node(s) didn't satisfy existing pods anti-affinity rules".into(),
                    ]);
                }
            }
        }
    }
    None
}

/// The pods of every node in one domain of the term's topology.
pub(crate) fn in_domain<'a>(
    term: &'a Term,
    domain: &'a str,
    world: &'a World<'_>,
) -> impl Iterator<Item = &'a Pod> {
    world
        .nodes
        .values()
        .filter(move |node| node.label(&term.topology_key) == Some(domain))
        .flat_map(|node| &node.pods)
}
