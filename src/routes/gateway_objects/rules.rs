//! Rules of HTTPRoutes and GRPCRoutes: which requests they mean, what is done with those, and where they go.

use api::{Lens, Value};

use super::{ITEMS_MAX, Ref};
use crate::filters::{Change, Modify, Redirect, Rewrite};
use crate::middleware::Reference;
use crate::objects::PortRef;
use crate::rule::{Matcher, regex};

/// One rule of a route.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) backends: Vec<Backend>,
    /// Milliseconds; 0 is for ever.
    pub(crate) timeout_ms: u64,
    /// Something in it that is not done here.
    pub(crate) unsupported: Option<String>,
}

/// What a request is, all of it.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) path: PathMatch,
    /// "" for all.
    pub(crate) method: String,
    /// Name, value, and whether that is a regular expression.
    pub(crate) headers: Vec<(String, String, bool)>,
    pub(crate) query: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathMatch {
    Exact(String),
    /// Of whole elements.
    Prefix(String),
    Regex(String),
}

/// Where requests go, with their share.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) to: Ref,
    pub(crate) port: Option<PortRef>,
    pub(crate) weight: u32,
    pub(crate) filters: Vec<Filter>,
}

/// What is done with a request, or with its answer.
#[derive(Debug)]
pub(crate) enum Filter {
    Request(Modify),
    Response(Modify),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Mirror {
        backend: Backend,
        /// Of so many requests...
        numerator: u32,
        /// ...out of so many.
        denominator: u32,
    },
    /// A Middleware of Traefik's.
    Middleware(Reference),
    Unsupported(String),
}

/// A change of a filter's, for requests of a match.
pub(crate) fn of_match(change: Change, path: &PathMatch) -> Result<Change, String> {
    match (change, path) {
        (Change::Prefix { with, .. }, PathMatch::Prefix(prefix)) => {
            Ok(Change::Prefix { matched: prefix.trim_end_matches('/').into(), with })
        }
        (Change::Prefix { .. }, _) => {
            Err("ReplacePrefixMatch needs a match of the type PathPrefix".into())
        }
        (full, _) => Ok(full),
    }
}

impl Rule {
    pub(crate) fn read(tree: &Value, namespace: &str, grpc: bool) -> Rule {
        let backends = tree.list("backendRefs").iter().take(ITEMS_MAX);
        let matches = tree.list("matches").iter().take(ITEMS_MAX);
        let mut matches: Vec<Match> = matches.map(|tree| Match::read(tree, grpc)).collect();
        if matches.is_empty() {
            matches.push(Match::read(&Value::Null, grpc));
        }
        let mut unsupported = ["retry", "sessionPersistence"]
            .iter()
            .find(|field| tree.has(field))
            .map(|field| format!("{field} is not supported"));
        let mut timeout = |name: &str| match duration_ms(tree.str(name)) {
            Some(0) | None if !tree.has(name) => u64::MAX,
            Some(0) => u64::MAX,
            Some(ms) => ms,
            None => {
                unsupported = Some(format!("{name} is no duration"));
                u64::MAX
            }
        };
        // Requests are tried at one endpoint: both are about the same time.
        let timeout_ms = timeout("timeouts.request").min(timeout("timeouts.backendRequest"));
        Rule {
            matches,
            filters: filters(tree, namespace),
            backends: backends.map(|tree| Backend::read(tree, namespace)).collect(),
            timeout_ms: if timeout_ms == u64::MAX { 0 } else { timeout_ms },
            unsupported,
        }
    }
}

