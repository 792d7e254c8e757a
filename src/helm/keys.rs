//! Keys and certificates that charts ask for.
//!
//! Where Helm would make an RSA key for a certificate, this makes one of P-256, which whoever speaks TLS takes: nothing
//! in the program makes RSA keys, and boards would take seconds for one. A chart that asks for an RSA key by name is told.

use std::time::Duration;

use charts::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use stdx::time::Wall;
use stdx::{Context, Result};

/// Dates in certificates end with the year 9999.
const DAYS_MAX: i64 = 365 * 1000;

/// A new private key, PKCS #8 in PEM.
///
/// # Errors
/// If no key of this kind can be made.
pub(crate) fn private_key(kind: &str) -> Result<String, String> {
    let algorithm = match kind {
        "ecdsa" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ed25519" => &rcgen::PKCS_ED25519,
        other => return Err(format!("{other} keys cannot be made here: set one in the values")),
    };
    let key = KeyPair::generate_for(algorithm).map_err(|error| error.to_string())?;
    Ok(key.serialize_pem())
}

/// A certificate and its key, in PEM, valid from `now`.
///
/// # Errors
/// If a name, or the authority, cannot be used.
pub(crate) fn certificate(request: &Certificate<'_>, now: Wall) -> Result<(String, String)> {
    let what = || format!("make a certificate for {:?}", request.common_name);
    let key = match request.key {
        Some(pem) => KeyPair::from_pem(pem).context(|| "read the key of a certificate")?,
        None => KeyPair::generate().context(what)?,
    };
    let mut params = CertificateParams::new(Vec::<String>::new()).context(what)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, request.common_name);
    let days = u64::try_from(request.days.clamp(0, DAYS_MAX)).unwrap_or(0);
    let since = Duration::from_secs(u64::try_from(now.secs()).unwrap_or(0));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since;
    params.not_after = params.not_before + Duration::from_secs(days * 86_400);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if request.is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    for name in &request.dns_names {
        let text = name.as_str().try_into().context(|| format!("use {name:?} as a DNS name"))?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    params.subject_alt_names.extend(request.addresses.iter().copied().map(SanType::IpAddress));
    let made = match request.issuer {
        None => params.self_signed(&key),
        Some((certificate, issuer_key)) => {
            params.use_authority_key_identifier_extension = true;
            params.signed_by(&key, &issuer(certificate, issuer_key)?)
        }
    };
    Ok((made.context(what)?.pem(), key.serialize_pem()))
}

/// An authority in PEM, with its own name and key identifier.
fn issuer(certificate: &str, key: &str) -> Result<Issuer<'static, KeyPair>> {
    let what = || "read the certificate of an authority";
    let key = KeyPair::from_pem(key).context(|| "read the key of an authority")?;
    let sections = wire::pem::sections(certificate.as_bytes());
    let first = sections.into_iter().find(|it| it.label == "CERTIFICATE").context(what)?;
    let read = wire::x509::read(&first.content).context(what)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).context(what)?;
    params.distinguished_name = DistinguishedName::new();
    for attribute in read.subject.attributes {
        let kind = match attribute.oid.as_slice() {
            [2, 5, 4, 3] => DnType::CommonName,
            [2, 5, 4, 10] => DnType::OrganizationName,
            [2, 5, 4, 11] => DnType::OrganizationalUnitName,
            other => DnType::CustomDnType(other.to_vec()),
        };
        params.distinguished_name.push(kind, attribute.text);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if let Some(id) = read.subject_key_id {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    }
    Ok(Issuer::new(params, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str) -> Certificate<'_> {
        Certificate {
            common_name: name,
            addresses: vec!["10.0.0.1".parse().unwrap()],
            dns_names: vec!["a.example".to_owned()],
            days: 365,
            is_authority: false,
            key: None,
            issuer: None,
        }
    }

    #[test]
    fn an_authority_vouches_for_what_it_signs() {
        let now = Wall(1_700_000_000 * 1_000_000_000);
        let (ca, ca_key) =
            certificate(&Certificate { is_authority: true, ..request("ca") }, now).unwrap();
        let signed = Certificate { issuer: Some((&ca, &ca_key)), ..request("leaf") };
        let (leaf, _) = certificate(&signed, now).unwrap();
        let [ca, leaf] = [&ca, &leaf].map(|pem| {
            let section = wire::pem::sections(pem.as_bytes()).remove(0);
            wire::x509::read(&section.content).unwrap()
        });
        assert!(leaf.names_issuer(&ca));
        assert_eq!(leaf.not_after.secs() - leaf.not_before.secs(), 365 * 86_400);
        let broken = Certificate { issuer: Some(("nothing", "nothing")), ..request("leaf") };
        assert!(certificate(&broken, now).is_err());
        let long = Certificate { days: i64::MAX, ..request("a") };
        assert!(certificate(&long, now).is_ok());
    }

    #[test]
    fn keys_that_cannot_be_made_are_told() {
        assert!(private_key("ecdsa").unwrap().contains("PRIVATE KEY"));
        assert!(private_key("ed25519").is_ok());
        assert_eq!(
            private_key("rsa").unwrap_err(),
            "rsa keys cannot be made here: set one in the values"
        );
    }
}
