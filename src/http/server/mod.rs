//! The serving end: accepts connections, speaks TLS, HTTP/1.1 and HTTP/2, and hands requests to a service.

#[cfg(test)]
mod attacks;
mod exchange;
mod http1;
mod http2;
mod incoming;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use rt::BoxFuture;
use rt::net::{TcpListener, UnixListener};
use stdx::{Context, Result};

use crate::io::Io;
use crate::message::{Method, Peer, Request, Response};
use crate::places::{Place, Places, Socket};

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the client goes away; a panic in it is
    /// answered 500 and the connection lives on.
    fn call(&self, request: Request) -> BoxFuture<'_, Response>;

    /// The bound for this request's body in bytes; a longer one is answered 413.
    fn body_max_bytes(&self, _method: &Method, _target: &str, limits: &Limits) -> u64 {
        limits.body_max_bytes
    }

    /// What a request is told that this layer itself refuses: a Kubernetes `Status`, unless the service
    /// speaks in other words.
    fn refusal(&self, code: u16, reason: &str, message: &str) -> Response {
        crate::message::refusal(code, reason, message)
    }
}

impl<F> Service for F
where
    F: Fn(Request) -> BoxFuture<'static, Response> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        self(request)
    }
}

/// What looks at each connection before anything is spoken on it.
pub trait Gate: Send + Sync + 'static {
    /// Looks at one that was just accepted, within the time that a TLS handshake may take.
    fn look(&self, io: Io, peer: Peer) -> BoxFuture<'static, Result<Looked>>;
}

/// What a connection turned out to be.
pub enum Looked {
    /// HTTP is spoken on it, after a TLS handshake if there is a configuration for one.
    Http(Io, Peer, Option<Arc<rustls::ServerConfig>>),
    /// Something else is done with it: to its end, or to the server's.
    Other(BoxFuture<'static, ()>),
}

impl fmt::Debug for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Looked::Http(..)) { "Http" } else { "Other" })
    }
}

/// How the connections of a listener begin.
#[derive(Clone)]
enum Door {
    Plain,
    Tls(Arc<rustls::ServerConfig>),
    Gate(Arc<dyn Gate>),
}

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; for a further one an older one goes (`places`).
    pub connections_max: usize,
    /// Whether strangers, and the connections of one address, may have only a part of the places: so where
    /// clients say who they are, and not where everybody is a stranger and many come through one address.
    pub shares_places: bool,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// A request's head in bytes (431).
    pub header_max_bytes: usize,
    /// A request's body in bytes (413), unless the service says otherwise.
    pub body_max_bytes: u64,
    /// From the connection to the end of the TLS handshake.
    pub handshake_max: Duration,
    /// From the first byte of a head to its last.
    pub header_read_max: Duration,
    /// A connection without a request.
    pub idle_max: Duration,
    /// A peer that takes or gives no byte while it is its turn.
    pub stall_max: Duration,
    /// Silence on an HTTP/2 connection with open streams before it is probed with a PING.
    pub ping_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 512,
            shares_places: true,
            streams_max: 250,
            header_max_bytes: 64 * 1024,
            body_max_bytes: 3 * 1024 * 1024,
            handshake_max: Duration::from_secs(10),
            header_read_max: Duration::from_secs(32),
            idle_max: Duration::from_secs(90),
            stall_max: Duration::from_secs(300),
            ping_after: Duration::from_secs(60),
        }
    }
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Unix(listener)
    }
}

/// Serves `listener` until the task is dropped. For a graceful end, keep a [`Server`].
pub async fn serve(
    listener: impl Into<Listener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: Arc<dyn Service>,
    limits: Limits,
) -> Result<()> {
    Server::new(service, limits).serve(listener, tls).await
}

/// A service with its bounds, its connections and its end. Clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) limits: Limits,
    n_connections: AtomicUsize,
    places: Arc<Places>,
    phase: AtomicU8,
    /// Told on each change of `phase` and each end of a connection.
    changed: rt::Event,
}

/// What the server wants of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running = 0,
    /// Finish what is in flight.
    Draining = 1,
    /// Stop now.
    Stopped = 2,
}

