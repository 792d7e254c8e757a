//! Traefik's own objects: IngressRoute, Middleware, TraefikService and ServersTransport.

use api::kind::Declared;
use api::{Kind, Lens, Object, Value};

use crate::annotations::Sticky;
use crate::middleware::{Middleware, Reference};
use crate::objects::PortRef;
use crate::read::only;

pub(crate) const fn kind(name: &'static str, plural: &'static str) -> Kind {
    const DECLARED: Declared = Declared { version: "v1alpha1", ..Declared::RUN_TIME };
    Kind { group: "traefik.io", name, plural, declared: &DECLARED, ..Kind::BASE }
}

pub(crate) static INGRESS_ROUTE: Kind = kind("IngressRoute", "ingressroutes");
pub(crate) static INGRESS_ROUTE_TCP: Kind = kind("IngressRouteTCP", "ingressroutetcps");
pub(crate) static INGRESS_ROUTE_UDP: Kind = kind("IngressRouteUDP", "ingressrouteudps");
pub(crate) static MIDDLEWARE: Kind = kind("Middleware", "middlewares");
pub(crate) static TRAEFIK_SERVICE: Kind = kind("TraefikService", "traefikservices");
pub(crate) static SERVERS_TRANSPORT: Kind = kind("ServersTransport", "serverstransports");
pub(crate) static TLS_STORE: Kind = kind("TLSStore", "tlsstores");

/// Items of one list.
const ITEMS_MAX: usize = 1024;
/// Fields of one object that are told to do nothing.
const IGNORED_MAX: usize = 16;

/// What is led by an object's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    Requests,
    Connections,
    Datagrams,
}

/// An IngressRoute, an IngressRouteTCP or an IngressRouteUDP.
#[derive(Debug)]
pub(crate) struct IngressRoute {
    pub(crate) object: Object,
    pub(crate) leads: Leads,
    pub(crate) class: String,
    pub(crate) entry_points: Option<Vec<String>>,
    pub(crate) routes: Vec<Route>,
    pub(crate) tls: bool,
    /// Its TLS is passed on as it is, which only IngressRouteTCPs can ask for.
    pub(crate) passthrough: bool,
    /// Of a certificate; "" for none.
    pub(crate) secret: String,
    /// A TLSOption.
    pub(crate) options: Option<Reference>,
    /// Why nothing of it can be served.
    pub(crate) refused: Option<String>,
    /// Fields that do nothing.
    pub(crate) ignored: Vec<String>,
    pub(crate) created_secs: i64,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) rule: String,
    pub(crate) priority: i64,
    pub(crate) services: Vec<ServiceRef>,
    pub(crate) middlewares: Vec<Reference>,
}

/// A service as a route names it.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRef {
    pub(crate) to: Reference,
    /// A TraefikService, and not a Service.
    pub(crate) traefik: bool,
    pub(crate) port: PortRef,
    pub(crate) weight: u32,
    pub(crate) scheme: String,
    pub(crate) pass_host: Option<bool>,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) transport: String,
    pub(crate) native: bool,
    /// Of a route of connections: TLS is spoken with endpoints, and they are told in a version of the PROXY protocol
    /// who connects, which 0 is not.
    pub(crate) tls: bool,
    pub(crate) proxy_version: u8,
    pub(crate) unsupported: Option<String>,
}

impl IngressRoute {
    pub(crate) fn read(object: &Object) -> IngressRoute {
        let tree = object.tree();
        let spec = tree.at("spec");
        let tls = spec.at("tls");
        let annotation = tree.entry("metadata.annotations", "kubernetes.io/ingress.class");
        let class = match spec.str("ingressClassName") {
            "" => annotation.unwrap_or(""),
            name => name,
        };
        let names =
            spec.list("entryPoints").iter().filter_map(|name| name.as_str().map(Into::into));
        let names: Vec<String> = names.collect();
        let leads = match object.kind() {
            kind if kind == &INGRESS_ROUTE_TCP => Leads::Connections,
            kind if kind == &INGRESS_ROUTE_UDP => Leads::Datagrams,
            _ => Leads::Requests,
        };
        let mut ignored = Vec::new();
        others(tls, &["secretName", "options", "store", "passthrough"], "spec.tls", &mut ignored);
        for route in spec.list("routes").iter().take(ITEMS_MAX) {
            const KNOWN: [&str; 6] =
                ["services", "match", "kind", "priority", "middlewares", "syntax"];
            let known = match (leads, route.str("syntax")) {
                (Leads::Datagrams, _) => &KNOWN[..1],
                (_, "" | "v3" | "default") => &KNOWN[..],
                _ => &KNOWN[..5],
            };
            others(route, known, "spec.routes", &mut ignored);
        }
        let mut refused = None;
        if leads == Leads::Datagrams && spec.has("tls") {
            refused = Some("spec.tls is not of an IngressRouteUDP".to_owned());
        }
        if tls.has("store") && tls.str("store.name") != "default" {
            refused = Some("spec.tls.store is not supported".to_owned());
        }
        if leads == Leads::Requests && tls.flag("passthrough") {
            refused = Some("spec.tls.passthrough is for an IngressRouteTCP".to_owned());
        }
        IngressRoute {
            leads,
            class: class.to_owned(),
            entry_points: (!names.is_empty()).then_some(names),
            routes: spec
                .list("routes")
                .iter()
                .take(ITEMS_MAX)
                .map(|route| Route::read(route, leads))
                .collect(),
            tls: spec.has("tls"),
            passthrough: tls.flag("passthrough"),
            options: tls.has("options").then(|| Reference::read(tls.at("options"))),
            secret: tls.str("secretName").into(),
            refused,
            ignored,
            created_secs: api::time::parse(tree.str("metadata.creationTimestamp"))
                .map_or(0, |time| time.secs()),
            object: object.clone(),
        }
    }
}

