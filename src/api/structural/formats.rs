//! The formats that strings may be asked to have: upstream's list, and what it takes for each.
//!
//! Source: k8s.io/kube-openapi/pkg/validation/strfmt, github.com/asaskevich/govalidator.

use crate::names;

/// A format that is checked; others say nothing.
#[derive(Debug, Clone)]
pub struct Format {
    /// As the schema spells it.
    name: Box<str>,
    check: fn(&str) -> bool,
}

/// By the name without its dashes.
const FORMATS: &[(&str, fn(&str) -> bool)] = &[
    ("bsonobjectid", |text| text.len() == 24 && hex(text)),
    ("uri", |text| cel::url(text).is_ok()),
    ("email", email),
    ("hostname", hostname),
    ("ipv4", |text| text.contains('.') && names::ip(text).is_some()),
    ("ipv6", |text| text.contains(':') && text.parse::<std::net::IpAddr>().is_ok()),
    ("cidr", |text| crate::address::parse_cidr(text).is_some()),
    ("mac", mac),
    ("uuid", |text| uuid(text, None, false)),
    ("uuid3", |text| uuid(text, Some('3'), false)),
    ("uuid4", |text| uuid(text, Some('4'), true)),
    ("uuid5", |text| uuid(text, Some('5'), true)),
    ("isbn", |text| isbn10(text) || isbn13(text)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("creditcard", credit_card),
    ("ssn", ssn),
    ("hexcolor", |text| {
        let digits = text.strip_prefix('#').unwrap_or(text);
        matches!(digits.len(), 3 | 6) && hex(digits)
    }),
    ("rgbcolor", rgb_color),
    ("byte", base64),
    ("password", |_| true),
    ("date", date),
    ("duration", duration),
    ("datetime", date_time),
];

impl Format {
    /// `None` for one that upstream does not check either.
    pub(super) fn of(name: &str) -> Option<Format> {
        let plain = name.replace('-', "");
        let (_, check) = FORMATS.iter().find(|(known, _)| *known == plain)?;
        Some(Format { name: name.into(), check: *check })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        (self.check)(text)
    }
}

/// Whether a text has the format of this name; one that is not checked has none.
pub fn fits(name: &str, text: &str) -> bool {
    Format::of(name).is_some_and(|format| format.fits(text))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An address, also with a name before it (`Name <a@b>`).
fn email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.rsplit_once('<') {
        Some((_, address)) => match address.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let word = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let dotted =
        |text: &str| text.split('.').all(|part| !part.is_empty() && part.chars().all(word));
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']') && domain.len() > 2;
    (quoted || dotted(local)) && (literal || dotted(domain))
}

fn hostname(text: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-' || !c.is_ascii();
        !part.is_empty()
            && part.len() <= 63
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let mut parts = text.split('.').rev();
    let last = parts.next().unwrap_or("");
    let is_top = |part: &str| {
        part.chars().count() >= 2 && part.chars().all(|c| c.is_alphabetic() || !c.is_ascii())
    };
    let has_more = text.contains('.');
    text.len() <= 255 && is_part(last) && (!has_more || is_top(last)) && parts.all(is_part)
}

/// `net.ParseMAC`: 6, 8 or 20 bytes between colons, dashes or, two at a time, dots.
fn mac(text: &str) -> bool {
    let pieces = |separator: char, n_digits: usize, n_bytes: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.iter().all(|part| part.len() == n_digits && hex(part))
            && n_bytes.contains(&(parts.len() * n_digits / 2))
    };
    const BYTES: &[usize] = &[6, 8, 20];
    pieces(':', 2, BYTES) || pieces('-', 2, BYTES) || pieces('.', 4, BYTES)
}

/// Groups of 8, 4, 4, 4 and 12 digits, with or without dashes.
fn uuid(text: &str, version: Option<char>, variant: bool) -> bool {
    let mut plain = String::new();
    for (idx, c) in text.char_indices() {
        if c != '-' {
            plain.push(c);
        } else if !matches!(plain.len(), 8 | 12 | 16 | 20) || text[..idx].ends_with('-') {
            return false;
        }
    }
    plain.len() == 32
        && hex(&plain)
        && !text.ends_with('-')
        && version.is_none_or(|version| plain[12..].starts_with(version))
        && (!variant || plain[16..].starts_with(['8', '9', 'a', 'b', 'A', 'B']))
}

