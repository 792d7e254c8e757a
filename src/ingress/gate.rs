//! What a connection is: requests, or one that a route passes on as a whole.
//!
//! Bytes are looked at only where that decides something: behind a proxy that says who its client is, where there are
//! routes of connections, and where how TLS is spoken depends on the name that a client asks for.

use std::sync::Arc;

use http::io::{Io, fill, prefixed};
use http::server::Looked;
use http::tls::ServerConfig;
use http::{BoxFuture, Peer};
use routes::{Ask, Entry, Fields, Mode, Table};
use stdx::{Context, Error, Result};
use wire::client_hello::{self, Hello};
use wire::proxy_protocol;

use crate::live::{Live, Shared};
use crate::tcp::{HANDSHAKE_MAX, source};

/// In front of one entry point.
pub(crate) struct Gate {
    entry: Entry,
    shared: Arc<Shared>,
    /// How TLS is spoken there for requests, if it is.
    tls: Option<Arc<ServerConfig>>,
}

impl Gate {
    pub(crate) fn new(entry: Entry, shared: &Arc<Shared>, tls: Option<Arc<ServerConfig>>) -> Gate {
        Gate { entry, shared: Arc::clone(shared), tls }
    }
}

impl http::server::Gate for Gate {
    fn look(&self, io: Io, peer: Peer) -> BoxFuture<'static, Result<Looked>> {
        let (entry, shared, tls) = (self.entry, Arc::clone(&self.shared), self.tls.clone());
        Box::pin(look(entry, shared, tls, io, peer))
    }
}

async fn look(
    entry: Entry,
    shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    mut io: Io,
    mut peer: Peer,
) -> Result<Looked> {
    let mut bytes = Vec::new();
    if shared.options.entry(entry).is_proxied(source(&peer)) {
        through_proxy(&mut io, &mut bytes, &mut peer).await?;
    }
    let live = shared.live();
    let (plain, over_tls) = live.table.has_tcp(entry);
    let by_name = over_tls || (tls.is_some() && live.table.has_options());
    if !plain && !by_name {
        return Ok(Looked::Http(prefixed(bytes, io), peer, tls));
    }
    // Where nobody speaks TLS the server may be the one that speaks first.
    let hello = match by_name || tls.is_some() {
        true => hello(&mut io, &mut bytes).await?,
        false => None,
    };
    let name = hello.as_ref().map_or("", |hello| &hello.server_name);
    let protocols = Protocols(hello.as_ref().map_or(&[], |hello| &hello.protocols));
    let ask = Ask {
        host: name,
        path: "",
        query: "",
        method: "",
        peer: source(&peer),
        headers: &protocols,
    };
    let found = live.table.find_tcp(entry, hello.is_some(), &ask);
    // A route for every name leaves those to requests that are theirs.
    let found = found.filter(|router| {
        let theirs = hello.is_some() && tls.is_some() && live.table.names(name);
        !(theirs && router.is_for_all())
    });
    let io = prefixed(bytes, io);
    if let Some(router) = found {
        let number = router.number;
        return Ok(Looked::Other(Box::pin(carry(shared, live, number, io, peer))));
    }
    let own = live.table.options_of(name).and_then(|number| live.spoken.get(number));
    let tls = tls.map(|usual| own.map_or(usual, |spoken| Arc::clone(&spoken.http)));
    if tls.is_some() && live.table.has_options() {
        peer.server_name = Some(name.into());
    }
    Ok(Looked::Http(io, peer, tls))
}

/// Reads the header of a proxy, if there is one: whose connection it is.
async fn through_proxy(io: &mut Io, bytes: &mut Vec<u8>, peer: &mut Peer) -> Result<()> {
    loop {
        match proxy_protocol::look(bytes) {
            proxy_protocol::Seen::Header { n_bytes, source } => {
                bytes.drain(..n_bytes);
                if source.is_some() {
                    peer.address = source;
                }
                return Ok(());
            }
            proxy_protocol::Seen::Other => return Ok(()),
            proxy_protocol::Seen::More => more(io, bytes).await?,
        }
    }
}

/// Reads a client's first message of TLS; `None` if it speaks something else.
async fn hello(io: &mut Io, bytes: &mut Vec<u8>) -> Result<Option<Hello>> {
    loop {
        match client_hello::look(bytes) {
            client_hello::Seen::Hello(hello) => return Ok(Some(hello)),
            client_hello::Seen::Other => return Ok(None),
            client_hello::Seen::More => more(io, bytes).await?,
        }
    }
}

async fn more(io: &mut Io, bytes: &mut Vec<u8>) -> Result<()> {
    match fill(io, bytes).await {
        Ok(0) => Err(Error::new("it ended before it said what it is")),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(format!("read its beginning: {error}"))),
    }
}

/// What a TLS client offers, as rules about connections ask for it.
#[derive(Debug)]
struct Protocols<'a>(&'a [String]);

impl Fields for Protocols<'_> {
    fn any(&self, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
        name == routes::ALPN && self.0.iter().any(|protocol| is(protocol))
    }
}

/// Whether a request may be for this host on a connection that was made for the name it came with: how TLS was spoken
/// is what the host asks for.
pub(crate) fn may_ask(table: &Table, peer: &Peer, host: &str) -> bool {
    if !peer.tls || !table.has_options() {
        return true;
    }
    let wanted = table.options_of(host);
    match &peer.server_name {
        Some(name) => table.options_of(name) == wanted,
        // It is older than the first options.
        None => !wanted.is_some_and(|number| {
            let wanted = &table.tls_options[number];
            wanted.closed || wanted.client_required
        }),
    }
}

/// Passes a connection on by the route of this number, to its end.
async fn carry(shared: Arc<Shared>, live: Arc<Live>, number: usize, io: Io, peer: Peer) {
    if let Err(error) = Box::pin(pass_on(shared, live, number, io, &peer)).await {
        log::debug!("connection from {:?}: {error}", peer.address);
    }
}

async fn pass_on(
    shared: Arc<Shared>,
    live: Arc<Live>,
    number: usize,
    near: Io,
    peer: &Peer,
) -> Result<()> {
    let router = live.table.tcp().get(number).context(|| "find its route")?;
    let mut admitted = Vec::new();
    for guard in router.middlewares.iter().filter_map(|number| live.tcp_guards.get(*number)) {
        match guard.admits(source(peer)) {
            Some(counts) => admitted.push(counts),
            None => return Err(Error::new(format!("{} does not admit it", guard.name))),
        }
    }
    let near = match router.mode {
        Mode::Plain | Mode::Passthrough => near,
        Mode::Terminate => {
            let number = router.options.or(live.table.options_of(""));
            let spoken = number.and_then(|number| live.spoken.get(number));
            let config = Arc::clone(&spoken.unwrap_or(&shared.spoken).tcp);
            let accepted = rt::timeout(HANDSHAKE_MAX, http::tls::accept(near, config)).await;
            Box::new(accepted.context(|| "TLS handshake")??)
        }
    };
    let upstream = live.tcp_upstream(router).context(|| "find its service")?;
    let far = upstream.connect(peer).await?;
    // Not to hold an old table as long as the connection lasts.
    drop((upstream, live, shared));
    // Either side may go at any time.
    let _ = http::io::splice(near, far).await;
    drop(admitted);
    Ok(())
}
