//! `kubectl proxy`: the API on a port of this machine, for programs that have no credentials of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::Raw;
use http::server::{Limits, Listener, Service, serve};
use http::{BoxFuture, Method, Request, Response};
use regex_lite::Regex;
use rt::net::{TcpListener, UnixListener};

use super::proxy_files;
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, bind_error, failed};
use crate::flags::{duration, int, switch, text};
use crate::out;
use crate::rest::Rest;

const PORT: &str = "8001";

pub(crate) static COMMAND: Command = Command {
    name: "proxy",
    about: "Creates a proxy server or application-level gateway between localhost and the Kubernetes API server. It also allows serving static content over specified HTTP path. All incoming data enters through one port and gets forwarded to the remote Kubernetes API server port, except for the path matching the static content path.",
    short: "Run a proxy to the Kubernetes API server",
    usage: "[--port=PORT] [--www=static-dir] [--www-prefix=prefix] [--api-prefix=prefix]",
    flags: &[&[
        text(
            "accept-hosts",
            r"^localhost$,^127\.0\.0\.1$,^\[::1\]$",
            "Regular expression for hosts that the proxy should accept.",
        ),
        text("accept-paths", "^.*", "Regular expression for paths that the proxy should accept."),
        text("address", "127.0.0.1", "The IP address on which to serve on."),
        text("api-prefix", "/", "Prefix to serve the proxied API under."),
        switch(
            "append-server-path",
            "If true, enables automatic path appending of the kube context server path to each request.",
        ),
        switch(
            "disable-filter",
            "If true, disable request filtering in the proxy. This is dangerous, and can leave you vulnerable to XSRF attacks, when used with an accessible port.",
        ),
        duration("keepalive", "0s", "Only 0: connections are kept alive as the system does it"),
        int("port", PORT, "The port on which to run the proxy. Set to 0 to pick a random port.")
            .short('p'),
        text(
            "reject-methods",
            "^$",
            "Regular expression for HTTP methods that the proxy should reject (example --reject-methods='POST,PUT,PATCH').",
        ),
        text(
            "reject-paths",
            "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach",
            "Regular expression for paths that the proxy should reject. Paths specified here will be rejected even accepted by --accept-paths.",
        ),
        text("unix-socket", "", "Unix socket on which to run the proxy.").short('u'),
        text(
            "www",
            "",
            "Also serve static files from the given directory under the specified prefix.",
        )
        .short('w'),
        text(
            "www-prefix",
            "/static/",
            "Prefix to serve static files under, if static file directory is specified.",
        )
        .short('P'),
    ]],
    run: Some(run),
    ..BLANK
};

/// What stands between the port and the server.
struct Proxy {
    raw: Raw,
    /// Who asks and why, for requests that do not say it themselves.
    headers: Vec<(String, String)>,
    api_prefix: String,
    /// A directory, and the prefix of its files.
    www: Option<(String, String)>,
    filter: Option<Filter>,
    is_path_appended: bool,
}

/// Which requests are passed on: those of a page that some browser shows are not.
struct Filter {
    accept_paths: Vec<Regex>,
    reject_paths: Vec<Regex>,
    accept_hosts: Vec<Regex>,
    reject_methods: Vec<Regex>,
}

fn run(call: &Call<'_>) -> Outcome {
    if call.nanos("keepalive") != 0 {
        return failed("--keepalive is not supported by this version of k3rs");
    }
    let with_slash = |flag: &str| match call.text(flag) {
        own if own.ends_with('/') => own.to_owned(),
        own => format!("{own}/"),
    };
    let (raw, headers) = Rest::new(&call.line, call.config()?)?.into_parts();
    let is_path_appended = call.is("append-server-path");
    if !is_path_appended && !raw.base().is_empty() {
        out::tell(&format!(
            "Your kube context contains a server path {}, use --append-server-path to automatically append the path to each request",
            raw.base()
        ));
    }
    let socket = call.text("unix-socket");
    let filter = match call.is("disable-filter") {
        false => Some(Filter::of(call)?),
        true if socket.is_empty() => {
            out::tell(
                "Request filter disabled, your proxy is vulnerable to XSRF attacks, please be cautious",
            );
            None
        }
        true => None,
    };
    if call.text("port") != PORT && !socket.is_empty() {
        return failed("cannot set --unix-socket and --port at the same time");
    }
    let www = call.text("www");
    if !www.is_empty() {
        match rt::fs::metadata(www) {
            Err(_) => out::tell(&format!(
                "Failed to stat static file directory {www}: stat {www}: no such file or directory"
            )),
            Ok(meta) if !meta.is_dir() => {
                out::tell(&format!("Static file directory {www} is not a directory"));
            }
            Ok(_) => {}
        }
    }
    let service = Proxy {
        raw,
        headers,
        api_prefix: with_slash("api-prefix"),
        www: (!www.is_empty()).then(|| (www.to_owned(), with_slash("www-prefix"))),
        filter,
        is_path_appended,
    };
    rt::block_on(async {
        let (listener, shown) = match socket {
            "" => listen(call.text("address"), call.int("port")).await?,
            path => (listen_unix(path)?, path.to_owned()),
        };
        out::line(&format!("Starting to serve on {shown}"));
        let limits = Limits {
            // Whoever may connect is this machine's user, with many programs.
            shares_places: false,
            // The server has its own bound.
            body_max_bytes: u64::MAX,
            ..Limits::default()
        };
        serve(listener, None, Arc::new(service), limits).await.map_err(Failure::from)
    })
}

