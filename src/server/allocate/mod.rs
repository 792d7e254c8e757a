//! What Services get from the cluster: addresses and ports, each held by one Service only.
//!
//! Nothing but the Services themselves says what is taken; at start they are read once.

mod families;
mod pools;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::kinds::SERVICE;
use api::status::Cause;
use api::{Kind, Lens, LensMut, Status, Value, json};
pub(crate) use families::of as family;
use pools::{Item, Pools};
use store::{Query, Store};

use crate::config::{Cidr, Config};
use crate::registry::storage;

/// The allocators of the cluster's Services.
#[derive(Debug)]
pub(crate) struct Allocators {
    pools: Arc<Mutex<Pools>>,
    cidrs: Vec<Cidr>,
    node_ports: (u16, u16),
}

/// What was taken for a write that may still fail; given back when dropped without `keep`.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    pools: Option<Arc<Mutex<Pools>>>,
    taken: Vec<Item>,
    /// What the write gives up.
    released: Vec<Item>,
}

impl Reservation {
    /// The write happened.
    pub(crate) fn keep(mut self) {
        let taken = std::mem::take(&mut self.taken);
        drop(taken);
        self.settle(|reservation| std::mem::take(&mut reservation.released));
    }

    fn settle(&mut self, which: impl Fn(&mut Reservation) -> Vec<Item>) {
        let items = which(self);
        if let Some(pools) = &self.pools {
            let mut pools = lock(pools);
            items.into_iter().for_each(|item| pools.release(item));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(|reservation| std::mem::take(&mut reservation.taken));
    }
}

fn lock(pools: &Mutex<Pools>) -> MutexGuard<'_, Pools> {
    // Changed in single steps that a panic cannot leave half done.
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Allocators {
    /// Reads what the stored Services hold.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn load(config: &Config, store: &Store) -> Result<Allocators, Status> {
        let mut pools = Pools::default();
        let range = store.range(&Query::prefix(storage::prefix(&SERVICE, ""))).await;
        for version in range.map_err(storage::status)?.items {
            let service = storage::object(&SERVICE, &version)?.tree();
            held(&service).into_iter().for_each(|item| pools.take(item));
        }
        Ok(Allocators {
            pools: Arc::new(Mutex::new(pools)),
            cidrs: config.service_cidrs.clone(),
            node_ports: config.node_ports,
        })
    }

    /// Gives a new Service what it asks for and what it needs.
    ///
    /// # Errors
    /// 422 when something cannot be had.
    pub(crate) fn create(&self, kind: &Kind, tree: &mut Value) -> Result<Reservation, Status> {
        match *kind == SERVICE {
            true => self.allocate(tree, None, false),
            false => Ok(Reservation::default()),
        }
    }

    /// Gives a changed Service what it newly asks for; what it gives up is free once the write is done.
    ///
    /// # Errors
    /// 422 when something cannot be had.
    pub(crate) fn update(
        &self,
        kind: &Kind,
        new: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        if *kind != SERVICE {
            return Ok(Reservation::default());
        }
        drop_dependent(new, old);
        carry_over(new, old);
        self.allocate(new, Some(old), dry_run)
    }

    /// A Service is gone.
    pub(crate) fn deleted(&self, kind: &Kind, old: &Value) {
        if *kind == SERVICE {
            let mut pools = lock(&self.pools);
            held(old).into_iter().for_each(|item| pools.release(item));
        }
    }

    fn allocate(
        &self,
        tree: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        let before: Vec<Item> = old.map(held).unwrap_or_default();
        let pools = Some(Arc::clone(&self.pools));
        let mut reservation = Reservation { pools, taken: Vec::new(), released: Vec::new() };
        families::settle(tree, old, &self.cidrs)?;
        if needs_address(tree) {
            self.addresses(tree, &before, &mut reservation)?;
        }
        if needs_node_ports(tree) {
            self.node_ports(tree, &before, &mut reservation)?;
        }
        if needs_health_check_port(tree) {
            self.health_check_port(tree, &before, &mut reservation)?;
        }
        let mut left = held(tree);
        for item in before {
            match left.iter().position(|kept| *kept == item) {
                Some(idx) => {
                    left.swap_remove(idx);
                }
                None => reservation.released.push(item),
            }
        }
        if dry_run {
            reservation.released.clear();
        }
        Ok(reservation)
    }

    fn addresses(
        &self,
        tree: &mut Value,
        before: &[Item],
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        let families: Vec<String> = tree
            .list("spec.ipFamilies")
            .iter()
            .filter_map(|f| f.as_str().map(str::to_owned))
            .collect();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (idx, family) in families.iter().enumerate() {
            let Some(cidr) = self.cidrs.iter().find(|cidr| families::of(cidr.address) == family)
            else {
                continue;
            };
            let asked = tree.list("spec.clusterIPs").get(idx).and_then(Value::as_str).unwrap_or("");
            let mut pools = lock(&self.pools);
            let address = match asked {
                "" => pools.free_address(*cidr, rt::random_u64).ok_or_else(|| {
                    Status::internal("failed to allocate a serviceIP: range is full")
                })?,
                asked => {
                    let refuse = |why: String| {
                        let value = json!([asked]);
                        Err(invalid(
                            tree,
                            "spec.clusterIPs",
                            format!("Invalid value: {value}: failed to allocate IP {asked}: {why}"),
                        ))
                    };
                    let Some(address) = api::names::ip(asked) else {
                        return refuse("not a valid IP address".into());
                    };
                    if before.contains(&Item::Address(address)) {
                        addresses.push(address);
                        continue;
                    }
                    if cidr.index(address).is_none_or(|n| n == 0 || n + 1 == cidr.size()) {
                        return refuse(format!(
                            "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {cidr}"
                        ));
                    }
                    if pools.is_taken(Item::Address(address)) {
                        return refuse("provided IP is already allocated".into());
                    }
                    address
                }
            };
            pools.take(Item::Address(address));
            reservation.taken.push(Item::Address(address));
            addresses.push(address);
        }
        if let Some(first) = addresses.first() {
            tree.set("spec.clusterIP", first.to_string());
            let all: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            tree.set("spec.clusterIPs", json!(all));
        }
        Ok(())
    }

