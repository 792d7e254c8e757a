//! X.509 certificates (RFC 5280), read: what the rooms that meet them ask.
//!
//! Whether a chain is good is for TLS to judge; this says what one certificate tells of itself.

use std::net::IpAddr;

use stdx::time::Wall;
use stdx::{Context, Result};

use crate::der::{
    self, BIT_STRING, BOOLEAN, Element, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING,
    SEQUENCE, SET,
};

/// Names of one certificate that are looked at: a handshake's size allows many more.
const NAMES_MAX: usize = 1024;

/// Bytes of a serial number: twenty (RFC 5280, 4.1.2.2), and the zero of a positive one.
const SERIAL_MAX: usize = 21;

// Tags of a certificate's parts.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
// Of the authority's key identifier.
const KEY_ID: u8 = 0x80;
const AUTHORITY_ISSUER: u8 = 0xa1;
const AUTHORITY_SERIAL: u8 = 0x82;
// Of names.
const CONTEXT: u8 = 0x80;
const DNS_NAME: u8 = 0x82;
const ADDRESS: u8 = 0x87;

// Extensions: the contents of their identifiers.
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 37];

/// The bit of a key's usage that lets it sign certificates.
const KEY_CERT_SIGN: u8 = 0x04;

/// One certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub subject: Subject,
    /// The subject and the issuer in DER, to be compared.
    pub subject_der: Vec<u8>,
    pub issuer_der: Vec<u8>,
    pub issuer_common_name: String,
    /// In hexadecimal digits, small letters.
    pub serial: String,
    pub not_before: Wall,
    pub not_after: Wall,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Which key this one is of, and which one signed it.
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    pub is_ca: bool,
    /// Whether its key may sign certificates.
    pub signs_certificates: bool,
    /// Object identifiers of what it is good for, as `1.3.6.1.5.5.7.3.1`.
    pub extended_usages: Vec<String>,
    /// SubjectPublicKeyInfo in DER.
    pub key_info: Vec<u8>,
    /// The key alone.
    pub key: Vec<u8>,
    pub signed: Signed,
}

/// What the issuer's key has signed.
#[derive(Clone, Debug)]
pub struct Signed {
    pub content: Vec<u8>,
    /// The algorithm's object identifier, as `1.2.840.10045.4.3.2`.
    pub algorithm: String,
    pub signature: Vec<u8>,
}

/// A distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Of several the last counts, as in Go.
    pub common_name: String,
    pub organizations: Vec<String>,
    /// All attributes, in their order.
    pub attributes: Vec<Attribute>,
}

/// A part of a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The arcs of its object identifier.
    pub oid: Vec<u64>,
    pub form: Form,
    pub text: String,
}

/// How a text is written. Others are taken for none: what is read as a name must not depend on who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Utf8,
    Printable,
    Ia5,
}

/// Reads a certificate in DER.
///
/// # Errors
/// If it is none.
pub fn read(der: &[u8]) -> Result<Certificate> {
    certificate(der).context(|| "parse a certificate")
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let mut outer = Elements::within(SEQUENCE, der)?;
    let signed = outer.element(SEQUENCE)?;
    let algorithm = algorithm(outer.take(SEQUENCE)?)?;
    let (signature, _) = der::bits(outer.take(BIT_STRING)?)?;
    outer.end()?;

    let mut parts = Elements(signed.content);
    if let Some(version) = parts.optional(VERSION)?
        && !matches!(Elements::within(INTEGER, version)?.0, [0..=2])
    {
        return None;
    }
    let serial = parts.take(INTEGER).filter(|it| der::is_integer(it) && it.len() <= SERIAL_MAX)?;
    self::algorithm(parts.take(SEQUENCE)?)?;
    let issuer = parts.element(SEQUENCE)?;
    let mut validity = Elements(parts.take(SEQUENCE)?);
    let (not_before, not_after) = (der::time(validity.next()?)?, der::time(validity.next()?)?);
    validity.end()?;
    let subject = parts.element(SEQUENCE)?;
    let key_info = parts.element(SEQUENCE)?;
    let mut key = Elements(key_info.content);
    self::algorithm(key.take(SEQUENCE)?)?;
    let (key_bits, _) = der::bits(key.take(BIT_STRING)?)?;
    key.end()?;
    let unique = [parts.optional(ISSUER_UNIQUE_ID)?, parts.optional(SUBJECT_UNIQUE_ID)?];
    if unique.into_iter().flatten().any(|bits| der::bits(bits).is_none()) {
        return None;
    }
    let extensions = parts.optional(EXTENSIONS)?;
    parts.end()?;

    let mut read = Certificate {
        subject: name(subject.content)?,
        subject_der: subject.whole.to_vec(),
        issuer_der: issuer.whole.to_vec(),
        issuer_common_name: name(issuer.content)?.common_name,
        serial: crate::hex::encode(serial),
        not_before,
        not_after,
        dns_names: Vec::new(),
        addresses: Vec::new(),
        subject_key_id: None,
        authority_key_id: None,
        is_ca: false,
        signs_certificates: false,
        extended_usages: Vec::new(),
        key_info: key_info.whole.to_vec(),
        key: key_bits.to_vec(),
        signed: Signed { content: signed.whole.to_vec(), algorithm, signature: signature.to_vec() },
    };
    if let Some(extensions) = extensions {
        let mut extensions = Elements::within(SEQUENCE, extensions)?;
        while !extensions.0.is_empty() {
            let mut extension = Elements(extensions.take(SEQUENCE)?);
            let identifier = extension.take(OBJECT_IDENTIFIER)?;
            der::arcs(identifier)?;
            if let Some(is_critical) = extension.optional(BOOLEAN)? {
                der::boolean(is_critical)?;
            }
            read.extend(identifier, extension.take(OCTET_STRING)?);
            extension.end()?;
        }
    }
    Some(read)
}

