//! What Services get from the cluster: addresses and ports, each held by one Service only.
//!
//! A claim in the store says that something is taken. It is made and deleted in the transaction that
//! writes the Service, so that it holds for every server of the store and through every crash.

pub(crate) mod claims;
mod families;

use std::net::IpAddr;
use stdx::OrdSet;

use api::kinds::SERVICE;
use api::status::Cause;
use api::{Kind, Lens, LensMut, Status, Value, json};
use claims::{Claims, Item};
pub(crate) use families::of as family;
use store::Store;

use crate::config::Config;
use crate::storage;

/// Gives a new Service what it asks for and what it needs.
///
/// # Errors
/// 422 when something cannot be had.
pub(crate) async fn create(
    config: &Config,
    store: &Store,
    kind: &Kind,
    tree: &mut Value,
) -> Result<Claims, Status> {
    match *kind == SERVICE {
        true => allocate(config, store, tree, None).await,
        false => Ok(Claims::default()),
    }
}

/// Gives a changed Service what it newly asks for, and takes what it gives up.
///
/// # Errors
/// 422 when something cannot be had.
pub(crate) async fn update(
    config: &Config,
    store: &Store,
    kind: &Kind,
    new: &mut Value,
    old: &Value,
) -> Result<Claims, Status> {
    if *kind != SERVICE {
        return Ok(Claims::default());
    }
    drop_dependent(new, old);
    carry_over(new, old);
    allocate(config, store, new, Some(old)).await
}

/// What a Service gives up with its deletion.
pub(crate) fn delete(kind: &Kind, old: &Value) -> Claims {
    match *kind == SERVICE {
        true => Claims { released: held(old), ..Claims::default() },
        false => Claims::default(),
    }
}

async fn allocate(
    config: &Config,
    store: &Store,
    tree: &mut Value,
    old: Option<&Value>,
) -> Result<Claims, Status> {
    let before = old.map(held).unwrap_or_default();
    families::settle(tree, old, &config.service_cidrs)?;
    let mut need = Need { store, config, before, taken: OrdSet::new() };
    if needs_address(tree) {
        need.addresses(tree).await?;
    }
    if needs_node_ports(tree) {
        need.node_ports(tree).await?;
    }
    if needs_health_check_port(tree) {
        need.health_check_port(tree).await?;
    }
    let left = held(tree);
    let released = need.before.difference(&left).copied().collect();
    let holder = storage::key(&SERVICE, tree.str("metadata.namespace"), tree.str("metadata.name"));
    Ok(Claims { holder, taken: need.taken, released })
}

/// One Service's needs.
struct Need<'a> {
    store: &'a Store,
    config: &'a Config,
    /// What the Service held before.
    before: OrdSet<Item>,
    /// What it gets now.
    taken: OrdSet<Item>,
}

