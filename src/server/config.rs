//! What the server must be told.

use std::fmt;
use std::net::IpAddr;

use rules::pod::security::Configuration;

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// Reads `10.43.0.0/16`.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits_max {
            return None;
        }
        let cidr = Cidr { address, prefix };
        Some(Cidr { address: cidr.nth(0), prefix })
    }

    /// The `n`-th address of the range, 0 being its network address. Wraps inside the range.
    pub fn nth(self, n: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                let n = u32::try_from(n & u128::from(u32::MAX)).unwrap_or(0);
                IpAddr::V4(((u32::from(v4) & mask) | (n & !mask)).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(((u128::from(v6) & mask) | (n & !mask)).into())
            }
        }
    }

    /// The place of an address in the range.
    pub fn index(self, address: IpAddr) -> Option<u128> {
        let n = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(b).checked_sub(u32::from(a))?),
            (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(b).checked_sub(u128::from(a))?,
            _ => return None,
        };
        (n < self.size()).then_some(n)
    }

    /// How many addresses it holds.
    pub fn size(self) -> u128 {
        let bits = if self.address.is_ipv4() { 32 } else { 128 } - u32::from(self.prefix);
        1u128.checked_shl(bits).unwrap_or(u128::MAX)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A user known by a fixed token.
#[derive(Clone, Default)]
pub struct StaticToken {
    pub token: String,
    pub user: crate::user::User,
}

impl fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticToken of {}", self.user.name)
    }
}

/// What an administrator decided about admission.
#[derive(Debug, Clone)]
pub struct Admission {
    /// A bit for each plugin of the table.
    pub(crate) enabled: u32,
    pub(crate) pod_security: Configuration,
}

/// A server's configuration.
#[derive(Clone)]
pub struct Config {
    /// When the program was built: another one looks through what every cluster holds.
    pub built: stdx::time::Wall,
    /// Service ranges, the primary family first; one or two.
    pub service_cidrs: Vec<Cidr>,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// Where the `kubernetes` Service points.
    pub advertise_addresses: Vec<IpAddr>,
    pub advertise_port: u16,
    /// The name of the cluster in DNS, for the issuer's discovery document.
    pub external_url: String,
    /// Who issues service account tokens: the first signs, all are accepted.
    pub issuers: Vec<String>,
    pub api_audiences: Vec<String>,
    /// PEM: the private key that signs service account tokens (PKCS#8 ECDSA P-256, or RSA).
    pub service_account_key: Vec<u8>,
    /// PEM: keys that verify tokens, beside the signing key's own (imported or rotated keys).
    pub service_account_public_keys: Vec<Vec<u8>>,
    /// PEM: who signs client certificates; told to clients in kube-system.
    pub client_ca: Vec<u8>,
    /// PEM: who signs the certificates of front proxies; empty if there are none.
    pub request_header_ca: Vec<u8>,
    /// Common names that a front proxy's certificate may have; empty allows any.
    pub request_header_names: Vec<String>,
    pub static_tokens: Vec<StaticToken>,
    /// How the server shows itself, as a front proxy, to the servers of aggregated APIs.
    pub proxy_identity: Option<std::sync::Arc<http::tls::Identity>>,
    /// How the server comes to kubelets of other processes, and which it believes; `None`: not at all.
    pub kubelet_tls: Option<std::sync::Arc<http::tls::ClientConfig>>,
    /// The ways to them that are preferred to their addresses.
    pub tunnels: Option<std::sync::Arc<dyn crate::Tunnels>>,
    /// Requests that change something, and others, that are worked on at once; watches do not count.
    pub mutating_requests_max: usize,
    pub reading_requests_max: usize,
    /// FlowSchemas share both out; otherwise whoever comes first has them.
    pub fair: bool,
    /// What requests over HTTP, watches and streams may take of the memory together.
    pub requests_max_bytes: usize,
    /// What changes and refuses objects on their way in.
    pub admission: Admission,
    /// Serves `metrics.k8s.io`; otherwise an APIService may leave it to another server.
    pub usage: bool,
    /// Nodes act on NetworkPolicies; otherwise whoever writes one is told that nobody does.
    pub network_policies: bool,
}

impl Default for Config {
    /// k3s's defaults, without keys.
    fn default() -> Config {
        Config {
            built: stdx::time::Wall::from_secs(0),
            service_cidrs: Cidr::parse("10.43.0.0/16").into_iter().collect(),
            node_ports: (30_000, 32_767),
            advertise_addresses: Vec::new(),
            advertise_port: 6443,
            external_url: String::new(),
            issuers: vec!["https://kubernetes.default.svc.cluster.local".into()],
            api_audiences: vec![
                "https://kubernetes.default.svc.cluster.local".into(),
                "k3s".into(),
            ],
            service_account_key: Vec::new(),
            service_account_public_keys: Vec::new(),
            client_ca: Vec::new(),
            request_header_ca: Vec::new(),
            request_header_names: vec!["system:auth-proxy".into()],
            static_tokens: Vec::new(),
            proxy_identity: None,
            kubelet_tls: None,
            tunnels: None,
            mutating_requests_max: 200,
            reading_requests_max: 400,
            fair: true,
            requests_max_bytes: 128 << 20,
            admission: Admission::default(),
            usage: true,
            network_policies: true,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config(services {:?})", self.service_cidrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_their_addresses() {
        let cidr = Cidr::parse("10.43.7.0/16").unwrap();
        assert_eq!(cidr.to_string(), "10.43.0.0/16");
        assert_eq!(cidr.nth(10).to_string(), "10.43.0.10");
        assert_eq!(cidr.index("10.43.1.0".parse().unwrap()), Some(256));
        assert_eq!(cidr.index("10.44.0.0".parse().unwrap()), None);
        assert_eq!(Cidr::parse("fd00::/108").unwrap().size(), 1 << 20);
        assert_eq!(Cidr::parse("::/0").unwrap().size(), u128::MAX);
        assert_eq!(Cidr::parse("0.0.0.0/0").unwrap().nth(5).to_string(), "0.0.0.5");
        for bad in ["10.43.0.0", "10.43.0.0/33", "x/8", "/"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }
}
