//! Requests to the server, and what its answers mean to a person.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{Lens, Value, json};
use client::{Raw, Source};
use http::client::Proxy;
use http::{Method, Request, Response};

use crate::failure::{Failure, Outcome, failed};
use crate::flags::parse_duration;
use crate::kubeconfig::Kubeconfig;
use crate::line::Line;
use crate::{exec_plugin, out};

/// One answer that is no stream: a list of everything.
pub(crate) const ANSWER_MAX_BYTES: usize = 512 << 20;
/// What of an answer is shown with `-v=8`.
const SHOWN_MAX_BYTES: usize = 1 << 10;
/// Asked again when the server is busy.
const ATTEMPTS_MAX: u32 = 10;
/// A wait that the server asks for is not longer.
const RETRY_AFTER_MAX_SECS: u64 = 60;
/// Warnings that are remembered, so that none is told twice.
const WARNINGS_MAX: usize = 1000;

pub(crate) const JSON: &str = "application/json";

/// The server.
pub(crate) struct Rest {
    pub(crate) raw: Raw,
    /// `https://host:port`, as the kubeconfig has it.
    pub(crate) server: String,
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
    verbosity: i64,
    warned: RefCell<Vec<String>>,
}

/// What goes with a request.
pub(crate) struct Body<'a> {
    pub(crate) media: &'a str,
    pub(crate) bytes: Vec<u8>,
}

impl Body<'static> {
    pub(crate) fn json(tree: &Value) -> Option<Body<'static>> {
        Some(Body { media: JSON, bytes: format!("{tree}\n").into_bytes() })
    }
}

impl Rest {
    pub(crate) fn new(line: &Line<'_>, config: &Kubeconfig) -> Outcome<Rest> {
        let (mut access, cluster, user) = config.access(line)?;
        let mut headers = vec![(
            "user-agent".to_owned(),
            format!("kubectl/{} (linux/{}) k3rs", stdx::version::VERSION, arch()),
        )];
        headers.push(("kubectl-command".to_owned(), line.path.clone()));
        let or = |flag: &str, field: &str| match line.text(flag) {
            "" => user.str(field).to_owned(),
            given => given.to_owned(),
        };
        let (name, password) = (or("username", "username"), or("password", "password"));
        if !name.is_empty() && access.token == Source::None {
            let pair = wire::base64::encode(format!("{name}:{password}").as_bytes());
            headers.push(("authorization".to_owned(), format!("Basic {pair}")));
        }
        let exec = user.at("exec");
        if exec.is_object() && access.token == Source::None && name.is_empty() {
            exec_plugin::credentials(line, exec, &cluster, &mut access)?;
        }
        impersonate(line, config, &user, &mut headers)?;
        let proxy = proxy(line, &cluster, &access.server)?;
        let server = access.server.clone();
        let context = config.named("contexts", config.context_name(line)).unwrap_or(&Value::Null);
        let of = |flag: &str| match line.global(flag) {
            "" => context.str(flag).to_owned(),
            named => named.to_owned(),
        };
        for (source, what, owner) in [
            (&access.ca, "certificate-authority", "cluster"),
            (&access.certificate, "client-cert", "user"),
            (&access.key, "client-key", "user"),
        ] {
            let Source::File(path) = source else { continue };
            readable(path).map_err(|failure| {
                let (path, owner) = (path.display(), of(owner));
                format!("unable to read {what} {path} for {owner} due to {}", failure.text())
            })?;
        }
        if !name.is_empty() && access.token != Source::None {
            return failed(format!(
                "more than one authentication method found for {}; found [token basicAuth], only one is allowed",
                of("user")
            ));
        }
        if let Some((scheme, _)) =
            server.split_once("://").filter(|(it, _)| !it.starts_with("http"))
        {
            return Err(Failure::Said(format!(
                "Unable to connect to the server: unsupported protocol scheme {scheme:?}"
            )));
        }
        let raw = Raw::new(access, proxy)?;
        Ok(Rest {
            raw,
            server,
            headers,
            timeout: request_timeout(line)?,
            verbosity: line.int("v"),
            warned: RefCell::new(Vec::new()),
        })
    }

