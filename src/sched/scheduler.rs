//! One pass over the queue: pending pods in order of priority, each placed on the world that the ones before left.

use std::collections::{BTreeMap, BTreeSet};

use api::controller::{Controller, Wakes, Watch};
use api::{Action, Actions, Key, Kind, Lens, Next, Object, Value, View, json, kinds};
use stdx::Arrange;

use crate::filter::{self, Refusal, World};
use crate::node::{self, Node};
use crate::pod::Pod;
use crate::preempt;
use crate::profile::Profile;
use crate::score;
use crate::spread;
use crate::volume::Volumes;

/// Pods placed in one pass; the rest follow in the next, on a fresh view.
const BATCH_MAX: usize = 100;

/// kube-scheduler, with its default profile or those that it was given.
#[derive(Debug)]
pub struct Scheduler;

impl Controller for Scheduler {
    const NAME: &'static str = "default-scheduler";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&kinds::POD, Wakes::With(pod_wakes)),
        Watch::new(&kinds::NODE, Wakes::With(always)),
        Watch::new(&kinds::PERSISTENT_VOLUME_CLAIM, Wakes::With(always)),
        Watch::new(&kinds::PERSISTENT_VOLUME, Wakes::With(always)),
        Watch::new(&kinds::STORAGE_CLASS, Wakes::With(always)),
        Watch::new(&kinds::NAMESPACE, Wakes::With(always)),
    ];
    const READS: &'static [&'static Kind] = &[&kinds::POD_DISRUPTION_BUDGET];

    fn reconcile(view: &View<'_>, _key: &Key, actions: &mut Actions) -> Next {
        schedule(view, actions)
    }
}

/// The one key: the queue.
fn queue() -> Vec<Key> {
    vec![Key::new(&kinds::POD, "", "")]
}

fn always(_: &View<'_>, _: &Object) -> Vec<Key> {
    queue()
}

/// A pod matters when it waits for a node, or gives back what it used.
fn pod_wakes(view: &View<'_>, object: &Object) -> Vec<Key> {
    let gone = view.get(&kinds::POD, object.namespace(), object.name()).is_none();
    if gone || object.deleting() {
        return queue();
    }
    let pod = object.tree();
    if pod.str("spec.nodeName").is_empty()
        || matches!(pod.str("status.phase"), "Succeeded" | "Failed")
    {
        queue()
    } else {
        Vec::new()
    }
}

fn schedule(view: &View<'_>, actions: &mut Actions) -> Next {
    let (mut pending, mut placed) = (Vec::new(), Vec::new());
    for object in view.list(&kinds::POD, None) {
        let pod = Pod::new(object);
        if let Some(profile) = pod.pending(view) {
            pending.push((pod, profile));
        } else if !pod.node().is_empty() && !pod.finished() {
            placed.push(pod);
        }
    }
    if pending.is_empty() {
        return Next::Done;
    }
    let mut nodes = node::gather(&view.list(&kinds::NODE, None), placed);
    pending.arrange_by(|(a, _), (b, _)| {
        let age = |pod: &Pod| pod.tree.str("metadata.creationTimestamp").to_owned();
        b.priority
            .cmp(&a.priority)
            .then_with(|| age(a).cmp(&age(b)))
            .then_with(|| a.object.name().cmp(b.object.name()))
    });
    let more = pending.len() > BATCH_MAX;
    for (pod, profile) in pending.into_iter().take(BATCH_MAX) {
        place(pod, profile, &mut nodes, view, actions);
    }
    if more { Next::After(std::time::Duration::ZERO) } else { Next::Done }
}

/// Places one pod, or says why not; `nodes` is then as if it was done.
fn place(
    mut pod: Pod,
    profile: &Profile,
    nodes: &mut BTreeMap<String, Node>,
    view: &View<'_>,
    actions: &mut Actions,
) {
    if profile.gates && pod.gated() {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        condition(&pod, "SchedulingGated", message, None, view, actions);
        return;
    }
    spread::give_constraints(&mut pod, profile, view);
    let volumes = Volumes::of(&pod, view);
    let namespace_labels = |name: &str| {
        view.get(&kinds::NAMESPACE, "", name)
            .map(|ns| ns.tree().at("metadata.labels").clone())
            .unwrap_or_default()
    };
    let world = World { nodes, namespace_labels: &namespace_labels, volumes: &volumes, profile };
    let mut fitting = Vec::new();
    let mut refusals = BTreeMap::new();
    if volumes.blocked.is_none() {
        let enough = enough(nodes.len(), profile);
        for node in from_its_place(&pod, nodes, enough) {
            if fitting.len() >= enough {
                break;
            }
            match filter::check(&pod, node, &world) {
                None => fitting.push(node),
                Some(refusal) => {
                    refusals.insert(node.name.clone(), refusal);
                }
            }
        }
    }
    let nominated = pod.tree.str("status.nominatedNodeName");
    let chosen = fitting
        .iter()
        .copied()
        .find(|node| node.name == nominated)
        .or_else(|| score::best(&pod, &fitting, &world));
    if let Some(node) = chosen {
        let name = node.name.clone();
        assign(&pod, &name, &volumes, actions);
        if let Some(node) = nodes.get_mut(&name) {
            node.add(pod);
        }
        return;
    }
    let (victims, helpless) = match volumes.blocked.is_none() && profile.preempts {
        true => preempt::find(&pod, &world, &refusals, view),
        false => (None, BTreeSet::new()),
    };
    let message = message(
        nodes.len(),
        &volumes,
        &refusals,
        (victims.is_none() && profile.preempts).then_some(&helpless),
    );
    let nominate = victims.as_ref().map(|victims| victims.node.clone());
    condition(&pod, "Unschedulable", &message, nominate.as_deref(), view, actions);
    let reserved = nominate.unwrap_or_else(|| nominated.to_owned());
    if let Some(victims) = victims {
        evict(&pod, &profile.name, &victims, nodes, view, actions);
    }
    // Room that was made for this pod is not given to those after it.
    if let Some(node) = nodes.get_mut(&reserved) {
        node.add(pod);
    }
}

