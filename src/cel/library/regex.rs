//! Regular expressions in Go's syntax, matched in linear time.

use regex_lite::RegexBuilder;

use crate::value::spend::{ELEMENT, Spent};
use crate::value::{Out, Val, fail};

/// How large a compiled expression may be, in bytes: the least of these that is enough is taken for its size,
/// and nothing is larger than the last.
const PROGRAM_BYTES_MAX: [usize; 3] = [8 * 1024, 64 * 1024, 512 * 1024];
/// How deep groups may nest.
const NESTING_MAX: u32 = 200;
/// How many bytes of an expression that is not of the smallest kind are looked at together for a byte of the
/// text; those of the smallest are taken by the length of what was written.
const BYTES_PER_STEP: usize = 64;
/// How many steps of matching are made in the time in which two values are compared.
const STEPS_PER_COMPARISON: usize = 8;
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
    program: regex_lite::Regex,
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

/// The expressions that an evaluation compiled last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Vec<(Box<str>, Regex)>);

/// An expression, and what it costs to look for it once in a text is paid.
fn compiled(text: &str, pattern: &str, spent: &mut Spent) -> Out<Result<Regex, String>> {
    let kept = spent.regexes.0.iter().find(|(known, _)| **known == *pattern);
    let regex = match kept.map(|(_, regex)| regex.clone()) {
        Some(regex) => regex,
        None => {
            spent.work(pattern.len())?;
            let made = Regex::new(pattern);
            let [.., largest] = PROGRAM_BYTES_MAX;
            spent.work(made.as_ref().map_or(largest, Regex::size))?;
            let Ok(regex) = made else { return Ok(made) };
            let kept = &mut spent.regexes.0;
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push((pattern.into(), regex.clone()));
            regex
        }
    };
    spent.work(regex.steps(text.len()) / STEPS_PER_COMPARISON)?;
    Ok(Ok(regex))
}

pub(crate) fn matches(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    match compiled(text, pattern, spent)? {
        Ok(regex) => Ok(Val::Bool(regex.is_match(text))),
        Err(why) => fail(why),
    }
}

pub(crate) fn find(text: &str, pattern: &str, spent: &mut Spent) -> Out<Val<'static>> {
    match compiled(text, pattern, spent)? {
        Ok(regex) => Ok(Val::text(regex.program.find(text).map_or("", |found| found.as_str()))),
        Err(why) => fail(format!("Illegal regex: {why}")),
    }
}

/// Up to `most` matches; all if that is negative.
pub(crate) fn find_all(
    text: &str,
    pattern: &str,
    most: i64,
    spent: &mut Spent,
) -> Out<Val<'static>> {
    let regex = match compiled(text, pattern, spent)? {
        Ok(regex) => regex,
        Err(why) => return fail(format!("Illegal regex: {why}")),
    };
    let mut found = Vec::new();
    for part in regex.program.find_iter(text).take(usize::try_from(most).unwrap_or(usize::MAX)) {
        // Each may look through all of the rest.
        spent.work(regex.steps(text.len() - part.end()) / STEPS_PER_COMPARISON)?;
        spent.bytes(part.len() + ELEMENT)?;
        found.push(Val::text(part.as_str()));
    }
    Ok(Val::list(found))
}
