//! Durations as Go reads and writes them: `1h2m0.5s`.

/// Nanoseconds of a text as Go's `time.ParseDuration` reads it.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(whole_len);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_len = after.find(|next: char| next == '.' || next.is_ascii_digit());
        let (unit, after) = after.split_at(unit_len.unwrap_or(after.len()));
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut part = whole.checked_mul(scale).filter(|part| *part <= 1 << 63)?;
        if !fraction.is_empty() {
            // Go's own arithmetic: digits that fit, times the scale, in doubles.
            let (mut value, mut factor) = (0u64, 1.0f64);
            for digit in fraction.bytes().take(18) {
                value = value * 10 + u64::from(digit - b'0');
                factor *= 10.0;
            }
            part = part.checked_add((value as f64 * (scale as f64 / factor)) as u64)?;
        }
        total = total.checked_add(part).filter(|total| *total <= 1 << 63)?;
        rest = after;
    }
    match (negative, total) {
        (true, total) => Some((total as i64).wrapping_neg()),
        (false, total) => i64::try_from(total).ok(),
    }
}

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
