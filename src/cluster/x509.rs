//! Issuing certificates (rcgen), and what is asked of those on disk.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stdx::time::Wall;
use stdx::{Context, Error, Result};
use wire::x509::{self, Form};

/// Certificates are valid from the epoch: a board without a clock starts in 1970 and must still join.
const NOT_BEFORE: (i32, u8, u8) = (1970, 1, 1);

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
    Ok(KeyPair::generate().context(|| "generate a key")?.serialize_pem())
}

/// A self-signed CA.
pub(crate) fn new_ca(common_name: &str, not_after: Wall) -> Result<Certificate> {
    let key = KeyPair::generate().context(|| "generate a CA key")?;
    let mut params = params(not_after)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    let certificate = params.self_signed(&key).context(|| format!("sign the CA {common_name}"))?;
    Ok(Certificate { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A leaf signed by `ca`; `key_pem` is its key, made anew when empty.
pub(crate) fn issue(
    ca: &Certificate,
    leaf: &Leaf<'_>,
    key_pem: &str,
    not_after: Wall,
) -> Result<Certificate> {
    let what = || format!("issue a certificate for {}", leaf.common_name);
    let key = match key_pem {
        "" => KeyPair::generate().context(what)?,
        pem => KeyPair::from_pem(pem).context(what)?,
    };
    let mut params = params(not_after)?;
    params.distinguished_name.push(DnType::CommonName, leaf.common_name);
    if !leaf.organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, leaf.organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    if leaf.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    if leaf.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in leaf.dns_names {
        params.subject_alt_names.push(SanType::DnsName(
            name.as_str().try_into().context(|| format!("use {name:?} as a DNS name"))?,
        ));
    }
    params
        .subject_alt_names
        .extend(leaf.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.use_authority_key_identifier_extension = true;
    let issuer = issuer(ca)?;
    let certificate = params.signed_by(&key, &issuer).context(what)?;
    Ok(Certificate { chain_pem: certificate.pem() + &ca.chain_pem, key_pem: key.serialize_pem() })
}

/// A key that somebody else holds.
struct Key<'a>(&'a [u8], &'static rcgen::SignatureAlgorithm);

impl rcgen::PublicKeyData for Key<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.1
    }
}

/// Certifies what a signing request asks for, with these usages and until then, or until the CA ends;
/// PEM.
pub(crate) fn certify(
    ca: &Certificate,
    request: &wire::pkcs10::Request,
    usages: &[&str],
    until: Wall,
) -> Result<String> {
    let what = || format!("certify {}", request.common_name);
    let until = until.min(read_pem(&ca.chain_pem)?.not_after);
    let mut params = params(until)?;
    let secs = u64::try_from(until.secs()).context(|| "compute an expiry date")?;
    params.not_after = rcgen::date_time_ymd(NOT_BEFORE.0, NOT_BEFORE.1, NOT_BEFORE.2)
        + std::time::Duration::from_secs(secs);
    for organization in &request.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, request.common_name.as_str());
    for usage in usages {
        match *usage {
            "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
            "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            "client auth" => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
            }
            "server auth" => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
            other => return Err(Error::new(format!("no certificate is good for {other:?} here"))),
        }
    }
    let alternatives = &mut params.subject_alt_names;
    let unusable = |name: &String| format!("use {name:?} as a name");
    for name in &request.dns_names {
        let text = name.as_str().try_into().context(|| unusable(name))?;
        alternatives.push(SanType::DnsName(text));
    }
    for name in &request.emails {
        let text = name.as_str().try_into().context(|| unusable(name))?;
        alternatives.push(SanType::Rfc822Name(text));
    }
    for name in &request.uris {
        alternatives.push(SanType::URI(name.as_str().try_into().context(|| unusable(name))?));
    }
    let addresses = request.addresses.iter().map(|address| SanType::IpAddress(*address));
    alternatives.extend(addresses);
    params.use_authority_key_identifier_extension = true;
    let signed = &request.signed;
    let algorithm = api::certificate::key_algorithm(signed).context(what)?;
    let algorithm = match algorithm {
        api::certificate::Algorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        api::certificate::Algorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        api::certificate::Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
        api::certificate::Algorithm::Rsa => &rcgen::PKCS_RSA_SHA256,
    };
    let certificate = params.signed_by(&Key(&signed.key, algorithm), &issuer(ca)?).context(what)?;
    Ok(certificate.pem())
}

/// Valid to the beginning of the day of `not_after`.
fn params(not_after: Wall) -> Result<CertificateParams> {
    let mut params =
        CertificateParams::new(Vec::<String>::new()).context(|| "prepare a certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.not_before = rcgen::date_time_ymd(NOT_BEFORE.0, NOT_BEFORE.1, NOT_BEFORE.2);
    let (year, month, day, _) = api::time::civil(not_after.secs());
    let small = |n: i64| u8::try_from(n).context(|| "compute an expiry date");
    params.not_after = rcgen::date_time_ymd(
        i32::try_from(year).context(|| "compute an expiry year")?,
        small(month)?,
        small(day)?,
    );
    Ok(params)
}

/// rcgen's view of a CA that may have been read from disk: same subject bytes, same key identifier.
fn issuer(ca: &Certificate) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::from_pem(&ca.key_pem).context(|| "read a CA key")?;
    let parsed = read_pem(&ca.chain_pem)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context(|| "prepare a CA")?;
    params.distinguished_name = DistinguishedName::new();
    for attribute in parsed.subject.attributes {
        let kind = match attribute.oid.as_slice() {
            [2, 5, 4, 3] => DnType::CommonName,
            [2, 5, 4, 6] => DnType::CountryName,
            [2, 5, 4, 7] => DnType::LocalityName,
            [2, 5, 4, 8] => DnType::StateOrProvinceName,
            [2, 5, 4, 10] => DnType::OrganizationName,
            [2, 5, 4, 11] => DnType::OrganizationalUnitName,
            other => DnType::CustomDnType(other.to_vec()),
        };
        let what = || "read the name of a CA";
        let value = match attribute.form {
            Form::Utf8 => DnValue::Utf8String(attribute.text),
            Form::Printable => DnValue::PrintableString(attribute.text.try_into().context(what)?),
            Form::Ia5 => DnValue::Ia5String(attribute.text.try_into().context(what)?),
        };
        params.distinguished_name.push(kind, value);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    if let Some(id) = parsed.subject_key_id {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    }
    Ok(Issuer::new(params, key))
}

/// The first certificate of a PEM chain.
pub(crate) fn read_pem(pem: &str) -> Result<x509::Certificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| Error::new(format!("read a PEM certificate: {e}")))?;
    x509::read(&der)
}

