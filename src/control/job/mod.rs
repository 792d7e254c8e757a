//! Job: runs pods until enough of them have succeeded.
//!
//! Every pod carries a finalizer until it is counted: a finished pod's uid first goes into
//! `status.uncountedTerminatedPods`, then the finalizer goes, then the counters rise. So each pod
//! counts exactly once, whatever is lost or repeated in between.

mod indexes;
mod manage;
mod policy;
#[cfg(test)]
mod tests;
mod track;

use api::kinds::{JOB, POD};
use api::selector::Selector;
use api::{
    Action, Actions, Controller, Key, Lens, LensMut, Next, Object, OnFailure, Status, Value, View,
    Wakes, Watch, json,
};
use stdx::time::{Now, Wall};
use stdx::{OrdMap, OrdSet};

use crate::support::claim::{claim, wakes};
use crate::support::conditions::{self, Condition};
use crate::support::pods::Pod;
use crate::support::{seconds, time_at, without_finalizer};

pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const MANAGER: &str = "kubernetes.io/job-controller";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

pub(crate) struct Jobs;

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    const WATCHES: &'static [Watch] =
        &[Watch::new(&JOB, Wakes::Itself), Watch::new(&POD, Wakes::With(wakes_of_pod))];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        if key.kind == &POD {
            release_orphan(view, key, actions);
            return Next::Done;
        }
        let job = view.at(key);
        release_orphans(view, key, job.as_ref(), actions);
        let Some(object) = job else { return Next::Done };
        let tree = object.tree();
        let managed_by = tree.str("spec.managedBy");
        let finished = ["Complete", "Failed"].iter().any(|kind| conditions::is_true(&tree, kind));
        if finished || !(managed_by.is_empty() || managed_by == MANAGER) {
            return Next::Done;
        }
        actions.on_failure = Some(OnFailure { about: object.clone(), then: refused });
        Run::new(view, &object, &tree, actions).reconcile()
    }
}

/// The job that owns or may adopt a pod; and the one that a pod without owner was made for, so that
/// an orphan's finalizer goes.
fn wakes_of_pod(view: &View<'_>, pod: &Object) -> Vec<Key> {
    let mut keys = wakes(view, pod, &JOB);
    if let (Some(name), None) = (pod.label("job-name"), pod.controller()) {
        keys.push(Key::new(&JOB, pod.namespace(), name));
    }
    if is_orphan(view, pod) {
        keys.push(Key::of(pod));
    }
    keys
}

/// A pod that no job counts, and that the finalizer would hold for ever: its job let it go, is gone, is
/// another of the same name, or is done.
fn is_orphan(view: &View<'_>, pod: &Object) -> bool {
    // Cheap first: nearly all pods are of no job, or of one that lives.
    let counted_by = match pod.controller() {
        Some(owner) if &*owner.kind != "Job" || !owner.api_version.starts_with("batch/") => {
            return false;
        }
        Some(owner) => view
            .get(&JOB, pod.namespace(), &owner.name)
            .filter(|job| *job.uid() == *owner.uid && !is_finished(&job.tree())),
        None => {
            let adopters = wakes(view, pod, &JOB);
            let mut adopters = adopters.iter().filter_map(|key| view.at(key));
            adopters.find(|job| !job.deleting() && !pod.deleting())
        }
    };
    let held = |pod: &Object| pod.tree().list("metadata.finalizers").iter().any(|f| f == TRACKING);
    counted_by.is_none() && held(pod)
}

fn release_orphan(view: &View<'_>, key: &Key, actions: &mut Actions) {
    if let Some(pod) = view.at(key).filter(|pod| is_orphan(view, pod))
        && let Some(patch) = without_finalizer(&pod.tree(), TRACKING)
    {
        actions.patch_exact(&pod, patch);
    }
}

/// True once a job has its Complete or Failed condition.
pub(crate) fn is_finished(job: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| conditions::is_true(job, kind))
}