    /// How the server is reached, and who asks and why, for requests that somebody else makes.
    pub(crate) fn into_parts(self) -> (Raw, Vec<(String, String)>) {
        (self.raw, self.headers)
    }

    /// A request with who asks and why.
    pub(crate) fn request(
        &self,
        method: Method,
        target: &str,
        accept: &str,
        body: Option<&Body<'_>>,
    ) -> Request {
        let mut request = Request::new(method, target).header("accept", accept);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match body {
            Some(body) => request.header("content-type", body.media).body(body.bytes.clone()),
            None => request,
        }
    }

    /// Sends a request and gives the head of a good answer; what is no good answer is a failure.
    pub(crate) async fn open(
        &self,
        method: Method,
        target: &str,
        accept: &str,
        body: Option<&Body<'_>>,
    ) -> Outcome<Response> {
        for attempt in 1.. {
            let request = self.request(method.clone(), target, accept, body);
            self.show_request(&request, body);
            let started = rt::now().mono;
            let sent = self.raw.send(request).await;
            let mut response = sent.map_err(|error| self.unreachable(&error))?;
            self.show_response(method.as_str(), target, &response, rt::now().mono.since(started));
            self.warn(&response);
            if (200..300).contains(&response.status) {
                return Ok(response);
            }
            let later = response
                .headers
                .get("retry-after")
                .and_then(|secs| secs.trim().parse::<u64>().ok());
            let is_busy = response.status == 429 || response.status >= 500;
            if let (Some(secs), true, true) = (later, is_busy, attempt < ATTEMPTS_MAX) {
                rt::sleep(Duration::from_secs(secs.min(RETRY_AFTER_MAX_SECS))).await;
                continue;
            }
            let bytes = response.body.read_all(ANSWER_MAX_BYTES).await.unwrap_or_default();
            self.show_body(&bytes);
            return Err(Failure::Status(refusal(response.status, &bytes, method.as_str())));
        }
        Err(Failure::Exit(1))
    }

    /// Sends a request and gives the whole of a good answer, with its media type.
    pub(crate) fn ask(
        &self,
        method: Method,
        target: &str,
        accept: &str,
        body: Option<Body<'_>>,
    ) -> Outcome<(Vec<u8>, String)> {
        let work = async {
            let mut response = self.open(method, target, accept, body.as_ref()).await?;
            let bytes = response.body.read_all(ANSWER_MAX_BYTES).await;
            let bytes = bytes.map_err(|error| self.unreachable(&error))?;
            self.show_body(&bytes);
            Ok((bytes, response.headers.get("content-type").unwrap_or("").to_owned()))
        };
        rt::block_on(async {
            match self.timeout {
                None => work.await,
                Some(timeout) => match rt::timeout(timeout, work).await {
                    Ok(done) => done,
                    Err(rt::Elapsed) => failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)").map_err(|failure: Failure| {
                        Failure::Said(format!("Unable to connect to the server: {}", failure.text()))
                    }),
                },
            }
        })
    }

    /// Sends a request and gives the tree of its answer.
    pub(crate) fn tree(
        &self,
        method: Method,
        target: &str,
        body: Option<Body<'_>>,
    ) -> Outcome<Value> {
        let (bytes, _) = self.ask(method, target, JSON, body)?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Message(error.to_string()))
    }

    pub(crate) fn get(&self, target: &str) -> Outcome<Value> {
        self.tree(Method::Get, target, None)
    }

    /// Says each warning of an answer once.
    fn warn(&self, response: &Response) {
        for header in response.headers.get_all("warning") {
            let Some((_, quoted)) = header.split_once('"') else { continue };
            let text = quoted.rsplit_once('"').map_or(quoted, |(text, _)| text);
            let text = text.replace("\\\"", "\"").replace("\\\\", "\\");
            let mut warned = self.warned.borrow_mut();
            if !warned.contains(&text) && warned.len() < WARNINGS_MAX {
                out::tell(&format!("Warning: {text}"));
                warned.push(text);
            }
        }
    }

    /// How many different warnings came.
    pub(crate) fn n_warnings(&self) -> usize {
        self.warned.borrow().len()
    }

    /// In upstream's words, why there was no answer.
    pub(crate) fn unreachable(&self, error: &stdx::Error) -> Failure {
        unreachable(error, &self.server)
    }

    fn show_request(&self, request: &Request, body: Option<&Body<'_>>) {
        if self.verbosity < 8 {
            if self.verbosity == 7 {
                out::tell(&format!(
                    "{} {}{}",
                    request.method.as_str(),
                    self.server,
                    request.target
                ));
            }
            return;
        }
        let mut text = format!("{} {}{}", request.method.as_str(), self.server, request.target);
        if let Some(body) = body {
            text = format!("Request Body: {}\n{text}", shown(&body.bytes, self.verbosity));
        }
        text.push_str("\nRequest Headers:");
        for (name, value) in request.headers.iter() {
            let value = String::from_utf8_lossy(value);
            let value = if name == "authorization" { "<masked>".into() } else { value };
            text.push_str(&format!("\n    {name}: {value}"));
        }
        out::tell(&text);
    }

    fn show_response(&self, method: &str, target: &str, response: &Response, took: Duration) {
        if self.verbosity < 6 {
            return;
        }
        let status = format!("{} {}", response.status, reason_phrase(response.status));
        out::tell(&format!(
            "{method} {}{target} {status} in {} milliseconds",
            self.server,
            took.as_millis()
        ));
        if self.verbosity >= 8 {
            let mut text = "Response Headers:".to_owned();
            for (name, value) in response.headers.iter() {
                text.push_str(&format!("\n    {name}: {}", String::from_utf8_lossy(value)));
            }
            out::tell(&text);
        }
    }

    fn show_body(&self, bytes: &[u8]) {
        if self.verbosity >= 8 {
            out::tell(&format!("Response Body: {}", shown(bytes, self.verbosity)));
        }
    }
}

