//! Results of plugins: read from another's, and written as the version of the configuration has them.

use std::net::IpAddr;

use api::Lens;
use serde_json::{Map, Value, json};
use stdx::{Context, Error, Result};

use super::call::{self, Call};

/// Entries of a list in a result.
const ENTRIES_MAX: usize = 256;

/// One address of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    /// Whose it is: an index of the interfaces.
    pub(super) interface: Option<usize>,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
    pub(super) gateway: Option<IpAddr>,
}

impl Ip {
    pub(super) fn to_tree(&self) -> Value {
        let mut tree = json!({"address": format!("{}/{}", self.address, self.prefix)});
        if let Some(interface) = self.interface {
            tree["interface"] = interface.into();
        }
        if let Some(gateway) = self.gateway {
            tree["gateway"] = gateway.to_string().into();
        }
        tree
    }
}

/// The addresses of a result.
///
/// # Errors
/// If one is none.
pub(super) fn ips(result: &Value) -> Result<Vec<Ip>> {
    let list = result.list("ips");
    if list.len() > ENTRIES_MAX {
        return Err(Error::new(format!("a result has more than {ENTRIES_MAX} addresses")));
    }
    let read = |tree: &Value| {
        let (address, prefix) = call::address(tree.str("address"))?;
        let gateway = match tree.str("gateway") {
            "" => None,
            text => Some(text.parse().context(|| format!("invalid IP address: {text}"))?),
        };
        let interface = tree.int("interface").and_then(|idx| usize::try_from(idx).ok());
        Ok(Ip { interface, address, prefix, gateway })
    };
    list.iter().map(read).collect()
}

/// The result of the plugins before this one, if there were any.
///
/// # Errors
/// If it is none.
pub(super) fn before(call: &Call) -> Result<Option<Value>> {
    match call.conf.at("prevResult") {
        Value::Null => Ok(None),
        result if result.is_object() => {
            let what = || "could not parse prevResult";
            ips(result).context(what)?;
            routes(result).context(what)?;
            Ok(Some(result.clone()))
        }
        _ => Err(Error::new("could not parse prevResult: it is no object")),
    }
}

/// One route of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) to: (IpAddr, u8),
    pub(super) gateway: Option<IpAddr>,
    pub(super) priority: u32,
}

/// The routes of a result.
///
/// # Errors
/// If one is none, or of another kind than there are here.
pub(super) fn routes(result: &Value) -> Result<Vec<Route>> {
    let list = result.list("routes");
    if list.len() > ENTRIES_MAX {
        return Err(Error::new(format!("a result has more than {ENTRIES_MAX} routes")));
    }
    let read = |tree: &Value| {
        let gateway = match tree.str("gw") {
            "" => None,
            text => Some(text.parse().context(|| format!("invalid IP address: {text}"))?),
        };
        let priority = tree.int("priority").unwrap_or(0);
        let priority = u32::try_from(priority).context(|| "a route's priority is out of range")?;
        Ok(Route { to: call::address(tree.str("dst"))?, gateway, priority })
    };
    list.iter().map(read).collect()
}

/// A result in the form of a version: what another version has is left out, what it must have is added.
pub(super) fn shaped(result: &Value, version: &str) -> Value {
    let is_old = crate::cni::version(version) < (1, 0, 0);
    let mut shaped = Map::new();
    shaped.insert("cniVersion".into(), version.into());
    let interface = |tree: &Value| {
        let keys: &[&str] = match is_old {
            true => &["mac", "sandbox"],
            false => &["mac", "mtu", "sandbox", "socketPath", "pciID"],
        };
        let mut kept = taken(tree, keys);
        kept.insert("name".into(), tree.str("name").into());
        Value::from(kept)
    };
    let ip = |tree: &Value| {
        let mut kept = taken(tree, &["interface", "address", "gateway"]);
        if is_old {
            let is_ipv4 = !tree.str("address").contains(':');
            kept.insert("version".into(), if is_ipv4 { "4" } else { "6" }.into());
        }
        Value::from(kept)
    };
    let route = |tree: &Value| {
        let keys = ["dst", "gw", "mtu", "advmss", "priority", "table", "scope"];
        Value::from(taken(tree, &keys))
    };
    let lists: [(&str, &dyn Fn(&Value) -> Value); 3] =
        [("interfaces", &interface), ("ips", &ip), ("routes", &route)];
    for (name, of) in lists {
        let list: Vec<Value> = result.list(name).iter().take(ENTRIES_MAX).map(of).collect();
        if !list.is_empty() {
            shaped.insert(name.into(), list.into());
        }
    }
    let dns = dns(result.at("dns"));
    if is_old || !dns.is_empty() {
        shaped.insert("dns".into(), dns.into());
    }
    shaped.into()
}

/// What is said about DNS, without what says nothing.
pub(super) fn dns(tree: &Value) -> Map<String, Value> {
    taken(tree, &["nameservers", "domain", "search", "options"])
}

fn taken(tree: &Value, keys: &[&str]) -> Map<String, Value> {
    let says = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    let some = |key: &&str| Some(((**key).to_owned(), tree.get(*key).filter(|v| says(v))?.clone()));
    keys.iter().filter_map(some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_form() {
        let result = json!({
            "interfaces": [{"name": "cni0", "mac": "02:00", "mtu": 1500}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"interface": 1, "address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "", "priority": 7}], "dns": {"search": [], "domain": "x"},
            "other": 1,
        });
        assert_eq!(
            shaped(&result, "1.0.0").to_string(),
            r#"{"cniVersion":"1.0.0","dns":{"domain":"x"},"interfaces":[{"mac":"02:00","mtu":1500,"name":"cni0"},{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1},{"address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","priority":7}]}"#
        );
        assert_eq!(
            shaped(&result, "0.4.0")["ips"].to_string(),
            r#"[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1,"version":"4"},{"address":"fd00::2/64","version":"6"}]"#
        );
        assert_eq!(shaped(&json!({}), "0.3.1").to_string(), r#"{"cniVersion":"0.3.1","dns":{}}"#);
        assert_eq!(shaped(&json!({}), "1.1.0").to_string(), r#"{"cniVersion":"1.1.0"}"#);
    }

    #[test]
    fn what_is_read_of_one() {
        let result = json!({"ips": [{"interface": 1, "address": "10.0.0.2/24", "gateway": "10.0.0.1"}], "routes": [{"dst": "::/0"}]});
        let ip = &ips(&result).unwrap()[0];
        assert_eq!(ip.to_tree(), result["ips"][0]);
        assert_eq!((ip.interface, ip.prefix), (Some(1), 24));
        assert_eq!(routes(&result).unwrap()[0].to, ("::".parse().unwrap(), 0));
        for bad in [
            json!({"ips": [{"address": "x"}]}),
            json!({"ips": [{"address": "10.0.0.1/8", "gateway": "y"}]}),
            json!({"ips": vec![json!({"address": "10.0.0.1/8"}); 257]}),
        ] {
            assert!(ips(&bad).is_err(), "{bad}");
        }
        assert!(routes(&json!({"routes": [{"dst": "10.0.0.1"}]})).is_err());
    }
}
