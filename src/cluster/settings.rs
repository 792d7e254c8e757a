//! How a cluster is set up, as a server tells its agents: the fields of k3s's `/v1-k3s/config` that they need.

use std::net::{IpAddr, SocketAddr};

use api::{Lens, Value, json};
use stdx::{Context, Error, Result};

/// An address block: the address and the bits of its prefix.
pub type Block = (IpAddr, u8);

/// Blocks and DNS servers, of each as many as there are families, and some more.
const ENTRIES_MAX: usize = 8;

/// What a server says of itself among them, which is no setting of the cluster.
const WITHOUT_API: &str = "DisableAPIServer";

/// What all nodes of a cluster must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub cluster_cidrs: Vec<Block>,
    pub service_cidrs: Vec<Block>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub node_ports: (u16, u16),
    /// `vxlan`, `host-gw`, ...
    pub flannel_backend: String,
    /// Whether nodes reach each other by their external addresses.
    pub flannel_external_ip: bool,
    /// Whether pods' IPv6 traffic that leaves the cluster gets the address of its node.
    pub flannel_ipv6_masq: bool,
    /// What servers reach through the tunnels of agents: `agent`, `disabled`, ...
    pub egress_selector_mode: String,
    /// Another cloud controller than k3s's says what nodes are.
    pub external_cloud: bool,
    /// Nodes act on NetworkPolicies.
    pub network_policies: bool,
    /// What servers encrypt Secrets with; empty if they do not.
    pub encryption: String,
    pub https_port: u16,
}

impl Settings {
    /// The settings with k3s's names and forms, which are Go's.
    pub fn to_json(&self) -> String {
        self.to_tree().to_string()
    }

    /// [`Settings::to_json`], told by a server that has no API server.
    pub fn to_json_without_api(&self) -> String {
        let mut tree = self.to_tree();
        tree[WITHOUT_API] = true.into();
        tree.to_string()
    }

    fn to_tree(&self) -> Value {
        let blocks =
            |blocks: &[Block]| blocks.iter().copied().map(block_to_tree).collect::<Vec<_>>();
        let first = |list: &[Value]| list.first().cloned().unwrap_or_default();
        let (cluster, service) = (blocks(&self.cluster_cidrs), blocks(&self.service_cidrs));
        let dns: Vec<Value> = self.cluster_dns.iter().map(|ip| ip.to_string().into()).collect();
        let (from, to) = self.node_ports;
        json!({
            "ClusterDNS": first(&dns), "ClusterDNSs": dns,
            "ClusterDomain": self.cluster_domain,
            "ClusterIPRange": first(&cluster), "ClusterIPRanges": cluster,
            "ServiceIPRange": first(&service), "ServiceIPRanges": service,
            "ServiceNodePortRange": {"Base": from, "Size": u32::from(to) - u32::from(from) + 1},
            "FlannelBackend": self.flannel_backend, "FlannelExternalIP": self.flannel_external_ip,
            "FlannelIPv6Masq": self.flannel_ipv6_masq,
            // What agents of k3s would run themselves or wait for, and this server does not ask them to. Ours are told
            // in a field of their own.
            "ExternalCloud": self.external_cloud, "DisableCCM": true, "DisableHelmController": true, "DisableServiceLB": true,
            "DisableNPC": !self.network_policies, "EgressSelectorMode": self.egress_selector_mode,
            "EncryptSecrets": !self.encryption.is_empty(), "EncryptProvider": self.encryption,
            "HTTPSPort": self.https_port, "SupervisorPort": self.https_port,
        })
    }

