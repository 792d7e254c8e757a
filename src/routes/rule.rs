//! Traefik's rule language: matchers joined by `&&`, `||` and `!`, read without recursion and kept as steps.

use regex_lite::{Regex, RegexBuilder};
use stdx::OrdSet;

use crate::ask::{Ask, Cidr};

/// A rule's text in bytes.
pub(crate) const TEXT_MAX_BYTES: usize = 16 << 10;
/// Matchers of one rule.
const MATCHERS_MAX: usize = 256;
/// Open parentheses and operators that wait; as many results wait when a rule is asked.
const DEPTH_MAX: usize = 60;
/// A regular expression in bytes, and compiled.
const REGEX_MAX_BYTES: usize = 1 << 10;
const REGEX_SIZE_MAX: usize = 256 << 10;
/// Of a text, no more than its beginning is matched with a regular expression: what that costs is the
/// product of both.
const REGEX_TEXT_MAX_BYTES: usize = 4 << 10;

/// The field that stands for the protocols that a TLS client offers: no field of a request has such a name.
pub const ALPN: &str = ":alpn";

/// A rule, read.
#[derive(Debug)]
pub struct Rule {
    steps: Vec<Step>,
    /// What the priority is counted by.
    length: usize,
}

#[derive(Debug)]
enum Step {
    Match(Matcher),
    And,
    Or,
    Not,
}

#[derive(Debug)]
pub(crate) enum Matcher {
    /// A name, `*.name` for one label more, `*` for all; in lower case.
    Host(Box<str>),
    /// What ends in this, which begins with a dot.
    HostSuffix(Box<str>),
    HostRegexp(Regex),
    Path(Box<str>),
    /// By characters, as Traefik has it.
    PathPrefix(Box<str>),
    /// By elements, as an Ingress has it; without a slash at its end.
    PathElements(Box<str>),
    PathRegexp(Regex),
    Method(Box<str>),
    Header(Box<str>, Box<str>),
    HeaderRegexp(Box<str>, Regex),
    Query(Box<str>, Box<str>),
    QueryRegexp(Box<str>, Regex),
    ClientIp(Cidr),
}

/// The hosts that a rule can be about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    Any,
    These(OrdSet<Box<str>>),
}

impl Rule {
    /// All of `matchers` hold, and none of `but`. `length` is what the priority is counted by.
    pub(crate) fn all(matchers: Vec<Matcher>, but: Vec<Matcher>, length: usize) -> Rule {
        let mut steps = Vec::new();
        let n_held = matchers.len();
        for (n, matcher) in matchers.into_iter().chain(but).enumerate() {
            steps.push(Step::Match(matcher));
            if n >= n_held {
                steps.push(Step::Not);
            }
            // At once, so that no more than two results wait.
            if n > 0 {
                steps.push(Step::And);
            }
        }
        Rule { steps, length }
    }

    /// Reads a rule.
    ///
    /// # Errors
    /// Say what is wrong with it.
    pub fn parse(text: &str) -> Result<Rule, String> {
        Rule::parse_with(text, matcher)
    }

    /// Reads a rule about connections.
    ///
    /// # Errors
    /// Say what is wrong with it.
    pub(crate) fn parse_tcp(text: &str) -> Result<Rule, String> {
        Rule::parse_with(text, tcp_matcher)
    }

    fn parse_with(text: &str, matcher: ReadMatcher) -> Result<Rule, String> {
        if text.len() > TEXT_MAX_BYTES {
            return Err(format!("the rule is longer than {TEXT_MAX_BYTES} bytes"));
        }
        let mut reader =
            Reader { rest: text, steps: Vec::new(), waiting: Vec::new(), n_matchers: 0, matcher };
        reader.read()?;
        Ok(Rule { steps: reader.steps, length: text.len() })
    }

    /// What its priority is, if none is given.
    pub(crate) fn length(&self) -> i64 {
        i64::try_from(self.length).unwrap_or(i64::MAX)
    }

    /// Whether a request is one that it means.
    pub fn matches(&self, ask: &Ask<'_>) -> bool {
        // Results that wait, the last one lowest: no more than DEPTH_MAX, and one.
        let mut waiting: u64 = 0;
        for step in &self.steps {
            waiting = match step {
                Step::Match(matcher) => waiting << 1 | u64::from(matcher.matches(ask)),
                Step::Not => waiting ^ 1,
                Step::And => (waiting >> 1) & (waiting | !1),
                Step::Or => (waiting >> 1) | (waiting & 1),
            };
        }
        waiting & 1 == 1
    }

