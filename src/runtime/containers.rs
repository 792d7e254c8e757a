//! The life of a container, from its plan to its removal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stdx::{Context, Error, Result};
use sys::cgroup::Resources;
use wire::shim::{Created, Exit, Field, KeepExit, LogLimits, Signal, Target, decode, kind};

use crate::link::{self, request_of};
use crate::plan::{self, Surroundings};
use crate::records::{self, PLAN_FILE};
use crate::spec::{ContainerSpec, ExecSpec};
use crate::state::{SandboxEntry, Shared, Tables, new_id};
use crate::status::{ContainerState, ContainerStatus, Event, ExitStatus, Id, SandboxState, Stats};
use crate::stream::{self, ExecOutput, Output, Session};

/// How long the kernel may take to end a killed process before we say that it hangs.
const KILL_MAX: Duration = Duration::from_secs(30);

/// How long a shim may take to take a container's root down: what its layer holds back may be written first.
const REMOVE_MAX: Duration = Duration::from_secs(120);

/// How long a container may take from the word to its program, as upstream's kubelet waits for runtimes.
const START_MAX: Duration = Duration::from_secs(120);

pub(crate) async fn create(shared: &Arc<Shared>, sandbox: &str, spec: ContainerSpec) -> Result<Id> {
    let name = spec.name.clone();
    create_named(shared, sandbox, spec).await.context(|| format!("create container {name}"))
}

async fn create_named(shared: &Arc<Shared>, sandbox: &str, spec: ContainerSpec) -> Result<Id> {
    let id = new_id();
    let surroundings = surroundings(shared, sandbox, &id)?;
    let sandbox_id = surroundings.sandbox.clone();
    let image = shared.images.for_container(&spec.image)?;
    let log_limits = spec.log_limits;
    let kept = spec.exit_directory.as_deref().map(|directory| kept_exit_path(directory, &id));
    let mut mounted_images = Vec::new();
    for mount in &spec.mounts {
        if let crate::MountSource::Image(reference) = &mount.source {
            mounted_images.push(shared.images.for_container(reference)?);
        }
    }
    let made = {
        let shared = shared.clone();
        rt::unblock(move || plan::prepare(&shared, &surroundings, &spec, &image, &mounted_images))
            .await
    };
    let result = match made {
        Ok((record, bytes)) => {
            let limits = limit_log(&id, log_limits);
            let directory = shared.sandbox_directory(&sandbox_id);
            match link::request(&directory, &bytes)
                .await
                .and_then(|(_, payload)| decode::<Created>(&payload))
            {
                Ok(created) => {
                    // A shim of before knows no limits: its logs are rotated from outside.
                    if let Some(limits) = limits {
                        let _ = link::request(&directory, &limits).await;
                    }
                    // Nor does it keep exits: then they are known once k3rs has seen them.
                    if let Some(path) = kept {
                        let path = path.to_string_lossy().into_owned();
                        let keep =
                            request_of(kind::KEEP_EXIT, &KeepExit { id: id.to_string(), path });
                        let _ = link::request(&directory, &keep).await;
                    }
                    let mut record = record;
                    for warning in &created.warnings {
                        log::warn!("container {id} ({}): {warning}", record.name);
                    }
                    (record.uid, record.gid, record.groups) =
                        (created.uid, created.gid, created.groups);
                    let directory = shared.container_directory(&sandbox_id, &id);
                    let kept = record.clone();
                    let saved = rt::unblock(move || records::save(&directory, &kept)).await;
                    shared.insert_container(
                        sandbox_id.clone(),
                        record,
                        ContainerState::Created,
                        Some(created.pid),
                        None,
                    );
                    // Who ends the sandbox has seen the container, or this sees that it ends.
                    saved.and_then(|()| ready(&shared.tables(), &sandbox_id).map(drop))
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => {
            let (sandbox, container) = (sandbox_id, id.clone());
            shared.events.publish(&Event::ContainerCreated { sandbox, container });
            Ok(id)
        }
        Err(error) => {
            if let Err(more) = clean_up(shared, &sandbox_id, &id).await {
                log::warn!("container {id}: clean up after a failed creation: {more}");
            }
            shared.forget_container(&id);
            Err(error)
        }
    }
}

fn kept_exit_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("exit-{id}"))
}

/// How a container ended that was made with this `exit_directory`, if its shim saw it. Blocking.
pub fn kept_exit(directory: &Path, id: &str) -> Option<ExitStatus> {
    /// An exit status with its message.
    const EXIT_MAX_BYTES: u64 = 64 << 10;
    let path = crate::is_id(id).then(|| kept_exit_path(directory, id))?;
    let bytes = rt::fs::read_record(path, EXIT_MAX_BYTES).ok()??;
    decode::<Exit>(&bytes).ok().map(link::exit_status)
}

/// Removes what `kept_exit` reads, once its end is kept elsewhere. Blocking.
pub fn forget_kept_exit(directory: &Path, id: &str) {
    if crate::is_id(id) {
        let _ = rt::fs::remove_file(kept_exit_path(directory, id));
    }
}

fn limit_log(id: &str, limits: Option<crate::LogLimits>) -> Option<Vec<u8>> {
    let crate::LogLimits { file_max_bytes, files_max } = limits?;
    let limits = LogLimits { id: id.to_owned(), file_max_bytes, files_max };
    Some(request_of(kind::LIMIT_LOG, &limits))
}

fn surroundings(shared: &Shared, sandbox: &str, id: &Id) -> Result<Surroundings> {
    let tables = shared.tables();
    let entry = ready(&tables, sandbox)?;
    Ok(Surroundings {
        id: id.clone(),
        sandbox: entry.status.id.clone(),
        hostname: entry.hostname.clone(),
        host_ipc: entry.status.host_ipc,
        host_pid: entry.status.host_pid,
        share_processes: entry.status.share_processes,
        cgroup_parent: entry.status.cgroup_parent.clone(),
        log_directory: entry.status.log_directory.clone(),
    })
}

/// A sandbox that containers can be made in.
fn ready<'a>(tables: &'a Tables, sandbox: &str) -> Result<&'a SandboxEntry> {
    let entry = tables.sandboxes.get(sandbox);
    let entry = entry.context(|| format!("sandbox {sandbox} does not exist"))?;
    match entry.status.state {
        SandboxState::Ready => Ok(entry),
        SandboxState::NotReady => Err(Error::new(format!("sandbox {sandbox} is not ready"))),
    }
}

