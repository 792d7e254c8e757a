//! Commands that ask a running k3rs: how they read their arguments, what they ask, how they print it.
//!
//! Knows the local door (a unix socket that serves JSON over HTTP) and nothing of what is behind it, and the API as clients do.

pub mod certificate;
pub mod ctr;
mod door;
pub mod etcd_snapshot;
mod flags;
pub mod secrets_encrypt;
pub mod token;
mod yaml;

pub use door::Door;
