//! The runtime's end of the connections to a shim.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::UnixStream;
use stdx::time::Wall;
use stdx::{Context, Error, Result};
use wire::shim::{Exit, Field, decode, frame_of, kind};

use crate::status::ExitStatus;

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

    /// A second handle of the connection, to write while somebody else reads.
    pub(crate) fn writer(&self) -> UnixStream {
        self.socket.clone()
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

/// The same for what a shim that works answers soon: whoever waits for it holds up others.
pub(crate) async fn request_within(
    directory: &Path,
    bytes: &[u8],
    max: Duration,
) -> Result<(u8, Vec<u8>)> {
    match rt::timeout(max, request(directory, bytes)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(format!("the shim did not answer within {max:?}"))),
    }
}

pub(crate) async fn answer(link: &mut Link) -> Result<(u8, Vec<u8>)> {
    match link.receive().await? {
        Some((kind::ERROR, payload)) => Err(Error::new(decode::<String>(&payload)?)),
        Some(answer) => Ok(answer),
        None => Err(Error::new("the shim ended before it answered")),
    }
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

/// A request with one value.
pub(crate) fn request_of(frame_kind: u8, value: &impl Field) -> Vec<u8> {
    frame_of(frame_kind, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_that_does_not_answer_is_not_waited_for() {
        let name = format!("runtime-silent-shim-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        rt::fs::create_dir_all(&directory, 0o700).unwrap();
        let listener = sys::unix::listen_in(&directory, wire::shim::SOCKET_FILE).unwrap();
        let asked = request_within(&directory, b"x", Duration::from_millis(20));
        let error = rt::block_on(asked).unwrap_err().to_string();
        assert_eq!(error, "the shim did not answer within 20ms");
        drop(listener);
        rt::fs::remove_dir_all(&directory).unwrap();
    }
}