fn target(frame_kind: u8, id: &str) -> Vec<u8> {
    request_of(frame_kind, &Target { id: id.to_owned() })
}

pub(crate) async fn start(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let directory = shared.shim_of(id)?;
    let what = || format!("start container {id}");
    let request = target(kind::START, id);
    let answer = match rt::timeout(START_MAX, link::request(&directory, &request)).await {
        Ok(answer) => answer.context(what)?.1,
        Err(_) => {
            // Who shares its processes can stop it before its program begins.
            let _ = signal(shared, id, sys::process::SIGKILL).await;
            let seconds = START_MAX.as_secs();
            return Err(Error::new(format!("container {id} did not start within {seconds} s")));
        }
    };
    let started = {
        let mut tables = shared.tables();
        let entry = tables.containers.get_mut(id).context(what)?;
        // An older shim does not say.
        if let Ok(pid) = decode::<u32>(&answer) {
            entry.status.pid = entry.status.pid.map(|_| pid);
        }
        entry.status.started_at = Some(rt::now().wall);
        // It may have ended already, and that event must be the last.
        let runs = entry.status.state == ContainerState::Created;
        if runs {
            entry.status.state = ContainerState::Running;
        }
        runs.then(|| Event::ContainerStarted {
            sandbox: entry.status.sandbox.clone(),
            container: id.into(),
        })
    };
    shared.notify();
    if let Some(event) = started {
        shared.events.publish(&event);
    }
    Ok(())
}

pub(crate) async fn signal(shared: &Arc<Shared>, id: &str, signal: i32) -> Result<()> {
    let directory = shared.shim_of(id)?;
    let request = request_of(kind::SIGNAL, &Signal { id: id.to_owned(), signal });
    let sent = link::request_within(&directory, &request, KILL_MAX).await;
    sent.map(drop).context(|| format!("signal container {id}"))
}

pub(crate) async fn wait(shared: &Arc<Shared>, id: &str) -> Result<ExitStatus> {
    loop {
        let changed = shared.changed.listen();
        if let Some(exit) = shared.container(id)?.exit() {
            return Ok(exit.clone());
        }
        changed.await;
    }
}

