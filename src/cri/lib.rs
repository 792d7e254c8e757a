//! The Container Runtime Interface over a socket, as containerd serves it.
//!
//! Requests become calls of [`runtime::Runtime`], whose sandboxes and containers are all shown, whoever made
//! them; those made here are owned by [`OWNER`], and no other owner touches them. What the runtime does not keep
//! (the configuration that a client asks for again) is one small file each in the state directory, so nothing is
//! in memory between requests but what a client's streams need.
//!
//! Whoever reaches the socket is an administrator of the machine; still, every request is bounded in size and
//! number. Must not know: the API server, pods' specs, how pods get their network (a trait answers).

mod containers;
pub mod crictl;
mod events;
mod figures;
mod files;
mod images;
mod info;
mod make;
mod refusal;
mod sandboxes;
mod service;
mod shown;
mod streaming;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rt::BoxFuture;
use runtime::{Runtime, SandboxStatus};
use stdx::{OrdMap, OrdSet, Result};

/// The runtime's name for the owner of sandboxes that come over the socket.
pub const OWNER: &str = "cri";

/// Where things are.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is kept about each sandbox; lost at reboot, as the runtime's own state.
    pub state: PathBuf,
    /// The directory of images, whose file system is reported.
    pub images: PathBuf,
    /// Cgroups of sandboxes are below it: `/`, or an absolute path without a slash at its end.
    pub cgroup_root: String,
    /// For sandboxes without a DNS configuration of their own.
    pub resolv_conf: PathBuf,
    /// The version that is reported, without a `v`.
    pub version: String,
}

/// A port of the host that leads to a port of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `None` is every address of the host.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
}

/// A sandbox as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The sandbox's id.
    pub id: String,
    /// Its network namespace.
    pub netns: PathBuf,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub host_ports: Vec<HostPort>,
}

/// Gives sandboxes addresses. Those on the host's network never come here.
pub trait PodNetwork: Send + Sync {
    /// Makes the namespace's loopback and `eth0` up, with addresses, routes and host ports. The primary address
    /// comes first. Idempotent for one id.
    fn add(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>>>;

    /// Takes all of it back; an unknown id is fine.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// The addresses of a sandbox, whoever made it; none if it has none.
    fn addresses(&self, id: &str) -> Vec<IpAddr>;

    /// Why no sandbox can get a network now, if so.
    fn not_ready(&self) -> Option<String>;
}

/// What the network is to be told again about a sandbox that is [`OWNER`]'s, when it begins anew; `None` for one that
/// needs nothing of it. Blocking.
pub fn attachment_of(config: &Config, sandbox: &SandboxStatus) -> Option<Attachment> {
    let is_live = sandbox.state == runtime::SandboxState::Ready && !sandbox.host_network;
    if sandbox.owner != OWNER || !is_live {
        return None;
    }
    let kept = files::sandbox(&config.state, &sandbox.id).unwrap_or_default();
    sandboxes::attachment(sandbox, &kept.config.port_mappings).ok()
}

/// A server of the interface over `runtime`, without a listener yet.
pub fn server(
    config: Config,
    runtime: Runtime,
    network: Arc<dyn PodNetwork>,
) -> http::server::Server {
    service::server(Arc::new(Shared {
        config,
        runtime,
        network,
        swept: AtomicBool::new(false),
        n_requests: AtomicUsize::new(0),
        names: Mutex::default(),
        sampled: Mutex::default(),
        streaming: rt::lock::Mutex::default(),
    }))
}

/// What all requests share.
struct Shared {
    config: Config,
    runtime: Runtime,
    network: Arc<dyn PodNetwork>,
    /// Whether files of sandboxes that are no more were removed.
    swept: AtomicBool,
    /// Requests under way.
    n_requests: AtomicUsize,
    /// Names of sandboxes and containers that are being made.
    names: Mutex<OrdSet<String>>,
    /// The last reading of CPU of each container that somebody asked for.
    sampled: Mutex<OrdMap<runtime::Id, figures::Sample>>,
    /// The server of streams, once a client wanted one.
    streaming: rt::lock::Mutex<Option<Arc<streaming::Streaming>>>,
}

/// What is behind these locks is changed in single steps, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
