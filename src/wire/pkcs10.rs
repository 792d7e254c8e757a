//! Certificate signing requests (PKCS #10, RFC 2986), and whether a certificate is one by its shape.

use std::net::IpAddr;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// What else the subject says: the last byte of the attribute's identifier (2.5.4.N), and the text.
    pub attributes: Vec<(u8, String)>,
    /// SubjectPublicKeyInfo in DER.
    pub key: Vec<u8>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    pub signed: Signed,
}

/// What the request's own key has signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signed {
    pub content: Vec<u8>,
    /// The object identifier's content.
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    /// The key's algorithm and, of elliptic curves, the curve: the identifiers' contents.
    pub key_algorithm: Vec<u8>,
    pub curve: Vec<u8>,
    /// The key itself.
    pub key: Vec<u8>,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ATTRIBUTES: u8 = 0xa0;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// Elements of DER, one after another.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The next element: its tag, its content, and all of it; `None` at the end or where it is broken.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let whole = self.0;
        let (tag, rest) = whole.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            n @ 0..=0x7f => (usize::from(*n), rest),
            n @ 0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(n & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content, whole.get(..whole.len() - rest.len())?))
    }

    /// The content of the next element, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, ..)| *found == tag).map(|(_, content, _)| content)
    }
}

/// Reads a request in DER; `None` if it is none.
pub fn read(der: &[u8]) -> Option<Request> {
    let mut outer = Elements(der);
    let mut parts = Elements(outer.take(SEQUENCE)?);
    if !outer.0.is_empty() {
        return None;
    }
    let (_, info, content) = parts.next().filter(|(tag, ..)| *tag == SEQUENCE)?;
    let algorithm = Elements(parts.take(SEQUENCE)?).take(OBJECT_IDENTIFIER)?;
    let signature = bits(parts.take(BIT_STRING)?)?;
    let mut request = Request::default();
    let mut info = Elements(info);
    info.take(INTEGER)?;
    subject(info.take(SEQUENCE)?, &mut request)?;
    let (_, key, whole) = info.next().filter(|(tag, ..)| *tag == SEQUENCE)?;
    let mut key = Elements(key);
    let mut identifiers = Elements(key.take(SEQUENCE)?);
    let key_algorithm = identifiers.take(OBJECT_IDENTIFIER)?;
    let curve = identifiers.take(OBJECT_IDENTIFIER).unwrap_or_default();
    request.key = whole.to_vec();
    request.signed = Signed {
        content: content.to_vec(),
        algorithm: algorithm.to_vec(),
        signature: signature.to_vec(),
        key_algorithm: key_algorithm.to_vec(),
        curve: curve.to_vec(),
        key: bits(key.take(BIT_STRING)?)?.to_vec(),
    };
    if let Some(attributes) = info.take(ATTRIBUTES) {
        let mut attributes = Elements(attributes);
        while !attributes.0.is_empty() {
            attribute(attributes.take(SEQUENCE)?, &mut request)?;
        }
    }
    Some(request)
}

/// Whether this has the shape of a certificate.
pub fn is_certificate(der: &[u8]) -> bool {
    let mut outer = Elements(der);
    let Some(parts) = outer.take(SEQUENCE) else { return false };
    let mut parts = Elements(parts);
    outer.0.is_empty()
        && parts.take(SEQUENCE).is_some_and(|content| content.len() > 2)
        && parts.take(SEQUENCE).is_some()
        && parts.take(BIT_STRING).is_some()
}

/// A bit string of whole bytes.
fn bits(content: &[u8]) -> Option<&[u8]> {
    content.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}

