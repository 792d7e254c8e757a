//! StatefulSet: pods with names, storage and order that last.

mod claims;
mod identity;
#[cfg(test)]
mod tests;

use std::time::Duration;

use api::kinds::{PERSISTENT_VOLUME_CLAIM, POD, STATEFUL_SET};
use api::selector::Selector;
use api::{
    Action, Actions, Controller, Key, Kind, Lens, LensMut, Next, Object, OnFailure, Status, Value,
    View, Wakes, Watch,
};
use stdx::time::Now;
use stdx::{Arrange, OrdSet};

use crate::support::claim::{claim, wakes};
use crate::support::pods::Pod;
use crate::support::revisions::{History, Revision};
use crate::support::write_status;

const REVISION_LABEL: &str = "controller-revision-hash";

/// How long a name that another pod has is left alone before it is looked at again.
const OCCUPIED_RETRY: Duration = Duration::from_secs(5);

pub(crate) struct StatefulSets;

impl Controller for StatefulSets {
    const NAME: &'static str = "statefulset-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&STATEFUL_SET, Wakes::Itself),
        Watch::new(&POD, Wakes::With(|view, pod| wakes(view, pod, &STATEFUL_SET))),
        Watch::new(&PERSISTENT_VOLUME_CLAIM, Wakes::With(wakes_of_claim)),
    ];
    const READS: &'static [&'static Kind] = &[&api::kinds::CONTROLLER_REVISION];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let tree = object.tree();
        let selector = Selector::from_label_selector(tree.at("spec.selector"));
        let member = |pod: &Object| identity::ordinal(object.name(), pod.name()).is_some();
        let pods = claim(view, &object, &POD, &selector, &member, actions);
        let pods = pods.into_iter().filter(member).map(Pod::new).collect();
        let history = History::sync(view, &object, &tree, actions);
        actions.on_failure = Some(OnFailure { about: object.clone(), then: refused });
        let update = history.update().clone();
        let current = history.named(tree.str("status.currentRevision")).unwrap_or(&update).clone();
        let mut run = Run {
            view,
            object: &object,
            tree: &tree,
            pods,
            current,
            update,
            occupied: false,
            actions,
        };
        run.reconcile(&history)
    }
}

/// A claim that goes away may be what a pod is waiting for.
fn wakes_of_claim(view: &View<'_>, claim: &Object) -> Vec<Key> {
    if view.at(&Key::of(claim)).is_some_and(|present| present.uid() == claim.uid()) {
        return Vec::new();
    }
    let mut sets = view.list(&STATEFUL_SET, Some(claim.namespace()));
    sets.retain(|set| claim.name().contains(set.name()));
    sets.iter().map(Key::of).collect()
}

/// One reconcile of one set.
struct Run<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: &'a Value,
    pods: Vec<Pod>,
    current: Revision,
    update: Revision,
    /// A name that a pod of ours should have is another's.
    occupied: bool,
    actions: &'a mut Actions,
}

