//! What controllers have done, and what was asked of servers elsewhere, as Prometheus reads it, under client-go's names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use stdx::OrdMap;
use stdx::metrics::{Histogram, Text, number};

/// Upper bounds of how long keys wait and reconciles take, in milliseconds.
const BOUNDS_MS: &[u32] = &[1, 10, 100, 1000, 10_000];

/// What one controller has done.
pub(crate) struct Figures {
    pub(crate) added: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) waited: Histogram,
    pub(crate) worked: Histogram,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            added: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            waited: Histogram::new(BOUNDS_MS),
            worked: Histogram::new(BOUNDS_MS),
        }
    }
}

impl Figures {
    fn add(&self, other: &Figures) {
        for (own, other) in [(&self.added, &other.added), (&self.retried, &other.retried)] {
            own.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.waited.add(&other.waited);
        self.worked.add(&other.worked);
    }
}

/// Appends what controllers have done, each with its name and how many keys wait. Those of one name are one.
pub(crate) fn write<'a>(text: &mut Text, each: impl Iterator<Item = (&'a str, u64, &'a Figures)>) {
    let mut all: OrdMap<&str, (u64, Figures)> = OrdMap::new();
    for (name, depth, figures) in each {
        let of_name = all.entry(name).or_default();
        of_name.0 += depth;
        of_name.1.add(figures);
    }
    let mut numbers = |name: &str, kind: &str, help: &str, of: fn(u64, &Figures) -> u64| {
        text.family(name, kind, help);
        for (controller, (depth, figures)) in &all {
            let value = number(of(*depth, figures));
            text.sample(name, &[("name", controller)], value, None);
        }
    };
    numbers("workqueue_depth", "gauge", "Current depth of workqueue", |depth, _| depth);
    numbers(
        "workqueue_adds_total",
        "counter",
        "Total number of adds handled by workqueue",
        |_, figures| figures.added.load(Ordering::Relaxed),
    );
    numbers(
        "workqueue_retries_total",
        "counter",
        "Total number of retries handled by workqueue",
        |_, figures| figures.retried.load(Ordering::Relaxed),
    );
    let mut times = |name: &str, help: &str, of: fn(&Figures) -> &Histogram| {
        text.family(name, "histogram", help);
        for (controller, (_, figures)) in &all {
            text.histogram(name, &[("name", controller)], of(figures));
        }
    };
    times(
        "workqueue_queue_duration_seconds",
        "How long in seconds an item stays in workqueue before being requested.",
        |figures| &figures.waited,
    );
    times(
        "workqueue_work_duration_seconds",
        "How long in seconds processing an item from workqueue takes.",
        |figures| &figures.worked,
    );
}

/// Answers of servers elsewhere by method, code (`<error>` where there was none) and host, in client-go's words.
static REQUESTS: Mutex<Vec<(&'static str, u16, String, u64)>> = Mutex::new(Vec::new());

/// Series that are counted: codes are the server's to make up.
const REQUESTS_MAX: usize = 200;

/// Counts one request. `code` is 0 where there was no answer.
pub(crate) fn count_request(method: &http::Method, code: u16, base: &str) {
    let method = match method {
        http::Method::Get => "GET",
        http::Method::Post => "POST",
        http::Method::Put => "PUT",
        http::Method::Patch => "PATCH",
        http::Method::Delete => "DELETE",
        _ => "other",
    };
    let host = base.rsplit("://").next().unwrap_or(base).split('/').next().unwrap_or("");
    let mut requests = REQUESTS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_full = requests.len() >= REQUESTS_MAX;
    let found = requests.iter_mut().find(|it| it.0 == method && it.1 == code && it.2 == host);
    match found {
        Some((.., n)) => *n += 1,
        None if is_full => {}
        None => requests.push((method, code, host.to_owned(), 1)),
    }
}

/// Appends what was asked over HTTP. What a server's own components ask in its process does not come this way.
pub fn write_requests(text: &mut Text) {
    let name = "rest_client_requests_total";
    text.family(
        name,
        "counter",
        "Number of HTTP requests, partitioned by status code, method, and host.",
    );
    for (method, code, host, n) in REQUESTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let code = if *code == 0 { "<error>".to_owned() } else { code.to_string() };
        let labels = [("code", code.as_str()), ("host", host), ("method", method)];
        text.sample(name, &labels, number(*n), None);
    }
}
