//! Brain of the ingress: objects to a table of routes, a request or a whole connection to its route; no I/O, no clock.
//!
//! Gets objects as trees, keeps only what it needs of them, and says which request goes where, which certificates
//! that takes, and what objects ask for in vain. Must not know HTTP's byte layouts or connections: `ingress` obeys.

mod annotations;
mod ask;
mod asking;
mod breaker;
mod filters;
mod gateway_objects;
mod gateway_plan;
mod middleware;
mod model;
mod named;
mod objects;
mod path;
mod plan;
mod read;
mod rule;
mod table;
mod tcp_objects;
mod tcp_plan;
#[cfg(test)]
mod tests;
mod tls_option;
mod tls_plan;
mod traefik;

pub use annotations::Sticky;
pub use ask::{Ask, Cidr, Fields};
pub use asking::{Buffering, Compress, Errors, ForwardAuth, Retry};
pub use breaker::{Breaker, Circuit};
pub use filters::{Change, Modify, Redirect, Rewrite};
pub use middleware::{
    BasicAuth, Cors, Fields as HeaderFields, Middleware, Password, TcpMiddleware,
};
pub use model::{Model, More, Settings};
pub use objects::Endpoint;
pub use path::{Clean, clean};
pub use rule::{ALPN, Rule};
pub use table::{
    Complaint, Entry, Key, Mode, Router, Scheme, Service, Share, Table, Target, TcpRouter,
    TcpService, UdpRouter,
};
pub use tls_option::TlsOptions;
pub use traefik::Transport;