pub(crate) async fn stop(shared: &Arc<Shared>, id: &str, grace: Duration) -> Result<ExitStatus> {
    let status = shared.container(id)?;
    if let Some(exit) = status.exit() {
        return Ok(exit.clone());
    }
    if !grace.is_zero() && status.state == ContainerState::Running {
        signal(shared, id, status.stop_signal).await?;
        if let Ok(exit) = rt::timeout(grace, wait(shared, id)).await {
            return exit;
        }
    }
    kill(shared, id, &status.cgroup).await
}

/// SIGKILL to everything in the container.
async fn kill(shared: &Arc<Shared>, id: &str, cgroup: &str) -> Result<ExitStatus> {
    // The main process by way of its shim, the rest by way of the cgroup.
    let killed = signal(shared, id, sys::process::SIGKILL).await;
    let hierarchies = shared.hierarchies.clone();
    let path = cgroup.to_owned();
    let swept = rt::unblock(move || hierarchies.kill(&path)).await;
    match rt::timeout(KILL_MAX, wait(shared, id)).await {
        Ok(exit) => exit,
        Err(_) => {
            killed?;
            swept?;
            Err(Error::new(format!(
                "container {id} did not end within {} s of SIGKILL",
                KILL_MAX.as_secs()
            )))
        }
    }
}

pub(crate) async fn remove(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let Ok(status) = shared.container(id) else { return Ok(()) };
    let _alone = shared.alone(&status.sandbox).await;
    remove_alone(shared, id).await
}

/// The same for who holds the sandbox already.
pub(crate) async fn remove_alone(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let Ok(status) = shared.container(id) else { return Ok(()) };
    if status.exit().is_none() {
        kill(shared, id, &status.cgroup).await?;
    }
    let is_ready = ready(&shared.tables(), &status.sandbox).is_ok();
    if is_ready {
        let directory = shared.sandbox_directory(&status.sandbox);
        link::request_within(&directory, &target(kind::REMOVE, id), REMOVE_MAX)
            .await
            .context(|| format!("remove container {id}"))?;
    }
    clean_up(shared, &status.sandbox, id).await?;
    shared.forget_container(id);
    let (sandbox, container) = (status.sandbox, status.id);
    shared.events.publish(&Event::ContainerRemoved { sandbox, container });
    Ok(())
}

/// Removes what a container has on disk and in the cgroup file system.
async fn clean_up(shared: &Arc<Shared>, sandbox: &str, id: &str) -> Result<()> {
    let cgroup = shared.container(id).map(|status| status.cgroup);
    let cgroup = cgroup.or_else(|_| {
        let tables = shared.tables();
        let entry = tables.sandboxes.get(sandbox).context(|| "no sandbox")?;
        Ok::<String, Error>(plan::cgroup_path(&entry.status.cgroup_parent, id))
    });
    let shared = shared.clone();
    let (sandbox, id) = (sandbox.to_owned(), id.to_owned());
    rt::unblock(move || {
        let removed = match &cgroup {
            Ok(cgroup) => shared.hierarchies.remove(cgroup),
            Err(_) => Ok(()),
        };
        rt::fs::remove_dir_all(shared.writable_directory(&id))?;
        rt::fs::remove_dir_all(shared.container_directory(&sandbox, &id))?;
        removed
    })
    .await
    .context(|| "remove what a container left")
}

pub(crate) async fn update(shared: &Arc<Shared>, id: &str, resources: &Resources) -> Result<()> {
    let cgroup = shared.container(id)?.cgroup;
    let hierarchies = shared.hierarchies.clone();
    let mut resources = resources.clone();
    let warnings = rt::unblock(move || {
        plan::forbid_swap(&hierarchies, &cgroup, &mut resources);
        hierarchies.apply(&cgroup, &resources)
    })
    .await
    .context(|| format!("update container {id}"))?;
    for warning in warnings {
        log::warn!("container {id}: {warning}");
    }
    Ok(())
}

pub(crate) async fn reopen_log(shared: &Arc<Shared>, id: &str) -> Result<()> {
    let directory = shared.shim_of(id)?;
    link::request(&directory, &target(kind::REOPEN_LOG, id)).await?;
    Ok(())
}

