//! Addresses, prefixes and transport protocols as the planner speaks of them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use stdx::{Context, Error, Result};

/// An address block, `10.42.0.0/24`. Host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block that holds `address`; `None` if the prefix is too long for the family.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let first = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            _ => return None,
        };
        Some(Cidr { first, prefix })
    }

    pub(crate) fn loopback(ipv6: bool) -> Cidr {
        match ipv6 {
            false => Cidr { first: [127, 0, 0, 0].into(), prefix: 8 },
            true => Cidr { first: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
        }
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network address itself.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Cidr::new(address, self.prefix) == Some(*self)
    }

    /// The `n`-th address of the block, counted from the network address; `None` past its end.
    pub fn nth(&self, n: u64) -> Option<IpAddr> {
        let address = match self.first {
            IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().checked_add(u32::try_from(n).ok()?)?.into()),
            IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().checked_add(u128::from(n))?.into()),
        };
        self.contains(address).then_some(address)
    }

    /// The last address: broadcast in IPv4.
    pub fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() | host).into())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() | host).into())
            }
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;
    fn from_str(text: &str) -> Result<Cidr> {
        let what = || format!("read {text:?} as an address block");
        let (address, prefix) = text.split_once('/').context(what)?;
        let address: IpAddr = address.parse().context(what)?;
        Cidr::new(address, prefix.parse().context(what)?).context(what)
    }
}

/// True for an address that means something else on each machine, or no machine at all: loopback, link-local
/// (the metadata services of clouds are there), unspecified, "this network", multicast and broadcast. No
/// rule may lead to such an address or from one. An IPv4 address inside an IPv6 one counts as what it hides.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().is_some()
                || v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    }
}

/// A transport protocol that services and host ports can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// From Kubernetes' spelling; empty is TCP.
    pub fn from_name(name: &str) -> Option<Protocol> {
        match name {
            "" | "TCP" => Some(Protocol::Tcp),
            "UDP" => Some(Protocol::Udp),
            "SCTP" => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Lower case, as nft and SRV names spell it.
    pub fn lower(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_known_whatever_they_look_like() {
        for (text, special) in [
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("127.0.0.1", true),
            ("127.255.0.9", true),
            ("169.254.169.254", true),
            ("224.0.0.1", true),
            ("239.255.255.255", true),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", true),
            ("fe80::1", true),
            ("febf::1", true),
            ("ff02::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.1", false),
            ("10.0.0.1", false),
            ("169.253.0.1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_special(text.parse().unwrap()), special, "{text}");
        }
    }

    #[test]
    fn blocks_contain_and_count() {
        let block: Cidr = "10.42.1.77/24".parse().unwrap();
        assert_eq!(block.to_string(), "10.42.1.0/24");
        assert_eq!(block.nth(1), Some("10.42.1.1".parse().unwrap()));
        assert_eq!(block.nth(256), None);
        assert_eq!(block.last(), "10.42.1.255".parse::<IpAddr>().unwrap());
        assert!(!block.contains("10.42.2.0".parse().unwrap()));
        assert!(!block.contains("fd00::1".parse().unwrap()));
        let wide: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(wide.contains("255.255.255.255".parse().unwrap()));
        let six: Cidr = "fd00:42::/56".parse().unwrap();
        assert!(six.contains("fd00:42:0:ff::1".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err() && "x/8".parse::<Cidr>().is_err());
    }
}
