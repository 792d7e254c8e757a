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
/// Upstream's complaints, one a line.
pub fn label(value: &str) -> Result<(), String> {
    let form = match is_subdomain_form(value) {
        // Upstream tells label and subdomain apart only for the wording of dots.
        true => "must not contain dots",
        false => {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        }
    };
    bounded(value, LABEL_MAX, is_label_form(value), form)
}

/// RFC 1123 subdomain: labels joined by dots, at most 253.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn subdomain(value: &str) -> Result<(), String> {
    const FORM: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    bounded(value, SUBDOMAIN_MAX, is_subdomain_form(value), FORM)
}

/// RFC 1035 label: starts with a letter (services).
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn label_1035(value: &str) -> Result<(), String> {
    const FORM: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let fits = is_label_form(value) && value.starts_with(|c: char| c.is_ascii_lowercase());
    bounded(value, LABEL_MAX, fits, FORM)
}

/// A path segment (rbac names).
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn path_segment(value: &str) -> Result<(), String> {
    match value {
        "." | ".." => Err(format!("may not be '{value}'")),
        value => path_part(value),
    }
}

/// Why upstream's own clients, which admission looks things up with, do not even ask for an object of this name.
pub fn unaskable(name: &str) -> Option<String> {
    let why = path_segment(name).err()?;
    Some(format!("invalid resource name {name:?}: [{}]", why.replace('\n', " ")))
}

/// What starts such a name.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn path_part(value: &str) -> Result<(), String> {
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
/// Upstream's complaints, one a line.
pub fn wildcard_subdomain(value: &str) -> Result<(), String> {
    const FORM: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let fits = value.strip_prefix("*.").is_some_and(is_subdomain_form);
    bounded(value, SUBDOMAIN_MAX, fits, FORM)
}

/// A label or annotation key: `[prefix/]name`.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn qualified(value: &str) -> Result<(), String> {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut complaints = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => name,
        (Some(""), Some(name), None) => {
            complaints.push("prefix part must be non-empty".to_owned());
            name
        }
        (Some(prefix), Some(name), None) => {
            let why = subdomain(prefix).err().unwrap_or_default();
            complaints.extend(why.lines().map(|why| format!("prefix part {why}")));
            name
        }
        _ => {
            return Err(format!(
                "a qualified name {FORM} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
    };
    if name.is_empty() {
        complaints.push("name part must be non-empty".to_owned());
    }
    let why = bounded(name, LABEL_MAX, is_word(name), FORM).err().unwrap_or_default();
    complaints.extend(why.lines().map(|why| format!("name part {why}")));
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n")),
    }
}

/// A label's value: empty or a word of at most 63.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn label_value(value: &str) -> Result<(), String> {
    const FORM: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    bounded(value, LABEL_MAX, value.is_empty() || is_word(value), FORM)
}

