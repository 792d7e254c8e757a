//! A Job never has more pods done or at work than it asks for.

use api::kinds::{JOB, POD};
use api::{Lens, Object};

use super::{Change, Check, Known, Verdict};

pub(super) struct Jobs;

impl Check for Jobs {
    fn changed(&mut self, known: &Known, change: &Change) -> Verdict {
        let Some(pod) = change.now.as_ref().filter(|object| *object.kind() == POD) else {
            return Ok(());
        };
        let Some(owner) = pod.controller().filter(|owner| &*owner.kind == "Job") else {
            return Ok(());
        };
        let job = known.get(&JOB, pod.namespace(), &owner.name);
        let Some(job) = job.filter(|job| *job.uid() == *owner.uid) else { return Ok(()) };
        let tree = job.tree();
        let Some(completions) = tree.int("spec.completions") else { return Ok(()) };
        let phases: Vec<(bool, bool)> =
            known.controlled(&POD, job).into_iter().map(phase).collect();
        let count = |test: fn(&(bool, bool)) -> bool| {
            i64::try_from(phases.iter().filter(|phase| test(phase)).count()).unwrap_or(i64::MAX)
        };
        let (active, succeeded) = (count(|p| p.0), count(|p| p.1));
        if active + succeeded > completions {
            return Err(format!(
                "{job:?} has {active} pods at work and {succeeded} done, for {completions} completions"
            ));
        }
        Ok(())
    }
}

/// Whether a pod is at work, and whether it succeeded.
fn phase(pod: &Object) -> (bool, bool) {
    let tree = pod.tree();
    let phase = tree.str("status.phase");
    // A pod that is being deleted counts as failed, however it ends.
    (
        !pod.deleting() && !matches!(phase, "Succeeded" | "Failed"),
        !pod.deleting() && phase == "Succeeded",
    )
}
