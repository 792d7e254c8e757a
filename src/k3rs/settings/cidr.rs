//! Address blocks as flags take them, and what a command line leaves open of them.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stdx::{Context, Result};

/// An address block, `10.42.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

impl Cidr {
    /// Reads a block and begins it with its first address, as Go's `ParseCIDR`.
    pub(crate) fn parse(text: &str) -> Option<Cidr> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        // An IPv4 address in IPv6 clothes would be of both families.
        let fits = bits <= whole && address.to_canonical() == address;
        fits.then(|| Cidr { address: Cidr { address, bits }.nth(0), bits })
    }

    /// The `n`-th address of the block.
    pub(crate) fn nth(&self, n: u32) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                Ipv4Addr::from((u32::from(v4) & mask).wrapping_add(n)).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                Ipv6Addr::from((u128::from(v6) & mask).wrapping_add(u128::from(n))).into()
            }
        }
    }
}

impl Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The blocks of a flag.
pub(crate) fn blocks(flag: &str, given: &[String]) -> Result<Vec<Cidr>> {
    let read = |text: &String| {
        Cidr::parse(text).context(|| format!("invalid {flag} {text}: invalid CIDR address: {text}"))
    };
    given.iter().map(read).collect()
}

/// What the command line leaves to the families of the node's addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) cluster_cidr: bool,
    pub(crate) service_cidr: bool,
    pub(crate) cluster_dns: bool,
    pub(crate) bind_address: bool,
}

impl Open {
    pub(crate) const NOTHING: Open =
        Open { cluster_cidr: false, service_cidr: false, cluster_dns: false, bind_address: false };
}
