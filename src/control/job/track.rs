//! Counting finished pods exactly once, and the conditions at a job's end.

use stdx::OrdSet;

use api::{Lens, LensMut, Value, json};

use super::{FAILED, Run, SUCCEEDED, TRACKING, count, indexes, is_tracked, policy, set_condition};
use crate::support::conditions::Condition;
use crate::support::pods::Pod;
use crate::support::{without_finalizer, write_status};

/// Pods under way from finished to counted, in `status.uncountedTerminatedPods`.
const UNCOUNTED_MAX: usize = 500;

impl Run<'_> {
    /// Writes the status, then releases the pods that it now accounts for.
    pub(super) fn track(&mut self) {
        self.count_released();
        let released = self.book_finished();
        let active = count(self.active());
        let ready = count(self.active().filter(|pod| pod.ready()));
        let terminating = self.n_terminating();
        match active {
            0 => drop(self.status.remove("active")),
            _ => self.status.set("active", active),
        }
        self.status.set("ready", ready);
        self.status.set("terminating", terminating);
        if self.is_indexed() {
            self.set_indexes("completedIndexes", indexes::format(&self.succeeded_indexes));
            self.status.set("succeeded", count(self.succeeded_indexes.iter()));
        }
        if self.limit_per_index().is_some() {
            self.set_indexes("failedIndexes", indexes::format(&self.failed_indexes));
        }
        let [succeeded, failed] = &self.uncounted;
        self.status
            .set("uncountedTerminatedPods", json!({"succeeded": succeeded, "failed": failed}));
        let settled = succeeded.is_empty() && failed.is_empty() && released.is_empty();
        self.end(settled && terminating == 0 && active == 0);
        for field in ["succeeded", "failed"] {
            if self.status.int(field) == Some(0) {
                self.status.remove(field);
            }
        }
        let status = std::mem::take(&mut self.status);
        write_status(self.actions, self.object, self.tree, status);
        for idx in released {
            let pod = &self.pods[idx];
            if let Some(patch) = without_finalizer(&pod.tree, TRACKING) {
                self.actions.patch_exact(&pod.object, patch);
            }
        }
    }

    fn set_indexes(&mut self, field: &str, text: String) {
        match text.is_empty() {
            true => drop(self.status.remove(field)),
            false => self.status.set(field, text),
        }
    }

    /// Pods that were booked and have lost their finalizer go from the list to the counters.
    fn count_released(&mut self) {
        let held: OrdSet<&str> =
            self.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pod.object.uid()).collect();
        for (which, field) in [(SUCCEEDED, "succeeded"), (FAILED, "failed")] {
            let before = self.uncounted[which].len();
            self.uncounted[which].retain(|uid| held.contains(&**uid));
            let counted = before - self.uncounted[which].len();
            if counted > 0 {
                let present = self.status.int(field).unwrap_or(0);
                self.status.set(field, present + i64::try_from(counted).unwrap_or(0));
            }
        }
    }

    /// Books newly finished pods; gives the pods that may go once the status is written.
    fn book_finished(&mut self) -> Vec<usize> {
        let mut released = Vec::new();
        for idx in 0..self.pods.len() {
            let pod = &self.pods[idx];
            if !is_tracked(pod) {
                continue;
            }
            let uid = pod.object.uid();
            let booked = self.uncounted.iter().any(|set| set.contains(uid));
            if booked {
                released.push(idx);
                continue;
            }
            if released.len() >= UNCOUNTED_MAX {
                break;
            }
            // With its job gone or at an end, what is being deleted has failed for certain.
            let given_up = pod.deleting() && self.object.deleting();
            if pod.phase() == "Succeeded" {
                // Indexes are their own record.
                if !self.is_indexed() {
                    self.uncounted[SUCCEEDED].insert(uid.to_owned());
                }
                released.push(idx);
            } else if self.pod_failed(pod) || given_up {
                let stays = |pod: &Pod| {
                    let last = indexes::of(pod).and_then(|index| self.last_failed.get(&index));
                    last == Some(&idx) && self.ending.is_none()
                };
                if stays(pod) {
                    continue;
                }
                if policy::outcome(self.tree, pod).counts {
                    let uid = uid.to_owned();
                    self.uncounted[FAILED].insert(uid);
                }
                released.push(idx);
            }
        }
        released
    }

    /// The interim condition as soon as the end is decided, the final one when all pods are done.
    fn end(&mut self, settled: bool) {
        let Some(ending) = self.ending.clone() else { return };
        let now = self.view.now;
        let (interim, last) = match ending.succeeds {
            true => ("SuccessCriteriaMet", "Complete"),
            false => ("FailureTarget", "Failed"),
        };
        let mut kinds = vec![interim];
        if settled {
            kinds.push(last);
        }
        for kind in kinds {
            let condition = Condition {
                kind,
                status: "True",
                reason: &ending.reason,
                message: ending.message.clone(),
            };
            let known = self
                .tree
                .list("status.conditions")
                .iter()
                .any(|c: &Value| c.str("type") == kind && c.str("status") == "True");
            if !known {
                set_condition(&mut self.status, &condition, now);
            }
        }
        if settled && ending.succeeds {
            self.status.set("completionTime", api::time::format(now.wall));
            self.actions.event(self.object, "Completed", "Job completed");
        } else if settled {
            let reason = policy_reason(&ending.reason);
            self.actions.warning(self.object, reason, ending.message);
        }
    }
}

/// The reasons of failed jobs are a closed list, which events need as constants.
fn policy_reason(reason: &str) -> &'static str {
    const REASONS: &[&str] = &[
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "PodFailurePolicy",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    REASONS.iter().find(|known| **known == reason).copied().unwrap_or("Failed")
}
