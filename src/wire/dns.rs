//! DNS messages: queries read, answers built with name compression and a size limit, foreign answers inspected.
//!
//! Nothing here trusts a length, a count or a pointer; compression pointers must point backwards.

use std::net::IpAddr;

use stdx::{Error, Result};

pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
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
            dnssec_ok: false,
        };
        let mut at = at + 4;
        let count = |at| usize::from(word(at).unwrap_or(0));
        for _ in 0..(count(6) + count(8) + count(10)).min(RECORDS_MAX) {
            let record = RecordView::parse(message, at).ok_or_else(broken)?;
            if record.kind == kind::OPT {
                query.edns_udp_bytes = Some(record.class);
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

    /// The query as a forwarder sends it on, under another id.
    pub fn to_bytes(&self, id: u16) -> Vec<u8> {
        const UDP_SAFE_BYTES: u16 = 1232;
        let mut bytes = Vec::with_capacity(64);
        let flags = FLAG_RECURSION_DESIRED
            | if self.checking_disabled { FLAG_CHECKING_DISABLED } else { 0 };
        for word in [id, flags, 1, 0, 0, 1] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(&self.name.0);
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&self.class.to_be_bytes());
        push_opt(&mut bytes, UDP_SAFE_BYTES, self.dnssec_ok);
        bytes
    }
}

/// Records looked at in one message.
const RECORDS_MAX: usize = 512;

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

/// Builds an answer to a query, never larger than its limit.
#[derive(Debug)]
pub struct Answer {
    buf: Vec<u8>,
    limit_bytes: usize,
    edns: Option<bool>,
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

    /// Adds a record; sections must come in order. What no longer fits sets the truncation flag,
    /// or, in the additional section, is left out silently.
    pub fn record(&mut self, section: Section, name: &Name, ttl: u32, data: &Data) {
        const OPT_LEN: usize = 11;
        if self.truncated {
            return;
        }
        let (start, n_suffixes) = (self.buf.len(), self.suffixes.len());
        self.name(name);
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
        self.u16(kind);
        self.u16(CLASS_IN);
        self.u32(ttl);
        let len_at = self.buf.len();
        self.u16(0);
        self.data(data);
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
            push_opt(&mut self.buf, OUR_UDP_BYTES, dnssec_ok);
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
            {
                self.suffixes.push(at);
            }
            let len = usize::from(rest[0]) + 1;
            self.buf.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
        }
        self.buf.push(0);
    }

    /// True if the name written at `at` is `suffix`, byte for byte.
    fn is_at(&self, suffix: &[u8], at: usize) -> bool {
        Name::parse(&self.buf, at).is_some_and(|(name, _)| *name.0 == *suffix)
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

/// An answer from another server, checked, and ready to be given again with less time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    bytes: Box<[u8]>,
    ttl_offsets: Box<[u16]>,
    pub code: u16,
    pub truncated: bool,
    /// How long it may be kept: the smallest time to live, or what the SOA says of a negative answer.
    pub ttl_secs: u32,
    pub is_negative: bool,
}

impl Foreign {
    /// Reads an answer to `query` that was sent under `id`.
    ///
    /// # Errors
    /// If it is broken or answers something else.
    pub fn parse(bytes: &[u8], query: &Query, id: u16) -> Result<Foreign> {
        let broken = || Error::new("the DNS answer is broken");
        let word = |at| read_u16(bytes, at).ok_or_else(broken);
        let flags = word(2)?;
        if word(0)? != id || flags & FLAG_RESPONSE == 0 || word(4)? != 1 {
            return Err(Error::new("the DNS answer is not to our query"));
        }
        let (name, at) = Name::parse(bytes, HEADER_LEN).ok_or_else(broken)?;
        let same_name = name.to_lower() == query.name.to_lower();
        if !same_name || word(at)? != query.kind || word(at + 2)? != query.class {
            return Err(Error::new("the DNS answer is to another question"));
        }
        let (n_answers, n_authority) = (word(6)?, word(8)?);
        let n_records = usize::from(n_answers) + usize::from(n_authority) + usize::from(word(10)?);
        if n_records > RECORDS_MAX || bytes.len() > MESSAGE_MAX_BYTES {
            return Err(Error::new(format!("the DNS answer has {n_records} records")));
        }
        let (mut ttl_offsets, mut ttl_secs, mut soa_secs) = (Vec::new(), u32::MAX, None);
        let mut at = at + 4;
        for idx in 0..n_records {
            let record = RecordView::parse(bytes, at).ok_or_else(broken)?;
            at = record.end;
            if record.kind == kind::OPT {
                continue;
            }
            ttl_offsets.push(u16::try_from(record.ttl_at).map_err(|_| broken())?);
            ttl_secs = ttl_secs.min(record.ttl);
            if record.kind == kind::SOA && idx >= usize::from(n_answers) {
                let minimum = record.data.len().checked_sub(4);
                let minimum = minimum.and_then(|at| read_u32(record.data, at)).unwrap_or(0);
                soa_secs = Some(minimum.min(record.ttl));
            }
        }
        let code = flags & 0xf;
        let is_negative = code == code::NAME_ERROR || (code == code::NO_ERROR && n_answers == 0);
        Ok(Foreign {
            bytes: bytes.into(),
            ttl_offsets: ttl_offsets.into(),
            code,
            truncated: flags & FLAG_TRUNCATED != 0,
            ttl_secs: match is_negative {
                true => soa_secs.unwrap_or(0),
                false if ttl_secs == u32::MAX => 0,
                false => ttl_secs,
            },
            is_negative,
        })
    }

