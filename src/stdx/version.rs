//! The one version string: what `/version`, the node and `--version` show.

/// The Kubernetes version whose behaviour this is, and our release of it.
pub const VERSION: &str = "v1.32.9+k3rs1";

/// The part of [`VERSION`] that discovery shows as `major` and `minor`.
pub const MAJOR: &str = "1";
pub const MINOR: &str = "32";
