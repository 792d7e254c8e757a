//! nftables over nfnetlink: tables, chains, rules, sets and elements as one atomic batch.
//!
//! A batch is a list of messages between a begin and an end marker; the kernel applies all or none.
//! Registers are the kernel's 32-bit ones: number 8 is the first, concatenations use several in a row.

use std::net::IpAddr;

use stdx::Result;

use crate::netlink::{
    Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, Writer, messages,
};

pub const NFPROTO_INET: u8 = 1;
pub const NFPROTO_IPV4: u8 = 2;
pub const NFPROTO_NETDEV: u8 = 5;
pub const NFPROTO_IPV6: u8 = 10;
/// The multicast group (a number, not a mask) of nftables events.
pub const GROUP_NFTABLES: u32 = 7;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `nfgenmsg`: family, version, resource id.
pub const HEADER_LEN: usize = 4;

const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NEWGEN: u16 = 15;

/// Data types as `nft` numbers them, so that `nft list` prints elements as people know them.
pub mod types {
    pub const INTEGER: u32 = 4;
    pub const IPV4_ADDR: u32 = 7;
    pub const IPV6_ADDR: u32 = 8;
    pub const INET_PROTO: u32 = 12;
    pub const INET_SERVICE: u32 = 13;
    pub const MARK: u32 = 19;
    /// The type of verdict maps' data.
    pub const VERDICT: u32 = 0xffff_ff00;

    /// A concatenation's type number.
    pub fn concat(parts: &[u32]) -> u32 {
        parts.iter().fold(0, |all, part| all << 6 | part)
    }
}

/// The name that lookups of an anonymous map in the same batch give, beside its id.
pub const ANONYMOUS_MAP: &str = "__map%d";

/// The first data register.
pub const REGISTER: u32 = 8;
const REGISTER_VERDICT: u32 = 0;

/// Where a jump or a rule's end leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    Drop,
    Accept,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

/// A base chain's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub number: u32,
    pub priority: i32,
    /// `nat` or `filter`.
    pub kind: &'static str,
}

/// A set or map to create.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    pub name: &'a str,
    /// Unique within the batch; lookups in the same batch name it.
    pub id: u32,
    pub key_type: u32,
    pub key_len: u32,
    /// Data type and length of a map.
    pub data: Option<(u32, u32)>,
    pub interval: bool,
    /// Elements are added by packets and go after this many milliseconds.
    pub dynamic_timeout_ms: Option<u64>,
    /// Most elements it may hold; 0 is no bound.
    pub size: u32,
}

/// What a map's element leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    None,
    Bytes(&'a [u8]),
    Verdict(Verdict<'a>),
}

/// One element. Concatenated keys are padded to four bytes a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub key: &'a [u8],
    pub data: Data<'a>,
    /// Ends an interval (its key is the first value behind it).
    pub interval_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    AtMost,
    AtLeast,
}

impl Comparison {
    /// The kernel's `NFT_CMP_*`.
    fn number(self) -> u32 {
        match self {
            Comparison::Equal => 0,
            Comparison::NotEqual => 1,
            Comparison::AtMost => 3,
            Comparison::AtLeast => 5,
        }
    }
}

/// Which part of a connection a `ct` expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ct {
    State,
    Status,
    /// One byte: 0 as the connection began, 1 the other way.
    Direction,
    /// The original destination address, IPv4 or IPv6.
    OriginalDestination4,
    OriginalDestination6,
}

/// One expression of a rule. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Bytes of the network header (`transport` false) or transport header into a register.
    Payload {
        transport: bool,
        offset: u32,
        len: u32,
        to: u32,
    },
    Meta {
        key: u32,
        to: u32,
    },
    MetaSet {
        key: u32,
        from: u32,
    },
    Ct {
        what: Ct,
        to: u32,
    },
    Compare {
        from: u32,
        comparison: Comparison,
        value: &'a [u8],
    },
    /// `to = from & mask ^ xor`
    Bitwise {
        from: u32,
        to: u32,
        mask: &'a [u8],
        xor: &'a [u8],
    },
    Immediate {
        to: u32,
        value: &'a [u8],
    },
    Verdict(Verdict<'a>),
    /// Ends the rule unless the key is in the set; `invert` turns that round.
    Lookup {
        set: &'a str,
        set_id: u32,
        from: u32,
        invert: bool,
    },
    /// A map's data into a register.
    Map {
        set: &'a str,
        set_id: u32,
        from: u32,
        to: u32,
    },
    /// A verdict map's verdict.
    VerdictMap {
        set: &'a str,
        set_id: u32,
        from: u32,
    },
    /// Adds or refreshes the key in a dynamic set.
    Update {
        set: &'a str,
        set_id: u32,
        from: u32,
        timeout_ms: u64,
    },
    /// A random number in `0..modulus`.
    Random {
        modulus: u32,
        to: u32,
    },
    /// The route type of the destination (or source) address.
    FibType {
        source: bool,
        to: u32,
    },
    Dnat {
        ipv6: bool,
        address: u32,
        port: u32,
    },
    Masquerade {
        fully_random: bool,
    },
    /// TCP reset (`reset`), or ICMP port unreachable of either family.
    Reject {
        reset: bool,
    },
    Counter,
}

