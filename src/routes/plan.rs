//! From objects to the table: Ingresses as Traefik reads them, but where the API's own words differ.
//!
//! Those say that a prefix is one of whole elements, that an exact path comes before a prefix, and that a default
//! backend also gets what an Ingress's rules leave over. Else it is Traefik: all rules of all Ingresses are in one
//! table, ordered by length.

use std::cmp::Reverse;

use api::Object;
use stdx::{Arrange, OrdMap, OrdSet};

use crate::annotations::{PathMatcher, RouterOptions, ServiceOptions};
use crate::model::Model;
use crate::objects::{
    Backend, Endpoint, HttpPath, Ingress, PathKind, PortRef, ServiceObject, ServicePort, Slice,
};
use crate::rule::{Matcher, Rule, regex};
use crate::table::{Complaint, Key, Order, Router, Scheme, Service, Table, Target};
use crate::traefik::Leads;

/// What we are to IngressClasses.
const CONTROLLER: &str = "traefik.io/ingress-controller";
/// The class of old annotations.
const CLASS: &str = "traefik";
/// Complaints kept of one table.
const COMPLAINTS_MAX: usize = 512;
/// Below every rule of a user's.
const DEFAULT_PRIORITY: i64 = i32::MIN as i64;

impl Model {
    /// The table of what is known. `now` is when a condition began that is new, as the API writes times.
    pub fn table(&self, now: &str) -> Table {
        table(self, now)
    }
}

fn table(model: &Model, now: &str) -> Table {
    let mut slices: OrdMap<(&str, &str), Vec<&Slice>> = OrdMap::new();
    for (key, slice) in &model.slices {
        slices.entry((&key.0, &slice.service)).or_default().push(slice);
    }
    let mut builder = Builder {
        model,
        slices,
        table: Table::default(),
        known: OrdMap::new(),
        certificates: OrdSet::new(),
        default_is: None,
        named: model.middlewares.keys().map(|key| (dashed(key), key)).collect(),
        named_transports: model.transports.keys().map(|key| (dashed(key), key)).collect(),
        numbers: OrdMap::new(),
    };
    let mut ours: Vec<(&Key, &Ingress)> =
        model.ingresses.iter().filter(|(_, ingress)| is_ours(model, ingress)).collect();
    ours.arrange_by_key(|(key, ingress)| (ingress.created_secs, *key));
    builder.default_options();
    for (key, ingress) in &ours {
        builder.ingress(key, ingress);
    }
    builder.ingress_routes();
    builder.tcp_routes();
    builder.datagram_routes();
    builder.stores();
    builder.statuses(&ours);
    builder.gateways(now);
    let mut table = builder.table;
    table.finish();
    table
}

/// As annotations name an object.
fn dashed(key: &Key) -> String {
    format!("{}-{}", key.0, key.1)
}

/// Whether an Ingress is one that we serve.
fn is_ours(model: &Model, ingress: &Ingress) -> bool {
    let wanted = &*model.settings.class;
    if let Some(name) = &ingress.class {
        let class = model.classes.get(name);
        return class.is_some_and(|class| &*class.controller == CONTROLLER)
            && (wanted.is_empty() || **name == *wanted);
    }
    match &ingress.class_annotation {
        Some(name) if wanted.is_empty() => &**name == CLASS || name.is_empty(),
        Some(name) => **name == *wanted,
        None => wanted.is_empty(),
    }
}

/// What makes a route of an Ingress its own.
struct Part<'a> {
    host: Option<&'a str>,
    /// With the length that it has in Traefik's rule; `None` for every path.
    path: Option<(Matcher, usize)>,
    exact: bool,
    /// In place of what the Ingress or the length says.
    priority: Option<i64>,
}

pub(crate) struct Builder<'a> {
    pub(crate) model: &'a Model,
    slices: OrdMap<(&'a str, &'a str), Vec<&'a Slice>>,
    pub(crate) table: Table,
    /// Numbers of services, by their names and options.
    known: OrdMap<String, usize>,
    certificates: OrdSet<Key>,
    /// Who has the backend for what no rule is about.
    default_is: Option<String>,
    /// Middlewares and ServersTransports, as annotations name them: `namespace-name`.
    pub(crate) named: OrdMap<String, &'a Key>,
    pub(crate) named_transports: OrdMap<String, &'a Key>,
    /// Numbers of middlewares.
    pub(crate) numbers: OrdMap<Key, usize>,
}

impl<'a> Builder<'a> {
    pub(crate) fn complain(&mut self, about: &Object, reason: &'static str, message: String) {
        if self.table.complaints.len() < COMPLAINTS_MAX {
            let about = about.clone();
            self.table.complaints.push(Complaint { about, reason, message });
        }
    }

