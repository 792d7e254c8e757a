//! The door to whoever wires pods to the network: the kubelet asks, `net` (or a CNI plugin) answers.

use std::net::IpAddr;
use std::path::PathBuf;

use rt::BoxFuture;
use stdx::Result;

/// A port of the host that leads to a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `None` is every address of the host.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// What the network may want to know about a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxNetwork {
    /// Key of this attachment: the sandbox's id.
    pub id: String,
    /// The network namespace: a path that `open` + `setns` take (often `/proc/<shim>/ns/net`).
    pub netns: PathBuf,
    pub pod_name: String,
    pub pod_namespace: String,
    pub pod_uid: String,
    pub host_ports: Vec<HostPort>,
    /// `kubernetes.io/ingress-bandwidth` and `-egress-bandwidth` in bits a second, 0 without.
    pub ingress_bits_per_sec: u64,
    pub egress_bits_per_sec: u64,
}

/// Gives sandboxes addresses. Pods on the host's network never come here.
pub trait PodNetwork: Send + Sync {
    /// Makes the namespace's loopback and `eth0` up, with addresses, routes and host ports.
    /// Idempotent for one id: called again, it answers the same addresses. The primary comes first.
    fn add<'a>(&'a self, sandbox: &'a SandboxNetwork) -> BoxFuture<'a, Result<Vec<IpAddr>>>;

    /// Takes back addresses and host ports. Idempotent; an unknown id is fine, and so is a
    /// namespace that is gone already.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Called once at start with every sandbox that still lives: takes back what belongs to no
    /// other, restores what these have, and answers the addresses of each, in order.
    fn recover<'a>(&'a self, live: &'a [SandboxNetwork])
    -> BoxFuture<'a, Result<Vec<Vec<IpAddr>>>>;

    /// Why the node's network cannot take pods yet, if it cannot (shown in the Ready condition).
    fn not_ready(&self) -> Option<String> {
        None
    }

    /// Appends what `/metrics` tells of it.
    fn write_figures(&self, _text: &mut stdx::metrics::Text) {}

    /// Completes when `not_ready` may have changed. The default never does.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(rt::future::pending())
    }
}
