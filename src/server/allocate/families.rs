//! Address families of Services: policy, families and addresses made to agree.

use std::net::IpAddr;

use api::kinds::SERVICE;
use api::status::Cause;
use api::{Lens, LensMut, Status, Value, json};

use crate::config::Cidr;

/// `IPv4` or `IPv6`.
pub(crate) fn of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Fills `ipFamilyPolicy`, `ipFamilies` and the form of `clusterIPs` of a Service.
///
/// # Errors
/// 422 for what does not go together, and for what the cluster's ranges cannot give.
pub(crate) fn settle(tree: &mut Value, old: Option<&Value>, cidrs: &[Cidr]) -> Result<(), Status> {
    if tree.str("spec.type") == "ExternalName" {
        return Ok(());
    }
    let cluster: Vec<&'static str> = cidrs.iter().map(|cidr| of(cidr.address)).collect();
    let Some(default) = cluster.first().copied() else { return Ok(()) };
    normalize(tree, old);
    if old.is_some_and(|old| stays_as_it_is(tree, old)) {
        return Ok(());
    }
    let any_family = tree.str("spec.clusterIP") == "None"
        && tree.at("spec.selector").as_object().is_none_or(|map| map.is_empty());
    if !tree.has(POLICY) {
        let before = old.map_or("", |old| old.str(POLICY));
        let policy = match before {
            "" if any_family => "RequireDualStack",
            "" => "SingleStack",
            before => before,
        };
        tree.set(POLICY, policy);
    }
    // Before anything is allocated, as upstream, so that the rest has no corners to look into.
    rules::kinds::check_service_addresses(tree)?;
    let policy = tree.str(POLICY).to_owned();
    let mut causes = Causes { of: &policy, all: Vec::new() };
    if let Some(old) = old {
        follow_policy(tree, old, &mut causes);
    }
    let (addresses, mut families) = (texts(tree, ADDRESSES), texts(tree, FAMILIES));
    if policy == "SingleStack" {
        for (list, what) in [(&addresses, "cluster IPs"), (&families, "IP families")] {
            if list.len() == 2 {
                causes.policy(&format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                ));
            }
        }
    }
    // Addresses that are asked for say their families.
    for (idx, address) in addresses.iter().enumerate().skip(families.len()) {
        let Some(family) = api::names::ip(address).map(of) else { break };
        if cluster.contains(&family) {
            families.push(family.to_owned());
        } else {
            let message = format!(
                "Invalid value: []string{{{}}}: {family} is not configured on this cluster",
                addresses.iter().map(|ip| format!("{ip:?}")).collect::<Vec<_>>().join(", ")
            );
            causes.add(&format!("{ADDRESSES}[{idx}]"), message);
        }
    }
    causes.told(tree)?;
    let wants_both = policy != "SingleStack";
    if !any_family {
        if policy == "RequireDualStack" && cluster.len() < 2 {
            causes.policy("this cluster is not configured for dual-stack services");
        }
        for (idx, family) in families.iter().enumerate() {
            if !cluster.contains(&family.as_str()) {
                let message = format!("Invalid value: {family:?}: not configured on this cluster");
                causes.add(&format!("{FAMILIES}[{idx}]"), message);
            }
        }
        causes.told(tree)?;
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if wants_both && families.len() == 1 && (any_family || cluster.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    tree.set(FAMILIES, json!(families));
    Ok(())
}

const POLICY: &str = "spec.ipFamilyPolicy";
const FAMILIES: &str = "spec.ipFamilies";
const ADDRESSES: &str = "spec.clusterIPs";

fn texts(tree: &Value, path: &str) -> Vec<String> {
    tree.list(path).iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A Service that prefers both families keeps what it has when the cluster's families change, unless somebody
/// changes its own.
fn stays_as_it_is(tree: &Value, old: &Value) -> bool {
    let same = |path: &str| tree.at(path) == old.at(path);
    [POLICY, "spec.type", ADDRESSES, FAMILIES].into_iter().all(same)
        && tree.str(POLICY) == "PreferDualStack"
        && !tree.list(FAMILIES).is_empty()
}

/// What an update of the policy means for lists that were not changed, or were made shorter.
fn follow_policy(tree: &mut Value, old: &Value, causes: &mut Causes<'_>) {
    let single = causes.of == "SingleStack";
    for (path, what) in [(ADDRESSES, "secondary cluster IP"), (FAMILIES, "secondary IP family")] {
        let (now, before) = (tree.list(path), old.list(path));
        if single && now == before && now.len() > 1 {
            let first = now[..1].to_vec();
            tree.set(path, Value::Array(first));
        } else if !single && now.len() == 1 && before.len() == 2 && now[0] == before[0] {
            causes.policy(&format!("must be 'SingleStack' to release the {what}"));
        }
    }
}

/// Complaints about a Service of a policy.
struct Causes<'a> {
    of: &'a str,
    all: Vec<Cause>,
}

impl Causes<'_> {
    fn add(&mut self, field: &str, message: String) {
        self.all.push(Cause { reason: "FieldValueInvalid", message, field: field.into() });
    }

    fn policy(&mut self, why: &str) {
        self.add(POLICY, format!("Invalid value: {:?}: {why}", self.of));
    }

    fn told(&mut self, tree: &Value) -> Result<(), Status> {
        match self.all.is_empty() {
            true => Ok(()),
            false => {
                let all = std::mem::take(&mut self.all);
                Err(Status::invalid(&SERVICE, tree.str("metadata.name"), all))
            }
        }
    }
}

/// Who knows `clusterIP` only means `clusterIPs`, too. Whether both say the same is then checked.
fn normalize(tree: &mut Value, old: Option<&Value>) {
    let address = tree.str("spec.clusterIP").to_owned();
    let meant = |address: &str| (!address.is_empty()).then(|| json!([address]));
    let Some(old) = old else {
        if let (true, Some(all)) = (tree.list(ADDRESSES).is_empty(), meant(&address)) {
            tree.set(ADDRESSES, all);
        }
        return;
    };
    let is_same = old.str("spec.clusterIP") == address;
    if is_same && tree.list(ADDRESSES).is_empty() && !old.list(ADDRESSES).is_empty() {
        tree.set(ADDRESSES, old.at(ADDRESSES).clone());
    } else if !is_same && tree.list(ADDRESSES) == old.list(ADDRESSES) {
        match meant(&address) {
            Some(all) => tree.set(ADDRESSES, all),
            None => drop(tree.remove(ADDRESSES)),
        }
    }
}