fn without_separators(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-' | '\t' | '\n' | '\r')).collect()
}

fn isbn10(text: &str) -> bool {
    let text = without_separators(text);
    let Some((head, last)) = text.split_at_checked(9).filter(|_| text.len() == 10) else {
        return false;
    };
    let last = match last {
        "X" => Some(10),
        last => last.parse().ok(),
    };
    let weighed = (1u32..).zip(head.bytes()).map(|(weight, byte)| weight * u32::from(byte & 15));
    digits(head)
        && last.is_some_and(|last: u32| (weighed.sum::<u32>() + 10 * last).is_multiple_of(11))
}

fn isbn13(text: &str) -> bool {
    let text = without_separators(text);
    let factor = |idx: usize| if idx.is_multiple_of(2) { 1 } else { 3 };
    let sum = |n: usize| -> u32 {
        text.bytes().take(n).enumerate().map(|(idx, byte)| factor(idx) * u32::from(byte & 15)).sum()
    };
    text.len() == 13
        && digits(&text)
        && (text.starts_with("978") || text.starts_with("979"))
        && sum(13) % 10 == 0
}

/// Luhn's check over the digits, and the prefixes of the usual issuers.
fn credit_card(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    let begins = |from: u32, to: u32, n: usize| {
        plain
            .get(..n)
            .and_then(|head| head.parse().ok())
            .is_some_and(|it| (from..=to).contains(&it))
    };
    let is_issued = match plain.len() {
        13 => begins(4, 4, 1),
        14 => begins(300, 305, 3) || begins(36, 36, 2) || begins(38, 38, 2),
        15 => {
            begins(34, 34, 2) || begins(37, 37, 2) || begins(2131, 2131, 4) || begins(1800, 1800, 4)
        }
        16 => {
            begins(4, 4, 1)
                || begins(51, 55, 2)
                || begins(6011, 6011, 4)
                || begins(65, 65, 2)
                || begins(35, 35, 2)
        }
        _ => false,
    };
    let digit = |(idx, byte): (usize, u8)| {
        let digit = u32::from(byte & 15) * if idx % 2 == 1 { 2 } else { 1 };
        digit / 10 + digit % 10
    };
    is_issued && plain.bytes().rev().enumerate().map(digit).sum::<u32>() % 10 == 0
}

fn ssn(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let at = |idx: usize, separators: &[char]| {
        text.get(idx..).is_some_and(|rest| rest.starts_with(separators))
    };
    let second = if at(3, &['-', ' ']) { 4 } else { 3 };
    let third = if at(second + 2, &['-', ' ']) { second + 3 } else { second + 2 };
    plain.len() == 9 && digits(&plain) && text.len() == third + 4
}

fn rgb_color(text: &str) -> bool {
    let inside = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let part = |part: &str| {
        let part = part.trim();
        digits(part) && part.len() <= 3 && part.parse::<u32>().is_ok_and(|it| it <= 255)
    };
    inside.is_some_and(|inside| inside.split(',').count() == 3 && inside.split(',').all(part))
}

fn base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(is_digit)
}

fn date(text: &str) -> bool {
    text.len() == 10 && crate::time::parse(&format!("{text}T00:00:00Z")).is_some()
}

fn date_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((day, time)) = text.split_once('t') else { return false };
    let (clock, rest) = time.split_at_checked(8).unwrap_or(("", ""));
    let part = |from: usize, most: &str| {
        clock.get(from..from + 2).is_some_and(|part| digits(part) && part <= most)
    };
    let fraction_end = match rest.char_indices().nth(1) {
        Some((start, c)) if c.is_ascii_digit() && !rest.starts_with(['z', '+', '-']) => {
            let run = rest[start..].bytes().take_while(u8::is_ascii_digit).count();
            start + run
        }
        _ => 0,
    };
    let zone = &rest[fraction_end..];
    let is_offset = zone.len() == 6
        && zone.starts_with(['+', '-'])
        && zone.get(1..3).is_some_and(digits)
        && zone.get(3..4) == Some(":")
        && zone.get(4..6).is_some_and(digits);
    date(day)
        && clock.get(2..3) == Some(":")
        && clock.get(5..6) == Some(":")
        && part(0, "23")
        && part(3, "59")
        && part(6, "59")
        && (zone == "z" || is_offset)
}

