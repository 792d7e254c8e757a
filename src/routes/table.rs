//! The table of routes: what a request is looked up in.

use std::collections::HashMap;
use std::sync::Arc;

use api::Object;
use stdx::Arrange;

use crate::annotations::Sticky;
use crate::ask::Ask;
use crate::middleware::{Middleware, TcpMiddleware};
use crate::objects::Endpoint;
use crate::rule::{Hosts, Rule};
use crate::tls_option::TlsOptions;
use crate::traefik::Transport;

/// A namespace and a name in it.
pub type Key = (Box<str>, Box<str>);

/// Where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Port 80, without TLS.
    Web,
    /// Port 443, with TLS.
    WebSecure,
    /// One that an administrator added: its place in the settings, below `Settings::MORE_MAX`.
    More(u8),
}

impl Entry {
    /// Of those that are always there.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Entry::Web => "web",
            Entry::WebSecure => "websecure",
            Entry::More(_) => "",
        }
    }

    pub(crate) fn bit(self) -> u16 {
        match self {
            Entry::Web => 1,
            Entry::WebSecure => 2,
            Entry::More(number) => 4 << number,
        }
    }
}

/// One route.
#[derive(Debug)]
pub struct Router {
    pub name: String,
    pub rule: Rule,
    pub target: Target,
    /// Numbers of the table's middlewares, the first one outermost.
    pub middlewares: Vec<usize>,
    pub(crate) entries: u16,
    /// Requests that came without TLS are not its.
    pub(crate) tls: bool,
    pub(crate) order: Order,
    /// How long its requests may take until they are answered, in milliseconds; 0 is for ever.
    pub timeout_ms: u64,
}

/// By what routes are ordered: the larger comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) priority: i64,
    /// Of equal priority: a host in full, an exact path, then the older object.
    pub(crate) whole_host: bool,
    pub(crate) exact: bool,
    pub(crate) age: std::cmp::Reverse<(i64, String)>,
}

/// What is done with a request of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The table's service of this number.
    Service(usize),
    /// The table's weighted list of this number.
    Weighted(usize),
    /// It is answered with this code.
    Status(u16),
}

/// A part of the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub weight: u32,
    /// The table's service of this number; `None` if there is none, which is answered with the code 500.
    pub service: Option<usize>,
    /// Numbers of middlewares that are only its own, after the route's.
    pub middlewares: Vec<usize>,
}

/// A service with the endpoints that it has now.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `namespace-name-port`, its name in metrics and logs.
    pub name: String,
    pub scheme: Scheme,
    /// The client's `Host` is passed on, and not the endpoint's.
    pub pass_host: bool,
    pub sticky: Option<Sticky>,
    /// How endpoints are spoken to over TLS; `None` as usual.
    pub transport: Option<Transport>,
    /// Those that are ready, and after them those that end and serve whoever is bound to them; if none is ready, all.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    H2c,
}

/// What is done with a connection of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is passed on as it comes; it has no TLS.
    Plain,
    /// It is passed on as it comes, with its TLS.
    Passthrough,
    /// Its TLS ends here.
    Terminate,
}

/// One route of connections.
#[derive(Debug)]
pub struct TcpRouter {
    pub name: String,
    pub(crate) rule: Rule,
    pub mode: Mode,
    /// Services of the table with their weights; if all are 0 or there is none, connections end.
    pub shares: Vec<(u32, usize)>,
    /// Numbers of the table's middlewares of connections.
    pub middlewares: Vec<usize>,
    /// Its TLS options among the table's.
    pub options: Option<usize>,
    /// Its place among the table's.
    pub number: usize,
    pub(crate) entries: u16,
    pub(crate) order: Order,
}

/// The route of an entry point's datagrams.
#[derive(Debug)]
pub struct UdpRouter {
    pub name: String,
    /// Services of the table with their weights.
    pub shares: Vec<(u32, usize)>,
    pub(crate) entries: u16,
}

