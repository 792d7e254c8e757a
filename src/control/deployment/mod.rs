//! Deployment: keeps one ReplicaSet per template, and moves pods from the old ones to the new one.

mod revisions;
mod rollout;
mod scaling;
mod status;
#[cfg(test)]
mod tests;

use api::kinds::{DEPLOYMENT, POD, REPLICA_SET};
use api::selector::Selector;
use api::{Actions, Controller, Key, Lens, LensMut, Next, Object, View, Wakes, Watch, json};
use api::{Value, patch};
use stdx::Arrange;

use crate::support::claim::{self, claim};
use crate::support::conditions::{self, Condition};
use crate::support::pods::Pod;
use crate::support::{created, same, scaled, write_status};

pub(crate) struct Deployments;

impl Controller for Deployments {
    const NAME: &'static str = "deployment-controller";
    const WATCHES: &'static [Watch] = &[
        Watch::new(&DEPLOYMENT, Wakes::Itself),
        Watch::new(&REPLICA_SET, Wakes::With(|view, set| claim::wakes(view, set, &DEPLOYMENT))),
        Watch::new(&POD, Wakes::With(wakes_of_pod)),
    ];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let tree = object.tree();
        let selector = Selector::from_label_selector(tree.at("spec.selector"));
        if selector.is_everything() {
            actions.warning(
                &object,
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            let generation = tree.int("metadata.generation").unwrap_or(0);
            if tree.int("status.observedGeneration").unwrap_or(0) < generation {
                let mut status = tree.at("status").clone();
                status.set("observedGeneration", generation);
                write_status(actions, &object, &tree, status);
            }
            return Next::Done;
        }
        let sets = claim(view, &object, &REPLICA_SET, &selector, &|_| true, actions);
        let sets = sets.into_iter().map(Set::new).collect();
        let mut rollout = Rollout { view, object: &object, tree: &tree, sets, actions };
        rollout.reconcile()
    }
}

/// A pod matters to a Recreate deployment only when it stops running.
fn wakes_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    let gone = view.at(&Key::of(pod)).is_none_or(|now| now.uid() != pod.uid());
    let owner = pod.controller().filter(|owner| &*owner.kind == "ReplicaSet");
    let Some(owner) = owner.filter(|_| gone || Pod::new(pod.clone()).finished()) else {
        return Vec::new();
    };
    let set = view.get(&REPLICA_SET, pod.namespace(), &owner.name);
    let deployment = set
        .filter(|set| *set.uid() == *owner.uid)
        .and_then(|set| set.controller())
        .filter(|owner| &*owner.kind == "Deployment")
        .and_then(|owner| view.get(&DEPLOYMENT, pod.namespace(), &owner.name));
    let recreates = |d: &Object| d.tree().str("spec.strategy.type") == "Recreate";
    deployment.filter(recreates).map(|d| Key::of(&d)).into_iter().collect()
}

/// One ReplicaSet of the deployment, with the changes decided so far.
struct Set {
    object: Object,
    /// As it shall be.
    tree: Value,
    changed: bool,
    /// Made in this reconcile; there is no object in the store yet.
    made: bool,
}

impl Set {
    fn new(object: Object) -> Set {
        let tree = object.tree();
        Set { object, tree, changed: false, made: false }
    }

    fn name(&self) -> &str {
        self.tree.str("metadata.name")
    }

    fn replicas(&self) -> i64 {
        self.tree.int("spec.replicas").unwrap_or(1)
    }

    fn status(&self, field: &str) -> i64 {
        self.tree.at("status").int(field).unwrap_or(0)
    }

    /// Pods that are available and stay: a set that was just made smaller still tells of those it
    /// is about to delete (upstream counts them, and may take too many away).
    fn available(&self) -> i64 {
        self.status("availableReplicas").min(self.replicas())
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.tree.entry("metadata.annotations", key)
    }

    fn revision(&self) -> i64 {
        self.annotation(revisions::REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The annotation's value, if it changes.
    fn annotate(&mut self, key: &str, value: &str) -> bool {
        if self.annotation(key) == Some(value) {
            return false;
        }
        self.tree.map_mut("metadata.annotations").insert(key.into(), value.into());
        self.changed = true;
        true
    }
}

/// One reconcile of one deployment.
struct Rollout<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: &'a Value,
    sets: Vec<Set>,
    actions: &'a mut Actions,
}

impl Rollout<'_> {
    fn reconcile(&mut self) -> Next {
        // Oldest first; everything below keeps this order where it breaks ties.
        self.sets.arrange_by(|a, b| {
            created(&a.tree).cmp(&created(&b.tree)).then_with(|| a.name().cmp(b.name()))
        });
        let new = self.find_new();
        if self.object.deleting() {
            return self.finish(new, false);
        }
        if let Some(status) = self.paused_status() {
            write_status(self.actions, self.object, self.tree, status);
            return Next::Done;
        }
        if self.paused() {
            self.sync_revision(new);
            self.scale(new);
            self.clean_up(new);
            return self.finish(new, false);
        }
        let desired = self.replicas().to_string();
        let is_scaling = self
            .sets
            .iter()
            .filter(|set| set.replicas() > 0)
            .any(|set| set.annotation(revisions::DESIRED).is_some_and(|text| text != desired));
        if is_scaling {
            self.sync_revision(new);
            self.scale(new);
            return self.finish(new, false);
        }
        match self.tree.str("spec.strategy.type") {
            "Recreate" => self.recreate(new),
            _ => self.roll(new),
        }
    }

