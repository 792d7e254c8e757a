//! Images, layers and containers, in-process: what containerd and runc do, without either.
//!
//! Knows OCI images, Linux containers and the shim's protocol. Must not know pods' specs, the API
//! server, or networking: callers hand in plain structs and a network namespace path.
//!
//! Invariants: a layer directory counts only with its marker; everything on disk is written to a
//! temporary name, synced and renamed; nothing is mounted in the host's mount namespace; all that a
//! sandbox owns can be found again from its state directory alone.

#![allow(unused_variables)]

pub mod images;
mod link;
pub mod spec;
pub mod status;
pub mod stream;

use std::path::PathBuf;
use std::time::Duration;

use stdx::Result;

pub use images::Images;
pub use spec::{
    ContainerSpec, Device, ExecSpec, Labels, Mount, MountSource, Propagation, Resources,
    SandboxSpec, Seccomp, TerminalSize, User, UserNamespace,
};
pub use status::{
    ContainerState, ContainerStatus, Event, ExitStatus, Id, Recovered, SandboxState, SandboxStatus,
    Stats,
};
pub use stream::{ExecOutput, Output, Session, StreamReceiver, StreamSender};

/// Where the runtime keeps things and how it starts shims.
#[derive(Clone, Debug)]
pub struct Config {
    /// Images, layers and writable layers: `<data-dir>/agent/containerd`.
    pub root: PathBuf,
    /// Sockets, records and exit statuses; lost at reboot: `/run/k3s/containerd`.
    pub state: PathBuf,
    /// Airgap archives and lists: `<data-dir>/agent/images`.
    pub image_directory: PathBuf,
    /// `registries.yaml`, read again at each pull.
    pub registries_file: PathBuf,
    /// Program and leading arguments that end up in `shim::main`: `["/proc/self/exe", "shim"]`.
    pub shim_command: Vec<String>,
    /// `repository/name` prefix that is tried for images without a registry; normally `docker.io`.
    pub default_registry: String,
}

/// The container runtime of one node. Cheap to clone; all methods take `&self` and may be called
/// from many tasks. Dropping a future never leaves a half-made thing that `remove_*` cannot remove.
#[derive(Clone, Debug)]
pub struct Runtime {
    images: Images,
}

impl Runtime {
    /// Opens (or makes) the directories and the image store. Call `recover` next, before anything else.
    pub async fn open(config: Config) -> Result<Runtime> {
        Err(stdx::Error::new("not built yet"))
    }

    /// Reconnects to the shims that outlived the last k3rs, learns the exits that happened meanwhile,
    /// and cleans what belongs to no live sandbox (after a reboot: everything).
    pub async fn recover(&self) -> Result<Recovered> {
        Err(stdx::Error::new("not built yet"))
    }

    /// A new subscription to everything that happens from now on. Never blocks the runtime: a
    /// subscriber that falls `EVENTS_MAX` behind gets `Event::Lagged`.
    pub fn events(&self) -> rt::channel::Receiver<Event> {
        rt::channel::bounded(1).1
    }

    pub fn images(&self) -> &Images {
        &self.images
    }

    // Sandboxes.

    /// Starts the shim with the sandbox's namespaces. The network namespace is not touched otherwise.
    pub async fn run_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Kills what still runs in it and ends the shim. Idempotent; an unknown id is fine.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Stops it, then removes its containers, records and writable layers (not its logs). Idempotent.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    pub fn sandboxes(&self) -> Vec<SandboxStatus> {
        Vec::new()
    }
    pub fn sandbox(&self, id: &str) -> Option<SandboxStatus> {
        None
    }

    // Containers.

    /// Prepares the root file system, cgroup and process up to, but not including, its `execve`.
    /// A bad image, user, mount or profile is an error here.
    pub async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<Id> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Lets it run. A command that cannot be executed is an error, and the container is then
    /// `Exited` with code 127 or 126.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Sends the stop signal, after `grace` SIGKILL to everything in it, and waits for the exit.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<ExitStatus> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Sends a signal to the main process.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Removes an exited (or never started) container: record, cgroup, writable layer; its log stays.
    /// Kills it first if it runs. Idempotent.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Waits for the exit; returns at once when it has exited.
    pub async fn wait_container(&self, id: &str) -> Result<ExitStatus> {
        Err(stdx::Error::new("not built yet"))
    }
    pub fn containers(&self) -> Vec<ContainerStatus> {
        Vec::new()
    }
    pub fn container(&self, id: &str) -> Option<ContainerStatus> {
        None
    }
    /// Changes limits in place.
    pub async fn update_container(&self, id: &str, resources: &Resources) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// After the log file was renamed for rotation: writes go to a new file at the old path from now on.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// The container's usage; with `disk`, also its writable layer's.
    pub async fn container_stats(&self, id: &str, disk: bool) -> Result<Stats> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Sets the size of the main process's terminal.
    pub async fn resize_container(&self, id: &str, size: TerminalSize) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }

    // Streams.

    /// Starts a further process; its streams are the session.
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Session> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Runs a further process to its end, at most `timeout`, keeping at most `output_max_bytes` of each stream.
    pub async fn exec_sync(
        &self,
        id: &str,
        spec: ExecSpec,
        timeout: Duration,
        output_max_bytes: usize,
    ) -> Result<ExecOutput> {
        Err(stdx::Error::new("not built yet"))
    }
    /// The main process's streams, from now on.
    pub async fn attach(&self, id: &str) -> Result<Session> {
        Err(stdx::Error::new("not built yet"))
    }

    // Cgroups of pods and QoS classes, so that callers need not know which hierarchy the host has.

    /// Makes the cgroup if absent and sets what `resources` names.
    pub async fn cgroup_apply(&self, path: &str, resources: &Resources) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    /// Kills what is left in it and removes it with its children. Idempotent.
    pub async fn cgroup_remove(&self, path: &str) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
    pub async fn cgroup_stats(&self, path: &str) -> Result<Stats> {
        Err(stdx::Error::new("not built yet"))
    }

    /// For uninstall: kills all containers and shims this runtime knows or finds in its state
    /// directory, and removes state, cgroups and writable layers. Images stay unless `images`.
    /// Collects all errors into one.
    pub async fn teardown_all(&self, images: bool) -> Result<()> {
        Err(stdx::Error::new("not built yet"))
    }
}

/// Events that one subscriber may be behind.
pub const EVENTS_MAX: usize = 1024;
