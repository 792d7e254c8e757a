//! The few DER structures of keys: reading and writing nested tag-length-value.

/// Reads one element of a tag; answers its content and the rest.
pub(crate) fn read(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match rest.split_first()? {
        (n @ 0..=0x7f, rest) => (usize::from(*n), rest),
        (0x81, rest) => (usize::from(*rest.first()?), rest.get(1..)?),
        (0x82, rest) => {
            let n = usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?);
            (n, rest.get(2..)?)
        }
        _ => return None,
    };
    Some((rest.get(..length)?, rest.get(length..)?))
}

/// Writes one element.
pub(crate) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend_from_slice(&[0x81, length as u8]),
        // Keys are far below 64 KiB.
        _ => out.extend_from_slice(&[0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;

/// AlgorithmIdentifier of ECDSA keys on P-256 (RFC 5480).
pub(crate) const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// AlgorithmIdentifier of RSA keys (RFC 3279).
pub(crate) const RSA: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The sections of a PEM file: label and bytes.
pub(crate) fn pem(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    wire::pem::sections(text).into_iter().map(|section| (section.label, section.content)).collect()
}