/// How many nodes that would do are looked for among so many.
fn enough(n_nodes: usize, profile: &Profile) -> usize {
    /// As upstream: below this it is not worth it.
    const FEW: usize = 100;
    match profile.nodes_percent {
        100.. => usize::MAX,
        percent => (n_nodes * usize::from(percent) / 100).max(FEW),
    }
}

/// The nodes in order of name; where not all are looked at, each pod begins at a place of its own.
fn from_its_place<'n>(
    pod: &Pod,
    nodes: &'n BTreeMap<String, Node>,
    enough: usize,
) -> impl Iterator<Item = &'n Node> {
    let begin = match nodes.len() > enough {
        true => pod.object.uid().bytes().fold(0, |n, byte| n * 31 % 1_000_003 + usize::from(byte)),
        false => 0,
    };
    let begin = begin % nodes.len().max(1);
    nodes.values().skip(begin).chain(nodes.values().take(begin))
}

fn assign(pod: &Pod, node: &str, volumes: &Volumes, actions: &mut Actions) {
    // Claims that wait hear of the node first; when they are bound their change wakes us again.
    for claim in volumes.to_select(node) {
        actions.patch(claim, Volumes::select_patch(node));
    }
    if !volumes.ready() {
        return;
    }
    actions.push(Action::Bind {
        namespace: pod.namespace().to_owned(),
        pod: pod.object.name().to_owned(),
        uid: pod.object.uid().to_owned(),
        node: node.to_owned(),
    });
    let (namespace, name) = (pod.namespace(), pod.object.name());
    actions.event(
        &pod.object,
        "Scheduled",
        format!("Successfully assigned {namespace}/{name} to {node}"),
    );
}

/// Writes `PodScheduled: False` where it says something new, with the event that goes with it.
fn condition(
    pod: &Pod,
    reason: &'static str,
    message: &str,
    nominate: Option<&str>,
    view: &View<'_>,
    actions: &mut Actions,
) {
    let mut conditions = pod.tree.list("status.conditions").to_vec();
    let now = api::time::format(view.now.wall);
    let old = conditions.iter().position(|c| c.str("type") == "PodScheduled");
    let same = old.is_some_and(|idx| {
        let old = &conditions[idx];
        old.str("status") == "False" && old.str("reason") == reason && old.str("message") == message
    });
    if same && nominate.is_none_or(|node| node == pod.tree.str("status.nominatedNodeName")) {
        return;
    }
    let changed_at = old
        .filter(|idx| conditions[*idx].str("status") == "False")
        .map(|idx| conditions[idx].str("lastTransitionTime").to_owned());
    let fresh = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
        "lastProbeTime": null, "lastTransitionTime": changed_at.unwrap_or(now),
    });
    match old {
        Some(idx) => conditions[idx] = fresh,
        None => conditions.push(fresh),
    }
    let mut status = json!({"conditions": conditions});
    if let (Value::Object(status), Some(node)) = (&mut status, nominate) {
        status.insert("nominatedNodeName".into(), node.into());
    }
    // The whole list is replaced, so it must be the list that was seen.
    actions.push(Action::Patch {
        key: Key::of(&pod.object),
        subresource: "status",
        uid: pod.object.uid().to_owned(),
        revision: Some(pod.object.revision()),
        patch: json!({"status": status}),
    });
    if !same && reason == "Unschedulable" {
        actions.warning(&pod.object, "FailedScheduling", message);
    }
}

fn evict(
    pod: &Pod,
    by: &str,
    victims: &preempt::Victims,
    nodes: &mut BTreeMap<String, Node>,
    view: &View<'_>,
    actions: &mut Actions,
) {
    for victim in &victims.pods {
        if victim.deleting() {
            continue;
        }
        let mut conditions = victim.tree().list("status.conditions").to_vec();
        conditions.retain(|c| c.str("type") != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{by}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": api::time::format(view.now.wall),
        }));
        actions.patch_status(victim, json!({"status": {"conditions": conditions}}));
        actions.delete(victim);
        actions.event(
            victim,
            "Preempted",
            format!("Preempted by pod {} on node {}", pod.object.uid(), victims.node),
        );
    }
    if let Some(node) = nodes.get_mut(&victims.node) {
        for victim in &victims.pods {
            node.remove(victim.uid());
        }
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ...`
fn message(
    n_nodes: usize,
    volumes: &Volumes,
    refusals: &BTreeMap<String, Refusal>,
    helpless: Option<&BTreeSet<String>>,
) -> String {
    if n_nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let reasons = match &volumes.blocked {
        Some(reason) => reason.clone(),
        None => {
            tally(refusals.values().flat_map(|refusal| refusal.reasons.iter().map(String::as_str)))
        }
    };
    let mut text = format!("0/{n_nodes} nodes are available: {reasons}.");
    if let Some(helpless) = helpless {
        let why = (0..n_nodes).map(|idx| {
            if idx < helpless.len() {
                "No preemption victims found for incoming pod"
            } else {
                "Preemption is not helpful for scheduling"
            }
        });
        text.push_str(&format!(" preemption: 0/{n_nodes} nodes are available: {}.", tally(why)));
    }
    text
}

/// `1 Insufficient cpu, 2 Too many pods`, sorted as upstream sorts them.
fn tally<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> =
        counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.arrange();
    texts.join(", ")
}

#[cfg(test)]
mod tests;
