//! Small things every room may use: errors with context, time types, a seeded PRNG, backoff, metrics.
//!
//! Knows nothing of Kubernetes, does no I/O and reads no clock.

pub mod backoff;
pub mod duration;
pub mod error;
pub mod metrics;
pub mod never;
pub mod ordered;
pub mod prng;
pub mod secret;
pub mod sort;
pub mod time;
pub mod version;

pub use error::{Context, Error, Result};
pub use ordered::{OrdMap, OrdSet};
pub use secret::Sensitive;
pub use sort::Arrange;
