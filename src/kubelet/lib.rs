//! The pods of this node: from specs to running containers and truthful statuses.
//!
//! Neighbours: `runtime` makes sandboxes and containers, `client` is the API, `http` the connections.
//! Who gives pods addresses is behind [`PodNetwork`]. Must not know: netlink, OCI, the store.
//!
//! Invariants: what to do with a pod is decided by a pure step function (`pod/`) and done by one
//! task a pod (`worker`); nothing polls: runtime events, watches, inotify and due timers wake it;
//! a pod's containers outlive this process, and everything needed to go on is in `pods/<uid>`.

mod ask;
mod capacity;
mod config;
mod cpu_rounds;
mod cpus;
mod credential_plugins;
mod csi;
mod devices;
mod drivers;
mod events;
mod evict;
mod figures;
mod floors;
mod images;
mod keyring;
mod kubelet;
mod logs;
mod make;
mod manager;
mod network;
mod node;
mod plugins;
mod queries;
mod refs;
mod serve;
mod shared;
mod sharing;
mod static_pods;
mod static_url;
mod static_url_rounds;
#[cfg(test)]
mod testing;
mod upkeep;
mod volumes;
mod worker;

pub use config::{Config, CpuConfig, CredentialPlugin, Serving, StaticUrlConfig, Taint};
pub use csi::staged_for;
pub use floors::{Floor, Floors, Reserved, Soft};
pub use kubelet::Kubelet;
pub use network::{HostPort, PodNetwork, SandboxNetwork};
pub use node::register::{register, report_not_ready};
pub use node::tunables::check_kernel;
pub use podplan::CpuSet;
pub use sharing::end_sharing;
