//! What is counted of requests, and when they end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Version};
use stdx::time::Mono;
use stdx::{OrdMap, metrics::Histogram};

/// As Traefik has them: 0.1, 0.3, 1.2 and 5 seconds.
static BOUNDS_MS: &[u32] = &[100, 300, 1200, 5000];

/// Kinds of requests that are counted apart, of one place: the codes of answers are the endpoints' to choose.
const KINDS_MAX: usize = 128;

/// What the whole program counts.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Of entry points, by their names.
    pub(crate) entries: Vec<(String, Arc<Traffic>)>,
    pub(crate) reloads: AtomicU64,
    pub(crate) reloaded_secs: AtomicU64,
}

impl Figures {
    pub(crate) fn new<'a>(entries: impl Iterator<Item = &'a str>) -> Figures {
        let entries = entries.map(|name| (name.to_owned(), Arc::default()));
        Figures { entries: entries.collect(), ..Figures::default() }
    }

    pub(crate) fn entry(&self, name: &str) -> Arc<Traffic> {
        let found = self.entries.iter().find(|(own, _)| own == name);
        found.map(|(_, traffic)| Arc::clone(traffic)).unwrap_or_default()
    }

    pub(crate) fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Release);
        let now = u64::try_from(rt::now().wall.secs()).unwrap_or(0);
        self.reloaded_secs.store(now, Ordering::Relaxed);
    }
}

/// Requests of one place, by what tells them apart.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<OrdMap<Kind, Arc<Counts>>>);

/// The code of the answer, the method, the protocol, and whether it came over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) code: u16,
    pub(crate) method: &'static str,
    pub(crate) protocol: &'static str,
}

#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) took: Histogram,
    pub(crate) requests_bytes: AtomicU64,
    pub(crate) responses_bytes: AtomicU64,
    pub(crate) tls: AtomicU64,
}

impl Traffic {
    fn count(&self, mut kind: Kind, took: Duration, sent_bytes: u64, got_bytes: u64, tls: bool) {
        let counts = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= KINDS_MAX && !all.contains_key(&kind) {
                kind.code = 0;
            }
            let new = || {
                Arc::new(Counts {
                    took: Histogram::new(BOUNDS_MS),
                    requests_bytes: AtomicU64::new(0),
                    responses_bytes: AtomicU64::new(0),
                    tls: AtomicU64::new(0),
                })
            };
            Arc::clone(all.entry(kind).or_insert_with(new))
        };
        counts.took.observe(took);
        counts.requests_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
        counts.responses_bytes.fetch_add(got_bytes, Ordering::Relaxed);
        counts.tls.fetch_add(u64::from(tls), Ordering::Relaxed);
    }

    pub(crate) fn all(&self) -> Vec<(Kind, Arc<Counts>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(kind, counts)| (*kind, Arc::clone(counts))).collect()
    }
}

/// Methods that everybody knows; others are one.
pub(crate) fn method_name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Connect => "CONNECT",
        Method::Other(name) if **name == *"TRACE" => "TRACE",
        Method::Other(_) => "EXTENSION_METHOD",
    }
}

pub(crate) fn protocol_name(version: Version, upgrades: bool) -> &'static str {
    match version {
        _ if upgrades => "websocket",
        Version::Http10 | Version::Http11 => "http",
        Version::Http2 => "h2",
    }
}

/// One request while it lasts; it is counted when the last of it is gone.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) kind: Kind,
    pub(crate) tls: bool,
    pub(crate) started: Mono,
    pub(crate) entry: Arc<Traffic>,
    pub(crate) service: Option<Arc<Traffic>>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) line: Option<Box<crate::access_log::Line>>,
}

impl Drop for Tally {
    fn drop(&mut self) {
        let took = rt::now().mono.since(self.started);
        for traffic in std::iter::once(&self.entry).chain(&self.service) {
            traffic.count(self.kind, took, self.request_bytes, self.response_bytes, self.tls);
        }
        if let Some(line) = &self.line {
            line.write(self.kind.code, self.response_bytes, took);
        }
    }
}