async fn listen(address: &str, port: i64) -> Outcome<(Listener, String)> {
    let Ok(number) = u16::try_from(port) else {
        return failed(format!("listen tcp: address {port}: invalid port"));
    };
    let ip: IpAddr = match address {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        "" => IpAddr::from([0u16; 8]),
        text => match text.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => ip,
            Err(_) => return failed(format!("listen tcp: lookup {text}: no such host")),
        },
    };
    let wanted = SocketAddr::new(ip, number);
    let listener = TcpListener::bind(wanted)
        .await
        .map_err(|error| format!("listen tcp {wanted}: {}", bind_error(&error)))?;
    let shown = listener.local_addr().unwrap_or(wanted).to_string();
    Ok((listener.into(), shown))
}

fn listen_unix(path: &str) -> Outcome<Listener> {
    use std::os::unix::fs::FileTypeExt;
    // What a run before left behind.
    if rt::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        rt::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)
        .map_err(|error| format!("listen unix {path}: {}", bind_error(&error)))?;
    rt::fs::set_mode(path, 0o700)?;
    Ok(listener.into())
}

impl Filter {
    fn of(call: &Call<'_>) -> Outcome<Filter> {
        Ok(Filter {
            accept_paths: patterns(call.text("accept-paths"))?,
            reject_paths: patterns(call.text("reject-paths"))?,
            accept_hosts: patterns(call.text("accept-hosts"))?,
            reject_methods: patterns(call.text("reject-methods"))?,
        })
    }

    fn accepts(&self, method: &str, path: &str, host: &str) -> bool {
        let fits = |patterns: &[Regex], text: &str| patterns.iter().any(|it| it.is_match(text));
        !fits(&self.reject_paths, path)
            && !fits(&self.reject_methods, method)
            && fits(&self.accept_paths, path)
            && fits(&self.accept_hosts, host)
    }
}

/// The exit code of a program of Go that cannot go on.
const FATAL: u8 = 255;

fn patterns(texts: &str) -> Outcome<Vec<Regex>> {
    let mut found = Vec::new();
    for text in texts.split(',') {
        match Regex::new(text) {
            Ok(regex) => found.push(regex),
            Err(why) => {
                out::tell(&format!("Error compiling re: error parsing regexp: {why}: `{text}`"));
                return Err(Failure::Exit(FATAL));
            }
        }
    }
    Ok(found)
}

/// The host of a `Host` field, as Go takes it apart.
fn host(authority: &str) -> &str {
    let Some((host, _)) = authority.rsplit_once(':') else { return authority };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner,
        None if host.contains([':', '[', ']']) => authority,
        None => host,
    }
}

impl Service for Proxy {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(self.answer(request))
    }
}

/// A path without `.`, `..` and double slashes; a slash at its end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let is_directory = path.ends_with('/') && !parts.is_empty();
    format!("/{}{}", parts.join("/"), if is_directory { "/" } else { "" })
}

/// A short answer of the proxy's own.
pub(super) fn plain(code: u16, text: impl std::fmt::Display) -> Response {
    Response::text(code, format!("{text}\n")).header("x-content-type-options", "nosniff")
}

/// A path as it stands in a link.
pub(super) fn link(path: &str) -> String {
    wire::percent::escape(path, |b| wire::percent::is_unreserved(b) || b"$&+,/:;=@".contains(&b))
}

fn moved(path: &str, query: &str) -> Response {
    let mark = if query.is_empty() { "" } else { "?" };
    let place = format!("{}{mark}{query}", link(path));
    let page = format!("<a href=\"{}\">Moved Permanently</a>.\n\n", place.replace('&', "&amp;"));
    let response = Response::new(301).header("content-type", "text/html; charset=utf-8");
    response.header("location", place).body(page)
}