pub(crate) async fn stats(shared: &Arc<Shared>, id: &str, disk: bool) -> Result<Stats> {
    let cgroup = shared.container(id)?.cgroup;
    let mut stats =
        cgroup_stats(shared, &cgroup).await.context(|| format!("read usage of container {id}"))?;
    if disk {
        let upper = shared.writable_directory(id).join("upper");
        let usage = rt::unblock(move || crate::images::disk_usage(&upper)).await;
        (stats.writable_bytes, stats.writable_inodes) = (usage.bytes, usage.inodes);
    }
    Ok(stats)
}

pub(crate) async fn cgroup_stats(shared: &Arc<Shared>, path: &str) -> Result<Stats> {
    let hierarchies = shared.hierarchies.clone();
    let path = path.to_owned();
    let (cpu, memory, pids) = rt::unblock(move || {
        Ok::<_, Error>((
            hierarchies.cpu_stats(&path)?,
            hierarchies.memory_stats(&path)?,
            // The root cgroup has none.
            hierarchies.pids_stats(&path).unwrap_or_default(),
        ))
    })
    .await?;
    Ok(Stats { at: rt::now().wall, cpu, memory, pids, ..Stats::default() })
}

pub(crate) async fn attach(shared: &Arc<Shared>, id: &str, stdin: bool) -> Result<Session> {
    let status = shared.container(id)?;
    let plan = plan_of(shared, &status).await?;
    let directory = shared.sandbox_directory(&status.sandbox);
    let session = stream::open(&directory, &target(kind::ATTACH, id)).await;
    let mut session = session.context(|| format!("attach to container {id}"))?;
    // As containerd: input that is given once ends the container's, and the client sees how that goes on; else the
    // client has said what it had to say.
    session.ends_with_input = stdin && (plan.process.tty || !plan.stdin_once);
    Ok(session)
}

/// What the container's shim was told.
pub(crate) async fn plan_of(
    shared: &Shared,
    status: &ContainerStatus,
) -> Result<wire::shim::Container> {
    let id = &status.id;
    let plan_file = shared.container_directory(&status.sandbox, id).join(PLAN_FILE);
    let read = rt::unblock(move || rt::fs::read_record(&plan_file, records::RECORD_MAX_BYTES));
    let bytes = read.await?.context(|| format!("the plan of container {id} is missing"))?;
    decode(&bytes).context(|| format!("read the plan of container {id}"))
}

pub(crate) async fn exec(shared: &Arc<Shared>, id: &str, spec: ExecSpec) -> Result<Session> {
    let status = shared.container(id)?;
    if status.state != ContainerState::Running {
        return Err(Error::new(format!("exec in container {id}: it is not running")));
    }
    let directory = shared.sandbox_directory(&status.sandbox);
    let exec = plan::exec(plan_of(shared, &status).await?, &status, spec);
    let mut request = Vec::new();
    wire::shim::frame(&mut request, kind::EXEC, |out| exec.put(out));
    stream::open(&directory, &request).await.context(|| format!("exec in container {id}"))
}

pub(crate) async fn exec_sync(
    shared: &Arc<Shared>,
    id: &str,
    spec: ExecSpec,
    timeout: Duration,
    output_max_bytes: usize,
) -> Result<ExecOutput> {
    let spec = ExecSpec { stdin: false, ..spec };
    let mut output = ExecOutput::default();
    let mut killer = None;
    // The way into the container counts, too: what runs there can stop the process before its program. Until
    // there is a session, the shim kills it when nobody waits any more.
    let finished = rt::timeout(timeout, async {
        let Session { sender, mut receiver, .. } = exec(shared, id, spec).await?;
        killer = Some(sender);
        while let Some(chunk) = receiver.next().await {
            let (kept, bytes) = match chunk {
                Output::Stdout(bytes) => (&mut output.stdout, bytes),
                Output::Stderr(bytes) => (&mut output.stderr, bytes),
                Output::Exit(exit) => {
                    output.exit_code = Some(exit.code);
                    return Ok(());
                }
            };
            let room = output_max_bytes.saturating_sub(kept.len());
            output.truncated |= bytes.len() > room;
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Err(Error::new(format!("exec in container {id}: the session broke")))
    })
    .await;
    match finished {
        Ok(result) => result.map(|()| output),
        Err(_) => {
            if let Some(mut sender) = killer {
                sender.kill().await?;
            }
            Ok(output)
        }
    }
}
