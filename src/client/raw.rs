//! Requests of any shape to an API server, as bytes: for commands that serve a person and know no kinds.

use std::fmt;
use std::sync::Arc;

use http::client::{Client, Endpoint, Options, Proxy};
use http::{Request, Response};
use stdx::Result;

use crate::access::{Access, Current};

/// A server and how to reach it.
pub struct Raw {
    current: Current,
    http: Client,
    proxy: Option<Arc<Proxy>>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({})", self.current.base())
    }
}

impl Raw {
    /// Blocking: reads the files that `access` names.
    ///
    /// # Errors
    /// If a certificate, key or URL cannot be used.
    pub fn new(access: Access, proxy: Option<Arc<Proxy>>) -> Result<Raw> {
        Ok(Raw { current: Current::new(access)?, http: Client::new(Options::default()), proxy })
    }

    /// The client that takes what [`Raw::prepared`] gives.
    pub fn http(&self) -> &Client {
        &self.http
    }

    /// The path of the server's URL; "" if it has none.
    pub fn base(&self) -> &str {
        self.current.base()
    }

    /// Where a request goes, and the request with the path of the server's URL and who asks. One that says itself
    /// who asks keeps that.
    pub async fn prepared(&self, mut request: Request) -> (Endpoint, Request) {
        request.target.insert_str(0, self.base());
        self.addressed(request).await
    }

    /// The same where the target is the whole path already.
    pub async fn addressed(&self, mut request: Request) -> (Endpoint, Request) {
        let mut reached = self.current.reach().await;
        if let Some(proxy) = &self.proxy {
            reached.endpoint = reached.endpoint.proxy(Arc::clone(proxy));
        }
        if !reached.authorization.is_empty() && !request.headers.contains("authorization") {
            request = request.header("authorization", &reached.authorization);
        }
        (reached.endpoint, request)
    }

    /// Sends a request, whose target is a path below the server's URL.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&self, request: Request) -> Result<Response> {
        let (endpoint, request) = self.prepared(request).await;
        self.http.send(&endpoint, request).await
    }
}
