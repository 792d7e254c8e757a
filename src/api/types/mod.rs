//! Schema texts of types that several kinds share, one file a subject.

mod authentication;
mod authorization;
mod batch;
mod core_container;
mod core_pod;
mod core_reference;
mod core_volume;
mod events;
mod meta;
mod rbac;

/// Every shared text, read before the kinds' own.
pub(crate) const TEXTS: &[&str] = &[
    authentication::SCHEMA,
    authorization::SCHEMA,
    batch::SCHEMA,
    core_container::SCHEMA,
    core_pod::SCHEMA,
    core_reference::SCHEMA,
    core_volume::SCHEMA,
    events::SCHEMA,
    meta::SCHEMA,
    rbac::SCHEMA,
];
