//! The one small process a pod needs: parent and reaper of its containers, log writer, exit status.
//!
//! One a pod, single-threaded, no async runtime: a poll loop. It lives in the pod's network, IPC and
//! UTS namespaces (so nothing else need hold them), outside its PID namespaces, and in the host's
//! mount namespace. It outlives the k3rs that started it. Knows the protocol in `wire::shim` and
//! system calls; must not know images, Kubernetes or anything else of k3rs.
//!
//! Small on purpose: no allocation is kept that an idle pod does not need.

mod connection;
mod identity;
mod launch;
mod log;
mod requests;
mod rootfs;
mod sandbox;
mod server;
mod streams;
mod task;
mod zygote;

use std::ffi::OsString;

use stdx::{Context, Result};

/// The process `k3rs shim zygote`, which waits for `runtime` to ask for shims, with its socket as
/// descriptor 3. Each shim is a fork of it, in the sandbox's state directory. Returns the exit code.
pub fn main(args: &[OsString]) -> i32 {
    if args.first().is_none_or(|first| first != wire::shim::ZYGOTE) {
        eprintln!("k3rs shim is started by k3rs itself");
        return 2;
    }
    match zygote::serve() {
        Ok(()) => 0,
        Err(error) => {
            // `zygote.log` in the state directory, `shim.log` in the sandbox's; `runtime` quotes that.
            eprintln!("shim: {error}");
            1
        }
    }
}

/// The pod's process: from here on a fork of the zygote, in the sandbox's state directory.
fn run(listener: std::os::fd::OwnedFd) -> Result<()> {
    let (file, max_bytes) = (wire::shim::SANDBOX_FILE, sys::file::SMALL_MAX_BYTES);
    let plan = sys::file::read_within(file, max_bytes, sys::file::Links::Refuse)
        .context(|| "read the sandbox's plan")?;
    let plan: wire::shim::Sandbox =
        wire::shim::decode(&plan).context(|| "decode the sandbox's plan")?;
    let signals = sys::process::signal_fd(&[sys::process::SIGCHLD, sys::process::SIGTERM])
        .context(|| "make a signal descriptor")?;
    sys::process::become_subreaper().context(|| "become a subreaper")?;
    let _ = sys::process::set_name(c"k3rs-shim");
    let sandbox =
        sandbox::Sandbox::set_up(&plan).context(|| format!("set up sandbox {}", plan.id))?;
    drop(plan);
    server::Server::new(listener.into(), signals, sandbox).serve()
}

/// Wall clock, in nanoseconds since the Unix epoch.
fn wall_now() -> i64 {
    match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}
