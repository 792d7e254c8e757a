//! Client certificates: the subject is the identity. Whether the chain is good TLS has checked.

use x509_cert::Certificate;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode};

use crate::user::AUTHENTICATED;
use crate::user::User;

const COMMON_NAME: &str = "2.5.4.3";
const ORGANIZATION: &str = "2.5.4.10";

/// Common name as user, organizations as groups; and when the certificate ends, in seconds since 1970.
pub(crate) fn user(der: &[u8]) -> Option<(User, u64)> {
    let certificate = Certificate::from_der(der).ok()?;
    let mut user = User::default();
    for attribute in certificate.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter()) {
        let value = attribute
            .value
            .decode_as::<Utf8StringRef<'_>>()
            .map(|text| text.as_str().to_owned())
            .or_else(|_| {
                attribute.value.decode_as::<PrintableStringRef<'_>>().map(|t| t.as_str().to_owned())
            });
        let Ok(value) = value else { continue };
        match attribute.oid.to_string().as_str() {
            COMMON_NAME => user.name = value,
            ORGANIZATION => user.groups.push(value),
            _ => {}
        }
    }
    if user.name.is_empty() {
        return None;
    }
    user.groups.push(AUTHENTICATED.to_owned());
    // Upstream tells audit logs which credential it was.
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex = wire::hex::encode(digest.as_ref());
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec![format!("X509SHA256={hex}")],
    );
    let ends = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Some((user, ends.as_secs()))
}

/// The issuer and subject names of a certificate in DER, to tell which authority signed it.
pub(crate) fn issuer(der: &[u8]) -> Option<Vec<u8>> {
    Certificate::from_der(der).ok()?.tbs_certificate.issuer.to_der().ok()
}

/// The subject name of a certificate in DER.
pub(crate) fn subject(der: &[u8]) -> Option<Vec<u8>> {
    Certificate::from_der(der).ok()?.tbs_certificate.subject.to_der().ok()
}
