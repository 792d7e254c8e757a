//! Images, layers and containers, in-process: what containerd and runc do, without either.
//!
//! Knows OCI images, Linux containers and the shim's protocol. Must not know pods' specs, the API
//! server, or networking: callers hand in plain structs and a network namespace path.
//!
//! Invariants: a layer directory counts only with its marker; everything on disk is written to a
//! temporary name, synced and renamed; nothing is mounted in the host's mount namespace; all that a
//! sandbox owns can be found again from its state directory alone.

mod capabilities;
mod containers;
mod events;
pub mod images;
mod link;
mod plan;
mod records;
mod recover;
mod sandboxes;
mod seccomp;
pub mod spec;
mod state;
pub mod status;
pub mod stream;
pub mod streaming;
mod zygote;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use stdx::{Context, Result};

use crate::state::{Shared, finish};

pub use containers::{forget_kept_exit, kept_exit};
pub use images::Images;
pub use spec::{
    ContainerSpec, Device, ExecSpec, Labels, LogLimits, Mount, MountSource, Propagation, Resources,
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
    /// `PATH` of the shims, and all they have of our environment. Containers have their image's.
    pub search_path: std::ffi::OsString,
    /// For registries.
    pub proxy: Option<Arc<http::client::Proxy>>,
}

/// The container runtime of one node. Cheap to clone; all methods take `&self` and may be called
/// from many tasks. What changes things runs to its end even if its future is dropped, so nothing is
/// left half made.
#[derive(Clone, Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
}

impl Runtime {
    /// Opens (or makes) the directories and the image store, dropping what a power cut left broken.
    /// Call `recover` next, before anything else.
    pub async fn open(config: Config) -> Result<Runtime> {
        let hierarchies = rt::unblock(sys::cgroup::Hierarchies::detect).await?;
        let state = config.state.clone();
        rt::unblock(move || rt::fs::create_dir_all(&state, 0o711)).await?;
        let events = Arc::new(events::Events::default());
        let images =
            Images::open(&config, events.clone()).await.context(|| "open the image store")?;
        Ok(Runtime { shared: Arc::new(Shared::new(config, images, hierarchies, events)) })
    }

