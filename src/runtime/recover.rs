//! Finding what an earlier k3rs left: live shims are adopted, the rest is cleaned.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stdx::time::Wall;
use stdx::{Error, Result};
use wire::shim::State;

use crate::link::exit_status;
use crate::records::{self, ContainerRecord, SandboxRecord};
use crate::sandboxes;
use crate::state::Shared;
use crate::status::{ContainerState, Id, Recovered, SandboxState};

/// How long a shim that is alive may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The kernel's file has 37.
const BOOT_ID_MAX_BYTES: u64 = 4096;

pub(crate) async fn recover(shared: &Arc<Shared>) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    forget_last_boot(shared, &mut recovered).await?;
    let state = shared.config.state.clone();
    for directory in rt::unblock(move || rt::fs::list_dir(&state)).await? {
        let Some(id) = directory.file_name().and_then(|name| name.to_str()) else { continue };
        if crate::is_id(id) && !shared.tables().sandboxes.contains_key(id) {
            recover_sandbox(shared, &id.into(), &directory, &mut recovered).await;
        }
    }
    clean_writable(shared).await;
    for line in &recovered.cleaned {
        log::info!("runtime: {line}");
    }
    Ok(recovered)
}

/// State of an earlier boot describes nothing that lives, if its directory survived at all.
async fn forget_last_boot(shared: &Arc<Shared>, recovered: &mut Recovered) -> Result<()> {
    let state = shared.config.state.clone();
    let is_stale = rt::unblock(move || -> Result<bool> {
        let boot = rt::fs::read_within("/proc/sys/kernel/random/boot_id", BOOT_ID_MAX_BYTES)?;
        let file = state.join("boot-id");
        let known = rt::fs::read_record(&file, BOOT_ID_MAX_BYTES).unwrap_or_default();
        if known.as_ref() == Some(&boot) {
            return Ok(false);
        }
        for path in rt::fs::list_dir(&state)? {
            // What containers left must not keep the node from starting.
            if path.file_name().and_then(|name| name.to_str()).is_some_and(crate::is_id)
                && let Err(error) = rt::fs::remove_dir_all(&path)
            {
                log::warn!("state of an earlier boot: {error}");
            }
        }
        rt::fs::replace(&file, &boot, 0o600)?;
        Ok(known.is_some())
    })
    .await?;
    if is_stale {
        recovered.cleaned.push("removed the state of an earlier boot".to_owned());
    }
    Ok(())
}

async fn recover_sandbox(
    shared: &Arc<Shared>,
    id: &Id,
    directory: &Path,
    recovered: &mut Recovered,
) {
    let read = directory.to_owned();
    let record = match rt::unblock(move || records::load::<SandboxRecord>(&read)).await {
        Ok(record) => record,
        Err(error) => {
            // Without a record it was never finished: nothing can run in it.
            let gone = directory.to_owned();
            let removed = rt::unblock(move || rt::fs::remove_dir_all(&gone)).await;
            let how = removed.err().map_or("removed".to_owned(), |error| error.to_string());
            recovered.cleaned.push(format!("sandbox {id} has no usable record ({error}): {how}"));
            return;
        }
    };
    let created_at = Wall(record.created_at);
    let subscribed = rt::timeout(ANSWER_MAX, sandboxes::subscribe(directory)).await;
    let live = match subscribed {
        Ok(Ok((link, state))) => {
            sandboxes::adopt(shared, id.clone(), created_at, record.spec.clone(), link, state.pid);
            Some(state)
        }
        _ => {
            sandboxes::insert(
                shared,
                id.clone(),
                created_at,
                record.spec.clone(),
                SandboxState::NotReady,
                0,
                None,
            );
            None
        }
    };
    recovered.sandboxes.push(id.clone());
    let list = directory.to_owned();
    let parts = rt::unblock(move || rt::fs::list_dir(&list)).await.unwrap_or_default();
    for path in parts {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if crate::is_id(name) {
            recover_container(shared, id, &path, live.as_ref(), recovered).await;
        }
    }
}

