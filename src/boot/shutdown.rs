//! The end: server, pods, disks, machine.

use std::os::fd::AsFd;
use std::time::Duration;

use sys::kernel::End;
use sys::mount::{self, MS_RDONLY, MS_REMOUNT};
use sys::process::{self, SIGHUP, SIGKILL, SIGTERM};

/// How long the server may take to write down what it knows.
const SERVER_GRACE: Duration = Duration::from_secs(20);
/// How long pods and everything else may take after SIGTERM, and after SIGKILL.
const PODS_GRACE: Duration = Duration::from_secs(10);
const KILL_GRACE: Duration = Duration::from_secs(5);

const EVERYONE: i32 = -1;

/// Stops everything and ends the machine; in a container, it returns for the process to end.
pub(crate) fn run(how: End, server: Option<i32>, signals: &impl AsFd, machine: bool) {
    log::info!(
        "{}",
        match how {
            End::PowerOff => "Powering off",
            End::Restart => "Restarting the machine",
            End::Halt => "Halting",
        }
    );
    if let Some(pid) = server {
        let _ = process::kill(pid, SIGTERM);
        wait(SERVER_GRACE, signals, || process::kill(pid, 0).is_err());
    }
    for signal in [SIGTERM, SIGHUP] {
        let _ = process::kill(EVERYONE, signal);
    }
    if !wait(PODS_GRACE, signals, || !may_stop_itself()) {
        log::info!("Killing what did not stop within {} s", PODS_GRACE.as_secs());
    }
    if process::has_children() {
        let _ = process::kill(EVERYONE, SIGKILL);
        if !wait(KILL_GRACE, signals, || !process::has_children()) {
            log::warn!("Some processes cannot be killed");
        }
    }
    if !machine {
        return;
    }
    sys::kernel::sync();
    leave_disks();
    log::info!("Everything is stopped");
    let error = sys::kernel::end(how);
    log::error!("{how:?}: {error}");
}

/// Whether any process is there that does something of its own when it is asked to end. Containers' first
/// processes that do not are immune to SIGTERM, and waiting for them would be waiting for nothing.
fn may_stop_itself() -> bool {
    rt::fs::list_dir("/proc").unwrap_or_default().iter().any(|directory| {
        let name = directory.file_name().unwrap_or_default().as_encoded_bytes();
        name != b"1"
            && name.iter().all(u8::is_ascii_digit)
            && rt::fs::read_text(directory.join("status")).is_ok_and(|status| catches(&status))
    })
}

/// Reads `/proc/PID/status`. Our own shims end with their containers, not before.
fn catches(status: &str) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    let has = |name: &str| {
        u64::from_str_radix(field(name), 16).is_ok_and(|mask| mask >> (SIGTERM - 1) & 1 == 1)
    };
    let is_dead = field("State").starts_with('Z');
    !is_dead && !field("Name").starts_with("k3rs-") && (has("SigCgt") || has("SigBlk"))
}

/// Reaps until something is true; false if it took too long.
fn wait(grace: Duration, signals: &impl AsFd, done: impl Fn() -> bool) -> bool {
    /// Descendants may end without a signal to us, at first.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    let end = rt::now().mono + grace;
    loop {
        while let Ok(Some(_)) = process::reap_any() {}
        if done() {
            return true;
        }
        let left = end.since(rt::now().mono);
        if left.is_zero() {
            return false;
        }
        let _ = sys::poll::wait_readable(signals.as_fd(), Some(left.min(LOOK_AGAIN)));
        process::read_signals(signals.as_fd());
    }
}

/// Unmounts disks; those in use (our own program may be on one) become read-only, which is as clean.
fn leave_disks() {
    let mounts = mount::list().unwrap_or_default();
    for mount in mounts.iter().rev().filter(|mount| mount.source.starts_with("/dev/")) {
        let target = String::from_utf8_lossy(&mount.target);
        if target != "/" && mount::unmount(&*target, 0).is_ok() {
            continue;
        }
        if let Err(error) = mount::mount("", &*target, "", MS_REMOUNT | MS_RDONLY, "") {
            log::warn!("Unmount {target}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for() {
        for (status, want) in [
            (
                "Name:\tnginx\nState:\tS (sleeping)\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000004000\n",
                true,
            ),
            (
                "Name:\tsystemd\nState:\tS (sleeping)\nSigBlk:\t0000000000004000\nSigCgt:\t0000000000000000\n",
                true,
            ),
            (
                "Name:\thttpd\nState:\tS (sleeping)\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000000001\n",
                false,
            ),
            (
                "Name:\tnginx\nState:\tZ (zombie)\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000004000\n",
                false,
            ),
            (
                "Name:\tk3rs-shim\nState:\tS (sleeping)\nSigBlk:\tfffffffe7ffbfeff\nSigCgt:\t0000000000000000\n",
                false,
            ),
            ("Name:\tkworker/0:1\nState:\tI (idle)\n", false),
            ("", false),
        ] {
            assert_eq!(catches(status), want, "{status}");
        }
    }
}
