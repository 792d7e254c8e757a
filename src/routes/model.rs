//! The objects that routes are made of, as far as they are known.

use api::{Kind, Object, kinds};
use stdx::OrdMap;

use crate::gateway_objects::{GATEWAY_CLASS, Gateways};
use crate::objects::{Class, Ingress, ServiceObject, Slice};
use crate::table::{Entry, Key};
use crate::tcp_objects::TcpObjects;
use crate::tls_option::{TLS_OPTION, TlsOption};
use crate::traefik::{
    INGRESS_ROUTE, IngressRoute, MIDDLEWARE, MiddlewareObject, SERVERS_TRANSPORT, ServersTransport,
    TLS_STORE, TRAEFIK_SERVICE, TlsStore, TraefikService,
};

/// What an administrator may choose.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whose load balancer addresses Ingresses get; `None` leaves their status alone.
    pub published: Option<Key>,
    /// The one class that is served; "" is every class whose controller we are.
    pub class: String,
    /// Services of type ExternalName may be led to.
    pub external_names: bool,
    /// Ports at which listeners of Gateways are served by `web` and by `websecure`: the entry point's own, and the
    /// one that its Service has by the same name.
    pub ports: [u16; 2],
    /// Entry points beside those two, by their names.
    pub more: Vec<(Box<str>, More)>,
}

/// What an entry point beside the usual two is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// Of TCP, for objects that name it.
    Named,
    /// Of TCP, also for objects that name none.
    Default,
    /// Of UDP.
    Datagrams,
}

impl Settings {
    /// Entry points beside the usual two.
    pub const MORE_MAX: usize = 12;

    /// An entry point by its name.
    pub fn entry(&self, name: &str) -> Option<Entry> {
        match name {
            "web" => Some(Entry::Web),
            "websecure" => Some(Entry::WebSecure),
            _ => self.all_more().find(|(_, own, _)| *own == name).map(|(entry, ..)| entry),
        }
    }

    /// Those beside the usual two, each with its name and whether it is a default one.
    pub(crate) fn all_more(&self) -> impl Iterator<Item = (Entry, &str, More)> {
        let numbered = (0..).zip(self.more.iter().take(Settings::MORE_MAX));
        numbered.map(|(number, (name, more))| (Entry::More(number), &**name, *more))
    }

    fn bits(&self, wanted: More) -> u16 {
        let more = self.all_more().filter(|(.., more)| *more == wanted);
        more.fold(0, |bits, (entry, ..)| bits | entry.bit())
    }

    pub(crate) fn default_entries(&self) -> u16 {
        Entry::Web.bit() | Entry::WebSecure.bit() | self.bits(More::Default)
    }

    /// All of UDP.
    pub(crate) fn datagram_entries(&self) -> u16 {
        self.bits(More::Datagrams)
    }
}

/// What is known of the objects.
#[derive(Debug, Default)]
pub struct Model {
    pub(crate) settings: Settings,
    pub(crate) ingresses: OrdMap<Key, Ingress>,
    pub(crate) classes: OrdMap<Box<str>, Class>,
    pub(crate) services: OrdMap<Key, ServiceObject>,
    pub(crate) slices: OrdMap<Key, Slice>,
    pub(crate) secrets: OrdMap<Key, Object>,
    pub(crate) ingress_routes: OrdMap<Key, IngressRoute>,
    pub(crate) middlewares: OrdMap<Key, MiddlewareObject>,
    pub(crate) traefik_services: OrdMap<Key, TraefikService>,
    pub(crate) transports: OrdMap<Key, ServersTransport>,
    pub(crate) stores: OrdMap<Key, TlsStore>,
    pub(crate) tls_options: OrdMap<Key, TlsOption>,
    pub(crate) tcp: TcpObjects,
    pub(crate) gateway: Gateways,
}

impl Model {
    pub fn new(settings: Settings) -> Model {
        Model { settings, ..Model::default() }
    }

    /// The kinds that it wants to be told of, each with a field selector.
    pub fn kinds() -> [(&'static Kind, &'static str); 16] {
        let [route, datagrams, middleware, transport] = TcpObjects::KINDS;
        [
            (&kinds::INGRESS, ""),
            (&kinds::INGRESS_CLASS, ""),
            (&kinds::SERVICE, ""),
            (&kinds::ENDPOINT_SLICE, ""),
            // What Helm keeps is large, and nothing that routes name.
            (&kinds::SECRET, "type!=helm.sh/release.v1"),
            (&INGRESS_ROUTE, ""),
            (&MIDDLEWARE, ""),
            (&TRAEFIK_SERVICE, ""),
            (&SERVERS_TRANSPORT, ""),
            (&TLS_STORE, ""),
            (&TLS_OPTION, ""),
            (route, ""),
            (datagrams, ""),
            (middleware, ""),
            (transport, ""),
            (&GATEWAY_CLASS, ""),
        ]
    }