pub mod meta {
    /// The type of the frame, in two bytes.
    pub const PROTOCOL: u32 = 1;
    pub const MARK: u32 = 3;
    pub const IIFNAME: u32 = 6;
    pub const OIFNAME: u32 = 7;
    pub const NFPROTO: u32 = 15;
    pub const L4PROTO: u32 = 16;
}

/// A transaction in the making, for one table.
#[derive(Debug)]
pub struct Batch<'a> {
    writer: Writer,
    family: u8,
    table: &'a str,
    sequence: u32,
    next_id: u32,
}

impl<'a> Batch<'a> {
    /// For a table of family `inet`.
    pub fn new(table: &'a str) -> Batch<'a> {
        Batch::of(NFPROTO_INET, table)
    }

    pub fn of(family: u8, table: &'a str) -> Batch<'a> {
        let mut writer = Writer::new();
        writer.message(BATCH_BEGIN, NLM_F_REQUEST, 0, |w| {
            w.raw(&[0, 0, SUBSYSTEM.to_be_bytes()[0], SUBSYSTEM.to_be_bytes()[1]]);
        });
        Batch { writer, family, table, sequence: 0, next_id: 0x4000_0000 }
    }

    /// An id for a set that no other set of this batch has.
    pub fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes the table if it is absent.
    pub fn add_table(&mut self) {
        let table = self.table;
        self.message(NEWTABLE, NLM_F_CREATE, |w| w.str(1, table));
    }

    /// Deletes the table and all in it; it must exist (add it first in the same batch to be sure).
    pub fn delete_table(&mut self) {
        let table = self.table;
        self.message(DELTABLE, 0, |w| w.str(1, table));
    }

    pub fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        let table = self.table;
        self.message(NEWCHAIN, NLM_F_CREATE, |w| {
            w.str(1, table);
            w.str(3, name);
            if let Some(hook) = hook {
                w.nest(4, |w| {
                    w.be32(1, hook.number);
                    w.be32(2, hook.priority.cast_unsigned());
                });
                w.be32(5, 1); // policy accept
                w.str(7, hook.kind);
            }
        });
    }

    /// A chain of a table of family `netdev`, for what comes in by the interface of its own name.
    pub fn add_ingress_chain(&mut self, interface: &str) {
        let table = self.table;
        self.message(NEWCHAIN, NLM_F_CREATE, |w| {
            w.str(1, table);
            w.str(3, interface);
            w.nest(4, |w| {
                w.be32(1, 0);
                w.be32(2, 0);
                w.str(3, interface);
            });
            w.be32(5, 1); // policy accept
            w.str(7, "filter");
        });
    }

    pub fn delete_chain(&mut self, name: &str) {
        let table = self.table;
        self.message(DELCHAIN, 0, |w| {
            w.str(1, table);
            w.str(3, name);
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        let table = self.table;
        self.message(DELRULE, 0, |w| {
            w.str(1, table);
            w.str(2, name);
        });
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: &str, expressions: &[Expression<'_>]) {
        let table = self.table;
        self.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w| {
            w.str(1, table);
            w.str(2, chain);
            w.nest(4, |w| {
                for expression in expressions {
                    w.nest(LIST_ELEM, |w| expression.write(w));
                }
            });
        });
    }

    pub fn add_set(&mut self, set: &Set<'_>) {
        const MAP: u32 = 0x8;
        const INTERVAL: u32 = 0x4;
        const TIMEOUT: u32 = 0x10;
        const EVAL: u32 = 0x20;
        let table = self.table;
        let flags = if set.data.is_some() { MAP } else { 0 }
            | if set.interval { INTERVAL } else { 0 }
            | if set.dynamic_timeout_ms.is_some() { TIMEOUT | EVAL } else { 0 };
        self.message(NEWSET, NLM_F_CREATE, |w| {
            w.str(1, table);
            w.str(2, set.name);
            w.be32(3, flags);
            w.be32(4, set.key_type);
            w.be32(5, set.key_len);
            if let Some((kind, len)) = set.data {
                w.be32(6, kind);
                // The length of a verdict is the kernel's own business.
                w.be32(7, if kind == types::VERDICT { 16 } else { len });
            }
            w.be32(10, set.id);
            if set.size != 0 {
                w.nest(9, |w| w.be32(1, set.size));
            }
            if let Some(timeout_ms) = set.dynamic_timeout_ms {
                w.be64(11, timeout_ms);
            }
        });
    }

    /// A nameless map from 0, 1, 2 ... to `data`, which lives as long as the rule that is added next
    /// and refers to [`ANONYMOUS_MAP`] and `id`. `data` holds a part per entry.
    pub fn add_anonymous_map(&mut self, id: u32, (kind, len): (u32, u32), data: &[Vec<u8>]) {
        const ANONYMOUS: u32 = 0x1;
        const CONSTANT: u32 = 0x2;
        const MAP: u32 = 0x8;
        let table = self.table;
        self.message(NEWSET, NLM_F_CREATE, |w| {
            w.str(1, table);
            w.str(2, ANONYMOUS_MAP);
            w.be32(3, ANONYMOUS | CONSTANT | MAP);
            w.be32(4, types::INTEGER);
            w.be32(5, 4);
            w.be32(6, kind);
            w.be32(7, len);
            w.be32(10, id);
            // Its keys are numbers in host byte order; nft prints them by this note.
            const KEY_BYTE_ORDER: u8 = 0;
            const HOST_ORDER: u32 = 1;
            let order = HOST_ORDER.to_ne_bytes();
            w.bytes(13, &[KEY_BYTE_ORDER, 4, order[0], order[1], order[2], order[3]]);
        });
        let keys: Vec<[u8; 4]> = (0u32..).take(data.len()).map(u32::to_ne_bytes).collect();
        let elements: Vec<Element<'_>> = keys
            .iter()
            .zip(data)
            .map(|(key, data)| Element { key, data: Data::Bytes(data), interval_end: false })
            .collect();
        self.elements_of(NEWSETELEM, NLM_F_CREATE, ANONYMOUS_MAP, Some(id), &elements);
    }

    pub fn delete_set(&mut self, name: &str) {
        let table = self.table;
        self.message(DELSET, 0, |w| {
            w.str(1, table);
            w.str(2, name);
        });
    }

    pub fn add_elements(&mut self, set: &str, elements: &[Element<'_>]) {
        self.elements(NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    pub fn delete_elements(&mut self, set: &str, elements: &[Element<'_>]) {
        self.elements(DELSETELEM, 0, set, elements);
    }

    // Splits over messages: a list attribute holds 65,535 bytes at most.
    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element<'_>]) {
        self.elements_of(kind, flags, set, None, elements);
    }

    fn elements_of(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        id: Option<u32>,
        elements: &[Element<'_>],
    ) {
        const CHUNK_MAX_BYTES: usize = 60_000;
        const ELEMENT_OVERHEAD_BYTES: usize = 48;
        let size = |element: &Element<'_>| {
            let data = match element.data {
                Data::None => 0,
                Data::Bytes(bytes) => bytes.len() + 8,
                Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.len() + 32,
                Data::Verdict(_) => 24,
            };
            element.key.len() + data + ELEMENT_OVERHEAD_BYTES
        };
        let mut rest = elements;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|element| {
                bytes += size(element);
                bytes <= CHUNK_MAX_BYTES
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let table = self.table;
            self.message(kind, flags, |w| {
                w.str(1, table);
                w.str(2, set);
                if let Some(id) = id {
                    w.be32(4, id);
                }
                w.nest(3, |w| {
                    for element in now {
                        w.nest(LIST_ELEM, |w| element.write(w));
                    }
                });
            });
            rest = later;
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.writer.len()
    }

    /// True if nothing was put in it.
    pub fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    /// The messages to send in one piece, and the sequence number whose acknowledgement says that
    /// all went well.
    pub fn finish(mut self) -> Result<(Vec<u8>, u32)> {
        // The last message asks for an answer, so that success is told too.
        let table = self.table;
        self.message(NEWTABLE, NLM_F_CREATE | NLM_F_ACK, |w| w.str(1, table));
        let end = self.sequence + 1;
        self.writer.message(BATCH_END, NLM_F_REQUEST, end, |w| {
            w.raw(&[0, 0, SUBSYSTEM.to_be_bytes()[0], SUBSYSTEM.to_be_bytes()[1]]);
        });
        Ok((self.writer.finish()?, self.sequence))
    }

    /// As [`Batch::finish`], for batches that end with the table gone.
    pub fn finish_without_table(mut self) -> Result<(Vec<u8>, u32)> {
        self.delete_table();
        let last = self.sequence;
        self.writer.message(BATCH_END, NLM_F_REQUEST, last + 1, |w| {
            w.raw(&[0, 0, SUBSYSTEM.to_be_bytes()[0], SUBSYSTEM.to_be_bytes()[1]]);
        });
        let mut bytes = self.writer.finish()?;
        // Ask for the acknowledgement of the deletion itself.
        let offsets: Vec<(usize, u32)> = message_offsets(&bytes);
        if let Some((at, _)) = offsets.iter().find(|(_, sequence)| *sequence == last) {
            let flags = (NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes();
            bytes[at + 6..at + 8].copy_from_slice(&flags);
        }
        Ok((bytes, last))
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.sequence += 1;
        let (kind, family) = (SUBSYSTEM << 8 | kind, self.family);
        self.writer.message(kind, NLM_F_REQUEST | flags, self.sequence, |w| {
            w.raw(&[family, 0, 0, 0]);
            body(w);
        });
    }
}

fn message_offsets(bytes: &[u8]) -> Vec<(usize, u32)> {
    let start = bytes.as_ptr() as usize;
    messages(bytes)
        .flatten()
        .map(|message| (message.payload.as_ptr() as usize - start - 16, message.sequence))
        .collect()
}

/// Says what the message with `sequence` in a batch was about: for error texts.
pub fn describe(batch: &[u8], sequence: u32) -> String {
    let Some(message) = messages(batch).flatten().find(|m| m.sequence == sequence) else {
        return format!("message {sequence}");
    };
    let verb = match message.kind & 0xff {
        NEWTABLE => "add table",
        DELTABLE => "delete table",
        NEWCHAIN => "add chain",
        DELCHAIN => "delete chain",
        NEWRULE => "add rule to",
        DELRULE => "flush chain",
        NEWSET => "add set",
        DELSET => "delete set",
        NEWSETELEM => "add elements to",
        DELSETELEM => "delete elements of",
        _ => "commit",
    };
    let named = |kind| message.attributes(HEADER_LEN).find(|a| a.kind == kind)?.str();
    let name = match message.kind & 0xff {
        NEWCHAIN | DELCHAIN => named(3),
        _ => named(2).filter(|_| message.kind & 0xff != NEWTABLE),
    };
    format!("{verb} {}", name.or(named(1)).unwrap_or(""))
}

/// Asks for one table; answered by it or by `ENOENT`.
pub fn get_table(w: &mut Writer, sequence: u32, table: &str) {
    w.message(SUBSYSTEM << 8 | GETTABLE, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        w.raw(&[NFPROTO_INET, 0, 0, 0]);
        w.str(1, table);
    });
}

/// Asks for all rules of one table.
pub fn dump_rules(w: &mut Writer, sequence: u32, table: &str) {
    let flags = NLM_F_REQUEST | crate::netlink::NLM_F_DUMP;
    w.message(SUBSYSTEM << 8 | GETRULE, flags, sequence, |w| {
        w.raw(&[NFPROTO_INET, 0, 0, 0]);
        w.str(1, table);
    });
}

/// A chain that hangs on a hook, of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub table: String,
    pub name: String,
    /// As in [`Hook::number`].
    pub hook: u32,
    /// What no rule of it accepts is dropped.
    pub drops: bool,
}

/// Asks for the chains of all tables of all families.
pub fn dump_chains(w: &mut Writer, sequence: u32) {
    let flags = NLM_F_REQUEST | crate::netlink::NLM_F_DUMP;
    w.message(SUBSYSTEM << 8 | GETCHAIN, flags, sequence, |w| w.raw(&[0; HEADER_LEN]));
}

/// Reads an answer to [`dump_chains`]; `None` for chains without a hook of IPv4, IPv6 or both.
pub fn parse_base_chain(message: &Message<'_>) -> Option<BaseChain> {
    const POLICY_DROP: u32 = 0;
    let is_ip = [NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6].contains(message.payload.first()?);
    if message.kind != SUBSYSTEM << 8 | NEWCHAIN || !is_ip {
        return None;
    }
    let find = |kind| message.attributes(HEADER_LEN).find(|attribute| attribute.kind == kind);
    Some(BaseChain {
        table: find(1)?.str()?.to_owned(),
        name: find(3)?.str()?.to_owned(),
        hook: find(4)?.nested().find(|attribute| attribute.kind == 1)?.be32()?,
        drops: find(5)?.be32()? == POLICY_DROP,
    })
}

/// What an nftables event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Something in a table of family inet came, went or changed.
    Table(&'a str),
    /// A transaction was committed.
    Generation,
    Other,
}

/// Reads an event of [`GROUP_NFTABLES`].
pub fn parse_event<'a>(message: &Message<'a>) -> Event<'a> {
    if message.kind >> 8 != SUBSYSTEM {
        return Event::Other;
    }
    if message.kind & 0xff == NEWGEN {
        return Event::Generation;
    }
    match message.payload.first() {
        Some(&NFPROTO_INET) => message
            .attributes(HEADER_LEN)
            .find(|attribute| attribute.kind == 1)
            .and_then(|attribute| attribute.str())
            .map_or(Event::Other, Event::Table),
        _ => Event::Other,
    }
}

/// As many octets, the first bits of which are ones.
pub fn mask(bits: usize, n_octets: usize) -> Vec<u8> {
    let octet = |idx: usize| {
        let ones = bits.saturating_sub(idx * 8).min(8);
        // The shift by eight, for no ones at all, leaves zero.
        u8::try_from(0xff00u32 >> ones & 0xff).unwrap_or(0)
    };
    (0..n_octets).map(octet).collect()
}

/// The octets of an address, as keys hold them.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

impl Verdict<'_> {
    fn write(self, w: &mut Writer) {
        let (code, chain): (i32, Option<&str>) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Return => (-5, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
        };
        w.nest(DATA_VERDICT, |w| {
            w.be32(1, code.cast_unsigned());
            if let Some(chain) = chain {
                w.str(2, chain);
            }
        });
    }
}

impl Element<'_> {
    fn write(&self, w: &mut Writer) {
        if self.interval_end {
            w.be32(3, 1);
        }
        w.nest(1, |w| w.bytes(DATA_VALUE, self.key));
        match self.data {
            Data::None => {}
            Data::Bytes(bytes) => w.nest(2, |w| w.bytes(DATA_VALUE, bytes)),
            Data::Verdict(verdict) => w.nest(2, |w| verdict.write(w)),
        }
    }
}

impl Expression<'_> {
    fn write(&self, w: &mut Writer) {
        let (name, body): (&str, &dyn Fn(&mut Writer)) = match self {
            Expression::Payload { transport, offset, len, to } => ("payload", &|w| {
                w.be32(1, *to);
                w.be32(2, if *transport { 2 } else { 1 });
                w.be32(3, *offset);
                w.be32(4, *len);
            }),
            Expression::Meta { key, to } => ("meta", &|w| {
                w.be32(1, *to);
                w.be32(2, *key);
            }),
            Expression::MetaSet { key, from } => ("meta", &|w| {
                w.be32(2, *key);
                w.be32(3, *from);
            }),
            Expression::Ct { what, to } => ("ct", &|w| {
                const DIRECTION_ORIGINAL: u8 = 0;
                w.be32(1, *to);
                match what {
                    Ct::State => w.be32(2, 0),
                    Ct::Direction => w.be32(2, 1),
                    Ct::Status => w.be32(2, 2),
                    Ct::OriginalDestination4 => {
                        w.be32(2, 20);
                        w.u8(3, DIRECTION_ORIGINAL);
                    }
                    Ct::OriginalDestination6 => {
                        w.be32(2, 22);
                        w.u8(3, DIRECTION_ORIGINAL);
                    }
                }
            }),
            Expression::Compare { from, comparison, value } => ("cmp", &|w| {
                w.be32(1, *from);
                w.be32(2, comparison.number());
                w.nest(3, |w| w.bytes(DATA_VALUE, value));
            }),
            Expression::Bitwise { from, to, mask, xor } => ("bitwise", &|w| {
                w.be32(1, *from);
                w.be32(2, *to);
                w.be32(3, u32::try_from(mask.len()).unwrap_or(0));
                w.nest(4, |w| w.bytes(DATA_VALUE, mask));
                w.nest(5, |w| w.bytes(DATA_VALUE, xor));
            }),
            Expression::Immediate { to, value } => ("immediate", &|w| {
                w.be32(1, *to);
                w.nest(2, |w| w.bytes(DATA_VALUE, value));
            }),
            Expression::Verdict(verdict) => ("immediate", &|w| {
                w.be32(1, REGISTER_VERDICT);
                w.nest(2, |w| verdict.write(w));
            }),
            Expression::Lookup { set, set_id, from, invert } => ("lookup", &|w| {
                lookup(w, set, *set_id, *from);
                if *invert {
                    w.be32(5, 1);
                }
            }),
            Expression::Map { set, set_id, from, to } => ("lookup", &|w| {
                lookup(w, set, *set_id, *from);
                w.be32(3, *to);
            }),
            Expression::VerdictMap { set, set_id, from } => ("lookup", &|w| {
                lookup(w, set, *set_id, *from);
                w.be32(3, REGISTER_VERDICT);
            }),
            Expression::Update { set, set_id, from, timeout_ms } => ("dynset", &|w| {
                w.str(1, set);
                w.be32(2, *set_id);
                w.be32(3, 1); // update
                w.be32(4, *from);
                w.be64(6, *timeout_ms);
            }),
            Expression::Random { modulus, to } => ("numgen", &|w| {
                w.be32(1, *to);
                w.be32(2, *modulus);
                w.be32(3, 1); // random
                w.be32(4, 0);
            }),
            Expression::FibType { source, to } => ("fib", &|w| {
                w.be32(1, *to);
                w.be32(2, 3); // address type
                w.be32(3, if *source { 1 } else { 2 });
            }),
            Expression::Dnat { ipv6, address, port } => ("nat", &|w| {
                w.be32(1, 1);
                w.be32(2, u32::from(if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }));
                w.be32(3, *address);
                w.be32(5, *port);
            }),
            Expression::Masquerade { fully_random } => ("masq", &|w| {
                if *fully_random {
                    w.be32(1, 0x10);
                }
            }),
            Expression::Reject { reset } => ("reject", &|w| {
                w.be32(1, if *reset { 1 } else { 2 }); // TCP reset, or ICMP of either family
                w.u8(2, if *reset { 0 } else { 1 }); // port unreachable
            }),
            Expression::Counter => ("counter", &|_| {}),
        };
        w.str(1, name);
        w.nest(2, body);
    }
}