/// Adds the names of fields that are not `known`, each once.
fn others(tree: &Value, known: &[&str], at: &str, out: &mut Vec<String>) {
    for key in tree.as_object().into_iter().flat_map(api::Map::keys) {
        let name = format!("{at}.{key}");
        if !known.contains(&key.as_str()) && out.len() < IGNORED_MAX && !out.contains(&name) {
            out.push(name);
        }
    }
}

impl IngressRoute {
    /// Whether it is one of the class that is served, or of the usual one.
    pub(crate) fn is_ours(&self, wanted: &str) -> bool {
        match wanted {
            "" => matches!(self.class.as_str(), "" | "traefik"),
            wanted => self.class == wanted,
        }
    }
}

impl Route {
    fn read(tree: &Value, leads: Leads) -> Route {
        Route {
            rule: tree.str("match").into(),
            priority: tree.int("priority").unwrap_or(0),
            services: tree
                .list("services")
                .iter()
                .take(ITEMS_MAX)
                .map(|service| ServiceRef::read(service, leads))
                .collect(),
            middlewares: tree
                .list("middlewares")
                .iter()
                .take(ITEMS_MAX)
                .map(Reference::read)
                .collect(),
        }
    }
}

impl ServiceRef {
    fn read(tree: &Value, leads: Leads) -> ServiceRef {
        // The first of them are all that datagrams have.
        const OF_TCP: &[&str] = &[
            "name",
            "namespace",
            "port",
            "weight",
            "nativeLB",
            "tls",
            "proxyProtocol",
            "serversTransport",
        ];
        const KNOWN: &[&str] = &[
            "name",
            "namespace",
            "kind",
            "port",
            "weight",
            "scheme",
            "passHostHeader",
            "sticky",
            "serversTransport",
            "nativeLB",
            "strategy",
            "responseForwarding",
        ];
        let known = match leads {
            Leads::Requests => KNOWN,
            Leads::Connections => OF_TCP,
            Leads::Datagrams => &OF_TCP[..5],
        };
        let mut unsupported = only(tree, "a service", known).err();
        let proxy_version = match tree.has("proxyProtocol") {
            false => 0,
            true => tree.int("proxyProtocol.version").unwrap_or(2),
        };
        if !matches!(proxy_version, 0..=2) {
            unsupported = Some(format!("there is no PROXY protocol {proxy_version}"));
        }
        if !matches!(tree.str("strategy"), "" | "wrr" | "RoundRobin") {
            unsupported = Some(format!("the strategy {} is not supported", tree.str("strategy")));
        }
        let cookie = tree.at("sticky.cookie");
        let sticky = (!cookie.is_null()).then(|| Sticky {
            name: cookie.str("name").into(),
            secure: cookie.flag("secure"),
            http_only: cookie.flag("httpOnly"),
            same_site: cookie.str("sameSite").into(),
            max_age: cookie.int("maxAge").unwrap_or(0),
            path: if cookie.has("path") { cookie.str("path").into() } else { "/".into() },
            domain: cookie.str("domain").into(),
        });
        if let Some(Err(error)) = sticky.as_ref().map(Sticky::check) {
            unsupported = Some(error);
        }
        ServiceRef {
            to: Reference::read(tree),
            traefik: tree.str("kind") == "TraefikService",
            port: PortRef::read(tree.at("port")),
            weight: tree.int("weight").and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            scheme: tree.str("scheme").into(),
            pass_host: tree.at("passHostHeader").as_bool(),
            sticky,
            transport: tree.str("serversTransport").into(),
            native: tree.flag("nativeLB"),
            tls: tree.flag("tls"),
            proxy_version: u8::try_from(proxy_version).unwrap_or(0),
            unsupported,
        }
    }
}

/// A Middleware, or why it cannot be one.
#[derive(Debug)]
pub(crate) struct MiddlewareObject {
    pub(crate) object: Object,
    pub(crate) read: Result<std::sync::Arc<Middleware>, String>,
}

impl MiddlewareObject {
    pub(crate) fn read(object: &Object) -> MiddlewareObject {
        let read = Middleware::read(&object.tree()).map(Into::into);
        MiddlewareObject { object: object.clone(), read }
    }
}

