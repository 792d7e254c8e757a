//! The asking end: connects, keeps a small pool of connections, and sends requests over HTTP/1.1 or HTTP/2.
//!
//! Redirects, authentication, retries and decompression are the caller's. An overall time limit is
//! too: wrap the call in `rt::timeout`; dropping it ends the request.

mod challenge;
mod connect;
mod http1;
mod http2;
mod pool;
mod url;

use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use stdx::{Context, Result};

use crate::io::Io;
use crate::message::{Request, Response};

pub use challenge::Challenge;
pub use connect::{Address, Dial, Endpoint, Protocol, Proxy};
pub use url::{Url, authority, split_host_port};

/// The head of a response, in bytes.
pub(crate) const HEADER_MAX_BYTES: usize = 64 * 1024;

/// The bounds of a client.
#[derive(Clone, Debug)]
pub struct Options {
    /// To connect, TLS included.
    pub connect_max: Duration,
    /// How long an unused connection is kept.
    pub idle_max: Duration,
    /// Unused HTTP/1.1 connections kept for one endpoint.
    pub idle_per_endpoint_max: usize,
    /// Unused HTTP/1.1 connections, HTTP/2 connections, and remembered endpoints, each altogether.
    pub kept_max: usize,
    /// Silence on an HTTP/2 connection in use before it is probed with a PING.
    pub ping_after: Duration,
    /// How long the answer to that PING may take.
    pub ping_max: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_max: Duration::from_secs(30),
            idle_max: Duration::from_secs(60),
            idle_per_endpoint_max: 2,
            kept_max: 64,
            ping_after: Duration::from_secs(30),
            ping_max: Duration::from_secs(15),
        }
    }
}

/// Sends requests. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Client(Arc<pool::Pool>);

/// How a server answered a request to change the protocol.
pub enum Upgraded {
    /// It agreed: the head of its answer, and the byte stream.
    Stream(Response, Io),
    /// It answered something else.
    Refused(Response),
}

impl Client {
    pub fn new(options: Options) -> Client {
        Client(Arc::new(pool::Pool::new(options)))
    }

    /// Sends a request and waits for the head of its response; the body follows as it is read.
    ///
    /// Dropping the response, or this future, ends the request. A request is sent once more on a
    /// fresh connection if its body is known as a whole and it either was refused unseen, or asks
    /// for nothing but an answer (GET, HEAD, OPTIONS) and its kept connection broke.
    pub fn send<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request,
    ) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let what = format!("{} {endpoint} {}", request.method, request.path());
            self.0.send(endpoint, request).await.context(|| what)
        })
    }

    /// Sends a request that asks to change the protocol (set `connection` and `upgrade` yourself),
    /// on a connection of its own, over HTTP/1.1.
    pub fn upgrade<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        request: Request,
    ) -> BoxFuture<'a, Result<Upgraded>> {
        Box::pin(async move {
            let what = format!("{} {endpoint} {}", request.method, request.path());
            let connected = connect::connect(endpoint, true, self.0.options.connect_max).await?;
            http1::upgrade(connected.io, endpoint, request).await.context(|| what)
        })
    }

    /// Opens a connection of its own, TLS included, and hands over the byte stream.
    pub fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<Io>> {
        Box::pin(async move {
            Ok(connect::connect(endpoint, true, self.0.options.connect_max).await?.io)
        })
    }
}

impl Dial for Client {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Io>> {
        Box::pin(async move { self.connect(&Endpoint::tcp(host, port)).await })
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Upgraded::Stream(response, _) => write!(f, "Stream({response:?})"),
            Upgraded::Refused(response) => write!(f, "Refused({response:?})"),
        }
    }
}
