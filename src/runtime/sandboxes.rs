//! Starting, following and ending the shims of sandboxes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stdx::time::Wall;
use stdx::{Context, Error, Result};
use wire::shim as plan;
use wire::shim::{Exited, Field, State, decode, frame_of, kind};

use crate::link::{self, Link, exit_status};
use crate::records::{self, SandboxRecord};
use crate::spec::SandboxSpec;
use crate::state::{SandboxEntry, Shared, new_id};
use crate::status::{Event, ExitStatus, Id, SandboxState, SandboxStatus, UNKNOWN_EXIT_CODE};

/// How long a shim may take to kill its containers and end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(15);
/// How long a new shim may take to set up its namespaces.
const SET_UP_MAX: Duration = Duration::from_secs(30);

/// As much of a shim's last words as an error quotes.
const SAID_MAX_BYTES: u64 = 4096;
/// An exit status with its message.
const EXIT_MAX_BYTES: u64 = 64 << 10;

pub(crate) async fn run(shared: &Arc<Shared>, spec: SandboxSpec) -> Result<SandboxStatus> {
    let id = new_id();
    let directory = shared.sandbox_directory(&id);
    let started = start_shim(shared, &id, &spec).await;
    let status = match started {
        Ok(status) => status,
        Err(error) => {
            let quoted = directory.clone();
            let said = rt::unblock(move || {
                let said = rt::fs::read_beginning(quoted.join(plan::LOG_FILE), SAID_MAX_BYTES)
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .unwrap_or_default();
                let _ = rt::fs::remove_dir_all(&quoted);
                said
            })
            .await;
            let said = said.trim();
            let error = if said.is_empty() { error } else { Error::new(said) };
            return Err(error).context(|| format!("run sandbox {}/{}", spec.namespace, spec.name));
        }
    };
    Ok(status)
}

async fn start_shim(shared: &Arc<Shared>, id: &Id, spec: &SandboxSpec) -> Result<SandboxStatus> {
    let created_at = rt::now().wall;
    let record = SandboxRecord { id: id.to_string(), created_at: created_at.0, spec: spec.clone() };
    let directory = shared.sandbox_directory(id);
    for name in spec.sysctls.keys() {
        check_sysctl(name, spec)?;
    }
    let shim_plan = shim_plan(id, spec);
    let log_directory = spec.log_directory.clone();
    let zygote = shared.clone();
    rt::unblock(move || -> Result<()> {
        if !log_directory.as_os_str().is_empty() {
            rt::fs::create_dir_all(&log_directory, 0o755)?;
        }
        rt::fs::create_dir_all(&directory, 0o700)?;
        let mut bytes = Vec::new();
        shim_plan.put(&mut bytes);
        records::write_unsynced(&directory.join(plan::SANDBOX_FILE), &bytes)?;
        // The record comes last: with it the directory counts as a sandbox.
        let listener = sys::unix::listen_in(&directory, plan::SOCKET_FILE)
            .context(|| format!("listen in {}", directory.display()))?;
        records::save(&directory, &record)?;
        zygote.zygote.start(&directory, &listener)
    })
    .await?;
    let (link, state) =
        match rt::timeout(SET_UP_MAX, subscribe(&shared.sandbox_directory(id))).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::new(format!(
                    "the shim was not ready within {} s",
                    SET_UP_MAX.as_secs()
                )));
            }
        };
    let status = adopt(shared, id.clone(), created_at, spec.clone(), link, state.pid);
    shared.events.publish(&Event::SandboxStarted { sandbox: id.clone() });
    Ok(status)
}

/// Only what the sandbox has for itself may be set in it, as runc has it.
fn check_sysctl(name: &str, spec: &SandboxSpec) -> Result<()> {
    let ipc = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];
    let shared = if ipc.iter().any(|prefix| name.starts_with(prefix)) {
        spec.host_ipc
    } else {
        !name.starts_with("net.") || spec.host_network
    };
    match shared {
        true => Err(Error::new(format!("sysctl {name:?} is not in a separate kernel namespace"))),
        false => Ok(()),
    }
}

fn shim_plan(id: &Id, spec: &SandboxSpec) -> plan::Sandbox {
    plan::Sandbox {
        version: plan::VERSION,
        id: id.to_string(),
        hostname: if spec.host_network { String::new() } else { spec.hostname.clone() },
        host_network: spec.host_network,
        netns: spec
            .netns
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        host_ipc: spec.host_ipc,
        shared_pid: spec.share_processes && !spec.host_pid,
        host_pid: spec.host_pid,
        sysctls: spec
            .sysctls
            .iter()
            .map(|(name, value)| {
                // A slash in a dotted name stands for a dot (`net.ipv4.conf.eth0/1.rp_filter`).
                let path = name.chars().map(|c| match c {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                });
                (path.collect(), value.clone())
            })
            .collect(),
        shm_size_bytes: spec.shm_size_bytes,
    }
}

