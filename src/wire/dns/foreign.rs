//! Answers of other servers: checked once, then given to clients record by record, like our own.

use std::net::IpAddr;

use stdx::{Error, Result};

use super::{
    Answer, CLASS_IN, FLAG_RESPONSE, FLAG_TRUNCATED, HEADER_LEN, Head, MESSAGE_MAX_BYTES, Name,
    Query, RECORDS_MAX, Section, code, kind, read_u16, read_u32,
};

const FLAG_AUTHENTIC_DATA: u16 = 0x0020;

/// An answer from another server, checked, and ready to be given again with less time to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    bytes: Box<[u8]>,
    /// Where the records begin; each was read once, and its names are whole.
    records_at: usize,
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
        let same_name = name.is(&query.name);
        if !same_name || word(at)? != query.kind || word(at + 2)? != query.class {
            return Err(Error::new("the DNS answer is to another question"));
        }
        let (n_answers, n_authority) = (word(6)?, word(8)?);
        let n_records = usize::from(n_answers) + usize::from(n_authority) + usize::from(word(10)?);
        if n_records > RECORDS_MAX || bytes.len() > MESSAGE_MAX_BYTES {
            return Err(Error::new(format!("the DNS answer has {n_records} records")));
        }
        let (mut ttl_secs, mut soa_secs) = (u32::MAX, None);
        let mut code = flags & 0xf;
        let records_at = at + 4;
        let mut at = records_at;
        for idx in 0..n_records {
            let record = RecordView::parse(bytes, at).ok_or_else(broken)?;
            at = record.end;
            if record.kind == kind::OPT {
                code |= u16::try_from(record.ttl >> 24).unwrap_or(0) << 4;
                continue;
            }
            record.pieces(bytes).ok_or_else(broken)?;
            ttl_secs = ttl_secs.min(record.ttl);
            if record.kind == kind::SOA && idx >= usize::from(n_answers) {
                let minimum = record.data.len().checked_sub(4);
                let minimum = minimum.and_then(|at| read_u32(record.data, at)).unwrap_or(0);
                soa_secs = Some(minimum.min(record.ttl));
            }
        }
        let is_negative = code == code::NAME_ERROR || (code == code::NO_ERROR && n_answers == 0);
        Ok(Foreign {
            bytes: bytes.into(),
            records_at,
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

    /// The code of an answer to `id` that has nothing but a header, as servers that cannot read a query give.
    pub fn bare_refusal(bytes: &[u8], id: u16) -> Option<u16> {
        let (flags, code) = (read_u16(bytes, 2)?, read_u16(bytes, 2)? & 0xf);
        let refuses = matches!(code, code::FORMAT_ERROR | code::NOT_IMPLEMENTED);
        let ours = read_u16(bytes, 0)? == id && flags & FLAG_RESPONSE != 0;
        (ours && refuses && read_u16(bytes, 4)? == 0).then_some(code)
    }

    /// Bytes it takes in a cache.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Foreign>()
    }

    /// The addresses in its answer, in their order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let (mut at, mut found) = (self.records_at, Vec::new());
        for _ in 0..read_u16(&self.bytes, 6).unwrap_or(0) {
            let Some(record) = RecordView::parse(&self.bytes, at) else { break };
            at = record.end;
            let v4 = || <[u8; 4]>::try_from(record.data).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(record.data).map(IpAddr::from);
            found.extend(match (record.class, record.kind) {
                (CLASS_IN, kind::A) => v4().ok(),
                (CLASS_IN, kind::AAAA) => v6().ok(),
                _ => None,
            });
        }
        found
    }

    /// The answer for `query`, `age_secs` after it was got, with times to live of at most `ttl_max_secs`.
    /// What is larger than `limit_bytes` is cut between two records.
    pub fn answer(
        &self,
        query: &Query,
        age_secs: u32,
        ttl_max_secs: u32,
        limit_bytes: usize,
    ) -> Vec<u8> {
        // What needs EDNS' bits to be said was between the server and us.
        let code = if self.code > 0xf { code::SERVER_FAILURE } else { self.code };
        let mut answer = Answer::new(query, code, false, limit_bytes);
        if query.dnssec_ok {
            answer.buf[3] |= self.bytes[3] & FLAG_AUTHENTIC_DATA.to_be_bytes()[1];
        }
        for section in [Section::Answer, Section::Authority, Section::Additional] {
            self.copy(&mut answer, &query.name, section, age_secs, ttl_max_secs);
        }
        answer.truncated |= self.truncated;
        answer.finish()
    }

    /// Appends one section's records to an answer. `asked` is the question's name as the client spells it.
    pub fn copy(
        &self,
        answer: &mut Answer,
        asked: &Name,
        section: Section,
        age_secs: u32,
        ttl_max_secs: u32,
    ) {
        let mut at = self.records_at;
        for (place, count_at) in
            [(Section::Answer, 6), (Section::Authority, 8), (Section::Additional, 10)]
        {
            for _ in 0..read_u16(&self.bytes, count_at).unwrap_or(0) {
                let Some(record) = RecordView::parse(&self.bytes, at) else { return };
                let Some((name, _)) = Name::parse(&self.bytes, at) else { return };
                at = record.end;
                // EDNS is between two neighbours: ours with the client is another.
                if place != section || record.kind == kind::OPT {
                    continue;
                }
                let Some(pieces) = record.pieces(&self.bytes) else { return };
                let name = if name.is(asked) { asked } else { &name };
                let ttl = record.ttl.saturating_sub(age_secs).min(ttl_max_secs);
                let head = Head { name, kind: record.kind, class: record.class, ttl };
                answer.put(section, head, |answer| pieces.write(answer));
            }
            if place == section {
                return;
            }
        }
    }
}

