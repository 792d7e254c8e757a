//! The way to nodes as the server is told it: a trait that `k3rs` plugs the kubelet of its process into.

use std::sync::{Arc, OnceLock};

use http::client::Dial;
use http::{BoxFuture, Response};

/// Reaches nodes. `k3rs` plugs in the kubelet of this process.
pub trait NodeDoor: Send + Sync {
    /// Whether this is the way to `node`; to others the server goes over HTTPS.
    fn has(&self, node: &str) -> bool;

    /// Puts a request to a node's kubelet. Its path is one of the kubelet's own API
    /// (`/containerLogs/<namespace>/<pod>/<container>`, `/exec/...`, `/attach/...`,
    /// `/portForward/<namespace>/<pod>`, `/stats/summary`, `/pods`, `/metrics...`), its query the
    /// kubelet's (`input`, `output`, `error`, `tty`, `command`, `follow`, ...), and
    /// `request.upgrade` is there when the client asked for one. The caller has authorized it.
    fn call<'a>(&'a self, node: &'a str, request: http::Request) -> BoxFuture<'a, Response>;

    /// How connections to pods' and nodes' addresses are opened; `None` is by plain TCP.
    fn dialer(&self, _node: &str) -> Option<Arc<dyn Dial>> {
        None
    }
}

/// Ways that nodes have opened to this server themselves.
pub trait Tunnels: Send + Sync {
    /// The way to `node`, if there is one: at 127.0.0.1 and its kubelet's port its kubelet answers.
    fn to(&self, node: &str) -> Option<Arc<dyn Dial>>;

    /// The way to the pods of `node`, at their own addresses, if they are to be reached so.
    fn to_pods(&self, node: &str) -> Option<Arc<dyn Dial>>;
}

/// Opened once, when the node runs.
pub(crate) type Door = OnceLock<Arc<dyn NodeDoor>>;

/// One client for all proxied requests and webhooks.
pub(crate) fn client() -> http::client::Client {
    http::client::Client::new(http::client::Options {
        idle_per_endpoint_max: 1,
        idle_max: std::time::Duration::from_secs(10),
        ..http::client::Options::default()
    })
}
