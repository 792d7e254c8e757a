//! IngressRoutes, and what they and annotations name of Traefik's other objects.

use std::cmp::Reverse;
use std::sync::Arc;

use api::Lens;
use stdx::OrdMap;

use crate::middleware::{BasicAuth, Middleware, Reference, users};
use crate::plan::Builder;
use crate::rule::Rule;
use crate::table::{Key, Order, Router, Share, Target};
use crate::traefik::{IngressRoute, Route, ServersTransport, ServiceRef, Transport};

/// Middlewares of one route, chains taken apart, and the chains.
const MIDDLEWARES_MAX: usize = 256;
/// As Traefik: what is above is its own.
const PRIORITY_MAX: i64 = i64::MAX - 1000;

/// Adds one route of an object, at entry points, by a name.
type Add<'a> = &'a mut dyn FnMut(
    &mut Builder<'_>,
    &Key,
    &IngressRoute,
    &Route,
    u16,
    String,
) -> Result<(), String>;

impl Builder<'_> {
    pub(crate) fn ingress_routes(&mut self) {
        let model = self.model;
        self.walk(&model.ingress_routes, &mut |builder, key, object, route, entries, name| {
            let mut router = builder.one_route(key, object, route, entries)?;
            router.name = name;
            builder.table.routers.push(router);
            Ok(())
        });
    }

    /// Adds each route of those objects that are ours, of requests or of connections.
    pub(crate) fn walk(&mut self, objects: &OrdMap<Key, IngressRoute>, add: Add<'_>) {
        for (key, object) in objects {
            if !object.is_ours(&self.model.settings.class) {
                continue;
            }
            let about = &object.object;
            if let Some(refused) = &object.refused {
                self.complain(about, "Unsupported", refused.clone());
                continue;
            }
            let named = object.entry_points.as_ref();
            let Some(entries) = self.entries(about, named, object.leads) else { continue };
            for ignored in &object.ignored {
                self.complain(about, "Unsupported", format!("{ignored} has no effect here"));
            }
            if !object.secret.is_empty() {
                self.secrets(&key.0, about, &[object.secret.as_str().into()]);
            }
            for (number, route) in object.routes.iter().enumerate() {
                let name = format!("{}-{}-{number}", key.0, key.1);
                if let Err(error) = add(self, key, object, route, entries, name) {
                    let message = format!("spec.routes[{number}] is not served: {error}");
                    self.complain(about, "InvalidRoute", message);
                }
            }
        }
    }

    pub(crate) fn stores(&mut self) {
        let model = self.model;
        for (key, store) in &model.stores {
            if let Some(unsupported) = &store.unsupported {
                self.complain(&store.object, "Unsupported", unsupported.clone());
                continue;
            }
            self.secrets(&key.0, &store.object, &store.certificates);
            if let Some(secret) = &store.default {
                self.secrets(&key.0, &store.object, std::slice::from_ref(secret));
                let secret = (key.0.clone(), secret.clone());
                self.table.host_certificates.push((secret, "".into()));
            }
        }
    }

    fn one_route(
        &mut self,
        key: &Key,
        object: &IngressRoute,
        route: &Route,
        entries: u16,
    ) -> Result<Router, String> {
        let rule = Rule::parse(&route.rule)?;
        let middlewares = self.middlewares(&key.0, &route.middlewares)?;
        let mut shares = Vec::new();
        for service in &route.services {
            self.share(&key.0, service, true, &mut shares)?;
        }
        let target = match shares.as_slice() {
            [] => return Err("it has no service".into()),
            [Share { service: Some(one), middlewares, .. }] if middlewares.is_empty() => {
                Target::Service(*one)
            }
            _ if shares.iter().all(|share| share.weight == 0) => {
                return Err("all weights are 0".into());
            }
            _ => {
                self.table.weighted.push(shares);
                Target::Weighted(self.table.weighted.len() - 1)
            }
        };
        let order = order(key, object, route, &rule);
        let tls = object.tls;
        if tls {
            let options = self.tls_options(&key.0, object.options.as_ref())?;
            self.options_for(&object.object, &rule.hosts(), options);
        }
        let name = String::new();
        Ok(Router { name, rule, target, middlewares, entries, tls, order, timeout_ms: 0 })
    }

    /// Adds what a reference leads to, with its weight.
    fn share(
        &mut self,
        namespace: &str,
        service: &ServiceRef,
        outer: bool,
        shares: &mut Vec<Share>,
    ) -> Result<(), String> {
        if let Some(unsupported) = &service.unsupported {
            return Err(unsupported.clone());
        }
        own_namespace(namespace, &service.to)?;
        let name = service.to.name.as_str();
        if service.traefik {
            let model = self.model;
            let found = model.traefik_services.get(&(namespace.into(), name.into()));
            let found =
                found.ok_or_else(|| format!("TraefikService {namespace}/{name} does not exist"))?;
            let parts = found
                .services
                .as_ref()
                .map_err(|error| format!("TraefikService {namespace}/{name}: {error}"))?;
            if !outer || parts.iter().any(|part| part.traefik) {
                return Err("a TraefikService within another is not supported".into());
            }
            if service.weight != 1 {
                return Err("a weight of a TraefikService beside others is not supported".into());
            }
            let begun = shares.len();
            for part in parts {
                let mut own = Vec::new();
                self.share(namespace, part, false, &mut own)?;
                shares.extend(own);
            }
            for (mirror, percent) in &found.mirrors {
                let mut own = Vec::new();
                self.share(namespace, mirror, false, &mut own)?;
                for service in own.iter().filter_map(|share| share.service) {
                    let mirror =
                        Middleware::Mirror { service, numerator: *percent, denominator: 100 };
                    let number = self.table.middlewares.len();
                    self.table
                        .middlewares
                        .push((format!("{namespace}-{name}-{number}"), Arc::new(mirror)));
                    for share in &mut shares[begun..] {
                        share.middlewares.push(number);
                    }
                }
            }
            return Ok(());
        }
        let transport = match service.transport.as_str() {
            "" => String::new(),
            name => format!("{namespace}-{name}"),
        };
        let change = |options: &mut crate::annotations::ServiceOptions| {
            if !service.scheme.is_empty() {
                options.scheme = Some(service.scheme.clone());
            }
            if let Some(pass_host) = service.pass_host {
                options.pass_host = pass_host;
            }
            if service.sticky.is_some() {
                options.sticky.clone_from(&service.sticky);
            }
            if !transport.is_empty() {
                options.transport.clone_from(&transport);
            }
            options.native |= service.native;
        };
        if !matches!(service.scheme.as_str(), "" | "http" | "https" | "h2c") {
            return Err(format!("the scheme {} is none of http, https and h2c", service.scheme));
        }
        let number = self.service(namespace, name, &service.port, &change)?;
        let (weight, service) = (service.weight, Some(number));
        shares.push(Share { weight, service, middlewares: Vec::new() });
        Ok(())
    }

    /// Middlewares as annotations name them, in any namespace.
    pub(crate) fn named_middlewares(&mut self, names: &[String]) -> Result<Vec<usize>, String> {
        let keys = names.iter().map(|name| {
            let key =
                self.named.get(name).ok_or_else(|| format!("middleware {name} does not exist"))?;
            Ok((*key).clone())
        });
        let keys = keys.collect::<Result<_, String>>()?;
        self.expand(keys)
    }

    fn middlewares(&mut self, namespace: &str, names: &[Reference]) -> Result<Vec<usize>, String> {
        self.expand(keys(namespace, names)?)
    }

    /// The numbers of middlewares, chains taken apart.
    pub(crate) fn expand(&mut self, mut keys: Vec<Key>) -> Result<Vec<usize>, String> {
        let model = self.model;
        let mut numbers = Vec::new();
        keys.reverse();
        let mut n_seen = 0;
        while let Some(key) = keys.pop() {
            n_seen += 1;
            if n_seen > MIDDLEWARES_MAX {
                return Err(format!(
                    "it has more than {MIDDLEWARES_MAX} middlewares, or chains of chains go round"
                ));
            }
            let what = || format!("middleware {}/{}", key.0, key.1);
            let object = model.middlewares.get(&key);
            let object = object.ok_or_else(|| format!("{} does not exist", what()))?;
            let read = object.read.as_ref().map_err(|error| format!("{}: {error}", what()));
            let middleware = match read {
                Ok(middleware) => middleware,
                Err(error) => {
                    self.complain(&object.object, "Unsupported", error.clone());
                    return Err(error);
                }
            };
            if let Middleware::Chain(names) = &**middleware {
                let mut inner = self::keys(&key.0, names)?;
                inner.reverse();
                keys.extend(inner);
                continue;
            }
            let known = self.numbers.get(&key).copied();
            let number = match known {
                Some(number) => number,
                None => {
                    let whole = self
                        .whole(&key, middleware)
                        .map_err(|error| format!("{}: {error}", what()))?;
                    self.table.middlewares.push((format!("{}-{}", key.0, key.1), whole));
                    self.numbers.insert(key.clone(), self.table.middlewares.len() - 1);
                    self.table.middlewares.len() - 1
                }
            };
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// A basic authentication with the users of its Secret, pages for errors with their service; others as they are.
    fn whole(
        &mut self,
        key: &Key,
        middleware: &Arc<Middleware>,
    ) -> Result<Arc<Middleware>, String> {
        let auth = match &**middleware {
            Middleware::BasicAuth(auth) => auth,
            Middleware::Errors(errors) => {
                if !errors.namespace.is_empty() && *errors.namespace != *key.0 {
                    return Err("references across namespaces are not allowed".into());
                }
                let service = self.service(&key.0, &errors.name, &errors.port, &|_| {})?;
                let own = Box::new(errors.at(service));
                return Ok(Arc::new(Middleware::Errors(own)));
            }
            _ => return Ok(Arc::clone(middleware)),
        };
        let secret = self.model.secrets.get(&(key.0.clone(), auth.secret.as_str().into()));
        let secret =
            secret.ok_or_else(|| format!("secret {}/{} does not exist", key.0, auth.secret))?;
        let auth = BasicAuth {
            realm: auth.realm.clone(),
            remove_header: auth.remove_header,
            header_field: auth.header_field.clone(),
            secret: auth.secret.clone(),
            users: users(&secret.tree())?,
        };
        Ok(Arc::new(Middleware::BasicAuth(Box::new(auth))))
    }

    /// A ServersTransport by `namespace-name`; "" is none.
    pub(crate) fn transport(&self, name: &str) -> Result<Option<Transport>, String> {
        if name.is_empty() {
            return Ok(None);
        }
        let key = self.named_transports.get(name);
        let key = *key.ok_or_else(|| format!("ServersTransport {name} does not exist"))?;
        let Some(found) = self.model.transports.get(key) else { return Ok(None) };
        self.transport_of(key, found).map(Some)
    }

    /// A ServersTransport with the authorities of its Secrets.
    pub(crate) fn transport_of(
        &self,
        key: &Key,
        found: &ServersTransport,
    ) -> Result<Transport, String> {
        if let Some(unsupported) = &found.unsupported {
            return Err(unsupported.clone());
        }
        Ok(Transport {
            insecure: found.insecure,
            server_name: found.server_name.clone(),
            roots: self.roots(&key.0, &found.roots)?,
        })
    }

    /// The authorities in Secrets, PEM.
    pub(crate) fn roots(&self, namespace: &str, names: &[String]) -> Result<Vec<u8>, String> {
        let mut roots = Vec::new();
        for name in names {
            let secret = self.model.secrets.get(&(namespace.into(), name.as_str().into()));
            let tree =
                secret.ok_or_else(|| format!("secret {namespace}/{name} does not exist"))?.tree();
            let text = tree.entry("data", "ca.crt").or_else(|| tree.entry("data", "tls.ca"));
            let bytes = text.and_then(wire::base64::decode);
            roots.extend(bytes.ok_or_else(|| format!("secret {namespace}/{name} has no ca.crt"))?);
            roots.push(b'\n');
        }
        Ok(roots)
    }
}

/// A route's place among others: by what it says, else by its rule's length.
pub(crate) fn order(key: &Key, object: &IngressRoute, route: &Route, rule: &Rule) -> Order {
    let priority = match route.priority {
        0 => rule.length(),
        given => given.min(PRIORITY_MAX),
    };
    let age = Reverse((object.created_secs, format!("{}/{}", key.0, key.1)));
    Order { priority, whole_host: false, exact: false, age }
}

pub(crate) fn keys(namespace: &str, names: &[Reference]) -> Result<Vec<Key>, String> {
    let key = |reference: &Reference| {
        own_namespace(namespace, reference)?;
        let name = reference.name.strip_suffix("@kubernetescrd").unwrap_or(&reference.name);
        Ok((namespace.into(), name.into()))
    };
    names.iter().map(key).collect()
}

/// Traefik's default: objects name others of their own namespace only.
pub(crate) fn own_namespace(namespace: &str, reference: &Reference) -> Result<(), String> {
    match reference.namespace.is_empty() || reference.namespace == namespace {
        true => Ok(()),
        false => Err(format!(
            "{} is in namespace {}, and references across namespaces are not allowed",
            reference.name, reference.namespace
        )),
    }
}
