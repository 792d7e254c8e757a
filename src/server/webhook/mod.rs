//! Calling webhooks: HTTPS servers that administrators name by URL or by Service, asked by the API server.
//!
//! [`call`] puts a question to one and reads the answer, whatever they are about. Both are bounded in
//! size and time. What configurations of admission say, of webhooks and of policies, is parsed once
//! and kept here too ([`hooks`], [`policies`]).

pub(crate) mod hooks;
pub(crate) mod policies;
pub(crate) mod targets;

use std::time::Duration;

use api::{Lens, Value};
use http::client::{Client, Endpoint, Protocol, Url};
use http::{Method, Response};

use crate::resolve::{Backend, Trusted, Ways};

/// The longest answer, as long as the body of a request.
const ANSWER_MAX_BYTES: usize = 3 << 20;
/// What the tree of an answer may take: a patch is one text in it.
const ANSWER_TREE_MAX_BYTES: usize = 32 << 20;

/// What is shown of an answer that says that the webhook failed.
const SHOWN_MAX_CHARS: usize = 256;

/// Where a webhook is, as a `WebhookClientConfig` says.
pub(crate) struct Target {
    place: Place,
    trusted: Trusted,
}

enum Place {
    /// In the form in which it was written, and read.
    Url(String),
    /// And a path there.
    Service(Backend, String),
}

impl Target {
    /// Reads a `WebhookClientConfig` that passed validation.
    pub(crate) fn of(config: &Value) -> Target {
        let service = config.at("service");
        let place = match config.at("url").as_str() {
            Some(url) => Place::Url(url.to_owned()),
            None => Place::Service(Backend::of(service), service.str("path").to_owned()),
        };
        Target { place, trusted: Trusted::of(config) }
    }

    /// As messages show it, without a query.
    fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service(backend, path) => {
                let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
                format!("https://{}:{}{slash}{path}", backend.host(), backend.port)
            }
        }
    }

    /// Where to connect to now, and the path to ask for.
    async fn endpoint(&self, ways: Ways<'_>) -> Result<(Endpoint, String), String> {
        let url = Url::parse(&self.url()).map_err(|error| error.to_string())?;
        let tls = self.trusted.tls(None)?;
        let endpoint = match &self.place {
            Place::Url(_) => Endpoint::tcp(&*url.host, url.port).tls(tls).protocol(Protocol::Http1),
            Place::Service(backend, _) => backend.endpoint(ways, tls).await?,
        };
        Ok((endpoint, url.target))
    }

    fn port(&self) -> u16 {
        match &self.place {
            Place::Url(_) => 443,
            Place::Service(backend, _) => backend.port,
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.url())
    }
}

/// Posts a question, which is JSON, and reads the tree that answers it.
///
/// # Errors
/// Why there is no answer, in upstream's words.
pub(crate) async fn call(
    ways: Ways<'_>,
    client: &Client,
    target: &Target,
    question: Vec<u8>,
    time_max: Duration,
) -> Result<Value, String> {
    let query = format!("timeout={}s", time_max.as_secs());
    let posting = |why: &dyn std::fmt::Display| format!("Post \"{}?{query}\": {why}", target.url());
    let ask = async {
        let found = target.endpoint(ways).await;
        let (endpoint, path) = found.map_err(|why| posting(&why))?;
        let mut request = http::Request::new(Method::Post, format!("{path}?{query}"))
            .header("content-type", "application/json")
            .header("accept", "application/json, */*")
            .header("user-agent", "kube-apiserver-admission")
            .body(question);
        request.authority = match &endpoint.server_name {
            Some(name) => format!("{name}:{}", target.port()),
            None => endpoint.authority(),
        };
        let mut response = client.send(&endpoint, request).await.map_err(|error| {
            // It begins with what is asked for, which is said already.
            let why = error.to_string();
            let asked = format!("POST {endpoint} {path}: ");
            posting(&why.strip_prefix(&asked).unwrap_or(&why))
        })?;
        let text = response.body.read_all(ANSWER_MAX_BYTES).await;
        read(&response, &text.map_err(|error| posting(&error))?)
    };
    match rt::timeout(time_max, ask).await {
        Ok(answer) => answer,
        Err(rt::Elapsed) => Err(posting(&"context deadline exceeded")),
    }
}

/// Reads what a webhook wrote.
///
/// # Errors
/// If it is no JSON, or its tree would be too large.
pub(crate) fn parse(text: &[u8]) -> Result<Value, String> {
    if wire::json::tree_bytes(text) > ANSWER_TREE_MAX_BYTES {
        return Err("the answer has too many parts".into());
    }
    wire::json::parse(text).map(|parsed| parsed.tree).map_err(|error| error.to_string())
}

/// The tree of a successful answer.
fn read(response: &Response, text: &[u8]) -> Result<Value, String> {
    let parsed = parse(text);
    if (200..300).contains(&response.status) {
        return parsed
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"));
    }
    // A Status says by itself what is wrong.
    if let Ok(tree) = &parsed
        && tree.str("kind") == "Status"
        && !tree.str("message").is_empty()
    {
        return Err(tree.str("message").to_owned());
    }
    let shown: String =
        String::from_utf8_lossy(text).trim().chars().take(SHOWN_MAX_CHARS).collect();
    Err(match response.status {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 if !shown.is_empty() => shown,
        404 => "the server could not find the requested resource".into(),
        429 => {
            "the server has received too many requests and has asked us to try again later".into()
        }
        503 => "the server is currently unable to handle the request".into(),
        code if code >= 500 => {
            let shown = if shown.is_empty() { "unknown".to_owned() } else { shown };
            format!("an error on the server ({shown:?}) has prevented the request from succeeding")
        }
        // Redirects are not followed: they would lead to where no administrator pointed.
        code => format!(
            "the server responded with the status code {code} but did not return more information"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn targets_show_where_they_are() {
        let service = |service: Value| Target::of(&json!({"service": service})).url();
        for (url, wanted) in [
            (service(json!({"name": "s", "namespace": "n"})), "https://s.n.svc:443"),
            (
                service(json!({"name": "s", "namespace": "n", "path": "/a", "port": 8443})),
                "https://s.n.svc:8443/a",
            ),
            (Target::of(&json!({"url": "https://h/p"})).url(), "https://h/p"),
        ] {
            assert_eq!(url, wanted);
        }
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let answer = |code: u16, text: &str| {
            read(&Response::new(code), text.as_bytes()).map(|tree| tree.to_string())
        };
        assert_eq!(answer(200, r#"{"a":1}"#).unwrap(), r#"{"a":1}"#);
        for (code, text, wanted) in [
            (200, "{", "couldn't get version/kind; json parse error: "),
            (404, "no", "the server could not find the requested resource"),
            (
                500,
                "oh\n",
                "an error on the server (\"oh\") has prevented the request from succeeding",
            ),
            (
                502,
                "",
                "an error on the server (\"unknown\") has prevented the request from succeeding",
            ),
            (409, r#"{"kind":"Status","message":"not now"}"#, "not now"),
            (302, "", "the server responded with the status code 302 but"),
        ] {
            let why = answer(code, text).unwrap_err();
            assert!(why.starts_with(wanted), "{code} {text}: {why}");
        }
    }
}
