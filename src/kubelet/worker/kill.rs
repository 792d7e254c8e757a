//! Ending containers gracefully, and asking them how they are.

use std::sync::Arc;
use std::time::Duration;

use api::Lens;

use super::Worker;
use crate::ask::{self, Target};
use crate::figures::Operation;
use podplan::{Done, Handler, ProbeKind, ProbeOutcome};

/// What is left of the grace period at least, after the preStop hook has used it up.
const AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Runs the hook at once; the stop signal waits for the end of the containers in `after`.
    pub(super) fn kill(
        &mut self,
        name: &str,
        grace: Duration,
        why: &str,
        after: &[String],
        second: bool,
    ) {
        let done = Done::Killed { container: name.to_owned() };
        let (Some(container), Some(target)) = (self.container(name), self.target(name)) else {
            self.slot.post(|inbox| inbox.done.push(done));
            return;
        };
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let id_of = |name: &String| Some(self.state.get(name)?.current.as_ref()?.id.clone());
        let after: Vec<String> = after.iter().filter_map(id_of).collect();
        let why = why.to_owned();
        let answer = done.clone();
        self.launch("kill", done, async move {
            let begun = rt::now().mono;
            let field = container.field_path();
            if !second {
                shared.recorder.tell(&pod.object, &field, false, "Killing", why);
            }
            let hook = Handler::read(target.container.at("lifecycle.preStop"));
            if let Some(handler) = hook.filter(|_| container.pre_stop && !second) {
                let run = ask::hook(&shared.runtime, &target, &handler);
                if let Ok(Err(error)) = rt::timeout(grace, run).await {
                    log::info!("pod {}/{}: preStop: {error}", pod.namespace, pod.name);
                    let message = "PreStopHook failed".to_owned();
                    shared.recorder.tell(&pod.object, &field, true, "FailedPreStopHook", message);
                }
            }
            let turn = async {
                for id in &after {
                    // One that is not there any more has ended.
                    let _ = shared.runtime.wait_container(id).await;
                }
            };
            let left = || grace.saturating_sub(rt::now().mono.since(begun));
            // Whose turn does not come within the grace period is stopped all the same.
            let _ = rt::timeout(left(), turn).await;
            let left = left().max(AFTER_HOOK_MIN);
            let stopped = shared.runtime.stop_container(&target.container_id, left);
            if let Err(error) = shared.figures.timed(Operation::StopContainer, stopped).await {
                log::warn!("pod {}/{}: stop {}: {error}", pod.namespace, pod.name, container.name);
                let message = format!("error killing pod: failed to \"KillContainer\" for \"{}\" with KillContainerError: {error:?}", container.name);
                shared.recorder.warning(&pod.object, "FailedKillPod", message);
                // Do not spin on a runtime that cannot.
                rt::sleep(Duration::from_secs(1)).await;
            }
            answer
        });
    }

    pub(super) fn probe(&mut self, name: &str, kind: ProbeKind) {
        let probe = self.container(name).and_then(|c| Some((c.clone(), c.probe(kind)?.clone())));
        let (Some((container, probe)), Some(target)) = (probe, self.target(name)) else { return };
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let uid = self.slot.uid.clone();
        let answer = |outcome| Done::Probed {
            container: container.name.clone(),
            id: target.container_id.clone(),
            kind,
            outcome,
        };
        let otherwise = answer(ProbeOutcome::Unknown("the probe panicked".into()));
        let (name, id) = (container.name.clone(), target.container_id.clone());
        self.launch("probe", otherwise, async move {
            let outcome = ask::probe(&shared.runtime, &target, &probe.handler, probe.timeout).await;
            let is_here = |uid: &str| shared.slots.get(uid).is_some();
            shared.figures.probed(is_here, (&uid, &container.name), kind, &outcome);
            let word = kind.as_str();
            let (reason, message) = match &outcome {
                ProbeOutcome::Success => ("", String::new()),
                ProbeOutcome::Warning(text) => {
                    ("ProbeWarning", format!("{word} probe warning: {text}"))
                }
                ProbeOutcome::Failure(text) => {
                    ("Unhealthy", format!("{word} probe failed: {text}"))
                }
                ProbeOutcome::Unknown(text) => {
                    ("Unhealthy", format!("{word} probe errored: {text}"))
                }
            };
            // A container that ended under its probe has its own event.
            let runs = shared.runtime.container(&id).is_some_and(|c| c.exit().is_none());
            if !reason.is_empty() && runs {
                shared.recorder.tell(&pod.object, &container.field_path(), true, reason, message);
            }
            Done::Probed { container: name, id, kind, outcome }
        });
    }

    /// How to reach a running container.
    pub(super) fn target(&self, name: &str) -> Option<Target> {
        let container = self.pod.container(name)?;
        let tree = self.pod.object.tree();
        Some(Target {
            container_id: self.state.get(name)?.current.as_ref()?.id.clone(),
            container: tree.at(&container.tree_path()).clone(),
            pod_ip: self.pod_ips().first().map(ToString::to_string).unwrap_or_default(),
        })
    }
}
