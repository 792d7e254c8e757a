//! X.509 certificates (RFC 5280), read: what the rooms that meet them ask.
//!
//! Whether a chain is good is for TLS to judge; this says what one certificate tells of itself.

use std::net::IpAddr;

use stdx::time::Wall;
use stdx::{Context, Result};
use x509_cert::der::asn1::OctetString;
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::time::Time;

/// Names of one certificate that are looked at: a handshake's size allows many more.
const NAMES_MAX: usize = 1024;

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
    let what = || "parse a certificate";
    let parsed = x509_cert::Certificate::from_der(der).context(what)?;
    let tbs = &parsed.tbs_certificate;
    let mut read = Certificate {
        subject: subject(&tbs.subject),
        subject_der: tbs.subject.to_der().context(what)?,
        issuer_der: tbs.issuer.to_der().context(what)?,
        issuer_common_name: subject(&tbs.issuer).common_name,
        serial: crate::hex::encode(tbs.serial_number.as_bytes()),
        not_before: wall(tbs.validity.not_before),
        not_after: wall(tbs.validity.not_after),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        subject_key_id: None,
        authority_key_id: None,
        is_ca: false,
        signs_certificates: false,
        extended_usages: Vec::new(),
        key_info: tbs.subject_public_key_info.to_der().context(what)?,
        key: tbs.subject_public_key_info.subject_public_key.raw_bytes().to_vec(),
        signed: Signed {
            content: tbs.to_der().context(what)?,
            algorithm: parsed.signature_algorithm.oid.to_string(),
            signature: parsed.signature.raw_bytes().to_vec(),
        },
    };
    for extension in tbs.extensions.iter().flatten() {
        read.extend(&extension.extn_id.to_string(), extension.extn_value.as_bytes());
    }
    Ok(read)
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
    fn extend(&mut self, oid: &str, value: &[u8]) {
        match oid {
            "2.5.29.14" => {
                let id = SubjectKeyIdentifier::from_der(value).ok();
                self.subject_key_id = id.map(|SubjectKeyIdentifier(id)| bytes(id));
            }
            "2.5.29.15" => {
                let usage = KeyUsage::from_der(value);
                self.signs_certificates = usage.is_ok_and(|usage| usage.key_cert_sign());
            }
            "2.5.29.17" => {
                let names = SubjectAltName::from_der(value).ok();
                let names = names.into_iter().flat_map(|SubjectAltName(names)| names);
                names.take(NAMES_MAX).for_each(|name| self.add_name(name));
            }
            "2.5.29.19" => {
                self.is_ca = BasicConstraints::from_der(value).is_ok_and(|found| found.ca);
            }
            "2.5.29.35" => {
                let id = AuthorityKeyIdentifier::from_der(value).ok();
                self.authority_key_id = id.and_then(|id| id.key_identifier).map(bytes);
            }
            "2.5.29.37" => {
                let usages = ExtendedKeyUsage::from_der(value).ok();
                let usages = usages.into_iter().flat_map(|ExtendedKeyUsage(usages)| usages);
                self.extended_usages = usages.map(|usage| usage.to_string()).collect();
            }
            _ => {}
        }
    }

    fn add_name(&mut self, name: GeneralName) {
        match name {
            GeneralName::DnsName(name) => self.dns_names.push(name.to_string()),
            GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
                &[a, b, c, d] => self.addresses.push(IpAddr::from([a, b, c, d])),
                bytes => self.addresses.extend(<[u8; 16]>::try_from(bytes).map(IpAddr::from)),
            },
            _ => {}
        }
    }
}

fn bytes(octets: OctetString) -> Vec<u8> {
    octets.into_bytes()
}

fn wall(time: Time) -> Wall {
    Wall::from_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

fn subject(name: &Name) -> Subject {
    let mut subject = Subject::default();
    for attribute in name.0.iter().flat_map(|set| set.0.iter()) {
        let form = match attribute.value.tag() {
            Tag::Utf8String => Form::Utf8,
            Tag::PrintableString => Form::Printable,
            Tag::Ia5String => Form::Ia5,
            _ => continue,
        };
        let Ok(text) = std::str::from_utf8(attribute.value.value()) else { continue };
        let oid: Vec<u64> = attribute.oid.arcs().map(u64::from).collect();
        match oid.as_slice() {
            [2, 5, 4, 3] => text.clone_into(&mut subject.common_name),
            [2, 5, 4, 10] => subject.organizations.push(text.to_owned()),
            _ => {}
        }
        subject.attributes.push(Attribute { oid, form, text: text.to_owned() });
    }
    subject
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
