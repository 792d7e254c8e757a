//! Protocol Buffers' wire format: varints, length-delimited fields, and a reader that borrows.
//!
//! Knows no messages; `api::codec` and the gRPC users bring their own tags.
//! Source: protobuf.dev, "Encoding". Never panics on any input; unknown fields are the caller's to skip.

use std::fmt;

/// One field's value as it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Why bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    Truncated,
    BadVarint,
    BadTag,
    /// The value has another wire type than the schema says.
    WrongType,
    NotUtf8,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Truncated => "unexpected end of protobuf data",
            Error::BadVarint => "protobuf integer overflow",
            Error::BadTag => "illegal protobuf tag",
            Error::WrongType => "wrong protobuf wire type",
            Error::NotUtf8 => "protobuf string is not UTF-8",
        })
    }
}

impl std::error::Error for Error {}

impl<'a> Wire<'a> {
    /// # Errors
    /// If the value is not length-delimited.
    pub fn bytes(self) -> Result<&'a [u8], Error> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::WrongType),
        }
    }

    /// # Errors
    /// If the value is not a UTF-8 string.
    pub fn str(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::NotUtf8)
    }

    /// # Errors
    /// If the value is not a varint.
    pub fn varint(self) -> Result<u64, Error> {
        match self {
            Wire::Varint(value) => Ok(value),
            _ => Err(Error::WrongType),
        }
    }

    /// A two's-complement `int64` (or `int32`, sign-extended).
    ///
    /// # Errors
    /// If the value is not a varint.
    pub fn int(self) -> Result<i64, Error> {
        self.varint().map(u64::cast_signed)
    }
}

/// Reads a message field by field.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// How many bytes are left; with the message's length, the offset of what comes next.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and value; `None` at the end.
    ///
    /// # Errors
    /// If the bytes are malformed. Groups (wire types 3 and 4) are refused: nothing we speak has them.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Error::BadTag)?;
        if number == 0 {
            return Err(Error::BadTag);
        }
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Wire::Bytes(self.take(len)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Error::BadTag),
        };
        Ok(Some((number, value)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (idx, byte) in self.rest.iter().copied().enumerate().take(10) {
            if idx == 9 && byte > 1 {
                return Err(Error::BadVarint);
            }
            value |= u64::from(byte & 0x7f) << (7 * idx);
            if byte < 0x80 {
                self.rest = &self.rest[idx + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() >= 10 { Error::BadVarint } else { Error::Truncated })
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Appends a bare varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that a varint takes.
pub fn varint_len(value: u64) -> usize {
    match value {
        0 => 1,
        value => (70 - value.leading_zeros() as usize) / 7,
    }
}

/// Appends a varint field, zero or not.
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends an `int32` or `int64` field, zero or not.
pub fn put_int(out: &mut Vec<u8>, number: u32, value: i64) {
    put_uint(out, number, value.cast_unsigned());
}

/// Appends a `double` field.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends the head of a length-delimited field; `len` bytes must follow.
pub fn put_len(out: &mut Vec<u8>, number: u32, len: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, len as u64);
}

/// Appends a string, bytes or embedded message field, empty or not.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_len(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends an embedded message whose content `body` writes; its length is filled in afterwards.
pub fn put_message<E>(
    out: &mut Vec<u8>,
    number: u32,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    out.push(0);
    body(out)?;
    let len = out.len() - at - 1;
    // One byte was kept free for the length; longer ones move the body.
    let mut head = Vec::with_capacity(10);
    put_varint(&mut head, len as u64);
    out.splice(at..=at, head);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    #[test]
    fn fields_round_trip() {
        let mut out = Vec::new();
        put_int(&mut out, 1, -1);
        put_bytes(&mut out, 2, b"abc");
        put_double(&mut out, 3, 1.5);
        let nested = put_message::<Error>(&mut out, 4, |out| {
            put_bytes(out, 1, &[7; 300]);
            Ok(())
        });
        assert_eq!(nested, Ok(()));
        let mut reader = Reader::new(&out);
        assert_eq!(reader.next(), Ok(Some((1, Wire::Varint(u64::MAX)))));
        assert_eq!(reader.next(), Ok(Some((2, Wire::Bytes(b"abc")))));
        assert_eq!(reader.next(), Ok(Some((3, Wire::Fixed64(1.5f64.to_bits())))));
        let (number, value) = reader.next().unwrap().unwrap();
        assert_eq!((number, value.bytes().unwrap().len()), (4, 303));
        assert_eq!(reader.next(), Ok(None));
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }

    #[test]
    fn malformed_input_is_an_error_not_a_panic() {
        for bad in [
            &b"\x08"[..],
            b"\x0a\x05ab",
            b"\x00\x00",
            b"\x0b",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            let mut reader = Reader::new(bad);
            assert!(reader.next().is_err(), "{bad:?}");
        }
        let mut prng = Prng::new(1);
        for _ in 0..20_000 {
            let mut bytes = vec![0; usize::try_from(prng.below(40)).unwrap_or(0)];
            prng.fill(&mut bytes);
            let mut reader = Reader::new(&bytes);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}
