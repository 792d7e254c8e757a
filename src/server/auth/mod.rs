//! Who asks (authentication) and whether they may (authorization).

mod attributes;
mod authorizer;
mod rbac;
mod rules;
mod user;

pub(crate) use attributes::Attributes;
pub(crate) use authorizer::{Authorizer, Decision};
pub use user::User;
