//! Client certificates: the subject is the identity. Whether the chain is good TLS has checked.

use crate::user::AUTHENTICATED;
use crate::user::User;

/// Common name as user, organizations as groups; and when the certificate ends, in seconds since 1970.
pub(crate) fn user(der: &[u8]) -> Option<(User, u64)> {
    let certificate = wire::x509::read(der).ok()?;
    let subject = certificate.subject;
    if subject.common_name.is_empty() {
        return None;
    }
    let mut user =
        User { name: subject.common_name, groups: subject.organizations, ..User::default() };
    user.groups.push(AUTHENTICATED.to_owned());
    // Upstream tells audit logs which credential it was.
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex = wire::hex::encode(digest.as_ref());
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec![format!("X509SHA256={hex}")],
    );
    Some((user, u64::try_from(certificate.not_after.secs()).unwrap_or(0)))
}
