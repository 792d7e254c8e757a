//! From Gateway API's objects to routes of the table, and to what their status says.

use std::cmp::Reverse;
use std::sync::Arc;

use stdx::OrdMap;

use super::attach::{Attached, Held, attach, covers};
use super::listener::{self, State, Verdict};
use super::status;
use crate::filters::{Change, Redirect, Rewrite};
use crate::gateway_objects::{Backend, Filter, GROUP, Match, Route, Rule, Sort, of_match};
use crate::middleware::Middleware;
use crate::objects::PortRef;
use crate::plan::Builder;
use crate::rule::{self, Matcher};
use crate::table::{Key, Mode, Order, Router, Share, Target, TcpRouter};

/// Routes of the table that one HTTPRoute may make.
const ROUTERS_MAX: usize = 8192;
/// Above everything that has a rule's length for its priority, as with Traefik.
const PRIORITY: i64 = 1 << 40;

/// A rule as it is served.
struct Planned {
    target: Target,
    /// Those that do not depend on what was matched, by their places among the filters.
    middlewares: Vec<Option<Vec<usize>>>,
}

impl<'a> Builder<'a> {
    pub(crate) fn gateways(&mut self, now: &str) {
        let model = self.model;
        let known = &model.gateway;
        if !known.has_class() {
            return;
        }
        for class in known.classes.values().filter(|class| class.ours) {
            let told = status::of_class(class, now);
            self.told(&class.object, told);
        }
        let mut held: OrdMap<Key, Held<'a>> = OrdMap::new();
        for (key, gateway) in &known.gateways {
            let class = known.classes.get(&gateway.class);
            if class.is_some_and(|class| class.ours && !class.has_parameters) {
                let listeners = listener::judge(model, gateway);
                held.insert(key.clone(), Held { gateway, listeners });
            }
        }
        for ((sort, key), route) in &known.routes {
            self.gateway_route(&mut held, key, route, *sort, now);
        }
        let published = model.settings.published.as_ref();
        let service = published.and_then(|key| model.services.get(key));
        let addresses = service.map_or(&[][..], |service| &service.addresses);
        for Held { gateway, listeners } in held.values() {
            for state in listeners.iter().filter(|state| state.is_programmed()) {
                for key in &state.certificates {
                    let host = state.listener.hostname.clone();
                    self.table.host_certificates.push((key.clone(), host));
                }
            }
            let told = status::of_gateway(gateway, listeners, addresses, now);
            self.told(&gateway.object, told);
        }
    }

    fn told(&mut self, about: &api::Object, status: Option<api::Value>) {
        if let Some(status) = status {
            self.table.statuses.push((about.clone(), status));
        }
    }

    fn gateway_route(
        &mut self,
        held: &mut OrdMap<Key, Held<'a>>,
        key: &Key,
        route: &'a Route,
        sort: Sort,
        now: &str,
    ) {
        let known = &self.model.gateway;
        let mut parents: Vec<(&api::Value, Verdict)> = Vec::new();
        let mut attached = Vec::new();
        for parent in &route.parents {
            if let Some((verdict, own)) = attach(held, known, route, sort, parent) {
                parents.push((&parent.tree, verdict));
                attached.extend(own);
            }
        }
        let mut resolved = (true, "ResolvedRefs", String::new());
        if !parents.is_empty() {
            let begun = self.table.routers.len();
            let served = match sort {
                Sort::Tls => {
                    self.serve_tls(held, key, route, &attached, &mut resolved);
                    Ok(())
                }
                _ => {
                    let grpc = sort == Sort::Grpc;
                    self.serve(held, key, route, grpc, &attached, &mut resolved)
                }
            };
            if let Err(error) = served {
                self.table.routers.truncate(begun);
                for (_, verdict) in parents.iter_mut().filter(|(_, verdict)| verdict.0) {
                    *verdict = (false, "UnsupportedValue", error.clone());
                }
            }
        }
        let told = status::of_route(route, &parents, &resolved, now);
        self.told(&route.object, told);
    }

