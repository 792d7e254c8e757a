//! The named formats of expressions: what is wrong with a text, by the rules that fields of the API have.

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
    let wrong = match format {
        "dns1123Label" => return said(names::label(text)),
        "dns1123Subdomain" => return said(names::subdomain(text)),
        "dns1035Label" => return said(names::label_1035(text)),
        "qualifiedName" => return said(names::qualified(text)),
        "labelValue" => return said(names::label_value(text)),
        "uri" => return cel::url(text).err().into_iter().collect(),
        "uuid" => "does not match the UUID format",
        "byte" => "invalid base64",
        "date" => "invalid date",
        _ => "invalid datetime",
    };
    let good = super::fits_format(format, text);
    if good { Vec::new() } else { vec![wrong.into()] }
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
            ("byte", "YQ==", ""),
            ("uuid", "123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-426614174000-"),
            ("datetime", "2020-01-01t00:00:00+01:00", "2020-01-01T0:00:00,5Z"),
            ("date", "2020-02-29", "2021-02-29"),
            ("datetime", "2020-01-01T00:00:00Z", "2020-01-01"),
        ] {
            assert!(violations(format, good).is_empty(), "{format} {good}");
            assert!(!violations(format, bad).is_empty(), "{format} {bad}");
        }
    }
}
