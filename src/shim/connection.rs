//! A client's connection: bytes in, frames out, both bounded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Names a connection in the loop.
pub(crate) type Token = u32;

/// Output waiting for a client; streams are not read while a client of theirs has this much.
pub(crate) const OUTPUT_MAX_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) token: Token,
    pub(crate) socket: UnixStream,
    pub(crate) input: Vec<u8>,
    output: Vec<u8>,
    n_written: usize,
    pub(crate) role: Role,
    /// Close when all output is written.
    pub(crate) closing: bool,
    /// Since when a full output buffer has not moved.
    pub(crate) stuck_since: Option<Instant>,
    pub(crate) broken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Has not asked for anything yet.
    New,
    /// Waits for an answer that comes later.
    Waiting,
    Subscriber,
    /// Attached to a container.
    Attached {
        id: String,
        used_stdin: bool,
    },
    /// The session of an exec'd process, by task number.
    Exec(u32),
}

impl Connection {
    pub(crate) fn new(token: Token, socket: UnixStream) -> Connection {
        Connection {
            token,
            socket,
            input: Vec::new(),
            output: Vec::new(),
            n_written: 0,
            role: Role::New,
            closing: false,
            stuck_since: None,
            broken: false,
        }
    }

    /// Reads what is there. False when the client is gone.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) -> bool {
        match self.socket.read(buf) {
            Ok(0) => false,
            Ok(n) => {
                self.input.extend_from_slice(&buf[..n]);
                true
            }
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    pub(crate) fn n_waiting(&self) -> usize {
        self.output.len() - self.n_written
    }

    pub(crate) fn is_full(&self) -> bool {
        self.n_waiting() >= OUTPUT_MAX_BYTES
    }

    /// Queues a frame and sends what goes now.
    pub(crate) fn send(&mut self, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
        wire::shim::frame(&mut self.output, kind, payload);
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while self.n_written < self.output.len() {
            match self.socket.write(&self.output[self.n_written..]) {
                Ok(n) => {
                    self.n_written += n;
                    self.stuck_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.is_full() && self.stuck_since.is_none() {
                        self.stuck_since = Some(Instant::now());
                    }
                    return;
                }
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        self.output = Vec::new();
        self.n_written = 0;
        self.stuck_since = None;
    }
}
