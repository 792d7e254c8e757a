//! Regular expressions of schemas, in time that is bounded by the lengths of expression and text.

use std::sync::OnceLock;

use regex_lite::{Regex, RegexBuilder};

/// The longest expression.
const PATTERN_BYTES_MAX: usize = 16 * 1024;

/// What an expression may take of memory once it is compiled.
const COMPILED_BYTES_MAX: usize = 512 * 1024;

/// How deep groups may nest.
const NEST_MAX: u32 = 50;

/// A regular expression, compiled when it is first used.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// `None` for the empty one, which says nothing.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        (!text.is_empty()).then(|| Pattern { text: text.into(), compiled: OnceLock::new() })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is somewhere in the text. What does not compile matches nothing.
    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("expression is longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(COMPILED_BYTES_MAX).nest_limit(NEST_MAX);
    builder.build().map_err(|error| error.to_string())
}

/// Whether an expression is one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    compile(text).map(drop)
}