/// The identifier of an AlgorithmIdentifier, whose parameters, if any, are one element.
fn algorithm(content: &[u8]) -> Option<String> {
    let mut parts = Elements(content);
    let identifier = der::dotted(parts.take(OBJECT_IDENTIFIER)?)?;
    if !parts.0.is_empty() {
        parts.next()?;
    }
    parts.end()?;
    Some(identifier)
}

impl Certificate {
    /// Whether this names `issuer` as its own, by name and key identifier; who signed it is another question.
    pub fn names_issuer(&self, issuer: &Certificate) -> bool {
        self.issuer_der == issuer.subject_der
            && match (&self.authority_key_id, &issuer.subject_key_id) {
                (Some(authority), Some(subject)) => authority == subject,
                _ => true,
            }
    }

    /// Takes what an extension says; one that is broken says nothing.
    fn extend(&mut self, identifier: &[u8], value: &[u8]) {
        match identifier {
            SUBJECT_KEY_ID => self.subject_key_id = whole(OCTET_STRING, value).map(<[u8]>::to_vec),
            KEY_USAGE => self.signs_certificates = signs_certificates(value).unwrap_or(false),
            ALTERNATIVE_NAMES => {
                for (tag, name) in names(value).unwrap_or_default() {
                    match (tag, name) {
                        (DNS_NAME, name) => {
                            self.dns_names.push(String::from_utf8_lossy(name).into());
                        }
                        (_, &[a, b, c, d]) => self.addresses.push(IpAddr::from([a, b, c, d])),
                        (_, name) => {
                            self.addresses.extend(<[u8; 16]>::try_from(name).map(IpAddr::from));
                        }
                    }
                }
            }
            BASIC_CONSTRAINTS => self.is_ca = is_ca(value).unwrap_or(false),
            AUTHORITY_KEY_ID => self.authority_key_id = authority_key_id(value).map(<[u8]>::to_vec),
            EXTENDED_USAGE => self.extended_usages = usages(value).unwrap_or_default(),
            _ => {}
        }
    }
}

/// The content of an element that is all there is.
fn whole(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    Elements::within(tag, bytes).map(|elements| elements.0)
}

fn signs_certificates(value: &[u8]) -> Option<bool> {
    let (bytes, _) = der::bits(whole(BIT_STRING, value)?)?;
    Some(bytes.first()? & KEY_CERT_SIGN != 0)
}

fn is_ca(value: &[u8]) -> Option<bool> {
    let mut parts = Elements::within(SEQUENCE, value)?;
    let is_ca = parts.optional(BOOLEAN)?.map_or(Some(false), der::boolean)?;
    let depth = parts.optional(INTEGER)?;
    parts.end()?;
    depth.is_none_or(is_depth).then_some(is_ca)
}

/// Whether an integer is how many certificates may follow: zero to 255.
fn is_depth(content: &[u8]) -> bool {
    matches!(content, [0..=0x7f] | [0, 0x80..=0xff])
}

