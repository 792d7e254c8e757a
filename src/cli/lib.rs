//! Commands that ask a running k3rs: how they read their arguments, what they ask, how they print it.
//!
//! Knows the local door (a unix socket that serves JSON over HTTP) and nothing of what is behind it.

pub mod ctr;
mod door;

pub use door::Door;
