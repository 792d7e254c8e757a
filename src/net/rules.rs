//! Puts netplan's table into the kernel: rules compiled to nftables expressions, changes as one batch.

use std::net::{IpAddr, SocketAddr};

use netplan::Protocol;
use netplan::table::{
    Chain, Changes, ClientSet, Frontend, Hook, Key, MASQUERADE_MARK, Part, Rule, Set, SetKind,
    TABLE, Table, Value,
};
use stdx::Arrange;
use stdx::{Context, Result};
use sys::netlink::Family;
use wire::nft::{
    self, Batch, Comparison, Ct, Data, Element, Expression, NFPROTO_IPV4, NFPROTO_IPV6, REGISTER,
    Verdict, meta, types,
};

use crate::kernel::{ENOENT, Kernel};

/// Clients remembered per endpoint; the oldest are not replaced, new ones are then not remembered.
const CLIENTS_MAX: u32 = 65_536;

/// The one socket through which the table is changed.
#[derive(Debug)]
pub(crate) struct Rules {
    kernel: Kernel,
}

impl Rules {
    pub(crate) fn open() -> Result<Rules> {
        Ok(Rules { kernel: Kernel::open(Family::Netfilter)? })
    }

    /// The netlink port that our changes come from.
    pub(crate) fn port(&self) -> Result<u32> {
        self.kernel.port()
    }

    /// Replaces the whole table in one transaction: there is no moment without rules, and
    /// connections that exist keep their translation.
    pub(crate) fn replace(&mut self, table: &Table) -> Result<()> {
        let mut batch = Batch::new(TABLE);
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        write_table(&mut batch, table);
        self.commit(batch).context(|| format!("load table inet {TABLE}"))
    }

    /// Applies changes in one transaction.
    pub(crate) fn apply(&mut self, changes: &Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(TABLE);
        write_changes(&mut batch, changes);
        self.commit(batch).context(|| format!("change table inet {TABLE}"))
    }

    /// Deletes the table, if it is there.
    pub(crate) fn delete(&mut self) -> Result<()> {
        let mut batch = Batch::new(TABLE);
        batch.add_table();
        let (bytes, last) = batch.finish_without_table()?;
        self.kernel
            .exchange(&bytes, last, |_, _| {})
            .context(|| format!("delete table inet {TABLE}"))
    }

    /// How many rules the kernel has in our table; `None` if there is no such table.
    pub(crate) fn rule_count(&mut self) -> Result<Option<usize>> {
        let asked = self.kernel.request(|w, sequence| nft::get_table(w, sequence, TABLE), |_| {});
        match asked {
            Err(error) if error.errno() == Some(ENOENT) => return Ok(None),
            result => result.context(|| format!("look up table inet {TABLE}"))?,
        }
        let mut n_rules = 0;
        self.kernel
            .request(|w, sequence| nft::dump_rules(w, sequence, TABLE), |_| n_rules += 1)
            .context(|| format!("list the rules of table inet {TABLE}"))?;
        Ok(Some(n_rules))
    }

    /// Chains of other tables that drop what they do not know, on the way that pods' packets take:
    /// a verdict of ours cannot overrule them.
    pub(crate) fn foreign_drops(&mut self) -> Result<Vec<nft::BaseChain>> {
        const INPUT: u32 = 1;
        const FORWARD: u32 = 2;
        let mut chains = Vec::new();
        self.kernel
            .request(nft::dump_chains, |message| chains.extend(nft::parse_base_chain(message)))
            .context(|| "list the chains of other firewalls")?;
        chains.retain(|chain| {
            chain.drops && [INPUT, FORWARD].contains(&chain.hook) && chain.table != TABLE
        });
        Ok(chains)
    }

    fn commit(&mut self, batch: Batch<'_>) -> Result<()> {
        let (bytes, last) = batch.finish()?;
        self.kernel.exchange(&bytes, last, |_, _| {})
    }
}

/// The number of rules a table has, to compare with [`Rules::rule_count`].
pub(crate) fn count_rules(table: &Table) -> usize {
    table.chains.iter().map(|(_, _, rules)| rules.len()).sum()
}

