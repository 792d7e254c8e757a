//! The process that shims are forked from: it has loaded the program and done nothing else.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use stdx::{Context, Error, Result};
use sys::process::{self, Cloned};

/// Longest path of a state directory.
const PATH_MAX_BYTES: usize = 4096;

/// Answers requests until the k3rs that started it is gone.
pub(crate) fn serve() -> Result<()> {
    let socket = process::inherited_fd(3).context(|| "take the socket")?;
    let _ = process::set_name(c"k3rs-zygote");
    // The session keyring of whoever started k3rs is none of the pods' business.
    let _ = process::new_keyring();
    // What joins a container is a copy of its shim, and can be looked into there.
    sys::memory::wipe_freed();
    // Shims that end are the kernel's to reap: nobody here waits for them.
    process::ignore_children();
    loop {
        let mut path = [0; PATH_MAX_BYTES];
        let (n, listener) =
            sys::unix::receive(socket.as_fd(), &mut path).context(|| "receive a request")?;
        if n == 0 {
            return Ok(());
        }
        let answer = match listener {
            Some(listener) => {
                fork(Path::new(OsStr::from_bytes(&path[..n])), listener, socket.as_fd())
            }
            None => Err(Error::new("a request without a listening socket")),
        };
        let answer = answer.map_or_else(|error| error.to_string(), |()| "=".to_owned());
        sys::unix::send(socket.as_fd(), answer.as_bytes(), None).context(|| "answer a request")?;
    }
}

fn fork(directory: &Path, listener: OwnedFd, socket: BorrowedFd<'_>) -> Result<()> {
    match process::clone(0).context(|| "fork a shim")? {
        Cloned::Parent { .. } => Ok(()),
        Cloned::Child => {
            let Err(error) = become_shim(directory, listener, socket);
            eprintln!("shim: {error}");
            process::exit_now(1)
        }
    }
}

fn become_shim(directory: &Path, listener: OwnedFd, socket: BorrowedFd<'_>) -> Result<Infallible> {
    // Its end must mean that k3rs is gone, not that a shim is.
    process::close_inherited(socket);
    process::reset_signals();
    process::new_session().context(|| "start a session")?;
    std::env::set_current_dir(directory).context(|| format!("enter {}", directory.display()))?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(wire::shim::LOG_FILE)
        .context(|| "open the log")?;
    for number in [1, 2] {
        process::duplicate_as(log.as_fd(), number).context(|| "connect the log")?;
    }
    drop(log);
    // Whoever waits for us hears our end when the socket closes: the reason must be written by then.
    let kept = listener.try_clone().context(|| "keep the socket")?;
    let ended = crate::run(listener);
    if let Err(error) = &ended {
        eprintln!("shim: {error}");
    }
    drop(kept);
    process::exit_now(i32::from(ended.is_err()))
}