    /// Which hosts it can be about, for finding it.
    pub(crate) fn hosts(&self) -> Hosts {
        let mut waiting: Vec<Hosts> = Vec::new();
        for step in &self.steps {
            let next = match step {
                Step::Match(Matcher::Host(name)) if &**name != "*" => {
                    Hosts::These([name.clone()].into())
                }
                Step::Match(Matcher::HostSuffix(suffix)) => Hosts::These([suffix.clone()].into()),
                Step::Match(_) => Hosts::Any,
                Step::Not => {
                    waiting.pop();
                    Hosts::Any
                }
                Step::And | Step::Or => {
                    let pair = (waiting.pop(), waiting.pop());
                    match (step, pair) {
                        (Step::And, (Some(Hosts::These(one)), Some(_)))
                        | (Step::And, (Some(_), Some(Hosts::These(one)))) => Hosts::These(one),
                        (Step::Or, (Some(Hosts::These(mut one)), Some(Hosts::These(other)))) => {
                            one.extend(other);
                            Hosts::These(one)
                        }
                        _ => Hosts::Any,
                    }
                }
            };
            waiting.push(next);
        }
        waiting.pop().unwrap_or(Hosts::Any)
    }
}

impl Matcher {
    fn matches(&self, ask: &Ask<'_>) -> bool {
        match self {
            Matcher::Host(name) => host_matches(name, ask.host),
            Matcher::HostSuffix(suffix) => {
                ask.host.len() > suffix.len() && ask.host.ends_with(&**suffix)
            }
            Matcher::HostRegexp(regex) => is_match(regex, ask.host),
            Matcher::Path(path) => **path == *ask.path,
            Matcher::PathPrefix(prefix) => ask.path.starts_with(&**prefix),
            Matcher::PathElements(prefix) => {
                let rest = ask.path.strip_prefix(&**prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Matcher::PathRegexp(regex) => is_match(regex, ask.path),
            Matcher::Method(method) => **method == *ask.method,
            Matcher::Header(name, value) => ask.headers.any(name, &mut |found| *found == **value),
            Matcher::HeaderRegexp(name, regex) => {
                ask.headers.any(name, &mut |found| is_match(regex, found))
            }
            Matcher::Query(name, value) => query(ask.query, name, &mut |found| *found == **value),
            Matcher::QueryRegexp(name, regex) => {
                query(ask.query, name, &mut |found| is_match(regex, found))
            }
            Matcher::ClientIp(block) => ask.peer.is_some_and(|peer| block.contains(peer)),
        }
    }
}

/// Whether `host` is `name`, or has one label more than `*.name`.
pub(crate) fn host_matches(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => {
            host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
        }
        None => name == "*" || name == host,
    }
}

fn is_match(regex: &Regex, text: &str) -> bool {
    regex.is_match(&text[..text.floor_char_boundary(REGEX_TEXT_MAX_BYTES)])
}

/// Asks `is` of each value that a query has for `name`.
fn query(query: &str, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
    query.split('&').any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        unescape(key) == name && is(&unescape(value))
    })
}

fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains(['%', '+']) {
        true => wire::percent::unescape(text, true).into(),
        false => text.into(),
    }
}

/// A regular expression of Go's syntax, within bounds.
///
/// # Errors
/// Say what is wrong with it.
pub(crate) fn regex(text: &str) -> Result<Regex, String> {
    if text.len() > REGEX_MAX_BYTES {
        return Err(format!("a regular expression is longer than {REGEX_MAX_BYTES} bytes"));
    }
    let built = RegexBuilder::new(text).size_limit(REGEX_SIZE_MAX).build();
    built.map_err(|error| format!("the regular expression {text:?} cannot be used: {error}"))
}

/// What waits for its operands while a rule is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Open,
    Or,
    And,
    Not,
}

/// Reads operators by precedence, with a stack of its own.
struct Reader<'a> {
    rest: &'a str,
    steps: Vec<Step>,
    waiting: Vec<Waiting>,
    n_matchers: usize,
    matcher: ReadMatcher,
}

