//! Issuing certificates, and reading those on disk.

use std::net::IpAddr;

use http::tls::Signer;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use stdx::time::Wall;
use stdx::{Context, Error, Result};
use wire::x509::{self, COMMON_NAME, ORGANIZATION, Statement, Usage};

/// Certificates are valid from the epoch: a board without a clock starts in 1970 and must still join.
const NOT_BEFORE_SECS: i64 = 0;
const SECS_PER_DAY: i64 = 86_400;
/// The most that RFC 5280 lets serial numbers have.
const SERIAL_BYTES: usize = 20;

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The leaf first, then its issuers.
    pub chain_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        write!(f, "Certificate({} bytes)", self.chain_pem.len())
    }
}

/// What a leaf certifies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leaf<'a> {
    pub common_name: &'a str,
    /// The group, "" for none.
    pub organization: &'a str,
    pub dns_names: &'a [String],
    pub addresses: &'a [IpAddr],
    pub server: bool,
    pub client: bool,
}

/// A new P-256 key as PEM (PKCS #8).
pub(crate) fn new_key() -> Result<String> {
    let random = ring::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| Error::new("generate a key"))?;
    Ok(pem("PRIVATE KEY", key.as_ref()))
}

/// A self-signed CA.
pub(crate) fn new_ca(common_name: &str, not_after: Wall) -> Result<Certificate> {
    let key_pem = new_key()?;
    let key = signer(&key_pem)?;
    let name = x509::name(&[(COMMON_NAME, common_name)]);
    let usage = Usage::Ca { key_id: &key_id(key.public_key()) };
    let chain_pem = sign(&key, &name, &name, key.public_key(), not_after, usage)
        .context(|| format!("sign the CA {common_name}"))?;
    Ok(Certificate { chain_pem, key_pem })
}

/// A leaf signed by `ca`; `key_pem` is its key, made anew when empty.
pub(crate) fn issue(
    ca: &Certificate,
    leaf: &Leaf<'_>,
    key_pem: &str,
    not_after: Wall,
) -> Result<Certificate> {
    let what = || format!("issue a certificate for {}", leaf.common_name);
    let key_pem = match key_pem {
        "" => new_key().context(what)?,
        pem => pem.to_owned(),
    };
    let public_key = signer(&key_pem).context(what)?.public_key().to_vec();
    let ca_key = signer(&ca.key_pem).context(|| "read a CA key")?;
    let parsed = Parsed::from_pem(&ca.chain_pem)?;
    if let Some(name) = leaf.dns_names.iter().find(|name| !name.is_ascii()) {
        return Err(Error::new(format!("use {name:?} as a DNS name: it is not ASCII")))
            .context(what);
    }
    let subject = match leaf.organization {
        "" => x509::name(&[(COMMON_NAME, leaf.common_name)]),
        group => x509::name(&[(COMMON_NAME, leaf.common_name), (ORGANIZATION, group)]),
    };
    let usage = Usage::Leaf {
        issuer_key_id: &parsed.subject_key_id.unwrap_or_else(|| key_id(ca_key.public_key())),
        dns_names: leaf.dns_names,
        addresses: leaf.addresses,
        server: leaf.server,
        client: leaf.client,
    };
    let pem = sign(&ca_key, &parsed.subject, &subject, &public_key, not_after, usage);
    Ok(Certificate { chain_pem: pem.context(what)? + &ca.chain_pem, key_pem })
}

/// A certificate as PEM, valid to the beginning of the day of `not_after`.
fn sign(
    key: &Signer,
    issuer: &[u8],
    subject: &[u8],
    public_key: &[u8],
    not_after: Wall,
    usage: Usage<'_>,
) -> Result<String> {
    let mut serial = [0; SERIAL_BYTES];
    rt::random(&mut serial);
    // Positive, and as long as it is.
    serial[0] = serial[0] & 0x7f | 0x40;
    let statement = Statement {
        serial: &serial,
        algorithm: key.algorithm(),
        issuer,
        subject,
        not_before_secs: NOT_BEFORE_SECS,
        not_after_secs: not_after.secs().div_euclid(SECS_PER_DAY) * SECS_PER_DAY,
        public_key,
        usage,
    };
    let encoded = statement.encode();
    Ok(pem("CERTIFICATE", &statement.signed(&encoded, &key.sign(&encoded)?)))
}

fn signer(pem: &str) -> Result<Signer> {
    Signer::from_pem(pem.as_bytes())
}

/// What tells a CA's keys apart, where it does not say so itself.
fn key_id(public_key: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, public_key).as_ref()[..20].to_vec()
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    // Three bytes are four letters.
    for line in bytes.chunks(48) {
        text.push_str(&wire::base64::encode(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// What we look at in a certificate on disk.
pub(crate) struct Parsed {
    /// The names in DER.
    subject: Vec<u8>,
    issuer: Vec<u8>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    public_key: Vec<u8>,
    pub(crate) not_after: Wall,
    pub(crate) dns_names: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Parsed {
    /// The first certificate of a PEM chain.
    pub(crate) fn from_pem(pem: &str) -> Result<Parsed> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| Error::new(format!("read a PEM certificate: {e}")))?;
        let parsed = x509::Certificate::parse(&der)
            .context(|| "parse a certificate: it is not an X.509 certificate in DER")?;
        let (dns_names, addresses) = parsed.alternative_names();
        Ok(Parsed {
            subject: parsed.subject.to_vec(),
            issuer: parsed.issuer.to_vec(),
            subject_key_id: parsed.subject_key_id().map(<[u8]>::to_vec),
            authority_key_id: parsed.authority_key_id().map(<[u8]>::to_vec),
            public_key: parsed.public_key.to_vec(),
            not_after: Wall::from_secs(parsed.not_after_secs),
            dns_names,
            addresses,
        })
    }

    /// True if `ca` issued it, by name and key identifier.
    pub(crate) fn issued_by(&self, ca: &Parsed) -> bool {
        self.issuer == ca.subject
            && match (&self.authority_key_id, &ca.subject_key_id) {
                (Some(authority), Some(subject)) => authority == subject,
                _ => true,
            }
    }

    /// True if `key_pem` is its private key.
    pub(crate) fn has_key(&self, key_pem: &str) -> bool {
        signer(key_pem).is_ok_and(|key| key.public_key() == self.public_key)
    }
}

/// Fails unless `pem` holds a private key we can use.
pub(crate) fn check_key(pem: &str) -> Result<()> {
    http::tls::private_key(pem.as_bytes()).map(drop)
}