impl Server {
    pub fn new(service: Arc<dyn Service>, limits: Limits) -> Server {
        Server(Arc::new(Shared {
            service,
            places: Places::new(limits.connections_max, limits.shares_places),
            limits,
            n_connections: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Running as u8),
            changed: rt::Event::new(),
        }))
    }

    /// Accepts connections until `shutdown`; may be called for several listeners.
    pub async fn serve(
        &self,
        listener: impl Into<Listener>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<()> {
        self.accept(listener.into(), tls.map_or(Door::Plain, Door::Tls)).await
    }

    /// As `serve`, where `gate` says what each connection is.
    pub async fn serve_behind(
        &self,
        listener: impl Into<Listener>,
        gate: Arc<dyn Gate>,
    ) -> Result<()> {
        self.accept(listener.into(), Door::Gate(gate)).await
    }

    async fn accept(&self, listener: Listener, door: Door) -> Result<()> {
        loop {
            let accepted = rt::future::or(async { Some(listener.accept().await) }, async {
                self.0.reached(Phase::Draining).await;
                None
            });
            match accepted.await {
                None => return Ok(()),
                Some(Ok((socket, peer))) => self.0.start(socket, peer, door.clone()),
                Some(Err(error)) if is_shortage(&error) => {
                    log::warn!("accept a connection: {error}");
                    rt::sleep(SHORTAGE_PAUSE).await;
                }
                // Others concern one connection only, whose client is gone again.
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => return Err(error).context(|| "accept connections"),
            }
        }
    }

    /// Serves one byte stream that is already connected (and already decrypted) to its end.
    pub async fn serve_stream(&self, io: Io, peer: Peer) {
        let permit = Permit::new(&self.0, None);
        let shared = &self.0;
        rt::future::or(shared.reached(Phase::Stopped), async {
            speak(Arc::clone(shared), permit, io, peer, None).await;
        })
        .await;
    }

    /// Serves one byte stream that came by another way than a listener, from its TLS handshake to its end.
    pub async fn serve_tls(&self, io: Io, tls: Arc<rustls::ServerConfig>) {
        let permit = Permit::new(&self.0, None);
        self.0.serve(permit, io, Peer::default(), Door::Tls(tls)).await;
    }

    /// Stops accepting, lets requests in flight finish for at most `grace`, then drops the rest.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.enter(Phase::Draining);
        let _ = rt::timeout(grace, self.0.wait_until(|shared| shared.n_connections() == 0)).await;
        self.0.enter(Phase::Stopped);
    }

    /// Connections open now, upgraded ones included.
    pub fn n_connections(&self) -> usize {
        self.0.n_connections()
    }
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Socket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // It fails only for a client that is gone again, which shows soon enough.
                let _ = rt::net::tune(&stream);
                let local = stream.local_addr().ok();
                let peer = Peer { address: Some(address), local, ..Peer::default() };
                Ok((Socket::Tcp(stream), peer))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), Peer::default()))
            }
        }
    }
}

/// How long accepting waits for descriptors or memory to come free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(250);

/// Whether accepting failed for lack of a resource.
fn is_shortage(error: &std::io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

/// Whether an error is one of the network that `accept` reports for a connection that broke already.
fn is_passing(error: &std::io::Error) -> bool {
    const EPROTO: i32 = 71;
    const ENETDOWN: i32 = 100;
    const EHOSTUNREACH: i32 = 113;
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.raw_os_error(), Some(EPROTO | ENETDOWN..=EHOSTUNREACH))
        || matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | WouldBlock)
}

impl Shared {
    fn start(self: &Arc<Self>, socket: Socket, mut peer: Peer, door: Door) {
        let place = self.places.take(&socket, peer.address.map(|address| address.ip()));
        peer.place = Some(Arc::clone(&place));
        let (shared, permit) = (Arc::clone(self), Permit::new(self, Some(place)));
        let raw: Io = match socket {
            Socket::Tcp(stream) => Box::new(stream),
            Socket::Unix(stream) => Box::new(stream),
        };
        rt::spawn(async move { shared.serve(permit, raw, peer, door).await }).detach();
    }

