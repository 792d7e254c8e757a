//! Certificate signing requests (PKCS #10, RFC 2986), and whether a certificate is one by its shape.

use std::net::IpAddr;

use crate::der::{
    self, BIT_STRING, Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET,
};

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

const ATTRIBUTES: u8 = 0xa0;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// Reads a request in DER; `None` if it is none.
pub fn read(der: &[u8]) -> Option<Request> {
    let mut parts = Elements::within(SEQUENCE, der)?;
    let signed = parts.element(SEQUENCE)?;
    let algorithm = Elements(parts.take(SEQUENCE)?).take(OBJECT_IDENTIFIER)?;
    let signature = bits(parts.take(BIT_STRING)?)?;
    let mut request = Request::default();
    let mut info = Elements(signed.content);
    info.take(INTEGER)?;
    subject(info.take(SEQUENCE)?, &mut request)?;
    let key_info = info.element(SEQUENCE)?;
    let mut key = Elements(key_info.content);
    let mut identifiers = Elements(key.take(SEQUENCE)?);
    let key_algorithm = identifiers.take(OBJECT_IDENTIFIER)?;
    let curve = identifiers.take(OBJECT_IDENTIFIER).unwrap_or_default();
    request.key = key_info.whole.to_vec();
    request.signed = Signed {
        content: signed.whole.to_vec(),
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
    let Some(mut parts) = Elements::within(SEQUENCE, der) else { return false };
    parts.take(SEQUENCE).is_some_and(|content| content.len() > 2)
        && parts.take(SEQUENCE).is_some()
        && parts.take(BIT_STRING).is_some()
}

/// A bit string of whole bytes.
fn bits(content: &[u8]) -> Option<&[u8]> {
    der::bits(content).filter(|(_, unused)| *unused == 0).map(|(bytes, _)| bytes)
}

fn subject(content: &[u8], request: &mut Request) -> Option<()> {
    let mut sets = Elements(content);
    while !sets.0.is_empty() {
        let mut pairs = Elements(sets.take(SET)?);
        while !pairs.0.is_empty() {
            let mut pair = Elements(pairs.take(SEQUENCE)?);
            let kind = pair.take(OBJECT_IDENTIFIER)?;
            let value = pair.next()?.content;
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
        if value.tag != OCTET_STRING {
            // Whether it is critical stands before it.
            value = extension.next()?;
        }
        names(Elements(value.content).take(SEQUENCE)?, request)?;
    }
    Some(())
}

fn names(content: &[u8], request: &mut Request) -> Option<()> {
    let mut names = Elements(content);
    while !names.0.is_empty() {
        let Element { tag, content: name, .. } = names.next()?;
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
