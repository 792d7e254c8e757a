//! Brain of the network: services to rules, names to answers; no I/O, no clock.
//!
//! Gets objects as trees, keeps only what it needs of them, and says what to change.
//! Must not know netlink or DNS byte layouts: `net` translates.

pub mod address;

pub use address::{Cidr, Protocol};