    fn ingress(&mut self, key: &Key, ingress: &Ingress) {
        let options = match &ingress.options {
            Ok(options) => options,
            Err(error) => {
                return self.complain(&ingress.object, "InvalidAnnotation", error.clone());
            }
        };
        for ignored in &options.ignored {
            self.complain(&ingress.object, "Unsupported", ignored.clone());
        }
        self.secrets(&key.0, &ingress.object, &ingress.secrets);
        let middlewares = match self.named_middlewares(&options.middlewares) {
            Ok(middlewares) => middlewares,
            Err(error) => {
                let message = format!("{error}, and so none of its routes is served");
                return self.complain(&ingress.object, "MiddlewareNotFound", message);
            }
        };
        let begun = self.table.routers.len();
        self.routes_of(key, ingress, options);
        for router in &mut self.table.routers[begun..] {
            router.middlewares.clone_from(&middlewares);
        }
    }

    /// The routes of an Ingress.
    fn routes_of(&mut self, key: &Key, ingress: &Ingress, options: &RouterOptions) {
        let named = options.entry_points.as_ref();
        let Some(entries) = self.entries(&ingress.object, named, Leads::Requests) else { return };
        if ingress.rules.is_empty() {
            return self.only_default(key, ingress, options, entries);
        }
        for rule in &ingress.rules {
            let host = match &rule.host {
                None => None,
                Some(Ok(host)) => Some(&**host),
                Some(Err(error)) => {
                    self.complain(&ingress.object, "InvalidHost", error.clone());
                    continue;
                }
            };
            for path in &rule.paths {
                let Some(target) = self.target(key, ingress, &path.backend) else { continue };
                let exact = path.kind == PathKind::Exact;
                match matcher(path, options.path_matcher) {
                    Ok(path) => {
                        let part = Part { host, path, exact, priority: None };
                        self.route(key, ingress, entries, part, target);
                    }
                    Err(error) => self.complain(&ingress.object, "InvalidPath", error),
                }
            }
        }
        let Some(backend) = &ingress.default else { return };
        let Some(target) = self.target(key, ingress, backend) else { return };
        let mut hosts: OrdSet<Option<&str>> = OrdSet::new();
        for rule in &ingress.rules {
            match &rule.host {
                None => drop(hosts.insert(None)),
                Some(Ok(host)) => drop(hosts.insert(Some(&**host))),
                Some(Err(_)) => {}
            }
        }
        for host in hosts {
            // Below every rule with a path, and for all hosts below those of one host.
            let priority = Some(i64::from(host.is_some()));
            let part = Part { host, path: None, exact: false, priority };
            self.route(key, ingress, entries, part, target);
        }
    }

    /// An Ingress without rules: its backend gets what is nobody else's.
    fn only_default(
        &mut self,
        key: &Key,
        ingress: &Ingress,
        options: &RouterOptions,
        entries: u16,
    ) {
        let Some(backend) = &ingress.default else { return };
        if let Some(owner) = &self.default_is {
            let message = format!("the default backend is Ingress {owner}'s, which is older");
            return self.complain(&ingress.object, "DefaultBackendTaken", message);
        }
        let Some(target) = self.target(key, ingress, backend) else { return };
        self.default_is = Some(format!("{}/{}", key.0, key.1));
        let priority = if options.priority == 0 { DEFAULT_PRIORITY } else { options.priority };
        let part = Part { host: None, path: None, exact: false, priority: Some(priority) };
        self.route(key, ingress, entries, part, target);
        if let Some(router) = self.table.routers.last_mut() {
            "default-router".clone_into(&mut router.name);
        }
    }

    /// Adds a route.
    fn route(
        &mut self,
        key: &Key,
        ingress: &Ingress,
        entries: u16,
        part: Part<'_>,
        target: Target,
    ) {
        let Ok(options) = &ingress.options else { return };
        let Part { host, path, exact, priority } = part;
        let shown = path.as_ref().map_or("", |(matcher, _)| text(matcher));
        let name = router_name(key, host.unwrap_or(""), shown);
        let (mut all, mut length) = (Vec::new(), 0);
        if let Some(host) = host {
            length += "Host(``)".len() + host.len();
            all.push(Matcher::Host(host.into()));
        }
        if let Some((matcher, own)) = path {
            length += own + if all.is_empty() { 0 } else { " && ".len() };
            all.push(matcher);
        }
        if all.is_empty() {
            all.push(Matcher::PathPrefix("/".into()));
        }
        let rule = Rule::all(all, Vec::new(), length);
        let given = (options.priority != 0).then_some(options.priority);
        let order = Order {
            priority: priority.or(given).unwrap_or(rule.length()),
            whole_host: host.is_some_and(|host| !host.starts_with('*')),
            exact,
            age: Reverse((ingress.created_secs, format!("{}/{}", key.0, key.1))),
        };
        let tls = options.tls;
        if tls {
            match self.named_options(&options.tls_options) {
                Ok(own) => self.options_for(&ingress.object, &rule.hosts(), own),
                Err(error) => return self.complain(&ingress.object, "TLSOptionNotFound", error),
            }
        }
        let middlewares = Vec::new();
        let timeout_ms = 0;
        self.table.routers.push(Router {
            name,
            rule,
            target,
            middlewares,
            entries,
            tls,
            order,
            timeout_ms,
        });
    }

