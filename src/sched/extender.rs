//! A server of an administrator's that is asked beside the plug-ins.

use std::time::Duration;

use api::Value;
use stdx::OrdMap;

/// What is asked of an extender; one of [`Extender::verbs`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Filter,
    Prioritize,
    Bind,
}

pub(crate) const N_VERBS: usize = 3;

/// One of a configuration's `extenders`.
#[derive(Debug, Clone)]
pub struct Extender {
    pub url: String,
    /// As they stand in URLs; empty: it is not asked that. Filter, prioritize, bind.
    pub verbs: [String; N_VERBS],
    pub timeout: Duration,
    /// `enableHTTPS` and `tlsConfig` as they are written.
    pub https: bool,
    pub tls: Value,
    pub(crate) weight: i64,
    pub(crate) by_name: bool,
    pub(crate) ignorable: bool,
    /// Only pods that ask for one of these are its business; empty: all.
    pub(crate) managed: Vec<String>,
}

impl Extender {
    /// Where its verbs are: the places in a list of all extenders' are the numbers that questions go by.
    pub fn urls(&self) -> [String; N_VERBS] {
        self.verbs.clone().map(|verb| match verb.is_empty() {
            true => String::new(),
            false => format!("{}/{verb}", self.url.trim_end_matches('/')),
        })
    }

    pub(crate) fn does(&self, verb: Verb) -> bool {
        self.verbs.get(verb as usize).is_some_and(|verb| !verb.is_empty())
    }

    pub(crate) fn cares(&self, requests: &OrdMap<String, i128>) -> bool {
        self.managed.is_empty() || self.managed.iter().any(|name| requests.contains_key(name))
    }
}
