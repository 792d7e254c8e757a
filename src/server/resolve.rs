//! Where a Service is: one of its ready endpoints, as the API knows them.
//!
//! The network that carries Service addresses is the node's, and a server may have none.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
use api::{Lens, Value};
use client::ListOptions;
use http::client::{Endpoint, Protocol};
use http::tls::{self, ClientConfig, Identity, Trust};
use store::Store;

use crate::Tunnels;
use crate::storage::{self, list};

/// A Service that a configuration names as where another server is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Backend {
    /// Reads a `ServiceReference` that passed validation.
    pub(crate) fn of(service: &Value) -> Backend {
        Backend {
            namespace: service.str("namespace").to_owned(),
            name: service.str("name").to_owned(),
            port: service.int("port").and_then(|port| port.try_into().ok()).unwrap_or(443),
        }
    }

    /// The name in its certificate.
    pub(crate) fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Where to connect to now.
    ///
    /// # Errors
    /// Why there is no such place, in upstream's words.
    pub(crate) async fn endpoint(
        &self,
        ways: Ways<'_>,
        tls: Arc<ClientConfig>,
    ) -> Result<Endpoint, String> {
        let found = service(ways.store, &self.namespace, &self.name, self.port).await?;
        let Found { host, port, node } = found;
        // Whoever may write Services names these: not what listens on loopback or a link-local address
        // here. As upstream: requests on one HTTP/2 connection would all reach one of a Service's pods.
        let endpoint = Endpoint::tcp(host, port).server_name(self.host()).far_only();
        let endpoint = endpoint.tls(tls).protocol(Protocol::Http1);
        // What endpoints say of their node is a user's word: the node leads to its own pods only.
        let way = ways.tunnels.filter(|_| !node.is_empty());
        let way = way.and_then(|tunnels| tunnels.to_pods(&node));
        Ok(match way {
            Some(way) => endpoint.dialer(way),
            None => endpoint,
        })
    }
}

/// Where Services are looked for, and what leads to their pods.
#[derive(Clone, Copy)]
pub(crate) struct Ways<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tunnels: Option<&'a dyn Tunnels>,
}

/// A place behind a Service.
struct Found {
    host: String,
    port: u16,
    /// Whose pod it is; empty if nobody says.
    node: String,
}

/// Whose certificates another server may show, as a configuration says.
pub(crate) struct Trusted {
    /// PEM; empty for the public authorities.
    ca_bundle: Vec<u8>,
    insecure: bool,
    /// Made at the first connection; connections are kept by it.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Trusted {
    /// Reads `caBundle` and `insecureSkipTLSVerify`.
    pub(crate) fn of(config: &Value) -> Trusted {
        Trusted {
            ca_bundle: wire::base64::decode(config.str("caBundle")).unwrap_or_default(),
            insecure: config.flag("insecureSkipTLSVerify"),
            tls: OnceLock::new(),
        }
    }

    pub(crate) fn is_same(&self, other: &Trusted) -> bool {
        (&self.ca_bundle, self.insecure) == (&other.ca_bundle, other.insecure)
    }

    /// What a connection needs, where this server shows itself as `identity`.
    ///
    /// # Errors
    /// What is wrong with the certificates.
    pub(crate) fn tls(
        &self,
        identity: Option<&Arc<Identity>>,
    ) -> Result<Arc<ClientConfig>, String> {
        let make = || {
            let trust = match (self.insecure, self.ca_bundle.is_empty()) {
                (true, _) => Ok(Trust::Insecure),
                (_, true) => Ok(Trust::Roots(tls::public_roots())),
                (_, false) => tls::roots(&self.ca_bundle).map(Trust::Roots),
            };
            trust
                .and_then(|trust| tls::client_config(trust, identity.cloned()))
                .map_err(|error| format!("unable to load root certificates: {error}"))
        };
        self.tls.get_or_init(make).clone()
    }
}

/// The address and port of a random ready endpoint behind a Service's port.
///
/// # Errors
/// Why there is none, in upstream's words.
async fn service(store: &Store, namespace: &str, name: &str, port: u16) -> Result<Found, String> {
    let found = storage::find(store, &SERVICE, namespace, name).await;
    let service = found.map_err(|status| status.to_string())?;
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?.tree();
    if service.str("spec.type") == "ExternalName" {
        let host = service.str("spec.externalName").to_owned();
        return Ok(Found { host, port, node: String::new() });
    }
    if service.str("spec.clusterIP") == "None" {
        return Err("cannot route to service with ClusterIP \"None\"".into());
    }
    let is_it = |item: &&Value| item.int("port") == Some(port.into());
    let port_name = service.list("spec.ports").iter().find(is_it).map(|item| item.str("name"));
    let Some(port_name) = port_name else {
        return Err(format!("no service port {port} found for service {name:?}"));
    };
    let mut all = of_slices(store, namespace, name, port_name).await?;
    if all.is_empty() {
        all = of_endpoints(store, namespace, name, port_name).await?;
    }
    match all.len() {
        0 => Err(format!("no endpoints available for service {name:?}")),
        n => {
            let chosen = usize::try_from(rt::random_u64() % n as u64).unwrap_or(0);
            Ok(all.swap_remove(chosen))
        }
    }
}

/// An address that may be an endpoint: never this machine's loopback or a link's own.
fn usable(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    rt::net::is_far(address).then(|| address.to_string())
}

fn port_of(ports: &[Value], name: &str) -> Option<u16> {
    let port = ports.iter().find(|port| port.str("name") == name)?;
    port.int("port").and_then(|port| port.try_into().ok())
}

async fn of_slices(
    store: &Store,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<Vec<Found>, String> {
    let options = ListOptions {
        label_selector: format!("kubernetes.io/service-name={name}"),
        ..ListOptions::default()
    };
    let found = list::list(store, &ENDPOINT_SLICE, namespace, &options).await;
    let slices = found.map_err(|status| status.to_string())?;
    let mut all = Vec::new();
    for slice in slices.items.iter().map(|slice| slice.tree()) {
        let Some(port) = port_of(slice.list("ports"), port) else { continue };
        let ready = slice.list("endpoints").iter().filter(|endpoint| {
            // Absent is ready.
            endpoint.at("conditions.ready").as_bool().unwrap_or(true)
        });
        // Each address of an endpoint is as good as the first, which alone is used.
        all.extend(ready.filter_map(|endpoint| {
            let host = usable(endpoint.list("addresses").first()?.as_str()?)?;
            Some(Found { host, port, node: endpoint.str("nodeName").to_owned() })
        }));
    }
    Ok(all)
}

async fn of_endpoints(
    store: &Store,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<Vec<Found>, String> {
    let found = storage::find(store, &ENDPOINTS, namespace, name).await;
    let Some(endpoints) = found.map_err(|status| status.to_string())? else {
        return Ok(Vec::new());
    };
    let tree = endpoints.tree();
    let mut all = Vec::new();
    for subset in tree.list("subsets") {
        let Some(port) = port_of(subset.list("ports"), port) else { continue };
        all.extend(subset.list("addresses").iter().filter_map(|address| {
            let host = usable(address.str("ip"))?;
            Some(Found { host, port, node: address.str("nodeName").to_owned() })
        }));
    }
    Ok(all)
}
