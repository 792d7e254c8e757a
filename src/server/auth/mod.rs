//! What requests are identified and authorized by: certificates, tokens, roles, and the chain of authorizers.

mod attributes;
mod authorizer;
pub(crate) mod bootstrap_tokens;
pub(crate) mod der;
mod jwt;
mod keys;
mod node;
mod rbac;
pub(crate) mod rules;
pub(crate) mod token_webhook;
pub(crate) mod tokens;
pub(crate) mod x509;

pub(crate) use attributes::{Attributes, selected_name};
pub(crate) use authorizer::{Authorizer, Decision, forbidden};
pub(crate) use node::MIRROR;

#[cfg(test)]
pub(crate) use keys::tests::new_key as test_key;
