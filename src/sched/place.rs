//! Placing one pod: which nodes would do, which is best, and what is said and done about it.

use api::{Action, Actions, Key, Lens, Object, Value, View, json, kinds};
use stdx::{Arrange, OrdMap, OrdSet};

use crate::figures;
use crate::filter::{self, Refusal, World};
use crate::node::Node;
use crate::pod::Pod;
use crate::preempt;
use crate::profile::Profile;
use crate::score;
use crate::spread;
use crate::volume::Volumes;

/// Places one pod, or says why not; `nodes` is then as if it was done.
pub(crate) fn place(
    mut pod: Pod,
    profile: &Profile,
    nodes: &mut OrdMap<String, Node>,
    view: &View<'_>,
    actions: &mut Actions,
) {
    if profile.gates && pod.gated() {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        condition(&pod, "SchedulingGated", message, None, view, actions);
        figures::gated(&mut actions.tally);
        return;
    }
    spread::give_constraints(&mut pod, profile, view);
    let done = in_world(&pod, profile, nodes, view, |world| {
        let (fitting, refusals) = look(&pod, world);
        settle(&pod, world, (&fitting, &refusals), &OrdMap::new(), (view, actions))
    });
    done.book(pod, nodes);
}

/// Runs `then` with the world of a pod.
pub(crate) fn in_world<T>(
    pod: &Pod,
    profile: &Profile,
    nodes: &OrdMap<String, Node>,
    view: &View<'_>,
    then: impl FnOnce(&World<'_>) -> T,
) -> T {
    let volumes = Volumes::of(pod, view);
    let namespace_labels = |name: &str| {
        view.get(&kinds::NAMESPACE, "", name)
            .map(|ns| ns.tree().at("metadata.labels").clone())
            .unwrap_or_default()
    };
    then(&World { nodes, namespace_labels: &namespace_labels, volumes: &volumes, profile })
}

/// The nodes that would do, and why the others would not.
pub(crate) fn look<'w>(pod: &Pod, world: &World<'w>) -> (Vec<&'w Node>, OrdMap<String, Refusal>) {
    let (mut fitting, mut refusals) = (Vec::new(), OrdMap::new());
    if world.volumes.blocked.is_none() {
        let enough = enough(world.nodes.len(), world.profile);
        for node in from_its_place(pod, world.nodes, enough) {
            if fitting.len() >= enough {
                break;
            }
            match filter::check(pod, node, world) {
                None => fitting.push(node),
                Some(refusal) => {
                    refusals.insert(node.name.clone(), refusal);
                }
            }
        }
    }
    (fitting, refusals)
}

/// What became of a pod.
pub(crate) struct Done {
    /// The node that it counts at from now on, if there is such a one.
    node: String,
    victims: Vec<Object>,
}

impl Done {
    /// Has the nodes be as if it was done.
    pub(crate) fn book(self, pod: Pod, nodes: &mut OrdMap<String, Node>) {
        let Some(node) = nodes.get_mut(&self.node) else { return };
        for victim in &self.victims {
            node.remove(victim.uid());
        }
        node.add(pod);
    }
}

/// Chooses one of the nodes that would do, or says why there is none, and makes room.
pub(crate) fn settle(
    pod: &Pod,
    world: &World<'_>,
    (fitting, refusals): (&[&Node], &OrdMap<String, Refusal>),
    extra: &OrdMap<String, i64>,
    (view, actions): (&View<'_>, &mut Actions),
) -> Done {
    let (profile, volumes) = (world.profile, world.volumes);
    let nominated = pod.tree.str("status.nominatedNodeName");
    let chosen = fitting
        .iter()
        .copied()
        .find(|node| node.name == nominated)
        .or_else(|| score::best(pod, fitting, world, extra));
    figures::decided(&profile.name, chosen.is_some(), &mut actions.tally);
    if let Some(node) = chosen {
        assign(pod, &node.name, volumes, actions);
        return Done { node: node.name.clone(), victims: Vec::new() };
    }
    let (victims, helpless) = match volumes.blocked.is_none() && profile.preempts {
        true => preempt::find(pod, world, refusals, view),
        false => (None, OrdSet::new()),
    };
    let message = message(
        world.nodes.len(),
        volumes,
        refusals,
        (victims.is_none() && profile.preempts).then_some(&helpless),
    );
    let nominate = victims.as_ref().map(|victims| victims.node.clone());
    condition(pod, "Unschedulable", &message, nominate.as_deref(), view, actions);
    // Room that was made for this pod is not given to those after it.
    let node = nominate.unwrap_or_else(|| nominated.to_owned());
    let victims = victims.map(|victims| {
        evict(pod, &profile.name, &victims, view, actions);
        victims.pods
    });
    Done { node, victims: victims.unwrap_or_default() }
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
    nodes: &'n OrdMap<String, Node>,
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
pub(crate) fn condition(
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
    if !same && reason != "SchedulingGated" {
        actions.warning(&pod.object, "FailedScheduling", message);
    }
}

fn evict(pod: &Pod, by: &str, victims: &preempt::Victims, view: &View<'_>, actions: &mut Actions) {
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
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ...`
fn message(
    n_nodes: usize,
    volumes: &Volumes,
    refusals: &OrdMap<String, Refusal>,
    helpless: Option<&OrdSet<String>>,
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
    let mut counts: OrdMap<&str, usize> = OrdMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> =
        counts.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    texts.arrange();
    texts.join(", ")
}