    /// Reads what a server sent, or what was kept of it.
    ///
    /// # Errors
    /// If a field is missing or is not what it should be.
    pub fn from_json(text: &str) -> Result<Settings> {
        let tree: Value = serde_json::from_str(text).context(|| "read the server's settings")?;
        let list = |many: &str, one: &str| -> Vec<Value> {
            let found = tree.list(many).iter().take(ENTRIES_MAX).cloned();
            let found: Vec<Value> = found.collect();
            let single = tree.get(one).filter(|one| !one.is_null()).cloned();
            if found.is_empty() { single.into_iter().collect() } else { found }
        };
        let blocks = |many: &str, one: &str| -> Result<Vec<Block>> {
            let blocks = list(many, one).iter().map(block_of_tree).collect::<Option<Vec<_>>>();
            let what = || format!("read {one} in the server's settings");
            blocks.filter(|blocks| !blocks.is_empty()).context(what)
        };
        let dns = list("ClusterDNSs", "ClusterDNS");
        let dns: Option<Vec<IpAddr>> = dns.iter().map(|ip| ip.as_str()?.parse().ok()).collect();
        let port = |path: &str| tree.int(path).and_then(|port| u16::try_from(port).ok());
        let base = port("ServiceNodePortRange.Base").unwrap_or(30_000);
        let size = port("ServiceNodePortRange.Size").unwrap_or(2768);
        let domain = tree.str("ClusterDomain");
        if !api::names::is_subdomain(domain) {
            return Err(Error::new("read ClusterDomain in the server's settings"));
        }
        Ok(Settings {
            cluster_cidrs: blocks("ClusterIPRanges", "ClusterIPRange")?,
            service_cidrs: blocks("ServiceIPRanges", "ServiceIPRange")?,
            cluster_dns: dns.context(|| "read ClusterDNS in the server's settings")?,
            cluster_domain: domain.to_owned(),
            node_ports: (base, base.saturating_add(size.max(1) - 1)),
            flannel_backend: tree.str("FlannelBackend").to_owned(),
            flannel_external_ip: tree.flag("FlannelExternalIP"),
            flannel_ipv6_masq: tree.flag("FlannelIPv6Masq"),
            egress_selector_mode: tree.str("EgressSelectorMode").to_owned(),
            external_cloud: match tree.get("ExternalCloud") {
                Some(external) => external.as_bool() == Some(true),
                // A server of k3s. Ours of before said all three, whatever was the case.
                None => {
                    let all = ["DisableHelmController", "DisableServiceLB"];
                    tree.flag("DisableCCM") && !all.iter().all(|flag| tree.flag(flag))
                }
            },
            network_policies: !tree.flag("DisableNPC"),
            encryption: match tree.flag("EncryptSecrets") {
                true if tree.str("EncryptProvider").is_empty() => "aescbc".to_owned(),
                true => tree.str("EncryptProvider").to_owned(),
                false => String::new(),
            },
            https_port: port("HTTPSPort").filter(|port| *port != 0).unwrap_or(6443),
        })
    }
}

impl Settings {
    /// Whether another server of the cluster is set up alike.
    ///
    /// # Errors
    /// The first flag in which they differ, in k3s's words.
    pub fn agree(&self, other: &Settings) -> Result<()> {
        let differ = [
            ("cluster-cidr", self.cluster_cidrs != other.cluster_cidrs),
            ("service-cidr", self.service_cidrs != other.service_cidrs),
            ("cluster-dns", self.cluster_dns != other.cluster_dns),
            ("cluster-domain", self.cluster_domain != other.cluster_domain),
            ("service-node-port-range", self.node_ports != other.node_ports),
            ("flannel-backend", self.flannel_backend != other.flannel_backend),
            ("flannel-external-ip", self.flannel_external_ip != other.flannel_external_ip),
            ("flannel-ipv6-masq", self.flannel_ipv6_masq != other.flannel_ipv6_masq),
            ("egress-selector-mode", self.egress_selector_mode != other.egress_selector_mode),
            ("disable-cloud-controller", self.external_cloud != other.external_cloud),
            ("disable-network-policy", self.network_policies != other.network_policies),
            ("secrets-encryption", self.encryption != other.encryption),
        ];
        match differ.into_iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((flag, _)) => Err(Error::new(format!(
                "critical configuration value mismatch between servers: {flag}"
            ))),
        }
    }
}

/// Go's `net.IPNet`: the address and, in base64, the mask.
fn block_to_tree((address, bits): Block) -> Value {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0).to_be_bytes();
    let mask = match address {
        IpAddr::V4(_) => {
            u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0).to_be_bytes().to_vec()
        }
        IpAddr::V6(_) => mask.to_vec(),
    };
    json!({"IP": address.to_string(), "Mask": wire::base64::encode(&mask)})
}

