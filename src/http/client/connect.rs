//! Reaching a server: TCP, unix socket or a caller's own dialer, through a proxy if one is set, then TLS.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rt::BoxFuture;
use rt::future::poll_fn;
use stdx::{Context, Error, Result};
use wire::base64;
use wire::headers::Headers;
use wire::http1 as codec;

use super::url::{Url, authority, split_host_port};
use crate::io::{Io, Prefixed, poll_drain, poll_fill};

/// How a byte stream to a host is opened in place of TCP; the tunnel to an agent is one.
pub trait Dial: Send + Sync {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Io>>;
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or address, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Which version of HTTP to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What TLS negotiates; HTTP/1.1 without TLS.
    #[default]
    Auto,
    Http1,
    /// Without TLS: with prior knowledge.
    Http2,
}

/// A server and how to speak to it. Requests to equal endpoints share connections; two endpoints
/// are equal only if they share the very same TLS configuration, so identities never mix.
#[derive(Clone)]
pub struct Endpoint {
    pub address: Address,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name in the server's certificate, if it is not the host.
    pub server_name: Option<String>,
    pub protocol: Protocol,
    pub proxy: Option<Arc<Proxy>>,
    pub dialer: Option<Arc<dyn Dial>>,
    /// A stranger named it, in a redirect say: this machine and its own links are not connected to.
    pub far_only: bool,
}

impl Endpoint {
    pub fn tcp(host: impl Into<String>, port: u16) -> Endpoint {
        Endpoint {
            address: Address::Tcp(host.into(), port),
            tls: None,
            server_name: None,
            protocol: Protocol::Auto,
            proxy: None,
            dialer: None,
            far_only: false,
        }
    }

    pub fn unix(path: impl Into<PathBuf>) -> Endpoint {
        Endpoint { address: Address::Unix(path.into()), ..Endpoint::tcp("", 0) }
    }

    /// The endpoint of a URL. An `https` one needs `tls`, an `http` one ignores it.
    pub fn url(url: &Url, tls: &Arc<rustls::ClientConfig>) -> Endpoint {
        let endpoint = Endpoint::tcp(&*url.host, url.port);
        if url.is_tls() { endpoint.tls(Arc::clone(tls)) } else { endpoint }
    }

    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Endpoint {
        self.tls = Some(config);
        self
    }

    pub fn server_name(mut self, name: impl Into<String>) -> Endpoint {
        self.server_name = Some(name.into());
        self
    }

    pub fn protocol(mut self, protocol: Protocol) -> Endpoint {
        self.protocol = protocol;
        self
    }

    pub fn proxy(mut self, proxy: Arc<Proxy>) -> Endpoint {
        self.proxy = Some(proxy);
        self
    }

    pub fn far_only(mut self) -> Endpoint {
        self.far_only = true;
        self
    }

    pub fn dialer(mut self, dialer: Arc<dyn Dial>) -> Endpoint {
        self.dialer = Some(dialer);
        self
    }

    /// What goes into `Host` and `:authority`.
    pub fn authority(&self) -> String {
        match &self.address {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Tcp(host, port) => {
                let own_port = if self.tls.is_some() { 443 } else { 80 };
                authority(host, (*port != own_port).then_some(*port))
            }
        }
    }

    /// Whether a connection may turn out to be HTTP/2.
    pub(super) fn may_be_http2(&self) -> bool {
        match self.protocol {
            Protocol::Auto => self.tls.is_some(),
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        }
    }

    /// Whether both may use one connection.
    pub(super) fn is_same(&self, other: &Endpoint) -> bool {
        fn same_arc<T: ?Sized>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
            match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
        }
        self.address == other.address
            && self.protocol == other.protocol
            && self.server_name == other.server_name
            && self.far_only == other.far_only
            && same_arc(&self.tls, &other.tls)
            && same_arc(&self.dialer, &other.dialer)
            && same_arc(&self.proxy, &other.proxy)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(host, port) => f.write_str(&authority(host, Some(*port))),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self}, tls {}, {:?})", self.tls.is_some(), self.protocol)
    }
}