    /// The entry points of an object; `None` if it names none that there is.
    pub(crate) fn entries(
        &mut self,
        about: &Object,
        names: Option<&Vec<String>>,
        leads: Leads,
    ) -> Option<u16> {
        let settings = &self.model.settings;
        let of_udp = settings.datagram_entries();
        let is_udp = leads == Leads::Datagrams;
        let mut bits = match (names, is_udp) {
            (Some(_), _) => 0,
            (None, false) => settings.default_entries(),
            (None, true) => of_udp,
        };
        for name in names.into_iter().flatten() {
            let message = match settings.entry(name) {
                Some(entry) if (entry.bit() & of_udp != 0) == is_udp => {
                    bits |= entry.bit();
                    continue;
                }
                Some(_) if is_udp => format!("entry point {name:?} is one of TCP"),
                Some(_) => format!("entry point {name:?} is one of UDP"),
                None => format!("entry point {name:?} does not exist"),
            };
            self.complain(about, "EntryPointNotFound", message);
        }
        if bits == 0 && names.is_none() {
            let message = "there is no entry point of UDP".to_owned();
            self.complain(about, "EntryPointNotFound", message);
        }
        (bits != 0).then_some(bits)
    }

    /// The certificates that an object brings.
    pub(crate) fn secrets(&mut self, namespace: &str, about: &Object, names: &[Box<str>]) {
        for name in names {
            let secret: Key = (namespace.into(), name.clone());
            if !self.model.secrets.contains_key(&secret) {
                let message = format!("secret {namespace}/{name} does not exist");
                self.complain(about, "SecretNotFound", message);
            } else if self.certificates.insert(secret.clone()) {
                self.table.certificates.push(secret);
            }
        }
    }

    /// Where a backend leads; `None` if it leads nowhere, of which the Ingress was told.
    fn target(&mut self, key: &Key, ingress: &Ingress, backend: &Backend) -> Option<Target> {
        let Backend::Service { name, port } = backend else {
            let message = "a backend that is no service is not supported".to_owned();
            self.complain(&ingress.object, "Unsupported", message);
            return None;
        };
        match self.service(&key.0, name, port, &|_| {}) {
            Ok(number) => Some(Target::Service(number)),
            Err(error) => {
                self.complain(&ingress.object, "BackendNotFound", error);
                None
            }
        }
    }

    /// The number of a service, with what `change` makes of its options.
    pub(crate) fn service(
        &mut self,
        namespace: &str,
        name: &str,
        port: &PortRef,
        change: &dyn Fn(&mut ServiceOptions),
    ) -> Result<usize, String> {
        let model = self.model;
        let what = || format!("service {namespace}/{name}");
        let service = model.services.get(&(namespace.into(), name.into()));
        let service = service.ok_or_else(|| format!("{} does not exist", what()))?;
        let options = service.options.as_ref().map_err(|error| format!("{}: {error}", what()))?;
        let mut options = options.clone();
        change(&mut options);
        let full_name = format!("{namespace}-{name}-{port}");
        let known = format!("{full_name} {options:?}");
        if let Some(number) = self.known.get(&known) {
            return Ok(*number);
        }
        let planned = self.plan(namespace, name, service, port, full_name, &options)?;
        self.table.services.push(planned);
        let number = self.table.services.len() - 1;
        self.known.insert(known, number);
        Ok(number)
    }

