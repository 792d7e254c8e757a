//! Traefik's objects about whole connections: IngressRouteTCP, MiddlewareTCP and ServersTransportTCP; and about datagrams:
//! IngressRouteUDP.

use std::sync::Arc;

use api::{Kind, Lens, Object, Value};
use stdx::OrdMap;

use crate::middleware::TcpMiddleware;
use crate::read::only;
use crate::table::Key;
use crate::traefik::{INGRESS_ROUTE_TCP, INGRESS_ROUTE_UDP, IngressRoute, ServersTransport, kind};

pub(crate) static MIDDLEWARE_TCP: Kind = kind("MiddlewareTCP", "middlewaretcps");
pub(crate) static SERVERS_TRANSPORT_TCP: Kind = kind("ServersTransportTCP", "serverstransporttcps");

/// The objects as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct TcpObjects {
    pub(crate) routes: OrdMap<Key, IngressRoute>,
    pub(crate) datagrams: OrdMap<Key, IngressRoute>,
    pub(crate) middlewares: OrdMap<Key, (Object, Result<Arc<TcpMiddleware>, String>)>,
    pub(crate) transports: OrdMap<Key, ServersTransport>,
}

impl TcpObjects {
    pub(crate) const KINDS: [&'static Kind; 4] =
        [&INGRESS_ROUTE_TCP, &INGRESS_ROUTE_UDP, &MIDDLEWARE_TCP, &SERVERS_TRANSPORT_TCP];

    pub(crate) fn has(kind: &'static Kind) -> bool {
        TcpObjects::KINDS.contains(&kind)
    }

    pub(crate) fn put(&mut self, key: Key, object: &Object) {
        let kind = object.kind();
        if kind == &INGRESS_ROUTE_TCP {
            self.routes.insert(key, IngressRoute::read(object));
        } else if kind == &INGRESS_ROUTE_UDP {
            self.datagrams.insert(key, IngressRoute::read(object));
        } else if kind == &MIDDLEWARE_TCP {
            let read = TcpMiddleware::read(&object.tree()).map(Arc::new);
            self.middlewares.insert(key, (object.clone(), read));
        } else if kind == &SERVERS_TRANSPORT_TCP {
            self.transports.insert(key, transport(&object.tree()));
        }
    }

    pub(crate) fn remove(&mut self, kind: &'static Kind, key: &Key) {
        if kind == &INGRESS_ROUTE_TCP {
            self.routes.remove(key);
        } else if kind == &INGRESS_ROUTE_UDP {
            self.datagrams.remove(key);
        } else if kind == &MIDDLEWARE_TCP {
            self.middlewares.remove(key);
        } else if kind == &SERVERS_TRANSPORT_TCP {
            self.transports.remove(key);
        }
    }

    pub(crate) fn clear(&mut self, kind: &'static Kind) {
        if kind == &INGRESS_ROUTE_TCP {
            self.routes.clear();
        } else if kind == &INGRESS_ROUTE_UDP {
            self.datagrams.clear();
        } else if kind == &MIDDLEWARE_TCP {
            self.middlewares.clear();
        } else if kind == &SERVERS_TRANSPORT_TCP {
            self.transports.clear();
        }
    }
}

/// A ServersTransportTCP: what it says of TLS is what one of requests says.
fn transport(tree: &Value) -> ServersTransport {
    let spec = tree.at("spec");
    let mut read = ServersTransport::read(&api::json!({"spec": spec.at("tls")}));
    if let Err(error) = only(spec, "a ServersTransportTCP", &["tls"]) {
        read.unsupported.get_or_insert(error);
    }
    read
}
