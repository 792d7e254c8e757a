//! What all workers share: the neighbours, the node's figures, and the table of pods.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Object, Value};
use client::{Client, Informers};
use runtime::{Id, Runtime};
use stdx::OrdMap;

use crate::config::Config;
use crate::cpus::Cpus;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::events::Recorder;
use crate::figures::Figures;
use crate::images::Puller;
use crate::network::PodNetwork;
use crate::refs::Refs;
use crate::static_url::StaticUrl;
use crate::volumes::Mounted;
use podplan::{Done, Pod, Told};

/// The runtime's name for us as who owns sandboxes: none, as in records of versions that knew no owners.
pub(crate) const OWNER: &str = "";

pub(crate) struct Shared {
    pub config: Config,
    pub client: Client,
    pub runtime: Runtime,
    pub network: Arc<dyn PodNetwork>,
    pub recorder: Recorder,
    pub puller: Puller,
    pub refs: Refs,
    /// Pods of this node, and all services.
    pub informers: Informers,
    pub node: Mutex<NodeFacts>,
    /// `Config::node_ips` as they are now.
    pub node_ips: Mutex<Vec<IpAddr>>,
    pub slots: Slots,
    pub devices: Arc<Devices>,
    /// `None` where no container has CPUs alone.
    pub cpus: Option<Cpus>,
    /// Where static pods come from beside their directory.
    pub static_url: Option<StaticUrl>,
    pub csi: Arc<Csi>,
    pub figures: Arc<Figures>,
    /// Held while a pod is found its place.
    pub admission: Mutex<()>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubelet({})", self.config.node_name)
    }
}

/// What the node knows about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    /// The Node as it was last written or read.
    pub tree: Value,
    pub object: Option<Object>,
    pub memory_capacity: i64,
}

impl Shared {
    pub(crate) fn node(&self) -> NodeFacts {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn host_ips(&self) -> Vec<IpAddr> {
        self.node_ips.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The table of pods, by uid. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    table: Arc<Mutex<OrdMap<String, Arc<Slot>>>>,
    /// Notified when a pod has left the table.
    pub removed: Arc<rt::Event>,
    /// Volumes that one pod may use at a time, and the uid of the one that does.
    alone: Arc<Mutex<OrdMap<String, String>>>,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, OrdMap<String, Arc<Slot>>> {
        // Single steps that a panic cannot leave half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, uid: &str) -> Option<Arc<Slot>> {
        self.lock().get(uid).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Slot>> {
        let all = self.all();
        let mut found =
            all.into_iter().filter(|slot| slot.namespace == namespace && slot.name == name);
        // A pod that was deleted and made again under its name: the one that is not ending counts.
        let first = found.next()?;
        let gone = first.lock().gone;
        if gone { found.next().or(Some(first)) } else { Some(first) }
    }

    pub(crate) fn insert(&self, slot: Arc<Slot>) {
        self.lock().insert(slot.uid.clone(), slot);
    }

    /// Takes the pod out of the table; its worker has ended.
    pub(crate) fn remove(&self, uid: &str) -> Option<Arc<Slot>> {
        let removed = self.lock().remove(uid);
        self.let_go(uid);
        self.removed.notify(usize::MAX);
        self.tell_freed();
        removed
    }

    /// Gives a pod a volume for itself; false if another has it.
    pub(crate) fn use_alone(&self, volume: &str, uid: &str) -> bool {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        match alone.get(volume) {
            Some(user) => user == uid,
            None => {
                alone.insert(volume.to_owned(), uid.to_owned());
                true
            }
        }
    }

    /// A pod's volumes are down: those that wait for one of them try again.
    pub(crate) fn let_go(&self, uid: &str) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let before = alone.len();
        alone.retain(|_, user| user != uid);
        let freed = alone.len() < before;
        drop(alone);
        if freed {
            for slot in self.all() {
                slot.post(|inbox| inbox.poke = true);
            }
        }
    }

    /// A pod has given back what it had of the node: those that wait for room look again.
    pub(crate) fn tell_freed(&self) {
        for slot in self.all() {
            if slot.lock().held {
                slot.wake.notify(usize::MAX);
            }
        }
    }

    /// Wakes the worker of a pod, if there is one.
    pub(crate) fn wake(&self, uid: &str, change: impl FnOnce(&mut Inbox)) {
        if let Some(slot) = self.get(uid) {
            slot.post(change);
        }
    }
}

/// One pod's place: how everyone reaches its worker.
#[derive(Debug)]
pub(crate) struct Slot {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    inbox: Mutex<Inbox>,
    pub wake: rt::Event,
    /// The supervising task; dropped with the slot.
    pub task: Mutex<Option<rt::Task<()>>>,
}

/// What has happened since the worker last looked. Everything here is "the newest counts", but the
/// answers, of which there are at most as many as requests under way.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub object: Option<Object>,
    pub done: Vec<Done>,
    /// The runtime reported something about its sandbox or containers.
    pub runtime_changed: bool,
    /// Something it refers to changed.
    pub sources_changed: bool,
    /// An image arrived.
    pub poke: bool,
    /// A storage driver was registered.
    pub driver_came: bool,
    /// The status in the API is no longer what was last written.
    pub status_lost: bool,
    pub evict: Option<(Told, Option<i64>)>,
    /// A refresh of volumes has ended; when the next is due.
    pub refreshed: Option<Option<std::time::Duration>>,
    /// A write of the status has ended.
    pub reported: Option<Reported>,
    /// Stays true.
    pub gone: bool,
    /// The node has taken it: what it asks for is taken. Kept over restarts of the worker.
    pub admitted: bool,
    /// It waits for room.
    pub held: bool,

    /// Kept over restarts of the worker.
    pub snapshot: Snapshot,
}

/// How a write ended.
#[derive(Clone, Debug)]
pub(crate) enum Reported {
    Written(Kept, u64),
    Failed,
    /// There is no such object to write to.
    Nowhere,
}

/// What others may know of a pod: kept by the worker, read by everyone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub pod: Option<Arc<Pod>>,
    /// The status as the worker would write it.
    pub status: Kept,
    pub sandbox: Option<Id>,
    pub pod_ips: Vec<IpAddr>,
    /// Container name to the id of its newest and of the one before.
    pub containers: OrdMap<String, ContainerIds>,
    /// Names of the volumes and where they are.
    pub mounted: Option<Arc<OrdMap<String, Mounted>>>,
    /// It is on its way out.
    pub leaving: bool,
    /// Nothing of it runs or will run.
    pub terminal: bool,
    /// Nor has it a sandbox with a network any more.
    pub released: bool,
    pub cgroup: String,
}

/// A tree at rest: its text, which takes a tenth of the tree's memory, and is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept(Option<Arc<str>>);

impl Kept {
    pub(crate) fn new(tree: &Value) -> Kept {
        Kept(Some(tree.to_string().into()))
    }

    /// Null if nothing was kept yet.
    pub(crate) fn tree(&self) -> Value {
        // The text was written from a tree.
        self.0.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerIds {
    pub current: Option<String>,
    pub previous: Option<String>,
    pub attempt: u32,
}

impl Slot {
    pub(crate) fn new(uid: &str, namespace: &str, name: &str) -> Slot {
        Slot {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            inbox: Mutex::default(),
            wake: rt::Event::new(),
            task: Mutex::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn post(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.lock());
        self.wake.notify(usize::MAX);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }
}
