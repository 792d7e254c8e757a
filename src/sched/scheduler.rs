//! One pass over the queue: pending pods in order of priority, each placed on the world that the ones before left.

use std::time::Duration;

use api::controller::{Controller, Wakes, Watch};
use api::{Actions, Key, Kind, Lens, Next, Object, View, kinds};
use stdx::Arrange;

use crate::extend::{ACTIONS_MAX, Batch, go_on};
use crate::figures;
use crate::node;
use crate::place::place;
use crate::pod::Pod;
use crate::profile::Profiles;

/// Pods that extenders are asked about in one pass.
const ASKED_MAX: usize = 100;

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
        Watch::new(&kinds::CSI_NODE, Wakes::With(always)),
        Watch::new(&kinds::CSI_DRIVER, Wakes::With(always)),
        Watch::new(&kinds::CSI_STORAGE_CAPACITY, Wakes::With(always)),
        Watch::new(&kinds::VOLUME_ATTACHMENT, Wakes::With(always)),
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
    figures::begin(pending.len(), &mut actions.tally);
    if pending.is_empty() {
        return Next::Done;
    }
    let mut nodes = node::gather(&view.list(&kinds::NODE, None), placed);
    pending.arrange_by(|(a, _), (b, _)| {
        let age = |pod: &Pod| pod.tree.str("metadata.creationTimestamp").to_owned();
        let was_refused = |pod: &Pod| {
            let conditions = pod.tree.list("status.conditions").iter();
            conditions.filter(|it| it.str("type") == "PodScheduled").count()
        };
        b.priority
            .cmp(&a.priority)
            .then_with(|| was_refused(a).cmp(&was_refused(b)))
            .then_with(|| age(a).cmp(&age(b)))
            .then_with(|| a.object.name().cmp(b.object.name()))
    });
    if Profiles::extenders(view).is_empty() {
        for (pod, profile) in pending {
            if actions.list.len() >= ACTIONS_MAX {
                return Next::After(Duration::ZERO);
            }
            place(pod, profile, &mut nodes, view, actions);
        }
        return Next::Done;
    }
    let pending = pending.into_iter().map(|(pod, _)| pod).collect();
    go_on(Batch { pending, nodes, asked_left: ASKED_MAX, again: false }, view, actions)
}

#[cfg(test)]
mod tests;
