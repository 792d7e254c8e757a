//! Middlewares at work: what they do to a request, and to its answer on the way back.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Headers, Method, Request, Response};
use routes::{BasicAuth, Buffering, Circuit, Cors, HeaderFields, Middleware, Password};
use stdx::time::Mono;

use crate::auth::{self, Door};
use crate::forward::plain;
use crate::passage::{Flight, Passage, query_of, set_target};
use crate::upstream::Transports;
use crate::{compress, filters, htpasswd, limit};

/// Sources that a rate limit tells apart, as Traefik.
const SOURCES_MAX: usize = 65_536;
/// A URL that regular expressions are tried on; a longer one matches none.
const URL_MAX_BYTES: usize = 4 << 10;

/// A middleware with what it remembers.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) name: String,
    pub(crate) middleware: Arc<Middleware>,
    /// Requests under way (`inFlightReq`), or all that ever came (mirrors).
    n_flying: Arc<AtomicUsize>,
    /// Tokens that each source has left, and when that was so (`rateLimit`).
    sources: Mutex<HashMap<IpAddr, (f64, Mono)>>,
    /// Who is asked (`forwardAuth`).
    door: OnceLock<Option<Door>>,
    /// How it stands with endpoints (`circuitBreaker`), and since when that is looked at.
    circuit: Mutex<Option<Box<Circuit>>>,
    began: Mono,
}

impl Guard {
    pub(crate) fn new(name: &str, middleware: &Arc<Middleware>) -> Guard {
        Guard {
            name: name.to_owned(),
            middleware: Arc::clone(middleware),
            n_flying: Arc::default(),
            sources: Mutex::default(),
            door: OnceLock::new(),
            circuit: Mutex::default(),
            began: rt::now().mono,
        }
    }

    /// As `before`, where that takes time.
    pub(crate) async fn ask(
        &self,
        request: &mut Request,
        passage: &mut Passage,
        transports: &Transports,
    ) -> Option<Response> {
        let Middleware::ForwardAuth(auth) = &*self.middleware else {
            return self.before(request, passage);
        };
        let make = || Door::new(auth, transports).inspect_err(|error| log::warn!("{error}")).ok();
        match self.door.get_or_init(make) {
            Some(door) => auth::ask(auth, door, request, passage).await,
            None => Some(plain(500, "Internal Server Error")),
        }
    }

