//! Paths of the API: which resource (or none) a URL names, read as upstream's request info resolver
//! reads it, and written by clients.

use std::fmt;

use crate::query::{escape, unescape};

/// A resource path taken apart. All parts are unescaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcePath {
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub plural: String,
    pub name: String,
    pub subresource: String,
    /// What follows a `proxy` subresource, escaped as it came, with its leading slash if there was one.
    pub rest: String,
    /// The deprecated `/watch/` prefix.
    pub watch: bool,
}

/// The path as a client asks for it; `parse` reads the same back.
impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => write!(f, "/api/{}", escape(&self.version))?,
            group => write!(f, "/apis/{}/{}", escape(group), escape(&self.version))?,
        }
        if self.watch {
            f.write_str("/watch")?;
        }
        // A Namespace is its own namespace.
        if !self.namespace.is_empty() && self.plural != "namespaces" {
            write!(f, "/namespaces/{}", escape(&self.namespace))?;
        }
        write!(f, "/{}", escape(&self.plural))?;
        for part in [&self.name, &self.subresource] {
            if !part.is_empty() {
                write!(f, "/{}", escape(part))?;
            }
        }
        f.write_str(&self.rest)
    }
}

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Resource(ResourcePath),
    /// What lies below a subresource, which only other servers have: the path up to there.
    Beyond(ResourcePath),
    /// `/api/v1`, `/apis/apps/v1`: the resources of one group and version.
    GroupVersion {
        group: String,
        version: String,
    },
    /// `/apis/apps`
    Group(String),
    /// Everything else.
    Other,
}

/// A path longer than this names nothing we serve.
const PATH_MAX_BYTES: usize = 8 * 1024;

/// Reads the path part of a request target.
pub fn parse(path: &str) -> Route {
    if path.len() > PATH_MAX_BYTES {
        return Route::Other;
    }
    let trimmed = path.trim_start_matches('/');
    let mut parts = Parts { rest: trimmed };
    let (group, version) = match parts.next().as_deref() {
        Some("api") => match parts.next() {
            Some(version) => (String::new(), version),
            None => return Route::Other,
        },
        Some("apis") => match (parts.next(), parts.next()) {
            (Some(group), Some(version)) => (group, version),
            (Some(group), None) => return Route::Group(group),
            (None, _) => return Route::Other,
        },
        _ => return Route::Other,
    };
    let mut path = ResourcePath { group, version, ..ResourcePath::default() };
    let Some(mut first) = parts.next() else {
        return Route::GroupVersion { group: path.group, version: path.version };
    };
    if first == "watch" {
        path.watch = true;
        match parts.next() {
            Some(part) => first = part,
            None => return Route::Other,
        }
    }
    if first == "namespaces" {
        let Some(namespace) = parts.next() else {
            path.plural = first;
            return Route::Resource(path);
        };
        match parts.next() {
            // `/api/v1/namespaces/x` and its own subresources: the namespace itself.
            None => {
                path.plural = first;
                path.name.clone_from(&namespace);
                path.namespace = namespace;
                return Route::Resource(path);
            }
            Some(sub) if path.group.is_empty() && (sub == "status" || sub == "finalize") => {
                path.plural = first;
                path.name.clone_from(&namespace);
                path.namespace = namespace;
                path.subresource = sub;
                return match parts.next() {
                    None => Route::Resource(path),
                    Some(_) => Route::Other,
                };
            }
            Some(plural) => {
                path.namespace = namespace;
                path.plural = plural;
            }
        }
    } else {
        path.plural = first;
    }
    path.name = parts.next().unwrap_or_default();
    path.subresource = parts.next().unwrap_or_default();
    if path.subresource == "proxy" {
        // A trailing slash matters to what is proxied to.
        let at = trimmed.len() - parts.rest.len();
        let slash = trimmed.get(..at).is_some_and(|head| head.ends_with('/'));
        path.rest = if slash { format!("/{}", parts.rest) } else { String::new() };
    } else if parts.next().is_some() {
        return Route::Beyond(path);
    }
    Route::Resource(path)
}

/// Path segments, unescaped one by one, so that an escaped slash never makes two of one.
struct Parts<'a> {
    rest: &'a str,
}

impl Iterator for Parts<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let (segment, rest) = self.rest.split_once('/').unwrap_or((self.rest, ""));
        self.rest = rest;
        if segment.is_empty() { None } else { Some(unescape(segment, false)) }
    }
}

/// Whether a name could never be one: upstream's `IsValidPathSegmentName`.
pub fn is_path_segment(name: &str) -> bool {
    name != "." && name != ".." && !name.contains(['/', '%'])
}