/// Go's form, or numbers with units in words somewhere in the text (`1 hour and 2 minutes`).
fn duration(text: &str) -> bool {
    const UNITS: &[&str] = &[
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr",
        "hour", "d", "day", "w", "wk", "week",
    ];
    const STEMS: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if stdx::duration::parse(text).is_some() {
        return true;
    }
    let mut rest = text;
    let mut found = false;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let number_end = rest[start..].find(|c: char| !c.is_ascii_digit()).map(|n| start + n);
        let Some(number_end) = number_end else { break };
        if rest[start..number_end].parse::<i64>().is_err() {
            return false;
        }
        let unit = rest[number_end..].trim_start();
        let unit_end = unit.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ');
        let (unit, after) = unit.split_at(unit_end.unwrap_or(unit.len()));
        let unit = unit.to_lowercase();
        found |= UNITS.contains(&unit.as_str()) || STEMS.iter().any(|stem| unit.starts_with(stem));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_upstreams_take() {
        for (format, good, bad) in [
            ("bsonobjectid", &["507f1f77bcf86cd799439011"][..], &["507f1f77", ""][..]),
            ("uri", &["http://a/b?c", "/a/b", "urn:x:y"], &["", "a b", "foo", "http://a/%zz"]),
            ("email", &["a@b", "A B <a.b@c.d>"], &["a", "a@", "@b", "a..b@c", "<a@b"]),
            ("hostname", &["a", "example.com", "a-b.de"], &["", "-a", "a.1", "a_b", "a..com"]),
            ("ipv4", &["1.2.3.4", "01.2.3.4"], &["::1", "1.2.3", "1.2.3.256"]),
            ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "::g"]),
            ("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33", "a/8"]),
            (
                "mac",
                &["00:11:22:33:44:55", "0011.2233.4455"],
                &["00:11:22:33:44", "g0:11:22:33:44:55"],
            ),
            (
                "uuid",
                &["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b8109dad11d180b400c04fd430c8"],
                &["6ba7b810", "6ba7b810--9dad11d180b400c04fd430c8"],
            ),
            (
                "uuid3",
                &["a3bb189e-8bf9-3888-9912-ace4e6543002"],
                &["a3bb189e-8bf9-4888-9912-ace4e6543002"],
            ),
            (
                "uuid4",
                &["f47ac10b-58cc-4372-a567-0e02b2c3d479"],
                &["f47ac10b-58cc-4372-c567-0e02b2c3d479"],
            ),
            ("isbn", &["0321751043", "978-0321751041"], &["0321751044", "978-0321751042"]),
            (
                "credit-card",
                &["4111 1111 1111 1111", "378282246310005"],
                &["4111111111111112", "1234"],
            ),
            ("ssn", &["111-11-1111", "111111111", "111 11 1111"], &["1111-1-1111", "11111111"]),
            ("hexcolor", &["#fff", "ABCDEF"], &["#ff", "#ggg"]),
            ("rgbcolor", &["rgb(1,2,255)"], &["rgb(1,2)", "rgb(1,2,256)"]),
            ("byte", &["YQ==", "YWJj"], &["YQ=", "Y!==", ""]),
            ("password", &["", "x"], &[]),
            ("date", &["2024-02-29"], &["2023-02-29", "2024-2-1", "2024-02-29T"]),
            (
                "date-time",
                &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
                &["2014-12-15", "2014-12-15T24:30:20Z", "2014-12-15T19:30:20"],
            ),
            ("duration", &["1h30m", "22 ns", "3 weeks"], &["", "x", "5", "1 parsec"]),
        ] {
            let format = Format::of(format).unwrap();
            for text in good {
                assert!(format.fits(text), "{text}");
            }
            for text in bad {
                assert!(!format.fits(text), "{text}");
            }
        }
        assert!(Format::of("int32").is_none() && Format::of("quantity").is_none());
    }
}
