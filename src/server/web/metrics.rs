//! What requests were made and how long they took, as Prometheus reads it, under kube-apiserver's names and labels.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::path::ResourcePath;
use client::Verb;
use stdx::OrdMap;
use stdx::metrics::{Histogram, Text, number};

/// Upper bounds of latencies. The rules that people use ask for 1, 5 and 30 seconds.
const BOUNDS_MS: &[u32] = &[
    5, 25, 50, 100, 200, 400, 600, 800, 1000, 1250, 1500, 2000, 3000, 4000, 5000, 6000, 8000,
    10_000, 15_000, 20_000, 30_000, 45_000, 60_000,
];

/// Label sets counted; further ones share nothing and are not counted.
const SERIES_MAX: usize = 2000;

/// What was done to what.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    /// `resource`, `namespace`, `cluster` or nothing.
    scope: &'static str,
    pub(crate) is_dry_run: bool,
}

impl Series {
    /// A request by its method. What its path names is counted once it is known to be served: names that nobody makes up.
    pub(super) fn of(method: &http::Method) -> Series {
        let verb = match method {
            http::Method::Get | http::Method::Head => "GET",
            http::Method::Post => "POST",
            http::Method::Put => "PUT",
            http::Method::Patch => "PATCH",
            http::Method::Delete => "DELETE",
            http::Method::Options => "OPTIONS",
            // Upstream counts what it does not know as one.
            _ => "other",
        };
        Series { verb, ..Series::default() }
    }

    /// What another server serves.
    pub(super) fn remote(&mut self, group: &str, version: &str) {
        group.clone_into(&mut self.group);
        version.clone_into(&mut self.version);
    }

    /// What is served here.
    pub(super) fn found(&mut self, path: &ResourcePath, verb: Verb, is_apply: bool) {
        self.remote(&path.group, &path.version);
        self.resource.clone_from(&path.plural);
        self.subresource.clone_from(&path.subresource);
        self.scope = match () {
            () if !path.name.is_empty() || verb == Verb::Create => "resource",
            () if !path.namespace.is_empty() => "namespace",
            () => "cluster",
        };
        self.verb = match verb {
            Verb::List => "LIST",
            Verb::Watch => "WATCH",
            Verb::DeleteCollection => "DELETECOLLECTION",
            Verb::Patch if is_apply => "APPLY",
            _ => self.verb,
        };
        let streams = ["proxy", "exec", "attach", "portforward"];
        if streams.contains(&&*path.subresource) {
            self.verb = "CONNECT";
        }
    }

    fn is_long(&self) -> bool {
        self.verb == "WATCH" || self.subresource == "log"
    }

    /// With upstream's names; `le` and `code` come after them.
    fn labels(&self) -> [(&'static str, &str); 7] {
        [
            ("component", "apiserver"),
            ("group", &self.group),
            ("resource", &self.resource),
            ("scope", self.scope),
            ("subresource", &self.subresource),
            ("verb", self.verb),
            ("version", &self.version),
        ]
    }

    fn dry_run(&self) -> &'static str {
        if self.is_dry_run { "All" } else { "" }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: Mutex<OrdMap<Series, Counts>>,
    /// Requests that are worked on: those that read, and others.
    reading: AtomicU32,
    mutating: AtomicU32,
}

#[derive(Debug)]
struct Counts {
    took: Histogram,
    codes: OrdMap<u16, u64>,
    /// Those that last as long as they last.
    n_open: Arc<AtomicU32>,
}

/// Counts something until it is dropped.
pub(crate) struct Open(Arc<AtomicU32>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is worked on.
pub(crate) struct InFlight<'a>(&'a AtomicU32);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(super) fn begin(&self, method: &http::Method) -> InFlight<'_> {
        let count = match method {
            http::Method::Get | http::Method::Head => &self.reading,
            _ => &self.mutating,
        };
        count.fetch_add(1, Ordering::Relaxed);
        InFlight(count)
    }

    /// Counts a request that was answered. One that lasts is open until what this gives is dropped.
    pub(super) fn count(&self, series: Series, code: u16, took: Duration) -> Option<Open> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SERIES_MAX && !all.contains_key(&series) {
            return None;
        }
        let is_long = series.is_long() && code < 400;
        let counts = all.entry(series).or_insert_with(|| Counts {
            took: Histogram::new(BOUNDS_MS),
            codes: OrdMap::new(),
            n_open: Arc::default(),
        });
        counts.took.observe(took);
        *counts.codes.entry(code).or_default() += 1;
        is_long.then(|| {
            counts.n_open.fetch_add(1, Ordering::Relaxed);
            Open(Arc::clone(&counts.n_open))
        })
    }

    /// Appends what requests there were.
    pub(crate) fn write(&self, text: &mut Text) {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let with = |series: &Series,
                    more: (&'static str, &str),
                    write: &mut dyn FnMut(&[(&str, &str)])| {
            let mut labels: Vec<(&str, &str)> = series.labels().to_vec();
            labels.push(more);
            write(&labels);
        };
        let total = "apiserver_request_total";
        text.family(total, "counter", "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.");
        for (series, counts) in all.iter() {
            for (code, n) in &counts.codes {
                with(series, ("dry_run", series.dry_run()), &mut |labels| {
                    let code = code.to_string();
                    let labels = [labels, &[("code", &*code)]].concat();
                    text.sample(total, &labels, number(*n), None);
                });
            }
        }
        let took = "apiserver_request_duration_seconds";
        text.family(took, "histogram", "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.");
        for (series, counts) in all.iter() {
            with(series, ("dry_run", series.dry_run()), &mut |labels| {
                text.histogram(took, labels, &counts.took);
            });
        }
        let took = "apiserver_request_sli_duration_seconds";
        text.family(took, "histogram", "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component; what webhooks take and waiting for a turn are in it, unlike upstream.");
        for (series, counts) in all.iter().filter(|(series, _)| !series.is_dry_run) {
            text.histogram(took, &series.labels(), &counts.took);
        }
        let open = "apiserver_longrunning_requests";
        text.family(open, "gauge", "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component.");
        for (series, counts) in all.iter().filter(|(series, _)| series.is_long()) {
            let n = counts.n_open.load(Ordering::Relaxed);
            text.sample(open, &series.labels(), f64::from(n), None);
        }
        let ended = "apiserver_request_terminations_total";
        text.family(
            ended,
            "counter",
            "Number of requests which apiserver terminated in self-defense.",
        );
        for (series, counts) in all.iter() {
            for code in [429, 504] {
                let Some(n) = counts.codes.get(&code) else { continue };
                with(series, ("code", &code.to_string()), &mut |labels| {
                    text.sample(ended, labels, number(*n), None);
                });
            }
        }
        let now = "apiserver_current_inflight_requests";
        text.family(now, "gauge", "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.");
        for (kind, count) in [("mutating", &self.mutating), ("readOnly", &self.reading)] {
            let n = f64::from(count.load(Ordering::Relaxed));
            text.sample(now, &[("request_kind", kind)], n, None);
        }
    }
}

