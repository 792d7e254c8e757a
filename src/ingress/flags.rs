//! What the ingress is told: Traefik's flags, as far as they mean something here. Others are refused by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use routes::{Cidr, Entry, More};
use stdx::{Error, Result};

/// A session of UDP that goes on for ever would be one that nobody ends.
const SESSION_IDLE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// One entry point.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    pub name: String,
    pub address: SocketAddr,
    /// It is one of UDP.
    pub udp: bool,
    /// A session in which nobody says anything; `None` as usual.
    pub session_idle_max: Option<Duration>,
    /// TLS is spoken where requests are served.
    pub tls: bool,
    /// Objects that name no entry point are served at it.
    pub default: bool,
    /// Everybody tells in the PROXY protocol whose connection it is; who must, otherwise.
    pub all_proxied: bool,
    pub proxied: Vec<Cidr>,
    /// Everybody's forwarded headers are believed.
    pub insecure: bool,
    /// Whose are.
    pub trusted: Vec<Cidr>,
    /// Everything is sent to the other entry point, under this scheme; for ever, if true.
    pub redirect: Option<(String, bool)>,
    /// A client that takes or gives no byte while it is its turn.
    pub read_max: Duration,
    /// A connection without a request.
    pub idle_max: Duration,
}

impl EntryPoint {
    fn new(name: &str, port: u16, tls: bool) -> EntryPoint {
        EntryPoint {
            name: name.to_owned(),
            address: everywhere(port),
            udp: false,
            session_idle_max: None,
            tls,
            default: port != 0,
            all_proxied: false,
            proxied: Vec::new(),
            insecure: false,
            trusted: Vec::new(),
            redirect: None,
            read_max: Duration::from_secs(60),
            idle_max: Duration::from_secs(180),
        }
    }

    /// What it is to routes.
    ///
    /// # Errors
    /// If it was told what only the other protocol has.
    fn finish(&self) -> Result<More, String> {
        let of_tcp = self.tls
            || self.insecure
            || self.all_proxied
            || !(self.proxied.is_empty() && self.trusted.is_empty());
        match (self.udp, self.default) {
            (true, _) if of_tcp => Err(format!(
                "entry point {} is one of UDP: it has no TLS, PROXY protocol or forwarded headers",
                self.name
            )),
            // One flag alone says little.
            (false, _) if self.session_idle_max.is_some() && self.address.port() != 0 => {
                Err(format!("entry point {} is one of TCP: it has no udp.timeout", self.name))
            }
            (true, _) => Ok(More::Datagrams),
            (false, true) => Ok(More::Default),
            (false, false) => Ok(More::Named),
        }
    }

    /// Whether a peer's connections may begin with a header of the PROXY protocol.
    pub(crate) fn is_proxied(&self, peer: Option<IpAddr>) -> bool {
        self.all_proxied
            || peer.is_some_and(|peer| self.proxied.iter().any(|block| block.contains(peer)))
    }

    /// Whether what a peer says of others is believed.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.insecure
            || peer.is_some_and(|peer| self.trusted.iter().any(|block| block.contains(peer)))
    }
}

/// All that it is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub web: EntryPoint,
    pub websecure: EntryPoint,
    /// Those that an administrator added.
    pub more: Vec<EntryPoint>,
    pub metrics: SocketAddr,
    pub ping: SocketAddr,
    pub access_log: Option<LogFormat>,
    pub routes: routes::Settings,
    pub debug: bool,
    /// The pod's name, in `X-Forwarded-Server` and events.
    pub hostname: String,
    /// How long what is under way may take after SIGTERM.
    pub grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Common,
    Json,
}

/// All addresses of both families.
fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

impl Options {
    pub(crate) fn entry(&self, entry: Entry) -> &EntryPoint {
        match entry {
            Entry::Web => &self.web,
            Entry::WebSecure => &self.websecure,
            Entry::More(number) => self.more.get(usize::from(number)).unwrap_or(&self.websecure),
        }
    }

