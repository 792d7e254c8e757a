//! Values, times and durations as Go prints them.

use api::time::Stamp;
use api::{Lens, Value};
use stdx::time::Wall;

/// Trees are printed no deeper than this; what a server's JSON may hold is not much deeper.
const DEPTH_MAX: usize = 128;

/// Go's `%v`: texts as they are, lists and maps in brackets.
pub(crate) fn plain(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value, 0);
    out
}

fn put(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&float(&number.to_string())),
        Value::String(text) => out.push_str(text),
        _ if depth == DEPTH_MAX => out.push('…'),
        Value::Array(items) => {
            out.push('[');
            for (idx, item) in items.iter().enumerate() {
                out.push_str(if idx > 0 { " " } else { "" });
                put(out, item, depth + 1);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (idx, (key, item)) in map.iter().enumerate() {
                out.push_str(if idx > 0 { " " } else { "" });
                out.push_str(key);
                out.push(':');
                put(out, item, depth + 1);
            }
            out.push(']');
        }
    }
}

/// A number as JSON has it in Go's form: no `.0` behind whole ones, exponents of two digits.
fn float(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, ""));
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    if exponent.is_empty() {
        return digits.to_owned();
    }
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent.trim_start_matches('+')),
    };
    [
        digits,
        "e",
        sign.encode_utf8(&mut [0; 4]),
        if exponent.len() < 2 { "0" } else { "" },
        exponent,
    ]
    .concat()
}

/// The texts of a list, or its other elements in Go's form.
pub(crate) fn join(list: &[Value], between: &str) -> String {
    list.iter().map(plain).collect::<Vec<_>>().join(between)
}

/// A map of texts as `a=b,c=d`, or `<none>`.
pub(crate) fn labels(map: &Value) -> String {
    let pairs: Vec<String> = map.pairs("").map(|(key, value)| [key, "=", value].concat()).collect();
    or(pairs.join(","), "<none>")
}

/// The text, or the other one if it is empty.
pub(crate) fn or(text: String, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text }
}

/// `duration.HumanDuration` of nanoseconds: two or three digits that count.
pub(crate) fn human(nanos: i64) -> String {
    let secs = nanos / 1_000_000_000;
    let two = |a: i64, unit_a: char, b: i64, unit_b: char| {
        if b == 0 { format!("{a}{unit_a}") } else { format!("{a}{unit_a}{b}{unit_b}") }
    };
    let (minutes, hours) = (secs / 60, secs / 3600);
    match secs {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => two(secs, 's', 0, 's'),
        120..600 => two(minutes, 'm', secs % 60, 's'),
        600..10_800 => two(minutes, 'm', 0, 'm'),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => two(hours, 'h', 0, 'h'),
        172_800..691_200 => two(hours / 24, 'd', hours % 24, 'h'),
        691_200..63_072_000 => two(hours / 24, 'd', 0, 'd'),
        63_072_000..252_288_000 => two(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        _ => two(hours / 24 / 365, 'y', 0, 'y'),
    }
}

/// How long ago a time of the API was, `<unknown>` if there is none.
pub(crate) fn age(now: Wall, time: &Value) -> String {
    let then = time.as_str().and_then(api::time::parse);
    then.map_or_else(|| "<unknown>".to_owned(), |then| human(now.0.saturating_sub(then.0)))
}

/// How far local time is ahead of UTC at a time (both in seconds), and what it is called then.
pub type Zone<'a> = &'a dyn Fn(i64) -> (i64, String);

/// A time of the API in local time, RFC 1123 with the zone as a number; without one Go's zero time.
pub(crate) fn rfc1123(time: &Value, zone: Zone<'_>) -> String {
    let Some((stamp, offset)) = local(time, zone) else {
        return "Mon, 01 Jan 0001 00:00:00 +0000".to_owned();
    };
    let (year, month, day, secs) = api::time::civil(stamp);
    let name = |names: &'static str, idx: i64| {
        let at = usize::try_from(idx).unwrap_or(0) * 3;
        names.get(at..at + 3).unwrap_or("")
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} {}",
        name("ThuFriSatSunMonTueWed", stamp.div_euclid(86_400).rem_euclid(7)),
        name("JanFebMarAprMayJunJulAugSepOctNovDec", month - 1),
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        offset_text(offset)
    )
}

/// A time of the API in local time as Go's `Time.String` has it.
pub(crate) fn go_time(time: &Value, zone: Zone<'_>) -> String {
    let Some((stamp, offset)) = local(time, zone) else {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    };
    let text = Stamp::new(stamp, 0).format().replace('T', " ");
    format!("{} {} {}", text.trim_end_matches('Z'), offset_text(offset), zone(stamp - offset).1)
}

/// Seconds of local time, and how far it is ahead.
fn local(time: &Value, zone: Zone<'_>) -> Option<(i64, i64)> {
    let stamp = Stamp::parse(time.as_str()?).filter(|stamp| !stamp.is_zero())?;
    let (offset, _) = zone(stamp.secs());
    Some((stamp.secs().saturating_add(offset), offset))
}

fn offset_text(offset: i64) -> String {
    let minutes = offset.abs() / 60;
    format!("{}{:02}{:02}", if offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    #[test]
    fn values_are_printed_as_go_does() {
        for (value, want) in [
            (json!(null), "<nil>"),
            (json!(1.0), "1"),
            (json!(1.5), "1.5"),
            (json!(1e21), "1e+21"),
            (json!(["a", 1, true]), "[a 1 true]"),
            (json!({"b": [], "a": {"x": null}}), "map[a:map[x:<nil>] b:[]]"),
        ] {
            assert_eq!(plain(&value), want);
        }
    }

    #[test]
    fn durations_are_upstreams() {
        for (secs, want) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human(secs * 1_000_000_000), want, "{secs}");
        }
    }

    #[test]
    fn times_are_local() {
        let zone =
            |secs: i64| if secs < 1_000_000_000 { (0, "UTC".into()) } else { (-5400, "X".into()) };
        for (time, want, long) in [
            (
                json!("1970-01-01T00:00:00Z"),
                "Thu, 01 Jan 1970 00:00:00 +0000",
                "1970-01-01 00:00:00 +0000 UTC",
            ),
            (
                json!("2024-02-29T01:00:00Z"),
                "Wed, 28 Feb 2024 23:30:00 -0130",
                "2024-02-28 23:30:00 -0130 X",
            ),
            (json!(null), "Mon, 01 Jan 0001 00:00:00 +0000", "0001-01-01 00:00:00 +0000 UTC"),
        ] {
            assert_eq!(rfc1123(&time, &zone), want);
            assert_eq!(go_time(&time, &zone), long);
        }
    }
}
