//! Figures in the text form that Prometheus reads: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Wall;

/// The text of an answer, family after family.
#[derive(Debug, Default)]
pub struct Text {
    pub out: String,
}

impl Text {
    /// Begins the samples of one name; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value, with when it was measured if that was not now.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<Wall>) {
        self.out.push_str(name);
        for (idx, (key, text)) in labels.iter().enumerate() {
            let open = if idx == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{open}{key}=\"");
            self.escaped(text);
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = write!(self.out, "{close} {value}");
        if let Some(at) = at {
            let _ = write!(self.out, " {}", at.0 / 1_000_000);
        }
        self.out.push('\n');
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    /// A family of one value without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value, None);
    }

    /// The buckets, sum and count of a histogram with these labels.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], of: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut put = |name: &str, le: &str, n: f64| {
            self.sample(name, &[labels, &[("le", le)]].concat(), n, None);
        };
        let mut n = 0;
        for (bound, count) in of.bounds_ms.iter().zip(&*of.counts) {
            n += count.load(Ordering::Relaxed);
            put(&bucket, &(f64::from(*bound) / 1000.0).to_string(), f64::from(n));
        }
        let n = n + of.beyond.load(Ordering::Relaxed);
        put(&bucket, "+Inf", f64::from(n));
        let sum = number(of.sum_us.load(Ordering::Relaxed)) / 1e6;
        self.sample(&format!("{name}_sum"), labels, sum, None);
        self.sample(&format!("{name}_count"), labels, f64::from(n), None);
    }
}

/// A count as a sample: Prometheus has doubles only, which count to 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are doubles")]
pub fn number(n: u64) -> f64 {
    n as f64
}

/// How long something took, each time.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in milliseconds, ascending.
    bounds_ms: &'static [u32],
    counts: Box<[AtomicU32]>,
    beyond: AtomicU32,
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn new(bounds_ms: &'static [u32]) -> Histogram {
        Histogram {
            bounds_ms,
            counts: bounds_ms.iter().map(|_| AtomicU32::new(0)).collect(),
            beyond: AtomicU32::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let idx = self.bounds_ms.partition_point(|bound| u64::from(*bound) * 1000 < us);
        self.counts.get(idx).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How often.
    pub fn count(&self) -> u32 {
        let all = self.counts.iter().chain([&self.beyond]);
        all.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Counts what another one of the same bounds counted, too.
    pub fn add(&self, other: &Histogram) {
        for (own, other) in self.counts.iter().zip(&*other.counts) {
            own.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.beyond.fetch_add(other.beyond.load(Ordering::Relaxed), Ordering::Relaxed);
        self.sum_us.fetch_add(other.sum_us.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.family("a", "gauge", "help");
        text.sample("a", &[("x", "y\"z\\\n"), ("b", "")], 1.5, Some(Wall::from_secs(2)));
        text.sample("a", &[], 0.0, None);
        assert_eq!(
            text.out,
            "# HELP a help\n# TYPE a gauge\na{x=\"y\\\"z\\\\\\n\",b=\"\"} 1.5 2000\na 0\n"
        );
    }

    #[test]
    fn a_histogram_counts_what_is_below_each_bound() {
        let histogram = Histogram::new(&[5, 1000]);
        for ms in [0, 5, 6, 1000, 1001, 90_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let other = Histogram::new(&[5, 1000]);
        other.add(&histogram);
        let mut text = Text::default();
        text.histogram("t", &[("of", "x")], &other);
        assert_eq!(
            text.out,
            "t_bucket{of=\"x\",le=\"0.005\"} 2\nt_bucket{of=\"x\",le=\"1\"} 4\nt_bucket{of=\"x\",le=\"+Inf\"} 6\n\
             t_sum{of=\"x\"} 92.012\nt_count{of=\"x\"} 6\n"
        );
    }
}
