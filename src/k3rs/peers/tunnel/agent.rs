//! The agent's end: a tunnel to each server, and what servers may reach through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::Paths;
use cluster::supervisor::CONNECT;
use http::Request;
use http::client::{Client, Endpoint, Options, authority};
use http::tls::{self, Identity, Trust};
use http::tunnel::{Exits, MESSAGE_MAX_BYTES, Session, Stream};
use http::websocket::{self, Connected, WebSocket};
use kubelet::Kubelet;
use stdx::{Context, Error, Result};
use stdx::{OrdMap, backoff::Backoff};

use crate::node::KUBELET_PORT;
use crate::peers::balancer::{Balancer, Place};
use crate::peers::join::SERVER_NAME;
use crate::settings::egress::Mode;

/// Between attempts; k3s's is always a second.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Many agents must not come together to a server that was started again.
const JITTER_MAX_MS: u64 = 500;
/// From the first packet to the open tunnel; remotedialer's.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Until a pod takes a connection.
const POD_MAX: Duration = Duration::from_secs(10);
/// How long the way that `--server` names waits for those that the cluster tells.
const GIVEN_AFTER: Duration = Duration::from_secs(5);

/// What servers may reach here: the kubelet's port on loopback and, if they are to, the pods of this node.
struct Reached {
    kubelet: Kubelet,
    pods: bool,
}

fn is_kubelet(network: &str, address: &str) -> bool {
    let port = address.strip_prefix("127.0.0.1:").or_else(|| address.strip_prefix("[::1]:"));
    network == "tcp" && port.is_some_and(|port| port == KUBELET_PORT.to_string())
}

impl Exits for Reached {
    fn allows(&self, network: &str, address: &str) -> bool {
        // The kubelet's own port is reached as the kubelet's only.
        let of_pod = |at: SocketAddr| {
            at.port() != KUBELET_PORT && self.kubelet.has_pod_at(at.ip(), at.port())
        };
        let pod = || network == "tcp" && address.parse().is_ok_and(of_pod);
        is_kubelet(network, address) || (self.pods && pod())
    }

    fn lead(&self, address: &str, stream: Stream) {
        if is_kubelet("tcp", address) {
            let kubelet = self.kubelet.clone();
            let serving = async move { kubelet.serve(Box::new(stream)).await };
            return rt::spawn_named("kubelet connection", serving).detach();
        }
        let Ok(address) = address.parse::<SocketAddr>() else { return stream.fail("no address") };
        rt::spawn_named("pod connection", async move {
            let opened = rt::timeout(POD_MAX, rt::net::TcpStream::connect(address)).await;
            match opened {
                Ok(Ok(pod)) => {
                    let _ = rt::net::tune(&pod);
                    let (pod_reads, pod_writes) = rt::io::split(pod);
                    let (reads, writes) = rt::io::split(stream);
                    // A tunnel knows no end of one direction: the first of them ends both, after what was written.
                    let _ = rt::future::or(
                        http::io::copy_to_end(pod_reads, writes),
                        http::io::copy_to_end(reads, pod_writes),
                    )
                    .await;
                }
                Ok(Err(error)) => stream.fail(&error.to_string()),
                Err(rt::Elapsed) => stream.fail("timed out"),
            }
        })
        .detach();
    }
}

/// What the tunnels of this agent share.
struct Tunnels {
    paths: Paths,
    exits: Reached,
    /// Tunnels that are open, and who is told when one opens or ends.
    n_open: AtomicUsize,
    changed: rt::Event,
}

/// Keeps a tunnel to each server that `balancer` knows, for ever.
pub(crate) async fn keep(balancer: Arc<Balancer>, paths: Paths, kubelet: Kubelet, mode: Mode) {
    let exits = Reached { kubelet, pods: mode.has_pods() };
    let tunnels = Tunnels { paths, exits, n_open: AtomicUsize::new(0), changed: rt::Event::new() };
    let tunnels = Arc::new(tunnels);
    let mut kept: OrdMap<(Place, bool), rt::Task<Option<()>>> = OrdMap::new();
    loop {
        let changed = balancer.changed();
        let (given, told) = balancer.servers();
        let wanted = wanted(given, told);
        kept.retain(|way, _| wanted.contains(way));
        for way in wanted {
            kept.entry(way).or_insert_with_key(|(place, is_told)| {
                let tunnels = Arc::clone(&tunnels);
                rt::spawn_named("tunnel", tunnels.keep_one(place.clone(), *is_told))
            });
        }
        changed.await;
    }
}

