//! The Helm controller: HelmChart objects become releases, which Helm's own program sees and manages.
//!
//! Charts are fetched, rendered by `charts`, applied, and recorded as Helm does. It runs on one server at a time and in
//! no pod. An ordinary client: it knows neither the store nor nodes.

mod chart;
mod cluster;
mod controller;
mod download;
mod hooks;
mod job;
mod keys;
mod merge;
mod packaged;
mod record;
mod registry;
mod release;
mod render;
mod repository;
mod shared;
mod source;
mod spec;

pub use controller::{Setup, run};
pub use packaged::Components;
