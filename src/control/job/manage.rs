//! Which pods of a job to make and which to delete.

use std::time::Duration;

use api::kinds::POD;
use api::{Actions, Lens, LensMut, Next, Value, json};
use stdx::Arrange;
use stdx::time::Wall;
use stdx::{OrdSet, backoff::Backoff};

use super::{INDEX, Run, TRACKING, count, indexes, policy};
use crate::support::names::Names;
use crate::support::pods::{self, Pod};
use crate::support::{created, time_at, without_finalizer};

pub(super) const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Pods made or deleted in one reconcile.
const BURST_MAX: usize = 500;
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(600));

impl Run<'_> {
    /// Brings the number of active pods in line with what is still to be done.
    pub(super) fn manage(&self, actions: &mut Actions) -> Next {
        let active = count(self.active());
        let parallelism = self.tree.int("spec.parallelism").unwrap_or(1);
        if self.suspended() {
            self.remove(self.surplus(active), actions);
            return Next::Done;
        }
        let wanted = match self.completions() {
            // Once one has succeeded, those that run may finish, and no more are started.
            None if self.succeeded() > 0 => active,
            None => parallelism,
            Some(completions) => (completions - self.succeeded()).clamp(0, parallelism.max(0)),
        };
        let surplus = self.surplus(active - wanted);
        if !surplus.is_empty() {
            self.remove(surplus, actions);
            return Next::Done;
        }
        let terminating = if self.replaces_only_failed() { self.n_terminating() } else { 0 };
        let missing = usize::try_from(wanted - terminating - active).unwrap_or(0).min(BURST_MAX);
        if missing == 0 {
            return Next::Done;
        }
        if self.limit_per_index().is_none()
            && let Some(wait) = self.backoff()
        {
            return Next::After(wait);
        }
        let mut names = Names::new(self.view, self.object);
        if !self.is_indexed() {
            for _ in 0..missing {
                self.create(None, &mut names, actions);
            }
            return Next::Done;
        }
        let mut next = Next::Done;
        for index in self.pending_indexes(missing) {
            match self.last_failed.get(&index).and_then(|idx| self.backoff_of_index(*idx)) {
                Some(wait) => next = next.or(Next::After(wait)),
                None => self.create(Some(index), &mut names, actions),
            }
        }
        next
    }

    /// The first indexes that have not succeeded, failed or an active pod.
    fn pending_indexes(&self, n: usize) -> Vec<i64> {
        let mut taken: OrdSet<i64> = self.active().filter_map(indexes::of).collect();
        if self.replaces_only_failed() {
            let live = self.pods.iter().filter(|pod| !pod.finished());
            taken.extend(live.filter_map(indexes::of));
        }
        let pending = |index: &i64| {
            !taken.contains(index)
                && !self.succeeded_indexes.contains(index)
                && !self.failed_indexes.contains(index)
        };
        (0..self.completions().unwrap_or(0)).filter(pending).take(n).collect()
    }

    /// At least `n` active pods that are too many; of indexed jobs also doubles and those out of range.
    fn surplus(&self, n: i64) -> Vec<Pod> {
        let n = usize::try_from(n).unwrap_or(0);
        let mut rest: Vec<Pod> = self.active().cloned().collect();
        pods::sort_for_deletion(&mut rest, |_| 0, self.view.now);
        let mut surplus = Vec::new();
        if self.is_indexed() {
            let completions = self.completions().unwrap_or(0);
            let mut seen = OrdSet::new();
            // The best pod of each index stays: those at the end of the order.
            let mut kept = Vec::new();
            for pod in rest.into_iter().rev() {
                let index = indexes::of(&pod).filter(|i| (0..completions).contains(i));
                let done = |i: &i64| self.succeeded_indexes.contains(i);
                match index {
                    Some(index) if !done(&index) && seen.insert(index) => kept.insert(0, pod),
                    _ => surplus.push(pod),
                }
            }
            rest = kept;
        }
        let more = n.saturating_sub(surplus.len());
        surplus.extend(rest.into_iter().take(more));
        surplus.truncate(BURST_MAX);
        surplus
    }

    /// Deletes pods that the job itself has too many of: they do not count as failures.
    fn remove(&self, pods: Vec<Pod>, actions: &mut Actions) {
        for pod in pods {
            if let Some(patch) = without_finalizer(&pod.tree, TRACKING) {
                actions.patch_exact(&pod.object, patch);
            }
            actions.delete(&pod.object);
            let message = format!("Deleted pod: {}", pod.name());
            actions.event(self.object, "SuccessfulDelete", message);
        }
    }

    fn create(&self, index: Option<i64>, names: &mut Names<'_>, actions: &mut Actions) {
        let mut pod = pods::from_template(self.tree.at("spec.template"), self.object);
        let (uid, job) = (self.object.uid(), self.object.name());
        if !self.tree.flag("spec.manualSelector") {
            let labels = pod.map_mut("metadata.labels");
            for (key, value) in
                [(CONTROLLER_UID, uid), ("controller-uid", uid), (JOB_NAME, job), ("job-name", job)]
            {
                labels.entry(key).or_insert_with(|| value.into());
            }
        }
        let finalizers = pod.list_mut("metadata.finalizers");
        if !finalizers.iter().any(|finalizer| finalizer == TRACKING) {
            finalizers.push(TRACKING.into());
        }
        let prefix = match index {
            Some(index) => {
                self.dress(index, &mut pod);
                format!("{job}-{index}-")
            }
            None => format!("{job}-"),
        };
        let name = names.next(&POD, &prefix);
        pod.set("metadata.generateName", prefix);
        pod.set("metadata.name", name.clone());
        actions.create(&POD, pod);
        actions.event(self.object, "SuccessfulCreate", format!("Created pod: {name}"));
    }

    /// What an indexed pod has besides the template.
    fn dress(&self, index: i64, pod: &mut Value) {
        let text = index.to_string();
        pod.map_mut("metadata.labels").insert(INDEX.into(), text.clone().into());
        let annotations = pod.map_mut("metadata.annotations");
        annotations.insert(INDEX.into(), text.into());
        if self.limit_per_index().is_some() {
            let last = self.last_failed.get(&index).map(|idx| &self.pods[*idx]);
            let failed = last.map(|pod| (pod, policy::outcome(self.tree, pod).counts));
            for (key, value) in indexes::failure_annotations(failed) {
                annotations.insert(key.into(), value.into());
            }
        }
        pod.set("spec.hostname", format!("{}-{index}", self.object.name()));
        for list in ["spec.initContainers", "spec.containers"] {
            if !pod.has(list) {
                continue;
            }
            for container in pod.list_mut(list) {
                let set = container.list("env").iter().any(|v| v.str("name") == INDEX_VARIABLE);
                if !set {
                    let path = format!("metadata.labels['{INDEX}']");
                    container.list_mut("env").push(json!({
                        "name": INDEX_VARIABLE,
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}},
                    }));
                }
            }
        }
    }

    /// How long to wait before more pods are made, after the failures since the last success.
    fn backoff(&self) -> Option<Duration> {
        let mut ends: Vec<(Wall, bool)> = self
            .pods
            .iter()
            .filter(|pod| pod.phase() == "Succeeded" || self.pod_failed(pod))
            .map(|pod| (finished_at(pod), pod.phase() == "Succeeded"))
            .collect();
        ends.arrange_by_key(|(at, succeeded)| (self.view.now.corrected(*at), *succeeded));
        let failures = ends.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
        let last = ends.last().filter(|_| failures > 0)?.0;
        self.wait_until(last, failures)
    }

    fn backoff_of_index(&self, idx: usize) -> Option<Duration> {
        let pod = &self.pods[idx];
        let (counted, ignored) = indexes::failures_before(pod);
        self.wait_until(finished_at(pod), usize::try_from(counted + ignored).unwrap_or(0) + 1)
    }

    fn wait_until(&self, last: Wall, failures: usize) -> Option<Duration> {
        let now = self.view.now.wall;
        let last = self.view.now.corrected(last);
        let at = last + BACKOFF.delay(u32::try_from(failures).unwrap_or(u32::MAX));
        // A failure in the future means that the clock was set back: nobody waits for it to come.
        (last <= now && at > now).then(|| at.since(now))
    }
}

/// When the last of a pod's containers ended, or else the next best.
fn finished_at(pod: &Pod) -> Wall {
    let init = pod.tree.list("status.initContainerStatuses").iter();
    let statuses = init.chain(pod.tree.list("status.containerStatuses"));
    let ended = statuses.filter_map(|s| time_at(s, "state.terminated.finishedAt")).max();
    ended
        .or_else(|| time_at(&pod.tree, "metadata.deletionTimestamp"))
        .or_else(|| {
            let ready = crate::support::conditions::find(&pod.tree, "Ready")?;
            time_at(ready, "lastTransitionTime")
        })
        .unwrap_or_else(|| created(&pod.tree))
}
