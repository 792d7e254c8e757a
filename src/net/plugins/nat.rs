//! nftables tables of a container's interface: made whole, deleted by name, found by the names of those that are gone.
//!
//! Upstream keeps rules of all containers in one table, with comments, and lists them all to delete one's. A table each
//! needs no list, is one transaction, and goes whole even where the configuration has changed since.

use std::net::IpAddr;

use netplan::Cidr;
use stdx::{Context, Result};
use sys::netlink::Family;
use wire::nft::{
    self, Batch, Comparison, Expression, Hook, NFPROTO_IPV4, NFPROTO_IPV6, REGISTER, Verdict, meta,
};

use super::call::{Call, hash};
use super::result::Ip;
use crate::kernel::{ENOENT, Kernel};

/// What a table is for, which is how its name begins.
pub(super) const MASQUERADE: &str = "cni_plugins_masquerade";
pub(super) const HOST_PORTS: &str = "cni_hostport";

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
const DNAT_PRIORITY: i32 = -100;
const SNAT_PRIORITY: i32 = 100;

/// The name of a table of a network's container.
pub(super) fn table_of(what: &str, call: &Call) -> String {
    format!("{}{}", prefix(what, call.network()), hash(&[&call.id, &call.interface]))
}

fn prefix(what: &str, network: &str) -> String {
    format!("{what}_{}_", hash(&[network]))
}

/// Rules in the making.
#[derive(Debug)]
pub(super) struct Table<'a>(Batch<'a>);

impl<'a> Table<'a> {
    /// An empty table; what was there before under its name goes in the same moment.
    pub(super) fn new(name: &'a str) -> Table<'a> {
        let mut batch = Batch::new(name);
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        Table(batch)
    }

    pub(super) fn chain(&mut self, name: &str) {
        self.0.add_chain(name, None);
    }

    pub(super) fn prerouting(&mut self) {
        self.hooked("prerouting", PREROUTING, DNAT_PRIORITY);
    }

    pub(super) fn output(&mut self) {
        self.hooked("output", OUTPUT, DNAT_PRIORITY);
    }

    pub(super) fn postrouting(&mut self) {
        self.hooked("postrouting", POSTROUTING, SNAT_PRIORITY);
    }

    fn hooked(&mut self, name: &str, number: u32, priority: i32) {
        self.0.add_chain(name, Some(Hook { number, priority, kind: "nat" }));
    }

    pub(super) fn rule(&mut self, chain: &str, rule: &Rule<'_>) {
        let steps: Vec<Expression<'_>> = rule.0.iter().map(Step::expression).collect();
        self.0.add_rule(chain, &steps);
    }

    pub(super) fn commit(self) -> Result<()> {
        let (bytes, last) = self.0.finish()?;
        Kernel::open(Family::Netfilter)?.exchange(&bytes, last, |_, _| {})
    }
}

/// One rule, step by step.
#[derive(Debug, Default)]
pub(super) struct Rule<'a>(Vec<Step<'a>>);

#[derive(Debug)]
enum Step<'a> {
    Plain(Expression<'a>),
    Compare(Comparison, Vec<u8>),
    Mask(Vec<u8>, Vec<u8>),
    Immediate(u32, Vec<u8>),
}

impl Step<'_> {
    fn expression(&self) -> Expression<'_> {
        match self {
            Step::Plain(expression) => *expression,
            Step::Compare(comparison, value) => {
                Expression::Compare { from: REGISTER, comparison: *comparison, value }
            }
            Step::Mask(mask, xor) => {
                Expression::Bitwise { from: REGISTER, to: REGISTER, mask, xor }
            }
            Step::Immediate(to, value) => Expression::Immediate { to: *to, value },
        }
    }
}

