//! Go's duration texts (`1h2m0.5s`), for `metav1.Duration`.

/// Nanoseconds of a text as Go's `time.ParseDuration` reads it.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_len].parse().ok()?;
        rest = &rest[number_len..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit_len] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit_len..];
    }
    if total > i64::MAX as f64 {
        return None;
    }
    let nanos = total as i64;
    Some(if negative { -nanos } else { nanos })
}

/// The text Go prints: `1h0m0s`, `1m30s`, `1.5s`, `10ms`, `0s`.
pub(super) fn format(nanos: i64) -> String {
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
    }
}
