//! What others may ask the kubelet: logs, commands, ports, figures, in process and over HTTPS.

mod access;
mod configz;
pub(crate) mod metrics;
pub(crate) mod server;
pub(crate) mod stats;
