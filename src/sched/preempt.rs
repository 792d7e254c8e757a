//! Preemption: which pods of lower priority would have to go, and from which node it hurts least.

use api::selector::Selector;
use api::{Lens, Object, View, kinds};
use stdx::{Arrange, OrdMap, OrdSet};

use crate::filter::{self, Refusal, World};
use crate::node::Node;
use crate::pod::Pod;

/// Where room can be made, and by whom.
#[derive(Debug)]
pub(crate) struct Victims {
    pub(crate) node: String,
    pub(crate) pods: Vec<Object>,
}

/// Finds the least harmful set of victims. The second part names the nodes where going would be
/// possible but nobody's going suffices.
pub(crate) fn find(
    pod: &Pod,
    world: &World<'_>,
    refusals: &OrdMap<String, Refusal>,
    view: &View<'_>,
) -> (Option<Victims>, OrdSet<String>) {
    let mut helpless = OrdSet::new();
    if pod.tree.str("spec.preemptionPolicy") == "Never" {
        return (None, helpless);
    }
    // Room is being made already: wait for those who are leaving.
    let nominated = world.nodes.get(pod.tree.str("status.nominatedNodeName"));
    if nominated.is_some_and(|node| {
        node.pods.iter().any(|other| other.priority < pod.priority && other.object.deleting())
    }) {
        return (None, helpless);
    }
    let mut best: Option<(Cost, Victims)> = None;
    for (name, _) in refusals.iter().filter(|(_, refusal)| refusal.curable) {
        let Some(node) = world.nodes.get(name) else { continue };
        match on_node(pod, node, world, view) {
            None => {
                helpless.insert(name.clone());
            }
            Some((cost, pods)) => {
                if best.as_ref().is_none_or(|(lowest, _)| cost < *lowest) {
                    best = Some((cost, Victims { node: name.clone(), pods }));
                }
            }
        }
    }
    (best.map(|(_, victims)| victims), helpless)
}

/// Disruption budgets broken, highest priority hit, sum of priorities, number of pods; in this order.
type Cost = (usize, i64, i64, usize);

fn on_node(
    pod: &Pod,
    node: &Node,
    world: &World<'_>,
    view: &View<'_>,
) -> Option<(Cost, Vec<Object>)> {
    let mut lower: Vec<&Pod> =
        node.pods.iter().filter(|other| other.priority < pod.priority).collect();
    if lower.is_empty() {
        return None;
    }
    let mut nodes = world.nodes.clone();
    for other in &lower {
        nodes.get_mut(&node.name)?.remove(other.object.uid());
    }
    if !fits(pod, &node.name, &nodes, world) {
        return None;
    }
    // Give back as many as fit, those with the strongest claim first.
    lower.arrange_by(|a, b| {
        let started = |pod: &Pod| pod.tree.str("status.startTime").to_owned();
        breaks_budget(b, view)
            .cmp(&breaks_budget(a, view))
            .then(b.priority.cmp(&a.priority))
            .then_with(|| started(a).cmp(&started(b)))
    });
    let mut victims = Vec::new();
    for other in lower {
        nodes.get_mut(&node.name)?.add(other.clone());
        if !fits(pod, &node.name, &nodes, world) {
            nodes.get_mut(&node.name)?.remove(other.object.uid());
            victims.push(other);
        }
    }
    let cost = (
        victims.iter().filter(|victim| breaks_budget(victim, view)).count(),
        victims.iter().map(|victim| victim.priority).max().unwrap_or(i64::MIN),
        victims.iter().map(|victim| victim.priority).sum(),
        victims.len(),
    );
    Some((cost, victims.into_iter().map(|victim| victim.object.clone()).collect()))
}

fn fits(pod: &Pod, name: &str, nodes: &OrdMap<String, Node>, world: &World<'_>) -> bool {
    let world = World { nodes, ..*world };
    nodes.get(name).is_some_and(|node| filter::check(pod, node, &world).is_none())
}

/// True if a disruption budget with nothing to spare covers the pod.
fn breaks_budget(pod: &Pod, view: &View<'_>) -> bool {
    view.list(&kinds::POD_DISRUPTION_BUDGET, Some(pod.namespace())).iter().any(|budget| {
        let budget = budget.tree();
        budget.int("status.disruptionsAllowed").unwrap_or(0) <= 0
            && Selector::from_label_selector(budget.at("spec.selector")).matches_map(pod.labels())
    })
}
