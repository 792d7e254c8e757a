//! How long the certificates that clients show are good for, as Prometheus reads it: what people are warned by before they end.

use std::sync::atomic::{AtomicU64, Ordering};

use stdx::metrics::{Text, number};
use stdx::time::Wall;

/// Upstream's upper bounds, in seconds: from no time over hours and days to a year.
const BOUNDS_SECS: [u32; 14] = [
    0, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 345_600, 604_800, 2_592_000, 7_776_000,
    15_552_000, 31_104_000,
];

/// Requests by the time that was left to their certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    counts: [AtomicU64; BOUNDS_SECS.len()],
    beyond: AtomicU64,
    sum_secs: AtomicU64,
}

impl Certificates {
    /// A request came with a certificate that ends at `ends`, in seconds since 1970.
    pub(crate) fn observe(&self, ends: u64, now: Wall) {
        let now_secs = u64::try_from(now.0 / 1_000_000_000).unwrap_or(0);
        let left = ends.saturating_sub(now_secs);
        let idx = BOUNDS_SECS.partition_point(|bound| u64::from(*bound) < left);
        self.counts.get(idx).unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum_secs.fetch_add(left, Ordering::Relaxed);
    }

    pub(crate) fn write(&self, text: &mut Text) {
        let name = "apiserver_client_certificate_expiration_seconds";
        let help = "Distribution of the remaining lifetime on the certificate used to authenticate a request.";
        text.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut n = 0;
        for (bound, count) in BOUNDS_SECS.iter().zip(&self.counts) {
            n += count.load(Ordering::Relaxed);
            text.sample(&bucket, &[("le", &bound.to_string())], number(n), None);
        }
        n += self.beyond.load(Ordering::Relaxed);
        text.sample(&bucket, &[("le", "+Inf")], number(n), None);
        let sum = number(self.sum_secs.load(Ordering::Relaxed));
        text.sample(&format!("{name}_sum"), &[], sum, None);
        text.sample(&format!("{name}_count"), &[], number(n), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_falls_into_upstreams_buckets() {
        let certificates = Certificates::default();
        let now = Wall(1_000_000_000_000);
        for ends in [999, 1000, 2800, 2801, 1000 + 31_536_001] {
            certificates.observe(ends, now);
        }
        let mut text = Text::default();
        certificates.write(&mut text);
        for line in [
            "_bucket{le=\"0\"} 2",
            "_bucket{le=\"1800\"} 3",
            "_bucket{le=\"3600\"} 4",
            "_bucket{le=\"31104000\"} 4",
            "_bucket{le=\"+Inf\"} 5",
            "_count 5",
        ] {
            let line = format!("apiserver_client_certificate_expiration_seconds{line}\n");
            assert!(text.out.contains(&line), "{line} is not in {}", text.out);
        }
    }
}