impl Name {
    /// The same name; the case of letters does not matter. Lengths of labels are no letters.
    fn is(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

/// One record in place.
pub(super) struct RecordView<'a> {
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    data: &'a [u8],
    pub(super) end: usize,
}

impl RecordView<'_> {
    pub(super) fn parse(message: &[u8], at: usize) -> Option<RecordView<'_>> {
        let (_, at) = Name::parse(message, at)?;
        let len = usize::from(read_u16(message, at + 8)?);
        let end = at + 10 + len;
        Some(RecordView {
            kind: read_u16(message, at)?,
            class: read_u16(message, at + 2)?,
            ttl: read_u32(message, at + 4)?,
            data: message.get(at + 10..end)?,
            end,
        })
    }
}

/// A record's data without pointers into the message it came in.
struct Pieces<'a> {
    before: &'a [u8],
    names: Vec<Name>,
    after: &'a [u8],
    /// Its names may be compressed again (RFC 3597: those that the first specification knew).
    compresses: bool,
}

impl<'a> RecordView<'a> {
    /// Splits the data of the kinds whose names another server may have compressed; `None` if it is broken.
    fn pieces(&self, message: &[u8]) -> Option<Pieces<'a>> {
        const MD: u16 = 3;
        const MR: u16 = 9;
        const MINFO: u16 = 14;
        const RP: u16 = 17;
        const AFSDB: u16 = 18;
        const RT: u16 = 21;
        const PX: u16 = 26;
        const KX: u16 = 36;
        const DNAME: u16 = 39;
        let (n_before, n_names) = match self.kind {
            kind::NS | MD..=kind::CNAME | 7..=MR | kind::PTR => (0, 1),
            kind::SOA | MINFO | RP => (0, 2),
            kind::MX | AFSDB | RT | KX => (2, 1),
            PX => (2, 2),
            kind::SRV => (6, 1),
            DNAME => (0, 1),
            _ => (self.data.len(), 0),
        };
        let start = self.end - self.data.len();
        let (mut names, mut at) = (Vec::with_capacity(n_names), start + n_before);
        for _ in 0..n_names {
            let (name, end) = Name::parse(message, at)?;
            names.push(name);
            at = end;
        }
        Some(Pieces {
            before: self.data.get(..n_before)?,
            names,
            after: self.data.get(at - start..)?,
            compresses: matches!(
                self.kind,
                kind::NS | kind::CNAME | kind::SOA | kind::PTR | kind::MX
            ),
        })
    }
}

