//! The end of a deleted pod: last status, last traces on this node, and the object itself.

use std::sync::Arc;

use api::kinds;
use client::DeleteOptions;
use stdx::{Context, Result};

use super::Worker;
use super::report::{api_object, status_over, write};
use super::sandbox::remove;
use crate::drivers;
use crate::shared::{OWNER, Shared, Slot};
use crate::volumes;
use podplan::{Done, Pod};

impl Worker {
    pub(super) fn finish(&mut self) {
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.slot));
        let (pod, state, cgroup) = (Arc::clone(&self.pod), self.state.clone(), self.cgroup_path());
        self.launch("end", Done::FinishFailed, async move {
            // The owner of the pod learns how it ended before it is gone.
            if !state.gone
                && !state.settled
                && let Some(object) = api_object(&shared, &pod)
            {
                let status = status_over(&shared, &pod, &state, &object.tree());
                write(Arc::clone(&shared), object, status).await;
            }
            match clear(&shared, &slot, &pod, &cgroup, state.gone).await {
                Ok(()) => Done::Finished,
                Err(error) => {
                    log::warn!("pod {}/{}: {error}", pod.namespace, pod.name);
                    Done::FinishFailed
                }
            }
        });
    }
}

/// A static pod that comes back under its uid gets a mirror of its own: this one shows how the old one
/// ended. Where the API is away, the next mirror is made over this one.
async fn remove_mirror(shared: &Shared, pod: &Pod) {
    let Some(mirror) = api_object(shared, pod) else { return };
    let options = DeleteOptions {
        grace_secs: Some(0),
        uid: Some(mirror.uid().to_owned()),
        ..DeleteOptions::default()
    };
    let deleted = shared.client.delete(&kinds::POD, &pod.namespace, &pod.name, options).await;
    if let Err(status) = deleted {
        log::debug!("mirror of static pod {}/{}: {status}", pod.namespace, pod.name);
    }
}

async fn clear(shared: &Shared, slot: &Slot, pod: &Pod, cgroup: &str, gone: bool) -> Result<()> {
    let ours: Vec<String> = shared
        .runtime
        .sandboxes_of(OWNER)
        .into_iter()
        .filter(|sandbox| sandbox.uid == slot.uid)
        .map(|sandbox| sandbox.id.to_string())
        .collect();
    for id in ours {
        remove(shared, &id).await;
    }
    shared.runtime.cgroup_remove(cgroup).await?;
    let directory = shared.config.pod_directory(&slot.uid);
    let volatile = shared.config.pod_volatile_directory(&slot.uid);
    let logs = shared.config.pod_log_directory(&pod.namespace, &pod.name, &slot.uid);
    let uid = slot.uid.clone();
    let (below, memory) = (directory.clone(), volatile);
    rt::unblock(move || volumes::take_down(&below, &memory))
        .await
        .context(|| format!("take down the volumes of pod {uid}"))?;
    drivers::take_down(shared, &uid).await?;
    rt::unblock(move || {
        rt::fs::remove_dir_all(&directory)?;
        rt::fs::remove_dir_all(&logs)
    })
    .await
    .context(|| format!("remove the files of pod {uid}"))?;
    shared.refs.hold(&slot.uid, &[]);
    if pod.is_static {
        remove_mirror(shared, pod).await;
    }
    if !gone && !pod.is_static {
        let options = DeleteOptions {
            grace_secs: Some(0),
            uid: Some(slot.uid.clone()),
            ..DeleteOptions::default()
        };
        let deleted = shared.client.delete(&kinds::POD, &pod.namespace, &pod.name, options).await;
        match deleted {
            // A conflict is another pod under the same name: ours is gone.
            Err(status) if !status.is_not_found() && !status.is_conflict() => {
                return Err(status).context(|| "delete it from the API");
            }
            _ => {}
        }
    }
    Ok(())
}