    /// All entry points.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Entry, &EntryPoint)> {
        let more = (0..).zip(&self.more).map(|(number, entry)| (Entry::More(number), entry));
        [(Entry::Web, &self.web), (Entry::WebSecure, &self.websecure)].into_iter().chain(more)
    }

    /// Reads `--name=value` and `--name`; names are taken in any case.
    ///
    /// # Errors
    /// Name the flag that is unknown or has no proper value.
    pub fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            web: EntryPoint::new("web", 8000, false),
            websecure: EntryPoint::new("websecure", 8443, true),
            more: Vec::new(),
            metrics: everywhere(9100),
            ping: everywhere(8080),
            access_log: None,
            routes: routes::Settings::default(),
            debug: false,
            hostname: String::new(),
            grace: Duration::from_secs(10),
        };
        let mut redirect_from = Redirect::default();
        for arg in args {
            let text = arg.strip_prefix("--").ok_or_else(|| {
                Error::new(format!("unexpected argument {arg:?}: flags are --NAME=VALUE"))
            })?;
            let (name, value) = text.split_once('=').unwrap_or((text, "true"));
            options
                .take(&name.to_ascii_lowercase(), value, &mut redirect_from)
                .map_err(|why| Error::new(format!("flag --{name}={value}: {why}")))?;
        }
        if let Some(to) = redirect_from.to {
            if !matches!(to.as_str(), "websecure" | ":443" | ":8443") {
                let text = format!(
                    "flag --entrypoints.web.http.redirections.entrypoint.to={to}: only websecure is another entry point"
                );
                return Err(Error::new(text));
            }
            options.web.redirect = Some((redirect_from.scheme, redirect_from.permanent));
        }
        for entry in &options.more {
            let more = entry.finish().map_err(Error::new)?;
            options.routes.more.push((entry.name.as_str().into(), more));
        }
        options.routes.ports = [options.web.address.port(), options.websecure.address.port()];
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str, redirect: &mut Redirect) -> Result<(), String> {
        if let Some(rest) = name.strip_prefix("entrypoints.") {
            let (entry, rest) = rest.split_once('.').ok_or("unknown flag")?;
            return match (entry, rest) {
                ("web", rest) => entry_flag(&mut self.web, &mut self.grace, redirect, rest, value),
                ("websecure", "http.tls") => is(value, true),
                ("websecure", rest) if rest.contains("redirections") => {
                    Err("redirections are of the entry point web".into())
                }
                ("websecure", rest) => {
                    entry_flag(&mut self.websecure, &mut self.grace, redirect, rest, value)
                }
                ("metrics", "address") => tcp_address(value).map(|it| self.metrics = it),
                ("traefik", "address") => tcp_address(value).map(|it| self.ping = it),
                ("metrics" | "traefik", _) => Err("it is not supported by this ingress".into()),
                (_, rest) if rest.contains("redirections") => {
                    Err("redirections are of the entry point web".into())
                }
                (name, rest) => {
                    let known = self.more.iter().position(|entry| entry.name == name);
                    let at = known.unwrap_or(self.more.len());
                    if known.is_none() {
                        if at == routes::Settings::MORE_MAX {
                            return Err(format!("there are {at} others already"));
                        }
                        self.more.push(EntryPoint::new(name, 0, false));
                    }
                    let entry = &mut self.more[at];
                    match rest {
                        "address" => {
                            let of_udp = value.strip_suffix("/udp");
                            entry.udp = of_udp.is_some();
                            let own =
                                of_udp.map_or_else(|| tcp_address(value), |it| address(it, "UDP"));
                            own.map(|own| entry.address = own)
                        }
                        "udp.timeout" => match duration(value)? {
                            long if long > SESSION_IDLE_LIMIT => {
                                Err("it is no time within a day".into())
                            }
                            short => {
                                entry.session_idle_max = Some(short);
                                Ok(())
                            }
                        },
                        "http.tls" => flag(value).map(|tls| entry.tls = tls),
                        "asdefault" => flag(value).map(|default| entry.default = default),
                        rest => entry_flag(entry, &mut self.grace, redirect, rest, value),
                    }
                }
            };
        }
        let routes = &mut self.routes;
        match name {
            "providers.kubernetesingress"
            | "providers.kubernetesgateway"
            | "providers.kubernetescrd"
            | "providers.kubernetescrd.allowemptyservices"
            | "providers.kubernetesingress.allowemptyservices"
            | "providers.kubernetesingress.strictprefixmatching"
            | "metrics.prometheus"
            | "ping" => is(value, true),
            "metrics.prometheus.entrypoint" if value == "metrics" => Ok(()),
            "ping.entrypoint" if value == "traefik" => Ok(()),
            "api"
            | "api.dashboard"
            | "api.insecure"
            | "global.checknewversion"
            | "global.sendanonymoususage" => is(value, false),
            "providers.kubernetesingress.ingressclass" => {
                value.clone_into(&mut routes.class);
                Ok(())
            }
            "providers.kubernetesingress.allowexternalnameservices" => {
                flag(value).map(|allowed| routes.external_names = allowed)
            }
            "providers.kubernetesingress.ingressendpoint.publishedservice" => {
                let key = value.split_once('/').ok_or("it is no NAMESPACE/NAME")?;
                routes.published = Some((key.0.into(), key.1.into()));
                Ok(())
            }
            "accesslog" => {
                self.access_log =
                    flag(value)?.then_some(self.access_log.unwrap_or(LogFormat::Common));
                Ok(())
            }
            "accesslog.format" => {
                self.access_log = Some(match value {
                    "common" => LogFormat::Common,
                    "json" => LogFormat::Json,
                    _ => return Err("it is neither common nor json".into()),
                });
                Ok(())
            }
            "log.level" => match value.to_ascii_uppercase().as_str() {
                level @ ("TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR") => {
                    self.debug = matches!(level, "TRACE" | "DEBUG");
                    Ok(())
                }
                _ => Err("it is no level".into()),
            },
            "log.format" if value == "common" => Ok(()),
            _ => Err("it is not supported by this ingress".into()),
        }
    }
}

