//! What expressions may ask of the API's own formats.

use cel::{Decision, Host, Query};

use crate::names;

/// Knows formats and no authorizer: for rules, which may not ask it.
#[derive(Debug)]
pub(crate) struct Formats;

impl Host for Formats {
    fn violations(&self, format: &str, text: &str) -> Vec<String> {
        violations(format, text)
    }

    fn authorize(&self, _: &Query) -> Option<Decision> {
        Some(Decision::default())
    }
}

/// What is wrong with `text` by the named format, in upstream's words; nothing if it is well.
pub fn violations(format: &str, text: &str) -> Vec<String> {
    // A prefix may end in a dash: something will follow.
    let (format, padded) = match format.strip_suffix("Prefix") {
        Some(format) => (format, text.strip_suffix('-').map(|text| format!("{text}a"))),
        None => (format, None),
    };
    let text = padded.as_deref().unwrap_or(text);
    let said = |found: Result<(), String>| -> Vec<String> {
        let why = found.err().unwrap_or_default();
        why.lines().map(str::to_owned).collect()
    };
    let (good, wrong) = match format {
        "dns1123Label" => return said(names::label(text)),
        "dns1123Subdomain" => return said(names::subdomain(text)),
        "dns1035Label" => return said(names::label_1035(text)),
        "qualifiedName" => return said(names::qualified(text)),
        "labelValue" => return said(names::label_value(text)),
        "uri" => return cel::url(text).err().into_iter().collect(),
        "uuid" => (is_uuid(text), "does not match the UUID format"),
        "byte" => (wire::base64::decode(text).is_some(), "invalid base64"),
        "date" => (cel::is_date(text), "invalid date"),
        _ => (cel::is_date_time(text), "invalid datetime"),
    };
    if good { Vec::new() } else { vec![wrong.into()] }
}

/// A UUID, with or without its dashes.
fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for (nth, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        rest = if nth > 0 { rest.strip_prefix('-').unwrap_or(rest) } else { rest };
        let Some((part, after)) = rest.split_at_checked(length) else { return false };
        if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::violations;

    #[test]
    fn formats_say_what_is_wrong() {
        for (format, good, bad) in [
            ("dns1123Label", "a-b", "A"),
            ("dns1123LabelPrefix", "a-", "-a"),
            ("dns1123Subdomain", "a.b", "a..b"),
            ("dns1035Label", "a1", "1a"),
            ("qualifiedName", "a.b/c", "a/b/c"),
            ("labelValue", "", "a b"),
            ("uri", "https://a/b", "../a"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("byte", "aGk=", "a?"),
            ("date", "2020-02-29", "2021-02-29"),
            ("datetime", "2020-01-01T00:00:00Z", "2020-01-01"),
        ] {
            assert!(violations(format, good).is_empty(), "{format} {good}");
            assert!(!violations(format, bad).is_empty(), "{format} {bad}");
        }
    }
}