    /// Sends what was decided about the sets, then tells the status.
    fn finish(&mut self, new: Option<usize>, rollout: bool) -> Next {
        for set in &self.sets {
            if set.changed && !set.made {
                self.actions.update(&REPLICA_SET, set.tree.clone());
            }
        }
        // The deployment shows its newest revision. That patch changes its resourceVersion, so the
        // status is told in the reconcile that the patch causes; but that a set was made can only
        // be told now.
        let revision = new.and_then(|new| self.sets[new].annotation(revisions::REVISION));
        let shown = self.tree.entry("metadata.annotations", revisions::REVISION);
        if let Some(revision) = revision.filter(|revision| Some(*revision) != shown)
            && !self.object.deleting()
        {
            let patch = json!({"metadata": {"annotations": {revisions::REVISION: revision}}});
            self.actions.patch(self.object, patch);
            if new.is_some_and(|new| self.sets[new].made) {
                let status = self.judged_status(new);
                self.actions.patch_status(self.object, json!({"status": status}));
            }
            return Next::Done;
        }
        self.tell_status(new, rollout)
    }

    fn replicas(&self) -> i64 {
        self.tree.int("spec.replicas").unwrap_or(1)
    }

    fn paused(&self) -> bool {
        self.tree.flag("spec.paused")
    }

    fn is_rolling(&self) -> bool {
        self.tree.str("spec.strategy.type") != "Recreate"
    }

    /// Surge and unavailability in pods; never both zero (upstream's `ResolveFenceposts`).
    fn fenceposts(&self) -> (i64, i64) {
        let (replicas, rolling) = (self.replicas(), self.tree.at("spec.strategy.rollingUpdate"));
        let part = |field: &str, round_up: bool| match rolling.at(field) {
            Value::Null => scaled(&json!("25%"), replicas, round_up),
            value => scaled(value, replicas, round_up),
        };
        match (part("maxSurge", true), part("maxUnavailable", false)) {
            (0, 0) => (0, 1),
            both => both,
        }
    }

    fn max_surge(&self) -> i64 {
        if self.is_rolling() { self.fenceposts().0 } else { 0 }
    }

    fn max_unavailable(&self) -> i64 {
        match self.is_rolling() && self.replicas() > 0 {
            true => self.fenceposts().1.min(self.replicas()),
            false => 0,
        }
    }

    /// `progressDeadlineSeconds`, if progress is to be watched at all.
    fn deadline(&self) -> Option<i64> {
        match self.tree.int("spec.progressDeadlineSeconds") {
            None => None,
            Some(secs) if secs == i64::from(i32::MAX) => None,
            Some(secs) => Some(secs),
        }
    }

    /// The status that says that the deployment was paused or resumed, if that is news.
    fn paused_status(&self) -> Option<Value> {
        self.deadline()?;
        let condition = conditions::find(self.tree, "Progressing");
        let reason = condition.map_or("", |condition| condition.str("reason"));
        let (reason, message) = match (self.paused(), reason) {
            // Lack of progress stays reported.
            (_, "ProgressDeadlineExceeded") => return None,
            (true, reason) if reason != "DeploymentPaused" => {
                ("DeploymentPaused", "Deployment is paused")
            }
            (false, "DeploymentPaused") => ("DeploymentResumed", "Deployment is resumed"),
            _ => return None,
        };
        let mut status = self.tree.at("status").clone();
        let message = message.to_owned();
        let condition = Condition { kind: "Progressing", status: "Unknown", reason, message };
        status::set(status.list_mut("conditions"), &condition, self.view.now);
        Some(status)
    }
}

/// Equal but for the hash label that the deployment adds.
fn same_template(a: &Value, b: &Value) -> bool {
    let strip = |template: &Value| {
        let mut template = template.clone();
        patch::merge(
            &mut template,
            &json!({"metadata": {"labels": {revisions::HASH_LABEL: null}}}),
        );
        template
    };
    same(&strip(a), &strip(b))
}
