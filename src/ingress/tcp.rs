//! Connections that are passed on as a whole: to which endpoint, under which conditions, and with whose TLS.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Peer;
use http::io::Io;
use http::tls::{ClientConfig, ServerConfig};
use routes::{Endpoint, TcpMiddleware, TcpService};
use rt::io::AsyncWriteExt;
use stdx::{Context, Error, OrdMap, Result};
use wire::proxy_protocol;

use crate::upstream::Transports;

/// Endpoints that are tried, if one after the other does not take the connection.
const ATTEMPTS_MAX: usize = 3;
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// A client's TLS handshake, and an endpoint's.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Configurations of TLS that one set of options is: for requests, and for connections that are passed on.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) http: Arc<ServerConfig>,
    pub(crate) tcp: Arc<ServerConfig>,
}

impl Spoken {
    /// The same for both, but that nothing of HTTP is offered where anything is passed on.
    pub(crate) fn new(http: Arc<ServerConfig>) -> Spoken {
        Spoken { tcp: http::tls::without_protocols(&http), http }
    }
}

/// A service as its connections reach it.
#[derive(Debug)]
pub(crate) struct TcpUpstream {
    pub(crate) service: TcpService,
    /// How TLS is spoken with it, if it is.
    tls: Option<Arc<ClientConfig>>,
    n_ready: usize,
    next: AtomicUsize,
}

impl TcpUpstream {
    pub(crate) fn new(service: &TcpService, transports: &Transports) -> TcpUpstream {
        TcpUpstream {
            tls: service.tls.then(|| transports.find(service.transport.as_ref())),
            n_ready: service.endpoints.iter().filter(|place| place.ready).count(),
            service: service.clone(),
            next: AtomicUsize::new(0),
        }
    }

    /// The next endpoint in turn.
    pub(crate) fn turn(&self) -> Option<&Endpoint> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.service.endpoints.get(turn.checked_rem(self.n_ready)?)
    }

    /// Connects to the next endpoint that answers, and tells it who its client is.
    pub(crate) async fn connect(&self, peer: &Peer) -> Result<Io> {
        let mut last = Error::new("no available server");
        for _ in 0..ATTEMPTS_MAX.min(self.n_ready) {
            let Some(place) = self.turn() else { break };
            let what = || format!("connect to {}:{}", place.host, place.port);
            let connecting =
                rt::timeout(CONNECT_MAX, http::names::connect(&place.host, place.port));
            let stream = match connecting.await.context(what).and_then(|it| it.context(what)) {
                Ok(stream) => stream,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            rt::net::tune(&stream).context(what)?;
            let mut io: Io = Box::new(stream);
            let addresses = peer.address.zip(peer.local);
            if let (version @ 1.., Some((from, to))) = (self.service.proxy_version, addresses) {
                io.write_all(&proxy_protocol::emit(version, from, to)).await.context(what)?;
                io.flush().await.context(what)?;
            }
            let Some(config) = &self.tls else { return Ok(io) };
            let name = match self.service.transport.as_ref().map_or("", |own| &own.server_name) {
                "" => &place.host,
                name => name,
            };
            let begun = rt::timeout(HANDSHAKE_MAX, http::tls::begin(io, config, name, &[]));
            return Ok(begun.await.context(what)??.0);
        }
        Err(last)
    }
}

/// A middleware of connections, with those that it counts.
#[derive(Debug)]
pub(crate) struct TcpGuard {
    pub(crate) name: String,
    pub(crate) middleware: Arc<TcpMiddleware>,
    /// Connections that last, by where they come from.
    open: Mutex<OrdMap<IpAddr, u64>>,
}

impl TcpGuard {
    pub(crate) fn new(name: &str, middleware: &Arc<TcpMiddleware>) -> TcpGuard {
        let middleware = Arc::clone(middleware);
        TcpGuard { name: name.to_owned(), middleware, open: Mutex::default() }
    }

    /// Whether a connection may be; it counts until what this gives is dropped.
    pub(crate) fn admits(self: &Arc<Self>, from: Option<IpAddr>) -> Option<Admitted> {
        match &*self.middleware {
            TcpMiddleware::IpAllowList(blocks) => {
                let from = from?;
                blocks.iter().any(|block| block.contains(from)).then_some(Admitted(None))
            }
            TcpMiddleware::InFlightConn(amount) => {
                let from = from?;
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                // Who is not let in leaves no trace, or strangers could fill the memory.
                let n = open.get(&from).copied().unwrap_or(0);
                if n >= *amount {
                    return None;
                }
                open.insert(from, n + 1);
                Some(Admitted(Some((Arc::clone(self), from))))
            }
        }
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(crate) struct Admitted(Option<(Arc<TcpGuard>, IpAddr)>);

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some((guard, from)) = &self.0 else { return };
        let mut open = guard.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get(from).map_or(0, |n| n.saturating_sub(1));
        match left {
            0 => drop(open.remove(from)),
            left => drop(open.insert(*from, left)),
        }
    }
}

/// The address that a connection comes from.
pub(crate) fn source(peer: &Peer) -> Option<IpAddr> {
    peer.address.map(|address| address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_as_long_as_they_last() {
        let guard = |middleware| Arc::new(TcpGuard::new("x", &Arc::new(middleware)));
        let (one, other) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        let few = guard(TcpMiddleware::InFlightConn(2));
        let (first, _second) = (few.admits(one), few.admits(one));
        assert!(first.is_some() && few.admits(one).is_none() && few.admits(other).is_some());
        drop(first);
        assert!(few.admits(one).is_some() && few.admits(None).is_none());
        let nobody = guard(TcpMiddleware::InFlightConn(0));
        assert!(nobody.admits(one).is_none() && nobody.open.lock().unwrap().is_empty());
        let listed = guard(TcpMiddleware::IpAllowList(vec!["192.0.2.1".parse().unwrap()]));
        assert!(listed.admits(one).is_some() && listed.admits(other).is_none());
    }
}