fn write_table(batch: &mut Batch<'_>, table: &Table) {
    for ipv6 in &table.families {
        for kind in SetKind::ALL {
            add_set(batch, Set { kind, ipv6: *ipv6 });
        }
    }
    for set in &table.client_sets {
        add_client_set(batch, set);
    }
    for (chain, hook, _) in &table.chains {
        batch.add_chain(&chain.to_string(), hook.map(hook_of));
    }
    for (chain, _, rules) in &table.chains {
        add_rules(batch, chain, rules);
    }
    each_run(&table.elements, |set, run| add_elements(batch, set, run));
}

fn write_changes(batch: &mut Batch<'_>, changes: &Changes) {
    for set in &changes.add_client_sets {
        add_client_set(batch, set);
    }
    for chain in &changes.add_chains {
        batch.add_chain(&chain.to_string(), None);
    }
    let by_set = |elements: &[(Set, Key, Value)]| {
        let mut sorted = elements.to_vec();
        sorted.arrange_by_key(|(set, ..)| *set);
        sorted
    };
    each_run(&by_set(&changes.delete_elements), |set, run| {
        with_elements(run, |elements| batch.delete_elements(set.name(), elements));
    });
    for (chain, rules) in &changes.set_rules {
        batch.flush_chain(&chain.to_string());
        add_rules(batch, chain, rules);
    }
    each_run(&by_set(&changes.add_elements), |set, run| add_elements(batch, set, run));
    for chain in &changes.delete_chains {
        batch.flush_chain(&chain.to_string());
    }
    for chain in &changes.delete_chains {
        batch.delete_chain(&chain.to_string());
    }
    for set in &changes.delete_client_sets {
        batch.delete_set(&set.name);
    }
}

/// Calls `each` for every run of elements of the same set.
fn each_run(elements: &[(Set, Key, Value)], mut each: impl FnMut(Set, &[(Set, Key, Value)])) {
    for run in elements.chunk_by(|a, b| a.0 == b.0) {
        each(run[0].0, run);
    }
}

fn add_elements(batch: &mut Batch<'_>, set: Set, run: &[(Set, Key, Value)]) {
    with_elements(run, |elements| batch.add_elements(set.name(), elements));
}

