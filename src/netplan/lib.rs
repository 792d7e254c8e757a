//! Brain of the network: services to rules, names to answers; no I/O, no clock.
//!
//! Gets objects as trees, keeps only what it needs of them, and says what to change.
//! Must not know netlink or DNS byte layouts: `net` translates.

pub mod address;
mod base;
pub mod flannel;
mod model;
pub mod names;
mod objects;
pub mod overlay;
mod owners;
mod plan;
mod policy;
#[cfg(test)]
mod policy_tests;
pub mod table;
#[cfg(test)]
mod tests;

pub use address::{Cidr, Protocol};
pub use model::{HealthCheck, HostPort, Model, Name, PolicyObject};
pub use objects::{Endpoint, Service, ServicePort, Slice, SlicePort};
pub use plan::{NodeInfo, UdpFrontend};
