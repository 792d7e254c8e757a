//! The ranges of addresses that host-local gives from, and in which order it tries them: pure.

use std::fmt;
use std::net::IpAddr;

use api::Lens;
use netplan::Cidr;
use serde_json::Value;
use stdx::{Context, Error, Result};

/// Sets of ranges, and ranges of a set.
const RANGES_MAX: usize = 64;

/// A part of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: Cidr,
    first: IpAddr,
    last: IpAddr,
    pub(super) gateway: IpAddr,
}

/// Ranges of which an interface gets one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set(Vec<Range>);

impl Range {
    fn read(tree: &Value) -> Result<Range> {
        let text = tree.str("subnet");
        let (address, prefix) = super::call::address(text)?;
        let subnet = Cidr::new(address, prefix).context(|| format!("invalid subnet {text:?}"))?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits - 2 {
            return Err(Error::new(format!("Network {subnet} too small to allocate from")));
        }
        if subnet.first() != address {
            return Err(Error::new(format!(
                "Network has host bits set. For a subnet mask of length {prefix} the network address is {}",
                subnet.first()
            )));
        }
        let read = |key: &str| -> Result<Option<IpAddr>> {
            let value = tree.at(key);
            if value.is_null() || value == "" {
                return Ok(None);
            }
            let read = value.as_str().unwrap_or_default().parse();
            Ok(Some(read.context(|| format!("invalid IP address: {value}"))?))
        };
        let within = |address: Option<IpAddr>, word: &str| match address {
            Some(address) if !subnet.contains(address) => {
                Err(Error::new(format!("{word} {address} not in network {subnet}")))
            }
            _ => Ok(address),
        };
        let second = subnet.nth(1).unwrap_or(subnet.first());
        let gateway = within(read("gateway")?, "gateway")?.unwrap_or(second);
        let first = within(read("rangeStart")?, "RangeStart")?.unwrap_or(second);
        // The last of IPv4 is for broadcasts.
        let end = match subnet.last() {
            last @ IpAddr::V4(_) => before(last),
            last => last,
        };
        let last = within(read("rangeEnd")?, "RangeEnd")?.unwrap_or(end);
        if first > last {
            return Err(Error::new(format!(
                "RangeStart {first} is after RangeEnd {last} in network {subnet}"
            )));
        }
        Ok(Range { subnet, first, last, gateway })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // Addresses of one family are in the order of their numbers.
        address.is_ipv4() == self.subnet.is_ipv4() && self.first <= address && address <= self.last
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

impl Set {
    fn read(tree: &Value) -> Result<Set> {
        let list = tree.as_array().map_or(&[][..], Vec::as_slice);
        if list.is_empty() {
            return Err(Error::new("empty range set"));
        }
        if list.len() > RANGES_MAX {
            return Err(Error::new(format!("more than {RANGES_MAX} ranges")));
        }
        let ranges = list.iter().map(Range::read).collect::<Result<Vec<Range>>>()?;
        for (idx, one) in ranges.iter().enumerate() {
            for other in &ranges[..idx] {
                if one.subnet.is_ipv4() != other.subnet.is_ipv4() {
                    return Err(Error::new("mixed address families"));
                }
                if one.overlaps(other) {
                    let (one, other) = (Set(vec![other.clone()]), Set(vec![one.clone()]));
                    return Err(Error::new(format!("subnets {one} and {other} overlap")));
                }
            }
        }
        Ok(Set(ranges))
    }

    /// The range that has this address.
    pub(super) fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    fn overlaps(&self, other: &Set) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// All addresses in turn, once, beginning behind `last`, and never a gateway.
    pub(super) fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let found = last.and_then(|last| {
            let idx = self.0.iter().position(|range| range.contains(last))?;
            Some(self.next((idx, last)))
        });
        let start = found.unwrap_or((0, self.0[0].first));
        let mut next = Some(start);
        let all = std::iter::from_fn(move || {
            let (idx, address) = next?;
            let following = self.next((idx, address));
            next = Some(following).filter(|following| *following != start);
            Some((address, &self.0[idx]))
        });
        all.filter(|(address, range)| *address != range.gateway)
    }

    fn next(&self, (idx, address): (usize, IpAddr)) -> (usize, IpAddr) {
        match address == self.0[idx].last {
            true => {
                let idx = (idx + 1) % self.0.len();
                (idx, self.0[idx].first)
            }
            false => (idx, after(address)),
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, range) in self.0.iter().enumerate() {
            let comma = if idx == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.first, range.last)?;
        }
        Ok(())
    }
}

