//! The flannel plugin: what flannel's daemon wrote about this node, told to another plugin, by default bridge.

use std::path::{Path, PathBuf};

use api::Lens;
use netplan::Cidr;
use serde_json::{Map, Value, json};
use stdx::{Context, Error, Result};

use super::call::{Call, Command, Failure, Kind, refused};
use super::delegate;

const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DATA_DIRECTORY: &str = "/var/lib/cni/flannel";
/// Of either file.
const FILE_MAX_BYTES: u64 = 1 << 20;

pub(super) fn run(call: &Call) -> Result<Option<Value>, Failure> {
    call.expect(&[
        ("subnetFile", Kind::Text),
        ("dataDir", Kind::Text),
        ("delegate", Kind::Object),
        ("ipam", Kind::Object),
        ("ipam.routes", Kind::List),
        ("runtimeConfig", Kind::Object),
    ])?;
    match call.command {
        Command::Add => add(call),
        Command::Del => del(call),
        Command::Check => check(call),
        // Whether the daemon has been here is what decides whether a pod gets a network.
        Command::Status => Ok(Subnets::read(call).map(|_| None)?),
        Command::Gc | Command::Version => Ok(None),
    }
}

fn add(call: &Call) -> Result<Option<Value>, Failure> {
    let subnets = Subnets::read(call)?;
    let told = told(&call.conf, &subnets)?;
    let text = told.to_string();
    // What was told is what must be taken back, whatever the daemon says by then.
    rt::fs::create_dir_all(directory(call), 0o700)?;
    rt::fs::write_atomic(record(call), text.as_bytes(), 0o600)?;
    let kind = told.str("type");
    delegate::ask(call, kind, "ADD", text.as_bytes()).map_err(|failure| Failure {
        message: format!("failed to delegate add: {}", failure.message),
        ..failure
    })
}

fn del(call: &Call) -> Result<Option<Value>, Failure> {
    let path = record(call);
    // Nothing was given, or it is taken back already.
    let Some(bytes) = rt::fs::read_record(&path, FILE_MAX_BYTES)? else { return Ok(None) };
    let told: Value = serde_json::from_slice(&bytes)
        .context(|| format!("failed to parse netconf: {}", path.display()))?;
    delegate::ask(call, told.str("type"), "DEL", &bytes)?;
    rt::fs::remove_file(&path)?;
    Ok(None)
}

/// Asks who was asked before, with what came of it.
fn check(call: &Call) -> Result<Option<Value>, Failure> {
    let path = record(call);
    let Some(bytes) = rt::fs::read_record(&path, FILE_MAX_BYTES)? else {
        return refused(format!("flannel: nothing was added for container {}", call.id));
    };
    let mut told: Value = serde_json::from_slice(&bytes)
        .context(|| format!("failed to parse netconf: {}", path.display()))?;
    if let (Some(told), Some(before)) = (told.as_object_mut(), call.conf.get("prevResult")) {
        told.insert("prevResult".into(), before.clone());
    }
    delegate::ask(call, told.str("type"), "CHECK", told.to_string().as_bytes())?;
    Ok(None)
}

fn directory(call: &Call) -> PathBuf {
    match call.conf.str("dataDir") {
        "" => PathBuf::from(DATA_DIRECTORY),
        path => PathBuf::from(path),
    }
}

/// The container's id is checked: it leads nowhere else.
fn record(call: &Call) -> PathBuf {
    directory(call).join(&call.id)
}

/// What the daemon wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subnets {
    /// Of all nodes.
    networks: Vec<Cidr>,
    /// Of this one.
    own: Vec<Cidr>,
    mtu: u32,
    masquerades: bool,
}

impl Subnets {
    fn read(call: &Call) -> Result<Subnets> {
        let path = match call.conf.str("subnetFile") {
            "" => SUBNET_FILE,
            path => path,
        };
        let read = || {
            let bytes = rt::fs::read_within(path, FILE_MAX_BYTES)?;
            Subnets::parse(&String::from_utf8_lossy(&bytes), Path::new(path))
        };
        read().map_err(|error| {
            Error::new(format!(
                "failed to load flannel 'subnet.env' file: {error}. Check the flannel pod log for this node."
            ))
        })
    }

    fn parse(text: &str, path: &Path) -> Result<Subnets> {
        let (mut found, mut mtu, mut masquerades) = (Subnets::default(), None, None);
        let blocks =
            |value: &str| -> Result<Vec<Cidr>> { value.split(',').map(str::parse).collect() };
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            match key {
                "FLANNEL_NETWORK" | "FLANNEL_IPV6_NETWORK" => found.networks.extend(blocks(value)?),
                "FLANNEL_SUBNET" | "FLANNEL_IPV6_SUBNET" => found.own.extend(blocks(value)?),
                "FLANNEL_MTU" => {
                    mtu = Some(value.parse::<u32>().context(|| format!("read MTU {value:?}"))?);
                }
                "FLANNEL_IPMASQ" => masquerades = Some(value == "true"),
                _ => {}
            }
        }
        let given = [
            ("FLANNEL_NETWORK", !found.networks.is_empty()),
            ("FLANNEL_SUBNET", !found.own.is_empty()),
            ("FLANNEL_MTU", mtu.is_some()),
            ("FLANNEL_IPMASQ", masquerades.is_some()),
        ];
        let missing: Vec<&str> =
            given.iter().filter(|(_, given)| !given).map(|(name, _)| *name).collect();
        match (mtu, masquerades) {
            (Some(mtu), Some(masquerades)) if missing.is_empty() => {
                Ok(Subnets { mtu, masquerades, ..found })
            }
            _ => Err(Error::new(format!("{} is missing {}", path.display(), missing.join(", ")))),
        }
    }
}

