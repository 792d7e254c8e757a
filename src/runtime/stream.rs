//! The standard streams of an exec or attach session, as two halves that end when the process does.

use std::path::Path;

use rt::io::AsyncWriteExt;
use rt::net::UnixStream;
use stdx::{Context, Error, Result};
use wire::shim::{CHUNK_MAX_BYTES, Field, Resize, decode, frame, kind};

use crate::link::{self, Link};
use crate::spec::TerminalSize;
use crate::status::ExitStatus;

/// One chunk from the process, at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// The last one. For attach: the container's exit.
    Exit(ExitStatus),
}

/// Both halves of a session. Dropping both leaves an exec'd process running (as containerd does);
/// call `StreamSender::kill` first where it must not.
#[derive(Debug)]
pub struct Session {
    pub sender: StreamSender,
    pub receiver: StreamReceiver,
    /// Of `attach`, whose clients are not told the exit code, rather than of `exec`.
    pub is_attach: bool,
    /// It is over when its client's input is.
    pub ends_with_input: bool,
}

/// Towards the process.
#[derive(Debug)]
pub struct StreamSender {
    socket: UnixStream,
}

impl StreamSender {
    /// Writes to the process's stdin, waiting while its pipe is full.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK_MAX_BYTES) {
            self.send(kind::STDIN, |out| out.extend_from_slice(chunk)).await?;
        }
        Ok(())
    }

    /// Closes the process's stdin (no effect on a terminal).
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.send(kind::CLOSE_STDIN, |_| ()).await
    }

    pub async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        let resize = Resize { id: String::new(), columns: size.columns, rows: size.rows };
        self.send(kind::STREAM_RESIZE, |out| resize.put(out)).await
    }

    /// Kills an exec'd process; on an attach session it only ends the session.
    pub async fn kill(&mut self) -> Result<()> {
        self.send(kind::KILL, |_| ()).await
    }

    async fn send(&mut self, frame_kind: u8, payload: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, frame_kind, payload);
        self.socket.write_all(&bytes).await.context(|| "write to the shim")
    }
}

/// From the process.
#[derive(Debug)]
pub struct StreamReceiver {
    /// `None` after the last chunk.
    link: Option<Link>,
}

impl StreamReceiver {
    /// The next chunk; `None` after `Exit`, or when the session broke (a slow attacher is dropped
    /// after `shim`'s bound, the shim died). Not reading slows an exec'd process down.
    pub async fn next(&mut self) -> Option<Output> {
        let link = self.link.as_mut()?;
        loop {
            match link.receive().await {
                Ok(Some((kind::STDOUT, bytes))) => return Some(Output::Stdout(bytes)),
                Ok(Some((kind::STDERR, bytes))) => return Some(Output::Stderr(bytes)),
                Ok(Some((kind::EXIT, payload))) => {
                    self.link = None;
                    return decode(&payload).ok().map(|exit| Output::Exit(link::exit_status(exit)));
                }
                // A newer shim may say more than we know.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    self.link = None;
                    return None;
                }
            }
        }
    }
}

/// Opens a session with an `EXEC` or `ATTACH` request to the shim of this state directory.
pub(crate) async fn open(directory: &Path, request: &[u8]) -> Result<Session> {
    let is_attach = request.get(4) == Some(&kind::ATTACH);
    let mut link = Link::connect(directory).await?;
    link.send(request).await?;
    match link::answer(&mut link).await? {
        (kind::OK, _) => {}
        (other, _) => {
            return Err(Error::new(format!("the shim answered a session with frame {other}")));
        }
    }
    Ok(Session {
        sender: StreamSender { socket: link.writer() },
        receiver: StreamReceiver { link: Some(link) },
        is_attach,
        ends_with_input: false,
    })
}

/// What `exec_sync` returns.
#[derive(Clone, Debug, Default)]
pub struct ExecOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// `None` when the time ran out; the process has been killed then.
    pub exit_code: Option<i32>,
    /// More output than the bound was dropped.
    pub truncated: bool,
}