    /// Reconnects to the shims that outlived the last k3rs, learns the exits that happened meanwhile,
    /// and cleans what belongs to no live sandbox (after a reboot: everything).
    pub fn recover<'a>(&'a self) -> BoxFuture<'a, Result<Recovered>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            finish("recover containers", async move { recover::recover(&shared).await }).await
        })
    }

    /// A new subscription to everything that happens from now on. Never blocks the runtime: a
    /// subscriber that falls `EVENTS_MAX` behind gets `Event::Lagged`.
    pub fn events(&self) -> rt::channel::Receiver<Event> {
        self.shared.events.subscribe()
    }

    pub fn images(&self) -> &Images {
        &self.shared.images
    }

    // Sandboxes.

    /// Starts the shim with the sandbox's namespaces. The network namespace is not touched otherwise.
    pub fn run_sandbox<'a>(&'a self, spec: SandboxSpec) -> BoxFuture<'a, Result<SandboxStatus>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            finish("run a sandbox", async move { sandboxes::run(&shared, spec).await }).await
        })
    }

    /// Kills what still runs in it, ends the shim, and gives back what the containers' writable layers
    /// took. Idempotent; an unknown id is fine.
    pub fn stop_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (shared, id) = (self.shared.clone(), id.to_owned());
            finish("stop a sandbox", async move { sandboxes::stop(&shared, &id).await }).await
        })
    }

    /// Stops it, then removes its containers, records and writable layers (not its logs, not its
    /// parent cgroup). Idempotent.
    pub fn remove_sandbox<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (shared, id) = (self.shared.clone(), id.to_owned());
            finish("remove a sandbox", async move { sandboxes::remove(&shared, &id).await }).await
        })
    }

    /// Those of all owners.
    pub fn sandboxes(&self) -> Vec<SandboxStatus> {
        self.shared.tables().sandboxes.values().map(|entry| entry.status.clone()).collect()
    }

    pub fn sandboxes_of(&self, owner: &str) -> Vec<SandboxStatus> {
        let tables = self.shared.tables();
        let all = tables.sandboxes.values().filter(|entry| entry.status.owner == owner);
        all.map(|entry| entry.status.clone()).collect()
    }

    pub fn sandbox(&self, id: &str) -> Option<SandboxStatus> {
        self.shared.tables().sandboxes.get(id).map(|entry| entry.status.clone())
    }

    // Containers.

    /// Prepares the root file system, cgroup and process up to, but not including, its `execve`.
    /// A bad image, user, mount or profile is an error here.
    pub fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        spec: ContainerSpec,
    ) -> BoxFuture<'a, Result<Id>> {
        Box::pin(async move {
            let (shared, sandbox) = (self.shared.clone(), sandbox.to_owned());
            finish("create a container", async move {
                containers::create(&shared, &sandbox, spec).await
            })
            .await
        })
    }

    /// Lets it run. A command that cannot be executed is an error, and the container is then
    /// `Exited` with code 128 and a message, as containerd reports it.
    pub fn start_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (shared, id) = (self.shared.clone(), id.to_owned());
            finish("start a container", async move { containers::start(&shared, &id).await }).await
        })
    }

    /// Sends the stop signal, after `grace` SIGKILL to everything in it, and waits for the exit.
    pub fn stop_container<'a>(
        &'a self,
        id: &'a str,
        grace: Duration,
    ) -> BoxFuture<'a, Result<ExitStatus>> {
        Box::pin(async move { containers::stop(&self.shared, id, grace).await })
    }

    /// Removes a container: record, cgroup, writable layer; its log stays. Kills it first if it runs.
    /// Idempotent.
    pub fn remove_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (shared, id) = (self.shared.clone(), id.to_owned());
            finish("remove a container", async move { containers::remove(&shared, &id).await })
                .await
        })
    }

    /// Waits for the exit; returns at once when it has exited.
    pub fn wait_container<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ExitStatus>> {
        Box::pin(async move { containers::wait(&self.shared, id).await })
    }

    pub fn containers(&self) -> Vec<ContainerStatus> {
        self.shared.tables().containers.values().map(|entry| entry.status.clone()).collect()
    }

    pub fn container(&self, id: &str) -> Option<ContainerStatus> {
        self.shared.tables().containers.get(id).map(|entry| entry.status.clone())
    }

    /// What the container was made of: its process, mounts and devices as its shim was told.
    pub fn container_plan<'a>(
        &'a self,
        id: &'a str,
    ) -> BoxFuture<'a, Result<wire::shim::Container>> {
        Box::pin(
            async move { containers::plan_of(&self.shared, &self.shared.container(id)?).await },
        )
    }

    /// Changes limits in place.
    pub fn update_container<'a>(
        &'a self,
        id: &'a str,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { containers::update(&self.shared, id, resources).await })
    }

    /// After the log file was renamed for rotation: writes go to a new file at the old path from now on.
    pub fn reopen_log<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { containers::reopen_log(&self.shared, id).await })
    }

    /// The container's usage; with `disk`, also its writable layer's.
    pub fn container_stats<'a>(&'a self, id: &'a str, disk: bool) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(async move { containers::stats(&self.shared, id, disk).await })
    }

    // Streams.

    /// Starts a further process; its streams are the session. A command that cannot be executed is
    /// an error here.
    pub fn exec<'a>(&'a self, id: &'a str, spec: ExecSpec) -> BoxFuture<'a, Result<Session>> {
        Box::pin(async move { containers::exec(&self.shared, id, spec).await })
    }

    /// Runs a further process to its end, at most `timeout`, keeping at most `output_max_bytes` of each stream.
    pub fn exec_sync<'a>(
        &'a self,
        id: &'a str,
        spec: ExecSpec,
        timeout: Duration,
        output_max_bytes: usize,
    ) -> BoxFuture<'a, Result<ExecOutput>> {
        Box::pin(async move {
            containers::exec_sync(&self.shared, id, spec, timeout, output_max_bytes).await
        })
    }

    /// The main process's streams, from now on. Several may attach. `close_stdin` closes the
    /// container's stdin only if it is `stdin_once`, and so does the end of a session that wrote to it.
    /// With `stdin` the client has input to give.
    pub fn attach<'a>(&'a self, id: &'a str, stdin: bool) -> BoxFuture<'a, Result<Session>> {
        Box::pin(async move { containers::attach(&self.shared, id, stdin).await })
    }

    // Cgroups of pods and QoS classes, so that callers need not know which hierarchy the host has.

    /// Makes the cgroup if absent and sets what `resources` names.
    pub fn cgroup_apply<'a>(
        &'a self,
        path: &'a str,
        resources: &'a Resources,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hierarchies = self.shared.hierarchies.clone();
            let (path, resources) = (path.to_owned(), resources.clone());
            rt::unblock(move || {
                hierarchies.create(&path)?;
                for warning in hierarchies.apply(&path, &resources)? {
                    log::warn!("cgroup {path}: {warning}");
                }
                Ok(())
            })
            .await
        })
    }

    /// Kills what is left in it and removes it with its children. Idempotent.
    pub fn cgroup_remove<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let hierarchies = self.shared.hierarchies.clone();
            let path = path.to_owned();
            rt::unblock(move || hierarchies.remove(&path)).await
        })
    }

    /// The names of the cgroups right below `path`.
    pub fn cgroups_below<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let hierarchies = self.shared.hierarchies.clone();
            let path = path.to_owned();
            rt::unblock(move || hierarchies.names_below(&path)).await
        })
    }

    pub fn cgroup_stats<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(async move { containers::cgroup_stats(&self.shared, path).await })
    }

    /// For uninstall: kills all containers and shims this runtime knows or finds in its state
    /// directory, and removes state, cgroups and writable layers. Images stay unless `images`.
    /// Collects all errors into one.
    pub fn teardown_all<'a>(&'a self, images: bool) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let shared = self.shared.clone();
            finish("tear down all containers", async move {
                recover::teardown_all(&shared, images).await
            })
            .await
        })
    }
}

/// Events that one subscriber may be behind.
pub const EVENTS_MAX: usize = 1024;

/// Whether a name is a sandbox's or container's id, so that it may be part of a path.
pub fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
