//! Address families of Services: policy, families and addresses made to agree.

use std::net::IpAddr;

use api::{Lens, LensMut, Status, Value, json};

use super::invalid;
use crate::config::Cidr;

/// `IPv4` or `IPv6`.
pub(crate) fn of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Fills `ipFamilyPolicy`, `ipFamilies` and the form of `clusterIPs` of a Service.
///
/// # Errors
/// 422 for what the cluster's ranges cannot give.
pub(crate) fn settle(tree: &mut Value, old: Option<&Value>, cidrs: &[Cidr]) -> Result<(), Status> {
    if tree.str("spec.type") == "ExternalName" {
        return Ok(());
    }
    let cluster: Vec<&'static str> = cidrs.iter().map(|cidr| of(cidr.address)).collect();
    let Some(default) = cluster.first().copied() else { return Ok(()) };
    normalize(tree, old);
    // Before anything is allocated, as upstream, so that the rest has no corners to look into.
    rules::kinds::check_service_addresses(tree)?;
    let headless = tree.str("spec.clusterIP") == "None";
    let any_family =
        headless && tree.at("spec.selector").as_object().is_none_or(|map| map.is_empty());
    let mut families: Vec<String> =
        tree.list("spec.ipFamilies").iter().filter_map(|f| f.as_str().map(str::to_owned)).collect();
    if !tree.has("spec.ipFamilyPolicy") {
        let policy = match old.map(|old| old.str("spec.ipFamilyPolicy")).unwrap_or("") {
            _ if any_family && old.is_none() => "RequireDualStack",
            "" => match families.len().max(tree.list("spec.clusterIPs").len()) > 1 {
                true => "RequireDualStack",
                false => "SingleStack",
            },
            before => before,
        };
        tree.set("spec.ipFamilyPolicy", policy);
    }
    // Addresses that are asked for say their families.
    for (idx, address) in tree.list("spec.clusterIPs").iter().enumerate() {
        if let Some(address) = address.as_str().and_then(api::names::ip) {
            match families.get(idx) {
                None => families.push(of(address).to_owned()),
                Some(family) if family != of(address) => {
                    return Err(invalid(
                        tree,
                        "spec.clusterIPs",
                        format!(
                            "Invalid value: {}: clusterIPs[{idx}] expected {family}, found {}",
                            tree.at("spec.clusterIPs"),
                            of(address)
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    if !any_family {
        for (idx, family) in families.iter().enumerate() {
            if !cluster.contains(&family.as_str()) {
                return Err(invalid(
                    tree,
                    &format!("spec.ipFamilies[{idx}]"),
                    format!("Invalid value: {family:?}: not configured on this cluster"),
                ));
            }
        }
    }
    let policy = tree.str("spec.ipFamilyPolicy").to_owned();
    if policy == "RequireDualStack" && cluster.len() < 2 && !any_family {
        return Err(invalid(
            tree,
            "spec.ipFamilyPolicy",
            "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services".into(),
        ));
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if families.len() == 1 && policy != "SingleStack" {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        let possible = cluster.contains(&other) || any_family && policy == "RequireDualStack";
        if possible {
            families.push(other.to_owned());
        }
    }
    if policy == "SingleStack" && families.len() > 1 {
        families.truncate(1);
        if !headless {
            let kept: Vec<Value> = tree.list("spec.clusterIPs").iter().take(1).cloned().collect();
            if !kept.is_empty() {
                tree.set("spec.clusterIPs", Value::Array(kept));
            }
        }
    }
    tree.set("spec.ipFamilies", json!(families));
    Ok(())
}

/// Who knows `clusterIP` only means `clusterIPs`, too. Whether both say the same is then checked.
fn normalize(tree: &mut Value, old: Option<&Value>) {
    const ALL: &str = "spec.clusterIPs";
    let address = tree.str("spec.clusterIP").to_owned();
    let meant = |address: &str| (!address.is_empty()).then(|| json!([address]));
    let Some(old) = old else {
        if let (true, Some(all)) = (tree.list(ALL).is_empty(), meant(&address)) {
            tree.set(ALL, all);
        }
        return;
    };
    let is_same = old.str("spec.clusterIP") == address;
    if is_same && tree.list(ALL).is_empty() && !old.list(ALL).is_empty() {
        tree.set(ALL, old.at(ALL).clone());
    } else if !is_same && tree.list(ALL) == old.list(ALL) {
        match meant(&address) {
            Some(all) => tree.set(ALL, all),
            None => drop(tree.remove(ALL)),
        }
    }
}
