//! A request on its way through its middlewares.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Request;
use routes::Retry;
use stdx::time::Mono;

/// A request on its way through its middlewares.
#[derive(Debug)]
pub(crate) struct Passage {
    /// As the client asked for it.
    pub(crate) host: String,
    pub(crate) secure: bool,
    pub(crate) peer: Option<IpAddr>,
    /// Whether what the peer says of others is believed.
    pub(crate) trusted: bool,
    /// Fields that the endpoint gets in place of its client's; an empty one is taken away.
    pub(crate) fields: Vec<(String, String)>,
    /// Where the request came from, by its own word.
    pub(crate) origin: Option<String>,
    /// Held until the answer is sent.
    pub(crate) flights: Vec<Flight>,
    /// Numbers of services that get a copy.
    pub(crate) mirrors: Vec<usize>,
    /// Cookies that the client gets.
    pub(crate) cookies: Vec<String>,
    pub(crate) retry: Option<Retry>,
    /// When the first circuit breaker was passed.
    pub(crate) begun: Option<Mono>,
    /// The client takes compressed answers.
    pub(crate) gzip: bool,
    /// The body was larger than it may be.
    pub(crate) too_large: Arc<AtomicBool>,
}

impl Passage {
    pub(crate) fn new(request: &Request, host: &str, trusted: bool) -> Passage {
        let forwarded = request.headers.get("x-forwarded-proto").filter(|_| trusted);
        Passage {
            host: host.to_owned(),
            secure: forwarded.map_or(request.peer.tls, |proto| matches!(proto, "https" | "wss")),
            peer: request.peer.address.map(|address| address.ip().to_canonical()),
            trusted,
            fields: Vec::new(),
            origin: request.headers.get("origin").map(str::to_owned),
            flights: Vec::new(),
            mirrors: Vec::new(),
            cookies: Vec::new(),
            retry: None,
            begun: None,
            gzip: false,
            too_large: Arc::default(),
        }
    }

    /// The address at this depth of `X-Forwarded-For`, from the right; 0 is the peer's own.
    pub(crate) fn source(&self, request: &Request, depth: usize) -> Option<IpAddr> {
        if depth == 0 {
            return self.peer;
        }
        let lines = request.headers.get_all("x-forwarded-for").filter(|_| self.trusted);
        let all: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        all.get(all.len().checked_sub(depth)?)?.trim().parse().ok()
    }
}

/// A place among requests under way.
#[derive(Debug)]
pub(crate) struct Flight(Arc<AtomicUsize>);

impl Flight {
    /// One more; and how many there are with it.
    pub(crate) fn begin(all: &Arc<AtomicUsize>) -> (Flight, usize) {
        let n_before = all.fetch_add(1, Ordering::AcqRel);
        (Flight(Arc::clone(all)), n_before.saturating_add(1))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The query of a target with its question mark.
pub(crate) fn query_of(target: &str) -> &str {
    target.find('?').map_or("", |at| &target[at..])
}

/// Another target: of what may stand in one, beginning with a slash.
pub(crate) fn set_target(request: &mut Request, target: String) {
    let target = if target.starts_with('/') { target } else { format!("/{target}") };
    let plain = |c: char| c.is_ascii_graphic();
    request.target = target.chars().filter(|c| plain(*c)).collect();
    // What was joined may hold empty segments and dots again.
    let clean = routes::clean(&request.target);
    if let Some(routes::Clean { path: Cow::Owned(path), query }) = clean {
        request.target = path + query;
    }
}