impl Proxy {
    async fn answer(&self, request: Request) -> Response {
        let path = wire::percent::unescape(request.path(), false);
        if request.method != Method::Connect && clean(&path) != path {
            return moved(&clean(&path), request.query());
        }
        let slashed = format!("{path}/");
        let is_www = self.www.as_ref().is_some_and(|(_, prefix)| *prefix == slashed);
        if is_www || slashed == self.api_prefix {
            return moved(&slashed, request.query());
        }
        let www = self.www.as_ref().filter(|(_, prefix)| path.starts_with(prefix.as_str()));
        let is_api = path.starts_with(&self.api_prefix);
        match www {
            Some((directory, prefix)) if !is_api || prefix.len() > self.api_prefix.len() => {
                let (directory, name) = (directory.clone(), path[prefix.len()..].to_owned());
                rt::unblock(move || proxy_files::answer(&directory, &name)).await
            }
            _ if is_api => self.pass(request, &path).await,
            _ => plain(404, "404 page not found"),
        }
    }

    async fn pass(&self, mut request: Request, path: &str) -> Response {
        let (mut path, mut target) = (path.to_owned(), request.target.clone());
        if !self.api_prefix.starts_with("/api") {
            // Otherwise the prefix is the API's own.
            let Some(rest) = request.target.strip_prefix(&self.api_prefix) else {
                return plain(404, "404 page not found");
            };
            target = format!("/{rest}");
            path.replace_range(
                ..self.api_prefix.len(),
                if path == self.api_prefix { "" } else { "/" },
            );
        }
        let host = host(&request.authority);
        if self.filter.as_ref().is_some_and(|it| !it.accepts(request.method.as_str(), &path, host))
        {
            return plain(403, "Forbidden");
        }
        if self.is_path_appended {
            target.insert_str(0, self.raw.base());
        }
        request.target = target;
        request.authority.clear();
        self.introduce(&mut request);
        let (endpoint, request) = self.raw.addressed(request).await;
        let passed = match request.upgrade.is_some() {
            true => http::pass::upgrade(self.raw.http(), &endpoint, request).await,
            false => http::pass::send(self.raw.http(), &endpoint, request).await,
        };
        passed.unwrap_or_else(|error| {
            out::tell(&format!("Error while proxying request: {error}"));
            plain(500, error)
        })
    }

    /// Says who asks, where the request does not.
    fn introduce(&self, request: &mut Request) {
        let headers = &mut request.headers;
        if let Some(peer) = request.peer.address {
            let before = headers.get("x-forwarded-for").map(|own| format!("{own}, "));
            let whole = format!("{}{}", before.unwrap_or_default(), peer.ip());
            headers.set("x-forwarded-for", whole);
        }
        let impersonates = headers.contains("impersonate-user");
        let own = headers.clone();
        for (name, value) in &self.headers {
            let is_said = match name.starts_with("impersonate-") {
                true => impersonates,
                false => own.contains(name),
            };
            if !is_said {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on() {
        let all = |text: &str| patterns(text).unwrap();
        let filter = Filter {
            accept_paths: all("^.*"),
            reject_paths: all("^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"),
            accept_hosts: all(r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"),
            reject_methods: all("^PUT$"),
        };
        for (method, path, authority, is_passed) in [
            ("GET", "/api/v1/pods", "localhost:8001", true),
            ("GET", "/api/v1/pods", "127.0.0.1", true),
            ("GET", "/api/v1/pods", "[::1]", true),
            ("GET", "/api/v1/pods", "evil.example:8001", false),
            ("GET", "/api/v1/pods", "localhost.evil.example", false),
            ("PUT", "/api/v1/pods", "localhost", false),
            ("POST", "/api/v1/namespaces/a/pods/b/exec", "localhost", false),
            ("POST", "/api/v1/namespaces/a/pods/b/attach", "localhost", false),
            ("POST", "/api/v1/namespaces/a/pods/b/portforward", "localhost", true),
        ] {
            let passed = filter.accepts(method, path, host(authority));
            assert_eq!(passed, is_passed, "{method} {path} {authority}");
        }
    }

    #[test]
    fn paths_and_hosts() {
        for (path, want) in [
            ("/", "/"),
            ("", "/"),
            ("/a//b/../c/", "/a/c/"),
            ("/../../etc", "/etc"),
            ("/a/.", "/a"),
            ("//", "/"),
        ] {
            assert_eq!(clean(path), want, "{path}");
        }
        for (authority, want) in
            [("a:1", "a"), ("a", "a"), ("[::1]:1", "::1"), ("[::1]", "[::1]"), ("::1", "::1")]
        {
            assert_eq!(host(authority), want);
        }
    }
}