impl Need<'_> {
    async fn is_taken(&self, item: Item) -> Result<bool, Status> {
        Ok(self.taken.contains(&item) || item.is_taken(self.store).await?)
    }

    async fn addresses(&mut self, tree: &mut Value) -> Result<(), Status> {
        let families: Vec<String> = tree
            .list("spec.ipFamilies")
            .iter()
            .filter_map(|f| f.as_str().map(str::to_owned))
            .collect();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (idx, family) in families.iter().enumerate() {
            let cidrs = &self.config.service_cidrs;
            let Some(cidr) = cidrs.iter().find(|cidr| families::of(cidr.address) == family) else {
                continue;
            };
            let asked = tree.list("spec.clusterIPs").get(idx).and_then(Value::as_str).unwrap_or("");
            let address = match asked {
                "" => {
                    let free = claims::free_address(self.store, *cidr, &self.taken).await?;
                    free.ok_or_else(|| {
                        Status::internal("failed to allocate a serviceIP: range is full")
                    })?
                }
                asked => {
                    let refuse = |why: String| {
                        Err(invalid(
                            tree,
                            "spec.clusterIPs",
                            format!(
                                "Invalid value: []string{{{asked:?}}}: failed to allocate IP {asked}: {why}"
                            ),
                        ))
                    };
                    let Some(address) = api::names::ip(asked) else {
                        return refuse("not a valid IP address".into());
                    };
                    if self.before.contains(&Item::Address(address)) {
                        addresses.push(address);
                        continue;
                    }
                    if cidr
                        .index(address)
                        .is_none_or(|n| n == 0 || (cidr.address.is_ipv4() && n + 1 == cidr.size()))
                    {
                        return refuse(format!(
                            "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {cidr}"
                        ));
                    }
                    if self.is_taken(Item::Address(address)).await? {
                        return refuse("provided IP is already allocated".into());
                    }
                    address
                }
            };
            self.taken.insert(Item::Address(address));
            addresses.push(address);
        }
        if let Some(first) = addresses.first() {
            tree.set("spec.clusterIP", first.to_string());
            let all: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            tree.set("spec.clusterIPs", json!(all));
        }
        Ok(())
    }

    async fn node_ports(&mut self, tree: &mut Value) -> Result<(), Status> {
        // Ports of this Service by now: number, protocol and port of each that has one.
        let mut own: Vec<(u16, String, i64)> = Vec::new();
        let n_ports = tree.list("spec.ports").len();
        // Those that are asked for by number come first, so that none is given to another port.
        for explicit in [true, false] {
            for idx in 0..n_ports {
                let port = &tree.list("spec.ports")[idx];
                let asked = port.int("nodePort").unwrap_or(0);
                if (asked != 0) != explicit {
                    continue;
                }
                let (protocol, number) =
                    (port.str("protocol").to_owned(), port.int("port").unwrap_or(0));
                let field = format!("spec.ports[{idx}].nodePort");
                let mut shared = own.iter().filter(|(node_port, other, theirs)| {
                    *other != protocol
                        && *theirs == number
                        && !own.iter().any(|(p, o, _)| p == node_port && *o == protocol)
                });
                let shared = shared.next().map(|(node_port, _, _)| *node_port);
                let chosen = match (asked, shared) {
                    (0, Some(node_port)) => node_port,
                    (0, None) => self.free_port("a nodePort").await?,
                    (asked, _) => self.asked_port(tree, &field, asked, &protocol, &own).await?,
                };
                let item = Item::Port(chosen);
                if !self.before.contains(&item) {
                    self.taken.insert(item);
                }
                own.push((chosen, protocol, number));
                tree.set(&field.replace('[', ".").replace(']', ""), chosen);
            }
        }
        Ok(())
    }

    /// A node port that the Service asks for by its number.
    async fn asked_port(
        &self,
        tree: &Value,
        field: &str,
        asked: i64,
        protocol: &str,
        own: &[(u16, String, i64)],
    ) -> Result<u16, Status> {
        let (first, last) = self.config.node_ports;
        let refuse = |why: String| {
            let message = format!("Invalid value: {asked}: provided port {why}");
            Err(invalid(tree, field, message))
        };
        let port = u16::try_from(asked).unwrap_or(0);
        if !(first..=last).contains(&port) {
            let range = format!("The range of valid ports is {first}-{last}");
            return refuse(format!("is not in the valid range. {range}"));
        }
        let item = Item::Port(port);
        // Two protocols of one Service may share a port.
        let shared = own.iter().any(|(own, _, _)| *own == port);
        let twice = own.iter().any(|(own, other, _)| *own == port && other == protocol);
        let others = !shared && !self.before.contains(&item) && self.is_taken(item).await?;
        let taken = twice || others;
        match taken {
            true => refuse("is already allocated".into()),
            false => Ok(port),
        }
    }

    async fn free_port(&self, what: &str) -> Result<u16, Status> {
        let free = claims::free_port(self.store, self.config.node_ports, &self.taken).await?;
        free.ok_or_else(|| Status::internal(format!("failed to allocate {what}: range is full")))
    }

    async fn health_check_port(&mut self, tree: &mut Value) -> Result<(), Status> {
        let field = "spec.healthCheckNodePort";
        let port = match tree.int(field).unwrap_or(0) {
            0 => self.free_port("a HealthCheck NodePort").await?,
            asked => {
                // What is no port is refused by its rule.
                let Ok(port) = u16::try_from(asked) else { return Ok(()) };
                if self.before.contains(&Item::Port(port)) {
                    return Ok(());
                }
                if self.is_taken(Item::Port(port)).await? {
                    return Err(Status::internal(format!(
                        "failed to allocate requested HealthCheck NodePort {asked}: provided port is already allocated"
                    )));
                }
                port
            }
        };
        self.taken.insert(Item::Port(port));
        tree.set(field, port);
        Ok(())
    }
}

/// Everything a Service holds.
fn held(service: &Value) -> OrdSet<Item> {
    let addresses = service.list("spec.clusterIPs").iter().chain([service.at("spec.clusterIP")]);
    let ports = service.list("spec.ports").iter().map(|port| port.int("nodePort"));
    let port = |value: Option<i64>| value.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    let ports = ports.chain([service.int("spec.healthCheckNodePort")]).filter_map(port);
    addresses
        .filter_map(|address| address.as_str()?.parse().ok())
        .map(Item::Address)
        .chain(ports.map(Item::Port))
        .collect()
}