    /// Changes a request; or answers it, and then it goes no further.
    pub(crate) fn before(&self, request: &mut Request, passage: &mut Passage) -> Option<Response> {
        match &*self.middleware {
            Middleware::AddPrefix(prefix) => {
                let path = [prefix.as_str(), &request.target].concat();
                set_target(request, path);
            }
            Middleware::StripPrefix(prefixes) => {
                let path = request.path();
                let found = prefixes.iter().find(|prefix| path.starts_with(prefix.as_str()))?;
                strip(request, passage, found.len());
            }
            Middleware::StripPrefixRegex(patterns) => {
                let path = bounded(request.path())?;
                // As Traefik: where the expression begins in the path says nothing but at its start.
                let ends = patterns.iter().filter_map(|regex| regex.find(path));
                let end =
                    ends.filter(|found| found.start() == 0).map(|found| found.end()).next()?;
                strip(request, passage, end);
            }
            Middleware::ReplacePath(path) => {
                passage.fields.push(("x-replaced-path".into(), request.path().to_owned()));
                let query = query_of(&request.target).to_owned();
                set_target(request, path.clone() + &query);
            }
            Middleware::ReplacePathRegex { regex, replacement } => {
                let path = bounded(request.path())?;
                let replaced = regex.replace_all(path, replacement.as_str());
                if let Cow::Owned(replaced) = replaced {
                    passage.fields.push(("x-replaced-path".into(), path.to_owned()));
                    let query = query_of(&request.target).to_owned();
                    set_target(request, replaced + &query);
                }
            }
            Middleware::RedirectScheme { scheme, port, permanent } => {
                if (scheme == "https") == passage.secure {
                    return None;
                }
                let own = if scheme == "https" { "443" } else { "80" };
                let port = Some(port.as_str()).filter(|port| !port.is_empty() && *port != own);
                let port = port.map_or(String::new(), |port| format!(":{port}"));
                let host = http::client::authority(&passage.host, None);
                let url = format!("{scheme}://{host}{port}{}", request.target);
                return Some(redirect(request, *permanent, &url));
            }
            Middleware::RedirectRegex { regex, replacement, permanent } => {
                let scheme = if passage.secure { "https" } else { "http" };
                let url = format!("{scheme}://{}{}", request.authority, request.target);
                let replaced = regex.replace_all(bounded(&url)?, replacement.as_str());
                if replaced != url {
                    return Some(redirect(request, *permanent, &replaced));
                }
            }
            Middleware::Headers(fields) => return headers_before(fields, request, passage),
            Middleware::BasicAuth(auth) => return authenticate(auth, request, passage),
            Middleware::IpAllowList { blocks, depth, status } => {
                let source = passage.source(request, *depth);
                let allowed =
                    source.is_some_and(|ip| blocks.iter().any(|block| block.contains(ip)));
                return (!allowed).then(|| plain(*status, wire::http1::reason(*status)));
            }
            Middleware::InFlightReq { amount } => {
                let (flight, n_flying) = Flight::begin(&self.n_flying);
                if n_flying > *amount {
                    return Some(plain(429, "Too Many Requests"));
                }
                passage.flights.push(flight);
            }
            Middleware::RateLimit { average, period_ms, burst, depth } => {
                if *average == 0 {
                    return None;
                }
                let source = passage.source(request, *depth).or(passage.peer)?;
                let rate = f64::from(*average) / Duration::from_millis(*period_ms).as_secs_f64();
                let wait = self.take(source, rate, f64::from(*burst))?;
                let seconds = wait.as_secs_f64().ceil();
                return Some(
                    plain(429, "Too Many Requests")
                        .header("retry-after", seconds.to_string())
                        .header("x-retry-in", format!("{}ms", wait.as_millis())),
                );
            }
            Middleware::ModifyRequest(modify) => filters::modify(modify, request, passage),
            Middleware::Redirect(to) => return Some(filters::redirect(to, request, passage)),
            Middleware::Rewrite(rewrite) => filters::rewrite(rewrite, request, passage),
            Middleware::Mirror { service, numerator, denominator } => {
                let turn = self.n_flying.fetch_add(1, Ordering::Relaxed) as u64;
                let due = |turn: u64| {
                    turn.wrapping_mul(u64::from(*numerator)) / u64::from(*denominator).max(1)
                };
                if due(turn.wrapping_add(1)) > due(turn) {
                    passage.mirrors.push(*service);
                }
            }
            Middleware::CircuitBreaker(breaker) => {
                let now = rt::now().mono;
                passage.begun.get_or_insert(now);
                if !self.circuit(|circuit, now_ms| circuit.passes(breaker, now_ms)) {
                    return Some(plain(breaker.status, wire::http1::reason(breaker.status)));
                }
            }
            Middleware::Retry(retry) => passage.retry = Some(*retry),
            Middleware::Compress(_) => passage.gzip = compress::takes_gzip(request),
            Middleware::Buffering(Buffering { request_max_bytes: max @ 1.., .. }) => {
                if request.body.length().is_some_and(|length| length > *max) {
                    return Some(plain(413, wire::http1::reason(413)));
                }
                if request.body.length().is_none() {
                    let body = std::mem::take(&mut request.body);
                    request.body = limit::limited(body, *max, &passage.too_large);
                }
            }
            // Those that only change answers, and those that were taken apart or are asked elsewhere.
            Middleware::Buffering(_)
            | Middleware::ModifyResponse(_)
            | Middleware::Errors(_)
            | Middleware::ForwardAuth(_)
            | Middleware::Chain(_) => {}
        }
        None
    }

    /// Changes an answer.
    pub(crate) fn after(&self, passage: &Passage, response: &mut Response) {
        let fields = match &*self.middleware {
            Middleware::Headers(fields) => fields,
            Middleware::CircuitBreaker(breaker) => {
                let took = passage.begun.map(|begun| rt::now().mono.since(begun));
                let took_ms = took.unwrap_or_default().as_secs_f64() * 1000.0;
                let code = response.status;
                return self.circuit(|circuit, now_ms| {
                    circuit.answered(breaker, code, took_ms, now_ms);
                });
            }
            Middleware::Compress(own) if passage.gzip => {
                return compress::compress(own, response, &self.n_flying);
            }
            Middleware::Buffering(Buffering { response_max_bytes: max @ 1.., .. }) => {
                if response.body.length().is_some_and(|length| length > *max) {
                    *response = plain(500, "Internal Server Error");
                } else if response.body.length().is_none() {
                    let body = std::mem::take(&mut response.body);
                    response.body = limit::limited(body, *max, &Arc::default());
                }
                return;
            }
            Middleware::ModifyResponse(modify) => {
                return filters::modify_response(modify, &mut response.headers);
            }
            _ => return,
        };
        for (name, value) in &fields.response {
            match value.is_empty() {
                true => response.headers.remove(name),
                false => response.headers.set(name, value),
            }
        }
        if let Some((value, forced)) = &fields.hsts
            && (*forced || passage.secure)
        {
            response.headers.set("strict-transport-security", value);
        }
        if let Some(cors) = &fields.cors {
            cors_fields(cors, passage.origin.as_deref(), &mut response.headers);
            if !cors.expose.is_empty() {
                response.headers.set("access-control-expose-headers", &cors.expose);
            }
        }
    }

