//! Issuing certificates (rcgen) and reading those on disk (x509-cert).

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use stdx::time::Wall;
use stdx::{Context, Error, Result};
use x509_cert::der::{Decode, Encode};

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
    let until = until.min(Parsed::from_pem(&ca.chain_pem)?.not_after);
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
    let parsed = Parsed::from_pem(&ca.chain_pem)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context(|| "prepare a CA")?;
    params.distinguished_name = DistinguishedName::new();
    for (oid, value) in &parsed.subject {
        let kind = match oid.as_slice() {
            [2, 5, 4, 3] => DnType::CommonName,
            [2, 5, 4, 6] => DnType::CountryName,
            [2, 5, 4, 7] => DnType::LocalityName,
            [2, 5, 4, 8] => DnType::StateOrProvinceName,
            [2, 5, 4, 10] => DnType::OrganizationName,
            [2, 5, 4, 11] => DnType::OrganizationalUnitName,
            other => DnType::CustomDnType(other.to_vec()),
        };
        params.distinguished_name.push(kind, value.clone());
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    if let Some(id) = &parsed.subject_key_id {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.clone());
    }
    Ok(Issuer::new(params, key))
}

/// What we look at in a certificate on disk.
pub(crate) struct Parsed {
    subject: Vec<(Vec<u64>, DnValue)>,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
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
        let parsed = x509_cert::Certificate::from_der(&der)
            .map_err(|e| Error::new(format!("parse a certificate: {e}")))?;
        let tbs = &parsed.tbs_certificate;
        let encode = |name: &x509_cert::name::Name| {
            name.to_der().map_err(|e| Error::new(format!("encode a name: {e}")))
        };
        let mut subject = Vec::new();
        for attribute in tbs.subject.0.iter().flat_map(|rdn| rdn.0.iter()) {
            let oid = attribute.oid.arcs().map(u64::from).collect();
            let text = String::from_utf8_lossy(attribute.value.value()).into_owned();
            let value = match u8::from(x509_cert::der::Tagged::tag(&attribute.value)) {
                0x13 => DnValue::PrintableString(
                    text.as_str()
                        .try_into()
                        .map_err(|e| Error::new(format!("read a CA name: {e:?}")))?,
                ),
                0x16 => DnValue::Ia5String(
                    text.as_str()
                        .try_into()
                        .map_err(|e| Error::new(format!("read a CA name: {e:?}")))?,
                ),
                _ => DnValue::Utf8String(text),
            };
            subject.push((oid, value));
        }
        let mut this = Parsed {
            subject,
            subject_der: encode(&tbs.subject)?,
            issuer_der: encode(&tbs.issuer)?,
            subject_key_id: None,
            authority_key_id: None,
            public_key: tbs
                .subject_public_key_info
                .to_der()
                .map_err(|e| Error::new(format!("read a public key: {e}")))?,
            not_after: Wall::from_secs(
                i64::try_from(tbs.validity.not_after.to_unix_duration().as_secs())
                    .unwrap_or(i64::MAX),
            ),
            dns_names: Vec::new(),
            addresses: Vec::new(),
        };
        this.read_extensions(tbs);
        Ok(this)
    }

    fn read_extensions(&mut self, tbs: &x509_cert::TbsCertificate) {
        use x509_cert::ext::pkix::name::GeneralName;
        use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectAltName, SubjectKeyIdentifier};
        if let Ok(Some((_, id))) = tbs.get::<SubjectKeyIdentifier>() {
            self.subject_key_id = Some(id.0.as_bytes().to_vec());
        }
        if let Ok(Some((_, id))) = tbs.get::<AuthorityKeyIdentifier>() {
            self.authority_key_id = id.key_identifier.map(|id| id.as_bytes().to_vec());
        }
        let Ok(Some((_, names))) = tbs.get::<SubjectAltName>() else { return };
        for name in names.0 {
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

    /// True if `ca` issued it, by name and key identifier.
    pub(crate) fn issued_by(&self, ca: &Parsed) -> bool {
        self.issuer_der == ca.subject_der
            && match (&self.authority_key_id, &ca.subject_key_id) {
                (Some(authority), Some(subject)) => authority == subject,
                _ => true,
            }
    }

    /// True if `key_pem` is its private key.
    pub(crate) fn has_key(&self, key_pem: &str) -> bool {
        use rcgen::PublicKeyData;
        KeyPair::from_pem(key_pem).is_ok_and(|key| key.subject_public_key_info() == self.public_key)
    }
}

