//! RFC 3339 times as the API writes them: `Time` in whole seconds, `MicroTime` with six digits, UTC.

use stdx::time::Wall;

/// `2024-01-01T00:00:00Z`, as metav1.Time prints it.
pub fn format(time: Wall) -> String {
    let (year, month, day, secs) = civil(time.secs());
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

/// `2024-01-01T00:00:00.000000Z`, as metav1.MicroTime prints it.
pub fn format_micro(time: Wall) -> String {
    let mut text = format(time);
    text.pop();
    text.push_str(&format!(".{:06}Z", time.subsec_nanos() / 1000));
    text
}

/// Reads RFC 3339 with any offset and up to nine fraction digits (RFC 3339, section 5.6).
pub fn parse(text: &str) -> Option<Wall> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(idx, want)| !bytes[*idx].eq_ignore_ascii_case(want)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut idx = 19;
    let mut nanos = 0i64;
    if bytes[idx] == b'.' {
        let start = idx + 1;
        idx = start;
        while idx < bytes.len() && bytes[idx].is_ascii_digit() {
            idx += 1;
        }
        if idx == start || idx - start > 9 {
            return None;
        }
        nanos = number(start, idx)?;
        for _ in idx - start..9 {
            nanos *= 10;
        }
    }
    let offset_secs = match bytes.get(idx)? {
        b'Z' | b'z' if idx + 1 == bytes.len() => 0,
        sign @ (b'+' | b'-') if idx + 6 == bytes.len() && bytes[idx + 3] == b':' => {
            let (hours, minutes) = (number(idx + 1, idx + 3)?, number(idx + 4, idx + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let secs = hours * 3600 + minutes * 60;
            if *sign == b'+' { secs } else { -secs }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    let secs = days * 86_400 + hour * 3600 + minute * 60 + second - offset_secs;
    Some(Wall(secs.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// Year, month, day and second of the day of a Unix time (Howard Hinnant, "chrono-compatible
/// low-level date algorithms", civil_from_days).
pub fn civil(unix_secs: i64) -> (i64, i64, i64, i64) {
    let (days, secs) = (unix_secs.div_euclid(86_400), unix_secs.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day, secs)
}

/// Days since the Unix epoch of a date (ibid., days_from_civil).
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_rejects() {
        for secs in [0, 951_782_400, 1_704_067_200, 4_102_444_799, -1] {
            let time = Wall::from_secs(secs);
            assert_eq!(parse(&format(time)), Some(time));
        }
        assert_eq!(format(Wall::from_secs(1_709_164_800)), "2024-02-29T00:00:00Z");
        assert_eq!(parse("2024-01-01T01:00:00.5+01:00"), Some(Wall(1_704_067_200_500_000_000)));
        assert_eq!(format_micro(Wall(1_704_067_200_123_456_789)), "2024-01-01T00:00:00.123456Z");
        for bad in [
            "",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