    /// Does something with the circuit, and the milliseconds since it is looked at.
    fn circuit<T>(&self, act: impl FnOnce(&mut Circuit, u64) -> T) -> T {
        let now_ms = rt::now().mono.since(self.began).as_millis();
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        act(circuit.get_or_insert_default(), u64::try_from(now_ms).unwrap_or(u64::MAX))
    }

    /// Takes a token of a source; or how long it is until there is one.
    fn take(&self, source: IpAddr, rate: f64, burst: f64) -> Option<Duration> {
        let now = rt::now().mono;
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let left =
            |(tokens, at): (f64, Mono)| (tokens + now.since(at).as_secs_f64() * rate).min(burst);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            // Those that have all their tokens again are as if they had never been here.
            sources.retain(|_, held| left(*held) < burst);
            if sources.len() >= SOURCES_MAX {
                sources.clear();
            }
        }
        let tokens = sources.get(&source).map_or(burst, |held| left(*held));
        if tokens >= 1.0 {
            sources.insert(source, (tokens - 1.0, now));
            return None;
        }
        sources.insert(source, (tokens, now));
        Some(Duration::from_secs_f64(((1.0 - tokens) / rate).min(1e9)))
    }
}

fn bounded(text: &str) -> Option<&str> {
    (text.len() <= URL_MAX_BYTES).then_some(text)
}

fn strip(request: &mut Request, passage: &mut Passage, length: usize) {
    let (prefix, rest) = request.target.split_at(length);
    let prefix = prefix.trim_end_matches('/').to_owned();
    let rest = rest.to_owned();
    passage.fields.push(("x-forwarded-prefix".into(), prefix));
    set_target(request, rest);
}

fn redirect(request: &Request, permanent: bool, url: &str) -> Response {
    let code = match (permanent, request.method == Method::Get) {
        (true, true) => 301,
        (true, false) => 308,
        (false, true) => 302,
        (false, false) => 307,
    };
    plain(code, wire::http1::reason(code)).header("location", url)
}

fn headers_before(
    fields: &HeaderFields,
    request: &mut Request,
    passage: &mut Passage,
) -> Option<Response> {
    if !fields.allowed_hosts.is_empty() && !fields.allowed_hosts.contains(&passage.host) {
        return Some(plain(500, "Internal Server Error"));
    }
    if let Some(cors) = &fields.cors
        && request.method == Method::Options
        && request.headers.contains("access-control-request-method")
    {
        let mut response = Response::new(200);
        cors_fields(cors, passage.origin.as_deref(), &mut response.headers);
        for (name, value) in [
            ("access-control-allow-headers", &cors.headers),
            ("access-control-allow-methods", &cors.methods),
        ] {
            if !value.is_empty() {
                response.headers.set(name, value);
            }
        }
        if let Some(seconds) = cors.max_age {
            response.headers.set("access-control-max-age", seconds.to_string());
        }
        return Some(response);
    }
    passage.fields.extend(fields.request.iter().cloned());
    None
}

fn cors_fields(cors: &Cors, origin: Option<&str>, headers: &mut Headers) {
    let any = cors.origins.iter().any(|known| known == "*");
    let known = |origin: &str| {
        cors.origins.iter().any(|known| known == origin)
            || bounded(origin)
                .is_some_and(|text| cors.origin_patterns.iter().any(|regex| regex.is_match(text)))
    };
    if any {
        headers.set("access-control-allow-origin", "*");
    } else if let Some(origin) = origin.filter(|origin| known(origin)) {
        headers.set("access-control-allow-origin", origin);
    }
    if cors.credentials {
        headers.set("access-control-allow-credentials", "true");
    }
    if cors.vary {
        headers.append("vary", "Origin");
    }
}

