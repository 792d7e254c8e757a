//! DNS messages: queries read, answers built with name compression and a size limit, foreign answers inspected.
//!
//! Nothing here trusts a length, a count or a pointer; compression pointers must point backwards.

mod foreign;

use std::net::IpAddr;

use stdx::{Error, Result};

pub use foreign::Foreign;
use foreign::RecordView;

pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

pub mod code {
    pub const NO_ERROR: u16 = 0;
    pub const FORMAT_ERROR: u16 = 1;
    pub const SERVER_FAILURE: u16 = 2;
    pub const NAME_ERROR: u16 = 3;
    pub const NOT_IMPLEMENTED: u16 = 4;
    pub const REFUSED: u16 = 5;
    /// EDNS: the version is not known there. It needs the OPT record's own bits.
    pub const BAD_VERSION: u16 = 16;
}

pub const CLASS_IN: u16 = 1;
/// What fits in UDP without EDNS.
pub const UDP_PLAIN_BYTES: usize = 512;
pub const MESSAGE_MAX_BYTES: usize = 65_535;

const HEADER_LEN: usize = 12;
const NAME_MAX_BYTES: usize = 255;
const LABEL_MAX_BYTES: usize = 63;
const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const FLAG_CHECKING_DISABLED: u16 = 0x0010;

/// A name: its labels with their lengths, ended by the root's zero; at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// From text with dots, with or without the last one.
    ///
    /// # Errors
    /// If a label is empty or longer than 63 bytes, or the whole is longer than 255.
    pub fn from_text(text: &str) -> Result<Name> {
        let mut bytes = Vec::with_capacity(text.len() + 2);
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            if text.is_empty() || text == "." {
                break;
            }
            match u8::try_from(label.len()) {
                Ok(len) if len > 0 && label.len() <= LABEL_MAX_BYTES => bytes.push(len),
                _ => return Err(Error::new(format!("{text:?} is no DNS name"))),
            }
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        match bytes.len() <= NAME_MAX_BYTES {
            true => Ok(Name(bytes.into())),
            false => Err(Error::new(format!("{text:?} is too long for a DNS name"))),
        }
    }

    /// The labels, first to last, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// Lower case, dots between labels, none at the end. Bytes that are not ASCII letters, digits,
    /// `-` or `_` become `?`, which no name of ours holds.
    pub fn to_lower_text(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for label in self.labels() {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| match byte.to_ascii_lowercase() {
                byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' | b'/') => char::from(byte),
                _ => '?',
            }));
        }
        text
    }

    /// The same name in lower case, as a key.
    pub fn to_lower(&self) -> Name {
        Name(self.0.iter().map(u8::to_ascii_lowercase).collect())
    }

    /// Reads a name at `at`; returns where it ends there.
    fn parse(message: &[u8], at: usize) -> Option<(Name, usize)> {
        let mut bytes = Vec::with_capacity(32);
        let (mut at, mut end, mut bound) = (at, None, at);
        loop {
            let len = usize::from(*message.get(at)?);
            match len {
                0 => {
                    bytes.push(0);
                    let name = (bytes.len() <= NAME_MAX_BYTES).then(|| Name(bytes.into()))?;
                    return Some((name, end.unwrap_or(at + 1)));
                }
                1..=LABEL_MAX_BYTES => {
                    bytes.extend_from_slice(message.get(at..=at + len)?);
                    if bytes.len() > NAME_MAX_BYTES {
                        return None;
                    }
                    at += 1 + len;
                }
                0xc0.. => {
                    let target = (len & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                    end = end.or(Some(at + 2));
                    // Strictly backwards, so that a circle is impossible.
                    if target >= bound {
                        return None;
                    }
                    bound = target;
                    at = target;
                }
                _ => return None,
            }
        }
    }
}

fn labels(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(*rest.first()?);
        let label = rest.get(1..1 + len).filter(|label| !label.is_empty())?;
        rest = &rest[1 + len..];
        Some(label)
    })
}

/// One question with what matters of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    pub name: Name,
    pub kind: u16,
    pub class: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// The client spoke EDNS; then its UDP limit.
    pub edns_udp_bytes: Option<u16>,
    /// Of EDNS; only 0 is defined, and others are answered with `BAD_VERSION`.
    pub edns_version: u8,
    pub dnssec_ok: bool,
}

