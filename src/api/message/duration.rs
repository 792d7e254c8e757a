//! Go's duration texts (`1h2m0.5s`), for `metav1.Duration`.

/// Nanoseconds of a text as Go's `time.ParseDuration` reads it.
pub use cel::duration as parse;

/// The text Go prints: `1h0m0s`, `1m30s`, `1.5s`, `10ms`, `0s`.
pub fn format(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let mut text =
            format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
    };
    let text = match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => fraction(magnitude, 1_000) + "µs",
        1_000_000..1_000_000_000 => fraction(magnitude, 1_000_000) + "ms",
        _ => {
            let (hours, minutes) = (magnitude / 3_600_000_000_000, magnitude / 60_000_000_000 % 60);
            let secs = fraction(magnitude % 60_000_000_000, 1_000_000_000) + "s";
            match (hours, minutes) {
                (0, 0) => secs,
                (0, minutes) => format!("{minutes}m{secs}"),
                (hours, minutes) => format!("{hours}h{minutes}m{secs}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (90_000_000_000, "1m30s"),
            (10_000_000, "10ms"),
            (-5, "-5ns"),
        ] {
            assert_eq!(format(nanos), text);
            assert_eq!(parse(text), Some(nanos));
        }
        assert_eq!(parse(""), None);
        assert_eq!(parse("5"), None);
        // Exact, and no more than fits.
        assert_eq!(parse("9007199254740993ns"), Some(9_007_199_254_740_993));
        assert_eq!(parse("9223372036854775808ns"), None);
        assert_eq!(parse("1.2.3s"), None);
    }
}
