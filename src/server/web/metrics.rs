//! Counters of requests, as Prometheus reads them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::audit;

/// Upper bounds of the latency histogram, in milliseconds.
const BUCKETS_MS: [u64; 8] = [5, 25, 100, 250, 500, 1000, 5000, 60_000];

/// Label sets counted; further ones share one line.
const SERIES_MAX: usize = 2000;

/// What was done to what, with which result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) code: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<BTreeMap<Series, Counts>>);

#[derive(Debug, Default, Clone)]
struct Counts {
    n: u64,
    total_us: u64,
    buckets: [u64; 8],
}

impl Metrics {
    pub(crate) fn count(&self, series: Series, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SERIES_MAX && !all.contains_key(&series) {
            return;
        }
        let counts = all.entry(series).or_default();
        counts.n += 1;
        counts.total_us += u64::try_from(took.as_micros()).unwrap_or(0);
        for (bucket, bound_ms) in counts.buckets.iter_mut().zip(BUCKETS_MS) {
            if took <= Duration::from_millis(bound_ms) {
                *bucket += 1;
            }
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self, store: &store::Stats, audit: Option<&audit::Counts>) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        out.push_str("# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, group, version, resource, subresource and HTTP response code.\n# TYPE apiserver_request_total counter\n");
        for (series, counts) in all.iter() {
            // Writing to a String does not fail.
            let _ =
                writeln!(out, "apiserver_request_total{{{}}} {}", series.labels(true), counts.n);
        }
        out.push_str("# HELP apiserver_request_duration_seconds Response latency distribution in seconds.\n# TYPE apiserver_request_duration_seconds histogram\n");
        let mut by_resource: BTreeMap<String, Counts> = BTreeMap::new();
        for (series, counts) in all.iter() {
            let sum = by_resource.entry(series.labels(false)).or_default();
            sum.n += counts.n;
            sum.total_us += counts.total_us;
            for (a, b) in sum.buckets.iter_mut().zip(counts.buckets) {
                *a += b;
            }
        }
        const NAME: &str = "apiserver_request_duration_seconds";
        for (labels, counts) in by_resource {
            for (bound_ms, n) in BUCKETS_MS.iter().zip(counts.buckets) {
                let bound = *bound_ms as f64 / 1000.0;
                let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {n}");
            }
            let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}", counts.n);
            let _ = writeln!(out, "{NAME}_sum{{{labels}}} {}", counts.total_us as f64 / 1e6);
            let _ = writeln!(out, "{NAME}_count{{{labels}}} {}", counts.n);
        }
        for (name, help, value) in [
            ("apiserver_storage_objects", "Number of stored keys.", store.n_keys as u64),
            (
                "apiserver_storage_size_bytes",
                "Size of the datastore file in bytes.",
                store.file_bytes,
            ),
            (
                "apiserver_storage_state_bytes",
                "Bytes of keys and values in memory.",
                store.state_bytes as u64,
            ),
            ("apiserver_storage_watches", "Number of running watches.", store.n_watches as u64),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        if let Some(audit) = audit {
            audit.write(&mut out);
        }
        out
    }
}

impl Series {
    fn labels(&self, code: bool) -> String {
        let mut text = format!(
            "group=\"{}\",resource=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.subresource, self.verb, self.version
        );
        if code {
            text.push_str(&format!(",code=\"{}\"", self.code));
        }
        text
    }
}