/// Why a message is not answered as a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// No query at all: silence is right.
    Ignore,
    /// Answer with this id and code.
    Refuse { id: u16, code: u16 },
}

impl Query {
    /// A question of this machine's own.
    pub fn new(name: Name, kind: u16) -> Query {
        Query {
            id: 0,
            name,
            kind,
            class: CLASS_IN,
            recursion_desired: true,
            checking_disabled: false,
            edns_udp_bytes: None,
            edns_version: 0,
            dnssec_ok: false,
        }
    }

    /// Reads a query.
    ///
    /// # Errors
    /// Says whether and how to refuse what is not one.
    pub fn parse(message: &[u8]) -> Result<Query, Unanswerable> {
        let word = |at| read_u16(message, at);
        let (Some(id), Some(flags)) = (word(0), word(2)) else { return Err(Unanswerable::Ignore) };
        if flags & FLAG_RESPONSE != 0 {
            return Err(Unanswerable::Ignore);
        }
        let refuse = |code| Unanswerable::Refuse { id, code };
        if flags >> 11 & 0xf != 0 {
            return Err(refuse(code::NOT_IMPLEMENTED));
        }
        let broken = || refuse(code::FORMAT_ERROR);
        if word(4) != Some(1) {
            return Err(broken());
        }
        let (name, at) = Name::parse(message, HEADER_LEN).ok_or_else(broken)?;
        let (kind, class) = word(at).zip(word(at + 2)).ok_or_else(broken)?;
        let mut query = Query {
            id,
            name,
            kind,
            class,
            recursion_desired: flags & FLAG_RECURSION_DESIRED != 0,
            checking_disabled: flags & FLAG_CHECKING_DISABLED != 0,
            edns_udp_bytes: None,
            edns_version: 0,
            dnssec_ok: false,
        };
        let mut at = at + 4;
        let count = |at| usize::from(word(at).unwrap_or(0));
        for _ in 0..(count(6) + count(8) + count(10)).min(RECORDS_MAX) {
            let record = RecordView::parse(message, at).ok_or_else(broken)?;
            if record.kind == kind::OPT {
                query.edns_udp_bytes = Some(record.class);
                query.edns_version = record.ttl.to_be_bytes()[1];
                query.dnssec_ok = record.ttl & 0x8000 != 0;
            }
            at = record.end;
        }
        Ok(query)
    }

    /// How large an answer over UDP may be.
    pub fn udp_limit_bytes(&self) -> usize {
        /// What passes nearly every path unfragmented.
        const UDP_SAFE_BYTES: usize = 1232;
        let asked = self.edns_udp_bytes.map_or(UDP_PLAIN_BYTES, usize::from);
        asked.clamp(UDP_PLAIN_BYTES, UDP_SAFE_BYTES)
    }

    /// The query as a forwarder sends it on, under another id; without EDNS for servers that know none.
    pub fn to_bytes(&self, id: u16, edns: bool) -> Vec<u8> {
        const UDP_SAFE_BYTES: u16 = 1232;
        let mut bytes = Vec::with_capacity(64);
        let flags = FLAG_RECURSION_DESIRED
            | if self.checking_disabled { FLAG_CHECKING_DISABLED } else { 0 };
        for word in [id, flags, 1, 0, 0, u16::from(edns)] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&self.name.0);
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&self.class.to_be_bytes());
        if edns {
            push_opt(&mut bytes, UDP_SAFE_BYTES, 0, self.dnssec_ok);
        }
        bytes
    }
}

/// Records looked at in one message: as many as fit.
const RECORDS_MAX: usize = MESSAGE_MAX_BYTES / 11;
/// Places of name suffixes that are remembered for compression in one answer.
const SUFFIXES_MAX: usize = 256;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Address(IpAddr),
    Ns(Name),
    Cname(Name),
    Ptr(Name),
    Txt(String),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: Name,
    },
    Soa {
        server: Name,
        mailbox: Name,
        serial: u32,
        refresh: u32,
        retry: u32,
        expire: u32,
        minimum: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// What stands before a record's data.
#[derive(Clone, Copy)]
struct Head<'a> {
    name: &'a Name,
    kind: u16,
    class: u16,
    ttl: u32,
}