/// In upstream's words, why the server of a URL did not answer.
pub(crate) fn unreachable(error: &stdx::Error, url: &str) -> Failure {
    let host = url.split("://").nth(1).unwrap_or(url);
    let host = host.split('/').next().unwrap_or(host);
    let text = error.to_string();
    Failure::Said(match error.io_kind() {
        Some(ErrorKind::ConnectionRefused) => format!(
            "The connection to the server {host} was refused - did you specify the right host or port?"
        ),
        _ => format!("Unable to connect to the server: {}", go_words(&text, host)),
    })
}

fn shown(bytes: &[u8], verbosity: i64) -> String {
    let max = if verbosity >= 10 { bytes.len() } else { SHOWN_MAX_BYTES };
    match bytes.len() > max {
        true => format!(
            "{} [truncated {} chars]",
            String::from_utf8_lossy(&bytes[..max]),
            bytes.len() - max
        ),
        false => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn reason_phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// The machine's architecture as Go calls it.
pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn readable(path: &Path) -> Outcome {
    match rt::fs::open(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = match error.io_kind() {
                Some(ErrorKind::NotFound) => "no such file or directory",
                Some(ErrorKind::PermissionDenied) => "permission denied",
                _ => return Err(error.into()),
            };
            failed(format!("open {}: {why}", path.display()))
        }
    }
}

fn request_timeout(line: &Line<'_>) -> Outcome<Option<Duration>> {
    let text = line.text("request-timeout");
    let nanos = match text.parse::<i64>() {
        Ok(secs) => secs.checked_mul(1_000_000_000),
        Err(_) => parse_duration(text),
    };
    match nanos {
        Some(nanos) => Ok(u64::try_from(nanos).ok().filter(|n| *n > 0).map(Duration::from_nanos)),
        None => failed(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a corresponding time unit (e.g. 1s | 2m | 3h)",
        ),
    }
}

fn impersonate(
    line: &Line<'_>,
    config: &Kubeconfig,
    user: &Value,
    headers: &mut Vec<(String, String)>,
) -> Outcome {
    let or = |flag: &str, field: &str| match line.text(flag) {
        "" => user.str(field).to_owned(),
        given => given.to_owned(),
    };
    let (name, uid) = (or("as", "as"), or("as-uid", "as-uid"));
    let mut groups = line.array("as-group");
    if groups.is_empty() {
        groups =
            user.list("as-groups").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    let extra = user.at("as-user-extra").as_object();
    let has_extra = extra.is_some_and(|extra| !extra.is_empty());
    if name.is_empty() && (!groups.is_empty() || !uid.is_empty() || has_extra) {
        let own = config
            .named("contexts", config.context_name(line))
            .map_or("", |context| context.str("user"));
        return failed(format!(
            "requesting uid, groups or user-extra for {own} without impersonating a user"
        ));
    }
    for (header, value) in [("impersonate-user", name), ("impersonate-uid", uid)] {
        if !value.is_empty() {
            headers.push((header.to_owned(), value));
        }
    }
    headers.extend(groups.into_iter().map(|group| ("impersonate-group".to_owned(), group)));
    for (key, values) in extra.into_iter().flatten() {
        // What cannot stand in a header's name is escaped.
        let key = wire::percent::escape(&key.to_lowercase(), |b| {
            b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b)
        });
        let name = format!("impersonate-extra-{key}");
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        headers.extend(values.map(|value| (name.clone(), value.to_owned())));
    }
    Ok(())
}

/// The proxy that the cluster names, or the environment for all but this machine.
fn proxy(line: &Line<'_>, cluster: &Value, server: &str) -> Outcome<Option<Arc<Proxy>>> {
    let either = |name: &str| match line.env(name).as_str() {
        "" => line.env(&name.to_lowercase()),
        value => value.to_owned(),
    };
    let own = cluster.str("proxy-url");
    let (http, https, exempt) = match own {
        "" => (either("HTTP_PROXY"), either("HTTPS_PROXY"), either("NO_PROXY")),
        url => (url.to_owned(), url.to_owned(), String::new()),
    };
    let is_local = ["localhost", "127.", "[::1]"]
        .iter()
        .any(|it| server.split("://").nth(1).is_some_and(|host| host.starts_with(it)));
    if http.is_empty() && https.is_empty() || own.is_empty() && is_local {
        return Ok(None);
    }
    Ok(Some(Arc::new(Proxy::new(&http, &https, &exempt)?)))
}

/// What our own layers say of a connection, as Go says it.
fn go_words(text: &str, host: &str) -> String {
    for (ours, theirs) in [
        (
            "UnknownIssuer",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            "Expired",
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        ("No such host", "no such host"),
    ] {
        if text.contains(ours) {
            return match theirs {
                "no such host" => format!(
                    "dial tcp: lookup {}: no such host",
                    host.rsplit_once(':').map_or(host, |(name, _)| name)
                ),
                words => words.to_owned(),
            };
        }
    }
    if text.contains("imed out") || text.contains("did not connect within") {
        return format!("dial tcp {host}: i/o timeout");
    }
    text.to_owned()
}

/// A refusal as what the server says of it, or in upstream's words for its code.
fn refusal(code: u16, bytes: &[u8], method: &str) -> Value {
    if let Ok(tree) = serde_json::from_slice::<Value>(bytes)
        && tree.str("kind") == "Status"
        && tree.has("message")
    {
        return tree;
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2 << 10)]).trim().to_owned();
    let (reason, message) = match code {
        400 => ("BadRequest", "the server rejected our request for an unknown reason".to_owned()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".to_owned()),
        403 => ("Forbidden", if text.is_empty() { "the server does not allow access to the requested resource".to_owned() } else { text }),
        404 => ("NotFound", "the server could not find the requested resource".to_owned()),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".to_owned()),
        406 => ("NotAcceptable", text),
        409 if method == "POST" => ("AlreadyExists", "the server reported a conflict".to_owned()),
        409 => ("Conflict", "the server reported a conflict".to_owned()),
        410 => ("Gone", "the server reported that the resource is gone".to_owned()),
        415 => ("UnsupportedMediaType", text),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later".to_owned()),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".to_owned()),
        504 => ("Timeout", "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned()),
        500.. => ("InternalError", format!("an error on the server ({text:?}) has prevented the request from succeeding")),
        _ => ("", format!("the server responded with the status code {code} but did not return more information")),
    };
    json!({"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code})
}
