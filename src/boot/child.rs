//! Starting programs from the first process, which has one thread and all signals blocked.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use stdx::{Context, Result};
use sys::process::{self, Cloned, Ended};

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) path: &'a Path,
    /// The name it is called by first.
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [(String, String)],
    /// Becomes its controlling terminal and its standard descriptors; without one, it has ours.
    pub(crate) terminal: Option<BorrowedFd<'a>>,
    /// For the kernel's choice of whom to kill when memory is short.
    pub(crate) oom_score_adj: i32,
}

/// Starts a program in a session of its own; its process id.
pub(crate) fn start(program: &Program<'_>) -> Result<i32> {
    let what = || format!("start {}", program.path.display());
    let text = |text: &OsStr| CString::new(text.as_bytes()).context(what);
    let path = text(program.path.as_os_str())?;
    let args = program.args.iter().map(|arg| text(OsStr::new(arg))).collect::<Result<Vec<_>>>()?;
    let env = program.env.iter().map(|(name, value)| text(OsStr::new(&format!("{name}={value}"))));
    let env = env.collect::<Result<Vec<_>>>()?;
    match process::clone(0).context(what)? {
        Cloned::Parent { pid, .. } => Ok(pid),
        Cloned::Child => {
            let result = prepare(program);
            let error = match result {
                Ok(()) => process::exec(&path, &args, &env),
                Err(error) => error,
            };
            log::error!("start {}: {error}", program.path.display());
            process::exit_now(127);
        }
    }
}

fn prepare(program: &Program<'_>) -> std::io::Result<()> {
    process::new_session()?;
    if let Some(terminal) = program.terminal {
        // Another session may hold it still: then there is no job control, but there is a shell.
        let _ = sys::pty::make_controlling(terminal);
        for number in 0..3 {
            process::duplicate_as(terminal, number)?;
        }
    }
    process::close_from_at_exec(3)?;
    let adjusted = rt::fs::write_in_place(
        "/proc/self/oom_score_adj",
        program.oom_score_adj.to_string().as_bytes(),
    );
    if let Err(error) = adjusted {
        log::debug!("{error}");
    }
    // As much as the kernel allows anyone; what it starts may lower it.
    const RLIMIT_NOFILE: u32 = 7;
    const OPEN_FILES_MAX: u64 = 1 << 20;
    let _ = process::set_rlimit(RLIMIT_NOFILE, OPEN_FILES_MAX, OPEN_FILES_MAX);
    process::reset_signals();
    Ok(())
}

/// Whether a program can be run, and ends well soon. What it prints is thrown away.
pub(crate) fn works(path: &Path, arg: &str) -> bool {
    const END_WITHIN: Duration = Duration::from_secs(20);
    let (Ok(program), Ok(arg)) = (CString::new(path.as_os_str().as_bytes()), CString::new(arg))
    else {
        return false;
    };
    match process::clone(0) {
        Ok(Cloned::Child) => {
            if let Ok(null) = rt::fs::open_terminal("/dev/null") {
                let _ = process::duplicate_as(null.as_fd(), 1);
            }
            let error = process::exec(&program, &[program.clone(), arg], &[]);
            log::warn!("start {}: {error}", path.display());
            process::exit_now(127);
        }
        Ok(Cloned::Parent { pid, pidfd }) => {
            let in_time = sys::poll::wait_readable(pidfd.as_fd(), Some(END_WITHIN));
            if !matches!(in_time, Ok(true)) {
                let _ = process::kill(pid, process::SIGKILL);
                return false;
            }
            matches!(process::reap_pidfd(pidfd.as_fd()), Ok(Some(Ended::Code(0))))
        }
        Err(_) => false,
    }
}

/// Does work in a process of its own and waits for its end: its memory goes back to the machine, and a
/// bug in it ends only itself.
pub(crate) fn apart(what: &str, work: impl FnOnce()) {
    match process::clone(0) {
        Ok(Cloned::Child) => {
            let done = std::panic::catch_unwind(AssertUnwindSafe(work));
            process::exit_now(i32::from(done.is_err()));
        }
        Ok(Cloned::Parent { pidfd, .. }) => {
            let ended = sys::poll::wait_readable(pidfd.as_fd(), None)
                .and_then(|_| process::reap_pidfd(pidfd.as_fd()));
            if !matches!(ended, Ok(Some(Ended::Code(0)))) {
                log::error!("{what}: ended badly ({ended:?})");
            }
        }
        Err(error) => log::error!("{what}: fork: {error}"),
    }
}
