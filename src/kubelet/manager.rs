//! Which pods this node has: from the API, from disk after a restart, and from the runtime's events.

use std::sync::Arc;

use api::controller::Cache;
use api::{Lens, Object, Value, kinds};
use client::Interest;
use client::informer::Change;
use runtime::{Event, SandboxState, SandboxStatus};
use stdx::{Context, OrdMap, Result};

use crate::make::cgroup;
use crate::network::SandboxNetwork;
use crate::node;
use crate::shared::{OWNER, Shared, Slot};
use crate::volumes;
use crate::worker::{self, Adopted, CHECKPOINT};
use podplan::CONFIG_MIRROR;

/// Takes over what outlived the last k3rs: sandboxes with a checkpoint get their workers back.
pub(crate) async fn adopt(shared: &Arc<Shared>) -> Result<()> {
    let recovered = shared.runtime.recover().await.context(|| "recover containers")?;
    for line in &recovered.cleaned {
        log::info!("cleaned up: {line}");
    }
    let checkpoints = read_checkpoints(shared).await;
    let mut live: OrdMap<String, SandboxStatus> = OrdMap::new();
    for sandbox in shared.runtime.sandboxes_of(OWNER) {
        if sandbox.state != SandboxState::Ready {
            continue;
        }
        let newest = live.get(&sandbox.uid).is_none_or(|known| known.attempt < sandbox.attempt);
        if newest {
            live.insert(sandbox.uid.clone(), sandbox);
        }
    }
    let networked: Vec<(&SandboxStatus, SandboxNetwork)> = live
        .values()
        .filter(|sandbox| !sandbox.host_network)
        .filter_map(|sandbox| {
            let tree = checkpoints.get(&sandbox.uid).map(Object::tree).unwrap_or_default();
            Some((sandbox, worker::network_of(&tree, &sandbox.uid, sandbox).ok()?))
        })
        .collect();
    let wanted: Vec<SandboxNetwork> = networked.iter().map(|(_, wanted)| wanted.clone()).collect();
    let addresses = match shared.network.recover(&wanted).await {
        Ok(addresses) => addresses,
        Err(error) => {
            log::warn!("recover the pods' network: {error}");
            Vec::new()
        }
    };
    let mut ips_of: OrdMap<String, Vec<std::net::IpAddr>> = networked
        .iter()
        .zip(addresses)
        .map(|((sandbox, _), ips)| (sandbox.id.to_string(), ips))
        .collect();
    for (uid, sandbox) in &live {
        let Some(object) = checkpoints.get(uid) else { continue };
        let ips = match sandbox.host_network {
            true => shared.host_ips(),
            false => ips_of.remove(&*sandbox.id).unwrap_or_default(),
        };
        let directory = shared.config.pod_directory(uid);
        let adopted = Adopted {
            sandbox: Some((sandbox.id.to_string(), ips)),
            sandbox_attempt: sandbox.attempt + 1,
            mounted: rt::unblock(move || worker::remembered(&directory)).await,
            ..Adopted::default()
        };
        log::info!("pod {}/{}: adopted with its sandbox", sandbox.namespace, sandbox.name);
        take(shared, object.clone(), adopted);
    }
    Ok(())
}

/// A pod takes at most 3 MiB as the API's JSON.
const CHECKPOINT_MAX_BYTES: u64 = 16 << 20;

/// Objects of the pods that were checkpointed, by uid.
async fn read_checkpoints(shared: &Shared) -> OrdMap<String, Object> {
    let directory = shared.config.agent_directory.join("pods");
    rt::unblock(move || {
        let mut found = OrdMap::new();
        for path in rt::fs::list_dir(&directory).unwrap_or_default() {
            let Some(uid) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let read = || -> Result<Option<Object>> {
                let Some(bytes) = rt::fs::read_record(path.join(CHECKPOINT), CHECKPOINT_MAX_BYTES)?
                else {
                    return Ok(None);
                };
                let tree: Value =
                    serde_json::from_slice(&bytes).context(|| "parse a checkpoint")?;
                Object::from_tree(&kinds::POD, &tree).map(Some)
            };
            match read() {
                Ok(Some(object)) => {
                    found.insert(uid.to_owned(), object);
                }
                Ok(None) => {}
                Err(error) => log::warn!("checkpoint of pod {uid}: {error}"),
            }
        }
        found
    })
    .await
}

