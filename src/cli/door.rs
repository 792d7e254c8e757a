//! The local door of a running k3rs: requests over its unix socket.

use std::path::PathBuf;

use api::{Lens, Value};
use http::client::{Client, Endpoint, Options};
use http::{Method, Request};
use stdx::{Context, Error, Result};

/// Answers are lists of images; more is not ours.
const ANSWER_MAX_BYTES: usize = 16 << 20;

#[derive(Debug, Clone)]
pub struct Door {
    socket: PathBuf,
}

impl Door {
    pub fn new(socket: PathBuf) -> Door {
        Door { socket }
    }

    /// Puts one question; `body` is sent as JSON.
    ///
    /// # Errors
    /// If nothing listens there, with a hint, or what the server says.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = Request::new(Method::from(method), path);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let endpoint = Endpoint::unix(&self.socket);
        let mut response =
            Client::new(Options::default()).send(&endpoint, request).await.context(|| {
                format!(
                    "ask k3rs at {} (is k3rs server running, and are you root?)",
                    self.socket.display()
                )
            })?;
        let bytes = response.body.read_all(ANSWER_MAX_BYTES).await.context(|| "read the answer")?;
        let tree: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match response.status {
            200..=299 => Ok(tree),
            _ if tree.has("message") => Err(Error::new(tree.str("message"))),
            status => Err(Error::new(format!("k3rs answered {status}"))),
        }
    }
}
