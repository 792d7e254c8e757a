//! Having drivers take down what pods had of them, and what nobody has any more.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stdx::{Error, Result};
use wire::csi::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};
use wire::message::Message;

use super::mount::{is_mounted, text};
use crate::csi::{Csi, Record, Sweep, said};
use crate::shared::Shared;

/// The next look for what belongs to nobody, where the last one left something.
const SWEEP_RETRY: Duration = Duration::from_secs(30);

/// Sweeps whenever that is wanted, for the kubelet's life. Drivers may take their time, so nothing else waits for it.
pub(super) async fn keep_sweeping(shared: &Shared) {
    let csi = &shared.csi;
    let is = |sweep: Sweep| *csi.sweep.lock().unwrap_or_else(PoisonError::into_inner) == sweep;
    loop {
        let wanted = csi.sweep_wanted.listen();
        if !is(Sweep::Wanted) {
            wanted.await;
            continue;
        }
        *csi.sweep.lock().unwrap_or_else(PoisonError::into_inner) = Sweep::Nothing;
        if sweep(shared).await {
            csi.want_sweep(false);
        }
        let wanted = csi.sweep_wanted.listen();
        if is(Sweep::Wanted) {
            rt::future::or(wanted, rt::sleep(SWEEP_RETRY)).await;
        }
    }
}

/// Has drivers take down what a pod has of them. Nothing of the pod may use it any more.
///
/// # Errors
/// If a driver is not there or does not do it. What it did is done.
pub(crate) async fn take_down(shared: &Shared, uid: &str) -> Result<()> {
    let csi = &shared.csi;
    let (of_all, pod) = (Arc::clone(csi), uid.to_owned());
    let records = rt::unblock(move || of_all.records_of(&pod)).await;
    let mut failures = Vec::new();
    for record in records {
        let (driver, handle) = (record.driver.clone(), record.handle.clone());
        let spec = record.spec.clone();
        let done = locked(csi, &driver, &handle, Some(record)).await;
        if let Err(error) = done {
            failures.push(format!("volume \"{spec}\": {error}"));
        }
    }
    let (of_all, pod) = (Arc::clone(csi), uid.to_owned());
    let rest = rt::unblock(move || of_all.remove_pod(&pod));
    match failures.is_empty() {
        true => rest.await,
        false => {
            Err(Error::new(format!("UnmountVolume.TearDown failed for {}", failures.join("; "))))
        }
    }
}

/// Takes a pod's volume down, and the volume from the node if no pod has it any more.
async fn locked(csi: &Arc<Csi>, driver: &str, handle: &str, record: Option<Record>) -> Result<()> {
    loop {
        let held = csi.held(driver, handle);
        let mut staged = held.staged.lock().await;
        if !csi.is_current(driver, handle, &held) {
            continue;
        }
        if let Some(record) = &record {
            unpublish(csi, record).await?;
        }
        let (of_all, names) = (Arc::clone(csi), (driver.to_owned(), handle.to_owned()));
        let used = rt::unblock(move || of_all.users(&names.0, &names.1)).await;
        if used == 0 {
            if let Err(error) = unstage(csi, driver, handle, &mut staged).await {
                // The pod has nothing of it any more, and need not wait.
                log::warn!("volume {handle} of driver {driver}: {error}");
                csi.want_sweep(false);
                return Ok(());
            }
            csi.let_go(driver, handle);
        }
        return Ok(());
    }
}

async fn unpublish(csi: &Csi, record: &Record) -> Result<()> {
    let driver = csi.driver(&record.driver).map_err(Error::new)?;
    let target = record.target.clone();
    let request =
        NodeUnpublishVolumeRequest { volume_id: record.handle.clone(), target_path: text(&target) };
    let done = driver.call("NodeUnpublishVolume", request.encode()).await;
    done.map_err(|status| Error::new(said(&status)))?;
    let record = record.clone();
    rt::unblock(move || {
        if is_mounted(&target)? {
            return Err(Error::new(format!("{} is still mounted", target.display())));
        }
        record.remove()
    })
    .await
}

async fn unstage(csi: &Arc<Csi>, driver: &str, handle: &str, staged: &mut bool) -> Result<()> {
    let (of_all, names) = (Arc::clone(csi), (driver.to_owned(), handle.to_owned()));
    if !rt::unblock(move || of_all.is_staged(&names.0, &names.1)).await {
        return Ok(());
    }
    let place = csi.staging_place(driver, handle);
    let request = NodeUnstageVolumeRequest {
        volume_id: handle.to_owned(),
        staging_target_path: text(&place),
    };
    let found = csi.driver(driver).map_err(Error::new)?;
    *staged = false;
    let done = found.call("NodeUnstageVolume", request.encode()).await;
    done.map_err(|status| Error::new(said(&status)))?;
    let (of_all, names) = (Arc::clone(csi), (driver.to_owned(), handle.to_owned()));
    rt::unblock(move || {
        if is_mounted(&place)? {
            return Err(Error::new(format!("{} is still mounted", place.display())));
        }
        of_all.remove_staged(&names.0, &names.1)
    })
    .await
}

/// Takes down what pods that are no more have left, and volumes that no pod has. True if something is left.
async fn sweep(shared: &Shared) -> bool {
    let csi = &shared.csi;
    let of_all = Arc::clone(csi);
    let uids = rt::unblock(move || {
        let pods = rt::fs::list_dir(of_all.pods()).unwrap_or_default();
        let uids = pods.iter().filter_map(|pod| Some(pod.file_name()?.to_str()?.to_owned()));
        // Whatever has no record is not ours.
        uids.filter(|uid| of_all.has_records(uid)).collect::<Vec<String>>()
    });
    let mut left = false;
    for uid in uids.await {
        if shared.slots.get(&uid).is_none()
            && let Err(error) = take_down(shared, &uid).await
        {
            log::warn!("what is left of pod {uid}: {error}");
            left = true;
        }
    }
    let of_all = Arc::clone(csi);
    for (driver, handle) in rt::unblock(move || of_all.all_staged()).await {
        let (of_all, names) = (Arc::clone(csi), (driver.clone(), handle.clone()));
        if rt::unblock(move || of_all.users(&names.0, &names.1)).await == 0 {
            left |= locked(csi, &driver, &handle, None).await.is_err();
        }
    }
    left
}