/// A certificate of a bundle, as far as others look at it.
pub(crate) struct Authority {
    pub(crate) der: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    algorithm: String,
    key: Vec<u8>,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) is_ca: bool,
    /// What it is good for, as k3s tells it.
    pub(crate) usages: Vec<&'static str>,
    pub(crate) not_before: Wall,
    pub(crate) not_after: Wall,
}

/// All certificates of a PEM text.
pub(crate) fn authorities(pem: &str) -> Result<Vec<Authority>> {
    let sections = wire::pem::sections(pem.as_bytes());
    let certificates = sections.iter().filter(|section| section.label == "CERTIFICATE");
    certificates.map(|section| Authority::from_der(&section.content)).collect()
}

impl Authority {
    fn from_der(der: &[u8]) -> Result<Authority> {
        use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
        let what = |e: x509_cert::der::Error| Error::new(format!("parse a certificate: {e}"));
        let parsed = x509_cert::Certificate::from_der(der).map_err(what)?;
        let tbs = &parsed.tbs_certificate;
        let name = |name: &x509_cert::name::Name| {
            let mut parts = name.0.iter().flat_map(|rdn| rdn.0.iter());
            let common = parts.find(|part| part.oid.arcs().eq([2, 5, 4, 3]));
            common.map_or(String::new(), |part| {
                String::from_utf8_lossy(part.value.value()).into_owned()
            })
        };
        let at = |time: x509_cert::time::Time| {
            Wall::from_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
        };
        let mut usages = Vec::new();
        if let Ok(Some((_, usage))) = tbs.get::<KeyUsage>()
            && usage.key_cert_sign()
        {
            usages.push("CertSign");
        }
        if let Ok(Some((_, extended))) = tbs.get::<ExtendedKeyUsage>() {
            for oid in extended.0 {
                match oid.to_string().as_str() {
                    "1.3.6.1.5.5.7.3.1" => usages.push("ServerAuth"),
                    "1.3.6.1.5.5.7.3.2" => usages.push("ClientAuth"),
                    _ => {}
                }
            }
        }
        if usages.is_empty() {
            usages.push("Unknown");
        }
        let constraints = tbs.get::<BasicConstraints>();
        let key = &tbs.subject_public_key_info.subject_public_key;
        Ok(Authority {
            der: der.to_vec(),
            signed: tbs.to_der().map_err(what)?,
            signature: parsed.signature.raw_bytes().to_vec(),
            algorithm: parsed.signature_algorithm.oid.to_string(),
            key: key.raw_bytes().to_vec(),
            subject: name(&tbs.subject),
            issuer: name(&tbs.issuer),
            is_ca: constraints.is_ok_and(|found| found.is_some_and(|(_, found)| found.ca)),
            usages,
            not_before: at(tbs.validity.not_before),
            not_after: at(tbs.validity.not_after),
        })
    }

    /// Whether the other's key made this one's signature.
    pub(crate) fn is_signed_by(&self, issuer: &Authority) -> bool {
        use ring::signature as ring;
        let algorithms: &[&dyn ring::VerificationAlgorithm] = match self.algorithm.as_str() {
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
            let key = ring::UnparsedPublicKey::new(*algorithm, &issuer.key);
            key.verify(&self.signed, &self.signature).is_ok()
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
            let tbs = x509_cert::Certificate::from_der(der).ok()?.tbs_certificate;
            Some((tbs.subject.to_der().ok()?, tbs.issuer.to_der().ok()?))
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