/// Pods whose job is gone, or needs to count no more, are not held back.
fn release_orphans(view: &View<'_>, key: &Key, job: Option<&Object>, actions: &mut Actions) {
    let counting = job.filter(|job| !is_finished(&job.tree()));
    for pod in view.list(&POD, Some(&key.namespace)) {
        // Labels are cheap to read, and tell all but pods of hand-made selectors.
        let labelled = pod.label("job-name") == Some(&*key.name);
        let owner = if labelled || job.is_none() { pod.controller() } else { None };
        let uid = match &owner {
            Some(owner) if &*owner.kind == "Job" && *owner.name == *key.name => &*owner.uid,
            // An orphaning deletion took the owner away, and left the finalizer.
            None if labelled => pod.label(manage::CONTROLLER_UID).unwrap_or(""),
            _ => continue,
        };
        if counting.is_none_or(|job| *job.uid() != *uid)
            && let Some(patch) = without_finalizer(&pod.tree(), TRACKING)
        {
            actions.patch_exact(&pod, patch);
        }
    }
}

/// How a job comes to its end.
#[derive(Debug, Clone, PartialEq)]
struct Ending {
    succeeds: bool,
    reason: String,
    message: String,
}

impl Ending {
    fn failure(reason: &str, message: &str) -> Ending {
        Ending { succeeds: false, reason: reason.into(), message: message.into() }
    }

    fn success(reason: &str, message: &str) -> Ending {
        Ending { succeeds: true, reason: reason.into(), message: message.into() }
    }
}

/// One reconcile of one job.
struct Run<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: &'a Value,
    pods: Vec<Pod>,
    /// The status as it shall be.
    status: Value,
    uncounted: [OrdSet<String>; 2],
    succeeded_indexes: OrdSet<i64>,
    failed_indexes: OrdSet<i64>,
    /// Of each index the failed pod that stays until it is replaced: it holds the failure count.
    last_failed: OrdMap<i64, usize>,
    ending: Option<Ending>,
    actions: &'a mut Actions,
}

const SUCCEEDED: usize = 0;
const FAILED: usize = 1;

