//! Regular expressions of schemas, in time that is bounded by the lengths of expression and text.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::Regex;

/// The longest expression.
const PATTERN_BYTES_MAX: usize = 16 * 1024;

/// How many bytes compiled expressions of all schemas may take together; one that does not fit is compiled
/// each time that it is used.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of an expression and a text, multiplied, cost as much as a step through a schema.
const MATCH_BYTES_PER_STEP: usize = 8;

/// What is kept of all schemas, in bytes.
static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A regular expression, compiled when it is first used.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Kept>>,
}

/// An expression that is counted as long as it is there.
#[derive(Debug)]
struct Kept(Regex);

impl Kept {
    /// The expression itself if there is no room to keep it.
    fn of(regex: Regex) -> Result<Kept, Regex> {
        let add = |bytes: usize| Some(bytes + regex.size()).filter(|sum| *sum <= KEPT_BYTES_MAX);
        match KEPT_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Kept(regex)),
            Err(_) => Err(regex),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(self.0.size(), Ordering::Relaxed);
    }
}

impl Pattern {
    /// `None` for the empty one, which says nothing.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        (!text.is_empty()).then(|| Pattern { text: text.into(), compiled: OnceLock::new() })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is somewhere in the text. What does not compile matches nothing. Adds what it takes to
    /// `cost`; where that goes beyond `cost_max` it is not looked for, and the answer is yes.
    pub(super) fn matches(&self, text: &str, cost: &mut u64, cost_max: u64) -> bool {
        if *cost > cost_max {
            return true;
        }
        let mut pay = |bytes: usize| {
            *cost = cost.saturating_add((bytes / MATCH_BYTES_PER_STEP) as u64);
            *cost <= cost_max
        };
        let unkept = match self.compiled.get() {
            Some(_) => None,
            None => match compile(&self.text).map(|regex| {
                pay(regex.size());
                Kept::of(regex)
            }) {
                Ok(Err(regex)) => Some(regex),
                kept => {
                    // Another thread may have been faster; then this one is dropped.
                    let _ = self.compiled.set(kept.ok().and_then(Result::ok));
                    None
                }
            },
        };
        let kept = || self.compiled.get()?.as_ref().map(|kept| &kept.0);
        let Some(regex) = unkept.as_ref().or_else(kept) else { return false };
        !pay(regex.steps(text.len())) || regex.is_match(text)
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("expression is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    Regex::new(text)
}

/// Whether an expression is one.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), String> {
    compile(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let pattern = |nth: usize| Pattern::new(&format!("^a{nth}$")).unwrap();
        let matches = |pattern: &Pattern, text: &str| pattern.matches(text, &mut 0, u64::MAX);
        let many: Vec<Pattern> = (0..2200).map(pattern).collect();
        for (nth, pattern) in many.iter().enumerate() {
            assert!(matches(pattern, &format!("a{nth}")) && !matches(pattern, "b"), "{nth}");
        }
        assert!(KEPT_BYTES.load(Ordering::Relaxed) <= KEPT_BYTES_MAX);
        assert!(many.last().unwrap().compiled.get().is_none());
        let mut cost = 0;
        assert!(many.last().unwrap().matches("b", &mut cost, 1) && cost > 1, "not within its cost");
        drop(many);
        let one = pattern(1);
        assert!(matches(&one, "a1") && one.compiled.get().is_some());
    }

    #[test]
    fn expressions_are_in_gos_words() {
        for (text, why) in [
            ("(a", "missing closing )"),
            ("a)", "unexpected )"),
            ("[", "missing closing ]"),
            ("[a", "missing closing ]"),
            ("*", "missing argument to repetition operator"),
            ("a{2,1}", "invalid repeat count"),
            ("[b-a]", "invalid character class range"),
            ("\\y", "invalid escape sequence"),
        ] {
            assert_eq!(check(text), Err(format!("error parsing regexp: {why}: `{text}`")));
        }
        let quoted = Pattern::new("^\\Qa.b\\E$").unwrap();
        assert!(quoted.matches("a.b", &mut 0, 1000) && !quoted.matches("axb", &mut 0, 1000));
    }
}