/// Builds an answer to a query, never larger than its limit.
#[derive(Debug)]
pub struct Answer {
    buf: Vec<u8>,
    limit_bytes: usize,
    edns: Option<bool>,
    /// The bits of the code that the header has no room for.
    extended_code: u8,
    counts: [u16; 3],
    truncated: bool,
    /// Where name suffixes were written, for compression.
    suffixes: Vec<u16>,
}

impl Answer {
    pub fn new(query: &Query, code: u16, authoritative: bool, limit_bytes: usize) -> Answer {
        let flags = FLAG_RESPONSE
            | FLAG_RECURSION_AVAILABLE
            | if authoritative { FLAG_AUTHORITATIVE } else { 0 }
            | if query.recursion_desired { FLAG_RECURSION_DESIRED } else { 0 }
            | if query.checking_disabled { FLAG_CHECKING_DISABLED } else { 0 }
            | code & 0xf;
        let mut answer = Answer {
            buf: Vec::with_capacity(256),
            limit_bytes,
            edns: query.edns_udp_bytes.map(|_| query.dnssec_ok),
            extended_code: u8::try_from(code >> 4).unwrap_or(u8::MAX),
            counts: [0; 3],
            truncated: false,
            suffixes: Vec::new(),
        };
        for word in [query.id, flags, 1, 0, 0, 0] {
            answer.u16(word);
        }
        answer.name(&query.name);
        answer.u16(query.kind);
        answer.u16(query.class);
        answer
    }

    /// Adds a record of ours; sections must come in order.
    pub fn record(&mut self, section: Section, name: &Name, ttl: u32, data: &Data) {
        let kind = match data {
            Data::Address(IpAddr::V4(_)) => kind::A,
            Data::Address(IpAddr::V6(_)) => kind::AAAA,
            Data::Ns(_) => kind::NS,
            Data::Cname(_) => kind::CNAME,
            Data::Ptr(_) => kind::PTR,
            Data::Txt(_) => kind::TXT,
            Data::Srv { .. } => kind::SRV,
            Data::Soa { .. } => kind::SOA,
        };
        let head = Head { name, kind, class: CLASS_IN, ttl };
        self.put(section, head, |answer| answer.data(data));
    }

