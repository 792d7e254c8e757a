//! What a bucket answers: XML of a few known shapes, read without a tree.

use std::borrow::Cow;

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub key: String,
    pub bytes: u64,
    /// When it was put there, as RFC 3339 has it.
    pub modified: String,
}

/// Of what a server says of its error, so much is told.
const SAID_MAX_CHARS: usize = 300;

/// What stands in each element of a name, in order; elements of one name do not hold each other.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let from = rest.find(&open)? + open.len();
        let to = from + rest[from..].find(&close)?;
        let inner = &rest[from..to];
        rest = &rest[to + close.len()..];
        Some(inner)
    })
}

/// The text of the first element of a name; "" without one.
pub(super) fn text(xml: &str, name: &str) -> String {
    let inner = elements(xml, name).next().unwrap_or("");
    let mut parts = inner.split('&');
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (entity, rest) = part.split_once(';').unwrap_or((part, ""));
        let number = |digits: &str, base| u32::from_str_radix(digits, base).ok();
        let code = match (entity.strip_prefix("#x"), entity.strip_prefix('#')) {
            (Some(hex), _) => number(hex, 16),
            (_, Some(digits)) => number(digits, 10),
            _ => None,
        };
        match entity {
            "amp" => out.push('&'),
            "lt" => out.push('<'),
            "gt" => out.push('>'),
            "quot" => out.push('"'),
            "apos" => out.push('\''),
            _ => out.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
        out.push_str(rest);
    }
    out
}

/// A page of a list, and where the next begins.
pub(super) fn page(xml: &str) -> (Vec<Item>, Option<String>) {
    let item = |inner: &str| Item {
        key: text(inner, "Key"),
        bytes: text(inner, "Size").parse().unwrap_or(0),
        modified: text(inner, "LastModified"),
    };
    let items = elements(xml, "Contents").map(item).collect();
    let next = (text(xml, "IsTruncated") == "true").then(|| text(xml, "NextContinuationToken"));
    (items, next)
}

/// What a server says of its error, fit for a line of a log.
pub(super) fn error(status: u16, body: &[u8]) -> String {
    let xml = String::from_utf8_lossy(body);
    let said = match (text(&xml, "Code"), text(&xml, "Message")) {
        (code, message) if code.is_empty() && message.is_empty() => Cow::Borrowed(match status {
            403 => "Access Denied.",
            404 => "not found",
            _ => "no reason given",
        }),
        (code, message) => Cow::Owned(format!("{code}: {message}")),
    };
    let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_MAX_CHARS);
    format!("the server answered {status}, {}", plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_errors() {
        let xml = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><Name>b</Name><IsTruncated>true</IsTruncated>\
            <NextContinuationToken>1&amp;2=</NextContinuationToken>\
            <Contents><Key>a&lt;&#x41;&#66;&#xd800;&quot;&apos;&gt;</Key><LastModified>2026-12-01T00:00:00.000Z</LastModified><Size>7</Size></Contents>\
            <Contents><Size>-1</Size></Contents><Contents><Key>cut";
        let (items, next) = page(xml);
        assert_eq!(next.as_deref(), Some("1&2="));
        let one = Item {
            key: "a<AB\u{fffd}\"'>".into(),
            bytes: 7,
            modified: "2026-12-01T00:00:00.000Z".into(),
        };
        let none = Item { key: String::new(), bytes: 0, modified: String::new() };
        assert_eq!(items, [one, none]);
        assert_eq!(page("<IsTruncated>false</IsTruncated>"), (vec![], None));
        assert_eq!(
            error(
                403,
                b"<Error><Code>SignatureDoesNotMatch</Code><Message>no\nway</Message></Error>"
            ),
            "the server answered 403, SignatureDoesNotMatch: no way"
        );
        assert_eq!(error(404, b""), "the server answered 404, not found");
        let long = format!("<Message>{}</Message>", "x".repeat(9000));
        assert!(error(500, long.as_bytes()).len() < 400);
        assert_eq!(text("<a>&</a>", "a"), "\u{fffd}");
    }
}
