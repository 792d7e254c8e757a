//! Setting the clock ends nothing: deadlines and lifetimes are counted in time that has passed.

use std::collections::BTreeMap;

use api::kinds::JOB;
use api::{Action, Actions, Key, Lens, Object, View};
use stdx::time::Mono;

use super::{Change, Check, Known, Verdict};

/// Times in objects are cut to whole seconds.
const SLACK_SECS: u64 = 2;

/// When each Job was made and when it was finished, by uid.
#[derive(Default)]
pub(super) struct Clock {
    made: BTreeMap<String, Mono>,
    finished: BTreeMap<String, Mono>,
}

impl Check for Clock {
    fn changed(&mut self, _: &Known, change: &Change) -> Verdict {
        let Some(job) = change.now.as_ref().filter(|object| *object.kind() == JOB) else {
            return Ok(());
        };
        let now = rt::now().mono;
        let made = *self.made.entry(job.uid().to_owned()).or_insert(now);
        let tree = job.tree();
        let condition = |kind: &str| {
            let list = tree.list("status.conditions").iter();
            list.clone().find(|c| c.str("type") == kind && c.str("status") == "True")
        };
        if condition("Complete").or(condition("Failed")).is_some() {
            self.finished.entry(job.uid().to_owned()).or_insert(now);
        }
        let late =
            condition("FailureTarget").is_some_and(|c| c.str("reason") == "DeadlineExceeded");
        match tree.int("spec.activeDeadlineSeconds").filter(|_| late) {
            Some(secs) => passed(job, "activeDeadlineSeconds", made, secs),
            None => Ok(()),
        }
    }

    fn decided(&mut self, name: &str, view: &View<'_>, key: &Key, actions: &Actions) -> Verdict {
        let deletes = actions.list.iter().any(|action| matches!(action, Action::Delete { .. }));
        if name != "ttl-after-finished-controller" || !deletes {
            return Ok(());
        }
        let Some(job) = view.at(key) else { return Ok(()) };
        let secs = job.tree().int("spec.ttlSecondsAfterFinished").unwrap_or(0);
        match self.finished.get(job.uid()) {
            Some(at) => passed(&job, "ttlSecondsAfterFinished", *at, secs),
            None => Ok(()),
        }
    }
}

fn passed(job: &Object, field: &str, since: Mono, secs: i64) -> Verdict {
    let passed = rt::now().mono.since(since).as_secs();
    match passed + SLACK_SECS < u64::try_from(secs).unwrap_or(0) {
        true => Err(format!("{job:?}: {field} of {secs} s is over after {passed} s")),
        false => Ok(()),
    }
}
