//! Starting helper programs. Containers do not come this way: `runtime` and `shim` make those.

pub use smol::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