/// A connection and the protocol to speak on it.
pub(super) struct Connected {
    pub(super) io: Io,
    pub(super) is_http2: bool,
}

/// Connects, in at most `connect_max` altogether. `http1_only` keeps TLS from choosing HTTP/2.
pub(super) async fn connect(
    endpoint: &Endpoint,
    http1_only: bool,
    connect_max: Duration,
) -> Result<Connected> {
    let what = || format!("connect to {endpoint}");
    rt::timeout(connect_max, open(endpoint, http1_only)).await.context(what)?.context(what)
}

async fn open(endpoint: &Endpoint, http1_only: bool) -> Result<Connected> {
    let raw = open_raw(endpoint).await?;
    let Some(config) = &endpoint.tls else {
        let is_http2 = endpoint.protocol == Protocol::Http2 && !http1_only;
        return Ok(Connected { io: raw, is_http2 });
    };
    let name = match (&endpoint.server_name, &endpoint.address) {
        (Some(name), _) => name.as_str(),
        (None, Address::Tcp(host, _)) => host,
        (None, Address::Unix(_)) => "localhost",
    };
    let wanted: &[&[u8]] = match endpoint.protocol {
        _ if http1_only => &[b"http/1.1"],
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[b"h2"],
        Protocol::Auto => &[b"h2", b"http/1.1"],
    };
    let (io, chosen) = crate::tls::begin(raw, config, name, wanted).await?;
    let is_http2 = match chosen {
        Some(protocol) => protocol == b"h2",
        None => endpoint.protocol == Protocol::Http2 && !http1_only,
    };
    Ok(Connected { io, is_http2 })
}

async fn open_raw(endpoint: &Endpoint) -> Result<Io> {
    let (host, port) = match &endpoint.address {
        Address::Unix(path) => {
            let stream = rt::net::UnixStream::connect(path).await.context(|| "open socket")?;
            return Ok(Box::new(stream));
        }
        Address::Tcp(host, port) => (host, *port),
    };
    if let Some(dialer) = &endpoint.dialer {
        return dialer.dial(host, port).await;
    }
    let proxy = endpoint.proxy.as_ref();
    match proxy.and_then(|proxy| proxy.choose(endpoint.tls.is_some(), host, port)) {
        // The proxy looks names up itself; what is an address already can be judged here.
        Some(_) if endpoint.far_only && is_near(host) => {
            let text = "its address is loopback, link-local, unspecified or multicast";
            Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text))
                .context(|| "open TCP connection")
        }
        Some(proxy) => connect_through(proxy, host, port).await,
        None if endpoint.far_only => {
            let stream = crate::names::connect_far(host, port).await;
            tuned(stream.context(|| "open TCP connection")?)
        }
        None => open_tcp(host, port).await,
    }
}

fn is_near(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse().is_ok_and(|ip| !rt::net::is_far(ip))
}

async fn open_tcp(host: &str, port: u16) -> Result<Io> {
    tuned(crate::names::connect(host, port).await.context(|| "open TCP connection")?)
}

fn tuned(stream: rt::net::TcpStream) -> Result<Io> {
    rt::net::tune(&stream).context(|| "open TCP connection")?;
    Ok(Box::new(stream))
}

/// Which proxies to use for what, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    http: Option<Url>,
    https: Option<Url>,
    exempt: Vec<String>,
}

impl Proxy {
    /// From the values of the three variables; an empty one is an unset one.
    pub fn new(http: &str, https: &str, exempt: &str) -> Result<Proxy> {
        let parse = |text: &str| match text {
            "" => Ok(None),
            text if text.contains("://") => Url::parse(text).map(Some),
            text => Url::parse(&format!("http://{text}")).map(Some),
        };
        let exempt = exempt
            .split([',', ' '])
            .map(|item| item.trim().to_ascii_lowercase())
            .filter(|item| !item.is_empty())
            .collect();
        let proxy = Proxy { http: parse(http)?, https: parse(https)?, exempt };
        let over_tls = [&proxy.http, &proxy.https].into_iter().flatten().any(Url::is_tls);
        match over_tls {
            true => Err(Error::new("a proxy that is itself reached over TLS is not supported")),
            false => Ok(proxy),
        }
    }

