//! What a deployment says of itself: counts, and the conditions Progressing, Available, ReplicaFailure.

use api::{Lens, LensMut, Next, Value, json};
use stdx::time::{Now, Wall};

use super::{Rollout, Set};
use crate::support::conditions::{self, Condition};
use crate::support::{seconds, time_at, write_status};

/// Pods of all sets and of the new one.
pub(super) struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
    unavailable: i64,
}

/// Sets a condition as Deployments do: nothing changes while status and reason stay the same,
/// and it moves to the end of the list when they do.
pub(super) fn set(list: &mut Vec<Value>, condition: &Condition<'_>, now: Now) {
    let time = api::time::format(now.wall);
    let mut tree = condition.tree(now);
    tree.set("lastUpdateTime", time);
    if let Some(old) = conditions::in_list(list, condition.kind) {
        let same_status = old.str("status") == condition.status;
        if same_status && old.str("reason") == condition.reason {
            return;
        }
        if same_status {
            tree.set("lastTransitionTime", old.str("lastTransitionTime"));
        }
    }
    conditions::remove(list, condition.kind);
    list.push(tree);
}

impl Rollout<'_> {
    pub(super) fn counts(&self, new: Option<usize>) -> Counts {
        // A set that this reconcile makes has no status yet.
        let sum = |field: &str| self.sets.iter().map(|set| set.status(field)).sum::<i64>();
        let wanted: i64 = self.sets.iter().map(Set::replicas).sum();
        let available = sum("availableReplicas");
        Counts {
            replicas: sum("replicas"),
            updated: new.map_or(0, |new| self.sets[new].status("replicas")),
            ready: sum("readyReplicas"),
            available,
            unavailable: (wanted - available).max(0),
        }
    }

    pub(super) fn is_complete(&self, counts: &Counts) -> bool {
        let wanted = self.replicas();
        [counts.updated, counts.replicas, counts.available].iter().all(|count| *count == wanted)
    }

    fn status(&self, counts: &Counts) -> Value {
        let mut status = json!({
            "observedGeneration": self.tree.int("metadata.generation").unwrap_or(0),
            "conditions": self.tree.at("status.conditions").clone(),
        });
        for (field, count) in [
            ("replicas", counts.replicas),
            ("updatedReplicas", counts.updated),
            ("readyReplicas", counts.ready),
            ("availableReplicas", counts.available),
            ("unavailableReplicas", counts.unavailable),
        ] {
            if count != 0 {
                status.set(field, count);
            }
        }
        if let Some(collisions) = self.tree.int("status.collisionCount") {
            status.set("collisionCount", collisions);
        }
        let available = match counts.available >= self.replicas() - self.max_unavailable() {
            true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
            false => (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ),
        };
        let (state, reason, message) = (available.0, available.1, available.2.to_owned());
        let condition = Condition { kind: "Available", status: state, reason, message };
        set(status.list_mut("conditions"), &condition, self.view.now);
        status
    }

    /// Writes the status if it is news; `rollout` also judges progress.
    pub(super) fn tell_status(&mut self, new: Option<usize>, rollout: bool) -> Next {
        let counts = self.counts(new);
        let mut status = self.status(&counts);
        if rollout {
            self.judge(new, &counts, &mut status);
        }
        let before = self.actions.list.len();
        write_status(self.actions, self.object, self.tree, status.clone());
        match rollout && self.actions.list.len() == before {
            true => self.check_again(&counts),
            false => Next::Done,
        }
    }

    pub(super) fn judged_status(&self, new: Option<usize>) -> Value {
        let counts = self.counts(new);
        let mut status = self.status(&counts);
        self.judge(new, &counts, &mut status);
        status
    }

    /// Sets the Progressing and ReplicaFailure conditions.
    fn judge(&self, new: Option<usize>, counts: &Counts, status: &mut Value) {
        let now = self.view.now;
        let old = self.tree.at("status");
        let present = conditions::find(self.tree, "Progressing");
        let reason = present.map_or("", |condition| condition.str("reason"));
        let list = status.list_mut("conditions");
        if self.deadline().is_none() {
            conditions::remove(list, "Progressing");
        }
        let done = counts.replicas == counts.updated && reason == "NewReplicaSetAvailable";
        let who = match new {
            Some(new) => format!("ReplicaSet \"{}\"", self.sets[new].name()),
            None => format!("Deployment \"{}\"", self.object.name()),
        };
        let progressing =
            |status, reason, message| Condition { kind: "Progressing", status, reason, message };
        let was = |field: &str| old.int(field).unwrap_or(0);
        let progressed = counts.updated > was("updatedReplicas")
            || counts.replicas - counts.updated < was("replicas") - was("updatedReplicas")
            || counts.ready > was("readyReplicas")
            || counts.available > was("availableReplicas");
        if self.deadline().is_none() || done {
        } else if self.is_complete(counts) {
            let message = format!("{who} has successfully progressed.");
            set(list, &progressing("True", "NewReplicaSetAvailable", message), now);
        } else if new.is_some_and(|new| self.sets[new].made) {
            let name = new.map_or("", |new| self.sets[new].name());
            let message = format!("Created new replica set \"{name}\"");
            set(list, &progressing("True", "NewReplicaSetCreated", message), now);
        } else if let (None, Some(new)) = (present, new) {
            let message = format!("Found new replica set \"{}\"", self.sets[new].name());
            set(list, &progressing("True", "FoundNewReplicaSet", message), now);
        } else if progressed {
            let condition =
                progressing("True", "ReplicaSetUpdated", format!("{who} is progressing."));
            let since = present
                .filter(|condition| condition.str("status") == "True")
                .map(|condition| condition.str("lastTransitionTime").to_owned());
            conditions::remove(list, "Progressing");
            set(list, &condition, now);
            if let (Some(since), Some(last)) = (since, list.last_mut()) {
                last.set("lastTransitionTime", since);
            }
        } else if self.timed_out(present, reason) {
            let message = format!("{who} has timed out progressing.");
            set(list, &progressing("False", "ProgressDeadlineExceeded", message), now);
        }
        match self.replica_failure(new) {
            Some(failure) => set(
                list,
                &Condition {
                    kind: "ReplicaFailure",
                    status: failure.str("status"),
                    reason: failure.str("reason"),
                    message: failure.str("message").to_owned(),
                },
                now,
            ),
            None => conditions::remove(list, "ReplicaFailure"),
        }
    }

    fn timed_out(&self, present: Option<&Value>, reason: &str) -> bool {
        let Some(present) = present else { return false };
        match reason {
            "NewReplicaSetAvailable" => false,
            "ProgressDeadlineExceeded" => true,
            _ => self.deadline_at(present).is_some_and(|at| at < self.view.now.wall),
        }
    }

    fn deadline_at(&self, progressing: &Value) -> Option<Wall> {
        let updated = time_at(progressing, "lastUpdateTime")?;
        Some(self.view.now.corrected(updated) + seconds(self.deadline()?))
    }

    /// When to come back to find out that there was no progress.
    fn check_again(&self, counts: &Counts) -> Next {
        let Some(present) = conditions::find(self.tree, "Progressing") else { return Next::Done };
        if self.is_complete(counts) || present.str("reason") == "ProgressDeadlineExceeded" {
            return Next::Done;
        }
        match self.deadline_at(present) {
            // A second later, because the times in conditions are cut to whole seconds.
            Some(at) => Next::After(at.since(self.view.now.wall) + seconds(1)),
            None => Next::Done,
        }
    }

    /// The new set's failure to make pods, or else any set's.
    fn replica_failure(&self, new: Option<usize>) -> Option<&Value> {
        let of = |set: &'_ Set| conditions::find(&set.tree, "ReplicaFailure").is_some();
        let set = new
            .map(|new| &self.sets[new])
            .filter(|set| of(set))
            .or_else(|| self.sets.iter().find(|set| of(set)))?;
        conditions::find(&set.tree, "ReplicaFailure")
    }
}