    /// The kinds that it wants to be told of as long as `has_gateways`, beside the others.
    pub fn gateway_kinds() -> [(&'static Kind, &'static str); 6] {
        Gateways::KINDS
    }

    /// Whether there is a GatewayClass of ours.
    pub fn has_gateways(&self) -> bool {
        self.gateway.has_class()
    }

    /// An object is new, or another one than before.
    pub fn put(&mut self, object: &Object) {
        let key = (object.namespace().into(), object.name().into());
        let kind = object.kind();
        if kind == &kinds::INGRESS {
            self.ingresses.insert(key, Ingress::read(object));
        } else if kind == &kinds::INGRESS_CLASS {
            self.classes.insert(key.1, Class::read(&object.tree()));
        } else if kind == &kinds::SERVICE {
            self.services.insert(key, ServiceObject::read(object));
        } else if kind == &kinds::ENDPOINT_SLICE {
            self.slices.insert(key, Slice::read(&object.tree()));
        } else if kind == &kinds::SECRET {
            self.secrets.insert(key, object.clone());
        } else if kind == &INGRESS_ROUTE {
            self.ingress_routes.insert(key, IngressRoute::read(object));
        } else if kind == &MIDDLEWARE {
            self.middlewares.insert(key, MiddlewareObject::read(object));
        } else if kind == &TRAEFIK_SERVICE {
            self.traefik_services.insert(key, TraefikService::read(&object.tree()));
        } else if kind == &SERVERS_TRANSPORT {
            self.transports.insert(key, ServersTransport::read(&object.tree()));
        } else if kind == &TLS_STORE {
            self.stores.insert(key, TlsStore::read(object));
        } else if kind == &TLS_OPTION {
            self.tls_options.insert(key, TlsOption::read(object));
        } else if TcpObjects::has(kind) {
            self.tcp.put(key, object);
        } else {
            self.gateway.put(kind, key, object);
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, kind: &'static Kind, key: &Key) {
        if kind == &kinds::INGRESS {
            self.ingresses.remove(key);
        } else if kind == &kinds::INGRESS_CLASS {
            self.classes.remove(&key.1);
        } else if kind == &kinds::SERVICE {
            self.services.remove(key);
        } else if kind == &kinds::ENDPOINT_SLICE {
            self.slices.remove(key);
        } else if kind == &kinds::SECRET {
            self.secrets.remove(key);
        } else if kind == &INGRESS_ROUTE {
            self.ingress_routes.remove(key);
        } else if kind == &MIDDLEWARE {
            self.middlewares.remove(key);
        } else if kind == &TRAEFIK_SERVICE {
            self.traefik_services.remove(key);
        } else if kind == &SERVERS_TRANSPORT {
            self.transports.remove(key);
        } else if kind == &TLS_STORE {
            self.stores.remove(key);
        } else if kind == &TLS_OPTION {
            self.tls_options.remove(key);
        } else if TcpObjects::has(kind) {
            self.tcp.remove(kind, key);
        } else {
            self.gateway.remove(kind, key);
        }
    }

    /// These are all objects of a kind: what is not among them is gone.
    pub fn replace(&mut self, kind: &'static Kind, objects: &[Object]) {
        if kind == &kinds::INGRESS {
            self.ingresses.clear();
        } else if kind == &kinds::INGRESS_CLASS {
            self.classes.clear();
        } else if kind == &kinds::SERVICE {
            self.services.clear();
        } else if kind == &kinds::ENDPOINT_SLICE {
            self.slices.clear();
        } else if kind == &kinds::SECRET {
            self.secrets.clear();
        } else if kind == &INGRESS_ROUTE {
            self.ingress_routes.clear();
        } else if kind == &MIDDLEWARE {
            self.middlewares.clear();
        } else if kind == &TRAEFIK_SERVICE {
            self.traefik_services.clear();
        } else if kind == &SERVERS_TRANSPORT {
            self.transports.clear();
        } else if kind == &TLS_STORE {
            self.stores.clear();
        } else if kind == &TLS_OPTION {
            self.tls_options.clear();
        } else if TcpObjects::has(kind) {
            self.tcp.clear(kind);
        } else {
            self.gateway.clear(kind);
        }
        objects.iter().for_each(|object| self.put(object));
    }

    /// A Secret, as it is stored.
    pub fn secret(&self, key: &Key) -> Option<&Object> {
        self.secrets.get(key)
    }
}
