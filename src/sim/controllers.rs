//! The controllers of the product.

use api::Registered;

/// Controllers and scheduler, in the order of their tables.
pub(crate) fn originals() -> impl Iterator<Item = &'static Registered> {
    control::CONTROLLERS.iter().chain(sched::SCHEDULER)
}

/// Whether a controller of this name exists (yet).
pub(crate) fn has(name: &str) -> bool {
    originals().any(|controller| controller.name == name)
}
