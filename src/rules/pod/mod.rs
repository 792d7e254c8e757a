//! Rules that pods and pod templates share beyond the schema: defaults, validation, security, printing.

pub(crate) mod columns;
pub(crate) mod defaults;
pub mod security;
pub(crate) mod validate;
