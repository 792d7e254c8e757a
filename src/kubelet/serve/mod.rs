//! What others may ask the kubelet: logs, commands, ports, figures, in process and over HTTPS.

mod access;
mod configz;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod server;
pub(crate) mod stats;
pub(crate) mod streams;
