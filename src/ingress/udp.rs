//! Datagrams: whoever sends some has a session with one endpoint, until nobody in it has said anything for a while.
//!
//! Senders' addresses are their own word, so sessions cost little, are bounded, and end soon.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use routes::{Endpoint, Entry};
use rt::net::Datagrams as Socket;
use stdx::time::Mono;
use stdx::{Context, Result};

use crate::flags;
use crate::live::Shared;

/// As Traefik has it.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// Sessions of one entry point, each with a socket.
const SESSIONS_MAX: usize = 4096;
const DATAGRAM_MAX_BYTES: usize = 65_535;
/// Datagrams that are passed on before others have their turn.
const BURST_MAX: u32 = 64;

/// One entry point of UDP.
pub(crate) struct Datagrams {
    entry: Entry,
    shared: Arc<Shared>,
    socket: Socket,
    idle_max: Duration,
    sessions_max: usize,
    sessions: Mutex<HashMap<SocketAddr, Held>>,
    /// What endpoints say goes through here.
    buffer: Mutex<Box<[u8]>>,
    /// Nobody new has a session.
    ending: AtomicBool,
    ended: rt::Event,
}

/// A session with its task, which ends with it.
struct Held {
    session: Arc<Session>,
    #[expect(dead_code, reason = "held for its end")]
    task: rt::Task<Option<()>>,
}

struct Session {
    client: SocketAddr,
    endpoint: Endpoint,
    /// Towards the endpoint.
    socket: Socket,
    /// When somebody last said something.
    heard: AtomicU64,
    /// The number of the table that was last asked whether the endpoint is one of the route's.
    table: AtomicU64,
}

impl Session {
    fn hear(&self) {
        self.heard.store(rt::now().mono.0, Ordering::Relaxed);
    }

    fn ends(&self, idle_max: Duration) -> Mono {
        Mono(self.heard.load(Ordering::Relaxed)) + idle_max
    }
}