/// Appends what the store holds.
pub(super) fn write_store(text: &mut Text, store: &store::Stats, kinds: &[(String, usize)]) {
    let objects = "apiserver_storage_objects";
    text.family(
        objects,
        "gauge",
        "Number of stored objects at the time of last check split by kind.",
    );
    for (resource, n) in kinds {
        text.sample(objects, &[("resource", resource)], number(*n as u64), None);
    }
    for (name, help, value) in [
        ("apiserver_storage_keys", "Number of stored keys.", store.n_keys as u64),
        (
            "apiserver_storage_size_bytes",
            "Size of the storage database file physically allocated in bytes.",
            store.file_bytes,
        ),
        (
            "apiserver_storage_state_bytes",
            "Bytes of keys and values in memory.",
            store.state_bytes as u64,
        ),
        ("apiserver_storage_watches", "Number of running watches.", store.n_watches as u64),
    ] {
        text.single(name, "gauge", help, number(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::path::Route;

    #[test]
    fn requests_are_counted_under_upstreams_labels() {
        let metrics = Metrics::default();
        for (method, target, verb, code) in [
            (http::Method::Get, "/api/v1/namespaces/a/pods", Some(Verb::List), 200),
            (http::Method::Get, "/api/v1/pods", Some(Verb::Watch), 200),
            (http::Method::Post, "/apis/apps/v1/namespaces/a/deployments", Some(Verb::Create), 201),
            (http::Method::Put, "/api/v1/namespaces/a/pods/p/status", Some(Verb::Update), 429),
            (http::Method::Get, "/api/v1/namespaces/a/pods/p/exec", Some(Verb::Get), 101),
            (http::Method::Get, "/healthz", None, 200),
            (http::Method::Other("BREW".into()), "/apis/made-up/v9/x", None, 404),
        ] {
            let route = api::path::parse(target);
            let mut series = Series::of(&method);
            if let (Route::Resource(path), Some(verb)) = (&route, verb) {
                series.found(path, verb, false);
            }
            let open = metrics.count(series, code, Duration::from_millis(30));
            // A watch lasts; the others are over.
            if verb == Some(Verb::Watch) {
                std::mem::forget(open);
            }
        }
        let mut text = Text::default();
        metrics.write(&mut text);
        let start = |group: &str,
                     resource: &str,
                     scope: &str,
                     sub: &str,
                     verb: &str,
                     version: &str| {
            format!(
                "{{component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{sub}\",verb=\"{verb}\",version=\"{version}\""
            )
        };
        for line in [
            format!(
                "apiserver_request_total{},dry_run=\"\",code=\"200\"}} 1",
                start("", "pods", "namespace", "", "LIST", "v1")
            ),
            format!(
                "apiserver_longrunning_requests{}}} 1",
                start("", "pods", "cluster", "", "WATCH", "v1")
            ),
            format!(
                "apiserver_request_total{},dry_run=\"\",code=\"101\"}} 1",
                start("", "pods", "resource", "exec", "CONNECT", "v1")
            ),
            format!(
                "apiserver_request_sli_duration_seconds_bucket{},le=\"0.05\"}} 1",
                start("apps", "deployments", "resource", "", "POST", "v1")
            ),
            format!(
                "apiserver_request_sli_duration_seconds_bucket{},le=\"0.025\"}} 0",
                start("apps", "deployments", "resource", "", "POST", "v1")
            ),
            format!(
                "apiserver_request_terminations_total{},code=\"429\"}} 1",
                start("", "pods", "resource", "status", "PUT", "v1")
            ),
            format!(
                "apiserver_request_total{},dry_run=\"\",code=\"404\"}} 1",
                start("", "", "", "", "other", "")
            ),
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0".into(),
        ] {
            assert!(text.out.lines().any(|found| found == line), "{line}\n{}", text.out);
        }
        let _begun = metrics.begin(&http::Method::Get);
        let mut text = Text::default();
        metrics.write(&mut text);
        assert!(
            text.out.contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1")
        );
    }
}
