//! DER (X.690), read: elements one after another, as certificates and what asks for them are made of.
//!
//! Nothing here recurses: who reads knows what stands in what.

use stdx::time::{Wall, days_from_civil, days_in_month};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Bytes of an object identifier that are read; the longest in use have a dozen.
const IDENTIFIER_MAX: usize = 39;

/// Elements, one after another.
pub(crate) struct Elements<'a>(pub(crate) &'a [u8]);

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Elements<'a> {
    /// What stands in the one element that these bytes are.
    pub(crate) fn within(tag: u8, bytes: &'a [u8]) -> Option<Elements<'a>> {
        let mut outer = Elements(bytes);
        outer.take(tag).filter(|_| outer.0.is_empty()).map(Elements)
    }

    /// The next element; `None` at the end or where it is broken.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let whole = self.0;
        let (&tag, rest) = whole.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                // A length has one form only: the shortest.
                let is_shortest = bytes.first() != Some(&0) && length > 0x7f;
                (is_shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        // Tags of several bytes are in nothing that is read here.
        let whole = whole.get(..whole.len() - rest.len())?;
        (tag & 0x1f != 0x1f).then_some(Element { tag, content, whole })
    }

    /// The next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|found| found.tag == tag)
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|found| found.content)
    }

    /// The content of the next element if it has this tag. What else comes next stays.
    ///
    /// # Errors
    /// `None` if that element is broken.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Some(None) }
    }

    /// The end must be here.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Whether a content is an integer's.
pub(crate) fn is_integer(content: &[u8]) -> bool {
    match content {
        [] => false,
        [0, second, ..] => second & 0x80 != 0,
        [0xff, second, ..] => second & 0x80 == 0,
        _ => true,
    }
}

/// A truth value.
pub(crate) fn boolean(content: &[u8]) -> Option<bool> {
    match content {
        [0] => Some(false),
        [0xff] => Some(true),
        _ => None,
    }
}

/// The bytes of a bit string, and how many bits of the last one are none.
pub(crate) fn bits(content: &[u8]) -> Option<(&[u8], u8)> {
    let (&unused, bytes) = content.split_first()?;
    let last = *bytes.last().unwrap_or(&0);
    let is_good = unused < 8 && last & ((1_u8 << unused) - 1) == 0;
    (is_good && (unused == 0 || !bytes.is_empty())).then_some((bytes, unused))
}

/// The arcs of an object identifier.
pub(crate) fn arcs(content: &[u8]) -> Option<Vec<u64>> {
    if content.is_empty() || content.len() > IDENTIFIER_MAX {
        return None;
    }
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    let mut is_within = false;
    for byte in content {
        // An arc has one form only, and none in use passes 32 bits.
        if !is_within && *byte == 0x80 {
            return None;
        }
        arc = arc << 7 | u64::from(byte & 0x7f);
        if arc > u64::from(u32::MAX) {
            return None;
        }
        is_within = byte & 0x80 != 0;
        if !is_within {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    (!is_within).then_some(arcs)
}

/// An object identifier as it is written: `1.2.840.10045.4.3.2`.
pub(crate) fn dotted(content: &[u8]) -> Option<String> {
    let mut text = String::new();
    for arc in arcs(content)? {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&arc.to_string());
    }
    Some(text)
}

/// A moment: UTCTime or GeneralizedTime as RFC 5280 has them, from 1970 on.
pub(crate) fn time(element: Element<'_>) -> Option<Wall> {
    let (year, rest) = match (element.tag, element.content.len()) {
        (UTC_TIME, 13) => {
            let (year, rest) = element.content.split_at(2);
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 15) => {
            let (year, rest) = element.content.split_at(4);
            (number(year)?, rest)
        }
        _ => return None,
    };
    let (digits, zone) = rest.split_at(10);
    let mut fields = [0; 5];
    for (field, digits) in fields.iter_mut().zip(digits.chunks(2)) {
        *field = number(digits)?;
    }
    let [month, day, hour, minute, second] = fields;
    let is_good = zone == b"Z"
        && year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days = is_good.then(|| days_from_civil(year, month, day))?;
    Some(Wall::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_form() {
        for broken in [&[4][..], &[4, 1], &[4, 0x80, 0, 0], &[4, 0x81, 1, 0], &[4, 0x82, 0, 200]] {
            assert!(Elements(broken).next().is_none(), "{broken:?}");
        }
        let long = [&[4, 0x81, 200][..], &[7; 200]].concat();
        let mut elements = Elements(&long);
        let element = elements.element(OCTET_STRING).unwrap();
        assert_eq!((element.content.len(), element.whole), (200, &*long));
        assert!(elements.end().is_some());
        assert!(Elements(&[0x1f, 0x20, 0]).next().is_none());
    }

    #[test]
    fn small_contents() {
        let numbers = [(&[][..], false), (&[0], true), (&[0, 1], false), (&[0, 0x80], true)];
        assert!(numbers.iter().all(|(content, good)| is_integer(content) == *good));
        assert!(!is_integer(&[0xff, 0x80]) && is_integer(&[0xff, 0x7f]));
        assert_eq!(
            [&[0][..], &[0xff], &[1], &[]].map(boolean),
            [Some(false), Some(true), None, None]
        );
        assert_eq!(bits(&[2, 0x84]), Some((&[0x84][..], 2)));
        assert!([&[][..], &[1], &[8, 0], &[3, 0x84]].iter().all(|content| bits(content).is_none()));
        assert_eq!(bits(&[0]), Some((&[][..], 0)));
    }

    #[test]
    fn identifiers() {
        let written = |content: &[u8]| dotted(content).unwrap_or_default();
        assert_eq!(written(&[0x55, 0x1d, 0x25]), "2.5.29.37");
        assert_eq!(written(&[0x2a, 0x86, 0x48, 0xce, 0x3d]), "1.2.840.10045");
        assert_eq!(written(&[0x88, 0x37, 3]), "2.999.3");
        assert_eq!(written(&[9, 0x8f, 0xff, 0xff, 0xff, 0x7f]), "0.9.4294967295");
        let broken =
            [&[][..], &[0x80, 1], &[0x2a, 0x80, 1], &[0x2a, 0x86], &[9, 0x90, 0x80, 0x80, 0x80, 0]];
        assert!(broken.iter().all(|content| arcs(content).is_none()));
        assert!(arcs(&[1; 39]).is_some() && arcs(&[1; 40]).is_none());
    }

    #[test]
    fn moments() {
        let read = |tag, text: &str| time(Element { tag, content: text.as_bytes(), whole: &[] });
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(Wall::from_secs(0)));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Some(Wall::from_secs(2_524_607_999)));
        assert_eq!(
            read(GENERALIZED_TIME, "99991231235959Z"),
            Some(Wall::from_secs(253_402_300_799))
        );
        assert_eq!(read(GENERALIZED_TIME, "20240229120000Z"), Some(Wall::from_secs(1_709_208_000)));
        let broken = [
            "20230229120000Z",
            "20241301120000Z",
            "20240100120000Z",
            "20240101240000Z",
            "20240101126000Z",
        ];
        assert!(broken.iter().all(|text| read(GENERALIZED_TIME, text).is_none()));
        assert_eq!(read(GENERALIZED_TIME, "2024010112000+Z"), None);
        assert_eq!(read(GENERALIZED_TIME, "20240101120000+"), None);
        assert_eq!(read(UTC_TIME, "500101000000Z"), None);
        assert_eq!(read(UTC_TIME, "20240101120000Z"), None);
    }
}
