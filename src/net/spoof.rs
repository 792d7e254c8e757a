//! Keeps pods from sending in another's name: policies go by addresses.
//!
//! A table of its own, of the family whose chains see packets as they come from a pod's interface, before the
//! bridge hides which one that was. It is there only while there are policies. A chain ends with its interface.
//!
//! Where the kernel does not show bridged packets to the rules, pods are kept apart on the bridge meanwhile, and the
//! node answers for each to the others: so what they send each other is routed, and judged as everything else.

use std::net::IpAddr;

use netplan::Cidr;
use netplan::table::TABLE;
use stdx::{Context, OrdMap, Result};
use sys::netlink::Family;
use wire::nft::{self, Batch, Comparison, Expression, REGISTER, Verdict, meta};

use crate::kernel::{ENODEV, Kernel, Links};
use crate::sysctl;

/// What the interfaces of this node's pods may send.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Interfaces with a chain, and the addresses that it lets through. `None`: the table is not known.
    made: Option<OrdMap<String, Vec<IpAddr>>>,
    failed: bool,
    /// The bridge, where pods must be kept apart on it.
    apart: Option<String>,
}

impl Guard {
    pub(crate) fn new(bridge: &str, bridge_netfilter: bool) -> Guard {
        let apart = (!bridge_netfilter).then(|| bridge.to_owned());
        Guard { apart, ..Guard::default() }
    }

    /// Makes the kernel's table what it should be: a chain for each of `ends`, or (`None`) no table.
    pub(crate) fn set(&mut self, ends: Option<&OrdMap<String, Vec<IpAddr>>>) {
        let done = match ends {
            None if self.made.as_ref().is_some_and(OrdMap::is_empty) => return,
            None => delete().and_then(|()| self.keep_apart(None)).map(|()| OrdMap::new()),
            Some(ends) => {
                let added = self.add(ends).and_then(|()| self.keep_apart(Some(ends)));
                added.map(|()| ends.clone())
            }
        };
        if let Err(error) = &done
            && !self.failed
        {
            log::warn!("keep pods from sending in another's name: {error}");
        }
        self.failed = done.is_err();
        self.made = done.ok();
    }

    fn keep_apart(&self, ends: Option<&OrdMap<String, Vec<IpAddr>>>) -> Result<()> {
        let Some(bridge) = &self.apart else { return Ok(()) };
        let setting = format!("ipv4/conf/{bridge}/proxy_arp_pvlan");
        sysctl::set(&setting, if ends.is_some() { "1" } else { "0" });
        let mut links = Links::open()?;
        let made = self.made.as_ref();
        for name in ends.or(made).into_iter().flat_map(OrdMap::keys) {
            if ends.is_some() && made.is_some_and(|made| made.contains_key(name)) {
                continue;
            }
            let Some(link) = links.find(name)? else { continue };
            links.change(
                || format!("keep interface {name} apart from others of the bridge"),
                &[ENODEV],
                |w, s| wire::rtnetlink::set_isolated(w, s, link.index, ends.is_some()),
            )?;
        }
        Ok(())
    }

    fn add(&self, ends: &OrdMap<String, Vec<IpAddr>>) -> Result<()> {
        let mut batch = Batch::of(nft::NFPROTO_NETDEV, TABLE);
        batch.add_table();
        if self.made.is_none() {
            batch.delete_table();
            batch.add_table();
        }
        let made = |name: &String| self.made.as_ref().and_then(|made| made.get(name));
        let mut any = false;
        for (name, addresses) in ends.iter().filter(|(name, held)| made(name) != Some(*held)) {
            add_chain(&mut batch, name, addresses);
            any = true;
        }
        if !any && self.made.is_some() {
            return Ok(());
        }
        let (bytes, last) = batch.finish()?;
        commit(&bytes, last).context(|| format!("change table netdev {TABLE}"))
    }
}

