//! X.509 certificates (RFC 5280): what we read of them, and those that we issue.
//!
//! Reading is not checking: whether a certificate is to be believed, TLS decides.

use std::net::IpAddr;

use stdx::time::{civil, days_from_civil};

use crate::der::{self, Element, Reader};

/// Object identifiers, encoded.
pub const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// Kinds of alternative names.
const DNS_NAME: u8 = der::context(2);
const IP_ADDRESS: u8 = der::context(7);

/// What we look at in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The names in DER.
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// The SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
    /// The last second of its validity, since the Unix epoch.
    pub not_after_secs: i64,
    extensions: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER; `None` for what is none.
    pub fn parse(bytes: &'a [u8]) -> Option<Certificate<'a>> {
        let mut file = Reader::new(bytes);
        let mut signed = file.inside(der::SEQUENCE)?;
        let mut stated = signed.inside(der::SEQUENCE)?;
        let _algorithm = signed.take(der::SEQUENCE)?;
        let _signature = signed.take(der::BIT_STRING)?;
        let _version = stated.take(der::context_constructed(0));
        let _serial = stated.take(der::INTEGER)?;
        let _algorithm = stated.take(der::SEQUENCE)?;
        let issuer = stated.take(der::SEQUENCE)?.whole;
        let mut validity = stated.inside(der::SEQUENCE)?;
        let (_not_before, not_after) = (validity.any()?, validity.any()?);
        let subject = stated.take(der::SEQUENCE)?.whole;
        let public_key = stated.take(der::SEQUENCE)?.whole;
        let _unique_ids = (stated.take(der::context(1)), stated.take(der::context(2)));
        let extensions = match stated.inside(der::context_constructed(3)) {
            Some(mut extensions) => extensions.take(der::SEQUENCE)?.content,
            None => &[],
        };
        let not_after_secs = read_time(not_after)?;
        let all = file.is_empty() && signed.is_empty() && stated.is_empty();
        all.then_some(Certificate { issuer, subject, public_key, not_after_secs, extensions })
    }

    /// The value of the extension with this identifier.
    fn extension(&self, wanted: &[u8]) -> Option<Reader<'a>> {
        let mut extensions = Reader::new(self.extensions);
        while let Some(mut extension) = extensions.inside(der::SEQUENCE) {
            let id = extension.take(der::OBJECT_IDENTIFIER)?;
            let _critical = extension.take(der::BOOLEAN);
            if id.content == wanted {
                return extension.inside(der::OCTET_STRING);
            }
        }
        None
    }

    pub fn subject_key_id(&self) -> Option<&'a [u8]> {
        self.extension(SUBJECT_KEY_ID)?.take(der::OCTET_STRING).map(|id| id.content)
    }

    pub fn authority_key_id(&self) -> Option<&'a [u8]> {
        let mut parts = self.extension(AUTHORITY_KEY_ID)?.inside(der::SEQUENCE)?;
        parts.take(der::context(0)).map(|id| id.content)
    }

    /// The DNS names and the addresses among the alternative names.
    pub fn alternative_names(&self) -> (Vec<String>, Vec<IpAddr>) {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        let list = self.extension(SUBJECT_ALT_NAME).and_then(|mut it| it.inside(der::SEQUENCE));
        let mut list = list.unwrap_or(Reader::new(&[]));
        while let Some(name) = list.any() {
            match (name.tag, name.content) {
                (DNS_NAME, text) => names.push(String::from_utf8_lossy(text).into_owned()),
                (IP_ADDRESS, &[a, b, c, d]) => addresses.push(IpAddr::from([a, b, c, d])),
                (IP_ADDRESS, bytes) => {
                    addresses.extend(<[u8; 16]>::try_from(bytes).map(IpAddr::from));
                }
                _ => {}
            }
        }
        (names, addresses)
    }
}