/// Connects to a shim's events; its state comes first.
pub(crate) async fn subscribe(directory: &Path) -> Result<(Link, State)> {
    let mut link = Link::connect(directory).await?;
    link.send(&frame_of(kind::SUBSCRIBE, &Vec::<u8>::new())).await?;
    match link.receive().await? {
        Some((kind::STATE, payload)) => Ok((link, decode(&payload)?)),
        Some((other, _)) => {
            Err(Error::new(format!("the shim answered a subscription with {other}")))
        }
        None => Err(Error::new("the shim ended before it was ready")),
    }
}

/// Puts a sandbox with a live shim into the tables and follows it.
pub(crate) fn adopt(
    shared: &Arc<Shared>,
    id: Id,
    created_at: Wall,
    spec: SandboxSpec,
    link: Link,
    shim_pid: u32,
) -> SandboxStatus {
    let watcher = watch(Arc::downgrade(shared), id.clone(), link, shim_pid);
    insert(shared, id, created_at, spec, SandboxState::Ready, shim_pid, Some(watcher))
}

/// Puts a sandbox into the tables.
pub(crate) fn insert(
    shared: &Arc<Shared>,
    id: Id,
    created_at: Wall,
    spec: SandboxSpec,
    state: SandboxState,
    shim_pid: u32,
    watcher: Option<rt::Task<Option<()>>>,
) -> SandboxStatus {
    let status = SandboxStatus {
        id: id.clone(),
        state,
        name: spec.name,
        namespace: spec.namespace,
        uid: spec.uid,
        attempt: spec.attempt,
        owner: spec.owner,
        created_at,
        host_network: spec.host_network,
        host_pid: spec.host_pid,
        host_ipc: spec.host_ipc,
        share_processes: spec.share_processes && !spec.host_pid,
        netns: spec.netns,
        cgroup_parent: spec.cgroup_parent,
        log_directory: spec.log_directory,
        labels: spec.labels,
        annotations: spec.annotations,
        shim_pid,
    };
    let entry = SandboxEntry {
        status: status.clone(),
        hostname: spec.hostname,
        ending: Arc::default(),
        watcher,
    };
    shared.tables().sandboxes.insert(id, entry);
    shared.notify();
    status
}

/// Follows a shim: its containers' exits, and its own end.
fn watch(
    shared: std::sync::Weak<Shared>,
    id: Id,
    mut link: Link,
    shim_pid: u32,
) -> rt::Task<Option<()>> {
    rt::spawn_named(format!("watch the shim of sandbox {id}"), async move {
        loop {
            let frame = link.receive().await;
            let Some(shared) = shared.upgrade() else { return };
            match frame {
                Ok(Some((kind::EXITED, payload))) => match decode::<Exited>(&payload) {
                    Ok(exited) => shared.container_exited(&exited.id, exit_status(exited.exit)),
                    Err(error) => log::warn!("sandbox {id}: read an exit: {error}"),
                },
                // A newer shim may say more than we know.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    reap(shim_pid).await;
                    lost(&shared, &id).await;
                    return;
                }
            }
        }
    })
}

/// If the shim was our own child, its remains are ours to take.
async fn reap(shim_pid: u32) {
    rt::unblock(move || {
        use std::os::fd::AsFd;
        // A child that nobody reaped keeps its number, so this is the shim or an unrelated process,
        // which reaping by descriptor leaves alone.
        if let Ok(pidfd) = sys::process::pidfd_open(shim_pid)
            && sys::poll::wait_readable(pidfd.as_fd(), Some(Duration::from_secs(2)))
                .unwrap_or(false)
        {
            let _ = sys::process::reap_pidfd(pidfd.as_fd());
        }
    })
    .await;
}

/// The shim is gone: what is left of its containers is killed and reported.
async fn lost(shared: &Arc<Shared>, id: &Id) {
    let expected = {
        let mut tables = shared.tables();
        let Some(entry) = tables.sandboxes.get_mut(id) else { return };
        let was_ready = entry.status.state == SandboxState::Ready;
        entry.status.state = SandboxState::NotReady;
        !was_ready
    };
    for container in shared.containers_of(id) {
        if container.exit().is_none() {
            let exit = settle(shared, id, &container.id, &container.cgroup).await;
            shared.container_exited(&container.id, exit);
        }
    }
    shared.notify();
    if !expected {
        log::warn!("sandbox {id}: its shim ended unexpectedly; its containers have been killed");
        shared.events.publish(&Event::SandboxLost { sandbox: id.clone() });
    }
}

