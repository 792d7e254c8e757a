//! The ingress: a reverse proxy that runs as a pod of its own, with Traefik's names and flags.
//!
//! `routes` decides, this room obeys: it follows the objects, takes connections, passes requests on and reports
//! back (addresses in the status of Ingresses, Events about what cannot be done, metrics). Clients, endpoints and
//! the authors of objects are strangers to each other and to us: everything that one of them sends has a bound.
//! Must not know: the node, the server, or how its pod is run.

mod access_log;
mod auth;
mod certificates;
mod compress;
mod figures;
mod filters;
mod flags;
mod follow;
mod forward;
mod forwarded;
mod front;
mod gate;
mod guard;
mod htpasswd;
mod limit;
mod live;
mod metrics;
mod mirror;
mod pages;
mod passage;
mod report;
mod sides;
mod tcp;
mod udp;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use http::server::{Limits, Server};
use rt::BoxFuture;
use rt::net::TcpListener;
use stdx::{Context, Error, Result};

pub use flags::Options;
use live::{Open, Shared};
use udp::Datagrams;

/// Connections that still come while the pod ends are taken: all nodes learn of its end in that time, also busy ones.
const ACCEPT_GRACE: Duration = Duration::from_secs(5);
/// A head; as much as the room for HTTP takes of a response's.
const HEADER_MAX_BYTES: usize = 64 << 10;
/// Requests at once on one HTTP/2 connection, as Traefik has it.
const STREAMS_MAX: u32 = 250;

/// Who serves an entry point.
enum Door {
    Tcp(Server),
    Udp(Arc<Datagrams>),
}

impl Door {
    fn open(&self) -> Open {
        match self {
            Door::Tcp(server) => {
                let server = server.clone();
                Open { protocol: "TCP", count: Box::new(move || server.n_connections()) }
            }
            Door::Udp(datagrams) => {
                let datagrams = Arc::clone(datagrams);
                Open { protocol: "UDP", count: Box::new(move || datagrams.n_sessions()) }
            }
        }
    }

    /// Takes nobody new, and waits for the end of what is open, but no longer than `grace`.
    async fn shutdown(&self, grace: Duration) {
        match self {
            Door::Tcp(server) => server.shutdown(grace).await,
            Door::Udp(datagrams) => datagrams.shutdown(grace).await,
        }
    }
}

/// A machine may be without IPv6: then it is all addresses of IPv4.
async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let bound = match (bound, flags::without_ipv6(address)) {
        (Err(_), Some(address)) => TcpListener::bind(address).await,
        (bound, _) => bound,
    };
    bound.context(|| format!("listen on {address}"))
}

/// Serves until SIGTERM, and then what is under way to its end. `connections_max` is for each entry point.
///
/// # Errors
/// If a port cannot be had.
pub async fn run(options: Options, client: Client, connections_max: usize) -> Result<()> {
    let shared = Shared::new(options)?;
    let metrics = listen(shared.options.metrics).await?;
    let ping = listen(shared.options.ping).await?;

    let limits = |entry: &flags::EntryPoint| Limits {
        connections_max,
        shares_places: false,
        streams_max: STREAMS_MAX,
        header_max_bytes: HEADER_MAX_BYTES,
        body_max_bytes: u64::MAX,
        header_read_max: entry.read_max.min(Duration::from_secs(60)),
        idle_max: entry.idle_max,
        stall_max: entry.read_max,
        ..Limits::default()
    };
    let mut doors = Vec::new();
    let mut serving: BoxFuture<'_, Result<()>> = Box::pin(async { Ok(()) });
    for (entry, options) in shared.options.entries() {
        if options.address.port() == 0 {
            return Err(Error::new(format!("entry point {} has no address", options.name)));
        }
        let before = serving;
        if options.udp {
            let datagrams = Datagrams::bind(entry, &shared, connections_max)?;
            doors.push(Door::Udp(Arc::clone(&datagrams)));
            serving =
                Box::pin(
                    async move { rt::future::try_zip(before, datagrams.serve()).await.map(drop) },
                );
            continue;
        }
        let listener = listen(options.address).await?;
        let front = Arc::new(front::Front::new(entry, Arc::clone(&shared)));
        let server = Server::new(front, limits(options));
        let own = options.tls.then(|| Arc::clone(&shared.spoken.http));
        let gate = Arc::new(gate::Gate::new(entry, &shared, own));
        doors.push(Door::Tcp(server.clone()));
        serving = Box::pin(async move {
            rt::future::try_zip(before, server.serve_behind(listener, gate)).await.map(drop)
        });
    }
    shared.count_connections(doors.iter().map(Door::open).collect());
    let sides = |what| -> Arc<dyn http::server::Service> {
        Arc::new(sides::Side::new(what, Arc::clone(&shared)))
    };
    let small = Limits { connections_max: 64, shares_places: false, ..Limits::default() };
    let sides = [
        (metrics, sides(sides::What::Metrics), small.clone()),
        (ping, sides(sides::What::Ping), small),
    ];
    let sides: Vec<rt::Task<_>> = sides
        .into_iter()
        .map(|(listener, service, limits)| {
            rt::spawn(http::server::serve(listener, None, service, limits))
        })
        .collect();
    let followed = follow::start(&client, &shared);
    log::info!("Ingress ready to serve");

    let ended = async {
        let signal = rt::signal::terminated().await?;
        log::info!("Received {signal}, finishing what is under way");
        shared.end();
        rt::sleep(ACCEPT_GRACE).await;
        let grace = shared.options.grace;
        let mut ending: BoxFuture<'_, ()> = Box::pin(async {});
        for door in &doors {
            let before = ending;
            ending = Box::pin(async move {
                rt::future::zip(before, door.shutdown(grace)).await;
            });
        }
        ending.await;
        Ok(())
    };
    let done = rt::future::or(
        async {
            // It ends when both are drained, which is for `ended` to wait for.
            serving.await?;
            std::future::pending().await
        },
        ended,
    );
    let done = done.await;
    drop((followed, sides));
    done
}
