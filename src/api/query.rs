//! Query strings: read with the leniency of upstream's conversion and its errors, and written by clients.

use crate::status::Status;
pub use wire::percent::unescape;

/// More parameters than this are refused: no client sends a tenth of it.
const PARAMETERS_MAX: usize = 256;

/// Decoded parameters in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// If there are too many parameters.
    pub fn parse(text: &str) -> Result<Query, Status> {
        let mut parameters = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(Status::bad_request("too many query parameters"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((unescape(key, true), unescape(value, true)));
        }
        Ok(Query(parameters))
    }

    /// The first value of `key`, or "".
    pub fn get(&self, key: &str) -> &str {
        self.find(key).unwrap_or("")
    }

    /// The first value of `key`, if it is there.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Upstream's boolean conversion: present and not "false" or "0" is true.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.find(key).map(|text| !matches!(text.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// # Errors
    /// If it is there and not a number.
    pub fn int(&self, key: &str) -> Result<Option<i64>, Status> {
        match self.find(key) {
            None | Some("") => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(number) => Ok(Some(number)),
                Err(error) => {
                    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                    let why = match error.kind() {
                        PosOverflow | NegOverflow => "value out of range",
                        _ => "invalid syntax",
                    };
                    let message = format!("strconv.ParseInt: parsing {text:?}: {why}");
                    Err(Status::bad_request(message))
                }
            },
        }
    }
}

/// A path with its query, written parameter by parameter.
#[derive(Debug)]
pub struct Target {
    text: String,
    begun: bool,
}

impl Target {
    /// `path` is escaped already, and has no query.
    pub fn new(path: impl Into<String>) -> Target {
        Target { text: path.into(), begun: false }
    }

    /// Adds a parameter, also an empty one.
    pub fn push(&mut self, key: &str, value: &str) {
        self.text.push(if self.begun { '&' } else { '?' });
        self.begun = true;
        self.text.push_str(&escape(key));
        self.text.push('=');
        self.text.push_str(&escape(value));
    }

    /// Adds a parameter that has something to say.
    pub fn push_some(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.push(key, value);
        }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// Encodes for a query value.
pub fn escape(text: &str) -> String {
    wire::percent::escape(text, wire::percent::is_unreserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&x=1+2&watch&limit=5&empty=").unwrap();
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert_eq!(query.get("x"), "1 2");
        assert!(query.flag("watch") && !query.flag("nothing"));
        assert_eq!(query.int("limit").unwrap(), Some(5));
        assert!(Query::parse("limit=x").unwrap().int("limit").is_err());
        assert!(Query::parse(&"a=b&".repeat(1000)).is_err());
    }

    #[test]
    fn any_text_round_trips_and_nothing_panics() {
        let mut prng = stdx::prng::Prng::new(9);
        for _ in 0..10_000 {
            let text: String = (0..prng.below(20))
                .map(|_| char::from_u32(prng.below(0x300) as u32).unwrap_or('%'))
                .collect();
            assert_eq!(unescape(&escape(&text), true), text);
            let _ = Query::parse(&text).map(|query| query.int("limit").is_ok());
            let mut target = Target::new("/x");
            target.push("a", "");
            target.push(&text, &text);
            let (_, query) = target.text.split_once('?').unwrap();
            assert_eq!(Query::parse(query).unwrap().all(&text).last(), Some(&*text));
            unescape(&text, false);
        }
    }
}
