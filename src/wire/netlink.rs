//! Netlink: messages and attributes (type, length, value), built and read without I/O.
//!
//! Numbers are in host byte order unless a name says `be`. Reading never panics: a length that
//! lies ends the iteration with an error item.

use std::net::IpAddr;

use stdx::{Error, Result};

pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;

const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Builds a buffer of one or more messages.
#[derive(Debug, Default)]
pub struct Writer {
    buf: Vec<u8>,
    /// An attribute grew past what its 16-bit length can say.
    too_long: bool,
}

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Appends a message whose payload `body` writes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Writer),
    ) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(&flags.to_ne_bytes());
        self.buf.extend_from_slice(&sequence.to_ne_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        body(self);
        match u32::try_from(self.buf.len() - start) {
            Ok(len) => self.buf[start..start + 4].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
    }

    /// Raw payload bytes, padded to four.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        self.pad();
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |w| w.buf.extend_from_slice(value));
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with the zero at its end that the kernel expects.
    pub fn str(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |w| {
            w.buf.extend_from_slice(value.as_bytes());
            w.buf.push(0);
        });
    }

    pub fn address(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        self.attribute(kind | NLA_F_NESTED, body);
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The messages.
    ///
    /// # Errors
    /// If an attribute was longer than 65,535 bytes.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self.too_long {
            true => Err(Error::new("build a netlink message: attribute longer than 65535 bytes")),
            false => Ok(self.buf),
        }
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Writer)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0, 0]);
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        match u16::try_from(self.buf.len() - start) {
            Ok(len) => self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.buf.resize(self.buf.len().next_multiple_of(4), 0);
    }
}

/// One message read from a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// The netlink port that caused it; 0 is the kernel.
    pub port: u32,
    pub payload: &'a [u8],
}

/// The messages in `buf`, in order. A broken length yields one error and ends.
pub fn messages(buf: &[u8]) -> impl Iterator<Item = Result<Message<'_>>> {
    let mut rest = buf;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = read_u32(rest, 0).unwrap_or(0) as usize;
        if len < HEADER_LEN || len > rest.len() {
            let error = format!("read a netlink message: length {len} of {} bytes", rest.len());
            rest = &[];
            return Some(Err(Error::new(error)));
        }
        let message = Message {
            kind: read_u16(rest, 4).unwrap_or(0),
            flags: read_u16(rest, 6).unwrap_or(0),
            sequence: read_u32(rest, 8).unwrap_or(0),
            port: read_u32(rest, 12).unwrap_or(0),
            payload: &rest[HEADER_LEN..len],
        };
        rest = &rest[len.next_multiple_of(4).min(rest.len())..];
        Some(Ok(message))
    })
}

impl<'a> Message<'a> {
    /// For `NLMSG_ERROR` (and `NLMSG_DONE`): the errno, 0 for success.
    pub fn errno(&self) -> i32 {
        read_u32(self.payload, 0).map_or(0, |code| code.cast_signed().wrapping_neg())
    }

    /// What the kernel says beside the errno, if anything.
    pub fn extended_text(&self) -> Option<&'a str> {
        const NLM_F_CAPPED: u16 = 0x100;
        const NLM_F_ACK_TLVS: u16 = 0x200;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        if self.kind != NLMSG_ERROR || self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let inner = read_u32(self.payload, 4)? as usize;
        let skip = match self.flags & NLM_F_CAPPED {
            0 => inner.checked_add(4)?.checked_next_multiple_of(4)?,
            _ => 4 + HEADER_LEN,
        };
        attributes(self.payload.get(skip..)?)
            .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
            .and_then(|attribute| attribute.str())
    }

    /// The payload after a fixed header of `len` bytes, as attributes.
    pub fn attributes(&self, len: usize) -> impl Iterator<Item = Attribute<'a>> {
        attributes(self.payload.get(len..).unwrap_or(&[]))
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Without the flag bits.
    pub kind: u16,
    pub value: &'a [u8],
}

/// The attributes in `buf`; ends at the first broken length.
pub fn attributes(buf: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = buf;
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(rest, 0)?);
        let kind = read_u16(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER_LEN..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Attribute { kind, value })
    })
}

impl<'a> Attribute<'a> {
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    pub fn u16(&self) -> Option<u16> {
        read_u16(self.value, 0)
    }

    pub fn u32(&self) -> Option<u32> {
        read_u32(self.value, 0)
    }

    pub(crate) fn be16(&self) -> Option<u16> {
        self.u16().map(u16::from_be)
    }

    pub(crate) fn be32(&self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }

    #[cfg(test)]
    pub(crate) fn be64(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.get(..8)?.try_into().ok()?))
    }

    /// A string, without the zero at its end.
    pub fn str(&self) -> Option<&'a str> {
        let bytes = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(bytes).ok()
    }

    pub fn address(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => Some(<[u8; 4]>::try_from(self.value).ok()?.into()),
            16 => Some(<[u8; 16]>::try_from(self.value).ok()?.into()),
            _ => None,
        }
    }

    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }
}

pub(crate) fn read_u16(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(buf.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn read_u32(buf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(buf.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    #[test]
    fn what_is_written_is_read_back() {
        let mut w = Writer::new();
        w.message(16, NLM_F_REQUEST | NLM_F_ACK, 7, |w| {
            w.raw(&[1, 2, 3]);
            w.str(3, "eth0");
            w.nest(18, |w| {
                w.u32(1, 5);
                w.be16(2, 80);
                w.address(4, "10.42.0.1".parse().unwrap());
            });
        });
        w.message(17, 0, 8, |_| {});
        let buf = w.finish().unwrap();
        let all: Vec<Message<'_>> = messages(&buf).collect::<Result<_>>().unwrap();
        assert_eq!((all[0].kind, all[0].sequence, all[1].kind), (16, 7, 17));
        let attrs: Vec<Attribute<'_>> = all[0].attributes(4).collect();
        assert_eq!(attrs[0].str(), Some("eth0"));
        let inner: Vec<Attribute<'_>> = attrs[1].nested().collect();
        assert_eq!(inner[0].u32(), Some(5));
        assert_eq!(inner[1].be16(), Some(80));
        assert_eq!(inner[2].address(), "10.42.0.1".parse().ok());
    }

    #[test]
    fn an_attribute_that_is_too_long_is_refused() {
        let mut w = Writer::new();
        w.message(1, 0, 0, |w| w.nest(1, |w| w.bytes(2, &vec![0; 70_000])));
        assert!(w.finish().is_err());
    }

    #[test]
    fn arbitrary_bytes_end_without_panic() {
        let mut prng = Prng::new(1);
        let mut w = Writer::new();
        w.message(2, 0x300, 1, |w| {
            w.raw(&(-2i32).to_ne_bytes());
            w.raw(&[0; 16]);
            w.str(1, "no such thing");
        });
        let good = w.finish().unwrap();
        for round in 0..20_000u64 {
            let mut buf = good.clone();
            if round % 2 == 0 {
                let idx = prng.below(buf.len() as u64) as usize;
                buf[idx] = prng.next_u64() as u8;
            } else {
                buf.resize(prng.below(80) as usize, 0);
                prng.fill(&mut buf);
            }
            for message in messages(&buf).flatten() {
                let _ = (message.errno(), message.extended_text());
                for attribute in message.attributes(prng.below(9) as usize) {
                    let _ = (attribute.str(), attribute.be64(), attribute.nested().count());
                }
            }
        }
        let message = messages(&good).next().unwrap().unwrap();
        assert_eq!((message.errno(), message.extended_text()), (2, Some("no such thing")));
    }
}
