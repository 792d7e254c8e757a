//! Sets of addresses and ports that are taken, and how a free one is found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::Cidr;

/// Random tries before the range is searched in order.
const RANDOM_TRIES_MAX: usize = 32;

/// What of one cluster is taken.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    addresses: BTreeSet<IpAddr>,
    /// How many hold a port: two protocols of one Service may share it.
    ports: BTreeMap<u16, u32>,
}

/// Something that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    Address(IpAddr),
    Port(u16),
}

impl Pools {
    pub(crate) fn is_taken(&self, item: Item) -> bool {
        match item {
            Item::Address(address) => self.addresses.contains(&address),
            Item::Port(port) => self.ports.contains_key(&port),
        }
    }

    pub(crate) fn take(&mut self, item: Item) {
        match item {
            Item::Address(address) => {
                self.addresses.insert(address);
            }
            Item::Port(port) => *self.ports.entry(port).or_default() += 1,
        }
    }

    pub(crate) fn release(&mut self, item: Item) {
        match item {
            Item::Address(address) => {
                self.addresses.remove(&address);
            }
            Item::Port(port) => {
                if let Some(n) = self.ports.get_mut(&port) {
                    *n -= 1;
                    if *n == 0 {
                        self.ports.remove(&port);
                    }
                }
            }
        }
    }

    /// A free address; the low part of the range is left to those who ask for one by number, as
    /// long as there are others.
    pub(crate) fn free_address(&self, cidr: Cidr, random: impl FnMut() -> u64) -> Option<IpAddr> {
        // The network address, and in IPv4 the broadcast address, are nobody's.
        let reserved = 1 + u128::from(cidr.address.is_ipv4());
        let size = cidr.size().saturating_sub(reserved);
        let low = match size {
            0..16 => 0,
            size => (size / 16).clamp(16, 256).min(size),
        };
        let free = |n: u128| {
            let address = cidr.nth(n + 1);
            (!self.addresses.contains(&address)).then_some(address)
        };
        pick(low, size, random, free)
    }

    pub(crate) fn free_port(&self, range: (u16, u16), random: impl FnMut() -> u64) -> Option<u16> {
        let size = u128::from(range.1.saturating_sub(range.0)) + 1;
        let low = match size {
            0..16 => 0,
            size => (size / 32).clamp(16, 128).min(size),
        };
        let free = |n: u128| {
            let port = range.0 + u16::try_from(n).ok()?;
            (!self.ports.contains_key(&port)).then_some(port)
        };
        pick(low, size, random, free)
    }
}

/// A free one of `low..size` at random, then any of it, then any below.
fn pick<T>(
    low: u128,
    size: u128,
    mut random: impl FnMut() -> u64,
    free: impl Fn(u128) -> Option<T>,
) -> Option<T> {
    let upper = size.saturating_sub(low);
    if upper > 0 {
        for _ in 0..RANDOM_TRIES_MAX {
            if let Some(found) = free(low + u128::from(random()) % upper) {
                return Some(found);
            }
        }
    }
    // Taken ones are held in memory, so a full range is a small one.
    (low..size).chain(0..low).find_map(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_given_once() {
        let cidr = Cidr::parse("10.0.0.0/26").unwrap();
        let mut prng = stdx::prng::Prng::new(1);
        let mut pools = Pools::default();
        let mut given = BTreeSet::new();
        while let Some(address) = pools.free_address(cidr, || prng.next_u64()) {
            pools.take(Item::Address(address));
            assert!(given.insert(address));
        }
        assert_eq!(given.len(), 62);
        assert_eq!(given.first().unwrap().to_string(), "10.0.0.1");
        assert_eq!(given.last().unwrap().to_string(), "10.0.0.62");
    }

    #[test]
    fn large_ranges_start_above_the_low_part() {
        let cidr = Cidr::parse("10.43.0.0/16").unwrap();
        let mut prng = stdx::prng::Prng::new(1);
        let pools = Pools::default();
        for _ in 0..1000 {
            let address = pools.free_address(cidr, || prng.next_u64()).unwrap();
            assert!(cidr.index(address).unwrap() > 256, "{address}");
            let port = pools.free_port((30_000, 32_767), || prng.next_u64()).unwrap();
            assert!((30_086..=32_767).contains(&port), "{port}");
        }
    }

    #[test]
    fn shared_ports_are_free_when_the_last_holder_goes() {
        let mut pools = Pools::default();
        pools.take(Item::Port(30_000));
        pools.take(Item::Port(30_000));
        pools.release(Item::Port(30_000));
        assert!(pools.is_taken(Item::Port(30_000)));
        pools.release(Item::Port(30_000));
        assert!(!pools.is_taken(Item::Port(30_000)));
    }
}
