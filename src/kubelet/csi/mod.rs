//! What is known of storage drivers (CSI): which there are, how they are called, and the volumes that they have here.
//! Who has them do something is in `drivers`.
//!
//! A driver is another program: it may hang, lie or be gone. So each call has its time, an answer has its
//! bound, and nothing waits for a driver but the pods that have a volume of it. What was asked for is on
//! disk before a driver hears of it, in the kubelet's directory where upstream has it, so that whoever
//! comes after a restart of k3rs knows what to take down.

mod record;

pub use record::staged_for;
pub(crate) use record::{Record, is_driver_name};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use api::Quantity;
use http::Headers;
use http::client::{Client, Endpoint, Options, Protocol};
use http::grpc::{self, Code, Status};
use stdx::OrdMap;
use wire::csi::Capability;
use wire::message::Message;

/// How long a driver has for a call, as upstream.
const CALL_MAX: Duration = Duration::from_secs(120);
/// An answer, and the items in it.
const ANSWER_MAX_BYTES: usize = 256 << 10;
const ITEMS_MAX: usize = 4096;
/// Of what a driver says of its errors.
const MESSAGE_MAX_BYTES: usize = 1024;

/// The node's drivers, and the volumes that they have here.
#[derive(Debug, Default)]
pub(crate) struct Csi {
    /// `/var/lib/kubelet`.
    pub root: PathBuf,
    pub drivers: Mutex<OrdMap<String, Arc<Driver>>>,
    /// By driver and handle.
    volumes: Mutex<OrdMap<(String, String), Arc<Held>>>,
    /// The Node's `volumesInUse` is another.
    pub in_use_changed: rt::Event,
    /// The Node was heard of: a volume may be attached now.
    pub heard: rt::Event,
    /// Something on disk may belong to nobody.
    pub sweep: Mutex<Sweep>,
    pub sweep_wanted: rt::Event,
}

/// Whether to look for what belongs to nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Which pods there are is not known yet.
    #[default]
    TooEarly,
    Nothing,
    Wanted,
}

/// A driver that is registered.
#[derive(Debug)]
pub(crate) struct Driver {
    pub name: String,
    pub endpoint: PathBuf,
    /// The socket in `plugins_registry` that told of it.
    pub registered_by: PathBuf,
    pub capabilities: Vec<Capability>,
}

/// A volume that is, or is about to be, on this node. Whoever mounts it or takes it down holds its lock, in which is
/// whether it is staged for sure.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub staged: rt::lock::Mutex<bool>,
    /// It must be attached to the node first, and is in use there.
    pub attaches: std::sync::atomic::AtomicBool,
    pub growth: Mutex<Growth>,
}

/// How far a volume has grown on this node.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// As large as it was when the node had it first, or last grew it.
    pub size: Option<Quantity>,
    /// The driver will not do it, or not while the volume is in use: that is not asked for again until it is mounted anew.
    pub failed: bool,
    pub in_use: bool,
}

impl Driver {
    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Calls a method of the node's service.
    pub(crate) async fn call(&self, method: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
        ask(&self.endpoint, &format!("{}{method}", wire::csi::NODE), request, CALL_MAX).await
    }
}

impl Csi {
    /// What an earlier k3rs left in use is in use. Blocking.
    pub(crate) fn open(root: &Path) -> Csi {
        let csi = Csi { root: root.to_owned(), ..Csi::default() };
        for record in csi.records() {
            if !record.attachment.is_empty() {
                csi.held(&record.driver, &record.handle)
                    .attaches
                    .store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        csi
    }

    pub(crate) fn driver(&self, name: &str) -> Result<Arc<Driver>, String> {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.get(name).cloned().ok_or_else(|| {
            format!("driver name {name} not found in the list of registered CSI drivers")
        })
    }

    /// Whether any driver is here.
    pub(crate) fn has_drivers(&self) -> bool {
        !self.drivers.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The Node's `volumesInUse`.
    pub(crate) fn in_use(&self) -> Vec<String> {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = volumes
            .iter()
            .filter(|(_, held)| held.attaches.load(std::sync::atomic::Ordering::Relaxed));
        attached.map(|((driver, handle), _)| api::csi::unique_name(driver, handle)).collect()
    }

    /// Which pods there are is known now: the rest is taken down.
    pub(crate) fn pods_are_known(&self) {
        self.want_sweep(true);
    }

    pub(crate) fn want_sweep(&self, first: bool) {
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if first || *sweep != Sweep::TooEarly {
            *sweep = Sweep::Wanted;
            self.sweep_wanted.notify(usize::MAX);
        }
    }

    pub(crate) fn held(&self, driver: &str, handle: &str) -> Arc<Held> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (driver.to_owned(), handle.to_owned());
        if let Some(held) = volumes.get(&key) {
            return Arc::clone(held);
        }
        let held = Arc::<Held>::default();
        volumes.insert(key, Arc::clone(&held));
        held
    }

    /// Whether this is still the volume's, and not one that was let go meanwhile.
    pub(crate) fn is_current(&self, driver: &str, handle: &str, held: &Arc<Held>) -> bool {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = volumes.get(&(driver.to_owned(), handle.to_owned()));
        known.is_some_and(|known| Arc::ptr_eq(known, held))
    }

    /// The volume is on this node no more.
    pub(crate) fn let_go(&self, driver: &str, handle: &str) {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        volumes.remove(&(driver.to_owned(), handle.to_owned()));
        drop(volumes);
        self.in_use_changed.notify(usize::MAX);
    }
}

/// Calls a method of whoever listens at `socket`, which has `max` for it.
pub(crate) async fn ask(
    socket: &Path,
    method: &str,
    request: Vec<u8>,
    max: Duration,
) -> Result<Vec<u8>, Status> {
    // Calls are rare: connections are not kept beyond those under way.
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let client = CLIENT
        .get_or_init(|| Client::new(Options { idle_max: Duration::ZERO, ..Options::default() }));
    let endpoint = Endpoint::unix(socket).protocol(Protocol::Http2);
    let headers = Headers::new().with("grpc-timeout", format!("{}S", max.as_secs()));
    let call = grpc::unary(client, &endpoint, method, &headers, &request, ANSWER_MAX_BYTES);
    let late = || Err(Status::new(Code::DEADLINE_EXCEEDED, "context deadline exceeded"));
    rt::timeout(max, call).await.unwrap_or_else(|_| late())
}

pub(crate) fn read<T: Message + Default>(answer: &[u8]) -> Result<T, String> {
    T::decode(answer, ITEMS_MAX).map_err(|error| format!("the driver's answer: {error}"))
}

/// As Go prints it, and not longer than an event should be.
pub(crate) fn said(status: &Status) -> String {
    let text = &status.message;
    let end = (0..=MESSAGE_MAX_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    format!("rpc error: code = {} desc = {}", status.code.name(), &text[..end.unwrap_or(0)])
}

/// Whether the driver may still be at it.
pub(crate) fn is_uncertain(status: &Status) -> bool {
    [
        Code::CANCELLED,
        Code::DEADLINE_EXCEEDED,
        Code::UNAVAILABLE,
        Code::RESOURCE_EXHAUSTED,
        Code::ABORTED,
    ]
    .contains(&status.code)
}