fn authenticate(
    auth: &BasicAuth,
    request: &mut Request,
    passage: &mut Passage,
) -> Option<Response> {
    let given = request.headers.get("authorization").and_then(|value| {
        let (scheme, text) = value.split_once(' ')?;
        let text =
            wire::base64::decode(text.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let text = String::from_utf8(text).ok()?;
        let (name, password) = text.split_once(':')?;
        Some((name.to_owned(), password.to_owned()))
    });
    let name = given
        .filter(|(_, password)| password.len() <= htpasswd::PASSWORD_MAX_BYTES)
        .and_then(|(name, password)| {
            let known = auth.users.iter().find(|(known, _)| *known == name);
            known.filter(|(_, expected)| is_password(expected, &password)).map(|(name, _)| name)
        });
    let Some(name) = name else {
        let realm = format!("Basic realm=\"{}\"", auth.realm);
        return Some(plain(401, "401 Unauthorized\n").header("www-authenticate", realm));
    };
    if auth.remove_header {
        request.headers.remove("authorization");
    }
    if !auth.header_field.is_empty() {
        passage.fields.push((auth.header_field.to_ascii_lowercase(), name.clone()));
    }
    None
}

fn is_password(expected: &Password, password: &str) -> bool {
    // Digests are compared, so that how long it takes says nothing of the text.
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let same = |one: &str, other: &str| digest(one).as_ref() == digest(other).as_ref();
    match expected {
        Password::Plain(expected) => same(expected, password),
        Password::Sha1(expected) => {
            let sha1 =
                ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
            same(expected, &wire::base64::encode(sha1.as_ref()))
        }
        Password::Md5(expected) => htpasswd::is_crypt(expected, password),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routes::Cidr;

    fn guard(middleware: Middleware) -> Guard {
        Guard::new("m", &Arc::new(middleware))
    }

    fn request(target: &str) -> (Request, Passage) {
        let mut request = Request::get(target);
        request.authority = "x.test".into();
        request.peer.address = "192.0.2.1:9".parse().ok();
        let passage = Passage::new(&request, "x.test", false);
        (request, passage)
    }

    #[track_caller]
    fn changed(middleware: Middleware, target: &str) -> String {
        let (mut request, mut passage) = request(target);
        assert!(guard(middleware).before(&mut request, &mut passage).is_none());
        request.target
    }

    #[test]
    fn paths_change_and_stay_paths() {
        let strip = |prefix: &str| Middleware::StripPrefix(vec![prefix.into()]);
        assert_eq!(changed(strip("/api"), "/api/v1?q=/api"), "/v1?q=/api");
        assert_eq!(changed(strip("/api"), "/api"), "/");
        assert_eq!(changed(strip("/api/"), "/api/x"), "/x");
        assert_eq!(changed(strip("/a"), "/a../b"), "/b", "nothing climbs out");
        assert_eq!(changed(strip("/other"), "/api"), "/api");
        assert_eq!(changed(Middleware::AddPrefix("/p".into()), "/x?y"), "/p/x?y");
        assert_eq!(changed(Middleware::ReplacePath("/p".into()), "/x?y"), "/p?y");
    }

    #[test]
    fn limits_hold_by_source_and_while_requests_fly() {
        let limit =
            guard(Middleware::RateLimit { average: 1, period_ms: 3_600_000, burst: 2, depth: 0 });
        let codes = || {
            let (mut request, mut passage) = request("/");
            limit.before(&mut request, &mut passage).map(|response| response.status)
        };
        assert_eq!([codes(), codes(), codes()], [None, None, Some(429)]);
        let flying = guard(Middleware::InFlightReq { amount: 1 });
        let (mut first, mut held) = request("/");
        assert!(flying.before(&mut first, &mut held).is_none());
        let (mut second, mut passage) = request("/");
        assert_eq!(flying.before(&mut second, &mut passage).unwrap().status, 429);
        drop(held);
        assert!(flying.before(&mut second, &mut passage).is_none());
    }

    #[test]
    fn who_may_and_who_may_not() {
        let allow = |block: &str, depth| {
            let blocks = vec![block.parse::<Cidr>().unwrap()];
            let (mut request, mut passage) = request("/");
            request.headers.append("x-forwarded-for", "10.1.1.1");
            let list = guard(Middleware::IpAllowList { blocks, depth, status: 403 });
            list.before(&mut request, &mut passage).is_none()
        };
        assert!(allow("192.0.2.0/24", 0) && !allow("10.0.0.0/8", 0));
        assert!(!allow("10.0.0.0/8", 1), "nobody is believed who is not trusted");
    }

    #[test]
    fn schemes_are_redirected_once() {
        let to = || Middleware::RedirectScheme {
            scheme: "https".into(),
            port: String::new(),
            permanent: true,
        };
        let (mut plain, mut passage) = request("/a?b");
        let answer = guard(to()).before(&mut plain, &mut passage).unwrap();
        assert_eq!(
            (answer.status, answer.headers.get("location")),
            (301, Some("https://x.test/a?b"))
        );
        passage.secure = true;
        assert!(guard(to()).before(&mut plain, &mut passage).is_none());
    }
}
