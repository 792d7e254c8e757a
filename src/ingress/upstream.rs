//! A service as it is reached: its endpoints, the connections to them, and who gets the next request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Headers;
use http::client::{Client, Endpoint, Options, Protocol};
use http::tls::{self, ClientConfig, Trust};
use routes::{Scheme, Service, Sticky, Transport};
use stdx::Result;

use crate::figures::Traffic;

/// As Traefik's transport has them, but for the number of unused connections, which are also bounded together.
const CONNECT_MAX: Duration = Duration::from_secs(30);
const IDLE_MAX: Duration = Duration::from_secs(90);
const IDLE_PER_ENDPOINT_MAX: usize = 64;
const IDLE_PER_SERVICE_MAX: usize = 256;

/// How endpoints are spoken to over TLS.
#[derive(Debug)]
pub(crate) struct Transports {
    default: Arc<ClientConfig>,
    /// Those that objects ask for; equal ones are one, so that their connections are shared.
    others: Mutex<Vec<(Transport, Arc<ClientConfig>)>>,
}

/// Of these, the ones used last are kept.
const TRANSPORTS_MAX: usize = 256;

impl Transports {
    pub(crate) fn new() -> Result<Transports> {
        let default = tls::client_config(Trust::Roots(tls::public_roots()), None)?;
        Ok(Transports { default, others: Mutex::default() })
    }

    pub(crate) fn find(&self, wanted: Option<&Transport>) -> Arc<ClientConfig> {
        let Some(wanted) = wanted else { return Arc::clone(&self.default) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = others.iter().find(|(known, _)| known == wanted) {
            return Arc::clone(config);
        }
        let trust = match (wanted.insecure, wanted.roots.is_empty()) {
            (true, _) => Ok(Trust::Insecure),
            (false, true) => Ok(Trust::Roots(tls::public_roots())),
            (false, false) => tls::listed(&wanted.roots),
        };
        let config = match trust.and_then(|trust| tls::client_config(trust, None)) {
            Ok(config) => config,
            Err(error) => {
                // Nothing is believed that was not asked for: the public authorities are.
                log::warn!("a ServersTransport cannot be used: {error}");
                return Arc::clone(&self.default);
            }
        };
        if others.len() >= TRANSPORTS_MAX {
            others.remove(0);
        }
        others.push((wanted.clone(), Arc::clone(&config)));
        config
    }
}

/// One service.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) service: Service,
    pub(crate) traffic: Arc<Traffic>,
    /// The cookie that binds to an endpoint.
    cookie: String,
    servers: Vec<Server>,
    /// The first of them take new clients.
    n_ready: usize,
    next: AtomicUsize,
    client: Client,
}

/// One endpoint of a service.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    /// `http://10.42.0.7:80`, for logs.
    pub(crate) url: String,
    /// What a cookie calls it.
    id: String,
}

