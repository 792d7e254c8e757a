//! The connections a client keeps: a few unused HTTP/1.1 ones and as few HTTP/2 ones as will do, an endpoint.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rt::future::poll_fn;
use stdx::Result;
use stdx::time::Mono;

use super::connect::Connected;
use super::{Endpoint, Options, connect, http1, http2};
use crate::h2::Connection;
use crate::io::{Io, poll_fill};
use crate::message::{Request, Response};

pub(super) struct Pool {
    pub(super) options: Options,
    kept: Mutex<Kept>,
    /// Told when a connection attempt ends.
    connected: rt::Event,
}

#[derive(Default)]
struct Kept {
    http1: Vec<Unused>,
    http2: Vec<(Endpoint, Arc<Connection>)>,
    /// Endpoints somebody is connecting to; others wait to share the connection.
    connecting: Vec<Endpoint>,
    /// Endpoints that chose HTTP/1.1 although they might have chosen HTTP/2.
    only_http1: Vec<Endpoint>,
    /// Whether a task runs that drops what is kept for too long.
    is_swept: bool,
}

/// An unused connection.
struct Unused {
    endpoint: Endpoint,
    since: Mono,
    io: Io,
}

/// How a request is to be sent.
enum Route {
    Http2(Arc<Connection>),
    /// Wait until the attempt under way has ended.
    Wait(rt::EventListener),
    /// Connect; others wait for it while the guard lives.
    Connect(Option<Connecting>),
}

impl Pool {
    pub(super) fn new(options: Options) -> Pool {
        Pool { options, kept: Mutex::default(), connected: rt::Event::new() }
    }

    pub(super) async fn send(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut request: Request,
    ) -> Result<Response> {
        let is_safe = request.method.is_safe();
        let mut may_retry = true;
        if let Some(io) = self.take_http1(endpoint).await {
            let again = request.try_clone();
            match http1::send(io, endpoint, request, Some(self.give_back(endpoint))).await {
                Ok(response) => return Ok(response),
                Err(failure) => match again {
                    // The server closed the kept connection just now.
                    Some(again) if failure.nothing_came && is_safe => request = again,
                    _ => return Err(failure.error),
                },
            }
            may_retry = false;
        }
        loop {
            let (connection, is_fresh) = match self.route(endpoint) {
                Route::Wait(attempt) => {
                    attempt.await;
                    continue;
                }
                Route::Http2(connection) => (connection, false),
                Route::Connect(guard) => {
                    let max = self.options.connect_max;
                    let Connected { io, is_http2 } = connect::connect(endpoint, false, max).await?;
                    if !is_http2 {
                        self.remember_http1(endpoint);
                        drop(guard);
                        let give_back = Some(self.give_back(endpoint));
                        let sent = http1::send(io, endpoint, request, give_back).await;
                        return sent.map_err(|failure| failure.error);
                    }
                    let connection = Arc::new(http2::start(io, &self.options));
                    self.keep_http2(endpoint, &connection);
                    drop(guard);
                    (connection, true)
                }
            };
            let again = if may_retry { request.try_clone() } else { None };
            let opened = match http2::open(&connection, endpoint, request) {
                Ok(opened) => opened?,
                // The last free stream went to somebody else.
                Err(returned) => {
                    request = returned;
                    continue;
                }
            };
            match (opened.response().await, again) {
                (Ok(response), _) => return Ok(response),
                (Err(error), Some(again))
                    if http2::was_refused(&error)
                        || (is_safe && !is_fresh && connection.is_over()) =>
                {
                    request = again;
                    may_retry = false;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn route(self: &Arc<Self>, endpoint: &Endpoint) -> Route {
        let mut kept = self.lock();
        if !endpoint.may_be_http2() || kept.only_http1.iter().any(|e| e.is_same(endpoint)) {
            return Route::Connect(None);
        }
        kept.http2.retain(|(_, connection)| !connection.is_over());
        let mut same = kept.http2.iter().filter(|(e, _)| e.is_same(endpoint));
        if let Some((_, connection)) = same.find(|(_, connection)| connection.has_room()) {
            return Route::Http2(Arc::clone(connection));
        }
        if kept.connecting.iter().any(|e| e.is_same(endpoint)) {
            return Route::Wait(self.connected.listen());
        }
        kept.connecting.push(endpoint.clone());
        Route::Connect(Some(Connecting { pool: Arc::clone(self), endpoint: endpoint.clone() }))
    }

    fn keep_http2(&self, endpoint: &Endpoint, connection: &Arc<Connection>) {
        let mut kept = self.lock();
        if kept.http2.len() >= self.options.kept_max {
            // The one that is dropped ends after its streams.
            kept.http2.remove(0);
        }
        kept.http2.push((endpoint.clone(), Arc::clone(connection)));
    }

    fn remember_http1(&self, endpoint: &Endpoint) {
        if endpoint.may_be_http2() {
            let mut kept = self.lock();
            if kept.only_http1.len() >= self.options.kept_max {
                kept.only_http1.remove(0);
            }
            kept.only_http1.push(endpoint.clone());
        }
    }

    /// A kept connection that still looks alive.
    async fn take_http1(&self, endpoint: &Endpoint) -> Option<Io> {
        loop {
            let mut unused = {
                let mut kept = self.lock();
                let idx =
                    kept.http1.iter().rposition(|unused| unused.endpoint.is_same(endpoint))?;
                kept.http1.swap_remove(idx)
            };
            let mut input = Vec::new();
            let fill = poll_fn(|cx| poll_fill(&mut unused.io, &mut input, cx));
            // Nothing to read is the sign of life: an unasked byte or the end is not.
            if rt::future::poll_once(fill).await.is_none() {
                return Some(unused.io);
            }
        }
    }

    fn give_back(self: &Arc<Self>, endpoint: &Endpoint) -> http1::GiveBack {
        let (pool, endpoint) = (Arc::downgrade(self), endpoint.clone());
        Arc::new(move |io| {
            if let Some(pool) = pool.upgrade() {
                pool.keep_http1(endpoint.clone(), io);
            }
        })
    }

    fn keep_http1(self: &Arc<Self>, endpoint: Endpoint, io: Io) {
        let mut kept = self.lock();
        let n_same = kept.http1.iter().filter(|unused| unused.endpoint.is_same(&endpoint)).count();
        if n_same >= self.options.idle_per_endpoint_max || kept.http1.len() >= self.options.kept_max
        {
            return;
        }
        kept.http1.push(Unused { endpoint, since: rt::now().mono, io });
        if !std::mem::replace(&mut kept.is_swept, true) {
            rt::spawn(sweep(Arc::downgrade(self), self.options.idle_max)).detach();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While this lives, others wait for the connection instead of opening their own.
struct Connecting {
    pool: Arc<Pool>,
    endpoint: Endpoint,
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.pool.lock().connecting.retain(|endpoint| !endpoint.is_same(&self.endpoint));
        self.pool.connected.notify(usize::MAX);
    }
}

/// Drops connections that nobody used for `idle_max`, until none is left. HTTP/2 connections see to
/// that themselves.
async fn sweep(pool: Weak<Pool>, idle_max: Duration) {
    loop {
        rt::sleep(idle_max / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = rt::now().mono;
        let mut kept = pool.lock();
        kept.http1.retain(|unused| now.since(unused.since) < idle_max);
        if kept.http1.is_empty() {
            kept.http1 = Vec::new();
            kept.is_swept = false;
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.lock();
        write!(f, "Pool({} HTTP/1.1 kept, {} HTTP/2)", kept.http1.len(), kept.http2.len())
    }
}