/// Whether this is the certificate's private key.
pub(crate) fn has_key(certificate: &x509::Certificate, key_pem: &str) -> bool {
    public_key(key_pem).is_some_and(|key| key == certificate.key_info)
}

/// A certificate of a bundle.
pub(crate) struct Authority {
    pub(crate) der: Vec<u8>,
    pub(crate) says: x509::Certificate,
}

/// All certificates of a PEM text.
pub(crate) fn authorities(pem: &str) -> Result<Vec<Authority>> {
    let sections = wire::pem::sections(pem.as_bytes());
    let certificates = sections.into_iter().filter(|section| section.label == "CERTIFICATE");
    let read = |section: wire::pem::Section| {
        Ok(Authority { says: x509::read(&section.content)?, der: section.content })
    };
    certificates.map(read).collect()
}

impl Authority {
    /// What it is good for, as k3s tells it.
    pub(crate) fn usages(&self) -> Vec<&'static str> {
        let signs = self.says.signs_certificates.then_some("CertSign");
        let extended = self.says.extended_usages.iter().filter_map(|usage| match usage.as_str() {
            "1.3.6.1.5.5.7.3.1" => Some("ServerAuth"),
            "1.3.6.1.5.5.7.3.2" => Some("ClientAuth"),
            _ => None,
        });
        let usages: Vec<&str> = signs.into_iter().chain(extended).collect();
        if usages.is_empty() { vec!["Unknown"] } else { usages }
    }

    /// Whether the other's key made this one's signature.
    pub(crate) fn is_signed_by(&self, issuer: &Authority) -> bool {
        use ring::signature as ring;
        let signed = &self.says.signed;
        let algorithms: &[&dyn ring::VerificationAlgorithm] = match signed.algorithm.as_str() {
            "1.2.840.10045.4.3.2" => {
                &[&ring::ECDSA_P256_SHA256_ASN1, &ring::ECDSA_P384_SHA256_ASN1]
            }
            "1.2.840.10045.4.3.3" => {
                &[&ring::ECDSA_P256_SHA384_ASN1, &ring::ECDSA_P384_SHA384_ASN1]
            }
            "1.2.840.113549.1.1.11" => &[&ring::RSA_PKCS1_2048_8192_SHA256],
            "1.2.840.113549.1.1.12" => &[&ring::RSA_PKCS1_2048_8192_SHA384],
            "1.2.840.113549.1.1.13" => &[&ring::RSA_PKCS1_2048_8192_SHA512],
            "1.3.101.112" => &[&ring::ED25519],
            _ => &[],
        };
        algorithms.iter().any(|algorithm| {
            let key = ring::UnparsedPublicKey::new(*algorithm, &issuer.says.key);
            key.verify(&signed.content, &signed.signature).is_ok()
        })
    }
}

/// The public key of a private one in PEM, if that can be read.
pub(crate) fn public_key(pem: &str) -> Option<Vec<u8>> {
    use rcgen::PublicKeyData;
    KeyPair::from_pem(pem).ok().map(|key| key.subject_public_key_info())
}

/// A CA below another one, with its chain.
#[cfg(test)]
pub(crate) fn cross_sign(ca: &Certificate, name: &str, not_after: Wall) -> Result<Certificate> {
    let key = KeyPair::generate().context(|| "generate a CA key")?;
    let mut params = params(not_after)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = params.signed_by(&key, &issuer(ca)?).context(|| "sign a CA")?;
    Ok(Certificate { chain_pem: certificate.pem() + &ca.chain_pem, key_pem: key.serialize_pem() })
}

/// The last of the certificates (DER) that the first one leads to by the names of issuers.
pub(crate) fn root<'a>(certificates: &[&'a [u8]]) -> Option<&'a [u8]> {
    let names: Vec<(Vec<u8>, Vec<u8>)> = certificates
        .iter()
        .map(|der| {
            let read = x509::read(der).ok()?;
            Some((read.subject_der, read.issuer_der))
        })
        .collect::<Option<_>>()?;
    let mut at = 0;
    for _ in &names {
        let (subject, issuer) = names.get(at)?;
        match names.iter().position(|(other, _)| other == issuer) {
            Some(next) if issuer != subject => at = next,
            _ => break,
        }
    }
    certificates.get(at).copied()
}

/// A new key, PEM, and a signing request with it, DER, that asks for nothing: the server knows what to certify.
pub(crate) fn signing_request() -> Result<(String, Vec<u8>)> {
    let what = || "make a signing request";
    let key = KeyPair::generate().context(what)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context(what)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).context(what)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Fails unless `pem` holds a private key we can use.
pub(crate) fn check_key(pem: &str) -> Result<()> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map(drop)
        .map_err(|e| Error::new(format!("read a PEM key: {e}")))
}
