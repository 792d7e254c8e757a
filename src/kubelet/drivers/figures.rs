//! How full volumes are: what a driver says of its own; of the others what their directory has.

use std::path::PathBuf;
use std::time::Duration;

use sys::space::Space;
use wire::csi::{Capability, NODE, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, Unit};
use wire::message::Message;

use crate::csi::{Record, ask, read};
use crate::shared::Shared;
use crate::volumes::directory_size;

/// Whoever asks for figures waits for each driver no longer.
const FIGURES_MAX: Duration = Duration::from_secs(5);

/// The space of the file system in which a volume is, and the bytes and inodes that are used in the volume; `None` if
/// nobody says so. A driver's volume is never looked into: its file system may hang, or be endless.
pub(crate) async fn measure(shared: &Shared, path: PathBuf) -> Option<(Space, (u64, u64))> {
    let csi = &shared.csi;
    if !path.starts_with(csi.pods()) {
        let local = move || Some((sys::space::of(&path).ok()?, directory_size(&path)));
        return rt::unblock(local).await;
    }
    let directory = path.parent()?.to_owned();
    let record = rt::unblock(move || Record::read(&directory)).await?;
    let driver = csi.driver(&record.driver).ok()?;
    if !driver.can(Capability::GET_VOLUME_STATS) {
        return None;
    }
    let staging = csi.staging_place(&record.driver, &record.handle);
    let request = NodeGetVolumeStatsRequest {
        volume_path: path.to_string_lossy().into_owned(),
        staging_target_path: match driver.can(Capability::STAGE_UNSTAGE_VOLUME) {
            true if !record.ephemeral => staging.to_string_lossy().into_owned(),
            _ => String::new(),
        },
        volume_id: record.handle,
    };
    let method = format!("{NODE}NodeGetVolumeStats");
    let answer = ask(&driver.endpoint, &method, request.encode(), FIGURES_MAX).await.ok()?;
    let answer: NodeGetVolumeStatsResponse = read(&answer).ok()?;
    let (mut space, mut used) = (Space::default(), (0, 0));
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    for usage in &answer.usage {
        match usage.unit {
            Unit::BYTES => {
                space.total_bytes = count(usage.total);
                space.available_bytes = count(usage.available);
                space.free_bytes = count(usage.available);
                used.0 = count(usage.used);
            }
            Unit::INODES => {
                space.inodes = count(usage.total);
                space.inodes_free = count(usage.available);
                used.1 = count(usage.used);
            }
            _ => {}
        }
    }
    Some((space, used))
}
