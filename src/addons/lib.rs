//! What runs on top of the API without being part of it: the deploy controller and packaged components.
//!
//! Everything here is an ordinary client; it knows neither the store nor the node.

pub mod deploy;
mod manifest;
mod values;

pub use manifest::{PACKAGED, Packaged};
pub use values::{Check, take_honoured};