fn needs_address(service: &Value) -> bool {
    service.str("spec.type") != "ExternalName" && service.str("spec.clusterIP") != "None"
}

fn needs_node_ports(service: &Value) -> bool {
    match service.str("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => {
            service.at("spec.allocateLoadBalancerNodePorts").as_bool().unwrap_or(true)
                || service
                    .list("spec.ports")
                    .iter()
                    .any(|port| port.int("nodePort").unwrap_or(0) != 0)
        }
        _ => false,
    }
}

fn needs_health_check_port(service: &Value) -> bool {
    service.str("spec.type") == "LoadBalancer"
        && service.str("spec.externalTrafficPolicy") == "Local"
}

/// Fields that belong to a type the Service no longer has go, if the client left them as they were.
fn drop_dependent(new: &mut Value, old: &Value) {
    let same = |path: &str| new.at(path) == old.at(path);
    let external = new.str("spec.type") == "ExternalName" && old.str("spec.type") != "ExternalName";
    let addresses = external && same("spec.clusterIPs");
    let ports = !needs_type_ports(new) && needs_type_ports(old) && same("spec.ports");
    let health = needs_health_check_port(old)
        && !needs_health_check_port(new)
        && same("spec.healthCheckNodePort");
    let balancer = new.str("spec.type") != "LoadBalancer" && old.str("spec.type") == "LoadBalancer";
    if addresses {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove(&format!("spec.{field}"));
        }
    }
    if ports {
        for port in new.list_mut("spec.ports") {
            port.remove("nodePort");
        }
    }
    if health {
        new.remove("spec.healthCheckNodePort");
    }
    if balancer {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            let path = format!("spec.{field}");
            if new.at(&path) == old.at(&path) {
                new.remove(&path);
            }
        }
        new.remove("status.loadBalancer.ingress");
    }
    let wants_policy = match new.str("spec.type") {
        "NodePort" | "LoadBalancer" => true,
        kind => kind == "ClusterIP" && !new.list("spec.externalIPs").is_empty(),
    };
    if !wants_policy && new.at("spec.externalTrafficPolicy") == old.at("spec.externalTrafficPolicy")
    {
        new.remove("spec.externalTrafficPolicy");
    }
}

fn needs_type_ports(service: &Value) -> bool {
    matches!(service.str("spec.type"), "NodePort" | "LoadBalancer")
}

/// What a replacement left out and the cluster had chosen stays.
fn carry_over(new: &mut Value, old: &Value) {
    let has_address = |service: &Value| service.str("spec.type") != "ExternalName";
    if has_address(old) && has_address(new) {
        if new.str("spec.clusterIP").is_empty() && old.has("spec.clusterIP") {
            new.set("spec.clusterIP", old.at("spec.clusterIP").clone());
        }
        let is_same = new.str("spec.clusterIP") == old.str("spec.clusterIP");
        if is_same && new.list("spec.clusterIPs").is_empty() && old.has("spec.clusterIPs") {
            new.set("spec.clusterIPs", old.at("spec.clusterIPs").clone());
        }
    }
    if needs_type_ports(old) && needs_type_ports(new) {
        let numbers = |service: &Value| -> OrdSet<i64> {
            service
                .list("spec.ports")
                .iter()
                .filter_map(|p| p.int("nodePort"))
                .filter(|n| *n != 0)
                .collect()
        };
        let mut used: OrdSet<i64> = numbers(new).intersection(&numbers(old)).copied().collect();
        for port in new.list_mut("spec.ports") {
            if port.int("nodePort").unwrap_or(0) != 0 {
                continue;
            }
            let before = old
                .list("spec.ports")
                .iter()
                .find(|before| before.str("name") == port.str("name"))
                .and_then(|before| before.int("nodePort"))
                .filter(|n| *n != 0);
            if let Some(number) = before.filter(|number| !used.contains(number)) {
                used.insert(number);
                port.set("nodePort", number);
            }
        }
    }
    if needs_health_check_port(old)
        && needs_health_check_port(new)
        && new.int("spec.healthCheckNodePort").unwrap_or(0) == 0
        && old.has("spec.healthCheckNodePort")
    {
        new.set("spec.healthCheckNodePort", old.at("spec.healthCheckNodePort").clone());
    }
}

pub(crate) fn invalid(tree: &Value, field: &str, message: String) -> Status {
    let cause = Cause { reason: "FieldValueInvalid", message, field: field.into() };
    Status::invalid(&SERVICE, tree.str("metadata.name"), vec![cause])
}
