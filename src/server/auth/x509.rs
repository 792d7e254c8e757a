//! Client certificates: the subject is the identity. Whether the chain is good TLS has checked.

use wire::x509::{COMMON_NAME, Certificate, ORGANIZATION, attributes};

use crate::user::AUTHENTICATED;
use crate::user::User;

/// Common name as user, organizations as groups.
pub(crate) fn user(der: &[u8]) -> Option<User> {
    let certificate = Certificate::parse(der)?;
    let mut user = User::default();
    for (id, text) in attributes(certificate.subject) {
        match id {
            COMMON_NAME => user.name = text.to_owned(),
            ORGANIZATION => user.groups.push(text.to_owned()),
            _ => {}
        }
    }
    if user.name.is_empty() {
        return None;
    }
    user.groups.push(AUTHENTICATED.to_owned());
    // Upstream tells audit logs which credential it was.
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec![format!("X509SHA256={hex}")],
    );
    Some(user)
}

/// The issuer and subject names of a certificate in DER, to tell which authority signed it.
pub(crate) fn issuer(der: &[u8]) -> Option<Vec<u8>> {
    Some(Certificate::parse(der)?.issuer.to_vec())
}

/// The subject name of a certificate in DER.
pub(crate) fn subject(der: &[u8]) -> Option<Vec<u8>> {
    Some(Certificate::parse(der)?.subject.to_vec())
}