/// The name of a port (RFC 6335).
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn port(value: &str) -> Result<(), String> {
    const PORT_MAX: usize = 15;
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let too_long = bounded(value, PORT_MAX, true, "").err();
    let checks = [
        (
            value.is_empty() || !value.bytes().all(inner),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!value.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (value.contains("--"), "must not contain consecutive hyphens"),
        (value.starts_with('-') || value.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    let wrong = checks.into_iter().filter_map(|(wrong, why)| wrong.then_some(why));
    let complaints: Vec<&str> = too_long.as_deref().into_iter().chain(wrong).collect();
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n")),
    }
}

/// A key of a ConfigMap or Secret.
///
/// # Errors
/// Upstream's complaints, one a line.
pub fn config_key(value: &str) -> Result<(), String> {
    const FORM: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fits = !value.is_empty() && value.bytes().all(legal);
    let mut complaints =
        bounded(value, SUBDOMAIN_MAX, fits, FORM).err().into_iter().collect::<Vec<_>>();
    match value {
        "." | ".." => complaints.push(format!("must not be '{value}'")),
        value if value.starts_with("..") => complaints.push("must not start with '..'".into()),
        _ => {}
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(complaints.join("\n")),
    }
}

/// The name of an environment variable: since 1.30 any printable ASCII but `=`.
///
/// # Errors
/// Upstream's complaint.
pub fn variable(value: &str) -> Result<(), String> {
    match value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        true => Ok(()),
        false => Err("a valid environment variable name must consist only of printable ASCII characters other than '='".into()),
    }
}

/// The name of an environment variable, as it was before 1.30.
///
/// # Errors
/// Upstream's complaints, a line each.
pub fn strict_variable(value: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let mut complaints: Vec<&str> = Vec::new();
    if value.is_empty() || value.as_bytes()[0].is_ascii_digit() || !value.bytes().all(fits) {
        complaints.push("a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')");
    }
    match value {
        "." => complaints.push("must not be '.'"),
        ".." => complaints.push("must not be '..'"),
        value if value.starts_with("..") => complaints.push("must not start with '..'"),
        _ => {}
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

/// A name of an HTTP header.
///
/// # Errors
/// Upstream's complaint.
pub fn http_header(value: &str) -> Result<(), String> {
    let fits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match fits {
        true => Ok(()),
        false => Err("a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into()),
    }
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

fn is_label_form(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !value.is_empty()
        && value.bytes().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

pub fn is_subdomain(value: &str) -> bool {
    value.len() <= SUBDOMAIN_MAX && is_subdomain_form(value)
}

fn is_subdomain_form(value: &str) -> bool {
    // Upstream bounds the whole, not each label.
    value.split('.').all(is_label_form)
}

/// Letters, digits, '-', '_' and '.', alphanumeric at both ends.
fn is_word(value: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// What upstream says of a value that is too long, has not its form, or both. Its bound is of bytes.
fn bounded(value: &str, max: usize, fits: bool, form: &str) -> Result<(), String> {
    let too_long = format!("must be no more than {max} characters");
    match (value.len() > max, fits) {
        (false, true) => Ok(()),
        (true, true) => Err(too_long),
        (false, false) => Err(form.into()),
        (true, false) => Err(format!("{too_long}\n{form}")),
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
        let too_long = "must be no more than 63 characters";
        for (why, beginnings) in [
            (label(&"a".repeat(64)), &[too_long][..]),
            (label(&"A".repeat(64)), &[too_long, "a lowercase RFC 1123 label"]),
            (label(&"a.".repeat(40)), &[too_long, "a lowercase RFC 1123 label"]),
            (label("a.b"), &["must not contain dots"]),
            (label_value(&"/".repeat(64)), &[too_long, "a valid label must"]),
            (
                qualified("/"),
                &[
                    "prefix part must be non-empty",
                    "name part must be non-empty",
                    "name part must consist",
                ],
            ),
            (
                qualified("A/é"),
                &["prefix part a lowercase RFC 1123 subdomain", "name part must consist"],
            ),
            (port(""), &["must contain only", "must contain at least"]),
            (port("TCP"), &["must contain only", "must contain at least"]),
            (
                port("--80-123456789012"),
                &[
                    "must be no more than 15 characters",
                    "must contain at least",
                    "must not contain",
                    "must not begin",
                ],
            ),
            (config_key(".."), &["must not be '..'"]),
            (config_key("..a b"), &["a valid config key", "must not start"]),
            (config_key(&"a".repeat(254)), &["must be no more than 253 characters"]),
            (variable("a=b"), &["a valid environment variable name"]),
            (http_header("a_b"), &["a valid HTTP header"]),
        ] {
            let why = why.unwrap_err();
            assert_eq!(why.lines().count(), beginnings.len(), "{why}");
            assert!(
                why.lines().zip(beginnings).all(|(line, want)| line.starts_with(want)),
                "{why}"
            );
        }
    }

    #[test]
    fn generated_names_fit() {
        assert_eq!(generate("web-", [0, 1, 2, 26, 27]), "web-bcd9b");
        assert_eq!(generate(&"a".repeat(70), [0; 5]).len(), 63);
    }
}
