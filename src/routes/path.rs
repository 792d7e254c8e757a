//! The path of a request as rules and endpoints see it: one spelling for what means the same.

use std::borrow::Cow;

/// A request's target, cleaned.
#[derive(Debug, PartialEq, Eq)]
pub struct Clean<'a> {
    /// Begins with `/`, has no empty, `.` or `..` segment, and escapes only where they mean something.
    pub path: Cow<'a, str>,
    /// With the question mark; "" if there is none.
    pub query: &'a str,
}

/// Cleans the path of a target: what need not be escaped is not, reserved bytes stay as they came, and
/// `//`, `/./` and `/../` are gone, so that no rule is passed by another spelling. `None` if it is no path.
pub fn clean(target: &str) -> Option<Clean<'_>> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    if !path.starts_with('/') {
        return None;
    }
    let path = match path.contains('%') {
        true => Cow::Owned(decode(path)?),
        false => Cow::Borrowed(path),
    };
    let path = match path.contains("//") || path.contains("/.") {
        true => Cow::Owned(without_dots(&path)),
        false => path,
    };
    Some(Clean { path, query })
}

/// Decodes escapes of unreserved bytes, and writes the others in capitals.
fn decode(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let hex =
            rest.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(hex, 16).ok()?;
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Some(out)
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_open || kept.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_what_means_the_same() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a/b/", "/a/b/", ""),
            ("/a?b=//%41", "/a", "?b=//%41"),
            ("//a///b", "/a/b", ""),
            ("/a/./b/../c", "/a/c", ""),
            ("/../../etc", "/etc", ""),
            ("/a/..", "/", ""),
            ("/a/.", "/a/", ""),
            ("/%61dmin/%7Eme", "/admin/~me", ""),
            ("/a/%2e%2E/b", "/b", ""),
            ("/a%2fb%3f", "/a%2Fb%3F", ""),
            ("/a%252e", "/a%252e", ""),
            ("/.well-known/x", "/.well-known/x", ""),
            ("/a..b", "/a..b", ""),
            ("/%c3%a4", "/%C3%A4", ""),
        ] {
            let clean = clean(target).unwrap();
            assert_eq!((&*clean.path, clean.query), (path, query), "{target}");
        }
        for bad in ["", "a", "*", "/%", "/%4", "/%zz", "/%+1", "?x"] {
            assert_eq!(clean(bad), None, "{bad}");
        }
    }
}
