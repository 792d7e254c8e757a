//! Regular expressions in Go's syntax, matched in linear time.

use regex_lite::{Regex, RegexBuilder};

use crate::value::spend::Spent;
use crate::value::{Out, Val, fail};

/// How large a compiled expression may be, in bytes.
const PROGRAM_MAX: usize = 512 * 1024;
/// How deep groups may nest.
const NESTING_MAX: u32 = 200;

/// What Go calls what is wrong.
const FAULTS: [(&str, &str); 6] = [
    ("unclosed character class", "missing closing ]"),
    ("unclosed group", "missing closing )"),
    ("unopened group", "unexpected )"),
    ("repetition operator", "missing argument to repetition operator"),
    ("invalid range", "invalid character class range"),
    ("escape sequence", "invalid escape sequence"),
];

/// Compiles an expression.
///
/// # Errors
///
/// What is wrong with it, in Go's frame.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translated(pattern);
    let built =
        RegexBuilder::new(&translated).size_limit(PROGRAM_MAX).nest_limit(NESTING_MAX).build();
    built.map_err(|why| {
        let why = why.to_string();
        let known = FAULTS.iter().find(|(ours, _)| why.contains(ours));
        let why = known.map_or(why.as_str(), |(_, theirs)| theirs);
        format!("error parsing regexp: {why}: `{pattern}`")
    })
}

/// Go's `\Q...\E`, which the crate does not know, and `\z`, which it does.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex_lite::escape(quoted));
            rest = after;
        } else {
            let length = rest.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

fn compiled(pattern: &str, spent: &mut Spent) -> Out<Regex> {
    spent.work(pattern.len().saturating_mul(8))?;
    compile(pattern).map_or_else(fail, Ok)
}

pub(crate) fn matches(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    Ok(Val::Bool(compiled(pattern, spent)?.is_match(text)))
}

pub(crate) fn find(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    let found = match compile(pattern) {
        Ok(found) => found,
        Err(why) => return fail(format!("Illegal regex: {why}")),
    };
    spent.work(pattern.len().saturating_mul(8))?;
    Ok(Val::text(found.find(text).map_or("", |found| found.as_str())))
}

/// Up to `most` matches; all if that is negative.
pub(crate) fn find_all(
    text: &str,
    pattern: &str,
    most: i64,
    spent: &mut Spent,
) -> Out<Val<'static>> {
    let regex = match compile(pattern) {
        Ok(regex) => regex,
        Err(why) => return fail(format!("Illegal regex: {why}")),
    };
    let mut found = Vec::new();
    for part in regex.find_iter(text).take(usize::try_from(most).unwrap_or(usize::MAX)) {
        spent.bytes(part.len() + crate::value::spend::ELEMENT)?;
        found.push(Val::text(part.as_str()));
    }
    Ok(Val::list(found))
}
