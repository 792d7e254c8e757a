//! Whether a word names an image, by the grammar of references.

use regex_lite::Regex;

/// A longer word names none; upstream says 255 for the name, and a tag or digest may follow.
const REFERENCE_MAX_BYTES: usize = 1024;

/// Whether this may stand where an image is named.
pub(crate) fn is_reference(text: &str) -> bool {
    let part = "[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*";
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    let whole = format!("^(?:{domain}/)?{part}(?:/{part})*(?::{tag})?(?:@{digest})?$");
    text.len() <= REFERENCE_MAX_BYTES && Regex::new(&whole).is_ok_and(|it| it.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in
            ["busybox", "Reg.example:5000/a/b__c:V1", "[::1]:5000/a", "a/b-c.d:latest", &digest]
        {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "Busybox", "a b", "a:", "a@sha256:0", "-a", "a//b", "http://a/b"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