fn lookup(w: &mut Writer, set: &str, set_id: u32, from: u32) {
    w.str(1, set);
    w.be32(2, from);
    w.be32(4, set_id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_framed_numbered_and_described() {
        let mut batch = Batch::new("k3rs");
        batch.add_table();
        batch.add_chain("services", None);
        batch.add_rule("services", &[Expression::Verdict(Verdict::Drop)]);
        let (bytes, last) = batch.finish().unwrap();
        let all: Vec<Message<'_>> = messages(&bytes).collect::<Result<_>>().unwrap();
        let kinds: Vec<u16> = all.iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [0x10, 0xa00, 0xa03, 0xa06, 0xa00, 0x11]);
        assert_eq!((last, all[4].sequence), (4, 4));
        assert_eq!(describe(&bytes, 2), "add chain services");
        assert_eq!(describe(&bytes, 3), "add rule to services");
        assert_eq!(parse_event(&all[2]), Event::Table("k3rs"));
    }

    #[test]
    fn many_elements_are_split_below_the_attribute_limit() {
        let keys: Vec<[u8; 4]> = (0..5000u32).map(u32::to_be_bytes).collect();
        let elements: Vec<Element<'_>> = keys
            .iter()
            .map(|key| Element {
                key,
                data: Data::Verdict(Verdict::Goto("a-chain-with-a-name")),
                interval_end: false,
            })
            .collect();
        let mut batch = Batch::new("t");
        batch.add_elements("s", &elements);
        let (bytes, _) = batch.finish().unwrap();
        let mut n_elements = 0;
        for message in messages(&bytes).flatten().filter(|m| m.kind == 0xa0c) {
            let list = message.attributes(HEADER_LEN).find(|a| a.kind == 3).unwrap();
            n_elements += list.nested().count();
        }
        assert_eq!(n_elements, 5000);
    }
}
