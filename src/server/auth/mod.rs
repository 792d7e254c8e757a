//! Who asks (authentication) and whether they may (authorization).

mod attributes;
pub(crate) mod authenticate;
mod authorizer;
mod der;
mod jwt;
mod keys;
mod node;
mod rbac;
pub(crate) mod reviews;
pub(crate) mod rules;
pub(crate) mod tokens;
mod user;
mod x509;

pub(crate) use attributes::Attributes;
pub(crate) use authorizer::{Authorizer, Decision};
pub use user::User;
pub(crate) use user::{AUTHENTICATED, MASTERS};

#[cfg(test)]
pub(crate) use keys::tests::new_key as test_key;
