//! Client certificates: the subject is the identity. Whether the chain is good TLS has checked.

use std::sync::{Arc, Mutex, PoisonError};

use stdx::OrdMap;

use super::der;
use crate::user::AUTHENTICATED;
use crate::user::User;

/// Certificates that are remembered: each is a kilobyte, and few clients have one.
const CLIENTS_MAX: usize = 16;

/// What client certificates say, read once: a connection makes many requests with one.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<OrdMap<Vec<u8>, Arc<Client>>>);

/// What a client certificate says.
#[derive(Debug)]
pub(crate) struct Client {
    /// It names an authority of front proxies as its issuer.
    pub(crate) is_proxy: bool,
    /// Whose it is, and when it ends, in seconds since 1970.
    pub(crate) user: Option<(User, u64)>,
}

impl Clients {
    /// `proxies`: the authorities of front proxies in PEM, the same at each call.
    pub(crate) fn get(&self, leaf: &[u8], proxies: &[u8]) -> Arc<Client> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(leaf) {
            return Arc::clone(client);
        }
        let client = Arc::new(Client { is_proxy: is_proxy(leaf, proxies), user: user(leaf) });
        if known.len() >= CLIENTS_MAX {
            known.clear();
        }
        known.insert(leaf.to_vec(), Arc::clone(&client));
        client
    }
}

fn is_proxy(leaf: &[u8], proxies: &[u8]) -> bool {
    let Ok(leaf) = wire::x509::read(leaf) else { return false };
    der::pem(proxies).iter().any(|(_, authority)| {
        wire::x509::read(authority).is_ok_and(|read| read.subject_der == leaf.issuer_der)
    })
}

/// Common name as user, organizations as groups; and when the certificate ends, in seconds since 1970.
fn user(der: &[u8]) -> Option<(User, u64)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_remembered_within_a_bound() {
        let pem = include_bytes!("../../wire/x509.pem");
        let leaf = der::pem(pem).remove(0).1;
        let clients = Clients::default();
        let first = clients.get(&leaf, b"");
        assert_eq!(first.user.as_ref().unwrap().0.name, "alice");
        assert!(!first.is_proxy && Clients::default().get(&leaf, pem).is_proxy);
        assert!(Arc::ptr_eq(&first, &clients.get(&leaf, b"")));
        for n in 0..=u8::try_from(CLIENTS_MAX).unwrap() {
            assert!(clients.get(&[n], b"").user.is_none());
            assert!(clients.0.lock().unwrap().len() <= CLIENTS_MAX);
        }
    }
}
