//! The two small servers beside the proxy: metrics, and whether the pod is alive and ready.

use std::sync::Arc;

use http::server::Service;
use http::{Request, Response};
use rt::BoxFuture;

use crate::live::Shared;

#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Metrics,
    Ping,
}

#[derive(Debug)]
pub(crate) struct Side {
    what: What,
    shared: Arc<Shared>,
}

impl Side {
    pub(crate) fn new(what: What, shared: Arc<Shared>) -> Side {
        Side { what, shared }
    }
}

impl Service for Side {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match (self.what, request.path()) {
                (What::Metrics, "/metrics") => Response::new(200)
                    .header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                    .body(crate::metrics::text(&self.shared)),
                // Alive: Traefik's path; it ends with the first sign of the end.
                (What::Ping, "/ping") if !self.shared.is_ending() => Response::text(200, "OK"),
                (What::Ping, "/ready") if self.shared.is_ready() => Response::text(200, "OK"),
                (What::Ping, "/ping" | "/ready") => Response::text(503, "Service Unavailable"),
                _ => Response::text(404, "404 page not found\n"),
            }
        })
    }
}
