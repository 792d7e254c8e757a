//! Nodes: whether they are alive, what that means for their pods, and their share of addresses.

mod eviction;
mod ipam;
mod lifecycle;

pub(crate) use eviction::TaintEviction;
pub(crate) use ipam::Ipam;
pub(crate) use lifecycle::Lifecycle;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