/// Where `web` sends its clients.
struct Redirect {
    to: Option<String>,
    scheme: String,
    permanent: bool,
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect { to: None, scheme: "https".into(), permanent: true }
    }
}

fn entry_flag(
    entry: &mut EntryPoint,
    grace: &mut Duration,
    redirect: &mut Redirect,
    name: &str,
    value: &str,
) -> Result<(), String> {
    match name {
        "address" => entry.address = tcp_address(value)?,
        "asdefault" => is(value, true)?,
        "proxyprotocol.insecure" => entry.all_proxied = flag(value)?,
        "proxyprotocol.trustedips" => entry.proxied = blocks(value)?,
        "forwardedheaders.insecure" => entry.insecure = flag(value)?,
        "forwardedheaders.trustedips" => entry.trusted = blocks(value)?,
        "http.redirections.entrypoint.to" => redirect.to = Some(value.to_owned()),
        "http.redirections.entrypoint.scheme" => match value {
            "https" => value.clone_into(&mut redirect.scheme),
            _ => return Err("the other entry point speaks https".into()),
        },
        "http.redirections.entrypoint.permanent" => redirect.permanent = flag(value)?,
        "transport.respondingtimeouts.readtimeout" => entry.read_max = duration(value)?,
        "transport.respondingtimeouts.idletimeout" => entry.idle_max = duration(value)?,
        "transport.lifecycle.gracetimeout" => *grace = duration(value)?,
        _ => return Err("it is not supported by this ingress".into()),
    }
    Ok(())
}

fn blocks(value: &str) -> Result<Vec<Cidr>, String> {
    let blocks = value.split(',').map(str::trim).filter(|block| !block.is_empty());
    blocks.map(str::parse).collect()
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("it is neither true nor false".into()),
    }
}

/// What cannot be otherwise here.
fn is(value: &str, wanted: bool) -> Result<(), String> {
    match flag(value)? == wanted {
        true => Ok(()),
        false => Err(format!("this ingress knows it as {wanted} only")),
    }
}

/// `:8000/tcp`, `:8000` or `127.0.0.1:8000`.
fn tcp_address(value: &str) -> Result<SocketAddr, String> {
    address(value.strip_suffix("/tcp").unwrap_or(value), "TCP")
}