    fn choose(&self, is_tls: bool, host: &str, port: u16) -> Option<&Url> {
        let proxy = if is_tls { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !self.is_exempt(&host.to_ascii_lowercase(), port))
    }

    fn is_exempt(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<std::net::IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.exempt.iter().any(|item| {
            if item == "*" {
                return true;
            }
            if let (Some((network, prefix)), Some(address)) = (item.split_once('/'), address) {
                let network = network.parse().ok();
                let prefix = prefix.parse::<u32>().ok();
                return network.zip(prefix).is_some_and(|(n, p)| is_within(address, n, p));
            }
            let (name, item_port) = match item.parse::<std::net::IpAddr>() {
                Ok(_) => (item.clone(), 0),
                Err(_) => split_host_port(item, 0).unwrap_or_else(|| (item.clone(), 0)),
            };
            if item_port != 0 && item_port != port {
                return false;
            }
            // `.a.b` and `*.a.b` are what lies below `a.b`; `a.b` is that and itself.
            let below = name.strip_prefix('*').unwrap_or(&name);
            match below.strip_prefix('.') {
                Some(_) => host.ends_with(below),
                None => host == below || host.strip_suffix(below).is_some_and(|h| h.ends_with('.')),
            }
        })
    }
}

fn is_within(address: std::net::IpAddr, network: std::net::IpAddr, prefix: u32) -> bool {
    use std::net::IpAddr::{V4, V6};
    match (address, network) {
        (V4(a), V4(n)) => prefix <= 32 && (a.to_bits() ^ n.to_bits()).leading_zeros() >= prefix,
        (V6(a), V6(n)) => prefix <= 128 && (a.to_bits() ^ n.to_bits()).leading_zeros() >= prefix,
        _ => false,
    }
}

async fn connect_through(proxy: &Url, host: &str, port: u16) -> Result<Io> {
    let what = || format!("connect through proxy {}", proxy.authority());
    let mut io = open_tcp(&proxy.host, proxy.port).await.context(what)?;
    let target = authority(host, Some(port));
    let mut headers = Headers::new().with("host", &target);
    if let Some(userinfo) = &proxy.userinfo {
        let credentials = base64::encode(userinfo.as_bytes());
        headers.append("proxy-authorization", format!("Basic {credentials}"));
    }
    let (mut out, mut sent, mut input) = (Vec::new(), 0, Vec::new());
    codec::emit_request(&mut out, "CONNECT", &target, &headers);
    poll_fn(|cx| poll_drain(&mut io, &out, &mut sent, cx)).await.context(what)?;
    loop {
        if let Some((head, length)) = codec::parse_response(&input).context(what)? {
            if !(200..300).contains(&head.status) {
                return Err(Error::new(format!("the proxy answered {}", head.status)))
                    .context(what);
            }
            input.drain(..length);
            return Ok(Box::new(Prefixed { prefix: input, io, _guard: () }));
        }
        let n = poll_fn(|cx| poll_fill(&mut io, &mut input, cx)).await.context(what)?;
        if n == 0 || input.len() > super::HEADER_MAX_BYTES {
            return Err(Error::new("the proxy gave no proper answer")).context(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_follow_the_usual_rules() {
        let proxy = Proxy::new(
            "proxy:3128",
            "http://proxy:3128",
            "10.0.0.0/8,.svc,example.org,*.cluster.local,only.org:8080,fd00::/8",
        )
        .unwrap();
        for (host, port, exempt) in [
            ("10.1.2.3", 443, true),
            ("11.1.2.3", 443, false),
            ("a.svc", 443, true),
            ("svc", 443, false),
            ("example.org", 443, true),
            ("a.example.org", 443, true),
            ("anexample.org", 443, false),
            ("x.cluster.local", 443, true),
            ("only.org", 443, false),
            ("only.org", 8080, true),
            ("fd00::1", 443, true),
            ("127.0.0.1", 1, true),
            ("docker.io", 443, false),
        ] {
            assert_eq!(proxy.choose(true, host, port).is_none(), exempt, "{host}:{port}");
        }
    }
}