async fn recover_container(
    shared: &Arc<Shared>,
    sandbox: &Id,
    directory: &Path,
    live: Option<&State>,
    recovered: &mut Recovered,
) {
    let read = directory.to_owned();
    let record = match rt::unblock(move || records::load::<ContainerRecord>(&read)).await {
        Ok(record) => record,
        Err(error) => {
            let gone = directory.to_owned();
            let _ = rt::unblock(move || rt::fs::remove_dir_all(&gone)).await;
            recovered.cleaned.push(format!("removed {}: {error}", directory.display()));
            return;
        }
    };
    let id = record.id.clone();
    let cgroup = record.cgroup.clone();
    let known = live.and_then(|state| state.containers.iter().find(|one| one.id == id));
    match known {
        Some(container) => {
            let started_at = (container.started_at != 0).then_some(Wall(container.started_at));
            let (state, pid) = match (&container.exit, started_at) {
                (Some(exit), _) => {
                    recovered.exited += 1;
                    (ContainerState::Exited(exit_status(exit.clone())), None)
                }
                (None, Some(_)) => {
                    recovered.running += 1;
                    (ContainerState::Running, Some(container.pid))
                }
                (None, None) => (ContainerState::Created, Some(container.pid)),
            };
            shared.insert_container(sandbox.clone(), record, state, pid, started_at);
        }
        None => {
            // Its shim does not have it, or is gone itself.
            let exit = sandboxes::settle(shared, sandbox, &id, &cgroup).await;
            if exit.is_unknown() {
                recovered.cleaned.push(format!("container {id}: {}", exit.message));
            }
            recovered.exited += 1;
            let started_at = Some(Wall(record.created_at));
            shared.insert_container(
                sandbox.clone(),
                record,
                ContainerState::Exited(exit),
                None,
                started_at,
            );
        }
    }
}

/// Writable layers of containers that nobody knows. What containers made of them may take long to
/// remove, and the node does not wait for it: their names are never used again.
async fn clean_writable(shared: &Arc<Shared>) {
    let directory = shared.config.root.join("writable");
    let mut parts = rt::unblock(move || rt::fs::list_dir(&directory)).await.unwrap_or_default();
    parts.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        !shared.tables().containers.contains_key(name)
    });
    if parts.is_empty() {
        return;
    }
    let removal = rt::unblock(move || {
        for path in parts {
            match rt::fs::remove_dir_all(&path) {
                Ok(()) => log::info!("runtime: removed {}, of no container", path.display()),
                Err(error) => log::warn!("runtime: writable layer of no container: {error}"),
            }
        }
    });
    rt::spawn(removal).detach();
}

pub(crate) async fn teardown_all(shared: &Arc<Shared>, images: bool) -> Result<()> {
    let mut errors = Vec::new();
    // Find what is not known yet, then remove what is.
    if let Err(error) = recover(shared).await {
        errors.push(error.to_string());
    }
    let sandboxes: Vec<(Id, String)> = shared
        .tables()
        .sandboxes
        .values()
        .map(|entry| (entry.status.id.clone(), entry.status.cgroup_parent.clone()))
        .collect();
    for (id, cgroup) in sandboxes {
        if let Err(error) = sandboxes::remove(shared, &id).await {
            errors.push(error.to_string());
        }
        let hierarchies = shared.hierarchies.clone();
        if !cgroup.trim_matches('/').is_empty()
            && let Err(error) = rt::unblock(move || hierarchies.remove(&cgroup)).await
        {
            errors.push(error.to_string());
        }
    }
    let config = shared.config.clone();
    let removed = rt::unblock(move || {
        rt::fs::remove_dir_all(config.root.join("writable"))?;
        rt::fs::remove_dir_all(&config.state)?;
        if images { rt::fs::remove_dir_all(&config.root) } else { Ok(()) }
    })
    .await;
    errors.extend(removed.err().map(|error| error.to_string()));
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Error::new(errors.join("; "))),
    }
}