/// Encodes elements and lends them.
fn with_elements(run: &[(Set, Key, Value)], act: impl FnOnce(&[Element<'_>])) {
    enum Encoded {
        None,
        Drop,
        Goto(String),
        Bytes(Vec<u8>),
    }
    let mut encoded: Vec<(Vec<u8>, Encoded, bool)> = Vec::with_capacity(run.len());
    for (set, key, value) in run {
        let data = match value {
            Value::None => Encoded::None,
            Value::Drop => Encoded::Drop,
            Value::Goto(chain) => Encoded::Goto(chain.to_string()),
            Value::Target(target) => Encoded::Bytes(target_bytes(target)),
        };
        encoded.push((key_bytes(key), data, false));
        if let (SetKind::PolicyBlocks, Key::Member(group, _, last)) = (set.kind, key) {
            encoded.push((after(member_bytes(*group, *last)), Encoded::None, true));
        }
    }
    let elements: Vec<Element<'_>> = encoded
        .iter()
        .map(|(key, data, interval_end)| Element {
            key,
            data: match data {
                Encoded::None => Data::None,
                Encoded::Drop => Data::Verdict(Verdict::Drop),
                Encoded::Goto(chain) => Data::Verdict(Verdict::Goto(chain)),
                Encoded::Bytes(bytes) => Data::Bytes(bytes),
            },
            interval_end: *interval_end,
        })
        .collect();
    act(&elements);
}

/// Parts of a concatenation are padded to four bytes each.
fn key_bytes(key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match key {
        Key::Frontend(frontend) => push_frontend(&mut bytes, frontend),
        Key::Port(protocol, port) => push_port(&mut bytes, *protocol, *port),
        Key::Endpoint(frontend, idx) => {
            push_frontend(&mut bytes, frontend);
            bytes.extend_from_slice(&idx.to_ne_bytes());
        }
        Key::Itself(address) => {
            bytes.extend(nft::octets(*address));
            bytes.extend(nft::octets(*address));
        }
        Key::Address(address) => bytes.extend(nft::octets(*address)),
        Key::Member(group, first, _) => bytes = member_bytes(*group, *first),
    }
    bytes
}

/// The group first, most significant byte first: so the intervals of all groups are one order of numbers.
fn member_bytes(group: u32, address: IpAddr) -> Vec<u8> {
    [group.to_be_bytes().to_vec(), nft::octets(address)].concat()
}

/// The number after.
fn after(mut number: Vec<u8>) -> Vec<u8> {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    number
}

fn push_frontend(bytes: &mut Vec<u8>, frontend: &Frontend) {
    bytes.extend(nft::octets(frontend.address));
    push_port(bytes, frontend.protocol, frontend.port);
}

fn push_port(bytes: &mut Vec<u8>, protocol: Protocol, port: u16) {
    bytes.extend_from_slice(&[protocol.number(), 0, 0, 0]);
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
}

fn target_bytes(target: &SocketAddr) -> Vec<u8> {
    let mut bytes = nft::octets(target.ip());
    bytes.extend_from_slice(&target.port().to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes
}

fn add_client_set(batch: &mut Batch<'_>, set: &ClientSet) {
    batch.add_set(&nft::Set {
        name: &set.name,
        id: client_set_id(&set.name),
        key_type: address_type(set.ipv6),
        key_len: address_len(set.ipv6),
        data: None,
        interval: false,
        dynamic_timeout_ms: Some(u64::from(set.timeout_secs) * 1000),
        size: CLIENTS_MAX,
    });
}

fn add_set(batch: &mut Batch<'_>, set: Set) {
    use types::{INET_PROTO, INET_SERVICE, INTEGER, MARK, VERDICT, concat};
    let address = address_type(set.ipv6);
    let len = address_len(set.ipv6);
    let frontend = (concat(&[address, INET_PROTO, INET_SERVICE]), len + 8);
    let port = (concat(&[INET_PROTO, INET_SERVICE]), 8);
    let target = Some((concat(&[address, INET_SERVICE]), len + 4));
    let verdict = Some((VERDICT, 0));
    let ((key_type, key_len), data) = match set.kind {
        SetKind::Services | SetKind::External | SetKind::Refused => (frontend, verdict),
        SetKind::NodePorts | SetKind::BalancerPorts | SetKind::RefusedNodePorts => (port, verdict),
        SetKind::HostPorts => (port, target),
        SetKind::HostAddressPorts => (frontend, target),
        SetKind::PolicyEgress | SetKind::PolicyIngress => ((address, len), verdict),
        SetKind::PolicyPeers => ((concat(&[MARK, address]), 4 + len), None),
        // Numbers to the kernel and to nft, which cannot print intervals of parts.
        SetKind::PolicyBlocks => ((INTEGER, 4 + len), None),
        SetKind::PolicyPorts => {
            ((concat(&[address, INET_PROTO, INET_SERVICE, MARK]), len + 12), None)
        }
        SetKind::Endpoints | SetKind::LocalEndpoints => {
            ((concat(&[address, INET_PROTO, INET_SERVICE, MARK]), len + 12), target)
        }
        SetKind::Hairpin => ((concat(&[address, address]), len * 2), None),
    };
    batch.add_set(&nft::Set {
        name: set.name(),
        id: set_id(set),
        key_type,
        key_len,
        data,
        interval: set.kind == SetKind::PolicyBlocks,
        dynamic_timeout_ms: None,
        size: 0,
    });
}

fn set_id(set: Set) -> u32 {
    let kind = SetKind::ALL.iter().position(|kind| *kind == set.kind).unwrap_or(0);
    1 + u32::try_from(kind).unwrap_or(0) * 2 + u32::from(set.ipv6)
}

/// Names find sets that exist; ids only matter within a batch, and must differ there.
fn client_set_id(name: &str) -> u32 {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}

fn address_type(ipv6: bool) -> u32 {
    if ipv6 { types::IPV6_ADDR } else { types::IPV4_ADDR }
}

fn address_len(ipv6: bool) -> u32 {
    if ipv6 { 16 } else { 4 }
}

fn hook_of(hook: Hook) -> nft::Hook {
    let (kind, number, priority) = match hook {
        Hook::NatPrerouting => ("nat", 0, -100),
        Hook::NatOutput => ("nat", 3, -100),
        Hook::NatPostrouting => ("nat", 4, 100),
        Hook::FilterInput => ("filter", 1, 0),
        Hook::FilterForward => ("filter", 2, 0),
        Hook::FilterOutput => ("filter", 3, 0),
        Hook::PolicyEgress => ("filter", 2, 10),
        Hook::PolicyIngress => ("filter", 2, 11),
    };
    nft::Hook { number, priority, kind }
}

fn add_rules(batch: &mut Batch<'_>, chain: &Chain, rules: &[Rule]) {
    for rule in rules {
        let mut compiler = Compiler::default();
        for part in rule {
            if let Part::DnatAmong(targets) = part {
                let ipv6 = targets.iter().any(|target| target.is_ipv6());
                let kind = types::concat(&[address_type(ipv6), types::INET_SERVICE]);
                let data: Vec<Vec<u8>> = targets.iter().map(target_bytes).collect();
                compiler.anonymous_id = batch.next_id();
                let data_type = (kind, address_len(ipv6) + 4);
                batch.add_anonymous_map(compiler.anonymous_id, data_type, &data);
            }
        }
        for part in rule {
            compiler.part(part);
        }
        let expressions: Vec<Expression<'_>> =
            compiler.steps.iter().map(Step::expression).collect();
        batch.add_rule(&chain.to_string(), &expressions);
    }
}

/// An expression that owns what it refers to.
enum Step {
    Plain(Expression<'static>),
    Compare(u32, Comparison, Vec<u8>),
    Bitwise(Vec<u8>, Vec<u8>),
    Immediate(u32, Vec<u8>),
    Jump(String),
    Goto(String),
    Lookup(String, u32),
    Update(String, u32, u64),
}

impl Step {
    fn expression(&self) -> Expression<'_> {
        match self {
            Step::Plain(expression) => *expression,
            Step::Compare(from, comparison, value) => {
                Expression::Compare { from: *from, comparison: *comparison, value }
            }
            Step::Bitwise(mask, xor) => {
                Expression::Bitwise { from: REGISTER, to: REGISTER, mask, xor }
            }
            Step::Immediate(to, value) => Expression::Immediate { to: *to, value },
            Step::Jump(chain) => Expression::Verdict(Verdict::Jump(chain)),
            Step::Goto(chain) => Expression::Verdict(Verdict::Goto(chain)),
            Step::Lookup(set, id) => {
                Expression::Lookup { set, set_id: *id, from: REGISTER, invert: false }
            }
            Step::Update(set, id, timeout_ms) => {
                Expression::Update { set, set_id: *id, from: REGISTER, timeout_ms: *timeout_ms }
            }
        }
    }
}

const ADDRESS_LOCAL: u32 = 2;
const CT_STATE_INVALID: u32 = 1;
const CT_STATE_RELATED: u32 = 4;
const CT_STATE_NEW: u32 = 8;
const CT_DIRECTION_REPLY: u8 = 1;
const CT_STATUS_DNAT: u32 = 0x20;

#[derive(Default)]
struct Compiler {
    steps: Vec<Step>,
    /// The id of the rule's own map.
    anonymous_id: u32,
}

impl Compiler {
    fn part(&mut self, part: &Part) {
        match part {
            Part::Family { ipv6 } => {
                self.plain(Expression::Meta { key: meta::NFPROTO, to: REGISTER });
                self.equal(vec![if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }]);
            }
            Part::Protocol(protocol) => {
                self.plain(Expression::Meta { key: meta::L4PROTO, to: REGISTER });
                self.equal(vec![protocol.number()]);
            }
            Part::Source { cidr, not } => {
                self.address(false, !cidr.is_ipv4(), REGISTER);
                self.in_block(cidr, *not);
            }
            Part::Destination { cidr, not } => {
                self.address(true, !cidr.is_ipv4(), REGISTER);
                self.in_block(cidr, *not);
            }
            Part::OriginalDestination(cidr) => {
                let what = match cidr.is_ipv4() {
                    true => Ct::OriginalDestination4,
                    false => Ct::OriginalDestination6,
                };
                self.plain(Expression::Ct { what, to: REGISTER });
                self.in_block(cidr, false);
            }
            Part::DestinationPorts { protocol, first, last } => {
                self.plain(Expression::Meta { key: meta::L4PROTO, to: REGISTER });
                self.equal(vec![protocol.number()]);
                self.plain(Expression::Payload {
                    transport: true,
                    offset: 2,
                    len: 2,
                    to: REGISTER,
                });
                let mut compare = |comparison, port: u16| {
                    self.steps.push(Step::Compare(REGISTER, comparison, port.to_be_bytes().into()));
                };
                if first == last {
                    compare(Comparison::Equal, *first);
                } else {
                    compare(Comparison::AtLeast, *first);
                    compare(Comparison::AtMost, *last);
                }
            }
            Part::InputInterface { name, not } => self.interface(meta::IIFNAME, name, *not),
            Part::OutputInterface { name, not } => self.interface(meta::OIFNAME, name, *not),
            Part::SourceLocal => self.local(true, false),
            Part::DestinationLocal { not } => self.local(false, *not),
            Part::StateNew => self.bits(Ct::State, CT_STATE_NEW, false),
            Part::StateInvalid => self.bits(Ct::State, CT_STATE_INVALID, false),
            Part::Related => self.bits(Ct::State, CT_STATE_RELATED, false),
            Part::Reply => {
                self.plain(Expression::Ct { what: Ct::Direction, to: REGISTER });
                self.equal(vec![CT_DIRECTION_REPLY]);
            }
            Part::Translated { not } => self.bits(Ct::Status, CT_STATUS_DNAT, *not),
            Part::Marked => {
                self.plain(Expression::Meta { key: meta::MARK, to: REGISTER });
                self.mask(MASQUERADE_MARK, 0);
                self.not_equal(vec![0; 4]);
            }
            Part::SetMark => self.set_mark(!MASQUERADE_MARK, MASQUERADE_MARK),
            Part::ClearMark => self.set_mark(!MASQUERADE_MARK, 0),
            Part::Hairpin { ipv6 } => {
                self.address(false, *ipv6, REGISTER);
                self.address(true, *ipv6, REGISTER + address_len(*ipv6) / 4);
                let set = Set { kind: SetKind::Hairpin, ipv6: *ipv6 };
                self.steps.push(Step::Lookup(set.name().to_owned(), set_id(set)));
            }
            Part::Member { set, group, source } => {
                self.steps.push(Step::Immediate(REGISTER, group.to_be_bytes().into()));
                self.address(!*source, set.ipv6, REGISTER + 1);
                self.steps.push(Step::Lookup(set.name().to_owned(), set_id(*set)));
            }
            Part::NamedPort { ipv6, id } => {
                let set = Set { kind: SetKind::PolicyPorts, ipv6: *ipv6 };
                let next = self.key(set);
                self.steps.push(Step::Immediate(next, id.to_ne_bytes().into()));
                self.steps.push(Step::Lookup(set.name().to_owned(), set_id(set)));
            }
            Part::KnownClient { set, ipv6 } => {
                self.address(false, *ipv6, REGISTER);
                self.steps.push(Step::Lookup(set.to_string(), client_set_id(set)));
            }
            Part::RememberClient { set, ipv6, timeout_secs } => {
                self.address(false, *ipv6, REGISTER);
                let timeout_ms = u64::from(*timeout_secs) * 1000;
                self.steps.push(Step::Update(set.to_string(), client_set_id(set), timeout_ms));
            }
            Part::OneIn(n) => {
                self.plain(Expression::Random { modulus: *n, to: REGISTER });
                self.equal(vec![0; 4]);
            }
            Part::Dispatch(set) => {
                self.key(*set);
                let (set, set_id) = (set.name(), set_id(*set));
                self.plain(Expression::VerdictMap { set, set_id, from: REGISTER });
            }
            Part::Balance { set, n } => {
                let next = self.key(*set);
                self.plain(Expression::Random { modulus: *n, to: next });
                self.dnat_by_map(set.name(), set_id(*set), set.ipv6);
            }
            Part::DnatAmong(targets) => {
                let modulus = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
                let ipv6 = targets.iter().any(|target| target.is_ipv6());
                self.plain(Expression::Random { modulus, to: REGISTER });
                self.dnat_by_map(nft::ANONYMOUS_MAP, self.anonymous_id, ipv6);
            }
            Part::DnatByMap(set) => {
                self.key(*set);
                self.dnat_by_map(set.name(), set_id(*set), set.ipv6);
            }
            Part::Dnat(target) => {
                let ipv6 = target.ip().is_ipv6();
                let port = REGISTER + address_len(ipv6) / 4;
                self.steps.push(Step::Immediate(REGISTER, nft::octets(target.ip())));
                self.steps.push(Step::Immediate(port, target.port().to_be_bytes().to_vec()));
                self.plain(Expression::Dnat { ipv6, address: REGISTER, port });
            }
            Part::Masquerade => self.plain(Expression::Masquerade { fully_random: true }),
            Part::RejectTcp => self.plain(Expression::Reject { reset: true }),
            Part::Reject => self.plain(Expression::Reject { reset: false }),
            Part::Accept => self.plain(Expression::Verdict(Verdict::Accept)),
            Part::Drop => self.plain(Expression::Verdict(Verdict::Drop)),
            Part::Return => self.plain(Expression::Verdict(Verdict::Return)),
            Part::Jump(chain) => self.steps.push(Step::Jump(chain.to_string())),
            Part::Goto(chain) => self.steps.push(Step::Goto(chain.to_string())),
        }
    }

    fn plain(&mut self, expression: Expression<'static>) {
        self.steps.push(Step::Plain(expression));
    }

    fn equal(&mut self, value: Vec<u8>) {
        self.steps.push(Step::Compare(REGISTER, Comparison::Equal, value));
    }

    fn not_equal(&mut self, value: Vec<u8>) {
        self.steps.push(Step::Compare(REGISTER, Comparison::NotEqual, value));
    }

    fn mask(&mut self, mask: u32, xor: u32) {
        self.steps.push(Step::Bitwise(mask.to_ne_bytes().to_vec(), xor.to_ne_bytes().to_vec()));
    }

    fn set_mark(&mut self, mask: u32, xor: u32) {
        self.plain(Expression::Meta { key: meta::MARK, to: REGISTER });
        self.mask(mask, xor);
        self.plain(Expression::MetaSet { key: meta::MARK, from: REGISTER });
    }

    /// An address of the network header into registers.
    fn address(&mut self, destination: bool, ipv6: bool, to: u32) {
        let offset = match (ipv6, destination) {
            (false, false) => 12,
            (false, true) => 16,
            (true, false) => 8,
            (true, true) => 24,
        };
        let len = address_len(ipv6);
        self.plain(Expression::Payload { transport: false, offset, len, to });
    }

    fn in_block(&mut self, cidr: &netplan::Cidr, not: bool) {
        let first = nft::octets(cidr.first());
        let bits = usize::from(cidr.prefix());
        if bits < first.len() * 8 {
            let mask = nft::mask(bits, first.len());
            self.steps.push(Step::Bitwise(mask, vec![0; first.len()]));
        }
        match not {
            true => self.not_equal(first),
            false => self.equal(first),
        }
    }

    fn interface(&mut self, key: u32, name: &str, not: bool) {
        const NAME_LEN: usize = 16;
        self.plain(Expression::Meta { key, to: REGISTER });
        let mut value = name.as_bytes().to_vec();
        value.resize(NAME_LEN, 0);
        match not {
            true => self.not_equal(value),
            false => self.equal(value),
        }
    }

    fn local(&mut self, source: bool, not: bool) {
        self.plain(Expression::FibType { source, to: REGISTER });
        let value = ADDRESS_LOCAL.to_ne_bytes().to_vec();
        match not {
            true => self.not_equal(value),
            false => self.equal(value),
        }
    }

    fn bits(&mut self, what: Ct, bits: u32, not: bool) {
        self.plain(Expression::Ct { what, to: REGISTER });
        self.mask(bits, 0);
        match not {
            true => self.equal(vec![0; 4]),
            false => self.not_equal(vec![0; 4]),
        }
    }

    /// The packet's part of a set's key into registers. Returns the next free register.
    fn key(&mut self, set: Set) -> u32 {
        let by_port = [
            SetKind::NodePorts,
            SetKind::BalancerPorts,
            SetKind::RefusedNodePorts,
            SetKind::HostPorts,
        ];
        let mut to = REGISTER;
        if matches!(set.kind, SetKind::PolicyEgress | SetKind::PolicyIngress) {
            self.address(set.kind == SetKind::PolicyIngress, set.ipv6, to);
            return to + address_len(set.ipv6) / 4;
        }
        if !by_port.contains(&set.kind) {
            self.address(true, set.ipv6, to);
            to += address_len(set.ipv6) / 4;
        }
        self.plain(Expression::Meta { key: meta::L4PROTO, to });
        self.plain(Expression::Payload { transport: true, offset: 2, len: 2, to: to + 1 });
        to + 2
    }

    fn dnat_by_map(&mut self, set: &'static str, set_id: u32, ipv6: bool) {
        self.plain(Expression::Map { set, set_id, from: REGISTER, to: REGISTER });
        let port = REGISTER + address_len(ipv6) / 4;
        self.plain(Expression::Dnat { ipv6, address: REGISTER, port });
    }
}
