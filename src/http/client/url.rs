//! URLs as far as an HTTP client needs them: where to connect, what to ask for, where a redirect leads.

use std::fmt;

use stdx::{Error, Result};

/// An absolute `http`, `https` or `unix` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Lower case.
    pub scheme: String,
    /// `user:password`, as it was written.
    pub userinfo: Option<String>,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, beginning with a slash.
    pub target: String,
}

impl Url {
    /// Parses an absolute URL. A fragment is dropped.
    pub fn parse(text: &str) -> Result<Url> {
        let bad = |why: &str| Error::new(format!("parse URL {text:?}: {why}"));
        if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(bad("it holds spaces or control characters"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("it has no scheme"))?;
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('#').next().unwrap_or("");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let default_port = match &*scheme {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => return Err(bad("its scheme is neither http nor https")),
        };
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo.to_owned()), host_port),
            None => (None, authority),
        };
        let (host, port) = split_host_port(host_port, default_port)
            .ok_or_else(|| bad("its host or port is bad"))?;
        let target = match target {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        Ok(Url { scheme, userinfo, host, port, target })
    }

    pub fn is_tls(&self) -> bool {
        matches!(&*self.scheme, "https" | "wss")
    }

    /// `host:port` as a `Host` header has it: without the scheme's own port.
    pub fn authority(&self) -> String {
        let is_default = self.port == if self.is_tls() { 443 } else { 80 };
        authority(&self.host, (!is_default).then_some(self.port))
    }

    /// Where a `Location` header leads from here: an absolute URL, a path, or a relative path.
    pub fn join(&self, location: &str) -> Result<Url> {
        let location = location.split('#').next().unwrap_or("");
        let scheme_end = location.find("://").filter(|&end| {
            location[..end].bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        });
        if scheme_end.is_some() {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let dir = path.rfind('/').map_or("/", |end| &path[..=end]);
            format!("{dir}{location}")
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*target, None),
        };
        let mut target = without_dots(path);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        Ok(Url { target, ..self.clone() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.target)
    }
}

/// `host[:port]`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
pub fn split_host_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { default_port } else { port.parse().ok()? };
    let v6 = text.starts_with('[');
    (!host.is_empty() && (v6 || !host.contains(':'))).then(|| (host.to_owned(), port))
}

fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_dir = false;
    for segment in path.split('/').skip(1) {
        ends_in_dir = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            "" if segments.is_empty() => {}
            segment => segments.push(segment),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if ends_in_dir && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, printed) in [
            ("https://registry-1.docker.io", "https://registry-1.docker.io/"),
            ("HTTP://u:p@a:8080?x=1#f", "http://a:8080/?x=1"),
            ("https://[::1]:6443/a", "https://[::1]:6443/a"),
            ("https://[fe80::1]/a", "https://[fe80::1]/a"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), printed);
        }
        for bad in ["", "a", "ftp://a", "http://", "http://a:x", "http://a b", "http://::1/"] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn follows_locations() {
        let base = Url::parse("https://a/v2/x/blobs/y?q=1").unwrap();
        for (location, printed) in [
            ("http://b/c?d", "http://b/c?d"),
            ("//b/c", "https://b/c"),
            ("/c", "https://a/c"),
            ("z?u=https://b", "https://a/v2/x/blobs/z?u=https://b"),
            ("../z/./w/", "https://a/v2/x/z/w/"),
            ("?r", "https://a/v2/x/blobs/y?r"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), printed);
        }
    }
}
