//! The Kubernetes API server: routes, authentication, authorization, admission, and generic verbs over the store.
//!
//! Neighbours: `store` keeps the bytes, `api` knows kinds and their engines, `http` the connections,
//! `client` the shape of requests (`Server::api_as` answers them in process). Nodes are reached
//! through [`NodeDoor`], which `k3rs` plugs in. Must not know: how a kubelet, controller or
//! scheduler works.
//!
//! Invariants: every request, in process or over HTTP, passes the same authorization and
//! admission; an object is a tree for one request only; every answer's status code is chosen here.

mod admission;
mod aggregation;
mod allocate;
mod audit;
mod auth;
mod authenticate;
mod bootstrap;
#[cfg(test)]
mod checks;
mod component_status;
mod config;
mod conversion;
mod core;
mod definitions;
mod dispatch;
mod door;
mod encryption;
mod files;
mod flow;
mod masters;
mod node_door;
mod options;
mod pass;
mod read;
mod registry;
mod resolve;
mod reviews;
mod samples;
mod server;
mod socket;
mod storage;
mod subresource;
mod turns;
mod uid;
mod usage;
mod user;
mod web;
mod webhook;

pub use audit::{Audit, AuditMode, AuditOptions, AuditSink};
pub use auth::access_config::{AuthorizationOptions, Authorizers};
pub use auth::asked::duration as go_duration;
pub use auth::identity_config::{AuthenticationOptions, Authenticators};
pub use auth::token_webhook::{TokenWebhook, TokenWebhookOptions};
pub use config::{Admission, Cidr, Config, StaticToken};
pub use core::Figures;
pub use encryption::{Encryption, rewrite_secrets};
pub use node_door::{NodeDoor, Tunnels};
pub use server::{Plugs, Server};
pub use storage::check as check_value;
pub use storage::room::owner as key_owner;
pub use user::User;