    /// Bytes it takes in a cache.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.ttl_offsets.len() * 2 + size_of::<Foreign>()
    }

    /// The answer for `query`, `age_secs` after it was got, with times to live of at most `ttl_max_secs`.
    /// Over UDP (`limit_bytes`), what is too large becomes a truncated answer without records.
    pub fn answer(
        &self,
        query: &Query,
        age_secs: u32,
        ttl_max_secs: u32,
        limit_bytes: usize,
    ) -> Vec<u8> {
        if self.bytes.len() > limit_bytes {
            let mut answer = Answer::new(query, self.code, false, limit_bytes);
            answer.truncated = true;
            return answer.finish();
        }
        let mut bytes = self.bytes.to_vec();
        bytes[..2].copy_from_slice(&query.id.to_be_bytes());
        // We answer with recursion, and without authority.
        let [high, low] = FLAG_AUTHORITATIVE.to_be_bytes();
        bytes[2] &= !high;
        bytes[3] = (bytes[3] & !low) | FLAG_RECURSION_AVAILABLE.to_be_bytes()[1];
        for at in &self.ttl_offsets {
            let at = usize::from(*at);
            let ttl = read_u32(&bytes, at).unwrap_or(0).saturating_sub(age_secs).min(ttl_max_secs);
            bytes[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        // The client's own spelling of the name.
        let name = &query.name.0;
        if let Some(place) = bytes.get_mut(HEADER_LEN..HEADER_LEN + name.len()) {
            place.copy_from_slice(name);
        }
        bytes
    }

    /// The addresses (and aliases on the way) in the answer section, to be appended to an answer of ours.
    pub fn addresses(&self) -> Vec<(Name, u32, Data)> {
        let mut records = Vec::new();
        let Some((_, at)) = Name::parse(&self.bytes, HEADER_LEN) else { return records };
        let mut at = at + 4;
        for _ in 0..read_u16(&self.bytes, 6).unwrap_or(0) {
            let Some((name, _)) = Name::parse(&self.bytes, at) else { break };
            let Some(record) = RecordView::parse(&self.bytes, at) else { break };
            at = record.end;
            let data = match (record.kind, record.data.len()) {
                (kind::A, 4) => {
                    <[u8; 4]>::try_from(record.data).ok().map(|o| Data::Address(o.into()))
                }
                (kind::AAAA, 16) => {
                    <[u8; 16]>::try_from(record.data).ok().map(|o| Data::Address(o.into()))
                }
                (kind::CNAME, len) => {
                    Name::parse(&self.bytes, record.end - len).map(|(name, _)| Data::Cname(name))
                }
                _ => None,
            };
            records.extend(data.map(|data| (name, record.ttl, data)));
        }
        records
    }
}

/// One record in place.
struct RecordView<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    ttl_at: usize,
    data: &'a [u8],
    end: usize,
}

impl RecordView<'_> {
    fn parse(message: &[u8], at: usize) -> Option<RecordView<'_>> {
        let (_, at) = Name::parse(message, at)?;
        let len = usize::from(read_u16(message, at + 8)?);
        let end = at + 10 + len;
        Some(RecordView {
            kind: read_u16(message, at)?,
            class: read_u16(message, at + 2)?,
            ttl: read_u32(message, at + 4)?,
            ttl_at: at + 4,
            data: message.get(at + 10..end)?,
            end,
        })
    }
}

fn push_opt(buf: &mut Vec<u8>, udp_bytes: u16, dnssec_ok: bool) {
    buf.push(0);
    buf.extend_from_slice(&kind::OPT.to_be_bytes());
    buf.extend_from_slice(&udp_bytes.to_be_bytes());
    buf.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
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
        let read = Query::parse(&sent.to_bytes(7)).unwrap();
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
        assert_eq!((read.ttl_secs, read.addresses().len(), read.truncated), (5, 3, false));
        let aged = read.answer(&query, 2, 30, 512);
        assert_eq!(Foreign::parse(&aged, &query, 7).unwrap().ttl_secs, 3);
        assert!(Foreign::parse(&read.answer(&query, 0, 30, 64), &query, 7).unwrap().truncated);
        assert!(Foreign::parse(&small, &query, 8).is_err());
    }

    #[test]
    fn what_is_no_query_is_refused_or_ignored() {
        let good = query("a.b", kind::A).to_bytes(9);
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
                let _ = (foreign.answer(&asked, 1, 30, 512), foreign.addresses());
            }
            if bytes.len() > 2 {
                bytes[2] &= 0x7f;
            }
            if let Ok(query) = Query::parse(&bytes) {
                let text = query.name.to_lower_text();
                assert!(text.len() <= 255);
                let answer = Answer::new(&query, code::REFUSED, false, 512).finish();
                assert!(answer.len() <= 512);
                Query::parse(&query.to_bytes(1)).unwrap();
            }
        }
    }
}