    /// Adds the routes of the table.
    ///
    /// # Errors
    /// Say what a route asks for and does not get: then nothing of it is served.
    fn serve(
        &mut self,
        held: &OrdMap<Key, Held<'a>>,
        key: &Key,
        route: &Route,
        grpc: bool,
        attached: &[Attached],
        resolved: &mut Verdict,
    ) -> Result<(), String> {
        let begun = self.table.routers.len();
        for (number, rule) in route.rules.iter().enumerate() {
            if let Some(unsupported) = &rule.unsupported {
                return Err(format!("rules[{number}]: {unsupported}"));
            }
            let planned = self.rule(key, rule, grpc, resolved)?;
            for to in attached {
                let Some(Held { listeners, .. }) = held.get(&to.gateway) else { continue };
                let state = &listeners[to.listener];
                let Some(entry) = state.entry.filter(|_| state.is_programmed()) else { continue };
                let others = more_exact(listeners, to.listener);
                for wanted in &rule.matches {
                    let middlewares = self.filters(key, rule, &planned, wanted, state.port)?;
                    for host in &to.hosts {
                        if others.iter().any(|other| covers(other, host)) {
                            continue;
                        }
                        if self.table.routers.len() - begun >= ROUTERS_MAX {
                            return Err(format!(
                                "its rules, matches, hosts and listeners together are more than {ROUTERS_MAX}"
                            ));
                        }
                        let mut matchers = wanted.matchers()?;
                        matchers.extend(self::host(host));
                        let but = others.iter().filter(|other| covers(host, other));
                        let but = but.filter_map(|other| self::host(other)).collect();
                        let kind = if grpc { "grpcroute" } else { "httproute" };
                        self.table.routers.push(Router {
                            name: format!("{kind}-{}-{}-{number}", key.0, key.1),
                            rule: rule::Rule::all(matchers, but, 0),
                            target: planned.target,
                            middlewares: middlewares.clone(),
                            entries: entry.bit(),
                            tls: false,
                            order: Order {
                                priority: PRIORITY + (rank(host) << 24 | wanted.precedence()),
                                whole_host: false,
                                exact: false,
                                age: Reverse((route.created_secs, format!("{}/{}", key.0, key.1))),
                            },
                            timeout_ms: rule.timeout_ms,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the routes of connections that a TLSRoute makes.
    fn serve_tls(
        &mut self,
        held: &OrdMap<Key, Held<'a>>,
        key: &Key,
        route: &Route,
        attached: &[Attached],
        resolved: &mut Verdict,
    ) {
        for (number, rule) in route.rules.iter().enumerate() {
            let mut shares = Vec::new();
            for backend in &rule.backends {
                if let Some(service) = self.tls_backend(key, backend, resolved) {
                    shares.push((backend.weight, service));
                }
            }
            for to in attached {
                let Some(Held { listeners, .. }) = held.get(&to.gateway) else { continue };
                let state = &listeners[to.listener];
                let Some(entry) = state.entry.filter(|_| state.is_programmed()) else { continue };
                let others = more_exact(listeners, to.listener);
                let ends = state.listener.ends_tls();
                let mode = if ends { Mode::Terminate } else { Mode::Passthrough };
                for host in to.hosts.iter().take(ROUTERS_MAX) {
                    if others.iter().any(|other| covers(other, host)) {
                        continue;
                    }
                    let order = Order {
                        priority: PRIORITY + rank(host),
                        whole_host: false,
                        exact: false,
                        age: Reverse((route.created_secs, format!("{}/{}", key.0, key.1))),
                    };
                    let matcher = self::host(host).unwrap_or(Matcher::Host("*".into()));
                    let but = others.iter().filter(|other| covers(host, other));
                    let but = but.filter_map(|other| self::host(other)).collect();
                    let rule = rule::Rule::all(vec![matcher], but, 0);
                    let name = format!("tlsroute-{}-{}-{number}", key.0, key.1);
                    let router = TcpRouter::new((name, mode), rule, shares.clone(), entry, order);
                    self.table.add_tcp(router);
                }
            }
        }
    }

    /// The service of a TLSRoute's backend; `None`, and the reason in `resolved`, if there is none.
    fn tls_backend(
        &mut self,
        key: &Key,
        backend: &Backend,
        resolved: &mut Verdict,
    ) -> Option<usize> {
        let found = self.permitted(key, backend, "TLSRoute").and_then(|port| {
            let to = &backend.to;
            let found = self.tcp_service_at(&to.namespace, &to.name, port);
            found.map_err(|text| ("BackendNotFound", text))
        });
        found.map_err(|(reason, text)| *resolved = (false, reason, text)).ok()
    }

    /// The port of a backend that a route of this kind may lead to.
    fn permitted<'b>(
        &self,
        key: &Key,
        backend: &'b Backend,
        kind: &str,
    ) -> Result<&'b PortRef, (&'static str, String)> {
        let to = &backend.to;
        if (&*to.group, &*to.kind) != ("", "Service") {
            return Err(("InvalidKind", format!("{} is a {}, and no Service", to.name, to.kind)));
        }
        if *to.namespace != *key.0 && !self.model.gateway.permits((GROUP, kind), &key.0, to) {
            let text = format!("no ReferenceGrant permits service {}/{}", to.namespace, to.name);
            return Err(("RefNotPermitted", text));
        }
        let without = || format!("service {} is named without a port", to.name);
        backend.port.as_ref().ok_or_else(|| ("BackendNotFound", without()))
    }

    fn rule(
        &mut self,
        key: &Key,
        rule: &Rule,
        grpc: bool,
        resolved: &mut Verdict,
    ) -> Result<Planned, String> {
        let mut middlewares = Vec::new();
        for filter in &rule.filters {
            middlewares.push(self.filter(key, filter, grpc, resolved)?);
        }
        let mut shares = Vec::new();
        for backend in &rule.backends {
            let service = self.backend(key, backend, grpc, resolved);
            let mut own = Vec::new();
            for filter in &backend.filters {
                own.extend(match self.filter(key, filter, grpc, resolved)? {
                    Some(numbers) => numbers,
                    None => vec![self.depends(key, filter, None, 0)?],
                });
            }
            shares.push(Share { weight: backend.weight, service, middlewares: own });
        }
        let target = match shares.iter().any(|share| share.weight > 0) {
            // As nobody is there, and nobody is waited for.
            false => Target::Status(500),
            true => {
                self.table.weighted.push(shares);
                Target::Weighted(self.table.weighted.len() - 1)
            }
        };
        Ok(Planned { target, middlewares })
    }

    /// The service of a backend; `None`, and the reason in `resolved`, if there is none.
    fn backend(
        &mut self,
        key: &Key,
        backend: &Backend,
        grpc: bool,
        resolved: &mut Verdict,
    ) -> Option<usize> {
        let to = &backend.to;
        let model = self.model;
        let kind = if grpc { "GRPCRoute" } else { "HTTPRoute" };
        let found = self.permitted(key, backend, kind).and_then(|port| {
            let service = model.services.get(&(to.namespace.clone(), to.name.clone()));
            let known = service.and_then(|service| service.port(port, false));
            let scheme = match known {
                Some(port) if port.h2c => "h2c",
                Some(port) if port.tls => "https",
                _ if grpc => "h2c",
                _ => "http",
            };
            let found = self.service(&to.namespace, &to.name, port, &|options| {
                options.scheme.get_or_insert_with(|| scheme.to_owned());
            });
            found.map_err(|text| ("BackendNotFound", text))
        });
        found.map_err(|(reason, text)| *resolved = (false, reason, text)).ok()
    }

    /// The middlewares of a filter; `None` if they depend on what was matched.
    fn filter(
        &mut self,
        key: &Key,
        filter: &Filter,
        grpc: bool,
        resolved: &mut Verdict,
    ) -> Result<Option<Vec<usize>>, String> {
        let middleware = match filter {
            Filter::Request(modify) => Middleware::ModifyRequest(modify.clone()),
            Filter::Response(modify) => Middleware::ModifyResponse(modify.clone()),
            Filter::Redirect(_) | Filter::Rewrite(_) => return Ok(None),
            Filter::Mirror { backend, numerator, denominator } => {
                // Whose mirror is broken is served all the same.
                let Some(service) = self.backend(key, backend, grpc, resolved) else {
                    return Ok(Some(Vec::new()));
                };
                let (numerator, denominator) = (*numerator, *denominator);
                Middleware::Mirror { service, numerator, denominator }
            }
            Filter::Middleware(reference) => {
                return self
                    .expand(vec![(key.0.clone(), reference.name.as_str().into())])
                    .map(Some);
            }
            Filter::Unsupported(what) => return Err(format!("{what} is not supported")),
        };
        Ok(Some(vec![self.add(key, middleware)]))
    }

    fn add(&mut self, key: &Key, middleware: Middleware) -> usize {
        let number = self.table.middlewares.len();
        let name = format!("{}-{}-{number}", key.0, key.1);
        self.table.middlewares.push((name, Arc::new(middleware)));
        number
    }

    /// The middlewares of a match.
    fn filters(
        &mut self,
        key: &Key,
        rule: &Rule,
        planned: &Planned,
        wanted: &Match,
        port: u16,
    ) -> Result<Vec<usize>, String> {
        let mut numbers = Vec::new();
        for (filter, fixed) in rule.filters.iter().zip(&planned.middlewares) {
            match fixed {
                Some(fixed) => numbers.extend(fixed),
                None => numbers.push(self.depends(key, filter, Some(wanted), port)?),
            }
        }
        Ok(numbers)
    }

    /// The middleware of a redirect or rewrite, for requests of a match.
    fn depends(
        &mut self,
        key: &Key,
        filter: &Filter,
        wanted: Option<&Match>,
        port: u16,
    ) -> Result<usize, String> {
        let change = |change: &Option<Change>| match (change.clone(), wanted) {
            (None, _) => Ok(None),
            (Some(change), Some(wanted)) => of_match(change, &wanted.path).map(Some),
            (Some(_), None) => Err("a path cannot be changed for one backend".to_owned()),
        };
        let middleware = match filter {
            Filter::Redirect(redirect) => {
                let path = change(&redirect.path)?;
                let own = Redirect { path, listener_port: port, ..redirect.clone() };
                Middleware::Redirect(own)
            }
            Filter::Rewrite(rewrite) => {
                let path = change(&rewrite.path)?;
                Middleware::Rewrite(Rewrite { path, ..rewrite.clone() })
            }
            _ => return Err("a filter is of no kind that depends on a match".into()),
        };
        Ok(self.add(key, middleware))
    }
}

/// What listeners of the same port mean more exactly than one: it is theirs, routes or no routes.
fn more_exact<'l>(listeners: &'l [State<'_>], own: usize) -> Vec<&'l str> {
    let state = &listeners[own];
    let others = listeners.iter().enumerate().filter(|(idx, other)| {
        *idx != own
            && other.listener.port == state.listener.port
            && other.is_programmed()
            && covers(&state.listener.hostname, &other.listener.hostname)
    });
    others.map(|(_, it)| &*it.listener.hostname).collect()
}

/// How exactly a host is named, from 0 for all to 1023.
fn rank(host: &str) -> i64 {
    let rank = match (host.is_empty(), host.starts_with('*')) {
        (true, _) => 0,
        (_, true) => host.len() - 1,
        (_, false) => 512 + host.len(),
    };
    i64::try_from(rank.min(1023)).unwrap_or(0)
}

/// What asks a request for a host; `None` for all.
fn host(name: &str) -> Option<Matcher> {
    match name.strip_prefix('*') {
        _ if name.is_empty() => None,
        Some(suffix) => Some(Matcher::HostSuffix(suffix.into())),
        None => Some(Matcher::Host(name.into())),
    }
}