    /// The one way for a record into an answer, ours or another server's: what no longer fits sets the
    /// truncation flag, or, in the additional section, is left out silently. What is there stays, as a client
    /// without TCP has nothing else.
    fn put(&mut self, section: Section, head: Head<'_>, data: impl FnOnce(&mut Answer)) {
        const OPT_LEN: usize = 11;
        if self.truncated {
            return;
        }
        let (start, n_suffixes) = (self.buf.len(), self.suffixes.len());
        self.name(head.name);
        self.u16(head.kind);
        self.u16(head.class);
        self.u32(head.ttl);
        let len_at = self.buf.len();
        self.u16(0);
        data(self);
        let len = u16::try_from(self.buf.len() - len_at - 2).unwrap_or(u16::MAX);
        self.buf[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
        let room = self.limit_bytes.saturating_sub(if self.edns.is_some() { OPT_LEN } else { 0 });
        if self.buf.len() > room {
            self.buf.truncate(start);
            self.suffixes.truncate(n_suffixes);
            self.truncated = section != Section::Additional;
            return;
        }
        let count = match section {
            Section::Answer => &mut self.counts[0],
            Section::Authority => &mut self.counts[1],
            Section::Additional => &mut self.counts[2],
        };
        *count = count.saturating_add(1);
    }

    pub fn finish(mut self) -> Vec<u8> {
        if let Some(dnssec_ok) = self.edns {
            const OUR_UDP_BYTES: u16 = 1232;
            push_opt(&mut self.buf, OUR_UDP_BYTES, self.extended_code, dnssec_ok);
            self.counts[2] = self.counts[2].saturating_add(1);
        }
        for (idx, count) in self.counts.iter().enumerate() {
            let at = 6 + idx * 2;
            self.buf[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        if self.truncated {
            self.buf[2] |= FLAG_TRUNCATED.to_be_bytes()[0];
        }
        self.buf
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::Address(IpAddr::V4(v4)) => self.buf.extend_from_slice(&v4.octets()),
            Data::Address(IpAddr::V6(v6)) => self.buf.extend_from_slice(&v6.octets()),
            Data::Ns(name) | Data::Cname(name) | Data::Ptr(name) => self.name(name),
            Data::Txt(text) => {
                const STRING_MAX_BYTES: usize = 255;
                for part in text.as_bytes().chunks(STRING_MAX_BYTES) {
                    self.buf.push(u8::try_from(part.len()).unwrap_or(0));
                    self.buf.extend_from_slice(part);
                }
            }
            Data::Srv { priority, weight, port, target } => {
                for word in [priority, weight, port] {
                    self.u16(*word);
                }
                // SRV targets are not compressed (RFC 2782).
                self.buf.extend_from_slice(&target.0);
            }
            Data::Soa { server, mailbox, serial, refresh, retry, expire, minimum } => {
                self.name(server);
                self.name(mailbox);
                for word in [serial, refresh, retry, expire, minimum] {
                    self.u32(*word);
                }
            }
        }
    }

    /// Writes a name, with a pointer to the longest suffix that is there already.
    fn name(&mut self, name: &Name) {
        const POINTER: u16 = 0xc000;
        let mut rest: &[u8] = &name.0;
        while rest.first().is_some_and(|len| *len != 0) {
            let known = self.suffixes.iter().find(|at| self.is_at(rest, usize::from(**at)));
            if let Some(at) = known {
                let pointer = POINTER | *at;
                return self.u16(pointer);
            }
            if let Ok(at) = u16::try_from(self.buf.len())
                && at < POINTER >> 2
                && self.suffixes.len() < SUFFIXES_MAX
            {
                self.suffixes.push(at);
            }
            let len = usize::from(rest[0]) + 1;
            self.buf.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
        }
        self.buf.push(0);
    }

    /// True if the name written at `at` is `suffix`, byte for byte. What is written here points backwards only.
    fn is_at(&self, suffix: &[u8], at: usize) -> bool {
        let (mut at, mut rest) = (at, suffix);
        loop {
            let Some(len) = self.buf.get(at).copied().map(usize::from) else { return false };
            if len >= 0xc0 {
                let Some(pointer) = read_u16(&self.buf, at) else { return false };
                at = usize::from(pointer & 0x3fff);
                continue;
            }
            match (rest.get(..=len), self.buf.get(at..=at + len)) {
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
            if len == 0 {
                return rest.len() == 1;
            }
            (at, rest) = (at + len + 1, &rest[len + 1..]);
        }
    }

    fn u16(&mut self, value: u16) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.buf.extend_from_slice(&value.to_be_bytes());
    }
}

/// An error answer to a message of which only the id is known.
pub fn refusal(id: u16, code: u16) -> Vec<u8> {
    let flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | code & 0xf;
    [id, flags, 0, 0, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn push_opt(buf: &mut Vec<u8>, udp_bytes: u16, extended_code: u8, dnssec_ok: bool) {
    buf.push(0);
    buf.extend_from_slice(&kind::OPT.to_be_bytes());
    buf.extend_from_slice(&udp_bytes.to_be_bytes());
    buf.extend_from_slice(&[extended_code, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
}

fn read_u16(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(buf.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn read_u32(buf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(buf.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    fn query(name: &str, kind: u16) -> Query {
        Query {
            id: 7,
            name: Name::from_text(name).unwrap(),
            kind,
            class: CLASS_IN,
            recursion_desired: true,
            checking_disabled: false,
            edns_udp_bytes: Some(1232),
            edns_version: 0,
            dnssec_ok: false,
        }
    }

    fn address_answer(n: u8, limit_bytes: usize) -> Vec<u8> {
        let query = query("web.default.svc.cluster.local", kind::A);
        let mut answer = Answer::new(&query, code::NO_ERROR, true, limit_bytes);
        for idx in 0..n {
            let data = Data::Address(IpAddr::from([10, 42, 0, idx]));
            answer.record(Section::Answer, &query.name, 5, &data);
        }
        answer.finish()
    }

    #[test]
    fn queries_survive_the_round_trip() {
        let sent = query("Web.Default.svc.cluster.local", kind::AAAA);
        let read = Query::parse(&sent.to_bytes(7, true)).unwrap();
        assert_eq!(read, sent);
        assert_eq!(read.name.to_lower_text(), "web.default.svc.cluster.local");
        assert_eq!(Name::from_text(".").unwrap().to_lower_text(), "");
        assert!(Name::from_text("a..b").is_err());
        assert!(Name::from_text(&"a".repeat(64)).is_err());
        assert!(Name::from_text(&["abcdefgh"; 30].join(".")).is_err());
    }

    #[test]
    fn answers_are_compressed_and_cut_at_their_limit() {
        let small = address_answer(3, 512);
        // Header, question, three records of 16 bytes (a pointer for the name), and the OPT record.
        assert_eq!(small.len(), 12 + 31 + 4 + 3 * 16 + 11);
        let cut = address_answer(200, 512);
        assert!(cut.len() <= 512 && cut[2] & 2 != 0);
        let query = query("web.default.svc.cluster.local", kind::A);
        let read = Foreign::parse(&small, &query, 7).unwrap();
        assert_eq!((read.ttl_secs, read.truncated), (5, false));
        let aged = read.answer(&query, 2, 30, 512);
        assert_eq!(Foreign::parse(&aged, &query, 7).unwrap().ttl_secs, 3);
        assert!(Foreign::parse(&read.answer(&query, 0, 30, 64), &query, 7).unwrap().truncated);
        assert!(Foreign::parse(&small, &query, 8).is_err());
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() {
        let good = query("a.b", kind::A).to_bytes(9, true);
        let refused = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Query::parse(&bytes).unwrap_err()
        };
        let refuse = |code| Unanswerable::Refuse { id: 9, code };
        assert_eq!(refused(&|b| b[2] |= 0x80), Unanswerable::Ignore);
        assert_eq!(refused(&|b| b.truncate(3)), Unanswerable::Ignore);
        assert_eq!(refused(&|b| b[2] |= 0x10), refuse(code::NOT_IMPLEMENTED));
        assert_eq!(refused(&|b| b[5] = 2), refuse(code::FORMAT_ERROR));
        // A name that points to itself.
        assert_eq!(
            refused(&|b| b[12..14].copy_from_slice(&[0xc0, 12])),
            refuse(code::FORMAT_ERROR)
        );
    }

    #[test]
    fn hostile_bytes_never_panic() {
        let mut prng = Prng::new(4);
        let good = address_answer(4, 512);
        let asked = query("web.default.svc.cluster.local", kind::A);
        for round in 0..40_000 {
            let mut bytes = good.clone();
            if round % 3 == 0 {
                bytes.resize(prng.below(100) as usize, 0);
                prng.fill(&mut bytes);
            }
            for _ in 0..prng.below(4) {
                if !bytes.is_empty() {
                    let idx = prng.below(bytes.len() as u64) as usize;
                    bytes[idx] = prng.next_u64() as u8;
                }
            }
            if prng.chance(30) {
                bytes.truncate(prng.below(bytes.len() as u64 + 1) as usize);
            }
            if let Ok(foreign) = Foreign::parse(&bytes, &asked, 7) {
                for limit_bytes in [512, MESSAGE_MAX_BYTES] {
                    let answer = foreign.answer(&asked, 1, 30, limit_bytes);
                    assert!(answer.len() <= limit_bytes);
                    Foreign::parse(&answer, &asked, asked.id).unwrap();
                }
            }
            if bytes.len() > 2 {
                bytes[2] &= 0x7f;
            }
            if let Ok(query) = Query::parse(&bytes) {
                let text = query.name.to_lower_text();
                assert!(text.len() <= 255);
                let answer = Answer::new(&query, code::REFUSED, false, 512).finish();
                assert!(answer.len() <= 512);
                Query::parse(&query.to_bytes(1, true)).unwrap();
            }
        }
    }
}
