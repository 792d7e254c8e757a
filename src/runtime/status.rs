//! What the runtime reports back: states, exits, events and usage.

use std::path::PathBuf;
use std::sync::Arc;

use stdx::time::Wall;
pub use sys::cgroup::{CpuStats, MemoryStats, PidsStats};

use crate::spec::Labels;

/// Sixty-four hex digits.
pub type Id = Arc<str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    /// Stopped, or its shim died.
    NotReady,
}

#[derive(Clone, Debug)]
pub struct SandboxStatus {
    pub id: Id,
    pub state: SandboxState,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
    /// As its spec has it.
    pub owner: String,
    pub created_at: Wall,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub share_processes: bool,
    pub netns: Option<PathBuf>,
    pub cgroup_parent: String,
    pub log_directory: PathBuf,
    pub labels: Labels,
    pub annotations: Labels,
    /// The pod's shim; its namespaces are at `/proc/<pid>/ns`.
    pub shim_pid: u32,
}

impl SandboxStatus {
    /// A path that leads to its network namespace.
    pub fn network_namespace(&self) -> PathBuf {
        let own = || PathBuf::from(format!("/proc/{}/ns/net", self.shim_pid));
        self.netns.clone().unwrap_or_else(own)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited(ExitStatus),
}

/// How a container's main process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code, or 128 + signal. 255 where it could not be learned (the shim was killed).
    pub code: i32,
    /// The signal that ended it, 0 if none.
    pub signal: i32,
    /// A process of the container was killed by the kernel for the container's memory limit.
    pub oom_killed: bool,
    pub finished_at: Wall,
    /// Why, where a code does not say it: a failed start, a lost shim. Else empty.
    pub message: String,
}

impl ExitStatus {
    /// True if nobody saw how the process ended.
    pub fn is_unknown(&self) -> bool {
        self.code == UNKNOWN_EXIT_CODE && !self.message.is_empty()
    }
}

/// What is reported where the exit code could not be learned.
pub(crate) const UNKNOWN_EXIT_CODE: i32 = 255;

#[derive(Clone, Debug)]
pub struct ContainerStatus {
    pub id: Id,
    pub sandbox: Id,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    /// The main process in the host's PID namespace, while it lives.
    pub pid: Option<u32>,
    pub created_at: Wall,
    pub started_at: Option<Wall>,
    /// The reference the container was made with, and the image's id.
    pub image: String,
    pub image_id: String,
    /// `name@sha256:...` if known, else the image id: what Kubernetes shows as `imageID`.
    pub image_ref: String,
    /// Resolved numeric ids of the main process.
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub log_path: Option<PathBuf>,
    pub cgroup: String,
    pub stop_signal: i32,
    pub labels: Labels,
    pub annotations: Labels,
}

impl ContainerStatus {
    pub fn exit(&self) -> Option<&ExitStatus> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// What happened. Everyone who subscribed gets each event once, in order per container.
#[derive(Clone, Debug)]
pub enum Event {
    SandboxStarted {
        sandbox: Id,
    },
    /// Somebody stopped it; `SandboxLost` is an end that nobody asked for.
    SandboxStopped {
        sandbox: Id,
    },
    SandboxRemoved {
        sandbox: Id,
    },
    ContainerCreated {
        sandbox: Id,
        container: Id,
    },
    ContainerStarted {
        sandbox: Id,
        container: Id,
    },
    ContainerExited {
        sandbox: Id,
        container: Id,
        exit: ExitStatus,
    },
    ContainerRemoved {
        sandbox: Id,
        container: Id,
    },
    /// A process in the container was killed for its memory limit (seen at the container's exit).
    ContainerOom {
        sandbox: Id,
        container: Id,
    },
    /// The pod's shim is gone; its containers have been killed and reported as exited.
    SandboxLost {
        sandbox: Id,
    },
    ImageImported {
        reference: String,
        id: String,
    },
    ImageRemoved {
        id: String,
    },
    /// The subscriber was too slow and missed events: list again.
    Lagged,
}

/// What a container (or a whole pod, or the node) uses now, from its cgroup.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub at: Wall,
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    /// The writable layer; 0 for pods. Read by walking the directory, only when asked for.
    pub writable_bytes: u64,
    pub writable_inodes: u64,
}

/// What `Runtime::recover` found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    pub sandboxes: Vec<Id>,
    pub running: usize,
    pub exited: usize,
    /// One line for each leftover that was cleaned up.
    pub cleaned: Vec<String>,
}