/// A TraefikService: services by weight, or one and those that get copies of its requests.
#[derive(Debug)]
pub(crate) struct TraefikService {
    pub(crate) services: Result<Vec<ServiceRef>, String>,
    /// With how many of a hundred requests each sees.
    pub(crate) mirrors: Vec<(ServiceRef, u32)>,
}

impl TraefikService {
    pub(crate) fn read(tree: &Value) -> TraefikService {
        let spec = tree.at("spec");
        let keys: Vec<&String> = spec.as_object().into_iter().flat_map(api::Map::keys).collect();
        let key = if let [key] = keys.as_slice() { key.as_str() } else { "" };
        let own = spec.at(key);
        let mut mirrors = Vec::new();
        let services = match key {
            "weighted" if !own.has("sticky") => Ok(own
                .list("services")
                .iter()
                .take(ITEMS_MAX)
                .map(|service| ServiceRef::read(service, Leads::Requests))
                .collect()),
            "weighted" => Err("weighted.sticky is not supported".into()),
            "mirroring" if own.has("maxBodySize") => {
                Err("mirroring.maxBodySize is not supported: copies stream by".into())
            }
            "mirroring" if own.at("mirrorBody").as_bool() == Some(false) => {
                Err("mirroring without bodies is not supported".into())
            }
            "mirroring" => {
                let mut main = own.clone();
                if let Some(map) = main.as_object_mut() {
                    map.retain(|key, _| !matches!(key.as_str(), "mirrors" | "mirrorBody"));
                }
                for mirror in own.list("mirrors").iter().take(ITEMS_MAX) {
                    let mut to = mirror.clone();
                    to.as_object_mut().map(|map| map.remove("percent"));
                    let percent = mirror.int("percent").and_then(|n| u32::try_from(n).ok());
                    let to = ServiceRef::read(&to, Leads::Requests);
                    mirrors.push((to, percent.unwrap_or(0).min(100)));
                }
                Ok(vec![ServiceRef::read(&main, Leads::Requests)])
            }
            _ => Err(format!(
                "a TraefikService of {keys:?} is not supported: weighted and mirroring are"
            )),
        };
        TraefikService { services, mirrors }
    }
}

/// How endpoints are spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Any certificate is taken.
    pub insecure: bool,
    /// The name in the certificate, if it is not the endpoint's address.
    pub server_name: String,
    /// Who signs certificates, PEM; empty for the public authorities.
    pub roots: Vec<u8>,
}

/// A ServersTransport.
#[derive(Debug)]
pub(crate) struct ServersTransport {
    pub(crate) insecure: bool,
    pub(crate) server_name: String,
    /// Secrets with authorities.
    pub(crate) roots: Vec<String>,
    pub(crate) unsupported: Option<String>,
}

impl ServersTransport {
    pub(crate) fn read(tree: &Value) -> ServersTransport {
        const KNOWN: &[&str] = &[
            "insecureSkipVerify",
            "serverName",
            "rootCAsSecrets",
            "rootCAs",
            "maxIdleConnsPerHost",
            "disableHTTP2",
            "forwardingTimeouts",
        ];
        let spec = tree.at("spec");
        let unknown =
            spec.as_object().and_then(|map| map.keys().find(|key| !KNOWN.contains(&key.as_str())));
        let mut unsupported =
            unknown.map(|key| format!("{key} of a ServersTransport is not supported"));
        let mut roots: Vec<String> = spec
            .list("rootCAsSecrets")
            .iter()
            .take(ITEMS_MAX)
            .filter_map(|name| name.as_str().map(Into::into))
            .collect();
        for one in spec.list("rootCAs").iter().take(ITEMS_MAX) {
            match one.str("secret") {
                "" => unsupported = Some("rootCAs of ConfigMaps are not supported".into()),
                name => roots.push(name.into()),
            }
        }
        ServersTransport {
            insecure: spec.flag("insecureSkipVerify"),
            server_name: spec.str("serverName").into(),
            roots,
            unsupported,
        }
    }
}

/// A TLSStore: certificates, and the one for names of which there is none.
#[derive(Debug)]
pub(crate) struct TlsStore {
    pub(crate) object: Object,
    /// Secrets.
    pub(crate) default: Option<Box<str>>,
    pub(crate) certificates: Vec<Box<str>>,
    pub(crate) unsupported: Option<String>,
}

impl TlsStore {
    pub(crate) fn read(object: &Object) -> TlsStore {
        let tree = object.tree();
        let spec = tree.at("spec");
        let secret = |tree: &Value| tree.str("secretName").into();
        let only = only(spec, "a TLSStore", &["defaultCertificate", "certificates"]);
        let default = spec.at("defaultCertificate");
        TlsStore {
            default: default.has("secretName").then(|| secret(default)),
            certificates: spec.list("certificates").iter().take(ITEMS_MAX).map(secret).collect(),
            unsupported: match object.name() {
                "default" => only.err(),
                name => Some(format!("there is one TLSStore, default, and {name} is not used")),
            },
            object: object.clone(),
        }
    }
}