impl Datagrams {
    /// At the address of an entry point.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(crate) fn bind(
        entry: Entry,
        shared: &Arc<Shared>,
        sessions_max: usize,
    ) -> Result<Arc<Datagrams>> {
        let options = shared.options.entry(entry);
        let bound = match (Socket::bind(options.address), flags::without_ipv6(options.address)) {
            (Err(_), Some(address)) => Socket::bind(address),
            (bound, _) => bound,
        };
        Ok(Arc::new(Datagrams {
            entry,
            shared: Arc::clone(shared),
            socket: bound.context(|| format!("listen on {} of UDP", options.address))?,
            idle_max: options.session_idle_max.unwrap_or(IDLE_MAX),
            sessions_max: sessions_max.min(SESSIONS_MAX),
            sessions: Mutex::default(),
            buffer: Mutex::new(vec![0; DATAGRAM_MAX_BYTES].into()),
            ending: AtomicBool::new(false),
            ended: rt::Event::new(),
        }))
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>) -> Result<()> {
        let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
        loop {
            self.socket.readable().await.context(|| "wait for datagrams")?;
            for _ in 0..BURST_MAX {
                match self.socket.try_receive(&mut buffer) {
                    Ok((n, client)) => self.take(client, &buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // What the network says about an answer: its client is gone.
                    Err(_) => {}
                }
            }
            // A flood must not keep everyone else from the executor.
            rt::future::yield_now().await;
        }
    }

    /// Passes on what a client sent. What cannot be is lost, as datagrams may be.
    fn take(self: &Arc<Self>, client: SocketAddr, datagram: &[u8]) {
        let table = self.shared.n_tables();
        let mut sessions = self.lock();
        let known = sessions.get(&client).map(|held| &held.session);
        let known = known.filter(|session| self.is_current(session, table)).map(Arc::clone);
        let session = match known {
            Some(session) => session,
            None => {
                if sessions.remove(&client).is_some() {
                    self.ended.notify(usize::MAX);
                }
                let Some(session) = self.begin(&mut sessions, client, table) else { return };
                session
            }
        };
        drop(sessions);
        session.hear();
        if session
            .socket
            .try_send(datagram)
            .is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
        {
            // The endpoint is not there: the next datagram goes to another one.
            self.forget(&session);
        }
    }

    /// Whether the endpoint of a session is still one of its route's.
    fn is_current(&self, session: &Session, table: u64) -> bool {
        if session.table.swap(table, Ordering::Relaxed) == table {
            return true;
        }
        let Endpoint { host, port, .. } = &session.endpoint;
        self.shared.live().leads_to(self.entry, host, *port)
    }

    /// A new session; `None` if there is nobody for it.
    fn begin(
        self: &Arc<Self>,
        sessions: &mut HashMap<SocketAddr, Held>,
        client: SocketAddr,
        table: u64,
    ) -> Option<Arc<Session>> {
        if self.ending.load(Ordering::Relaxed) {
            return None;
        }
        let upstream = self.shared.live().udp_upstream(self.entry)?;
        let endpoint = upstream.turn()?.clone();
        // Who has a name is not led to: `routes` refuses it.
        let address: IpAddr = endpoint.host.parse().ok()?;
        let address = SocketAddr::new(address, endpoint.port);
        let socket = Socket::to(address);
        let socket =
            socket.inspect_err(|error| log::debug!("a socket to {address}: {error}")).ok()?;
        // Whoever invents senders drives out whichever session the map shows first, and where it puts one nobody knows:
        // those that lie behind the first ones stay.
        if sessions.len() >= self.sessions_max {
            let first = sessions.keys().next().copied()?;
            sessions.remove(&first);
        }
        let session = Arc::new(Session {
            client,
            endpoint,
            socket,
            heard: AtomicU64::new(rt::now().mono.0),
            table: AtomicU64::new(table),
        });
        let task = rt::spawn_named("datagrams", Arc::clone(self).answer(Arc::clone(&session)));
        sessions.insert(client, Held { session: Arc::clone(&session), task });
        Some(session)
    }

    /// Passes back what the endpoint of a session says, until nobody says anything.
    async fn answer(self: Arc<Self>, session: Arc<Session>) {
        loop {
            let ends = session.ends(self.idle_max);
            if rt::now().mono >= ends {
                break;
            }
            let waited =
                rt::future::or(async { session.socket.readable().await.map(|()| true) }, async {
                    rt::sleep_until(ends).await;
                    Ok(false)
                });
            match waited.await {
                Ok(true) if self.pass_back(&session) => rt::future::yield_now().await,
                Ok(false) => {}
                _ => break,
            }
        }
        self.forget(&session);
    }

    /// Whether the session goes on.
    fn pass_back(&self, session: &Session) -> bool {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..BURST_MAX {
            match session.socket.try_receive(&mut buffer) {
                // What the client cannot be told is lost.
                Ok((n, _)) => drop(self.socket.try_send_to(&buffer[..n], session.client)),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
            session.hear();
        }
        true
    }

    /// Ends a session, if its client has no other one already.
    fn forget(&self, session: &Arc<Session>) {
        if let Slot::Occupied(held) = self.lock().entry(session.client)
            && Arc::ptr_eq(&held.get().session, session)
        {
            held.remove();
            self.ended.notify(usize::MAX);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Held>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sessions at the moment.
    pub(crate) fn n_sessions(&self) -> usize {
        self.lock().len()
    }

    /// Begins no session from now on, and waits for the end of those that there are, but no longer than `grace`.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.ending.store(true, Ordering::Relaxed);
        let all = async {
            loop {
                let ended = self.ended.listen();
                if self.n_sessions() == 0 {
                    return;
                }
                ended.await;
            }
        };
        // Whoever has said nothing for the whole of it was not waiting.
        let _ = rt::timeout(grace, all).await;
    }
}

#[cfg(test)]
mod tests {
    use api::{Object, Value, json};
    use routes::Model;

    use super::*;
    use crate::certificates::Certificates;

    const SENDERS: [&str; 3] = ["127.0.0.1:4001", "127.0.0.1:4002", "127.0.0.1:4003"];

    /// A table that leads the entry point `x` to a port of this machine.
    fn lead_to(shared: &Shared, port: u16) {
        let mut model = Model::new(shared.options.routes.clone());
        let mut put = |plural: &str, name: &str, rest: Value| {
            let kinds = Model::kinds();
            let kind = kinds.iter().find(|(kind, _)| kind.plural == plural).unwrap().0;
            let mut tree = json!({"metadata": {"name": name, "namespace": "default"}});
            api::patch::merge(&mut tree, &rest);
            model.put(&Object::from_tree(kind, &tree).unwrap());
        };
        let ports = json!([{"name": "u", "port": 53, "protocol": "UDP"}]);
        put("services", "s", json!({"spec": {"ports": ports}}));
        let (labels, endpoints) =
            (json!({"kubernetes.io/service-name": "s"}), json!([{"addresses": ["127.0.0.1"]}]));
        let ports = json!([{"name": "u", "port": port, "protocol": "UDP"}]);
        let slice = json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        put("endpointslices", "s", slice);
        let routes = json!([{"services": [{"name": "s", "port": 53}]}]);
        put("ingressrouteudps", "r", json!({"spec": {"routes": routes}}));
        shared.publish(model.table(""), Certificates::default());
    }

    /// An entry point of two sessions at most, which end after this time.
    fn bound(timeout: &str) -> (Arc<Shared>, Arc<Datagrams>) {
        let timeout = format!("--entryPoints.x.udp.timeout={timeout}");
        let args = ["--entryPoints.x.address=127.0.0.1:0/udp".to_owned(), timeout];
        let shared = Shared::new(flags::Options::parse(&args).unwrap()).unwrap();
        let datagrams = Datagrams::bind(Entry::More(0), &shared, 2).unwrap();
        (shared, datagrams)
    }

    #[test]
    fn sessions_are_few_end_and_leave_endpoints_that_are_gone() {
        rt::block_on(async {
            let (shared, datagrams) = bound("1h");
            let senders = SENDERS.map(|sender| sender.parse::<SocketAddr>().unwrap());
            datagrams.take(senders[0], b"x");
            assert_eq!(datagrams.n_sessions(), 0, "nobody is there");
            let endpoint = rt::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let port = endpoint.local_addr().unwrap().port();
            lead_to(&shared, port);
            let mut buffer = [0; 16];
            for sender in senders {
                datagrams.take(sender, b"hello");
                let heard = rt::timeout(Duration::from_secs(60), endpoint.recv(&mut buffer));
                let n = heard.await.unwrap().unwrap();
                assert_eq!(&buffer[..n], b"hello");
            }
            assert_eq!(datagrams.n_sessions(), 2);
            // The table changes: whose endpoint is still there goes on, and whose is not begins anew.
            let of = |datagrams: &Datagrams| {
                let held = datagrams.lock();
                held.get(&senders[2])
                    .map(|held| (held.session.endpoint.port, Arc::as_ptr(&held.session)))
            };
            let before = of(&datagrams).unwrap();
            lead_to(&shared, port);
            datagrams.take(senders[2], b"x");
            assert_eq!(of(&datagrams), Some(before));
            let other = rt::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let other_port = other.local_addr().unwrap().port();
            lead_to(&shared, other_port);
            datagrams.take(senders[2], b"x");
            assert_eq!(of(&datagrams).map(|(port, _)| port), Some(other_port));
            // A session ends by itself, and at the end nobody new has one.
            let (shared, datagrams) = bound("20ms");
            lead_to(&shared, port);
            datagrams.take(senders[0], b"x");
            let started = rt::now().mono;
            datagrams.shutdown(Duration::from_secs(600)).await;
            assert!(rt::now().mono.since(started) < Duration::from_secs(300));
            datagrams.take(senders[0], b"x");
            assert_eq!(datagrams.n_sessions(), 0);
        });
    }
}
