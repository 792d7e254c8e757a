//! The runtime's end of the connections to a shim.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::UnixStream;
use stdx::time::Wall;
use stdx::{Context, Error, Result};
use wire::shim::{CHUNK_MAX_BYTES, Exit, Field, Resize, decode, frame, frame_of, kind};

use crate::spec::TerminalSize;
use crate::status::ExitStatus;
use crate::stream::{Output, Session, StreamReceiver, StreamSender};

/// A connection that frames travel on.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
}

impl Link {
    /// Connects to the shim whose state directory this is.
    pub(crate) async fn connect(directory: &Path) -> Result<Link> {
        let what = || format!("connect to the shim of {}", directory.display());
        // By way of an open directory: a socket's path may only have 107 bytes.
        let opened = sys::file::open_dir(directory).context(what)?;
        let path = sys::file::below(opened.as_fd(), Path::new(wire::shim::SOCKET_FILE));
        let socket = UnixStream::connect(path).await.context(what)?;
        Ok(Link { socket })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.write_all(bytes).await.context(|| "write to the shim")
    }

    /// The next frame; `None` when the shim closed the connection.
    pub(crate) async fn receive(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 4];
        match self.socket.read_exact(&mut head).await {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    rt::io::ErrorKind::UnexpectedEof | rt::io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context(|| "read from the shim"),
        }
        let n_bytes = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if n_bytes == 0 || n_bytes > wire::shim::FRAME_MAX_BYTES {
            return Err(Error::new(format!("the shim sent a frame of {n_bytes} bytes")));
        }
        let mut body = vec![0; n_bytes];
        self.socket.read_exact(&mut body).await.context(|| "read from the shim")?;
        let frame_kind = body[0];
        body.drain(..1);
        Ok(Some((frame_kind, body)))
    }
}

/// One request, one answer: its kind and payload. An `ERROR` answer is the error.
pub(crate) async fn request(directory: &Path, request: &[u8]) -> Result<(u8, Vec<u8>)> {
    let mut link = Link::connect(directory).await?;
    link.send(request).await?;
    answer(&mut link).await
}

async fn answer(link: &mut Link) -> Result<(u8, Vec<u8>)> {
    match link.receive().await? {
        Some((kind::ERROR, payload)) => Err(Error::new(decode::<String>(&payload)?)),
        Some(answer) => Ok(answer),
        None => Err(Error::new("the shim ended before it answered")),
    }
}

/// Opens a session with an `EXEC` or `ATTACH` request.
pub(crate) async fn session(directory: &Path, request: &[u8]) -> Result<Session> {
    let is_attach = request.get(4) == Some(&kind::ATTACH);
    let mut link = Link::connect(directory).await?;
    link.send(request).await?;
    match answer(&mut link).await? {
        (kind::OK, _) => {}
        (other, _) => {
            return Err(Error::new(format!("the shim answered a session with frame {other}")));
        }
    }
    let socket = link.socket.clone();
    Ok(Session {
        sender: StreamSender { link: SendHalf { socket } },
        receiver: StreamReceiver { link: ReceiveHalf { link: Some(link) } },
        is_attach,
        ends_with_input: false,
    })
}

pub(crate) fn exit_status(exit: Exit) -> ExitStatus {
    ExitStatus {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        finished_at: Wall(exit.at),
        message: exit.message,
    }
}

/// Where a sandbox keeps its state.
pub(crate) fn sandbox_directory(state: &Path, id: &str) -> PathBuf {
    state.join(id)
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    socket: UnixStream,
}

impl SendHalf {
    pub(crate) async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK_MAX_BYTES) {
            self.send(kind::STDIN, |out| out.extend_from_slice(chunk)).await?;
        }
        Ok(())
    }

    pub(crate) async fn close_stdin(&mut self) -> Result<()> {
        self.send(kind::CLOSE_STDIN, |_| ()).await
    }

    pub(crate) async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        let resize = Resize { id: String::new(), columns: size.columns, rows: size.rows };
        self.send(kind::STREAM_RESIZE, |out| resize.put(out)).await
    }

    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.send(kind::KILL, |_| ()).await
    }

    async fn send(&mut self, frame_kind: u8, payload: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut bytes = Vec::new();
        frame(&mut bytes, frame_kind, payload);
        self.socket.write_all(&bytes).await.context(|| "write to the shim")
    }
}

#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    link: Option<Link>,
}

impl ReceiveHalf {
    pub(crate) async fn next(&mut self) -> Option<Output> {
        let link = self.link.as_mut()?;
        loop {
            match link.receive().await {
                Ok(Some((kind::STDOUT, bytes))) => return Some(Output::Stdout(bytes)),
                Ok(Some((kind::STDERR, bytes))) => return Some(Output::Stderr(bytes)),
                Ok(Some((kind::EXIT, payload))) => {
                    self.link = None;
                    return decode(&payload).ok().map(|exit| Output::Exit(exit_status(exit)));
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

/// A request with one value.
pub(crate) fn request_of(frame_kind: u8, value: &impl Field) -> Vec<u8> {
    frame_of(frame_kind, value)
}
