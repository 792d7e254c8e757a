//! Our end of the process that shims are forked from.
//!
//! A program of our size dirties much memory before its `main` (relocations, the allocator), and takes
//! milliseconds for it. One process does so once, stays single-threaded, and forks the shims, which
//! share what it has. It ends with us; the shims do not.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stdx::{Context, Error, Result};

/// How long a fork may take on a machine that is short of memory.
const ANSWER_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Zygote {
    command: Vec<String>,
    search_path: OsString,
    state: PathBuf,
    /// Our end of its socket, once it has been started.
    socket: Mutex<Option<OwnedFd>>,
}

impl Zygote {
    pub(crate) fn new(command: Vec<String>, search_path: OsString, state: PathBuf) -> Zygote {
        Zygote { command, search_path, state, socket: Mutex::new(None) }
    }

    /// Starts the shim of a sandbox in its state directory. Blocking.
    pub(crate) fn start(&self, directory: &Path, listener: &OwnedFd) -> Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was killed is replaced, once.
        if let Some(known) = socket.as_ref()
            && ask(known, directory, listener).is_ok()
        {
            return Ok(());
        }
        let new = self.spawn().context(|| "start the process that shims are forked from")?;
        ask(&new, directory, listener)?;
        *socket = Some(new);
        Ok(())
    }

    fn spawn(&self) -> Result<OwnedFd> {
        let (program, args) =
            self.command.split_first().context(|| "no shim command is configured")?;
        let mut args = args.to_vec();
        args.push(wire::shim::ZYGOTE.to_owned());
        let (ours, theirs) = sys::unix::socket_pair().context(|| "make a socket pair")?;
        let log = rt::fs::File::create(self.state.join("zygote.log")).context(|| "make its log")?;
        let (program_name, path) = (OsStr::new(program), &self.search_path);
        sys::process::spawn_daemon(program_name, &args, &self.state, &theirs, path, log)
            .context(|| format!("start {program}"))?;
        Ok(ours)
    }
}

/// It answers `=` when it has forked, else with why not.
fn ask(socket: &OwnedFd, directory: &Path, listener: &OwnedFd) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let what = || "ask for a new shim";
    let path = directory.as_os_str().as_bytes();
    sys::unix::send(socket.as_fd(), path, Some(listener.as_fd())).context(what)?;
    if !sys::poll::wait_readable(socket.as_fd(), Some(ANSWER_MAX)).context(what)? {
        return Err(Error::new("no shim was forked in time"));
    }
    let mut answer = [0; 512];
    let (n, _) = sys::unix::receive(socket.as_fd(), &mut answer).context(what)?;
    match &answer[..n] {
        b"=" => Ok(()),
        b"" => Err(Error::new("the process that shims are forked from has ended")),
        text => Err(Error::new(String::from_utf8_lossy(text))),
    }
}
