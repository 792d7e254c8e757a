//! flannel's own configuration (`--flannel-conf`): what it says of the way to other nodes, in place of
//! `--flannel-backend`'s defaults. What k3rs does not do as the file says is refused by the field's name.

use std::ops::RangeInclusive;
use std::path::Path;

use api::{Map, Value};
use net::{Backend, TunnelSettings};
use stdx::{Context, Error, Result, Sensitive};

use crate::settings::cidr::{self, Cidr};

const FILE_MAX_BYTES: u64 = 64 << 10;
/// The longest name of an interface.
const NAME_MAX_BYTES: usize = 15;

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetConf {
    /// Those of the families that are enabled.
    networks: Vec<Cidr>,
    pub(crate) backend: Backend,
    pub(crate) settings: TunnelSettings,
}

/// Reads the file of `--flannel-conf`.
///
/// # Errors
/// If it cannot be read, or asks for what is not done here.
pub(crate) fn load(path: &Path) -> Result<NetConf> {
    let what = || format!("read --flannel-conf {}", path.display());
    let bytes = rt::fs::read_within(path, FILE_MAX_BYTES).context(what)?;
    let tree = serde_json::from_slice(&bytes).context(what)?;
    read(tree).context(what)
}

fn read(tree: Value) -> Result<NetConf> {
    let mut all = Fields::of(tree, "the file")?;
    for name in
        ["SubnetLen", "SubnetMin", "SubnetMax", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"]
    {
        if all.0.contains_key(name) {
            return Err(Error::new(format!(
                "{name} is not supported: nodes get their ranges from the controller manager (node-cidr-mask-size)"
            )));
        }
    }
    if all.flag("EnableNFTables")? == Some(false) {
        return Err(Error::new("EnableNFTables: false is not supported: all rules are nftables'"));
    }
    let mut networks = Vec::new();
    for (enable, network, by_default) in
        [("EnableIPv4", "Network", true), ("EnableIPv6", "IPv6Network", false)]
    {
        let is_enabled = all.flag(enable)?.unwrap_or(by_default);
        let text = all.text(network)?.unwrap_or_default();
        if is_enabled {
            let block = cidr::blocks(network, &[text])?;
            let wrong = block.iter().any(|block| block.address.is_ipv6() == by_default);
            if wrong || block.is_empty() {
                return Err(Error::new(format!("{network} is no block of its family")));
            }
            networks.extend(block);
        }
    }
    let backend = all.0.remove("Backend").context(|| "Backend is missing")?;
    all.end()?;
    let has_ipv6 = networks.iter().any(|block| block.address.is_ipv6());
    let (backend, settings) = read_backend(backend, has_ipv6)?;
    Ok(NetConf { networks, backend, settings })
}

fn read_backend(tree: Value, has_ipv6: bool) -> Result<(Backend, TunnelSettings)> {
    let mut all = Fields::of(tree, "Backend")?;
    let name = all.text("Type")?.unwrap_or_default();
    let known = [Backend::Vxlan, Backend::HostGw, Backend::WireGuard];
    let backend =
        known.into_iter().find(|backend| backend.flannel_name() == name).context(|| {
            format!("Backend.Type {name:?} is not supported (vxlan, host-gw or wireguard)")
        })?;
    // flannel's own default; k3s's is for files that it writes itself.
    let mut settings = TunnelSettings { keepalive_secs: 0, ..TunnelSettings::default() };
    match backend {
        Backend::HostGw => {}
        Backend::Vxlan => {
            if let Some(vni) = all.number("VNI", 1..=0xff_ffff)? {
                settings.vni = vni;
            }
            if settings.device(backend, has_ipv6).len() > NAME_MAX_BYTES {
                return Err(Error::new("VNI is too large to be a part of an interface's name"));
            }
            if let Some(port) = all.port("Port")? {
                settings.vxlan_port = port;
            }
            settings.direct = all.flag("DirectRouting")?.unwrap_or(false);
            if all.flag("GBP")? == Some(true) {
                return Err(Error::new("GBP is not supported: no rule here looks at its marks"));
            }
        }
        Backend::WireGuard => {
            for (idx, name) in ["ListenPort", "ListenPortV6"].into_iter().enumerate() {
                if let Some(port) = all.port(name)? {
                    settings.wireguard_ports[idx] = port;
                }
            }
            if has_ipv6 && settings.wireguard_ports[0] == settings.wireguard_ports[1] {
                return Err(Error::new("ListenPort and ListenPortV6 are the same"));
            }
            if let Some(secs) = all.number("PersistentKeepaliveInterval", 0..=65535)? {
                settings.keepalive_secs = u16::try_from(secs).unwrap_or(u16::MAX);
            }
            if let Some(text) = all.text("PSK")?.filter(|text| !text.is_empty()) {
                let key = wire::base64::decode(&text).and_then(|key| key.try_into().ok());
                let key: [u8; 32] = key.context(|| "PSK is no key of 32 bytes in base64")?;
                settings.preshared = Sensitive::from(key);
            }
            let mode = all.text("Mode")?.unwrap_or_else(|| "separate".to_owned());
            if mode != "separate" {
                return Err(Error::new(format!(
                    "Mode {mode:?} is not supported: each family has a tunnel of its own (separate)"
                )));
            }
        }
    }
    if backend != Backend::HostGw {
        settings.mtu = all.number("MTU", 576..=65535)?;
    }
    all.end()?;
    Ok((backend, settings))
}

impl NetConf {
    /// Whether it is of the cluster that has these networks; `has_flannel`: its nodes have a backend.
    ///
    /// # Errors
    /// If it is not, or the cluster has no flannel.
    pub(crate) fn check(&self, has_flannel: bool, cluster: &[Cidr]) -> Result<()> {
        if !has_flannel {
            return Err(Error::new(
                "--flannel-conf is for nothing: with --flannel-backend=none there is no flannel",
            ));
        }
        let foreign = self.networks.iter().find(|block| !cluster.contains(block));
        let missing = cluster.iter().find(|block| !self.networks.contains(block));
        match (foreign, missing) {
            (Some(block), _) => Err(Error::new(format!(
                "--flannel-conf: the network {block} is not the cluster's (--cluster-cidr)"
            ))),
            (None, Some(block)) => Err(Error::new(format!(
                "--flannel-conf: the cluster's {block} is not one of its networks"
            ))),
            (None, None) => Ok(()),
        }
    }
}

/// The fields of an object that were not read yet.
struct Fields(Map<String, Value>, &'static str);

impl Fields {
    fn of(tree: Value, what: &'static str) -> Result<Fields> {
        match tree {
            Value::Object(all) => Ok(Fields(all, what)),
            _ => Err(Error::new(format!("{what} is no object"))),
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        // The value may be a secret.
        read(&value).map(Some).context(|| format!("{name} is no {wanted}"))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        self.take(name, "boolean", Value::as_bool)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.take(name, "string", |value| value.as_str().map(str::to_owned))
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        let wanted = format!("number from {} to {}", range.start(), range.end());
        self.take(name, &wanted, |value| {
            let number = u32::try_from(value.as_u64()?).ok()?;
            range.contains(&number).then_some(number)
        })
    }

    fn port(&mut self, name: &str) -> Result<Option<u16>> {
        let port = self.number(name, 1..=65535)?;
        Ok(port.and_then(|port| u16::try_from(port).ok()))
    }

    fn end(self) -> Result<()> {
        match self.0.keys().next() {
            Some(name) => Err(Error::new(format!("{} has an unknown field {name:?}", self.1))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn a_file_is_honoured_or_refused_by_the_fields_name() {
        let with = |backend: Value| {
            read(json!({"Network": "10.42.0.0/16", "EnableNFTables": true, "Backend": backend}))
        };
        let psk = wire::base64::encode(&[7; 32]);
        let conf = with(json!({
            "Type": "wireguard", "ListenPort": 1, "ListenPortV6": 2, "PSK": psk, "MTU": 1400,
            "PersistentKeepaliveInterval": 5, "Mode": "separate",
        }))
        .unwrap();
        let expected = TunnelSettings {
            wireguard_ports: [1, 2],
            keepalive_secs: 5,
            preshared: [7; 32].into(),
            mtu: Some(1400),
            ..TunnelSettings::default()
        };
        assert_eq!((conf.backend, &conf.settings), (Backend::WireGuard, &expected));
        let conf = with(
            json!({"Type": "vxlan", "VNI": 5, "Port": 4789, "DirectRouting": true, "GBP": false}),
        );
        let conf = conf.unwrap().settings;
        assert_eq!((conf.vni, conf.vxlan_port, conf.direct), (5, 4789, true));
        assert_eq!(with(json!({"Type": "wireguard"})).unwrap().settings.keepalive_secs, 0);
        let six = json!({
            "EnableIPv4": false, "Network": "0.0.0.0/0", "EnableIPv6": true,
            "IPv6Network": "fd42::/56", "Backend": {"Type": "host-gw"},
        });
        assert_eq!(read(six).unwrap().networks, [Cidr::parse("fd42::/56").unwrap()]);
        for (backend, why) in [
            (
                json!({"Type": "udp"}),
                "Backend.Type \"udp\" is not supported (vxlan, host-gw or wireguard)",
            ),
            (json!({}), "Backend.Type \"\" is not supported (vxlan, host-gw or wireguard)"),
            (json!(7), "Backend is no object"),
            (json!({"Type": "host-gw", "MTU": 9}), "Backend has an unknown field \"MTU\""),
            (json!({"Type": "vxlan", "VNI": 0}), "VNI is no number from 1 to 16777215"),
            (
                json!({"Type": "vxlan", "VNI": 12_345_678}),
                "VNI is too large to be a part of an interface's name",
            ),
            (json!({"Type": "vxlan", "Port": 65536}), "Port is no number from 1 to 65535"),
            (
                json!({"Type": "vxlan", "GBP": true}),
                "GBP is not supported: no rule here looks at its marks",
            ),
            (
                json!({"Type": "wireguard", "PSK": "c2hvcnQ="}),
                "PSK is no key of 32 bytes in base64",
            ),
            (json!({"Type": "wireguard", "PSK": 7}), "PSK is no string"),
            (
                json!({"Type": "wireguard", "Mode": "auto"}),
                "Mode \"auto\" is not supported: each family has a tunnel of its own (separate)",
            ),
        ] {
            assert_eq!(with(backend).unwrap_err().to_string(), why);
        }
        for (tree, why) in [
            (json!({"Network": "10.42.0.0/16"}), "Backend is missing"),
            (
                json!({"Network": "10.42.0.0/16", "subnet": 1, "Backend": {}}),
                "the file has an unknown field \"subnet\"",
            ),
            (json!({"Network": "fd00::/8", "Backend": {}}), "Network is no block of its family"),
            (
                json!({"Network": "nonsense", "Backend": {}}),
                "invalid Network nonsense: invalid CIDR address: nonsense",
            ),
            (
                json!({"Network": "10.42.0.0/16", "SubnetLen": 24}),
                "SubnetLen is not supported: nodes get their ranges from the controller manager (node-cidr-mask-size)",
            ),
            (
                json!({"EnableNFTables": false}),
                "EnableNFTables: false is not supported: all rules are nftables'",
            ),
        ] {
            assert_eq!(read(tree).unwrap_err().to_string(), why);
        }
    }
}