impl Pieces<'_> {
    fn write(&self, answer: &mut Answer) {
        answer.buf.extend_from_slice(self.before);
        for name in &self.names {
            match self.compresses {
                true => answer.name(name),
                false => answer.buf.extend_from_slice(&name.0),
            }
        }
        answer.buf.extend_from_slice(self.after);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Data;
    use super::*;

    fn query(name: &str, edns: Option<u16>) -> Query {
        let plain = Query::new(Name::from_text(name).unwrap(), kind::A);
        Query { id: 7, edns_udp_bytes: edns, ..plain }
    }

    /// What a server says: `n` addresses behind a chain of `aliases` names.
    fn said(n: u8, aliases: u8) -> Foreign {
        let asked = query("big.example.test", Some(1232));
        let mut answer = Answer::new(&asked, code::NO_ERROR, false, MESSAGE_MAX_BYTES);
        let mut name = asked.name.clone();
        for idx in 0..aliases {
            let next =
                Name::from_text(&format!("alias{idx}.some-rather-long-name.example.test")).unwrap();
            answer.record(Section::Answer, &name, 60, &Data::Cname(next.clone()));
            name = next;
        }
        for idx in 0..n {
            answer.record(Section::Answer, &name, 60, &Data::Address([10, 9, 0, idx].into()));
        }
        Foreign::parse(&answer.finish(), &asked, 7).unwrap()
    }

    fn counts(answer: &[u8]) -> (u16, u16, bool) {
        let word = |at| read_u16(answer, at).unwrap();
        (word(6), word(10), word(2) & FLAG_TRUNCATED != 0)
    }

    #[test]
    fn what_does_not_fit_is_cut_between_records_and_edns_is_the_clients() {
        for (n, aliases, edns, limit_bytes, answers, additional, truncated) in [
            // 12 bytes of header, 22 of question, 16 a record: without EDNS there is no OPT, and nothing is cut for it.
            (29, 0, None, 512, 29, 0, false),
            (30, 0, None, 512, 29, 0, true),
            (60, 0, None, 512, 29, 0, true),
            (60, 0, Some(1232), 1232, 60, 1, false),
            (100, 0, Some(1232), 1232, 74, 1, true),
            (60, 8, None, 512, 26, 0, true),
            (1, 8, None, 512, 9, 0, false),
            (255, 0, None, MESSAGE_MAX_BYTES, 255, 0, false),
        ] {
            let asked = query("BIG.example.test", edns);
            let answer = said(n, aliases).answer(&asked, 0, 30, limit_bytes);
            let what = format!("{n} addresses behind {aliases} aliases for {edns:?}");
            assert!(answer.len() <= limit_bytes, "{what}: {}", answer.len());
            assert_eq!(counts(&answer), (answers, additional, truncated), "{what}");
            // The client finds its own spelling.
            assert_eq!(answer[HEADER_LEN..][..asked.name.0.len()], *asked.name.0, "{what}");
            Foreign::parse(&answer, &asked, asked.id).unwrap();
        }
    }

    #[test]
    fn names_inside_data_lose_their_pointers() {
        // A question for x.y, and an SRV, a TXT, an MX and an unknown record; SRV and MX point at the question's name.
        let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1, 0, 4, 0, 0, 0, 0];
        bytes.extend(b"\x01x\x01y\0\0\x21\0\x01");
        let mut record = |kind: u8, data: &[u8]| {
            bytes.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            bytes.extend(data);
        };
        record(33, b"\0\x01\0\x02\0\x50\x01t\xc0\x0c");
        record(16, b"\x02hi");
        record(15, b"\0\x0a\xc0\x0e");
        record(99, b"\xc0\xc0\xc0");
        let asked = Query { kind: kind::SRV, ..query("x.y", None) };
        let foreign = Foreign::parse(&bytes, &asked, 7).unwrap();
        let answer = foreign.answer(&asked, 10, 30, 512);
        let text: Vec<u8> = answer;
        let has = |wanted: &[u8]| text.windows(wanted.len()).any(|part| part == wanted);
        assert!(has(b"\0\x01\0\x02\0\x50\x01t\x01x\x01y\0"), "SRV targets are whole");
        assert!(has(b"\0\x03\x02hi") && has(b"\0\x04\0\x0a\xc0\x0e") && has(b"\0\x03\xc0\xc0\xc0"));
        assert_eq!(counts(&text).0, 4);
        // A pointer that leads nowhere makes the whole answer broken.
        let at = bytes.len() - 3 - 12 - 2;
        bytes[at] = 0xff;
        assert!(Foreign::parse(&bytes, &asked, 7).is_err());
    }

    #[test]
    fn servers_that_cannot_read_a_query_say_so_in_a_header() {
        for (bytes, expected) in [
            (&b"\0\x07\x81\x81\0\0\0\0\0\0\0\0"[..], Some(code::FORMAT_ERROR)),
            (b"\0\x07\x81\x84\0\0\0\0\0\0\0\0", Some(code::NOT_IMPLEMENTED)),
            (b"\0\x08\x81\x81\0\0\0\0\0\0\0\0", None),
            (b"\0\x07\x01\x81\0\0\0\0\0\0\0\0", None),
            (b"\0\x07\x81\x83\0\0\0\0\0\0\0\0", None),
            (b"\0\x07\x81", None),
        ] {
            assert_eq!(Foreign::bare_refusal(bytes, 7), expected, "{bytes:?}");
        }
    }
}