/// Starts following the API's pods of this node, and all services.
pub(crate) fn follow(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    shared.informers.listen(Arc::new(move |change: &Change| {
        if let Some(shared) = weak.upgrade() {
            on_change(&shared, change);
        }
    }));
    let selector = format!("spec.nodeName={}", shared.config.node_name);
    shared.informers.want(Interest { kind: &kinds::POD, field_selector: selector });
    // Its labels and taints as they are now decide which pods are taken.
    let selector = format!("metadata.name={}", shared.config.node_name);
    shared.informers.want(Interest { kind: &kinds::NODE, field_selector: selector });
    shared.informers.want(Interest::all(&kinds::SERVICE));
}

fn on_change(shared: &Arc<Shared>, change: &Change) {
    let Some(object) = change.object() else { return };
    if let Some(node) = change.new.as_ref().filter(|new| new.kind() == &kinds::NODE) {
        node::heard(shared, node);
    }
    if object.kind() != &kinds::POD {
        return;
    }
    if let (Some(old), new) = (&change.old, &change.new)
        && new.as_ref().is_none_or(|new| new.uid() != old.uid())
    {
        // Gone, or replaced by another of its name.
        shared.slots.wake(old.uid(), |inbox| inbox.gone = true);
    }
    let Some(object) = &change.new else { return };
    if let Some(uid) = mirror_of(object) {
        shared.slots.wake(&uid, |inbox| inbox.status_lost = true);
        return;
    }
    match shared.slots.get(object.uid()) {
        Some(slot) => slot.post(|inbox| inbox.object = Some(object.clone())),
        None => take_new(shared, object.clone()),
    }
}

/// The uid of the static pod that this object mirrors.
pub(crate) fn mirror_of(object: &Object) -> Option<String> {
    let tree = object.tree();
    tree.entry("metadata.annotations", CONFIG_MIRROR).map(str::to_owned)
}

/// Gives a pod without a live sandbox a worker.
pub(crate) fn take_new(shared: &Arc<Shared>, object: Object) {
    let adopted = worker::leftover(shared, object.uid());
    take(shared, object, adopted);
}

fn take(shared: &Arc<Shared>, object: Object, adopted: Adopted) {
    let slot = Arc::new(Slot::new(object.uid(), object.namespace(), object.name()));
    shared.slots.insert(Arc::clone(&slot));
    worker::spawn(shared, &slot, object, adopted);
}

/// Once the API has answered: pods that it no longer has are gone, and so is what belongs to no pod.
pub(crate) async fn reconcile_with_api(shared: Arc<Shared>) {
    shared.informers.synced(&[&kinds::POD]).await;
    let api: OrdMap<String, ()> = shared
        .informers
        .list(&kinds::POD, None)
        .into_iter()
        .map(|object| (object.uid().to_owned(), ()))
        .collect();
    for slot in shared.slots.all() {
        let is_static = slot.snapshot().pod.is_some_and(|pod| pod.is_static);
        if !is_static && !api.contains_key(&slot.uid) {
            slot.post(|inbox| inbox.gone = true);
        }
    }
    for sandbox in shared.runtime.sandboxes_of(OWNER) {
        if shared.slots.get(&sandbox.uid).is_none() {
            log::info!(
                "sandbox {} of {}/{}: belongs to no pod",
                sandbox.id,
                sandbox.namespace,
                sandbox.name
            );
            if let Err(error) = shared.network.remove(&sandbox.id).await {
                log::warn!("sandbox {}: {error}", sandbox.id);
            }
            if let Err(error) = shared.runtime.remove_sandbox(&sandbox.id).await {
                log::warn!("sandbox {}: {error}", sandbox.id);
            }
        }
    }
    remove_orphan_cgroups(&shared).await;
    let worker_shared = Arc::clone(&shared);
    rt::unblock(move || remove_orphans(&worker_shared)).await;
    shared.csi.pods_are_known();
}

