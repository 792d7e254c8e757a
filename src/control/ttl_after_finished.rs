//! TTL after finished: deletes a Job some time after it ended.

use api::controller::Action;
use api::kinds::JOB;
use api::{Actions, Controller, Key, Lens, Next, View, Wakes, Watch};

use crate::job::is_finished;
use crate::support::{conditions, seconds, time_at};

pub(crate) struct TtlAfterFinished;

impl Controller for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished-controller";
    const WATCHES: &'static [Watch] = &[Watch::new(&JOB, Wakes::Itself)];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(job) = view.at(key).filter(|job| !job.deleting()) else { return Next::Done };
        let tree = job.tree();
        let ttl = tree.int("spec.ttlSecondsAfterFinished").filter(|_| is_finished(&tree));
        let ended = ["Complete", "Failed"].iter().find_map(|kind| {
            let condition = conditions::find(&tree, kind)?;
            time_at(condition, "lastTransitionTime").filter(|_| condition.str("status") == "True")
        });
        let (Some(ttl), Some(ended)) = (ttl, ended) else { return Next::Done };
        let (at, now) = (view.now.corrected(ended) + seconds(ttl), view.now.wall);
        if at > now {
            return Next::After(at.since(now));
        }
        actions.push(Action::Delete {
            key: key.clone(),
            uid: job.uid().into(),
            // The TTL may just have been raised.
            revision: Some(job.revision()),
            grace_secs: None,
            propagation: "Foreground",
        });
        Next::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::reconcile;
    use api::{Value, json};

    #[test]
    fn decisions() {
        let job = |ttl: Value, condition: &str, status: &str| json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "d", "name": "j", "uid": "j"}, "spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": [{"type": condition, "status": status, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
        for (name, tree, want) in [
            ("no ttl", job(Value::Null, "Complete", "True"), ""),
            ("not finished", job(json!(0), "Suspended", "True"), ""),
            ("not yet", job(json!(100), "Complete", "True"), "after 40s\n"),
            ("now", job(json!(60), "Failed", "True"), "delete Job d/j Foreground\n"),
            ("at once", job(json!(0), "Complete", "True"), "delete Job d/j Foreground\n"),
        ] {
            assert_eq!(reconcile::<TtlAfterFinished>([tree], (&JOB, "d", "j"), 60), want, "{name}");
        }
    }
}
