//! An agent's way to whichever server lives: clients of this process choose by dialing, others through 127.0.0.1:6444.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::kinds::ENDPOINT_SLICE;
use api::{Lens, json};
use client::follow::{News, Selection, follow};
use client::{Client, WatchEvent};
use cluster::Paths;
use http::client::{Dial, Url, authority};
use http::io::Io;
use rt::lock::Semaphore;
use stdx::backoff::Backoff;
use stdx::{Context, Error, Result};

/// Servers that are known at the same time.
pub(crate) const SERVERS_MAX: usize = 64;
/// How long a server may take to accept a connection where there are others: a dead one is left within two seconds.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// And where there is no other.
const CONNECT_ONLY_MAX: Duration = Duration::from_secs(10);
/// Connections of other programs through the local port.
const CONNECTIONS_MAX: usize = 128;
/// What is kept of the servers' addresses.
const FILE_MAX_BYTES: u64 = 64 << 10;

const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// A server's host and port.
pub(crate) type Place = (String, u16);

/// The servers of the cluster, as far as they are known.
pub(crate) struct Balancer {
    /// The one that `--server` names, which is never forgotten. None names one with an API server where this one has none.
    given: Option<Place>,
    state: Mutex<State>,
    /// Told when servers come or go.
    changed: rt::Event,
    file: PathBuf,
}

struct State {
    /// The one that was reached last comes first.
    places: Vec<Place>,
    /// What the cluster said last.
    told: Vec<Place>,
    /// The given one has no API server: it is only for who knows no other.
    given_last: bool,
    /// What is known is not all in the file.
    unkept: bool,
}

impl std::fmt::Debug for Balancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Balancer")
    }
}

