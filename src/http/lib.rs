//! HTTP connections, both ends: TLS, HTTP/1.1, HTTP/2, gRPC, WebSocket, SPDY, and Kubernetes' streams over them.
//!
//! Neighbours: `wire` has the byte layouts, `rt` the sockets and timers. Must not know: routes,
//! status codes of API answers (beyond what the protocol itself refuses), API objects.
//! Invariants: every buffer has a bound; a waiting connection holds no buffer; a peer that goes away
//! is seen by whoever produces or consumes its messages.

pub mod body;
pub mod client;
mod crypto;
pub mod dns;
pub mod grpc;
mod h2;

pub mod io;
pub mod message;
pub mod names;
pub mod pass;
mod places;
pub mod server;
mod server_name;
pub mod spdy;
pub mod streams;
pub mod tls;
pub mod tunnel;
pub mod upgrade;
mod verifiers;
pub mod websocket;

#[cfg(test)]
mod both_ends;
#[cfg(test)]
mod tls_tests;

pub use body::{Body, Chunk};
pub use message::{Method, Peer, Request, Response, Version};
pub use rt::BoxFuture;
pub use wire::headers::Headers;