impl<'a> Run<'a> {
    fn new(
        view: &'a View<'a>,
        object: &'a Object,
        tree: &'a Value,
        actions: &'a mut Actions,
    ) -> Run<'a> {
        let selector = match tree.at("spec.selector") {
            Value::Null => Selector::from_map(&json!({manage::CONTROLLER_UID: object.uid()})),
            selector => Selector::from_label_selector(selector),
        };
        let pods = claim(view, object, &POD, &selector, &|_| true, actions);
        let set = |field: &str| {
            let list = tree.at("status.uncountedTerminatedPods").list(field).iter();
            list.filter_map(|uid| uid.as_str().map(str::to_owned)).collect()
        };
        let completions = tree.int("spec.completions").unwrap_or(0);
        let indexes = |field: &str| {
            let mut set = indexes::parse(tree.at("status").str(field));
            set.retain(|index| *index < completions);
            set
        };
        Run {
            view,
            object,
            tree,
            pods: pods.into_iter().map(Pod::new).collect(),
            status: tree.at("status").clone(),
            uncounted: [set("succeeded"), set("failed")],
            succeeded_indexes: indexes("completedIndexes"),
            failed_indexes: indexes("failedIndexes"),
            last_failed: OrdMap::new(),
            ending: None,
            actions,
        }
    }

    fn reconcile(&mut self) -> Next {
        let now = self.view.now;
        if !self.tree.has("status.startTime") && !self.suspended() {
            self.status.set("startTime", api::time::format(now.wall));
        }
        if self.is_indexed() {
            self.note_indexes();
        }
        self.ending = self.ending();
        let mut next = self.deadline_next();
        let mut later = Actions::default();
        if self.ending.is_some() {
            for pod in self.pods.iter().filter(|pod| pod.active()) {
                later.delete(&pod.object);
                let message = format!("Deleted pod: {}", pod.name());
                later.event(self.object, "SuccessfulDelete", message);
            }
        } else {
            if !self.object.deleting() {
                next = next.or(self.manage(&mut later));
            }
            let succeeded = self.succeeded();
            let enough = match self.completions() {
                None => succeeded > 0,
                Some(completions) => succeeded >= completions,
            };
            if enough && self.active().next().is_none() {
                let message = "Reached expected number of succeeded pods";
                self.ending = Some(Ending::success("CompletionsReached", message));
            } else if !self.object.deleting() {
                self.tell_suspension();
            }
        }
        self.track();
        self.actions.list.append(&mut later.list);
        next
    }

    fn suspended(&self) -> bool {
        self.tree.flag("spec.suspend")
    }

    fn is_indexed(&self) -> bool {
        self.tree.str("spec.completionMode") == "Indexed"
    }

    fn completions(&self) -> Option<i64> {
        self.tree.int("spec.completions")
    }

    fn limit_per_index(&self) -> Option<i64> {
        self.tree.int("spec.backoffLimitPerIndex").filter(|_| self.is_indexed())
    }

    fn active(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.active())
    }

    /// Pods on their way out that have not finished.
    fn n_terminating(&self) -> i64 {
        count(self.pods.iter().filter(|pod| pod.deleting() && !pod.finished()))
    }

    /// Replacements wait until a pod has really failed.
    fn replaces_only_failed(&self) -> bool {
        self.tree.str("spec.podReplacementPolicy") == "Failed"
            || self.tree.has("spec.podFailurePolicy")
    }

    fn pod_failed(&self, pod: &Pod) -> bool {
        match pod.phase() {
            "Failed" => true,
            "Succeeded" => false,
            _ => pod.deleting() && !self.replaces_only_failed(),
        }
    }

    /// Finished pods that are in no counter yet.
    fn newly(&self, which: usize) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| {
            let is = match which {
                SUCCEEDED => pod.phase() == "Succeeded",
                _ => self.pod_failed(pod),
            };
            is && is_tracked(pod) && !self.uncounted[which].contains(pod.object.uid())
        })
    }

    fn succeeded(&self) -> i64 {
        if self.is_indexed() {
            return count(self.succeeded_indexes.iter());
        }
        self.tree.int("status.succeeded").unwrap_or(0)
            + count(self.uncounted[SUCCEEDED].iter())
            + count(self.newly(SUCCEEDED))
    }

    fn n_failed(&self) -> i64 {
        let counts = |pod: &&Pod| policy::outcome(self.tree, pod).counts;
        self.tree.int("status.failed").unwrap_or(0)
            + count(self.uncounted[FAILED].iter())
            + count(self.newly(FAILED).filter(counts))
    }

    /// Why the job is to end, if it is; decided once, then read from the status.
    fn ending(&self) -> Option<Ending> {
        for (kind, succeeds) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
            if let Some(condition) =
                conditions::find(self.tree, kind).filter(|c| c.str("status") == "True")
            {
                let (reason, message) = (condition.str("reason"), condition.str("message"));
                return Some(Ending { succeeds, reason: reason.into(), message: message.into() });
            }
        }
        let failed = self.pods.iter().filter(|pod| self.pod_failed(pod));
        for pod in failed {
            if let Some(message) = policy::outcome(self.tree, pod).fails_job {
                return Some(Ending::failure("PodFailurePolicy", &message));
            }
        }
        let limit = self.tree.int("spec.backoffLimit").unwrap_or(match self.limit_per_index() {
            Some(_) => i64::from(i32::MAX),
            None => 6,
        });
        if self.n_failed() > limit || self.restarts_exceed(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(Ending::failure("BackoffLimitExceeded", message));
        }
        if self.deadline().is_some_and(|at| at <= self.view.now.wall) {
            let message = "Job was active longer than specified deadline";
            return Some(Ending::failure("DeadlineExceeded", message));
        }
        if !self.is_indexed() {
            return None;
        }
        let (n_failed, n_succeeded) =
            (count(self.failed_indexes.iter()), count(self.succeeded_indexes.iter()));
        if self.limit_per_index().is_some() {
            if self.tree.int("spec.maxFailedIndexes").is_some_and(|max| n_failed > max) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(Ending::failure("MaxFailedIndexesExceeded", message));
            }
            if n_failed > 0 && n_failed + n_succeeded >= self.completions().unwrap_or(0) {
                return Some(Ending::failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        let rule = policy::success(self.tree, &self.succeeded_indexes)?;
        Some(Ending::success("SuccessPolicy", &format!("Matched rules at index {rule}")))
    }

    /// Containers restarted in place (restartPolicy OnFailure) more often than the limit.
    fn restarts_exceed(&self, limit: i64) -> bool {
        if self.tree.str("spec.template.spec.restartPolicy") != "OnFailure" {
            return false;
        }
        let live = self.pods.iter().filter(|pod| matches!(pod.phase(), "Running" | "Pending"));
        let restarts: i64 = live
            .flat_map(|pod| {
                let init = pod.tree.list("status.initContainerStatuses").iter();
                init.chain(pod.tree.list("status.containerStatuses"))
            })
            .map(|status| status.int("restartCount").unwrap_or(0))
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn deadline(&self) -> Option<Wall> {
        let secs = self.tree.int("spec.activeDeadlineSeconds").filter(|_| !self.suspended())?;
        let started = time_at(self.tree, "status.startTime")?;
        Some(self.view.now.corrected(started) + seconds(secs))
    }

    fn deadline_next(&self) -> Next {
        let now = self.view.now.wall;
        let secs = self.tree.int("spec.activeDeadlineSeconds").filter(|_| !self.suspended());
        match (self.deadline(), secs) {
            _ if self.ending.is_some() => Next::Done,
            (Some(at), _) if at > now => Next::After(at.since(now)),
            (None, Some(secs)) => Next::After(seconds(secs)),
            _ => Next::Done,
        }
    }

    fn tell_suspension(&mut self) {
        let now = self.view.now;
        let suspended = conditions::is_true(self.tree, "Suspended");
        let (status, reason, message, event) = match (self.suspended(), suspended) {
            (true, false) => ("True", "JobSuspended", "Job suspended", "Suspended"),
            (false, true) => ("False", "JobResumed", "Job resumed", "Resumed"),
            _ => return,
        };
        let condition = Condition { kind: "Suspended", status, reason, message: message.into() };
        set_condition(&mut self.status, &condition, now);
        if self.suspended() {
            self.status.remove("startTime");
        } else {
            self.status.set("startTime", api::time::format(now.wall));
        }
        self.actions.event(self.object, event, message);
    }
}

fn is_tracked(pod: &Pod) -> bool {
    pod.tree.list("metadata.finalizers").iter().any(|finalizer| finalizer == TRACKING)
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

/// Job conditions also tell when they were last looked at.
fn set_condition(status: &mut Value, condition: &Condition<'_>, now: Now) {
    let list = status.list_mut("conditions");
    conditions::set(list, condition, now);
    if let Some(entry) = list.iter_mut().find(|entry| entry.str("type") == condition.kind) {
        entry.set("lastProbeTime", api::time::format(now.wall));
    }
}

fn refused(job: &Object, refused: &Action, why: &Status, _: Now, actions: &mut Actions) {
    let (reason, doing) = match refused {
        Action::Create { .. } => ("FailedCreate", "creating"),
        Action::Delete { .. } => ("FailedDelete", "deleting"),
        _ => return,
    };
    actions.warning(job, reason, format!("Error {doing}: {}", why.message()));
}
