//! Housekeeping: logs are rotated, unused images removed, released local volumes deleted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::controller::Cache;
use api::{Lens, json, kinds};
use client::{Informers, Interest, PatchType};
use runtime::ContainerState;
use stdx::Result;
use stdx::time::Wall;

use crate::shared::{OWNER, Shared};
use crate::volumes;

/// How often the sizes of logs are looked at, and the disk for images.
const LOGS_EVERY: Duration = Duration::from_secs(10);
const IMAGES_EVERY: u32 = 30;

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut looks = 0u32;
    loop {
        rt::sleep(LOGS_EVERY).await;
        looks = looks.wrapping_add(1);
        rotate_logs(&shared).await;
        if looks.is_multiple_of(IMAGES_EVERY) {
            collect_images(&shared).await;
        }
    }
}

async fn rotate_logs(shared: &Shared) {
    for container in shared.runtime.containers() {
        let (ContainerState::Running, Some(path)) = (&container.state, container.log_path) else {
            continue;
        };
        let sandbox = shared.runtime.sandbox(&container.sandbox);
        if sandbox.is_none_or(|sandbox| sandbox.owner != OWNER) {
            continue;
        }
        let max = shared.config.container_log_max_bytes;
        if path.metadata().map_or(0, |metadata| metadata.len()) < max {
            continue;
        }
        let keep = shared.config.container_log_files_max;
        let now = rt::now().wall;
        let (log, id) = (path.clone(), container.id.clone());
        let rotated = rt::unblock(move || rotate(&log, keep, now)).await;
        let done = match rotated {
            Ok(()) => shared.runtime.reopen_log(&id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            log::warn!("rotate {}: {error}", path.display());
        }
    }
}

/// Renames the log and removes the oldest beyond `keep` files in all. Blocking.
fn rotate(path: &Path, keep: usize, now: Wall) -> Result<()> {
    let stamp: String = api::time::format(now)
        .chars()
        .filter_map(|c| match c {
            'T' => Some('-'),
            c if c.is_ascii_digit() => Some(c),
            _ => None,
        })
        .collect();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("log");
    rt::fs::rename(path, path.with_file_name(format!("{name}.{stamp}")))?;
    let prefix = format!("{name}.");
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut old: Vec<PathBuf> = rt::fs::list_dir(parent)?
        .into_iter()
        .filter(|path| {
            path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&prefix))
        })
        .collect();
    // The current file counts among `keep`.
    let excess = (old.len() + 1).saturating_sub(keep.max(2));
    for path in old.drain(..excess.min(old.len())) {
        rt::fs::remove_file(path)?;
    }
    Ok(())
}

/// Images that are too old go, and above the high mark of disk usage others until the low one.
async fn collect_images(shared: &Shared) {
    if let Some(age) = shared.config.image_gc_max_age {
        match shared.runtime.images().collect_garbage(u64::MAX, age).await {
            Ok(0) => {}
            Ok(freed) => log::info!("images: {freed} bytes freed of those that were not used"),
            Err(error) => log::warn!("collect images: {error}"),
        }
    }
    let directory = shared.config.agent_directory.clone();
    let Ok(space) = rt::unblock(move || sys::space::of(directory)).await else { return };
    let used = space.total_bytes.saturating_sub(space.available_bytes);
    let Some(to_free) = to_free(
        used,
        space.total_bytes,
        shared.config.image_gc_high_percent,
        shared.config.image_gc_low_percent,
    ) else {
        return;
    };
    let freed =
        shared.runtime.images().collect_garbage(to_free, shared.config.image_gc_min_age).await;
    match freed {
        Ok(freed) if freed < to_free => {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {to_free} bytes, but only found {freed} bytes eligible to free."
            );
            log::warn!("{message}");
            if let Some(node) = shared.node().object {
                shared.recorder.warning(&node, "FreeDiskSpaceFailed", message);
            }
        }
        Ok(freed) => log::info!("images: {freed} bytes freed"),
        Err(error) => log::warn!("collect images: {error}"),
    }
}

fn to_free(used: u64, total: u64, high_percent: u64, low_percent: u64) -> Option<u64> {
    let percent = used.saturating_mul(100) / total.max(1);
    (percent >= high_percent).then(|| used.saturating_sub(total / 100 * low_percent))
}

/// Removes directories of local-path volumes that are being deleted, then lets the volume go.
pub(crate) async fn release_local_paths(shared: Arc<Shared>) {
    /// After a failure, before the next change.
    const RETRY: Duration = Duration::from_secs(10);
    // Of its own: pods must not wait for a list of volumes that this identity may not be allowed.
    let client = shared.config.local_path_client.clone().unwrap_or_else(|| shared.client.clone());
    let informers = Informers::new(client.clone());
    // Filled by the listener before the view is looked at, so that no change falls between.
    let (tell, changed) = rt::channel::bounded(1);
    informers.listen(Arc::new(move |_| {
        // Full is as good: it says that there is something to look at.
        let _ = tell.try_send(());
    }));
    informers.want(Interest::all(&kinds::PERSISTENT_VOLUME));
    informers.synced(&[&kinds::PERSISTENT_VOLUME]).await;
    let node = shared.config.node_name.clone();
    loop {
        let mut failed = false;
        for object in informers.list(&kinds::PERSISTENT_VOLUME, None) {
            if !object.deleting() {
                continue;
            }
            let tree = object.tree();
            let Some(path) = volumes::local_path_of(&tree, &node) else { continue };
            let name = object.name().to_owned();
            let shown = path.display().to_string();
            let removed = rt::unblock(move || volumes::release_local_path(&path, &name)).await;
            if let Err(error) = removed {
                log::warn!("volume {}: {error}", object.name());
                failed = true;
                continue;
            }
            log::info!("volume {}: removed {shown}", object.name());
            let finalizers: Vec<&str> = tree
                .list("metadata.finalizers")
                .iter()
                .filter_map(api::Value::as_str)
                .filter(|finalizer| *finalizer != volumes::LOCAL_PATH_FINALIZER)
                .collect();
            let patch = json!({"metadata": {"uid": object.uid(),
                "resourceVersion": object.revision().to_string(), "finalizers": finalizers}});
            let patched = client
                .patch(&kinds::PERSISTENT_VOLUME, "", object.name(), "", PatchType::Merge, patch)
                .await;
            match patched {
                Err(status) if !status.is_not_found() => {
                    log::debug!("volume {}: {status}", object.name());
                    failed = true;
                }
                _ => {}
            }
        }
        let change = async {
            // The sender lives in the informers, which this function holds.
            let _ = changed.recv().await;
        };
        match failed {
            true => rt::future::or(change, rt::sleep(RETRY)).await,
            false => change.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_rotate_and_the_oldest_go() {
        let dir = crate::testing::directory("rotate");
        let path = dir.path().join("0.log");
        for secs in 0..5 {
            rt::fs::write(&path, b"x", 0o640).unwrap();
            rotate(&path, 3, Wall::from_secs(secs)).unwrap();
        }
        let names: Vec<String> = rt::fs::list_dir(dir.path())
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["0.log.19700101-000003", "0.log.19700101-000004"]);
    }

    #[test]
    fn images_are_freed_between_the_marks() {
        assert_eq!(to_free(84, 100, 85, 80), None);
        assert_eq!(to_free(9000, 10_000, 85, 80), Some(1000));
    }
}