impl<'a> Rule<'a> {
    /// A rule for packets of the family of `address`.
    pub(super) fn of(address: IpAddr) -> Rule<'a> {
        let family = if address.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        let rule = Rule::default().plain(Expression::Meta { key: meta::NFPROTO, to: REGISTER });
        rule.equal(vec![family])
    }

    /// To one of this machine's own addresses.
    pub(super) fn to_here() -> Rule<'a> {
        const LOCAL: u32 = 2;
        let rule = Rule::default().plain(Expression::FibType { source: false, to: REGISTER });
        rule.equal(LOCAL.to_ne_bytes().to_vec())
    }

    pub(super) fn from(self, block: Cidr) -> Rule<'a> {
        self.in_block(block, true, Comparison::Equal)
    }

    pub(super) fn to(self, block: Cidr) -> Rule<'a> {
        self.in_block(block, false, Comparison::Equal)
    }

    pub(super) fn not_to(self, block: Cidr) -> Rule<'a> {
        self.in_block(block, false, Comparison::NotEqual)
    }

    pub(super) fn at_port(self, protocol: u8, port: u16) -> Rule<'a> {
        let rule = self.plain(Expression::Meta { key: meta::L4PROTO, to: REGISTER });
        let rule = rule.equal(vec![protocol]);
        let read = Expression::Payload { transport: true, offset: 2, len: 2, to: REGISTER };
        rule.plain(read).equal(port.to_be_bytes().to_vec())
    }

    pub(super) fn jump(self, chain: &'a str) -> Rule<'a> {
        self.plain(Expression::Verdict(Verdict::Jump(chain)))
    }

    pub(super) fn masquerade(self) -> Rule<'a> {
        self.plain(Expression::Masquerade { fully_random: false })
    }

    pub(super) fn lead_to(mut self, address: IpAddr, port: u16) -> Rule<'a> {
        let octets = nft::octets(address);
        let behind = if address.is_ipv4() { REGISTER + 1 } else { REGISTER + 4 };
        self.0.push(Step::Immediate(REGISTER, octets));
        self.0.push(Step::Immediate(behind, port.to_be_bytes().to_vec()));
        self.plain(Expression::Dnat { ipv6: address.is_ipv6(), address: REGISTER, port: behind })
    }

    fn in_block(self, block: Cidr, source: bool, comparison: Comparison) -> Rule<'a> {
        let (offset, len) = match (block.is_ipv4(), source) {
            (true, true) => (12, 4),
            (true, false) => (16, 4),
            (false, true) => (8, 16),
            (false, false) => (24, 16),
        };
        let mut rule =
            self.plain(Expression::Payload { transport: false, offset, len, to: REGISTER });
        let first = nft::octets(block.first());
        let bits = usize::from(block.prefix());
        if bits < first.len() * 8 {
            rule.0.push(Step::Mask(nft::mask(bits, first.len()), vec![0; first.len()]));
        }
        rule.0.push(Step::Compare(comparison, first));
        rule
    }

    fn equal(mut self, value: Vec<u8>) -> Rule<'a> {
        self.0.push(Step::Compare(Comparison::Equal, value));
        self
    }

    fn plain(mut self, expression: Expression<'a>) -> Rule<'a> {
        self.0.push(Step::Plain(expression));
        self
    }
}

/// One address as a block.
pub(super) fn alone(address: IpAddr) -> Result<Cidr> {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Cidr::new(address, prefix).context(|| format!("read {address} as a block"))
}

/// Has what these addresses send out of their networks leave as the node's own; multicast stays as it is.
pub(super) fn masquerade(call: &Call, ips: &[Ip]) -> Result<()> {
    let name = table_of(MASQUERADE, call);
    let mut table = Table::new(&name);
    table.postrouting();
    for ip in ips {
        let network = Cidr::new(ip.address, ip.prefix).context(|| "read a network")?;
        let multicast = if ip.address.is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
        let rule = Rule::of(ip.address).from(alone(ip.address)?);
        table.rule("postrouting", &rule.not_to(network).not_to(multicast.parse()?).masquerade());
    }
    table.commit().context(|| "unable to set up nftables rules for masquerading")
}

/// Deletes a table; none is fine.
pub(super) fn delete(name: &str) -> Result<()> {
    let mut batch = Batch::new(name);
    batch.add_table();
    let (bytes, last) = batch.finish_without_table()?;
    let mut kernel = Kernel::open(Family::Netfilter)?;
    kernel.exchange(&bytes, last, |_, _| {}).context(|| format!("delete table inet {name}"))
}

/// How many rules a table has; `None`: there is none.
pub(super) fn count(name: &str) -> Result<Option<usize>> {
    let mut kernel = Kernel::open(Family::Netfilter)?;
    match kernel.request(|w, sequence| nft::get_table(w, sequence, name), |_| {}) {
        Err(error) if error.errno() == Some(ENOENT) => return Ok(None),
        found => found.context(|| format!("look up table inet {name}"))?,
    }
    let mut n_rules = 0;
    let asked = kernel.request(|w, sequence| nft::dump_rules(w, sequence, name), |_| n_rules += 1);
    asked.context(|| format!("list the rules of table inet {name}"))?;
    Ok(Some(n_rules))
}

/// Deletes the tables of a network's interfaces that are not among those that `conf` says are alive.
pub(super) fn collect(call: &Call, what: &str) -> Result<()> {
    use api::Lens;
    let valid = call.conf.get("cni.dev/valid-attachments").and_then(|list| list.as_array());
    let of = |one: &serde_json::Value| hash(&[one.str("containerID"), one.str("ifname")]);
    let valid: Vec<String> = valid.into_iter().flatten().map(of).collect();
    let prefix = prefix(what, call.network());
    let mut gone: Vec<String> = Vec::new();
    let mut kernel = Kernel::open(Family::Netfilter)?;
    let asked = kernel.request(nft::dump_chains, |message| {
        let table = nft::parse_base_chain(message).map(|chain| chain.table);
        let table = table.filter(|table| {
            table.strip_prefix(&prefix).is_some_and(|id| !valid.iter().any(|alive| alive == id))
        });
        gone.extend(table.filter(|table| !gone.contains(table)));
    });
    asked.context(|| "list the chains of nftables")?;
    gone.iter().try_for_each(|table| delete(table))
}