/// The sets of a configuration: those of the caller, one in the old form, those in the new one.
pub(super) fn read(conf: &Value) -> Result<Vec<Set>> {
    let mut trees: Vec<Value> = conf.list("runtimeConfig.ipRanges").to_vec();
    let ipam = conf.at("ipam");
    if ipam.has("subnet") {
        trees.push(Value::Array(vec![ipam.clone()]));
    }
    trees.extend_from_slice(ipam.list("ranges"));
    if trees.is_empty() {
        return Err(Error::new("no IP ranges specified"));
    }
    if trees.len() > RANGES_MAX {
        return Err(Error::new(format!("more than {RANGES_MAX} range sets")));
    }
    let read = |(idx, tree): (usize, &Value)| {
        Set::read(tree).context(|| format!("invalid range set {idx}"))
    };
    let sets = trees.iter().enumerate().map(read).collect::<Result<Vec<Set>>>()?;
    for (idx, one) in sets.iter().enumerate() {
        for (behind, other) in sets.iter().enumerate().skip(idx + 1) {
            if one.overlaps(other) {
                return Err(Error::new(format!("range set {idx} overlaps with {behind}")));
            }
        }
    }
    Ok(sets)
}

fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_add(1).into()),
    }
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().wrapping_sub(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().wrapping_sub(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_come_in_turn() {
        let check = |set: Value, last: Option<&str>, expected: &[&str]| {
            let set = Set::read(&set).unwrap();
            let last = last.map(|text| text.parse().unwrap());
            let all: Vec<String> = set.after(last).map(|(ip, _)| ip.to_string()).collect();
            assert_eq!(all, expected);
        };
        let small = json!([{"subnet": "10.0.0.0/29"}]);
        let of_small = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
        check(small.clone(), None, &of_small);
        check(
            small.clone(),
            Some("10.0.0.4"),
            &["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
        );
        check(small.clone(), Some("10.0.0.6"), &of_small);
        check(small, Some("10.9.0.6"), &of_small);
        let two = json!([
            {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.11", "gateway": "10.0.0.10"},
            {"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.255", "rangeEnd": "10.0.1.255"},
        ]);
        check(two.clone(), None, &["10.0.0.11", "10.0.1.255"]);
        check(two, Some("10.0.0.11"), &["10.0.1.255", "10.0.0.11"]);
        let six = json!([{"subnet": "fd00::/126"}]);
        check(six, None, &["fd00::2", "fd00::3"]);
    }

    #[test]
    fn ranges_are_refused_as_upstream_words_it() {
        let check = |ipam: Value, expected: &str| {
            let said = match read(&json!({"ipam": ipam})) {
                Ok(sets) => sets.iter().map(Set::to_string).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert_eq!(said, expected);
        };
        let set = |subnet: &str| json!([{"subnet": subnet}]);
        check(
            json!({"subnet": "10.0.0.0/24", "ranges": [set("fd00::/64")]}),
            "10.0.0.1-10.0.0.254 fd00::1-fd00::ffff:ffff:ffff:ffff",
        );
        check(json!({}), "no IP ranges specified");
        check(json!({"ranges": [[]]}), "invalid range set 0: empty range set");
        check(
            json!({"ranges": [set("10.0.0.0/31")]}),
            "invalid range set 0: Network 10.0.0.0/31 too small to allocate from",
        );
        check(
            json!({"ranges": [set("10.0.0.1/24")]}),
            "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
        );
        check(
            json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"}),
            "invalid range set 0: RangeStart 10.0.1.1 not in network 10.0.0.0/24",
        );
        check(
            json!({"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.1"}),
            "invalid range set 0: RangeEnd 10.0.1.1 not in network 10.0.0.0/24",
        );
        check(
            json!({"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}),
            "invalid range set 0: gateway 10.0.1.1 not in network 10.0.0.0/24",
        );
        check(
            json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}),
            "invalid range set 0: RangeStart 10.0.0.9 is after RangeEnd 10.0.0.8 in network 10.0.0.0/24",
        );
        check(
            json!({"ranges": [set("10.0.0.0/24"), set("10.0.0.0/25")]}),
            "range set 0 overlaps with 1",
        );
        check(
            json!({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}),
            "invalid range set 0: mixed address families",
        );
        check(
            json!({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]]}),
            "invalid range set 0: subnets 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.0.126 overlap",
        );
        check(
            json!({"subnet": "10.0.0.0/24", "gateway": 7}),
            "invalid range set 0: invalid IP address: 7: invalid IP address syntax",
        );
    }
}
