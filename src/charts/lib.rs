//! Helm charts: an archive becomes a chart, a chart and values become objects, hooks and notes. Fetches nothing, knows no cluster.
//!
//! The words, orders and habits are those of Helm 3.18, down to what is a float: [`merge_values`] makes the numbers of
//! YAML floats, [`set_value`] makes integers, and [`plain_numbers`] makes of both what a record has. What a chart says
//! is not trusted; what bounds it is in [`Chart::read`] and in the room `template`.

mod bcrypt;
mod chart;
mod dependencies;
mod functions;
mod manifests;
mod objects;
mod render;
mod schema;
pub mod semver;
mod values;
mod world;

pub use chart::Chart;
pub use manifests::{Hook, Manifest, sort_for_uninstall};
pub use render::{Capabilities, Release, Rendered, render};
pub use values::{merge_values, plain_numbers, set_value};
pub use world::{Asked, Certificate, Lookup, World};
