//! EndpointSlice: some of the addresses behind a service.

use api::address;
use api::complain::{Complain, IMMUTABLE};
use api::kinds::ENDPOINT_SLICE;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::column::Column;
use crate::print::first_three;

pub(super) static RULES: Rules = Rules {
    kind: &ENDPOINT_SLICE,
    validate,
    columns: COLUMNS,
    on_update: "CV",
    prepare,
    ..Rules::BASE
};

/// This version has names for what the topology said once; of endpoints that do not change it stays.
fn prepare(new: &mut Value, old: Option<&Value>) {
    const FIELD: &str = "deprecatedTopology";
    const NODE: &str = "kubernetes.io/hostname";
    if old.is_some_and(|old| old.at("endpoints") == new.at("endpoints")) {
        return;
    }
    let before: OrdSet<&str> = old
        .map_or(&[][..], |old| old.list("endpoints"))
        .iter()
        .filter_map(|endpoint| endpoint.entry(FIELD, NODE))
        .collect();
    let Some(Value::Array(endpoints)) = new.at_mut("endpoints") else { return };
    for endpoint in endpoints {
        let Some(topology) = endpoint.remove(FIELD) else { continue };
        let named = topology.get(NODE).and_then(Value::as_str).filter(|node| before.contains(node));
        let only = topology.as_object().is_some_and(|map| map.len() == 1);
        if let (true, true, Some(node)) = (!endpoint.has("nodeName"), only, named) {
            endpoint.set("nodeName", node);
        }
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("AddressType", "addressType"),
    Column::with("Ports", |tree, _| ports(tree).into()),
    Column::with("Endpoints", |tree, _| addresses(tree).into()),
    Column::AGE,
];

fn ports(tree: &Value) -> String {
    let ports: Vec<String> = tree
        .list("ports")
        .iter()
        .map(|port| match port.int("port") {
            Some(number) => number.to_string(),
            None => port.at("name").as_str().unwrap_or("*").to_owned(),
        })
        .collect();
    first_three(&ports, "<unset>")
}

fn addresses(tree: &Value) -> String {
    let addresses = tree.list("endpoints").iter().flat_map(|endpoint| endpoint.list("addresses"));
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    first_three(&addresses, "<unset>")
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const ENDPOINTS_MAX: usize = 1000;
    const ADDRESSES_MAX: usize = 100;
    let endpoints = new.list("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        causes.too_many("endpoints", endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (idx, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{idx}].addresses");
        let addresses = endpoint.list("addresses");
        if addresses.is_empty() {
            causes.required(&path, "must contain at least 1 address");
        }
        if addresses.len() > ADDRESSES_MAX {
            causes.too_many(&path, addresses.len(), ADDRESSES_MAX);
        }
        for (nth, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let path = format!("{path}[{nth}]");
            let family = address::parse(address).map(|ip| ip.is_ipv4());
            // An IPv4 address written as IPv6 is none of IPv6, as upstream.
            match (new.str("addressType"), family) {
                ("FQDN", _) => {
                    full_name(address, &path, causes);
                    continue;
                }
                ("IPv4", Some(false) | None) => {
                    causes.invalid(&path, &address.into(), "must be a valid IPv4 address");
                }
                ("IPv6", Some(true) | None) => {
                    causes.invalid(&path, &address.into(), "must be a valid IPv6 address");
                }
                _ => {}
            }
            if matches!(new.str("addressType"), "IPv4" | "IPv6") {
                address::endpoint(address, &path, causes);
            }
        }
        about(endpoint, &format!("endpoints[{idx}]"), causes);
    }
    ports_of(new, causes);
    if old.is_some_and(|old| old.at("addressType") != new.at("addressType")) {
        causes.invalid("addressType", new.at("addressType"), IMMUTABLE);
    }
}

/// A domain name with at least two parts; a dot may end it.
fn full_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        return causes.required(path, "");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let why = match names::subdomain(name) {
        Err(why) => why.replace('\n', ","),
        Ok(()) if !name.contains('.') => {
            "should be a domain with at least two segments separated by dots".into()
        }
        Ok(()) => match name.split('.').find_map(|label| names::label(label).err()) {
            Some(why) => why,
            None => return,
        },
    };
    causes.invalid(path, &name.into(), &why);
}

/// What an endpoint says of itself beside its addresses.
fn about(endpoint: &Value, path: &str, causes: &mut Vec<Cause>) {
    const TOPOLOGY_MAX: usize = 16;
    const ZONES_MAX: usize = 8;
    if let Some(node) = endpoint.at("nodeName").as_str() {
        causes.check_name(&format!("{path}.nodeName"), node, names::subdomain);
    }
    let topology = format!("{path}.deprecatedTopology");
    let n_labels = endpoint.pairs("deprecatedTopology").count();
    if n_labels > TOPOLOGY_MAX {
        causes.too_many(&topology, n_labels, TOPOLOGY_MAX);
    }
    api::labels::labels(endpoint.at("deprecatedTopology"), &topology, causes);
    if let Some(hostname) = endpoint.at("hostname").as_str() {
        causes.check_name(&format!("{path}.hostname"), hostname, names::label);
    }
    let zones = endpoint.list("hints.forZones");
    let path = format!("{path}.hints.forZones");
    if zones.len() > ZONES_MAX {
        causes.too_many(&path, zones.len(), ZONES_MAX);
        return;
    }
    let mut seen = OrdSet::new();
    for (idx, zone) in zones.iter().enumerate() {
        let path = format!("{path}[{idx}].name");
        if !seen.insert(zone.str("name")) {
            causes.duplicate(&path, &zone.str("name").into());
        }
        causes.check_name(&path, zone.str("name"), names::label_value);
    }
}

fn ports_of(new: &Value, causes: &mut Vec<Cause>) {
    const PORTS_MAX: usize = 20_000;
    let n_ports = new.list("ports").len();
    if n_ports > PORTS_MAX {
        causes.too_many("ports", n_ports, PORTS_MAX);
        return;
    }
    let mut seen = OrdSet::new();
    for (idx, port) in new.list("ports").iter().enumerate() {
        let path = format!("ports[{idx}]");
        if !port.str("name").is_empty() {
            causes.check_name(&format!("{path}.name"), port.str("name"), names::label);
        }
        if !seen.insert(port.str("name")) {
            causes.duplicate(&format!("{path}.name"), &port.str("name").into());
        }
        if let Some(protocol) = port.at("appProtocol").as_str() {
            causes.check_name(&format!("{path}.appProtocol"), protocol, names::qualified);
        }
    }
}