impl Upstream {
    /// The service with what `old`, the same service before, has: its connections and whose turn it is.
    pub(crate) fn new(
        service: &Service,
        old: Option<&Upstream>,
        transports: &Transports,
        traffic: Arc<Traffic>,
    ) -> Upstream {
        let config = transports.find(service.transport.as_ref());
        let servers: Vec<Server> = service
            .endpoints
            .iter()
            .map(|place| {
                let endpoint = Endpoint::tcp(place.host.as_str(), place.port);
                let (scheme, endpoint) = match service.scheme {
                    Scheme::Http => ("http", endpoint.protocol(Protocol::Http1)),
                    Scheme::H2c => ("h2c", endpoint.protocol(Protocol::Http2)),
                    Scheme::Https => ("https", endpoint.tls(Arc::clone(&config))),
                };
                let endpoint = match service.transport.as_ref().map_or("", |own| &own.server_name) {
                    "" => endpoint,
                    name => endpoint.server_name(name),
                };
                let url = format!("{scheme}://{}", endpoint_text(&place.host, place.port));
                let id = digest(&ring::digest::SHA256, url.as_bytes(), 16);
                Server { endpoint, url, id }
            })
            .collect();
        let cookie = match service.sticky.as_ref().map_or("", |sticky| &sticky.name) {
            "" => {
                let text = format!("_TRAEFIK_BACKEND_{}", service.name);
                let sha1 = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
                format!("_{}", digest(sha1, text.as_bytes(), 5))
            }
            name => name.to_owned(),
        };
        let options = Options {
            connect_max: CONNECT_MAX,
            idle_max: IDLE_MAX,
            idle_per_endpoint_max: IDLE_PER_ENDPOINT_MAX,
            kept_max: IDLE_PER_SERVICE_MAX,
            ..Options::default()
        };
        Upstream {
            n_ready: service.endpoints.iter().filter(|place| place.ready).count(),
            service: service.clone(),
            traffic,
            cookie,
            servers,
            next: AtomicUsize::new(old.map_or(0, |old| old.next.load(Ordering::Relaxed))),
            client: old.map_or_else(|| Client::new(options), |old| old.client.clone()),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The endpoint of a request: the one that its client is bound to, else the next one. The cookie to set,
    /// if the client is bound from now on. `None` if there is no endpoint.
    pub(crate) fn choose(&self, headers: &Headers) -> Option<(&Server, Option<String>)> {
        let Some(sticky) = &self.service.sticky else { return Some((self.next()?, None)) };
        let bound = cookie(headers, &self.cookie)
            .and_then(|id| self.servers.iter().find(|server| server.id == id));
        if let Some(server) = bound {
            return Some((server, None));
        }
        let server = self.next()?;
        Some((server, Some(set_cookie(&self.cookie, &server.id, sticky))))
    }

    /// The next in turn.
    pub(crate) fn next(&self) -> Option<&Server> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.servers.get(turn.checked_rem(self.n_ready)?)
    }

    /// How many take new clients.
    pub(crate) fn n_ready(&self) -> usize {
        self.n_ready
    }
}

fn endpoint_text(host: &str, port: u16) -> String {
    http::client::authority(host, Some(port))
}

/// The first digits of a digest.
fn digest(algorithm: &'static ring::digest::Algorithm, bytes: &[u8], digits: usize) -> String {
    let digest = ring::digest::digest(algorithm, bytes);
    wire::hex::encode(digest.as_ref())[..digits].to_owned()
}

/// The value of a cookie that a client sent.
fn cookie<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.get_all("cookie").flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

fn set_cookie(name: &str, value: &str, sticky: &Sticky) -> String {
    let mut text = format!("{name}={value}");
    let mut add = |part: &str, value: &str| {
        text.push_str("; ");
        text.push_str(part);
        text.push_str(value);
    };
    if !sticky.path.is_empty() {
        add("Path=", &sticky.path);
    }
    if !sticky.domain.is_empty() {
        add("Domain=", &sticky.domain);
    }
    match sticky.max_age {
        0 => {}
        age => add("Max-Age=", &age.max(0).to_string()),
    }
    if sticky.http_only {
        add("HttpOnly", "");
    }
    if sticky.secure {
        add("Secure", "");
    }
    match sticky.same_site.as_str() {
        "none" => add("SameSite=", "None"),
        "lax" => add("SameSite=", "Lax"),
        "strict" => add("SameSite=", "Strict"),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(
        endpoints: &[(&str, bool)],
        sticky: Option<Sticky>,
        old: Option<&Upstream>,
    ) -> Upstream {
        let endpoints = endpoints.iter().map(|(host, ready)| routes::Endpoint {
            host: (*host).into(),
            port: 80,
            ready: *ready,
        });
        let service = Service {
            name: "default-web-80".into(),
            scheme: Scheme::Http,
            pass_host: true,
            sticky,
            transport: None,
            endpoints: endpoints.collect(),
        };
        Upstream::new(&service, old, &Transports::new().unwrap(), Arc::default())
    }

    #[test]
    fn requests_take_turns_among_those_that_are_ready() {
        let one = upstream(&[("a", true), ("b", true), ("c", false)], None, None);
        let none = Headers::new();
        let urls = |upstream: &Upstream, n: usize| -> Vec<String> {
            (0..n).map(|_| upstream.choose(&none).unwrap().0.url.clone()).collect()
        };
        assert_eq!(urls(&one, 3), ["http://a:80", "http://b:80", "http://a:80"]);
        // It goes on where the one before it was.
        let two = upstream(&[("a", true), ("b", true)], None, Some(&one));
        assert_eq!(urls(&two, 2), ["http://b:80", "http://a:80"]);
        assert!(upstream(&[], None, None).choose(&none).is_none());
    }

    #[test]
    fn a_cookie_binds_also_to_one_that_ends() {
        let sticky = Sticky {
            path: "/".into(),
            http_only: true,
            same_site: "lax".into(),
            max_age: 60,
            ..Sticky::default()
        };
        let both = upstream(&[("a", true), ("b", true)], Some(sticky.clone()), None);
        let (server, cookie) = both.choose(&Headers::new()).unwrap();
        let (cookie, url) = (cookie.unwrap(), server.url.clone());
        assert!(cookie.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"), "{cookie}");
        let sent = format!("x=y; {}", cookie.split(';').next().unwrap());
        let headers = Headers::new().with("cookie", sent);
        let ending = upstream(&[("b", true), ("a", false)], Some(sticky.clone()), None);
        for upstream in [&both, &both, &ending] {
            let (server, cookie) = upstream.choose(&headers).unwrap();
            assert_eq!((&server.url, cookie), (&url, None));
        }
        let gone = upstream(&[("b", true)], Some(sticky), None);
        assert!(gone.choose(&headers).unwrap().1.is_some());
    }
}
