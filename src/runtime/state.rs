//! The runtime's view of what exists: tables of sandboxes and containers, and who watches the shims.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stdx::{Context, Error, Result};
use stdx::{OrdMap, time::Wall};
use sys::cgroup::Hierarchies;

use crate::events::Events;
use crate::link::sandbox_directory;
use crate::records::ContainerRecord;
use crate::status::{ContainerState, ContainerStatus, Event, ExitStatus, Id, SandboxStatus};
use crate::zygote::Zygote;
use crate::{Config, Images};

/// Everything that clones of `Runtime` share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) images: Images,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) events: Arc<Events>,
    pub(crate) zygote: Zygote,
    /// Notified at every change of the tables.
    pub(crate) changed: rt::Event,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) sandboxes: OrdMap<Id, SandboxEntry>,
    pub(crate) containers: OrdMap<Id, ContainerEntry>,
}

#[derive(Debug)]
pub(crate) struct SandboxEntry {
    pub(crate) status: SandboxStatus,
    pub(crate) hostname: String,
    /// Held by whoever ends it or removes something of it: there may be several at once. Nothing waits for a shim
    /// without a bound while it holds this, or who would end that shim waited, too.
    pub(crate) ending: Arc<rt::lock::Mutex<()>>,
    /// Follows the shim's events; dropping it stops following.
    pub(crate) watcher: Option<rt::Task<Option<()>>>,
}

#[derive(Debug)]
pub(crate) struct ContainerEntry {
    pub(crate) status: ContainerStatus,
    pub(crate) mounted_images: Vec<String>,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        images: Images,
        hierarchies: Hierarchies,
        events: Arc<Events>,
    ) -> Shared {
        let zygote = Zygote::new(
            config.shim_command.clone(),
            config.search_path.clone(),
            config.state.clone(),
        );
        Shared {
            zygote,
            config,
            images,
            hierarchies,
            events,
            changed: rt::Event::new(),
            tables: Mutex::new(Tables::default()),
        }
    }

    /// Waits until nobody else ends this sandbox or removes something of it; `None` if it is gone.
    pub(crate) async fn alone(&self, sandbox: &str) -> Option<rt::lock::MutexGuardArc<()>> {
        let ending = self.tables().sandboxes.get(sandbox).map(|entry| entry.ending.clone())?;
        Some(ending.lock_arc().await)
    }

    /// The tables are only changed in steps that leave them consistent, so a panic elsewhere does not
    /// make them unusable.
    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn sandbox_directory(&self, id: &str) -> PathBuf {
        sandbox_directory(&self.config.state, id)
    }

    pub(crate) fn container_directory(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox_directory(sandbox).join(id)
    }

    /// The container's writable layer, on disk because it may be large.
    pub(crate) fn writable_directory(&self, id: &str) -> PathBuf {
        self.config.root.join("writable").join(id)
    }

    pub(crate) fn container(&self, id: &str) -> Result<ContainerStatus> {
        let tables = self.tables();
        let entry =
            tables.containers.get(id).context(|| format!("container {id} does not exist"))?;
        Ok(entry.status.clone())
    }

    /// The state directory of the sandbox that a container is in.
    pub(crate) fn shim_of(&self, container: &str) -> Result<PathBuf> {
        Ok(self.sandbox_directory(&self.container(container)?.sandbox))
    }

    /// Notes an exit, once, and tells everyone.
    pub(crate) fn container_exited(&self, id: &str, exit: ExitStatus) {
        let sandbox = {
            let mut tables = self.tables();
            let Some(entry) = tables.containers.get_mut(id) else { return };
            if entry.status.exit().is_some() {
                return;
            }
            entry.status.state = ContainerState::Exited(exit.clone());
            entry.status.pid = None;
            entry.status.sandbox.clone()
        };
        self.notify();
        let container: Id = id.into();
        if exit.oom_killed {
            let (sandbox, container) = (sandbox.clone(), container.clone());
            self.events.publish(&Event::ContainerOom { sandbox, container });
        }
        self.events.publish(&Event::ContainerExited { sandbox, container, exit });
    }

    /// Puts a container into the tables and holds its images.
    pub(crate) fn insert_container(
        &self,
        sandbox: Id,
        record: ContainerRecord,
        state: ContainerState,
        pid: Option<u32>,
        started_at: Option<Wall>,
    ) {
        let id: Id = record.id.as_str().into();
        self.images.hold(&record.image_id);
        record.mounted_images.iter().for_each(|image| self.images.hold(image));
        let status = ContainerStatus {
            id: id.clone(),
            sandbox,
            name: record.name,
            attempt: record.attempt,
            state,
            pid,
            created_at: Wall(record.created_at),
            started_at,
            image: record.image,
            image_id: record.image_id,
            image_ref: record.image_ref,
            uid: record.uid,
            gid: record.gid,
            groups: record.groups,
            log_path: record.log_path,
            cgroup: record.cgroup,
            stop_signal: record.stop_signal,
            labels: record.labels,
            annotations: record.annotations,
        };
        let entry = ContainerEntry { status, mounted_images: record.mounted_images };
        self.tables().containers.insert(id, entry);
        self.notify();
    }

    /// Takes a container out of the tables and releases its images.
    pub(crate) fn forget_container(&self, id: &str) {
        let removed = self.tables().containers.remove(id);
        if let Some(entry) = removed {
            self.images.release(&entry.status.image_id);
            entry.mounted_images.iter().for_each(|image| self.images.release(image));
        }
        self.notify();
    }

    /// The containers of a sandbox.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<ContainerStatus> {
        let tables = self.tables();
        let all = tables.containers.values();
        all.filter(|entry| &*entry.status.sandbox == sandbox)
            .map(|entry| entry.status.clone())
            .collect()
    }
}

/// Runs `work` to its end even if the caller goes away, so that nothing is left half made.
pub(crate) async fn finish<T: Send + 'static>(
    what: &'static str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = rt::channel::bounded(1);
    // On the heap before it is passed on: a pull's future is large.
    let work = Box::pin(work);
    rt::spawn_named(what, async move {
        let result = work.await;
        // Nobody may be left to hear it.
        let _ = sender.try_send(result);
    })
    .detach();
    match receiver.recv().await {
        Ok(result) => result,
        Err(_) => Err(Error::new(format!("{what}: an internal error was logged"))),
    }
}

/// Sixty-four random hex digits.
pub(crate) fn new_id() -> Id {
    let mut bytes = [0; 32];
    rt::random(&mut bytes);
    wire::hex::encode(&bytes).into()
}
