//! Many connections in one WebSocket between a server and an agent, as rancher/remotedialer has it.
//!
//! The agent opens the WebSocket and pings; the server opens connections in it, which the agent leads to where they
//! may go. Nobody answers an opening that succeeds, and an end is an end both ways.

mod driver;
mod state;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Task, Poll};

use rt::BoxFuture;
use rt::io::{AsyncRead, AsyncWrite};
use stdx::{Error, Result};
use wire::remotedialer::EOF;

use crate::client::{Dial, authority};
use crate::io::Io;
use crate::websocket::WebSocket;
use driver::Driver;
use state::State;

pub use wire::remotedialer::MESSAGE_MAX_BYTES;

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where an agent lets connections go.
pub trait Exits: Send + Sync {
    /// Whether a server may connect to `address`, a host and port.
    fn allows(&self, network: &str, address: &str) -> bool;

    /// Leads an allowed connection there.
    fn lead(&self, address: &str, stream: Stream);
}

/// One session. Clones are the same.
#[derive(Clone)]
pub struct Session(Shared);

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

impl Session {
    pub fn new() -> Session {
        Session(Arc::new(Mutex::new(State::new(rt::now().mono))))
    }

    /// Runs an agent's end of the session until it is over, and says why it is.
    pub async fn serve(&self, socket: WebSocket, exits: &dyn Exits) -> Error {
        Driver { session: self, exits: Some(exits) }.run(socket).await
    }

    /// Runs a server's end.
    pub async fn open(&self, socket: WebSocket) -> Error {
        Driver { session: self, exits: None }.run(socket).await
    }

    /// Opens a connection to what the agent reaches at `address`.
    ///
    /// # Errors
    /// If the session is over or takes no more.
    pub fn connect(&self, network: &str, address: &str) -> Result<Stream> {
        let id = lock(&self.0).open(network, address).map_err(Error::new)?;
        Ok(Stream { shared: Arc::clone(&self.0), id })
    }

    /// Ends the session.
    pub fn end(&self, why: &str) {
        lock(&self.0).end(why.to_owned());
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Session) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Dial for Session {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Io>> {
        Box::pin(async move {
            let stream = self.connect("tcp", &authority(host, Some(port)))?;
            Ok(Box::new(stream) as Io)
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tunnel::Session")
    }
}

/// One connection in a session. Dropping it ends it, after what was written: there is no end of one direction only.
pub struct Stream {
    shared: Shared,
    id: i64,
}

impl Stream {
    /// Ends it, and tells the peer why.
    pub fn fail(self, why: &str) {
        lock(&self.shared).close(self.id, why);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_read(self.id, buf, cx)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Task<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).poll_write(self.id, buf, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        // The driver sends whatever is there as soon as the connection takes it.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        // The peer would take it for the end of what it sends, too; what lies above says its own goodbye.
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // After `fail` there is none of this number any more, or one that will end without us.
        lock(&self.shared).close(self.id, EOF);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tunnel::Stream({})", self.id)
    }
}

#[cfg(test)]
mod tests;