impl Balancer {
    /// Knows the server of `url` and, with `learns`, those that an earlier process was told.
    pub(crate) fn open(paths: &Paths, url: Option<&Url>, learns: bool) -> Arc<Balancer> {
        let file = paths.agent().join("etc").join("k3s-agent-load-balancer.json");
        let kept = rt::fs::read_record(&file, FILE_MAX_BYTES).ok().flatten().filter(|_| learns);
        let kept = String::from_utf8(kept.unwrap_or_default()).unwrap_or_default();
        let tree: api::Value = serde_json::from_str(&kept).unwrap_or_default();
        let list = tree.at("ServerAddresses").to_string();
        let given = url.map(|url| (url.host.clone(), url.port));
        let places = given.iter().cloned().collect();
        let state = State { places, told: Vec::new(), given_last: false, unkept: false };
        let changed = rt::Event::new();
        let balancer = Balancer { given, state: Mutex::new(state), changed, file };
        balancer.learn(&cluster::settings::servers(&list, SERVERS_MAX));
        balancer.state().unkept = false;
        Arc::new(balancer)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these for the servers, beside the given one; true if something is known that is not in the file.
    fn learn(&self, servers: &[SocketAddr]) -> bool {
        let places = servers.iter().map(|server| (server.ip().to_string(), server.port()));
        let told: Vec<Place> = places.collect();
        let known: Vec<Place> = told.iter().chain(&self.given).cloned().collect();
        let state = &mut *self.state();
        state.told = told;
        let before = state.places.len();
        state.places.retain(|place| known.contains(place));
        let mut is_new = state.places.len() != before;
        for place in known {
            if !state.places.contains(&place) {
                state.places.push(place);
                is_new = true;
            }
        }
        if is_new {
            state.unkept = true;
            self.changed.notify(usize::MAX);
        }
        state.unkept
    }

    /// The given server has no API server: these have one, if they are known.
    pub(crate) fn leave_given(&self, others: &[SocketAddr]) {
        self.state().given_last = true;
        if !others.is_empty() {
            self.learn(others);
        }
    }

    /// Takes these for the servers, and remembers them.
    pub(crate) async fn take(&self, servers: &[SocketAddr]) {
        if !servers.is_empty()
            && self.learn(servers)
            && let Err(error) = self.write().await
        {
            log::warn!("remember the servers: {error}");
        }
    }

    /// Waits until a server is known.
    pub(crate) async fn known(&self) {
        loop {
            let changed = self.changed();
            if !self.state().places.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// The server that `--server` names, and those that the cluster tells.
    pub(crate) fn servers(&self) -> (Option<Place>, Vec<Place>) {
        (self.given.clone(), self.state().told.clone())
    }

    /// Completes once there are others than now.
    pub(crate) fn changed(&self) -> rt::EventListener {
        self.changed.listen()
    }

    /// Follows where the `kubernetes` Service says that servers are, for ever.
    pub(crate) async fn follow(self: Arc<Balancer>, client: Client) {
        let selection = Selection {
            kind: &ENDPOINT_SLICE,
            namespace: "default".into(),
            field_selector: "metadata.name=kubernetes".into(),
        };
        let (tell, told) = rt::channel::bounded(1);
        let mut hear = |news: News| {
            let slice = match news {
                News::Listed(list) => list.items.into_iter().next(),
                News::Event(WatchEvent::Added(slice) | WatchEvent::Modified(slice)) => Some(slice),
                News::Event(_) => None,
            };
            let servers = slice.map(|slice| cluster::supervisor::servers_of(&slice.tree()));
            let servers: Vec<SocketAddr> = servers
                .unwrap_or_default()
                .iter()
                .filter_map(|server| server.parse().ok())
                .take(SERVERS_MAX)
                .collect();
            // No server would not have said so.
            if !servers.is_empty() && self.learn(&servers) {
                let _ = tell.try_send(());
            }
            true
        };
        let writing = async {
            while told.recv().await.is_ok() {
                if let Err(error) = self.write().await {
                    log::warn!("remember the servers: {error}");
                }
            }
        };
        rt::future::or(follow(client, selection, RETRY, &mut hear), writing).await;
    }

    async fn write(&self) -> Result<()> {
        let shown = |(host, port): &Place| authority(host, Some(*port));
        let url = self.given.as_ref().map(|given| format!("https://{}", shown(given)));
        let addresses: Vec<String> = self.state().places.iter().map(shown).collect();
        log::info!("Servers: {}", addresses.join(", "));
        self.state().unkept = false;
        let text =
            json!({"ServerURL": url.unwrap_or_default(), "ServerAddresses": addresses}).to_string();
        let file = self.file.clone();
        rt::unblock(move || rt::fs::keep(file, text.as_bytes(), 0o600)).await
    }

    /// In which order servers are tried.
    fn order(&self) -> Vec<Place> {
        let state = self.state();
        let mut places = state.places.clone();
        // A connection to it would stay, and be of no use.
        if state.given_last && places.len() > 1 {
            places.retain(|place| Some(place) != self.given.as_ref());
        }
        places
    }

    /// A connection to the server that was reached last, or to the first other one that accepts it.
    async fn reach(&self) -> Result<rt::net::TcpStream> {
        let places = self.order();
        let max = if places.len() > 1 { CONNECT_MAX } else { CONNECT_ONLY_MAX };
        let mut failed = Error::new("no server is known");
        for (idx, (host, port)) in places.iter().enumerate() {
            let connecting = rt::timeout(max, http::names::connect(host, *port)).await;
            let what = || format!("open TCP connection to {}", authority(host, Some(*port)));
            match connecting.context(what).and_then(|stream| stream.context(what)) {
                Ok(stream) => {
                    if idx != 0 {
                        log::info!("Server {} took over", authority(host, Some(*port)));
                        let state = &mut *self.state();
                        state.places.retain(|other| *other != places[idx]);
                        state.places.insert(0, places[idx].clone());
                    }
                    rt::net::tune(&stream).context(what)?;
                    return Ok(stream);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Offers the servers at the local port to programs that read the node's kubeconfigs.
    ///
    /// # Errors
    /// If the port is taken.
    pub(crate) async fn listen(
        self: Arc<Balancer>,
        address: SocketAddr,
    ) -> Result<rt::Task<Option<()>>> {
        let listener = rt::net::TcpListener::bind(address).await.context(|| {
            format!("listen on {address} (set --lb-server-port if another program uses it)")
        })?;
        Ok(rt::spawn_named("load balancer", async move {
            let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let place = places.acquire_arc().await;
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let balancer = Arc::clone(&self);
                        let serve = async move {
                            if let Err(error) = balancer.serve(stream).await {
                                log::debug!("load balancer: {error}");
                            }
                            drop(place);
                        };
                        rt::spawn_named("load balancer connection", serve).detach();
                    }
                    Err(error) => {
                        log::debug!("load balancer: accept a connection: {error}");
                        rt::sleep(CONNECT_MAX).await;
                    }
                }
            }
        }))
    }

    async fn serve(&self, near: rt::net::TcpStream) -> Result<()> {
        let far = self.reach().await?;
        let copied = http::io::splice(Box::new(near), Box::new(far)).await;
        copied.context(|| "copy between a client and a server")
    }
}

impl Dial for Balancer {
    fn dial<'a>(&'a self, _: &'a str, _: u16) -> rt::BoxFuture<'a, Result<Io>> {
        Box::pin(async move { Ok(Box::new(self.reach().await?) as Io) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(url: &str) -> Arc<Balancer> {
        let dir = std::env::temp_dir().join(format!("k3rs-balancer-{}", std::process::id()));
        Balancer::open(&Paths::new(dir), Some(&Url::parse(url).unwrap()), true)
    }

    #[test]
    fn the_given_server_stays_and_others_come_and_go() {
        let one = balancer("https://server.example:6443");
        let places = || -> Vec<String> {
            one.state().places.iter().map(|(host, port)| authority(host, Some(*port))).collect()
        };
        assert!(one.learn(&["192.0.2.1:6443".parse().unwrap(), "[fd00::1]:6443".parse().unwrap()]));
        assert_eq!(places(), ["server.example:6443", "192.0.2.1:6443", "[fd00::1]:6443"]);
        one.state().unkept = false;
        assert!(one.learn(&["192.0.2.1:6443".parse().unwrap()]));
        assert!(one.learn(&["192.0.2.1:6443".parse().unwrap()]), "it is not kept yet");
        one.state().unkept = false;
        assert!(!one.learn(&["192.0.2.1:6443".parse().unwrap()]));
        assert_eq!(places(), ["server.example:6443", "192.0.2.1:6443"]);
        let order = || -> Vec<String> { one.order().into_iter().map(|(host, _)| host).collect() };
        assert_eq!(order(), ["server.example", "192.0.2.1"]);
        one.leave_given(&["192.0.2.1:6443".parse().unwrap(), "192.0.2.2:6443".parse().unwrap()]);
        assert_eq!(order(), ["192.0.2.1", "192.0.2.2"]);
        one.leave_given(&[]);
        assert_eq!(order(), ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn a_dead_server_is_left_for_a_living_one() {
        rt::block_on(async {
            let listen = || async { rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap() };
            let (dead, alive) = (listen().await, listen().await);
            let (gone, here) = (dead.local_addr().unwrap(), alive.local_addr().unwrap());
            drop(dead);
            let balancer = balancer(&format!("https://{gone}"));
            assert!(balancer.reach().await.unwrap_err().to_string().contains(&gone.to_string()));
            balancer.learn(&[here]);
            let stream = balancer.reach().await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), here);
            let first = balancer.state().places[0].clone();
            assert_eq!(
                first,
                (here.ip().to_string(), here.port()),
                "it is asked first from now on"
            );
        });
    }

    #[test]
    fn other_programs_come_through_the_local_port() {
        use rt::io::{AsyncReadExt, AsyncWriteExt};
        rt::block_on(async {
            let server = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let balancer = balancer(&format!("https://{}", server.local_addr().unwrap()));
            let free = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let _listening = balancer.listen(([127, 0, 0, 1], port).into()).await.unwrap();
            let mut near = http::names::connect("127.0.0.1", port).await.unwrap();
            near.write_all(b"ping").await.unwrap();
            let (mut far, _) = server.accept().await.unwrap();
            let mut bytes = [0; 4];
            far.read_exact(&mut bytes).await.unwrap();
            far.write_all(&bytes).await.unwrap();
            near.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"ping");
        });
    }
}