fn block_of_tree(tree: &Value) -> Option<Block> {
    let address: IpAddr = tree.str("IP").parse().ok()?;
    let mask = wire::base64::decode(tree.str("Mask"))?;
    let n_bytes = if address.is_ipv4() { 4 } else { 16 };
    let bits =
        u32::try_from(mask.iter().map(|byte| byte.count_ones() as usize).sum::<usize>()).ok()?;
    let leading = mask.iter().map(|byte| byte.leading_ones()).scan(true, |goes_on, ones| {
        let counted = if *goes_on { ones } else { 0 };
        *goes_on &= ones == 8;
        Some(counted)
    });
    // A mask with holes is none.
    let fits = mask.len() == n_bytes && leading.sum::<u32>() == bits;
    fits.then_some((address, u8::try_from(bits).ok()?))
}

/// Whether who told these settings has an API server.
pub fn has_api(text: &str) -> bool {
    let tree: Value = serde_json::from_str(text).unwrap_or_default();
    !tree.flag(WITHOUT_API)
}

/// The addresses of servers in an answer of `/v1-k3s/apiservers`, at most `max` of them.
pub fn servers(text: &str, max: usize) -> Vec<SocketAddr> {
    let tree: Value = serde_json::from_str(text).unwrap_or_default();
    let list = tree.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|server| server.as_str()?.parse().ok()).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            cluster_cidrs: vec![("10.42.0.0".parse().unwrap(), 16)],
            service_cidrs: vec![
                ("10.43.0.0".parse().unwrap(), 16),
                ("fd00:43::".parse().unwrap(), 108),
            ],
            cluster_dns: vec!["10.43.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            node_ports: (30_000, 32_767),
            flannel_backend: "vxlan".into(),
            flannel_external_ip: true,
            flannel_ipv6_masq: true,
            egress_selector_mode: "agent".into(),
            external_cloud: false,
            network_policies: true,
            encryption: String::new(),
            https_port: 6443,
        }
    }

    #[test]
    fn agents_read_what_servers_write() {
        let text = settings().to_json();
        assert_eq!(Settings::from_json(&text).unwrap(), settings());
        let without = settings().to_json_without_api();
        assert!(has_api(&text) && has_api("[") && !has_api(&without));
        assert_eq!(Settings::from_json(&without).unwrap(), settings());
        // As encoding/json writes net.IPNet and net.PortRange.
        for part in [
            r#""ClusterIPRange":{"IP":"10.42.0.0","Mask":"//8AAA=="}"#,
            r#""ServiceNodePortRange":{"Base":30000,"Size":2768}"#,
        ] {
            assert!(text.contains(part), "{text}");
        }
        for (from, to) in [
            ("//8AAA==", "/wD/AA=="),
            ("//8AAA==", "//8="),
            ("10.42.0.0", "there"),
            ("cluster.local", "no domain"),
            ("10.43.0.10", "x"),
            ("{", "["),
        ] {
            assert!(Settings::from_json(&text.replace(from, to)).is_err(), "{from} {to}");
        }
        // Servers of k3s.
        let theirs = text.replace("ExternalCloud", "x");
        assert!(!Settings::from_json(&theirs).unwrap().external_cloud, "ours of before");
        let theirs = theirs.replace(r#""DisableServiceLB":true"#, r#""DisableServiceLB":false"#);
        assert!(Settings::from_json(&theirs).unwrap().external_cloud);
        // Servers of before dual stack.
        let old = text.replace("ClusterIPRanges", "x").replace("ClusterDNSs", "y");
        assert_eq!(Settings::from_json(&old).unwrap(), settings());
    }

    #[test]
    fn addresses_of_servers() {
        let found = servers(r#"["192.0.2.1:6443","x",7,"[fd00::1]:6443","192.0.2.3:1"]"#, 2);
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1:6443", "[fd00::1]:6443"]
        );
        assert!(servers("{}", 2).is_empty() && servers("", 2).is_empty());
    }
}
