//! The standard streams of an exec or attach session, as two halves that end when the process does.

use stdx::Result;

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
    pub(crate) link: crate::link::SendHalf,
}

impl StreamSender {
    /// Writes to the process's stdin, waiting while its pipe is full.
    pub async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        self.link.stdin(bytes).await
    }

    /// Closes the process's stdin (no effect on a terminal).
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.link.close_stdin().await
    }

    pub async fn resize(&mut self, size: TerminalSize) -> Result<()> {
        self.link.resize(size).await
    }

    /// Kills an exec'd process; on an attach session it only ends the session.
    pub async fn kill(&mut self) -> Result<()> {
        self.link.kill().await
    }
}

/// From the process.
#[derive(Debug)]
pub struct StreamReceiver {
    pub(crate) link: crate::link::ReceiveHalf,
}

impl StreamReceiver {
    /// The next chunk; `None` after `Exit`, or when the session broke (a slow attacher is dropped
    /// after `shim`'s bound, the shim died). Not reading slows an exec'd process down.
    pub async fn next(&mut self) -> Option<Output> {
        self.link.next().await
    }
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