/// Where connections, or the datagrams of a session, are passed on to.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpService {
    pub name: String,
    /// TLS is spoken with endpoints.
    pub tls: bool,
    /// How; `None` as usual.
    pub transport: Option<Transport>,
    /// The version of the PROXY protocol in which endpoints are told who connects; 0 for none.
    pub proxy_version: u8,
    /// As those of services for requests.
    pub endpoints: Vec<Endpoint>,
}

/// Something that an object asks for and does not get.
#[derive(Clone, Debug)]
pub struct Complaint {
    pub about: Object,
    pub reason: &'static str,
    pub message: String,
}

/// All routes, as the objects have them now.
#[derive(Debug, Default)]
pub struct Table {
    /// The first that matches counts.
    pub routers: Vec<Router>,
    pub services: Vec<Service>,
    /// Among whom requests are shared out.
    pub weighted: Vec<Vec<Share>>,
    /// Routes of connections, in order, with their services and middlewares.
    pub(crate) tcp_routers: Vec<TcpRouter>,
    pub tcp_services: Vec<TcpService>,
    pub(crate) udp_routers: Vec<UdpRouter>,
    pub tcp_middlewares: Vec<(String, Arc<TcpMiddleware>)>,
    /// How TLS is spoken with clients, where it is not as usual.
    pub tls_options: Vec<TlsOptions>,
    pub(crate) default_options: Option<usize>,
    /// By the names in routes.
    pub(crate) host_options: HashMap<Box<str>, Option<usize>>,
    /// By their full names, with what they do.
    pub middlewares: Vec<(String, Arc<Middleware>)>,
    /// Secrets whose certificates are shown, oldest user first.
    pub certificates: Vec<Key>,
    /// Secrets whose certificates are shown to who asks for this host (`*.` for all below a name, "" for all),
    /// whatever names they have.
    pub host_certificates: Vec<(Key, Box<str>)>,
    pub complaints: Vec<Complaint>,
    /// Objects whose status is another one than it should be, with what is to be changed in it.
    pub statuses: Vec<(Object, api::Value)>,
    by_host: HashMap<Box<str>, Vec<u32>>,
    /// By what follows `*.`.
    by_parent: HashMap<Box<str>, Vec<u32>>,
    /// By what follows the dot, for any number of labels before it.
    by_suffix: HashMap<Box<str>, Vec<u32>>,
    others: Vec<u32>,
}

/// What follows the first dot of a name, the second, and so on.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |host| Some(host.split_once('.')?.1)).skip(1)
}

impl Table {
    /// Orders the routes, and makes what finds them.
    pub(crate) fn finish(&mut self) {
        self.finish_tcp();
        self.routers.arrange_by(|one, other| other.order.cmp(&one.order));
        for (number, router) in (0u32..).zip(&self.routers) {
            let Hosts::These(hosts) = router.rule.hosts() else {
                self.others.push(number);
                continue;
            };
            for host in hosts {
                let (map, key) = match (host.strip_prefix("*."), host.strip_prefix('.')) {
                    (Some(parent), _) => (&mut self.by_parent, parent.into()),
                    (None, Some(suffix)) => (&mut self.by_suffix, suffix.into()),
                    (None, None) => (&mut self.by_host, host),
                };
                map.entry(key).or_default().push(number);
            }
        }
    }

    /// Whether there are routes of requests for a host by its name.
    pub fn names(&self, host: &str) -> bool {
        let parent = host.split_once('.').map_or("", |(_, parent)| parent);
        self.by_host.contains_key(host)
            || self.by_parent.contains_key(parent)
            || parents(host).any(|parent| self.by_suffix.contains_key(parent))
    }