/// What makes a matcher of its name and arguments.
type ReadMatcher = fn(&str, &[String]) -> Result<Matcher, String>;

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        loop {
            // An operand.
            self.space();
            if self.take("!") {
                self.wait(Waiting::Not)?;
                continue;
            }
            if self.take("(") {
                self.wait(Waiting::Open)?;
                continue;
            }
            let matcher = self.matcher()?;
            self.n_matchers += 1;
            if self.n_matchers > MATCHERS_MAX {
                return Err(format!("the rule has more than {MATCHERS_MAX} matchers"));
            }
            self.steps.push(Step::Match(matcher));
            // What follows it.
            loop {
                self.space();
                if self.take(")") {
                    self.apply(Waiting::Or);
                    if self.waiting.pop() != Some(Waiting::Open) {
                        return Err("a parenthesis is closed that was not opened".into());
                    }
                } else if self.take("&&") {
                    self.apply(Waiting::And);
                    self.wait(Waiting::And)?;
                    break;
                } else if self.take("||") {
                    self.apply(Waiting::Or);
                    self.wait(Waiting::Or)?;
                    break;
                } else if self.rest.is_empty() {
                    self.apply(Waiting::Or);
                    return match self.waiting.is_empty() {
                        true => Ok(()),
                        false => Err("a parenthesis is not closed".into()),
                    };
                } else {
                    return Err(format!("an operator is missing before {:?}", self.ahead()));
                }
            }
        }
    }

    fn wait(&mut self, what: Waiting) -> Result<(), String> {
        self.waiting.push(what);
        match self.waiting.len() > DEPTH_MAX {
            true => Err(format!("the rule is nested deeper than {DEPTH_MAX}")),
            false => Ok(()),
        }
    }

    /// Applies what binds at least as strongly.
    fn apply(&mut self, strength: Waiting) {
        while let Some(top) = self.waiting.last().copied().filter(|top| *top >= strength) {
            self.waiting.pop();
            self.steps.push(match top {
                Waiting::Not => Step::Not,
                Waiting::And => Step::And,
                // Parentheses are weaker than everything.
                Waiting::Or | Waiting::Open => Step::Or,
            });
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn ahead(&self) -> String {
        self.rest.chars().take(20).collect()
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(match self.rest.is_empty() {
                true => "the rule ends where a matcher is expected".into(),
                false => format!("a matcher is expected at {:?}", self.ahead()),
            });
        }
        self.rest = rest;
        self.space();
        if !self.take("(") {
            return Err(format!("{name} has no arguments"));
        }
        let mut arguments: Vec<String> = Vec::new();
        loop {
            self.space();
            if arguments.is_empty() && self.take(")") {
                break;
            }
            arguments.push(self.string()?);
            self.space();
            if self.take(")") {
                break;
            }
            if !self.take(",") || arguments.len() > 2 {
                return Err(format!("the arguments of {name} end badly at {:?}", self.ahead()));
            }
        }
        (self.matcher)(name, &arguments)
    }

    /// A text in back quotes, which is what it is, or in double quotes, with escapes.
    fn string(&mut self) -> Result<String, String> {
        if self.take("`") {
            let (text, rest) = self.rest.split_once('`').ok_or("a back quote is not closed")?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        if !self.take("\"") {
            return Err(format!("a quoted text is expected at {:?}", self.ahead()));
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) => return Err(format!("unknown escape \\{other}")),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err("a quote is not closed".into())
    }
}

/// A matcher by its name, in any of the cases that Traefik takes.
fn matcher(name: &str, arguments: &[String]) -> Result<Matcher, String> {
    let wrong = |n: &str| Err(format!("{name} takes {n}, and has {}", arguments.len()));
    let lower = name.to_ascii_lowercase();
    let (first, second) = match arguments {
        [] => return wrong("an argument"),
        [first] => (first.as_str(), None),
        [first, second] => (first.as_str(), Some(second.as_str())),
        _ => return wrong("at most two arguments"),
    };
    let field = |name: &str| name.to_ascii_lowercase().into();
    match (lower.as_str(), second) {
        ("host", None) => host(first).map(Matcher::Host),
        ("hostregexp", None) => Ok(Matcher::HostRegexp(regex(first)?)),
        ("path" | "pathprefix", None) if !first.starts_with('/') => {
            Err(format!("the path {first:?} does not begin with a slash"))
        }
        ("path", None) => Ok(Matcher::Path(first.into())),
        ("pathprefix", None) => Ok(Matcher::PathPrefix(first.into())),
        ("pathregexp", None) => Ok(Matcher::PathRegexp(regex(first)?)),
        ("method", None) => Ok(Matcher::Method(first.to_ascii_uppercase().into())),
        ("header", Some(value)) => Ok(Matcher::Header(field(first), value.into())),
        ("headerregexp", Some(value)) => Ok(Matcher::HeaderRegexp(field(first), regex(value)?)),
        ("query", value) => Ok(Matcher::Query(first.into(), value.unwrap_or("").into())),
        ("queryregexp", value) => {
            Ok(Matcher::QueryRegexp(first.into(), regex(value.unwrap_or("^$"))?))
        }
        ("clientip", None) => Ok(Matcher::ClientIp(first.parse()?)),
        (
            "host" | "hostregexp" | "path" | "pathprefix" | "pathregexp" | "method" | "clientip",
            Some(_),
        ) => wrong("one argument"),
        ("header" | "headerregexp", None) => wrong("two arguments"),
        _ => Err(format!("there is no matcher {name}")),
    }
}

/// One of a rule about connections: hosts are those that TLS names.
fn tcp_matcher(name: &str, arguments: &[String]) -> Result<Matcher, String> {
    match (name.to_ascii_lowercase().as_str(), arguments) {
        ("hostsni", [host]) => self::host(host).map(Matcher::Host),
        ("hostsniregexp", [text]) => Ok(Matcher::HostRegexp(regex(text)?)),
        ("alpn", [protocol]) => Ok(Matcher::Header(ALPN.into(), protocol.as_str().into())),
        ("clientip", [block]) => Ok(Matcher::ClientIp(block.parse()?)),
        ("hostsni" | "hostsniregexp" | "alpn" | "clientip", _) => {
            Err(format!("{name} takes one argument, and has {}", arguments.len()))
        }
        _ => Err(format!("there is no matcher {name} for connections")),
    }
}

/// A host's name as requests' are compared with it.
///
/// # Errors
/// If it is no name of letters that hosts have.
pub(crate) fn host(name: &str) -> Result<Box<str>, String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let below = name.strip_prefix("*.").unwrap_or(&name);
    if name != "*" && (below.is_empty() || !below.is_ascii() || below.contains(['*', '/', ' '])) {
        return Err(format!("{name:?} is no name of hosts"));
    }
    Ok(name.into())
}
