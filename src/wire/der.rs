//! DER (X.690), as far as keys and certificates need it: elements with tags of one byte.

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT_IDENTIFIER: u8 = 0x06;
pub const UTF8_STRING: u8 = 0x0c;
pub const PRINTABLE_STRING: u8 = 0x13;
pub const UTC_TIME: u8 = 0x17;
pub const GENERALIZED_TIME: u8 = 0x18;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The tag `[number]`, of an element that is no sequence.
pub const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag `[number]`, of an element that holds others.
pub const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    /// With tag and length.
    pub whole: &'a [u8],
}

/// Reads elements that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The next element's tag.
    pub fn tag(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element; `None` at the end, and for what is not DER.
    pub fn any(&mut self) -> Option<Element<'a>> {
        let bytes = self.0;
        let (&[tag, first], rest) = bytes.split_first_chunk()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit));
                // Shorter forms come first.
                if digits[0] == 0 || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content, whole: &bytes[..bytes.len() - rest.len()] })
    }

    /// The next element, if it has this tag; otherwise nothing is read.
    pub fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.tag() == Some(tag) { self.any() } else { None }
    }

    /// The elements inside the next one, if it has this tag.
    pub fn inside(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(|element| Reader(element.content))
    }
}

/// Writes one element whose content is `parts`, one after the other.
pub fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend_from_slice(&[0x81, length as u8]),
        0x100..=0xffff => out.extend_from_slice(&[0x82, (length >> 8) as u8, length as u8]),
        _ => {
            let [.., high, middle, low] = length.to_be_bytes();
            out.extend_from_slice(&[0x83, high, middle, low]);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let mut bytes = write(OCTET_STRING, &[&content[..length / 2], &content[length / 2..]]);
            let whole = bytes.clone();
            bytes.push(BOOLEAN);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.take(INTEGER), None);
            let element = reader.take(OCTET_STRING).unwrap();
            assert_eq!((element.content, element.whole), (&content[..], &whole[..]));
            assert_eq!((reader.tag(), reader.any()), (Some(BOOLEAN), None));
        }
    }

    #[test]
    fn only_der_is_read() {
        for bytes in [
            &b""[..],
            b"\x04",
            b"\x04\x02a",
            // Lengths that have a shorter form, or none.
            b"\x04\x81\x01a",
            b"\x04\x82\x00\x80",
            b"\x04\x80a\x00\x00",
            b"\x04\x84\x00\x00\x00\x01a",
            b"\x04\x81",
            // A tag of several bytes.
            b"\x1f\x81\x01\x00",
        ] {
            assert_eq!(Reader::new(bytes).any(), None, "{bytes:?}");
        }
    }
}