    fn node_ports(
        &self,
        tree: &mut Value,
        before: &[Item],
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        // Ports of this Service by now: number, protocol and port of each that has one.
        let mut own: Vec<(u16, String, i64)> = Vec::new();
        let n_ports = tree.list("spec.ports").len();
        let mut spare: Vec<Item> = before.to_vec();
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
                let mut pools = lock(&self.pools);
                let shared = own.iter().find(|(node_port, other, theirs)| {
                    *other != protocol
                        && *theirs == number
                        && !own.iter().any(|(p, o, _)| p == node_port && *o == protocol)
                });
                let chosen = match (asked, shared) {
                    (0, Some((node_port, _, _))) => *node_port,
                    (0, None) => {
                        pools.free_port(self.node_ports, rt::random_u64).ok_or_else(|| {
                            Status::internal("failed to allocate a nodePort: range is full")
                        })?
                    }
                    (asked, _) => {
                        let port = u16::try_from(asked).unwrap_or(0);
                        if !(self.node_ports.0..=self.node_ports.1).contains(&port) {
                            let (first, last) = self.node_ports;
                            return Err(invalid(
                                tree,
                                &field,
                                format!(
                                    "Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is {first}-{last}"
                                ),
                            ));
                        }
                        let mine =
                            own.iter().any(|(own, other, _)| *own == port && *other != protocol);
                        let item = Item::Port(port);
                        if let Some(at) = spare.iter().position(|held| *held == item) {
                            spare.swap_remove(at);
                            own.push((port, protocol, number));
                            continue;
                        }
                        if pools.is_taken(item) && !mine {
                            return Err(invalid(
                                tree,
                                &field,
                                format!(
                                    "Invalid value: {asked}: provided port is already allocated"
                                ),
                            ));
                        }
                        port
                    }
                };
                pools.take(Item::Port(chosen));
                reservation.taken.push(Item::Port(chosen));
                drop(pools);
                own.push((chosen, protocol, number));
                tree.set(&field.replace('[', ".").replace(']', ""), chosen);
            }
        }
        Ok(())
    }

    fn health_check_port(
        &self,
        tree: &mut Value,
        before: &[Item],
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        let field = "spec.healthCheckNodePort";
        let asked = tree.int(field).unwrap_or(0);
        let mut pools = lock(&self.pools);
        let port = match asked {
            0 => pools.free_port(self.node_ports, rt::random_u64).ok_or_else(|| {
                Status::internal("failed to allocate a HealthCheck NodePort: range is full")
            })?,
            asked => {
                let port = u16::try_from(asked).unwrap_or(0);
                if before.contains(&Item::Port(port)) {
                    return Ok(());
                }
                if pools.is_taken(Item::Port(port)) {
                    return Err(Status::internal(format!(
                        "failed to allocate requested HealthCheck NodePort {asked}: provided port is already allocated"
                    )));
                }
                port
            }
        };
        pools.take(Item::Port(port));
        reservation.taken.push(Item::Port(port));
        tree.set(field, port);
        Ok(())
    }
}

/// Everything a Service holds.
fn held(service: &Value) -> Vec<Item> {
    let mut items: Vec<Item> = service
        .list("spec.clusterIPs")
        .iter()
        .chain([service.at("spec.clusterIP")])
        .filter_map(|address| address.as_str()?.parse().ok())
        .collect::<BTreeSet<IpAddr>>()
        .into_iter()
        .map(Item::Address)
        .collect();
    let port = |value: Option<i64>| value.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0);
    items.extend(
        service.list("spec.ports").iter().filter_map(|p| port(p.int("nodePort"))).map(Item::Port),
    );
    items.extend(port(service.int("spec.healthCheckNodePort")).map(Item::Port));
    items
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
    let wants_policy = matches!(new.str("spec.type"), "NodePort" | "LoadBalancer")
        || !new.list("spec.externalIPs").is_empty();
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
    if needs_address(old) && needs_address(new) {
        if new.str("spec.clusterIP").is_empty() && new.list("spec.clusterIPs").is_empty() {
            for field in ["spec.clusterIP", "spec.clusterIPs"] {
                if old.has(field) {
                    new.set(field, old.at(field).clone());
                }
            }
        } else if new.str("spec.clusterIP") == old.str("spec.clusterIP")
            && new.list("spec.clusterIPs").is_empty()
        {
            new.set("spec.clusterIPs", old.at("spec.clusterIPs").clone());
        }
    }
    if needs_type_ports(old) && needs_type_ports(new) {
        let numbers = |service: &Value| -> BTreeSet<i64> {
            service
                .list("spec.ports")
                .iter()
                .filter_map(|p| p.int("nodePort"))
                .filter(|n| *n != 0)
                .collect()
        };
        let mut used: BTreeSet<i64> = numbers(new).intersection(&numbers(old)).copied().collect();
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