/// Cgroups of pods that no longer exist, with whatever still runs in them: nobody else would come back to them.
async fn remove_orphan_cgroups(shared: &Shared) {
    // Whoever else makes sandboxes may have put one there.
    let others: Vec<String> = (shared.runtime.sandboxes().into_iter())
        .filter(|sandbox| sandbox.owner != OWNER)
        .map(|sandbox| sandbox.cgroup_parent)
        .collect();
    for place in cgroup::pod_places(&shared.config.cgroup_root) {
        for name in shared.runtime.cgroups_below(&place).await {
            let Some(uid) = name.strip_prefix("pod").filter(|uid| !uid.is_empty()) else {
                continue;
            };
            let path = format!("{place}/{name}");
            let is_theirs = |other: &String| {
                other
                    .strip_prefix(&path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if shared.slots.get(uid).is_none()
                && !others.iter().any(is_theirs)
                && let Err(error) = shared.runtime.cgroup_remove(&path).await
            {
                log::warn!("remove what is left of pod {uid}: {error}");
            }
        }
    }
}

/// Directories of pods that no longer exist. Blocking.
fn remove_orphans(shared: &Shared) {
    let directory = shared.config.agent_directory.join("pods");
    for path in rt::fs::list_dir(&directory).unwrap_or_default() {
        let Some(uid) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if shared.slots.get(uid).is_some() {
            continue;
        }
        let volatile = shared.config.pod_volatile_directory(uid);
        let removed =
            volumes::take_down(&path, &volatile).and_then(|()| rt::fs::remove_dir_all(&path));
        if let Err(error) = removed {
            log::warn!("remove what is left of pod {uid}: {error}");
        }
    }
    for path in rt::fs::list_dir(&shared.config.log_directory).unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let uid = name.rsplit('_').next().unwrap_or("");
        // Only what is named like ours: `<namespace>_<name>_<uid>`.
        if name.matches('_').count() == 2
            && !uid.is_empty()
            && shared.slots.get(uid).is_none()
            && let Err(error) = rt::fs::remove_dir_all(&path)
        {
            log::warn!("remove old logs: {error}");
        }
    }
}

/// Wakes workers for what the runtime reports.
pub(crate) async fn relay(shared: Arc<Shared>, events: rt::channel::Receiver<Event>) {
    while let Ok(event) = events.recv().await {
        let begun = rt::now().mono;
        match event {
            Event::ContainerStarted { sandbox, .. }
            | Event::ContainerExited { sandbox, .. }
            | Event::SandboxStopped { sandbox }
            | Event::SandboxLost { sandbox } => wake_sandbox(&shared, &sandbox),
            Event::ContainerOom { sandbox, container } => {
                tell_oom(&shared, &container);
                wake_sandbox(&shared, &sandbox);
            }
            Event::ImageImported { .. } => {
                for slot in shared.slots.all() {
                    slot.post(|inbox| inbox.poke = true);
                }
            }
            // Of these the worker knows from its own requests, or sees them with what follows.
            Event::SandboxStarted { .. }
            | Event::SandboxRemoved { .. }
            | Event::ContainerCreated { .. }
            | Event::ContainerRemoved { .. }
            | Event::ImageRemoved { .. } => {}
            Event::Lagged => {
                for slot in shared.slots.all() {
                    slot.post(|inbox| inbox.runtime_changed = true);
                }
            }
        }
        shared.figures.events.observe(rt::now().mono.since(begun));
    }
}

fn wake_sandbox(shared: &Shared, sandbox: &str) {
    match shared.runtime.sandbox(sandbox) {
        Some(status) => shared.slots.wake(&status.uid, |inbox| inbox.runtime_changed = true),
        None => {
            for slot in shared.slots.all() {
                if slot.snapshot().sandbox.as_deref() == Some(sandbox) {
                    slot.post(|inbox| inbox.runtime_changed = true);
                }
            }
        }
    }
}

/// As upstream: the node tells of out-of-memory kills.
fn tell_oom(shared: &Shared, container: &str) {
    let Some(node) = shared.node().object else { return };
    let pid = shared.runtime.container(container).and_then(|c| c.pid).unwrap_or(0);
    let name = shared.runtime.container(container).map_or_else(String::new, |c| c.name);
    let message = format!("System OOM encountered, victim process: {name}, pid: {pid}");
    shared.recorder.warning(&node, "SystemOOM", message);
}
