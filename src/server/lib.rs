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
mod allocate;
mod auth;
mod bootstrap;
#[cfg(test)]
mod checks;
mod config;
mod core;
mod door;
mod masters;
mod options;
mod registry;
mod server;
mod subresource;
mod web;

pub use admission::Admission;
pub use auth::User;
pub use config::{Cidr, Config, StaticToken};
pub use door::NodeDoor;
pub use registry::room::owner as key_owner;
pub use registry::storage::check as check_value;
pub use server::Server;
