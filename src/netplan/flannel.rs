//! How flannel names and counts what it has of tunnels: backends, settings, annotations, ends.

use stdx::Sensitive;

/// What is flannel's of one family: pods of IPv6 have a tunnel of their own, over IPv6.
#[derive(Debug)]
pub struct Family {
    /// Bits of an address.
    pub whole: u8,
    pub(crate) data: &'static str,
    pub(crate) public_ip: &'static str,
    pub(crate) overwrite: &'static str,
}

/// How flannel names what it has of a family.
pub fn family(ipv6: bool) -> &'static Family {
    const IPV4: Family = Family {
        whole: 32,
        data: "flannel.alpha.coreos.com/backend-data",
        public_ip: "flannel.alpha.coreos.com/public-ip",
        overwrite: "flannel.alpha.coreos.com/public-ip-overwrite",
    };
    const IPV6: Family = Family {
        whole: 128,
        data: "flannel.alpha.coreos.com/backend-v6-data",
        public_ip: "flannel.alpha.coreos.com/public-ipv6",
        overwrite: "flannel.alpha.coreos.com/public-ipv6-overwrite",
    };
    if ipv6 { &IPV6 } else { &IPV4 }
}

/// How packets get to another node (`--flannel-backend`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In UDP.
    Vxlan,
    /// As they are, for all nodes are neighbours.
    HostGw,
    /// In UDP, so that nobody on the way reads or changes them.
    WireGuard,
}

impl Backend {
    /// As flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Vxlan => "vxlan",
            Backend::HostGw => "host-gw",
            Backend::WireGuard => "wireguard-native",
        }
    }

    /// As annotations and flannel's configuration spell it.
    pub fn flannel_name(self) -> &'static str {
        match self {
            Backend::WireGuard => "wireguard",
            other => other.name(),
        }
    }
}

/// What can be said of tunnels (`--flannel-conf`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which of the VXLAN tunnels on one port, and its UDP port.
    pub vni: u32,
    pub vxlan_port: u16,
    /// VXLAN leads to nodes on other wires only.
    pub direct: bool,
    /// WireGuard's UDP ports: IPv4's and IPv6's.
    pub wireguard_ports: [u16; 2],
    /// Seconds between packets that keep WireGuard's way through firewalls open; 0: none.
    pub keepalive_secs: u16,
    /// What WireGuard's nodes know beside their keys; all zeroes: nothing.
    pub preshared: Sensitive<[u8; 32]>,
    /// Counts in place of that of the node's interface.
    pub mtu: Option<u32>,
}

impl Default for Settings {
    /// flannel's, with k3s's keepalive.
    fn default() -> Settings {
        Settings {
            vni: 1,
            vxlan_port: 8472,
            direct: false,
            wireguard_ports: [51820, 51821],
            keepalive_secs: 25,
            preshared: [0; 32].into(),
            mtu: None,
        }
    }
}

impl Settings {
    /// The tunnel's name.
    pub fn device(&self, backend: Backend, ipv6: bool) -> String {
        match (backend, ipv6) {
            (Backend::WireGuard, false) => "flannel-wg".to_owned(),
            (Backend::WireGuard, true) => "flannel-wg-v6".to_owned(),
            (_, false) => format!("flannel.{}", self.vni),
            (_, true) => format!("flannel-v6.{}", self.vni),
        }
    }

    /// The UDP port that a tunnel's packets come to, if there is a tunnel.
    pub fn port(&self, backend: Backend, ipv6: bool) -> Option<u16> {
        match backend {
            Backend::HostGw => None,
            Backend::Vxlan => Some(self.vxlan_port),
            Backend::WireGuard => Some(self.wireguard_ports[usize::from(ipv6)]),
        }
    }
}

/// What a packet grows by on its way to another node, where some pods' packets are IPv6's.
pub fn overhead_bytes(backend: Backend, ipv6: bool) -> u32 {
    match backend {
        Backend::HostGw => 0,
        Backend::Vxlan if ipv6 => 70,
        Backend::Vxlan => 50,
        // As flannel counts, whatever the family.
        Backend::WireGuard => 80,
    }
}

/// A tunnel that believes every packet which comes to its port: the rules keep pods away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub vni: u32,
    pub port: u16,
}

/// Whom a node is for the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// There is no tunnel.
    None,
    Mac([u8; 6]),
    Key(PublicKey),
}

impl End {
    /// The hardware address, zeroes where there is none.
    pub fn mac(&self) -> [u8; 6] {
        if let End::Mac(mac) = self { *mac } else { [0; 6] }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::None => Ok(()),
            End::Mac(mac) => write!(f, "hardware address {}", Mac(*mac)),
            End::Key(key) => write!(f, "key {key}"),
        }
    }
}

/// A key of WireGuard's in base64, in its one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 44]);

impl PublicKey {
    /// Takes 32 bytes in base64; `None` for anything else, and for zeroes, which are nobody's key.
    pub fn parse(text: &str) -> Option<PublicKey> {
        let bytes: [u8; 44] = text.as_bytes().try_into().ok()?;
        let (digits, end) = (&bytes[..43], bytes[43]);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        // Two bits of the last digit are no part of the key.
        let is_one_spelling = b"AEIMQUYcgkosw048".contains(&bytes[42]);
        let is_key = digits.iter().all(plain) && end == b'=' && is_one_spelling;
        (is_key && digits.iter().any(|digit| *digit != b'A')).then_some(PublicKey(bytes))
    }

    pub fn text(&self) -> &str {
        // Only ASCII comes in.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// A hardware address as people and flannel write it.
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (idx, byte) in self.0.iter().enumerate() {
            let colon = if idx == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        let good = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(PublicKey::parse(good).unwrap().to_string(), good);
        for bad in [
            "",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dgg",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D=",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8_g=",
            "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert_eq!(PublicKey::parse(bad), None, "{bad}");
        }
    }
}