fn authority_key_id(value: &[u8]) -> Option<&[u8]> {
    let mut parts = Elements::within(SEQUENCE, value)?;
    let id = parts.optional(KEY_ID)?;
    parts.optional(AUTHORITY_ISSUER)?;
    parts.optional(AUTHORITY_SERIAL)?;
    parts.end()?;
    id
}

fn usages(value: &[u8]) -> Option<Vec<String>> {
    let mut usages = Elements::within(SEQUENCE, value)?;
    let mut found = Vec::new();
    while !usages.0.is_empty() {
        found.push(der::dotted(usages.take(OBJECT_IDENTIFIER)?)?);
    }
    Some(found)
}

/// The names that are a host's or an address.
fn names(value: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut names = Elements::within(SEQUENCE, value)?;
    let mut found = Vec::new();
    let mut count = 0;
    while !names.0.is_empty() {
        let Element { tag, content, .. } = names.next()?;
        count += 1;
        if tag & CONTEXT == 0 || tag == DNS_NAME && !content.is_ascii() {
            return None;
        }
        if matches!(tag, DNS_NAME | ADDRESS) && count <= NAMES_MAX {
            found.push((tag, content));
        }
    }
    Some(found)
}

/// A distinguished name: a sequence of sets of attributes.
fn name(content: &[u8]) -> Option<Subject> {
    let mut subject = Subject::default();
    let mut sets = Elements(content);
    while !sets.0.is_empty() {
        let mut set = Elements(sets.take(SET)?);
        while !set.0.is_empty() {
            let mut pair = Elements(set.take(SEQUENCE)?);
            let oid = der::arcs(pair.take(OBJECT_IDENTIFIER)?)?;
            let value = pair.next()?;
            pair.end()?;
            let form = match value.tag {
                0x0c => Form::Utf8,
                0x13 => Form::Printable,
                0x16 => Form::Ia5,
                _ => continue,
            };
            let Ok(text) = std::str::from_utf8(value.content) else { continue };
            match oid.as_slice() {
                [2, 5, 4, 3] => text.clone_into(&mut subject.common_name),
                [2, 5, 4, 10] => subject.organizations.push(text.to_owned()),
                _ => {}
            }
            subject.attributes.push(Attribute { oid, form, text: text.to_owned() });
        }
    }
    Some(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl req -x509`.
    fn example() -> Vec<u8> {
        crate::pem::sections(include_bytes!("x509.pem")).remove(0).content
    }

    #[test]
    fn what_a_certificate_says() {
        let der = example();
        let read = read(&der).unwrap();
        assert_eq!(read.subject.common_name, "alice");
        assert_eq!(read.subject.organizations, ["one", "two"]);
        let email = read.subject.attributes.last().unwrap();
        assert_eq!(email.oid, [1, 2, 840, 113_549, 1, 9, 1]);
        assert_eq!((email.form, &*email.text), (Form::Ia5, "a@b.example"));
        assert_eq!(read.subject_der, read.issuer_der);
        assert_eq!(read.issuer_common_name, "alice");
        assert_eq!(read.serial, "00abcdef01");
        assert_eq!(read.not_after.secs() - read.not_before.secs(), 36_500 * 86_400);
        assert_eq!(read.dns_names, ["*.b.example"]);
        assert_eq!(read.addresses, ["10.0.0.1", "fd00::1"].map(|it| it.parse::<IpAddr>().unwrap()));
        assert!(read.is_ca && read.signs_certificates && read.names_issuer(&read));
        assert_eq!(read.extended_usages, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
        assert_eq!(read.signed.algorithm, "1.2.840.10045.4.3.2");
        assert_eq!((read.key.len(), read.key_info.len()), (65, 91));
        // What is signed is compared by bytes: it must be what was sent.
        assert_eq!(
            der.windows(read.signed.content.len()).position(|it| it == read.signed.content),
            Some(4)
        );
    }

    #[test]
    fn a_name_in_a_form_that_readers_disagree_on_is_none() {
        let mut der = example();
        let at = der.windows(7).rposition(|it| it == b"\x0c\x05alice").unwrap();
        // The subject's, as a Teletex string.
        der[at] = 0x14;
        assert_eq!(read(&der).unwrap().subject.common_name, "first");
    }

    #[test]
    fn nothing_is_made_of_a_broken_one() {
        let der = example();
        assert!((0..der.len()).all(|length| read(&der[..length]).is_err()));
        let mut longer = der;
        longer.push(0);
        assert!(read(&longer).is_err());
    }
}
