//! Regular expressions in Go's syntax, compiled, and those that an evaluation keeps.

use std::sync::Arc;

use regex_lite::RegexBuilder;

/// How large a compiled expression may be, in bytes: the least of these that is enough is taken for its size,
/// and nothing is larger than the last.
pub(crate) const PROGRAM_BYTES_MAX: [usize; 3] = [8 * 1024, 64 * 1024, 512 * 1024];
/// How much more memory an expression takes once it was searched for: two slots and two marks for each state in
/// each of two tables, on top of a state's own 32 bytes.
const SEARCH_FACTOR: usize = 3;
/// How deep groups may nest.
const NESTING_MAX: u32 = 200;
/// How many bytes of an expression that is not of the smallest kind are looked at together for a byte of the
/// text; those of the smallest are taken by the length of what was written.
const BYTES_PER_STEP: usize = 64;
/// How many compiled expressions an evaluation keeps.
const KEPT_MAX: usize = 8;

/// What Go calls what is wrong.
const FAULTS: [(&str, &str); 9] = [
    ("no closing bracket", "missing closing ]"),
    ("unclosed character class", "missing closing ]"),
    ("without closing ')'", "missing closing )"),
    ("without matching '('", "unexpected )"),
    ("repetition operator must", "missing argument to repetition operator"),
    ("min bigger than its max", "invalid repeat count"),
    ("invalid range", "invalid character class range"),
    ("ranges must start", "invalid character class range"),
    ("escape sequence", "invalid escape sequence"),
];

/// An expression that was compiled.
#[derive(Debug, Clone)]
pub struct Regex {
    /// Shared, with what its searches need: a copy would make that anew.
    pub(crate) program: Arc<regex_lite::Regex>,
    size: usize,
    width: usize,
}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in Go's frame.
    pub fn new(pattern: &str) -> Result<Regex, String> {
        let translated = translated(pattern);
        let mut wrong = String::new();
        for size in PROGRAM_BYTES_MAX {
            let mut builder = RegexBuilder::new(&translated);
            match builder.size_limit(size).nest_limit(NESTING_MAX).build() {
                Ok(program) => {
                    let wide = size > PROGRAM_BYTES_MAX[0];
                    let width = pattern.len().max(if wide { size / BYTES_PER_STEP } else { 0 });
                    let (program, size) = (Arc::new(program), size * SEARCH_FACTOR);
                    return Ok(Regex { program, size, width });
                }
                Err(why) => wrong = why.to_string(),
            }
        }
        let known = FAULTS.iter().find(|(ours, _)| wrong.contains(ours));
        let why = known.map_or(wrong.as_str(), |(_, theirs)| theirs);
        Err(format!("error parsing regexp: {why}: `{pattern}`"))
    }

    /// Whether it matches somewhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.program.is_match(text)
    }

    /// How much memory it takes, in bytes: not more than this.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many steps it takes at most to look for it in `length` bytes.
    pub fn steps(&self, length: usize) -> usize {
        self.width.saturating_mul(length)
    }
}

/// What the crate is given: Go's `\Q...\E`, which it does not know, as what it quotes; and groups that capture
/// as groups that do not, because nobody asks for what they caught, and a searcher has a place for each group in
/// each of its states.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '[', '(']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex_lite::escape(quoted));
            rest = after;
        } else if rest.starts_with('(') {
            let name = rest.strip_prefix("(?P<").or_else(|| rest.strip_prefix("(?<"));
            let named =
                name.and_then(|name| name.split_once('>')).filter(|(name, _)| is_name(name));
            rest = match named {
                Some((_, after)) => {
                    out.push_str("(?:");
                    after
                }
                None => {
                    out.push_str(if rest.starts_with("(?") { "(" } else { "(?:" });
                    &rest[1..]
                }
            };
        } else {
            let length = match rest.starts_with('[') {
                true => class(rest),
                false => rest.chars().take(2).map(char::len_utf8).sum(),
            };
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next();
    first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// How long the class is that a text begins with, or the text if it does not end.
fn class(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    at += usize::from(bytes.get(at) == Some(&b'^'));
    // A bracket right after the beginning is one of the class.
    at += usize::from(bytes.get(at) == Some(&b']'));
    while at < bytes.len() {
        match bytes[at] {
            b']' => return at + 1,
            b'\\' => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            b'[' if bytes.get(at + 1) == Some(&b':') => {
                at += text[at..].find(":]").map_or(1, |end| end + 2);
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// The expressions that an evaluation compiled last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Vec<(Box<str>, Regex)>);

impl Kept {
    pub(crate) fn get(&self, pattern: &str) -> Option<Regex> {
        self.0.iter().find(|(known, _)| **known == *pattern).map(|(_, regex)| regex.clone())
    }

    /// Takes one in, in the place of the oldest.
    pub(crate) fn keep(&mut self, pattern: &str, regex: Regex) {
        if self.0.len() >= KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push((pattern.into(), regex));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_captures() {
        for (pattern, wanted) in [
            ("(a)(?P<n>b)(?<m_1>c)(?:d)(?i)e", "(?:a)(?:b)(?:c)(?:d)(?i)e"),
            ("[(](\\()[^](][[:alpha:](]\\[(", "[(](?:\\()[^](][[:alpha:](]\\[(?:"),
            ("[a\\](](x)", "[a\\](](?:x)"),
            ("[(", "[("),
            ("(?P<", "(?P<"),
            ("(?P<1>x)", "(?P<1>x)"),
            ("\\Q(a\\E(b)", "\\(a(?:b)"),
            ("\\", "\\"),
        ] {
            assert_eq!(translated(pattern), wanted, "{pattern}");
        }
        for pattern in ["(a)|(b(c))", "(?P<x>a)[](]", &"()".repeat(3000)] {
            let regex = Regex::new(pattern).unwrap();
            assert_eq!(regex.program.captures_len(), 1, "{pattern}");
            assert!(regex.is_match("a(bc"));
        }
    }
}