/// What the other plugin is told.
fn told(conf: &Value, subnets: &Subnets) -> Result<Value, Failure> {
    let mut told: Map<String, Value> = conf.at("delegate").as_object().cloned().unwrap_or_default();
    if told.get("type").is_some_and(|kind| !kind.is_string()) {
        return refused("'delegate' dictionary, if present, must have (string) 'type' field");
    }
    if let Some(key) = ["name", "ipam"].into_iter().find(|key| told.contains_key(*key)) {
        return refused(format!(
            "'delegate' dictionary must not have '{key}' field, it'll be set by flannel"
        ));
    }
    if conf.has("runtimeConfig") {
        told.insert("runtimeConfig".into(), conf.at("runtimeConfig").clone());
    }
    told.insert("name".into(), conf.str("name").into());
    let defaults = [
        ("type", json!("bridge")),
        // One of both has to.
        ("ipMasq", json!(!subnets.masquerades)),
        ("mtu", json!(subnets.mtu)),
    ];
    for (key, value) in defaults {
        told.entry(key).or_insert(value);
    }
    if told["type"] == "bridge" {
        told.entry("isGateway").or_insert(true.into());
    }
    if !conf.str("cniVersion").is_empty() {
        told.insert("cniVersion".into(), conf.str("cniVersion").into());
    }
    let mut ipam: Map<String, Value> = conf.at("ipam").as_object().cloned().unwrap_or_default();
    ipam.entry("type").or_insert("host-local".into());
    let ranges = subnets.own.iter().map(|block| json!([{"subnet": block.to_string()}]));
    ipam.insert("ranges".into(), ranges.collect());
    let mut routes = conf.list("ipam.routes").to_vec();
    routes.extend(subnets.networks.iter().map(|block| json!({"dst": block.to_string()})));
    ipam.insert("routes".into(), routes.into());
    told.insert("ipam".into(), ipam.into());
    Ok(told.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENV: &str = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.1.1/24\nFLANNEL_IPV6_NETWORK=fd42::/56\n\
        FLANNEL_IPV6_SUBNET=fd42:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn the_daemons_file() {
        let parse =
            |text: &str| Subnets::parse(text, Path::new("/f")).map_err(|error| error.to_string());
        let subnets = parse(ENV).unwrap();
        assert_eq!((subnets.mtu, subnets.masquerades), (1450, true));
        assert_eq!(
            parse("FLANNEL_MTU=1\n"),
            Err("/f is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_IPMASQ".into())
        );
        assert!(parse("FLANNEL_MTU=x\n").unwrap_err().starts_with("read MTU \"x\""));
    }

    #[test]
    fn what_the_other_is_told() {
        let subnets = Subnets::parse(ENV, Path::new("/f")).unwrap();
        let shown = |conf: Value| match told(&conf, &subnets) {
            Ok(told) => told.to_string(),
            Err(failure) => failure.message,
        };
        assert_eq!(
            shown(
                json!({"name": "cbr0", "cniVersion": "1.0.0", "delegate": {"hairpinMode": true, "isDefaultGateway": true}, "runtimeConfig": {"mac": "x"}})
            ),
            r#"{"cniVersion":"1.0.0","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.42.1.0/24"}],[{"subnet":"fd42:0:0:1::/64"}]],"routes":[{"dst":"10.42.0.0/16"},{"dst":"fd42::/56"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","runtimeConfig":{"mac":"x"},"type":"bridge"}"#
        );
        let other = shown(
            json!({"name": "n", "delegate": {"type": "macvlan", "mtu": 9}, "ipam": {"routes": [{"dst": "1.0.0.0/8"}]}}),
        );
        assert!(other.contains(r#""mtu":9"#) && !other.contains("isGateway"), "{other}");
        assert!(
            other.contains(r#""routes":[{"dst":"1.0.0.0/8"},{"dst":"10.42.0.0/16"}"#),
            "{other}"
        );
        assert_eq!(
            shown(json!({"delegate": {"name": "x"}})),
            "'delegate' dictionary must not have 'name' field, it'll be set by flannel"
        );
        assert_eq!(
            shown(json!({"delegate": {"type": 1}})),
            "'delegate' dictionary, if present, must have (string) 'type' field"
        );
    }
}