    async fn serve(self: &Arc<Self>, permit: Permit, raw: Io, peer: Peer, door: Door) {
        let stop = self.reached(Phase::Stopped);
        let connection = async {
            let address = peer.address;
            // Each phase has a box of its own, so that a connection does not hold on to the room
            // that its handshake needed.
            match Box::pin(connect(self, raw, peer, door)).await {
                Ok(Opened::Http(io, peer, alpn)) => {
                    speak(Arc::clone(self), permit, io, peer, alpn).await;
                }
                Ok(Opened::Other(work)) => {
                    // Its place is busy until it ends, as that of an upgraded one.
                    let busy = permit.place.as_ref().map(Place::busy);
                    work.await;
                    drop((busy, permit));
                }
                Err(error) => log::debug!("connection from {address:?}: {error}"),
            }
        };
        rt::future::or(stop, connection).await;
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.changed.notify(usize::MAX);
    }

    /// Waits until the server is in `phase` or a later one.
    pub(crate) async fn reached(&self, phase: Phase) {
        self.wait_until(|shared| shared.phase() >= phase).await;
    }

    async fn wait_until(&self, condition: impl Fn(&Shared) -> bool) {
        while !condition(self) {
            let changed = self.changed.listen();
            // Looked at again after listening, so that a change between is not missed.
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::Acquire)
    }
}

/// A connection's place; it goes with the stream when the connection is upgraded.
pub(crate) struct Permit {
    shared: Arc<Shared>,
    /// `None` for streams that were connected by the caller.
    place: Option<Arc<Place>>,
}

impl Permit {
    fn new(shared: &Arc<Shared>, place: Option<Arc<Place>>) -> Permit {
        shared.n_connections.fetch_add(1, Ordering::AcqRel);
        Permit { shared: Arc::clone(shared), place }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.leave();
        }
        self.shared.n_connections.fetch_sub(1, Ordering::AcqRel);
        self.shared.changed.notify(usize::MAX);
    }
}

/// A connection as HTTP is spoken on it, with the protocol that was agreed on, or somebody else's work.
enum Opened {
    Http(Io, Peer, Option<Vec<u8>>),
    Other(BoxFuture<'static, ()>),
}

/// What comes before HTTP: the gate and the TLS handshake, if any.
async fn connect(shared: &Arc<Shared>, raw: Io, peer: Peer, door: Door) -> Result<Opened> {
    let handshake_max = shared.limits.handshake_max;
    let (raw, mut peer, tls) = match door {
        Door::Plain => (raw, peer, None),
        Door::Tls(tls) => (raw, peer, Some(tls)),
        Door::Gate(gate) => {
            let looked = rt::timeout(handshake_max, gate.look(raw, peer));
            match looked.await.context(|| "look at its beginning")?? {
                Looked::Http(raw, peer, tls) => (raw, peer, tls),
                Looked::Other(work) => return Ok(Opened::Other(work)),
            }
        }
    };
    let Some(tls) = tls else { return Ok(Opened::Http(raw, peer, None)) };
    let stream = rt::timeout(handshake_max, crate::tls::accept(raw, tls))
        .await
        .context(|| "TLS handshake")??;
    let session = stream.get_ref().1;
    peer.tls = true;
    peer.certificates = session.peer_certificates().unwrap_or(&[]).iter().cloned().collect();
    if let Some((leaf, place)) = peer.certificates.first().zip(peer.place.as_ref()) {
        place.vouch(leaf);
    }
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    Ok(Opened::Http(Box::new(stream), peer, alpn))
}

/// Speaks HTTP on a connection to its end: what TLS agreed on, or what the first bytes are.
async fn speak(shared: Arc<Shared>, permit: Permit, io: Io, peer: Peer, alpn: Option<Vec<u8>>) {
    if alpn.as_deref() == Some(b"h2") {
        return Box::pin(http2::run(shared, permit, io, Vec::new(), peer)).await;
    }
    let connection = http1::Connection::new(shared, permit, io, peer);
    if let Err(error) = Box::pin(connection.run()).await {
        log::debug!("HTTP/1 connection: {error}");
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({} connections)", self.n_connections())
    }
}
