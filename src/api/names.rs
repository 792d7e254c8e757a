//! What names, labels and keys may look like, and names made from `generateName`.
//!
//! Source: k8s.io/apimachinery/pkg/util/validation. Each check returns upstream's complaint.

use crate::hash::SAFE_ALPHABET;

pub const LABEL_MAX: usize = 63;
pub const SUBDOMAIN_MAX: usize = 253;
/// `generateName` prefixes are cut to leave room for the suffix.
const GENERATED_PREFIX_MAX: usize = 63 - SUFFIX_LEN;
const SUFFIX_LEN: usize = 5;

/// RFC 1123 label: `my-name`, `123-abc`.
///
/// # Errors
/// Upstream's complaint.
pub fn label(value: &str) -> Result<(), String> {
    check_len(value, LABEL_MAX)?;
    if is_label(value) {
        return Ok(());
    }
    if is_subdomain(value) && value.contains('.') {
        // Upstream tells label and subdomain apart only for the wording of dots.
        return Err("must not contain dots".into());
    }
    Err("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')".into())
}

/// RFC 1123 subdomain: labels joined by dots, at most 253.
///
/// # Errors
/// Upstream's complaint.
pub fn subdomain(value: &str) -> Result<(), String> {
    check_len(value, SUBDOMAIN_MAX)?;
    if is_subdomain(value) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into())
}

/// RFC 1035 label: starts with a letter (services).
///
/// # Errors
/// Upstream's complaint.
pub fn label_1035(value: &str) -> Result<(), String> {
    check_len(value, LABEL_MAX)?;
    if is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err("a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')".into())
}

/// A path segment (rbac names).
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn path_segment(value: &str) -> Result<(), String> {
    if matches!(value, "." | "..") {
        return Err(format!("may not be '{value}'"));
    }
    let complaints: Vec<&str> = [('/', "may not contain '/'"), ('%', "may not contain '%'")]
        .into_iter()
        .filter_map(|(illegal, complaint)| value.contains(illegal).then_some(complaint))
        .collect();
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n")),
    }
}

/// A subdomain of which the first label is `*`.
///
/// # Errors
/// Upstream's complaint.
pub fn wildcard_subdomain(value: &str) -> Result<(), String> {
    check_len(value, SUBDOMAIN_MAX)?;
    if value.strip_prefix("*.").is_some_and(is_subdomain) {
        return Ok(());
    }
    Err("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into())
}

/// A label or annotation key: `[prefix/]name`.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn qualified(value: &str) -> Result<(), String> {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                return Err("prefix part must be non-empty".into());
            }
            subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
        _ => {
            return Err(format!(
                "a qualified name {FORM} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    let mut complaints = Vec::new();
    if name.is_empty() {
        complaints.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        complaints.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_word(name) {
        complaints.push(format!("name part {FORM}"));
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n")),
    }
}

/// A label's value: empty or a word of at most 63.
///
/// # Errors
/// Upstream's complaint.
pub fn label_value(value: &str) -> Result<(), String> {
    check_len(value, LABEL_MAX)?;
    if value.is_empty() || is_word(value) {
        return Ok(());
    }
    Err("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".into())
}

/// An IP address as upstream reads it: the numbers of an IPv4 address may have leading zeros, which
/// do not make them octal.
pub fn ip(text: &str) -> Option<std::net::IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    const DIGITS_MAX: usize = 16;
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        *octet = (digits && part.len() <= DIGITS_MAX).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then(|| octets.into())
}

/// A name from `generateName` and five random bytes.
pub fn generate(prefix: &str, random: [u8; 5]) -> String {
    let mut cut = prefix.len().min(GENERATED_PREFIX_MAX);
    while !prefix.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = prefix[..cut].to_owned();
    name.extend(
        random.iter().map(|b| char::from(SAFE_ALPHABET[usize::from(*b) % SAFE_ALPHABET.len()])),
    );
    name
}

pub fn is_label(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    value.len() <= LABEL_MAX
        && !value.is_empty()
        && value.bytes().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

pub fn is_subdomain(value: &str) -> bool {
    // Upstream bounds the whole, not each label.
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    value.len() <= SUBDOMAIN_MAX && value.split('.').all(part)
}

/// Letters, digits, '-', '_' and '.', alphanumeric at both ends.
fn is_word(value: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn check_len(value: &str, max: usize) -> Result<(), String> {
    match value.len() > max {
        true => Err(format!("must be no more than {max} bytes")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for good in ["a", "my-name", "123-abc"] {
            assert_eq!(label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert!(label(&"a".repeat(64)).is_err());
        assert!(
            subdomain("a.b-c.d").is_ok() && subdomain("a..b").is_err() && subdomain(".a").is_err()
        );
        assert!(label_1035("a1").is_ok() && label_1035("1a").is_err());
        assert!(path_segment("system:node").is_ok() && path_segment("a/b").is_err());
        assert!(qualified("app").is_ok() && qualified("k8s.io/app_X.y").is_ok());
        assert!(
            qualified("/x").is_err() && qualified("a/b/c").is_err() && qualified("x/").is_err()
        );
        assert!(label_value("").is_ok() && label_value("a b").is_err());
    }

    #[test]
    fn addresses_may_have_leading_zeros() {
        for (text, want) in
            [("10.43.0.10", "10.43.0.10"), ("010.043.000.0010", "10.43.0.10"), ("::1", "::1")]
        {
            assert_eq!(ip(text).map(|ip| ip.to_string()), Some(want.to_owned()), "{text}");
        }
        for bad in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.", "1.2.3.+4", "1.2.3.0x4"] {
            assert_eq!(ip(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_keys_earn_every_complaint() {
        let empty = qualified("").unwrap_err();
        assert!(
            empty.starts_with("name part must be non-empty\nname part must consist"),
            "{empty}"
        );
    }

    #[test]
    fn generated_names_fit() {
        assert_eq!(generate("web-", [0, 1, 2, 26, 27]), "web-bcd9b");
        assert_eq!(generate(&"a".repeat(70), [0; 5]).len(), 63);
    }
}
