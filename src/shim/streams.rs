//! The shim's ends of a process's standard streams.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use crate::launch::ChildStreams;

/// Input waiting for a process that does not read; more is left with the client.
pub(crate) const STDIN_BUFFER_MAX_BYTES: usize = 64 << 10;

/// Pipes, or one terminal as both `stdin` and `stdout`.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: Option<File>,
    pub(crate) stderr: Option<File>,
    pub(crate) terminal: bool,
    waiting: Vec<u8>,
    close_when_written: bool,
}

impl Streams {
    /// Pipes for a process without a terminal, and its ends of them.
    pub(crate) fn pipes(stdin: bool) -> io::Result<(Streams, ChildStreams)> {
        let (stdout, child_stdout) = sys::unix::pipe()?;
        let (stderr, child_stderr) = sys::unix::pipe()?;
        let (child_stdin, stdin) = match stdin {
            true => {
                let (read, write) = sys::unix::pipe()?;
                (Some(read), Some(write))
            }
            false => (None, None),
        };
        for ours in [Some(&stdout), Some(&stderr), stdin.as_ref()].into_iter().flatten() {
            sys::unix::set_nonblocking(ours.as_fd(), true)?;
        }
        let streams = Streams {
            stdin: stdin.map(File::from),
            stdout: Some(stdout.into()),
            stderr: Some(stderr.into()),
            ..Streams::default()
        };
        let child = ChildStreams {
            stdin: child_stdin,
            stdout: Some(child_stdout),
            stderr: Some(child_stderr),
        };
        Ok((streams, child))
    }

    /// A process that will hand over its terminal's master.
    pub(crate) fn for_terminal() -> (Streams, ChildStreams) {
        let child = ChildStreams { stdin: None, stdout: None, stderr: None };
        (Streams { terminal: true, ..Streams::default() }, child)
    }

    pub(crate) fn set_terminal(&mut self, master: OwnedFd, stdin: bool) -> io::Result<()> {
        sys::unix::set_nonblocking(master.as_fd(), true)?;
        if stdin {
            self.stdin = Some(master.try_clone()?.into());
        }
        self.stdout = Some(master.into());
        Ok(())
    }

    /// Takes input for the process.
    pub(crate) fn write_stdin(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.close_when_written {
            self.waiting.extend_from_slice(bytes);
            self.flush_stdin();
        }
    }

    pub(crate) fn close_stdin(&mut self) {
        // A terminal has no end of input: the client sends the end-of-file character.
        if !self.terminal {
            self.close_when_written = true;
            self.flush_stdin();
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < STDIN_BUFFER_MAX_BYTES
    }

    pub(crate) fn has_waiting_input(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what the process takes.
    pub(crate) fn flush_stdin(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        let mut n_written = 0;
        let mut closed = false;
        while n_written < self.waiting.len() {
            match stdin.write(&self.waiting[n_written..]) {
                Ok(n) => n_written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    closed = true;
                    break;
                }
            }
        }
        if closed || n_written == self.waiting.len() {
            self.waiting = Vec::new();
        } else {
            self.waiting.drain(..n_written);
        }
        if closed || (self.close_when_written && self.waiting.is_empty()) {
            self.stdin = None;
        }
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes(usize),
    Nothing,
    End,
}

pub(crate) fn read(file: &mut File, buf: &mut [u8]) -> Got {
    loop {
        match file.read(buf) {
            Ok(0) => return Got::End,
            Ok(n) => return Got::Bytes(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
            // EIO is how a terminal says that its other end is closed.
            Err(_) => return Got::End,
        }
    }
}