/// The attributes of a name that have one of the usual kinds of text: identifier and text.
pub fn attributes(name: &[u8]) -> Vec<(&[u8], &str)> {
    let mut found = Vec::new();
    let mut sets = Reader::new(name).inside(der::SEQUENCE).unwrap_or(Reader::new(&[]));
    while let Some(mut set) = sets.inside(der::SET) {
        while let Some(mut attribute) = set.inside(der::SEQUENCE) {
            let id = attribute.take(der::OBJECT_IDENTIFIER);
            if let Some((id, text)) = id.zip(attribute.any().and_then(text)) {
                found.push((id.content, text));
            }
        }
    }
    found
}

fn text(value: Element<'_>) -> Option<&str> {
    let printable = |byte: &u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(byte);
    match value.tag {
        der::UTF8_STRING => std::str::from_utf8(value.content).ok(),
        der::PRINTABLE_STRING if value.content.iter().all(printable) => {
            std::str::from_utf8(value.content).ok()
        }
        _ => None,
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, in seconds since the Unix epoch.
fn read_time(time: Element<'_>) -> Option<i64> {
    let digits = time.content.strip_suffix(b"Z")?;
    let n_year = match time.tag {
        der::UTC_TIME => 2,
        der::GENERALIZED_TIME => 4,
        _ => return None,
    };
    if digits.len() != n_year + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
    let year = match number(&digits[..n_year]) {
        year @ 0..50 if n_year == 2 => 2000 + year,
        year if n_year == 2 => 1900 + year,
        year => year,
    };
    let part = |idx: usize| number(&digits[n_year + 2 * idx..n_year + 2 * idx + 2]);
    let in_calendar = (1..=12).contains(&part(0)) && (1..=31).contains(&part(1));
    let days = days_from_civil(year, part(0), part(1));
    in_calendar.then_some(days * 86_400 + part(2) * 3600 + part(3) * 60 + part(4))
}

fn write_time(secs: i64) -> Vec<u8> {
    let (year, month, day, secs) = civil(secs);
    let rest =
        format!("{month:02}{day:02}{:02}{:02}{:02}Z", secs / 3600, secs / 60 % 60, secs % 60);
    match year {
        1950..2050 => der::write(der::UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()]),
        _ => der::write(der::GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()]),
    }
}

/// A name of UTF-8 attributes: identifier and text.
pub fn name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(id, text)| {
            let id = der::write(der::OBJECT_IDENTIFIER, &[id]);
            let text = der::write(der::UTF8_STRING, &[text.as_bytes()]);
            der::write(der::SET, &[&der::write(der::SEQUENCE, &[&id, &text])])
        })
        .collect();
    sequence(&sets)
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    der::write(der::SEQUENCE, &elements.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// How a certificate is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    EcdsaSha256,
    EcdsaSha384,
    RsaSha256,
    Ed25519,
}

impl Algorithm {
    /// The AlgorithmIdentifier (RFC 5758, RFC 4055, RFC 8410).
    fn identifier(self) -> Vec<u8> {
        let (id, parameters): (&[u8], &[u8]) = match self {
            Algorithm::EcdsaSha256 => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], &[]),
            Algorithm::EcdsaSha384 => (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], &[]),
            Algorithm::RsaSha256 => (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], &[5, 0]),
            Algorithm::Ed25519 => (&[0x2b, 0x65, 0x70], &[]),
        };
        der::write(der::SEQUENCE, &[&der::write(der::OBJECT_IDENTIFIER, &[id]), parameters])
    }
}

/// What a certificate says. Its holder may sign and exchange keys.
#[derive(Debug, Clone)]
pub struct Statement<'a> {
    /// A positive number, the highest byte first.
    pub serial: &'a [u8],
    pub algorithm: Algorithm,
    /// The names in DER.
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// Seconds since the Unix epoch, both inclusive.
    pub not_before_secs: i64,
    pub not_after_secs: i64,
    /// The SubjectPublicKeyInfo in DER.
    pub public_key: &'a [u8],
    pub usage: Usage<'a>,
}