/// `1h`, `1m30s`, `500ms`: at most five digits a unit (GEP 2257).
fn duration_ms(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok().filter(|_| end <= 5)?;
        let next = rest[end..].find(|c: char| c.is_ascii_digit());
        let unit_end = next.map_or(rest.len(), |at| end + at);
        total += number
            * match &rest[end..unit_end] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

fn filters(tree: &Value, namespace: &str) -> Vec<Filter> {
    let filters = tree.list("filters").iter().take(ITEMS_MAX);
    filters.map(|tree| Filter::read(tree, namespace)).collect()
}

impl Match {
    fn read(tree: &Value, grpc: bool) -> Match {
        let path = if grpc {
            grpc_path(tree.at("method"))
        } else {
            let value = tree.at("path.value").as_str().unwrap_or("/").to_owned();
            match tree.str("path.type") {
                "Exact" => PathMatch::Exact(value),
                "RegularExpression" => PathMatch::Regex(value),
                _ => PathMatch::Prefix(value),
            }
        };
        let named = |name: &str| {
            let items = tree.list(name).iter().take(ITEMS_MAX);
            let mut all: Vec<(String, String, bool)> = Vec::new();
            for item in items {
                let own = item.str("name");
                // Of two for one name the first counts.
                if all.iter().all(|(known, ..)| !known.eq_ignore_ascii_case(own)) {
                    let pattern = item.str("type") == "RegularExpression";
                    all.push((own.into(), item.str("value").into(), pattern));
                }
            }
            all
        };
        let method = if grpc { "" } else { tree.str("method") };
        Match {
            path,
            method: method.into(),
            headers: named("headers"),
            query: if grpc { Vec::new() } else { named("queryParams") },
        }
    }

    /// What asks it of a request.
    pub(crate) fn matchers(&self) -> Result<Vec<Matcher>, String> {
        let clean = |path: &str| {
            let clean = crate::clean(path).ok_or_else(|| format!("{path:?} is no path"))?;
            Ok::<Box<str>, String>((&*clean.path).into())
        };
        let mut all = vec![match &self.path {
            PathMatch::Exact(path) => Matcher::Path(clean(path)?),
            PathMatch::Prefix(path) => {
                let path = clean(path)?;
                Matcher::PathElements(path.strip_suffix('/').unwrap_or(&path).into())
            }
            PathMatch::Regex(pattern) => Matcher::PathRegexp(regex(&whole(pattern))?),
        }];
        if !self.method.is_empty() {
            all.push(Matcher::Method(self.method.as_str().into()));
        }
        for (name, value, pattern) in &self.headers {
            let name = name.to_ascii_lowercase().into();
            all.push(match pattern {
                true => Matcher::HeaderRegexp(name, regex(&whole(value))?),
                false => Matcher::Header(name, value.as_str().into()),
            });
        }
        for (name, value, pattern) in &self.query {
            all.push(match pattern {
                true => Matcher::QueryRegexp(name.as_str().into(), regex(&whole(value))?),
                false => Matcher::Query(name.as_str().into(), value.as_str().into()),
            });
        }
        Ok(all)
    }

    /// Which match comes first: the larger number.
    pub(crate) fn precedence(&self) -> i64 {
        let (kind, path) = match &self.path {
            PathMatch::Prefix(path) => (0, path.trim_end_matches('/')),
            PathMatch::Regex(path) => (1, path.as_str()),
            PathMatch::Exact(path) => (2, path.as_str()),
        };
        let small = |n: usize, max: i64| i64::try_from(n).unwrap_or(max).min(max);
        kind << 22
            | small(path.len(), 0x7ff) << 11
            | i64::from(!self.method.is_empty()) << 10
            | small(self.headers.len(), 31) << 5
            | small(self.query.len(), 31)
    }
}

/// A text is matched as a whole.
fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// A call is a request for `/SERVICE/METHOD`.
fn grpc_path(tree: &Value) -> PathMatch {
    let (service, method) = (tree.str("service"), tree.str("method"));
    let pattern = tree.str("type") == "RegularExpression";
    let any = |text: &str| match (text.is_empty(), pattern) {
        (true, _) => "[^/]+".to_owned(),
        (false, true) => format!("(?:{text})"),
        (false, false) => text.replace('.', "\\."),
    };
    match (service.is_empty(), method.is_empty(), pattern) {
        (true, true, _) => PathMatch::Prefix("/".into()),
        (false, false, false) => PathMatch::Exact(format!("/{service}/{method}")),
        (false, true, false) => PathMatch::Prefix(format!("/{service}")),
        _ => PathMatch::Regex(format!("/{}/{}", any(service), any(method))),
    }
}

impl Backend {
    fn read(tree: &Value, namespace: &str) -> Backend {
        Backend {
            to: Ref::read(tree, namespace, "", "Service"),
            port: tree.int("port").map(PortRef::Number),
            weight: tree.int("weight").and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            filters: filters(tree, namespace),
        }
    }
}

impl Filter {
    fn read(tree: &Value, namespace: &str) -> Filter {
        match tree.str("type") {
            "RequestHeaderModifier" => Filter::Request(modify(tree.at("requestHeaderModifier"))),
            "ResponseHeaderModifier" => Filter::Response(modify(tree.at("responseHeaderModifier"))),
            "RequestRedirect" => {
                let own = tree.at("requestRedirect");
                let text = |name: &str| own.at(name).as_str().map(Into::into);
                let status = own.int("statusCode").and_then(|n| u16::try_from(n).ok());
                Filter::Redirect(Redirect {
                    scheme: text("scheme"),
                    hostname: text("hostname"),
                    port: own.int("port").and_then(|port| u16::try_from(port).ok()),
                    path: change(own.at("path")),
                    status: status.filter(|code| (300..400).contains(code)).unwrap_or(302),
                    listener_port: 0,
                })
            }
            "URLRewrite" => {
                let own = tree.at("urlRewrite");
                Filter::Rewrite(Rewrite {
                    hostname: own.at("hostname").as_str().map(Into::into),
                    path: change(own.at("path")),
                })
            }
            "RequestMirror" => {
                let own = tree.at("requestMirror");
                let part = |name: &str| own.int(name).and_then(|n| u32::try_from(n).ok());
                let (numerator, denominator) = match (part("percent"), part("fraction.numerator")) {
                    (Some(percent), _) => (percent, 100),
                    (None, Some(n)) => (n, part("fraction.denominator").unwrap_or(100).max(1)),
                    (None, None) => (1, 1),
                };
                let backend = Backend::read(own.at("backendRef"), namespace);
                Filter::Mirror { backend, numerator, denominator }
            }
            "ExtensionRef" => {
                let own = tree.at("extensionRef");
                match (own.str("group"), own.str("kind")) {
                    ("traefik.io", "Middleware") => Filter::Middleware(Reference::read(own)),
                    (group, kind) => {
                        Filter::Unsupported(format!("a filter that is {kind} of {group:?}"))
                    }
                }
            }
            other => Filter::Unsupported(format!("the filter {other}")),
        }
    }
}

fn change(tree: &Value) -> Option<Change> {
    match tree.str("type") {
        "ReplaceFullPath" => Some(Change::Full(tree.str("replaceFullPath").into())),
        "ReplacePrefixMatch" => Some(Change::Prefix {
            matched: String::new(),
            with: tree.str("replacePrefixMatch").into(),
        }),
        _ => None,
    }
}

fn modify(tree: &Value) -> Modify {
    let pairs = |name: &str| {
        let items = tree.list(name).iter().take(ITEMS_MAX);
        items
            .map(|item| (item.str("name").to_ascii_lowercase(), item.str("value").to_owned()))
            .collect()
    };
    let remove = tree.list("remove").iter().take(ITEMS_MAX);
    Modify {
        set: pairs("set"),
        add: pairs("add"),
        remove: remove.filter_map(|name| Some(name.as_str()?.to_ascii_lowercase())).collect(),
    }
}
