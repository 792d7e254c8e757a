//! What the tasks of all HelmCharts share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use api::{Object, Status};
use client::events::{Folder, Source as Teller};
use rt::lock::Semaphore;
use stdx::OrdMap;

use crate::cluster::Cluster;
use crate::packaged::Components;
use crate::source::Sources;
use crate::spec::MANAGER;

/// Charts that are fetched and rendered at one time, which takes memory.
const RENDERING_MAX: usize = 1;
/// Releases that are worked on at one time: some wait for hooks, with their records at hand.
const WORKING_MAX: usize = 8;

/// Namespace and name, which a HelmChart and its HelmChartConfig share.
pub(crate) type Key = (String, String);

/// What works for HelmCharts, and what is known beside them.
pub(crate) struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) sources: Sources,
    pub(crate) rendering: Semaphore,
    pub(crate) working: Semaphore,
    /// Components that are no charts here.
    pub(crate) packaged: Components,
    configs: Mutex<OrdMap<Key, Object>>,
    folder: Mutex<Folder>,
}

impl Shared {
    pub(crate) fn new(cluster: Cluster, sources: Sources, packaged: Components) -> Shared {
        Shared {
            cluster,
            sources,
            rendering: Semaphore::new(RENDERING_MAX),
            working: Semaphore::new(WORKING_MAX),
            packaged,
            configs: Mutex::default(),
            folder: Mutex::default(),
        }
    }

    pub(crate) fn configs(&self) -> MutexGuard<'_, OrdMap<Key, Object>> {
        self.configs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The HelmChartConfig of a HelmChart.
    pub(crate) fn config(&self, key: &Key) -> Option<Object> {
        self.configs().get(key).cloned()
    }

    /// Tells an Event about an object.
    pub(crate) async fn tell(&self, about: &Object, warning: bool, reason: &str, message: &str) {
        let source = Teller { component: MANAGER.into(), host: String::new() };
        let (now, suffix) = (rt::now().wall, rt::random_u64());
        let tell = {
            let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
            folder.tell(&source, about, "", warning, reason, message, now, suffix)
        };
        let sent: Result<(), Status> =
            client::driver::send_event(&self.cluster.client, tell, &self.folder).await;
        if let Err(status) = sent {
            log::debug!("helm controller: event {reason}: {status}");
        }
    }
}