    /// The route of a request that came over TLS, or did not.
    pub fn find(&self, entry: Entry, secure: bool, ask: &Ask<'_>) -> Option<&Router> {
        let parent = ask.host.split_once('.').map_or("", |(_, parent)| parent);
        let mut lists = [
            self.by_host.get(ask.host).map_or(&[][..], Vec::as_slice),
            self.by_parent.get(parent).map_or(&[][..], Vec::as_slice),
            self.others.as_slice(),
        ];
        // No place is taken for what is rarely there.
        let mut suffixes: Vec<&[u32]> = Vec::new();
        if !self.by_suffix.is_empty() {
            let found = parents(ask.host).filter_map(|parent| self.by_suffix.get(parent));
            suffixes.extend(found.map(Vec::as_slice));
        }
        loop {
            // Each list is in order; so is what is taken from whichever comes first.
            let all = lists.iter_mut().chain(&mut suffixes);
            let next = all.filter(|list| !list.is_empty()).min_by_key(|list| list[0])?;
            let (number, rest) = next.split_first()?;
            *next = rest;
            let router = &self.routers[usize::try_from(*number).ok()?];
            let here = router.entries & entry.bit() != 0 && (secure || !router.tls);
            if here && router.rule.matches(ask) {
                return Some(router);
            }
        }
    }
}

impl Table {
    /// The route of a connection at `entry`, which begins with TLS or not. Of `ask` host, peer and protocols count.
    pub fn find_tcp(&self, entry: Entry, tls: bool, ask: &Ask<'_>) -> Option<&TcpRouter> {
        self.tcp_routers.iter().find(|router| {
            router.entries & entry.bit() != 0
                && tls == (router.mode != Mode::Plain)
                && router.rule.matches(ask)
        })
    }

    /// Whether there are routes of connections without TLS, and with it, at an entry point.
    pub fn has_tcp(&self, entry: Entry) -> (bool, bool) {
        let here = || self.tcp_routers.iter().filter(|router| router.entries & entry.bit() != 0);
        (
            here().any(|router| router.mode == Mode::Plain),
            here().any(|router| router.mode != Mode::Plain),
        )
    }

    /// All routes of datagrams.
    pub fn udp(&self) -> &[UdpRouter] {
        &self.udp_routers
    }

    /// The number of the route of an entry point's datagrams.
    pub fn find_udp(&self, entry: Entry) -> Option<usize> {
        self.udp_routers.iter().position(|router| router.entries & entry.bit() != 0)
    }

    pub(crate) fn add_tcp(&mut self, router: TcpRouter) {
        self.tcp_routers.push(router);
    }

    fn finish_tcp(&mut self) {
        self.tcp_routers.arrange_by(|one, other| other.order.cmp(&one.order));
        for (number, router) in self.tcp_routers.iter_mut().enumerate() {
            router.number = number;
        }
    }

    /// All routes of connections.
    pub fn tcp(&self) -> &[TcpRouter] {
        &self.tcp_routers
    }
}

impl TcpRouter {
    /// A route of connections over TLS at one entry point. Without shares it ends them.
    pub(crate) fn new(
        (name, mode): (String, Mode),
        rule: Rule,
        shares: Vec<(u32, usize)>,
        entry: Entry,
        order: Order,
    ) -> TcpRouter {
        let (entries, middlewares) = (entry.bit(), Vec::new());
        TcpRouter {
            name,
            rule,
            mode,
            shares,
            middlewares,
            options: None,
            number: 0,
            entries,
            order,
        }
    }

    /// Whether it takes whatever nobody else has a name for.
    pub fn is_for_all(&self) -> bool {
        self.rule.hosts() == Hosts::Any
    }
}

impl Table {
    /// The TLS options for a host: of the routes that are about it, else those called `default`.
    pub fn options_of(&self, host: &str) -> Option<usize> {
        let parent = || host.split_once('.').map_or("", |(_, parent)| parent);
        let found = self.host_options.get(host);
        let found = found.or_else(|| self.host_options.get(&*format!("*.{}", parent())));
        found.copied().unwrap_or(self.default_options)
    }

    /// Whether how TLS is spoken depends on who is asked for.
    pub fn has_options(&self) -> bool {
        !self.tls_options.is_empty()
    }
}