fn subject(content: &[u8], request: &mut Request) -> Option<()> {
    let mut sets = Elements(content);
    while !sets.0.is_empty() {
        let mut pairs = Elements(sets.take(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Elements(pairs.take(SEQUENCE)?);
            let kind = pair.take(OBJECT_IDENTIFIER)?;
            let (_, value, _) = pair.next()?;
            let value = String::from_utf8(value.to_vec()).ok()?;
            match kind {
                // Of several the last counts, as in Go.
                COMMON_NAME => request.common_name = value,
                ORGANIZATION => request.organizations.push(value),
                [0x55, 0x04, attribute] => request.attributes.push((*attribute, value)),
                _ => {}
            }
        }
    }
    Some(())
}

fn attribute(content: &[u8], request: &mut Request) -> Option<()> {
    let mut parts = Elements(content);
    if parts.take(OBJECT_IDENTIFIER)? != EXTENSION_REQUEST {
        return Some(());
    }
    let mut extensions = Elements(Elements(parts.take(SET)?).take(SEQUENCE)?);
    while !extensions.0.is_empty() {
        let mut extension = Elements(extensions.take(SEQUENCE)?);
        let kind = extension.take(OBJECT_IDENTIFIER)?;
        if kind != ALTERNATIVE_NAMES {
            continue;
        }
        let mut value = extension.next()?;
        if value.0 != OCTET_STRING {
            // Whether it is critical stands before it.
            value = extension.next()?;
        }
        names(Elements(value.1).take(SEQUENCE)?, request)?;
    }
    Some(())
}

fn names(content: &[u8], request: &mut Request) -> Option<()> {
    let mut names = Elements(content);
    while !names.0.is_empty() {
        let (tag, name, _) = names.next()?;
        let text =
            || std::str::from_utf8(name).ok().filter(|text| text.is_ascii()).map(str::to_owned);
        match tag {
            0x81 => request.emails.push(text()?),
            0x82 => request.dns_names.push(text()?),
            0x86 => request.uris.push(text()?),
            0x87 => request.addresses.push(match name.len() {
                4 => <[u8; 4]>::try_from(name).ok()?.into(),
                16 => <[u8; 16]>::try_from(name).ok()?.into(),
                _ => return None,
            }),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null
    /// -subj "/O=system:nodes/CN=system:node:a"
    /// -addext subjectAltName=DNS:a.example,IP:10.0.0.1,email:x@y,URI:spiffe://z`
    const REQUEST: &str = "MIIBKDCBzwIBADAvMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxFjAUBgNVBAMMDXN5c3RlbTpub2RlOmEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASmjVpjD/iOEcub93Bk2az8IA0xoa9TRApnJOd6svq87TWSUUS0dzp32uekXc1xXz2vPjEnE0jG8qh1VorzmHfCoD4wPAYJKoZIhvcNAQkOMS8wLTArBgNVHREEJDAigglhLmV4YW1wbGWHBAoAAAGBA3hAeYYKc3BpZmZlOi8vejAKBggqhkjOPQQDAgNIADBFAiBqB2v4Gfsrr4f3A/UCKfs2N6RyNK0GWk4ulau8hPf1QgIhAMSjX8k1DKb8+aF6qq2uS5HGX6n42yiXYNiE1K8elmtW";

    #[test]
    fn requests_are_read() {
        let der = crate::base64::decode(REQUEST).unwrap();
        let request = read(&der).unwrap();
        assert_eq!(request.common_name, "system:node:a");
        assert_eq!(request.organizations, ["system:nodes"]);
        assert_eq!(request.dns_names, ["a.example"]);
        assert_eq!(request.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!((request.emails, request.uris), (vec!["x@y".into()], vec!["spiffe://z".into()]));
        assert_eq!(request.signed.key.len(), 65);
        assert!(!is_certificate(b"") && !is_certificate(&[0x30, 0]));
        for cut in 0..der.len() {
            assert_eq!(read(&der[..cut]), None, "{cut}");
        }
        for at in 0..der.len() {
            let mut broken = der.clone();
            broken[at] ^= 0xff;
            // Whatever it says, it says it.
            let _ = (read(&broken), is_certificate(&broken));
        }
    }
}