/// Kills what is left of a container without a shim; its exit is what the shim wrote down, else unknown.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    sandbox: &str,
    id: &str,
    cgroup: &str,
) -> ExitStatus {
    let file = shared.container_directory(sandbox, id).join(plan::EXIT_FILE);
    let hierarchies = shared.hierarchies.clone();
    let cgroup = cgroup.to_owned();
    let saved = rt::unblock(move || {
        let oom_killed = hierarchies.oom_kills(&cgroup) > 0;
        let _ = hierarchies.kill(&cgroup);
        let saved = rt::fs::read_record(&file, EXIT_MAX_BYTES).ok().flatten();
        (saved.and_then(|bytes| decode::<plan::Exit>(&bytes).ok()), oom_killed)
    })
    .await;
    match saved {
        (Some(exit), _) => exit_status(exit),
        (None, oom_killed) => ExitStatus {
            code: UNKNOWN_EXIT_CODE,
            signal: 0,
            oom_killed,
            finished_at: rt::now().wall,
            message: "the container's shim ended before the container did".to_owned(),
        },
    }
}

pub(crate) async fn stop(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let _alone = shared.alone(id).await;
    stop_alone(shared, id).await
}

async fn stop_alone(shared: &Arc<Shared>, id: &str) -> Result<()> {
    end_shim(shared, id).await;
    // Nothing runs in it again, so what its containers wrote is of no use. Records and logs stay.
    for container in shared.containers_of(id) {
        let writable = shared.writable_directory(&container.id);
        rt::unblock(move || rt::fs::remove_dir_all(&writable)).await?;
    }
    Ok(())
}

async fn end_shim(shared: &Arc<Shared>, id: &str) {
    {
        let mut tables = shared.tables();
        let Some(entry) = tables.sandboxes.get_mut(id) else { return };
        if entry.status.state == SandboxState::NotReady {
            return;
        }
        // Its end is expected from now on.
        entry.status.state = SandboxState::NotReady;
    }
    let directory = shared.sandbox_directory(id);
    let request = frame_of(kind::SHUTDOWN, &Vec::<u8>::new());
    let asked = link::request_within(&directory, &request, SHUTDOWN_MAX).await;
    let cgroups: Vec<(Id, String)> = shared
        .containers_of(id)
        .into_iter()
        .filter(|container| container.exit().is_none())
        .map(|container| (container.id, container.cgroup))
        .collect();
    if asked.is_err() {
        // It does not listen: what it holds is killed from outside.
        let shim_pid = shared.tables().sandboxes.get(id).map_or(0, |entry| entry.status.shim_pid);
        kill_shim(&directory, shim_pid).await;
    }
    for (container, cgroup) in cgroups {
        // The watcher may still be on its way to the last events.
        let exit = settle(shared, id, &container, &cgroup).await;
        shared.container_exited(&container, exit);
    }
    shared.notify();
    shared.events.publish(&Event::SandboxStopped { sandbox: id.into() });
}

/// Kills a shim, if the process of that number is one.
async fn kill_shim(directory: &Path, shim_pid: u32) {
    let directory = directory.to_owned();
    rt::unblock(move || {
        use std::os::fd::AsFd;
        let Ok(pidfd) = sys::process::pidfd_open(shim_pid) else { return };
        let works_there =
            sys::process::working_directory(shim_pid).is_some_and(|cwd| cwd == directory);
        if works_there {
            let _ = sys::process::pidfd_signal(pidfd.as_fd(), sys::process::SIGKILL);
            let _ = sys::poll::wait_readable(pidfd.as_fd(), Some(Duration::from_secs(5)));
        }
    })
    .await;
}

pub(crate) async fn remove(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let _alone = shared.alone(id).await;
    stop_alone(shared, id).await?;
    for container in shared.containers_of(id) {
        crate::containers::remove_alone(shared, &container.id).await?;
    }
    let directory = shared.sandbox_directory(id);
    if !crate::is_id(id) {
        return Ok(());
    }
    rt::unblock(move || rt::fs::remove_dir_all(&directory)).await?;
    // Dropping the entry drops its watcher; it ends with the shim anyway, and then reaps it.
    let removed = shared.tables().sandboxes.remove(id);
    if let Some(watcher) = removed.and_then(|entry| entry.watcher) {
        watcher.detach();
    }
    shared.notify();
    shared.events.publish(&Event::SandboxRemoved { sandbox: id.into() });
    Ok(())
}