/// The tunnels to keep, and of each whether it is kept beside others.
fn wanted(given: Option<Place>, told: Vec<Place>) -> Vec<(Place, bool)> {
    let also = given.filter(|given| !told.contains(given)).map(|given| (given, told.is_empty()));
    told.into_iter().map(|place| (place, true)).chain(also).collect()
}

impl Tunnels {
    /// Keeps a tunnel to one server. The given one may be one that was told, by another name, so it is a way where
    /// there is no other.
    async fn keep_one(self: Arc<Tunnels>, place: Place, is_told: bool) {
        let url = format!("wss://{}{CONNECT}", authority(&place.0, Some(place.1)));
        let mut failures = 0;
        loop {
            if !is_told {
                rt::sleep(GIVEN_AFTER).await;
                self.until_none_is_open().await;
            }
            match rt::timeout(HANDSHAKE_MAX, self.connect(&place)).await {
                Ok(Ok(socket)) => {
                    log::info!("Opened the tunnel {url}");
                    failures = 0;
                    let open = Open::new(&self);
                    let ended = Box::pin(Session::new().serve(socket, &self.exits)).await;
                    drop(open);
                    log::warn!("The tunnel {url} is over: {ended}");
                }
                Ok(Err(error)) => log::warn!("Open the tunnel {url}: {error}"),
                Err(rt::Elapsed) => log::warn!("Open the tunnel {url}: timed out"),
            }
            failures += 1;
            let jitter = Duration::from_millis(rt::random_u64() % JITTER_MAX_MS);
            rt::sleep(RETRY.delay(failures) + jitter).await;
        }
    }

    /// As the node, whose certificate may have been renewed.
    async fn connect(&self, (host, port): &Place) -> Result<WebSocket> {
        let read = |name: &str| rt::fs::read(self.paths.agent().join(name));
        let identity =
            Identity::from_pem(&read("client-kubelet.crt")?, &read("client-kubelet.key")?)?;
        let trust = Trust::Roots(tls::roots(&read("server-ca.crt")?)?);
        let endpoint = Endpoint::tcp(&**host, *port).server_name(SERVER_NAME);
        let endpoint = endpoint.tls(tls::client_config(trust, Some(identity))?);
        let http = Client::new(Options::default());
        let asked = Request::get(CONNECT);
        match websocket::connect(&http, &endpoint, asked, &[], MESSAGE_MAX_BYTES).await? {
            Connected::Stream { socket, .. } => Ok(socket),
            Connected::Refused(response) => {
                Err(Error::new(format!("the server answers {}", response.status)))
            }
        }
        .context(|| "ask for the tunnel")
    }

    async fn until_none_is_open(&self) {
        loop {
            let changed = self.changed.listen();
            if self.n_open.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// Counts an open tunnel.
struct Open<'a>(&'a Tunnels);

impl<'a> Open<'a> {
    fn new(tunnels: &'a Tunnels) -> Open<'a> {
        tunnels.n_open.fetch_add(1, Ordering::AcqRel);
        Open(tunnels)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_given_server_is_a_way_where_the_cluster_tells_no_other() {
        let place = |host: &str| (host.to_owned(), 6443);
        for (told, wants) in [
            (&[][..], &[("name", true)][..]),
            (&["name"], &[("name", true)]),
            (&["a", "b"], &[("a", true), ("b", true), ("name", false)]),
            (&["a", "name"], &[("a", true), ("name", true)]),
        ] {
            let found = wanted(Some(place("name")), told.iter().map(|host| place(host)).collect());
            let wants: Vec<_> = wants.iter().map(|(host, beside)| (place(host), *beside)).collect();
            assert_eq!(found, wants, "{told:?}");
        }
    }

    #[test]
    fn servers_reach_the_kubelet_and_nothing_else() {
        for (network, address, allowed) in [
            ("tcp", "127.0.0.1:10250", true),
            ("tcp", "[::1]:10250", true),
            ("udp", "127.0.0.1:10250", false),
            ("unix", "127.0.0.1:10250", false),
            ("tcp", "127.0.0.1:10248", false),
            ("tcp", "127.0.0.1:22", false),
            ("tcp", "127.0.0.1:010250", false),
            ("tcp", "127.0.0.1:10250 ", false),
            ("tcp", "127.0.0.2:10250", false),
            ("tcp", "localhost:10250", false),
            ("tcp", "192.0.2.10:10250", false),
            ("tcp", "0.0.0.0:10250", false),
            ("tcp", "::1:10250", false),
            ("tcp", "", false),
        ] {
            assert_eq!(is_kubelet(network, address), allowed, "{network}/{address}");
        }
    }
}