fn address(text: &str, protocol: &str) -> Result<SocketAddr, String> {
    let bad = || format!("it is no [ADDRESS]:PORT of {protocol}");
    match text.strip_prefix(':') {
        Some(port) => port.parse().map(everywhere).map_err(|_| bad()),
        None => text.parse().map_err(|_| bad()),
    }
}

/// Whole seconds, or Go's `1m30s`; 0 is none.
fn duration(value: &str) -> Result<Duration, String> {
    const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
    let bad = || "it is no duration such as 30s".to_owned();
    let mut rest = value;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u32 = rest[..end].parse().map_err(|_| bad())?;
        let unit_end =
            rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| end + n);
        let unit = match &rest[end..unit_end] {
            "" | "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(bad()),
        };
        total =
            unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    Ok(if total.is_zero() { FOREVER } else { total.min(FOREVER) })
}

/// IPv4 where a machine has no IPv6.
pub(crate) fn without_ipv6(address: SocketAddr) -> Option<SocketAddr> {
    (address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        .then(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn entry_points_of_udp() {
        let options = parse(&[
            "--entryPoints.dns.udp.timeout=10s",
            "--entryPoints.dns.address=:53/udp",
            "--entryPoints.raw.address=:54",
        ]);
        let options = options.unwrap();
        let more: Vec<_> = options.routes.more.iter().map(|(_, more)| *more).collect();
        assert_eq!(more, [More::Datagrams, More::Named]);
        assert_eq!(options.more[0].session_idle_max, Some(Duration::from_secs(10)));
        for bad in [
            &["--entryPoints.x.address=:53/udp", "--entryPoints.x.http.tls=true"][..],
            &["--entryPoints.x.address=:53/udp", "--entryPoints.x.proxyProtocol.insecure=true"],
            &["--entryPoints.x.address=:53", "--entryPoints.x.udp.timeout=1s"],
            &["--entryPoints.x.udp.timeout=0"],
            &["--entryPoints.web.address=:80/udp"],
            &["--entryPoints.x.address=:53/sctp"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn traefiks_flags() {
        let options = parse(&[
            "--entryPoints.web.address=:80/tcp",
            "--entryPoints.websecure.address=127.0.0.1:443",
            "--entryPoints.websecure.http.tls=true",
            "--entryPoints.web.forwardedHeaders.trustedIPs=10.0.0.0/8, 192.0.2.1",
            "--entryPoints.web.http.redirections.entryPoint.to=websecure",
            "--entryPoints.web.http.redirections.entryPoint.permanent=false",
            "--entryPoints.web.transport.respondingTimeouts.idleTimeout=1m30s",
            "--providers.kubernetesingress",
            "--providers.kubernetesIngress.ingressEndpoint.publishedService=kube-system/traefik",
            "--accesslog=true",
            "--log.level=DEBUG",
        ])
        .unwrap();
        assert_eq!(options.web.address.to_string(), "[::]:80");
        assert_eq!(options.websecure.address.to_string(), "127.0.0.1:443");
        assert_eq!(options.web.redirect, Some(("https".into(), false)));
        assert_eq!(options.web.idle_max, Duration::from_secs(90));
        assert!(options.web.trusts("10.1.1.1".parse().ok()) && !options.web.trusts(None));
        assert!(!options.websecure.trusts("10.1.1.1".parse().ok()));
        assert_eq!((options.access_log, options.debug), (Some(LogFormat::Common), true));
        for bad in [
            "stray",
            "--api.dashboard=true",
            "--entrypoints.mqtt.address=:1883/sctp",
            "--entrypoints.web.address=x",
            "--entrypoints.metrics.http.tls=true",
            "--entrypoints.web.http3",
            "--entrypoints.web.forwardedheaders.trustedips=x",
            "--entrypoints.web.http.redirections.entrypoint.to=other",
            "--experimental.plugins.x=y",
            "--accesslog=maybe",
            "--entrypoints.web.transport.lifecycle.gracetimeout=1 day",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
