//! The connections a client keeps: a few unused HTTP/1.1 ones and one or more HTTP/2 ones an endpoint.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rt::future::poll_fn;
use stdx::Result;
use stdx::time::Mono;

use super::{Endpoint, Options, connect, http1};
use crate::io::{Io, poll_fill};
use crate::message::{Request, Response};

/// Unused connections kept altogether.
const IDLE_MAX: usize = 32;

pub(super) struct Pool {
    pub(super) options: Options,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    http1: Vec<Kept>,
    /// Whether a task runs that drops what is kept for too long.
    is_swept: bool,
}

/// An unused connection.
struct Kept {
    endpoint: Endpoint,
    since: Mono,
    io: Io,
}

impl Pool {
    pub(super) fn new(options: Options) -> Pool {
        Pool { options, idle: Mutex::default() }
    }

    pub(super) async fn send(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        mut request: Request,
    ) -> Result<Response> {
        if let Some(io) = self.take_http1(endpoint).await {
            let again = request.try_clone();
            match http1::send(io, endpoint, request, Some(self.give_back(endpoint))).await {
                Ok(response) => return Ok(response),
                Err(failure) => match again {
                    // The server closed the kept connection, most likely before it saw the request.
                    Some(again) if failure.nothing_came => request = again,
                    _ => return Err(failure.error),
                },
            }
        }
        let connected = connect::connect(endpoint, false, self.options.connect_max).await?;
        let give_back = Some(self.give_back(endpoint));
        let sent = http1::send(connected.io, endpoint, request, give_back).await;
        sent.map_err(|failure| failure.error)
    }

    /// A kept connection that still looks alive.
    async fn take_http1(&self, endpoint: &Endpoint) -> Option<Io> {
        loop {
            let mut kept = {
                let mut idle = self.lock();
                let idx = idle.http1.iter().rposition(|kept| kept.endpoint.is_same(endpoint))?;
                idle.http1.swap_remove(idx)
            };
            let mut input = Vec::new();
            let fill = poll_fn(|cx| poll_fill(&mut kept.io, &mut input, cx));
            // Nothing to read is the sign of life: an unasked byte or the end is not.
            if rt::future::poll_once(fill).await.is_none() {
                return Some(kept.io);
            }
        }
    }

    fn give_back(self: &Arc<Self>, endpoint: &Endpoint) -> http1::GiveBack {
        let (pool, endpoint) = (Arc::downgrade(self), endpoint.clone());
        Arc::new(move |io| {
            if let Some(pool) = pool.upgrade() {
                pool.keep(endpoint.clone(), io);
            }
        })
    }

    fn keep(self: &Arc<Self>, endpoint: Endpoint, io: Io) {
        let mut idle = self.lock();
        let n_same = idle.http1.iter().filter(|kept| kept.endpoint.is_same(&endpoint)).count();
        if n_same >= self.options.idle_per_endpoint_max || idle.http1.len() >= IDLE_MAX {
            return;
        }
        idle.http1.push(Kept { endpoint, since: rt::now().mono, io });
        if !std::mem::replace(&mut idle.is_swept, true) {
            rt::spawn(sweep(Arc::downgrade(self), self.options.idle_max)).detach();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops connections that nobody used for `idle_max`, until none is left.
async fn sweep(pool: Weak<Pool>, idle_max: std::time::Duration) {
    loop {
        rt::sleep(idle_max / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = rt::now().mono;
        let mut idle = pool.lock();
        idle.http1.retain(|kept| now.since(kept.since) < idle_max);
        if idle.http1.is_empty() {
            idle.http1 = Vec::new();
            idle.is_swept = false;
            return;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} kept)", self.lock().http1.len())
    }
}