/// What a certificate is for.
#[derive(Debug, Clone)]
pub enum Usage<'a> {
    /// Its holder issues certificates.
    Ca { key_id: &'a [u8] },
    Leaf {
        issuer_key_id: &'a [u8],
        dns_names: &'a [String],
        addresses: &'a [IpAddr],
        server: bool,
        client: bool,
    },
}

impl Statement<'_> {
    /// What is to be signed.
    pub fn encode(&self) -> Vec<u8> {
        let version = der::write(der::context_constructed(0), &[&[der::INTEGER, 1, 2]]);
        // The first bit would be a sign.
        let sign: &[u8] =
            if self.serial.first().is_none_or(|byte| *byte > 0x7f) { &[0] } else { &[] };
        let validity = [write_time(self.not_before_secs), write_time(self.not_after_secs)];
        let extensions = sequence(&self.usage.extensions());
        der::write(
            der::SEQUENCE,
            &[
                &version,
                &der::write(der::INTEGER, &[sign, self.serial]),
                &self.algorithm.identifier(),
                self.issuer,
                &sequence(&validity),
                self.subject,
                self.public_key,
                &der::write(der::context_constructed(3), &[&extensions]),
            ],
        )
    }

    /// The certificate of what [`Statement::encode`] has said.
    pub fn signed(&self, encoded: &[u8], signature: &[u8]) -> Vec<u8> {
        let signature = der::write(der::BIT_STRING, &[&[0], signature]);
        der::write(der::SEQUENCE, &[encoded, &self.algorithm.identifier(), &signature])
    }
}