    fn plan(
        &mut self,
        namespace: &str,
        name: &str,
        service: &ServiceObject,
        wanted: &PortRef,
        full_name: String,
        options: &ServiceOptions,
    ) -> Result<Service, String> {
        let what = || format!("service {namespace}/{name}");
        if let Some(ignored) = options.ignored.first() {
            self.complain(&service.object, "Unsupported", ignored.clone());
        }
        let transport =
            self.transport(&options.transport).map_err(|error| format!("{}: {error}", what()))?;
        let port = service.port(wanted, false);
        let port = port.ok_or_else(|| format!("{} has no TCP port {wanted}", what()))?;
        let endpoints = self.endpoints(namespace, name, service, port, options.native)?;
        let scheme = match options.scheme.as_deref() {
            Some("https") => Scheme::Https,
            Some("h2c") => Scheme::H2c,
            Some(_) => Scheme::Http,
            None if port.h2c => Scheme::H2c,
            None if port.number == 443 || port.name.starts_with("https") => Scheme::Https,
            None => Scheme::Http,
        };
        Ok(Service {
            name: full_name,
            scheme,
            pass_host: options.pass_host,
            sticky: options.sticky.clone(),
            transport,
            endpoints,
        })
    }

    /// Where a Service's port is reached. `native` is by its own address.
    pub(crate) fn endpoints(
        &self,
        namespace: &str,
        name: &str,
        service: &ServiceObject,
        port: &ServicePort,
        native: bool,
    ) -> Result<Vec<Endpoint>, String> {
        let what = || format!("service {namespace}/{name}");
        let number = u16::try_from(port.number).unwrap_or(0);
        let endpoints = if &*service.kind == "ExternalName" {
            if !self.model.settings.external_names {
                return Err(format!(
                    "{} is an ExternalName, which is not allowed (--providers.kubernetesingress.allowexternalnameservices)",
                    what()
                ));
            }
            vec![Endpoint { host: service.external_name.to_string(), port: number, ready: true }]
        } else if native {
            let address = service
                .cluster_ip
                .ok_or_else(|| format!("{} has no address of its own", what()))?;
            vec![Endpoint { host: address.to_string(), port: number, ready: true }]
        } else {
            let slices = self.slices.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
            let mut all: Vec<Endpoint> =
                slices.iter().flat_map(|slice| slice.endpoints(port)).collect();
            all.arrange_by(|one, other| (!one.ready, one).cmp(&(!other.ready, other)));
            all.dedup_by(|one, other| (&one.host, one.port) == (&other.host, other.port));
            if !all.iter().any(|endpoint| endpoint.ready) {
                all.iter_mut().for_each(|endpoint| endpoint.ready = true);
            }
            all
        };
        Ok(endpoints)
    }

    fn statuses(&mut self, ours: &[(&Key, &Ingress)]) {
        let published = self.model.settings.published.as_ref();
        let Some(service) = published.and_then(|key| self.model.services.get(key)) else { return };
        // Before it has an address there is nothing to say.
        if service.addresses.is_empty() {
            return;
        }
        let stale = ours.iter().filter(|(_, ingress)| ingress.addresses != service.addresses);
        let status = || api::json!({"loadBalancer": {"ingress": service.addresses}});
        let stale = stale.map(|(_, ingress)| (ingress.object.clone(), status()));
        self.table.statuses = stale.collect();
    }
}

/// What a path asks for, with the length that it has in Traefik's rule; `None` for every path.
fn matcher(path: &HttpPath, matcher: PathMatcher) -> Result<Option<(Matcher, usize)>, String> {
    let text = &*path.path;
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('/') {
        return Err(format!("path {text:?} does not begin with a slash"));
    }
    let clean = crate::clean(text).ok_or_else(|| format!("path {text:?} is badly escaped"))?;
    let clean: Box<str> = [&*clean.path, clean.query].concat().into();
    let prefix_length = "PathPrefix(``)".len() + text.len();
    let one = match (path.kind, matcher) {
        // Longer than a prefix of the same length: that one comes after it.
        (PathKind::Exact, _) => (Matcher::Path(clean), prefix_length + 1),
        (PathKind::Prefix, _) => {
            let elements = clean.strip_suffix('/').unwrap_or(&clean).into();
            (Matcher::PathElements(elements), prefix_length)
        }
        (_, PathMatcher::PathPrefix) => (Matcher::PathPrefix(clean), prefix_length),
        (_, PathMatcher::Path) => (Matcher::Path(clean), "Path(``)".len() + text.len()),
        (_, PathMatcher::PathRegexp) => {
            (Matcher::PathRegexp(regex(text)?), "PathRegexp(``)".len() + text.len())
        }
    };
    Ok(Some(one))
}

/// The path in a router's name.
fn text(matcher: &Matcher) -> &str {
    match matcher {
        Matcher::Path(path) | Matcher::PathPrefix(path) | Matcher::PathElements(path) => path,
        Matcher::PathRegexp(regex) => regex.as_str(),
        _ => "",
    }
}

/// As Traefik names it: what is no letter or number is a dash.
fn router_name(key: &Key, host: &str, path: &str) -> String {
    let all = format!("{}-{}-{host}{path}", key.0, key.1);
    let words = all.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
