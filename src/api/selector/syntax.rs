//! The query-string syntax of label and field selectors.
//!
//! Source: k8s.io/apimachinery/pkg/labels and pkg/fields.

use super::{Requirement, Selector};
use crate::names;

/// Requirements one selector may hold.
const REQUIREMENTS_MAX: usize = 1000;

/// Parses a label selector.
pub(super) fn parse(text: &str) -> Result<Selector, String> {
    let mut parser = Parser { rest: text };
    let mut requirements = Vec::new();
    parser.skip_space();
    while !parser.rest.is_empty() {
        if parser.rest.starts_with([',', '(', ')', '=', '<', '>']) || parser.rest.starts_with("!=")
        {
            let found = parser.token();
            return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
        }
        requirements.push(
            parser.requirement().map_err(|why| format!("unable to parse requirement: {why}"))?,
        );
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(format!("a selector may hold at most {REQUIREMENTS_MAX} requirements"));
        }
        parser.skip_space();
        match parser.rest.strip_prefix(',') {
            Some(rest) => parser.rest = rest,
            None if parser.rest.is_empty() => break,
            None => {
                let found = parser.word_or_token();
                return Err(format!("found '{found}', expected: ',' or 'end of string'"));
            }
        }
        parser.skip_space();
        if parser.rest.is_empty() || parser.rest.starts_with(',') {
            return Err(format!("found '{}', expected: identifier after ','", parser.token()));
        }
    }
    Ok(Selector { requirements, nothing: false })
}

/// One term of a field selector: path, value, and whether it must be equal (or must not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub path: String,
    pub value: String,
    pub equal: bool,
}

/// Parses a field selector: `a.b=c,d==e,f!=g`, with `\\`-escaped commas, equals signs and backslashes.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_fields(text: &str) -> Result<Vec<FieldTerm>, String> {
    let mut terms = Vec::new();
    for term in split_unescaped(text) {
        if term.is_empty() {
            continue;
        }
        let operator = ["!=", "==", "="]
            .into_iter()
            .filter_map(|op| Some((term.find(op)?, op)))
            .min_by_key(|(at, op)| (*at, std::cmp::Reverse(op.len())));
        let Some((at, op)) = operator else {
            return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
        };
        let value = unescape(&term[at + op.len()..])?;
        terms.push(FieldTerm { path: term[..at].to_owned(), value, equal: op != "!=" });
        if terms.len() > REQUIREMENTS_MAX {
            return Err(format!("a selector may hold at most {REQUIREMENTS_MAX} terms"));
        }
    }
    Ok(terms)
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (idx, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..idx]);
                start = idx + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                _ => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence in value: {value}"
                    ));
                }
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {c}"));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// The next run of characters that are no punctuation.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find([' ', '\t', '\r', '\n', ',', '(', ')', '=', '!', '<', '>'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.take("!");
        self.skip_space();
        let key = self.word();
        if key.is_empty() {
            let found = self.token();
            return Err(match negated {
                true => format!("found '{found}', expected: identifier"),
                false => format!("found '{found}', expected: !, identifier, or ','"),
            });
        }
        names::qualified(key).map_err(|why| {
            format!("<nil>: Invalid value: \"{key}\": {}", why.replace('\n', "; "))
        })?;
        let key = key.to_owned();
        if negated {
            return Ok(Requirement::NotExists(key));
        }
        self.skip_space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Requirement::Exists(key));
        }
        if self.take("==") || self.take("=") {
            let value = self.value(&key)?;
            return Ok(Requirement::In(key, vec![value]));
        }
        if self.take("!=") {
            let value = self.value(&key)?;
            return Ok(Requirement::NotIn(key, vec![value]));
        }
        if self.take(">") {
            return Ok(Requirement::Greater(key, self.number()?));
        }
        if self.take("<") {
            return Ok(Requirement::Less(key, self.number()?));
        }
        match self.word_or_token() {
            "in" => {
                let values = self.values(&key)?;
                Ok(Requirement::In(key, values))
            }
            "notin" => {
                let values = self.values(&key)?;
                Ok(Requirement::NotIn(key, values))
            }
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// The value after an operator: a word, or nothing before the next requirement.
    fn value(&mut self, key: &str) -> Result<String, String> {
        self.skip_space();
        let value = self.word();
        if value.is_empty() && !self.rest.is_empty() && !self.rest.starts_with(',') {
            return Err(format!("found '{}', expected: identifier", self.token()));
        }
        checked(key, 0, value)
    }

    /// The next word, or the punctuation that is there instead.
    fn word_or_token(&mut self) -> &'a str {
        match self.word() {
            "" => self.token(),
            word => word,
        }
    }

    /// The run of punctuation that comes next, "" at the end.
    fn token(&mut self) -> &'a str {
        let operators = ["==", "!=", "=", "!", "<", ">", "(", ")", ","];
        operators.into_iter().find(|token| self.rest.starts_with(token)).unwrap_or("")
    }

    fn number(&mut self) -> Result<i64, String> {
        self.skip_space();
        let value = self.word();
        value.parse().map_err(|_| {
            format!("values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer")
        })
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        self.skip_space();
        if !self.take("(") {
            return Err(format!("found '{}' expected: '('", self.word_or_token()));
        }
        let mut values = Vec::new();
        loop {
            self.skip_space();
            if values.is_empty() && self.rest.is_empty() {
                return Err("found '', expected: ',', ')' or identifier".into());
            }
            let value = self.word();
            values.push(checked(key, values.len(), value)?);
            self.skip_space();
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(format!("found '{}', expected: ',' or ')'", self.word_or_token()));
            }
        }
    }
}

fn checked(key: &str, idx: usize, value: &str) -> Result<String, String> {
    names::label_value(value).map_err(|why| {
        format!("values[{idx}][{key}]: Invalid value: \"{value}\": {}", why.replace('\n', "; "))
    })?;
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_match() {
        let labels = [("a", "b"), ("n", "5"), ("k8s.io/x", "")];
        for (text, want) in [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a = b", true),
            ("a!=b", false),
            ("a in (b,c),!d,e!=f", true),
            ("a notin (b)", false),
            ("a", true),
            ("!a", false),
            ("n>4", true),
            ("n<5", false),
            ("k8s.io/x=", true),
            ("x notin (y)", true),
            ("a in (c)", false),
            ("a=b,n=6", false),
            (" a , n ", true),
        ] {
            let selector = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(selector.matches(labels), want, "{text}");
        }
        for (bad, why) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            (",", "found ',', expected: !, identifier, or 'end of string'"),
            ("==", "found '==', expected: !, identifier, or 'end of string'"),
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("app notin", "unable to parse requirement: found '' expected: '('"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a=1 2", "found '2', expected: ',' or 'end of string'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ] {
            assert_eq!(parse(bad), Err(why.to_owned()), "{bad}");
        }
        for bad in [
            "a=b,", ",a", "a in b", "a in (b", "a ~ b", "a=b c", "!", "a>x", "-a=b", "a=b/c", "(",
            "a in ()b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_parse() {
        let term = |path: &str, value: &str, equal| FieldTerm {
            path: path.into(),
            value: value.into(),
            equal,
        };
        assert_eq!(
            parse_fields("a.b=c,d==e\\,f,g!=h"),
            Ok(vec![term("a.b", "c", true), term("d", "e,f", true), term("g", "h", false)])
        );
        assert_eq!(parse_fields(""), Ok(vec![]));
        assert!(parse_fields("abc").is_err());
        assert!(parse_fields("a=b\\x").is_err());
    }
}