impl Run<'_> {
    fn reconcile(&mut self, history: &History) -> Next {
        let status = self.status(history);
        write_status(self.actions, self.object, self.tree, status);
        if !self.object.deleting() {
            self.work();
        }
        let pods = self.pods.iter().map(|pod| pod.object.label(REVISION_LABEL).unwrap_or(""));
        let mut used: OrdSet<String> = pods.map(str::to_owned).collect();
        used.extend([self.current.name.clone(), self.update.name.clone()]);
        history.truncate(self.tree, &used, self.actions);
        let min_ready = self.min_ready();
        let waits = self.pods.iter().filter_map(|pod| pod.available_in(min_ready, self.view.now));
        let waits = waits.chain(self.occupied.then_some(OCCUPIED_RETRY));
        waits.min().map_or(Next::Done, |wait: Duration| Next::After(wait))
    }

    fn replicas(&self) -> i64 {
        self.tree.int("spec.replicas").unwrap_or(1)
    }

    fn start(&self) -> i64 {
        self.tree.int("spec.ordinals.start").unwrap_or(0)
    }

    fn min_ready(&self) -> i64 {
        self.tree.int("spec.minReadySeconds").unwrap_or(0)
    }

    fn in_order(&self) -> bool {
        self.tree.str("spec.podManagementPolicy") != "Parallel"
    }

    fn partition(&self) -> i64 {
        self.tree.int("spec.updateStrategy.rollingUpdate.partition").unwrap_or(0)
    }

    fn is_rolling(&self) -> bool {
        self.tree.str("spec.updateStrategy.type") != "OnDelete"
    }

    fn ordinals(&self) -> std::ops::Range<i64> {
        self.start()..self.start() + self.replicas()
    }

    fn pod(&self, ordinal: i64) -> Option<&Pod> {
        let name = format!("{}-{ordinal}", self.object.name());
        self.pods.iter().find(|pod| pod.name() == name)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.phase() == "Running" && pod.available(self.min_ready(), self.view.now)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_available(pod) && !pod.deleting()
    }

    /// One round of steps: living pods first, then those beyond the range, then updates.
    fn work(&mut self) {
        self.fix_claims();
        for ordinal in self.ordinals() {
            if self.tend(ordinal) {
                return;
            }
        }
        if !self.condemn() && self.is_rolling() {
            self.roll();
        }
    }

    /// Sees to the pod of one ordinal; true if the others have to wait for it.
    fn tend(&mut self, ordinal: i64) -> bool {
        let in_order = self.in_order();
        let Some(pod) = self.pod(ordinal).cloned() else {
            return self.create(ordinal) && in_order;
        };
        if pod.finished() && !pod.deleting() {
            let (namespace, name) = (self.object.namespace(), self.object.name());
            let message = |how: &str| {
                format!("StatefulSet {namespace}/{name} is recreating {how} Pod {}", pod.name())
            };
            if pod.phase() == "Failed" {
                self.actions.warning(self.object, "RecreatingFailedPod", message("failed"));
            } else {
                let message = message("terminated");
                self.actions.event(self.object, "RecreatingTerminatedPod", message);
            }
            self.delete(&pod);
            return in_order;
        }
        if pod.phase() == "Pending" && !pod.deleting() {
            self.create_claims(ordinal, pod.name());
        }
        if in_order && !self.is_healthy(&pod) {
            return true;
        }
        if !pod.deleting()
            && let Some(patch) = self.identity_patch(&pod, ordinal)
        {
            self.actions.patch_exact(&pod.object, patch);
        }
        false
    }

    /// Makes the pod and its claims; true if it is under way.
    fn create(&mut self, ordinal: i64) -> bool {
        let name = format!("{}-{ordinal}", self.object.name());
        if self.claim_is_stale(&name) {
            return true;
        }
        // The name is another's, or still a former pod's: to ask again and again makes it no sooner free.
        if let Some(other) = self.view.get(&POD, self.object.namespace(), &name) {
            if !other.deleting() {
                let set = self.object.name();
                let message = format!(
                    "create Pod {name} in StatefulSet {set} failed error: pods \"{name}\" already exists"
                );
                self.actions.warning(self.object, "FailedCreate", message);
            }
            self.occupied = true;
            return true;
        }
        self.create_claims(ordinal, &name);
        let old = self.is_rolling() && ordinal < self.start() + self.partition();
        let revision = if old { &self.current } else { &self.update };
        let pod = self.new_pod(ordinal, &name, revision);
        self.actions.create(&POD, pod);
        let message = format!("create Pod {name} in StatefulSet {} successful", self.object.name());
        self.actions.event(self.object, "SuccessfulCreate", message);
        true
    }

    fn delete(&mut self, pod: &Pod) {
        self.actions.delete(&pod.object);
        let (pod, set) = (pod.name(), self.object.name());
        let message = format!("delete Pod {pod} in StatefulSet {set} successful");
        self.actions.event(self.object, "SuccessfulDelete", message);
    }

    /// Deletes pods beyond the range, highest first; true if anything is still to go.
    fn condemn(&mut self) -> bool {
        let range = self.ordinals();
        let ordinal_of = |pod: &Pod| identity::ordinal(self.object.name(), pod.name());
        let mut condemned: Vec<(i64, Pod)> = self
            .pods
            .iter()
            .filter_map(|pod| Some((ordinal_of(pod)?, pod.clone())))
            .filter(|(ordinal, _)| !range.contains(ordinal))
            .collect();
        condemned.arrange_by_key(|(ordinal, _)| -ordinal);
        let living = range.filter_map(|ordinal| self.pod(ordinal));
        let lowest_first = living.chain(condemned.iter().rev().map(|(_, pod)| pod));
        let unhealthy = lowest_first
            .into_iter()
            .find(|pod| !self.is_healthy(pod))
            .map(|pod| pod.object.clone());
        let any = !condemned.is_empty();
        for (_, pod) in condemned {
            let in_order = self.in_order();
            if pod.deleting() {
                if in_order {
                    break;
                }
                continue;
            }
            if in_order && !self.is_available(&pod) && unhealthy.as_ref() != Some(&pod.object) {
                break;
            }
            self.delete(&pod);
            if in_order {
                break;
            }
        }
        any
    }

    /// Deletes the highest pod of another revision; it comes back as it should be.
    fn roll(&mut self) {
        for ordinal in self.ordinals().rev() {
            if ordinal < self.start() + self.partition() {
                return;
            }
            let Some(pod) = self.pod(ordinal).cloned() else { return };
            let revision = pod.object.label(REVISION_LABEL).unwrap_or("");
            if revision != self.update.name && !pod.deleting() {
                return self.delete(&pod);
            }
            if !self.is_healthy(&pod) {
                return;
            }
        }
    }

    fn status(&self, history: &History) -> Value {
        let live = |pod: &&Pod| !pod.deleting();
        let with = |name: &str| {
            let is = |pod: &&Pod| pod.object.label(REVISION_LABEL) == Some(name);
            self.pods.iter().filter(live).filter(is).count()
        };
        let ready = |pod: &&Pod| pod.phase() == "Running" && pod.ready();
        let n_ready = self.pods.iter().filter(ready).count();
        let n_available = self.pods.iter().filter(|pod| self.is_available(pod)).count();
        let n = self.pods.len();
        let (mut n_current, n_updated) = (with(&self.current.name), with(&self.update.name));
        let mut current = &self.current.name;
        // Wholly updated: the new revision is the current one.
        if self.is_rolling() && n_updated == n && n_ready == n {
            (n_current, current) = (n_updated, &self.update.name);
        }
        let mut status = api::json!({
            "observedGeneration": self.tree.int("metadata.generation").unwrap_or(0),
            "replicas": n,
            "availableReplicas": n_available,
            "currentRevision": current,
            "updateRevision": self.update.name,
            "collisionCount": history.collisions.unwrap_or(0),
        });
        for (field, count) in [
            ("readyReplicas", n_ready),
            ("currentReplicas", n_current),
            ("updatedReplicas", n_updated),
        ] {
            if count > 0 {
                status.set(field, count);
            }
        }
        if self.tree.has("status.conditions") {
            status.set("conditions", self.tree.at("status.conditions").clone());
        }
        status
    }
}

fn refused(set: &Object, refused: &Action, why: &Status, _: Now, actions: &mut Actions) {
    let (reason, text) = match refused {
        Action::Create { kind, object } if **kind == POD => {
            ("FailedCreate", format!("create Pod {}", object.str("metadata.name")))
        }
        Action::Create { kind, object } if **kind == PERSISTENT_VOLUME_CLAIM => {
            ("FailedCreate", format!("create Claim {}", object.str("metadata.name")))
        }
        Action::Delete { key, .. } => ("FailedDelete", format!("delete Pod {}", key.name)),
        _ => return,
    };
    let (name, why) = (set.name(), why.message());
    actions.warning(set, reason, format!("{text} in StatefulSet {name} failed error: {why}"));
}
