//! Tables, times and sizes in crictl's words.

use std::time::Duration;

use serde_json::Value;
use stdx::time::{Wall, civil, days_from_civil};
use stdx::{Error, Result};

use super::out;

/// Rows as Go's tabwriter lays them out for crictl: cells of twenty columns at least, three between them.
pub(crate) fn table(rows: &[Vec<String>]) {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1).map(|row| &row[column]);
        cells.map(|cell| cell.chars().count() + 3).max().unwrap_or(0).max(20)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths).take(row.len().saturating_sub(1)) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push_str(row.last().map_or("", String::as_str));
        text.push('\n');
    }
    out::print(&text);
}

/// A tree in the form that was asked for.
pub(crate) fn tree(tree: &Value, form: &str) -> Result<()> {
    match form {
        "json" => {
            let text = serde_json::to_string_pretty(tree).unwrap_or_default();
            out::print(&(text + "\n"));
        }
        "yaml" => out::print(&(wire::yaml_text::text(tree) + "\n")),
        other => return Err(Error::new(format!("unsupported output format {other:?}"))),
    }
    Ok(())
}

/// The beginning of an id, as tables have it.
pub(crate) fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(13).collect()
}

/// What `int64` is in JSON.
pub(crate) fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// How long ago, roughly.
pub(crate) fn ago(at: i64) -> String {
    format!("{} ago", age(rt::now().wall.since(Wall(at))))
}

fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `12.3MB`: so many digits, by thousands.
pub(crate) fn size(bytes: i64, digits: usize) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    // No size of ours is beyond what a double counts well enough to show.
    #[allow(clippy::cast_precision_loss)]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= 1000.0 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(number, digits), UNITS[unit])
}

/// As `%.3g` has it for numbers from 0 to 1000.
fn significant(number: f64, digits: usize) -> String {
    let whole = match number {
        n if n >= 100.0 => 3,
        n if n >= 10.0 => 2,
        _ => 1,
    };
    let text = format!("{number:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Nanoseconds as a time with a date, in UTC; zero is a time that never was.
pub(crate) fn time(at: i64) -> String {
    if at == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    let (seconds, nanos) = (Wall(at).secs(), Wall(at).subsec_nanos());
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    );
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text + "Z"
}

/// The nanoseconds of a time as RFC 3339 has it, or without a zone.
pub(crate) fn parsed(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    if text.as_bytes().get(10) != Some(&b'T') || !text.is_ascii() {
        return None;
    }
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let of_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(zone_at);
    let digits = fraction.strip_prefix('.').unwrap_or("");
    let nanos: i64 = format!("{digits:0<9}").get(..9)?.parse().ok()?;
    let offset = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), time)) => {
            let (hours, minutes) = time.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if sign == "-" { -seconds } else { seconds }
        }
        _ => 0,
    };
    (days * 86_400 + of_day - offset).checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_gos() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (60 * 59, "59 minutes"),
            (3600, "About an hour"),
            (3600 * 47, "47 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 100, "3 months"),
            (86_400 * 1000, "2 years"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), words);
        }
        for (bytes, words) in [
            (0, "0B"),
            (999, "999B"),
            (2_048_000, "2.05MB"),
            (12_345_678, "12.3MB"),
            (1_000_000, "1MB"),
        ] {
            assert_eq!(size(bytes, 3), words);
        }
        assert_eq!(size(1_234_567, 4), "1.235MB");
        assert_eq!(time(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(time(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        for text in [
            "2023-11-14T22:13:20.12Z",
            "2023-11-14T23:13:20.120000000+01:00",
            "2023-11-14T22:13:20.12",
        ] {
            assert_eq!(parsed(text), Some(1_700_000_000_120_000_000), "{text}");
        }
        for bad in ["", "42m", "2023-11-14", "2023-11-14T", "2023-11-14Txx:13:20Z"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789abc");
    }
}