/// Whether every server reads the same names in a path as [`parse`] does: none is empty, a dot segment, or
/// escapes what would divide it. Behind `proxy`, whose `rest` that is, only dot segments count. What is passed on
/// as it came must be so, or another server may find in it what nobody was asked about.
pub fn is_unambiguous(path: &str, rest: &str) -> bool {
    let Some(head) = path.strip_suffix(rest).and_then(|head| head.strip_prefix('/')) else {
        return false;
    };
    let head = head.strip_suffix('/').unwrap_or(head);
    let named = |segment: &str| {
        let name = unescape(segment, false);
        !name.is_empty() && is_path_segment(&name)
    };
    let stays = |segment: &str| {
        let text = unescape(segment, false);
        text.split('/').all(|part| !matches!(part, "." | "..")) && !text.contains('%')
    };
    head.split('/').all(named) && rest.split('/').all(stays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_could_read_otherwise_is_told() {
        for (path, rest, is) in [
            ("/apis/g/v1", "", true),
            ("/apis/g/v1/", "", true),
            ("/apis/g/v1/namespaces/n/foos/system%3Ax/bar", "", true),
            ("/apis/g/v1/foos/x/proxy/a//b%2Fc", "/a//b%2Fc", true),
            ("//apis/g/v1", "", false),
            ("/apis/g/v1//namespaces/n/secrets", "", false),
            ("/apis/g/v1/foos//", "", false),
            ("/apis/g/v1/foos/x%2Fconsole", "", false),
            ("/apis/g/v1/foos/x%252Fconsole", "", false),
            ("/apis/g/v1/foos/../secrets", "", false),
            ("/apis/g/v1/foos/%2E%2e/secrets", "", false),
            ("/apis/g/v1/foos/./x", "", false),
            ("/apis/g/v1/foos/x/proxy/../console", "/../console", false),
            ("/apis/g/v1/foos/x/proxy/a%2F..%2F..%2Fb", "/a%2F..%2F..%2Fb", false),
            ("/apis/g/v1/foos/x/proxy/%252e%252e/b", "/%252e%252e/b", false),
        ] {
            assert_eq!(is_unambiguous(path, rest), is, "{path}");
        }
    }

    fn resource(path: &str) -> ResourcePath {
        match parse(path) {
            Route::Resource(path) => path,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        for (text, group, ns, plural, name, sub) in [
            ("/api/v1/pods", "", "", "pods", "", ""),
            ("/api/v1/namespaces/a/pods", "", "a", "pods", "", ""),
            ("/api/v1/namespaces/a/pods/p/log", "", "a", "pods", "p", "log"),
            ("/api/v1/namespaces/a", "", "a", "namespaces", "a", ""),
            ("/api/v1/namespaces/a/finalize", "", "a", "namespaces", "a", "finalize"),
            ("/api/v1/namespaces", "", "", "namespaces", "", ""),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "apps",
                "a",
                "deployments",
                "d",
                "scale",
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "rbac.authorization.k8s.io",
                "",
                "clusterroles",
                "system:node",
                "",
            ),
        ] {
            let path = resource(text);
            assert_eq!(
                (&*path.group, &*path.namespace, &*path.plural, &*path.name, &*path.subresource),
                (group, ns, plural, name, sub),
                "{text}"
            );
            assert_eq!(path.to_string(), text);
        }
        for text in ["/api/v1/nodes/n/proxy", "/api/v1/nodes/n/proxy/a%2Fb/c", "/api/v1/watch/pods"]
        {
            assert_eq!(resource(text).to_string(), text);
        }
        assert!(resource("/api/v1/watch/namespaces/a/pods").watch);
        assert_eq!(resource("/api/v1/nodes/n/proxy").rest, "");
        assert_eq!(resource("/api/v1/nodes/n/proxy/").rest, "/");
        assert_eq!(resource("/api/v1/nodes/n/proxy/a%2Fb/c").rest, "/a%2Fb/c");
        assert_eq!(resource("/api/v1/namespaces/a/pods/x%2Fy").name, "x/y");
    }

    #[test]
    fn other_paths_are_not_resources() {
        for path in ["", "/", "/api", "/apis", "/healthz", "/version", "/openapi/v2"] {
            assert_eq!(parse(path), Route::Other, "{path}");
        }
        assert_eq!(parse("/apis/apps"), Route::Group("apps".into()));
        assert_eq!(
            parse("/api/v1/"),
            Route::GroupVersion { group: "".into(), version: "v1".into() }
        );
        let log = resource("/api/v1/namespaces/a/pods/p/log");
        assert_eq!(parse("/api/v1/namespaces/a/pods/p/log/more/yet"), Route::Beyond(log));
        assert_eq!(parse(&"/api/v1/pods/".repeat(1000)), Route::Other);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut prng = stdx::prng::Prng::new(5);
        let mut part = || -> String {
            let length = 1 + prng.below(6);
            (0..length)
                .map(|_| char::from_u32(33 + prng.below(0x300) as u32).unwrap_or('%'))
                .collect()
        };
        for _ in 0..5_000 {
            let path = ResourcePath {
                group: part(),
                version: part(),
                namespace: part(),
                // A plural is a word of the table, never of a stranger.
                plural: "pods".into(),
                name: part(),
                subresource: "log".into(),
                ..ResourcePath::default()
            };
            assert_eq!(parse(&path.to_string()), Route::Resource(path));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut prng = stdx::prng::Prng::new(3);
        let alphabet = b"/api/v1apisnamespaces%2Fproxy..\xc3\xa9watch%%%";
        for _ in 0..20_000 {
            let length = prng.below(60) as usize;
            let bytes: Vec<u8> =
                (0..length).map(|_| alphabet[prng.below(alphabet.len() as u64) as usize]).collect();
            let text = String::from_utf8_lossy(&bytes);
            parse(&format!("/api/v1/{text}"));
            parse(&text);
        }
    }
}
