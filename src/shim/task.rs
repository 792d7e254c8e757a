//! A process the shim looks after: a container's main process, or one exec'd into a container.

use std::os::fd::OwnedFd;
use std::path::Path;

use wire::shim::{Exit, Field};

use crate::connection::Token;
use crate::log::{Flood, Log};
use crate::streams::Streams;

#[derive(Debug)]
pub(crate) struct Task {
    /// Names this task in the loop; ids repeat between a container and its execs.
    pub(crate) number: u32,
    /// The container's id.
    pub(crate) id: String,
    /// The client whose session this exec'd process is; none for the main process.
    pub(crate) exec_client: Option<Token>,
    pub(crate) pid: i32,
    pub(crate) phase: Phase,
    /// To the child, until its exec.
    pub(crate) socket: Option<OwnedFd>,
    /// The child has forked the process that runs in the container, and `pid` is that one.
    pub(crate) handed_over: bool,
    pub(crate) streams: Streams,
    pub(crate) log: Log,
    pub(crate) flood: Flood,
    pub(crate) stdin: bool,
    pub(crate) started_at: i64,
    /// For main processes.
    pub(crate) container: ContainerParts,
}

/// What is still needed of a container's plan after its launch.
#[derive(Debug, Default)]
pub(crate) struct ContainerParts {
    pub(crate) directory: String,
    pub(crate) cgroup: String,
    pub(crate) kill_cgroup: String,
    pub(crate) oom_file: String,
    /// Its end ends everything in the container.
    pub(crate) is_init: bool,
    pub(crate) stdin_once: bool,
    /// Where its exit is kept over a loss of power, or empty.
    pub(crate) kept_exit: String,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// Being set up; the client waits for the answer.
    Launching(Token),
    /// Waiting for its start.
    Created,
    /// Told to exec; the client waits for the answer. None: an exec'd process, answered by its session.
    Starting(Token),
    Running,
    Exited(Exit),
}

impl Task {
    pub(crate) fn is_main(&self) -> bool {
        self.exec_client.is_none()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.phase {
            Phase::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    /// Kills everything in the container: after the end of a main process that is not an init,
    /// others may live on.
    pub(crate) fn kill_cgroup(&self) {
        let parts = &self.container;
        if parts.cgroup.is_empty() {
            return;
        }
        if !parts.kill_cgroup.is_empty() {
            let file = Path::new(&parts.kill_cgroup).join("cgroup.kill");
            if std::fs::write(file, "1").is_ok() {
                return;
            }
        }
        // Again while new ones appear; a fork bomb ends at its pids limit.
        const ROUNDS_MAX: usize = 100;
        for _ in 0..ROUNDS_MAX {
            let file = Path::new(&parts.cgroup).join("cgroup.procs");
            let text = sys::file::kernel_text(file).unwrap_or_default();
            let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            if pids.iter().all(|pid| sys::process::kill(*pid, sys::process::SIGKILL).is_err()) {
                return;
            }
        }
    }

    /// Leaves the exit status on disk for a k3rs that learns of it only after this shim is gone, too.
    pub(crate) fn save_exit(&self, exit: &Exit) {
        let mut bytes = Vec::new();
        exit.put(&mut bytes);
        let directory = Path::new(&self.container.directory);
        let temp = directory.join(".exit.tmp");
        let saved = std::fs::write(&temp, &bytes)
            .and_then(|()| std::fs::rename(&temp, directory.join(wire::shim::EXIT_FILE)));
        if let Err(error) = saved {
            eprintln!("shim: save the exit status of container {}: {error}", self.id);
        }
        // Synced before anybody is told: whoever acts on the end must not find it undone.
        if !self.container.kept_exit.is_empty()
            && let Err(error) = keep(Path::new(&self.container.kept_exit), &bytes)
        {
            eprintln!("shim: keep the exit status of container {}: {error}", self.id);
        }
    }
}

/// Replaces a file so that a loss of power leaves the old one or the new one.
fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let temp = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)?;
    std::fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}