/// Deletes the table, if it is there.
pub(crate) fn delete() -> Result<()> {
    let mut batch = Batch::of(nft::NFPROTO_NETDEV, TABLE);
    batch.add_table();
    let (bytes, last) = batch.finish_without_table()?;
    const EOPNOTSUPP: i32 = 95;
    match commit(&bytes, last) {
        // A kernel without such tables has none of ours.
        Err(error) if error.errno() == Some(EOPNOTSUPP) => Ok(()),
        result => result.context(|| format!("delete table netdev {TABLE}")),
    }
}

fn commit(bytes: &[u8], last: u32) -> Result<()> {
    Kernel::open(Family::Netfilter)?.exchange(bytes, last, |_, _| {})
}

/// IP, ARP and advertisements of neighbours under the pod's own addresses, and nothing else.
fn add_chain(batch: &mut Batch<'_>, name: &str, addresses: &[IpAddr]) {
    const IPV4: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    const IPV6: u16 = 0x86dd;
    const ARP_SENDER: u32 = 14;
    batch.add_ingress_chain(name);
    batch.flush_chain(name);
    let whole = |address: IpAddr| Cidr::new(address, if address.is_ipv4() { 32 } else { 128 });
    let link = Cidr::new(IpAddr::from([0xfe80u16, 0, 0, 0, 0, 0, 0, 0]), 10);
    let ipv6 = addresses.iter().filter(|address| address.is_ipv6());
    for own in ipv6.filter_map(|address| whole(*address)) {
        link.iter().for_each(|link| refuse_claims(batch, name, &own, link));
    }
    let mut rule = |kind: u16, offset: u32, block: &Cidr| {
        let kind = kind.to_be_bytes();
        let address = nft::octets(block.first());
        let len = u32::try_from(address.len()).unwrap_or(0);
        let mask = nft::mask(usize::from(block.prefix()), address.len());
        let zeros = vec![0; address.len()];
        let equal =
            |value| Expression::Compare { from: REGISTER, comparison: Comparison::Equal, value };
        let expressions = [
            Expression::Meta { key: meta::PROTOCOL, to: REGISTER },
            equal(&kind),
            Expression::Payload { transport: false, offset, len, to: REGISTER },
            Expression::Bitwise { from: REGISTER, to: REGISTER, mask: &mask, xor: &zeros },
            equal(&address),
            Expression::Verdict(Verdict::Accept),
        ];
        batch.add_rule(name, &expressions);
    };
    for block in addresses.iter().filter_map(|address| whole(*address)) {
        if block.is_ipv4() {
            rule(IPV4, 12, &block);
            rule(ARP, ARP_SENDER, &block);
            continue;
        }
        rule(IPV6, 8, &block);
        // Who looks for neighbours does so under an address of the link, or none.
        let none = whole(IpAddr::from([0u8; 16]));
        [link, none].iter().flatten().for_each(|block| rule(IPV6, 8, block));
    }
    batch.add_rule(name, &[Expression::Verdict(Verdict::Drop)]);
}

/// Neighbours of IPv6 believe who says an address is his, whatever the packet's own: that must be the pod's.
fn refuse_claims(batch: &mut Batch<'_>, name: &str, own: &Cidr, link: &Cidr) {
    const ICMPV6: &[u8] = &[58];
    const ADVERTISES: &[u8] = &[136];
    const TARGET: u32 = 8;
    let compare = |comparison, value| Expression::Compare { from: REGISTER, comparison, value };
    let load = |offset, len| Expression::Payload { transport: true, offset, len, to: REGISTER };
    let (own_octets, link_octets) = (nft::octets(own.first()), nft::octets(link.first()));
    let (mask, zeros) = (nft::mask(usize::from(link.prefix()), 16), [0; 16]);
    let expressions = [
        Expression::Meta { key: meta::L4PROTO, to: REGISTER },
        compare(Comparison::Equal, ICMPV6),
        load(0, 1),
        compare(Comparison::Equal, ADVERTISES),
        load(TARGET, 16),
        compare(Comparison::NotEqual, &own_octets),
        Expression::Bitwise { from: REGISTER, to: REGISTER, mask: &mask, xor: &zeros },
        compare(Comparison::NotEqual, &link_octets),
        Expression::Verdict(Verdict::Drop),
    ];
    batch.add_rule(name, &expressions);
}
