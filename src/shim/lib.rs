//! The one small process a pod needs: parent and reaper of its containers, log writer, exit status.
//!
//! Single-threaded, no async runtime. Knows the protocol in `wire::shim` and system calls; must not
//! know images, Kubernetes or anything else of k3rs.

use std::ffi::OsString;

/// The process `k3rs shim ...`: `args` are what follows `shim`. Returns the exit code.
pub fn main(args: &[OsString]) -> i32 {
    eprintln!("shim: not built yet: {args:?}");
    1
}
