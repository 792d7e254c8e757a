//! What requests are identified and authorized by: certificates, tokens, roles, and the chain of authorizers.

pub(crate) mod access_config;
mod access_webhook;
pub(crate) mod asked;
mod attributes;
mod authorizer;
pub(crate) mod bootstrap_tokens;
pub(crate) mod certificates;
mod claims;
pub(crate) mod der;
mod expressions;
pub(crate) mod identity_config;
mod issuer;
mod jwt;
mod keys;
mod node;
mod rbac;
pub(crate) mod rules;
pub(crate) mod token_webhook;
pub(crate) mod tokens;
pub(crate) mod x509;

pub(crate) use attributes::{Attributes, selected_name};
pub(crate) use authorizer::{Authorizer, Decision, failed, forbidden};
pub(crate) use node::MIRROR;

#[cfg(test)]
pub(crate) use jwt::sign as test_sign;
#[cfg(test)]
pub(crate) use keys::Signer as TestSigner;
#[cfg(test)]
pub(crate) use keys::tests::new_key as test_key;