impl Usage<'_> {
    fn extensions(&self) -> Vec<Vec<u8>> {
        // Signatures, keys' encipherment, and a CA's certificates; the first byte counts the bits that are not used.
        match self {
            Usage::Ca { key_id } => vec![
                extension(KEY_USAGE, true, &der::write(der::BIT_STRING, &[&[2, 0xa4]])),
                extension(SUBJECT_KEY_ID, false, &der::write(der::OCTET_STRING, &[key_id])),
                extension(
                    BASIC_CONSTRAINTS,
                    true,
                    &der::write(der::SEQUENCE, &[&der::write(der::BOOLEAN, &[&[0xff]])]),
                ),
            ],
            Usage::Leaf { issuer_key_id, dns_names, addresses, server, client } => {
                let key_id = der::write(der::context(0), &[issuer_key_id]);
                let key_id = der::write(der::SEQUENCE, &[&key_id]);
                let mut all = vec![extension(AUTHORITY_KEY_ID, false, &key_id)];
                let dns = dns_names.iter().map(|name| der::write(DNS_NAME, &[name.as_bytes()]));
                let addresses = addresses.iter().map(|address| match address {
                    IpAddr::V4(address) => der::write(IP_ADDRESS, &[&address.octets()]),
                    IpAddr::V6(address) => der::write(IP_ADDRESS, &[&address.octets()]),
                });
                let names: Vec<Vec<u8>> = dns.chain(addresses).collect();
                if !names.is_empty() {
                    all.push(extension(SUBJECT_ALT_NAME, false, &sequence(&names)));
                }
                all.push(extension(KEY_USAGE, true, &der::write(der::BIT_STRING, &[&[5, 0xa0]])));
                let purposes: Vec<Vec<u8>> = [(*client, CLIENT_AUTH), (*server, SERVER_AUTH)]
                    .iter()
                    .filter(|(wanted, _)| *wanted)
                    .map(|(_, id)| der::write(der::OBJECT_IDENTIFIER, &[id]))
                    .collect();
                if !purposes.is_empty() {
                    all.push(extension(EXTENDED_KEY_USAGE, false, &sequence(&purposes)));
                }
                all
            }
        }
    }
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[der::BOOLEAN, 1, 0xff] } else { &[] };
    let id = der::write(der::OBJECT_IDENTIFIER, &[id]);
    der::write(der::SEQUENCE, &[&id, critical, &der::write(der::OCTET_STRING, &[value])])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement<'a>(issuer: &'a [u8], subject: &'a [u8], usage: Usage<'a>) -> Statement<'a> {
        Statement {
            serial: &[0x80, 1],
            algorithm: Algorithm::EcdsaSha256,
            issuer,
            subject,
            not_before_secs: 0,
            not_after_secs: 1_900_000_000,
            public_key: &[der::SEQUENCE, 0],
            usage,
        }
    }

    #[test]
    fn what_is_issued_is_read() {
        let (ca, leaf) =
            (name(&[(COMMON_NAME, "ca")]), name(&[(COMMON_NAME, "n"), (ORGANIZATION, "g")]));
        let (names, addresses) =
            (["a.b".to_owned()], ["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()]);
        let usage = Usage::Leaf {
            issuer_key_id: &[1, 2],
            dns_names: &names,
            addresses: &addresses,
            server: true,
            client: true,
        };
        let stated = statement(&ca, &leaf, usage);
        let bytes = stated.signed(&stated.encode(), &[7; 64]);
        let read = Certificate::parse(&bytes).unwrap();
        assert_eq!((read.issuer, read.subject), (&ca[..], &leaf[..]));
        assert_eq!(attributes(read.subject), [(COMMON_NAME, "n"), (ORGANIZATION, "g")]);
        assert_eq!((read.not_after_secs, read.public_key), (1_900_000_000, &[0x30, 0][..]));
        assert_eq!((read.authority_key_id(), read.subject_key_id()), (Some(&[1, 2][..]), None));
        assert_eq!(read.alternative_names(), (names.to_vec(), addresses.to_vec()));
        // A byte more or less is no certificate.
        assert_eq!(Certificate::parse(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Certificate::parse(&[&bytes[..], &[0]].concat()), None);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            // Whatever it is now: no panic.
            let _ = Certificate::parse(&broken)
                .map(|it| (it.alternative_names(), it.authority_key_id()));
        }
        let stated = statement(&ca, &ca, Usage::Ca { key_id: &[9] });
        let bytes = stated.signed(&stated.encode(), &[7; 64]);
        let read = Certificate::parse(&bytes).unwrap();
        assert_eq!((read.subject_key_id(), read.authority_key_id()), (Some(&[9][..]), None));
    }

    #[test]
    fn times() {
        for (secs, tag, text) in [
            (0, der::UTC_TIME, "700101000000Z"),
            (2_524_607_999, der::UTC_TIME, "491231235959Z"),
            (2_524_608_000, der::GENERALIZED_TIME, "20500101000000Z"),
        ] {
            assert_eq!(write_time(secs), der::write(tag, &[text.as_bytes()]));
            assert_eq!(read_time(Reader::new(&write_time(secs)).any().unwrap()), Some(secs));
        }
        for (tag, text) in [
            (der::UTC_TIME, "7001010000Z"),
            (der::UTC_TIME, "701301000000Z"),
            (der::UTC_TIME, "70010100000xZ"),
            (der::UTC_TIME, "700101000000+0100"),
            (der::INTEGER, "700101000000Z"),
        ] {
            let bytes = der::write(tag, &[text.as_bytes()]);
            assert_eq!(read_time(Reader::new(&bytes).any().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn only_texts_of_the_usual_kinds_are_read() {
        for (tag, bytes, read) in [
            (der::UTF8_STRING, "ä".as_bytes(), true),
            (der::UTF8_STRING, b"\xff", false),
            (der::PRINTABLE_STRING, b"system:masters", true),
            (der::PRINTABLE_STRING, b"a@b", false),
            (0x16, b"ia5", false),
        ] {
            let value = der::write(tag, &[bytes]);
            assert_eq!(text(Reader::new(&value).any().unwrap()).is_some(), read, "{bytes:?}");
        }
    }
}
