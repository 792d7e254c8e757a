//! Seeing what the runtime has: states, exits, and what containers left to say.

use std::path::{Path, PathBuf};

use runtime::{ContainerState, ContainerStatus, SandboxState};
use stdx::Arrange;
use stdx::time::Now;

use super::Worker;
use crate::make::container::{
    ANNOTATION_IMAGE, ANNOTATION_MESSAGE_FILE, ANNOTATION_MESSAGE_POLICY, ANNOTATION_PROGRAM,
};
use podplan::{Exit, MESSAGE_MAX_BYTES, Sandbox, Seen, SeenState, UNKNOWN, cut};

/// Bytes of a log's end that stands in for a termination message, and its lines.
const LOG_MESSAGE_MAX_BYTES: usize = 2048;
const LOG_MESSAGE_LINES_MAX: usize = 80;

impl Worker {
    /// Looks at the sandbox and the containers that are known.
    pub(super) async fn observe(&mut self, now: Now) {
        let runtime = &self.shared.runtime;
        if let Sandbox::Ready { id, .. } = &self.state.sandbox {
            let alive = runtime.sandbox(id).is_some_and(|s| s.state == SandboxState::Ready);
            if !alive {
                self.state.sandbox_lost();
                if !self.state.gone && self.pod.deleting_grace_secs.is_none() {
                    self.shared.recorder.normal(
                        &self.pod.object,
                        "SandboxChanged",
                        "Pod sandbox changed, it will be killed and re-created.",
                    );
                }
            }
        }
        let known: Vec<(String, String)> = self
            .state
            .containers
            .iter()
            .filter_map(|(name, known)| Some((name.clone(), known.current.as_ref()?.id.clone())))
            .collect();
        for (name, id) in known {
            match self.shared.runtime.container(&id) {
                Some(status) => self.see(now, &name, &status).await,
                None => self.state.vanished(now, &name),
            }
        }
    }

    /// Looks at everything the runtime has of the sandbox, known or not.
    pub(super) async fn rescan(&mut self) {
        let now = rt::now();
        let Some(sandbox) = self.state.sandbox.id().map(str::to_owned) else { return };
        let mut found: Vec<ContainerStatus> = self
            .shared
            .runtime
            .containers()
            .into_iter()
            .filter(|container| *container.sandbox == *sandbox)
            .collect();
        // The newest of a name last, so that it ends up as the current one.
        found.arrange_by_key(|container| container.attempt);
        for status in found {
            self.see(now, &status.name.clone(), &status).await;
        }
    }

    async fn see(&mut self, now: Now, name: &str, status: &ContainerStatus) {
        let Some(container) = self.container(name) else { return };
        // What was read once of an exit does not change.
        let known = self.state.get(name).and_then(|known| known.current.as_ref());
        if let (Some(known), ContainerState::Exited(_)) = (known, &status.state)
            && known.id == *status.id
            && matches!(known.state, SeenState::Exited(_))
        {
            return;
        }
        let seen = seen(status).await;
        self.write_down(name, &seen).await;
        self.state.observe(now, &container, seen);
    }

    /// An end is on disk before anything is made of it.
    pub(super) async fn write_down(&self, name: &str, seen: &Seen) {
        if let SeenState::Exited(exit) = &seen.state
            && let Err(error) = self.journal.lock().await.ended(name, exit).await
        {
            log::warn!("pod {}/{}: {error}", self.pod.namespace, self.pod.name);
        }
    }
}

/// A container's state in the step function's words; reads its last message if it has exited.
pub(crate) async fn seen(status: &ContainerStatus) -> Seen {
    let state = match &status.state {
        ContainerState::Created => SeenState::Created,
        ContainerState::Running => {
            SeenState::Running { since: status.started_at.unwrap_or(status.created_at) }
        }
        ContainerState::Exited(exit) => {
            let never_ran = status.started_at.is_none();
            let unknown = exit.is_unknown();
            let reason = match exit.code {
                _ if exit.oom_killed => "OOMKilled",
                _ if unknown => UNKNOWN,
                _ if never_ran => "StartError",
                0 => "Completed",
                _ => "Error",
            };
            let mut message = match exit.message.is_empty() {
                true => last_message(status, exit.code).await,
                false => said_of_program(status, &exit.message),
            };
            cut(&mut message);
            SeenState::Exited(Exit {
                // What containerd reports of a process that could not be started.
                code: match never_ran {
                    true => 128,
                    false if unknown => 137,
                    false => exit.code,
                },
                signal: exit.signal,
                reason: reason.to_owned(),
                message,
                started_at: status.started_at,
                finished_at: exit.finished_at,
                container_id: status.id.to_string(),
            })
        }
    };
    Seen {
        id: status.id.to_string(),
        attempt: status.attempt,
        state,
        image: status.annotations.get(ANNOTATION_IMAGE).unwrap_or(&status.image).clone(),
        image_ref: status.image_ref.clone(),
    }
}

/// A message of a program that could not be started names it as the pod's spec does: what `$(VAR)` in it
/// stood for may be a secret. The message is `exec: "<program>": <why>`.
pub(crate) fn said_of_program(status: &ContainerStatus, message: &str) -> String {
    let (Some(program), Some(at)) =
        (status.annotations.get(ANNOTATION_PROGRAM), message.find("exec: \""))
    else {
        return message.to_owned();
    };
    let why = message.rfind("\": ").map_or("", |end| &message[end + 1..]);
    format!("{}exec: {program:?}{why}", &message[..at])
}

/// The termination message: the file's, or the end of the log of who failed without one and asked for that.
async fn last_message(status: &ContainerStatus, code: i32) -> String {
    let file = status.annotations.get(ANNOTATION_MESSAGE_FILE).map(PathBuf::from);
    let fall_back = status
        .annotations
        .get(ANNOTATION_MESSAGE_POLICY)
        .is_some_and(|policy| policy == "FallbackToLogsOnError");
    let log = status.log_path.clone().filter(|_| fall_back && code != 0);
    rt::unblock(move || {
        let text = file.and_then(|file| read_beginning(&file)).unwrap_or_default();
        match (text.is_empty(), log) {
            (true, Some(log)) => {
                crate::logs::tail_text(&log, LOG_MESSAGE_LINES_MAX, LOG_MESSAGE_MAX_BYTES)
            }
            _ => text,
        }
    })
    .await
}

fn read_beginning(path: &Path) -> Option<String> {
    let limit = u64::try_from(MESSAGE_MAX_BYTES).ok()?;
    let bytes = rt::fs::read_beginning(path, limit).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
