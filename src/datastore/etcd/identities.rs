//! Who clients of etcd are, by the certificates in files: read again when those were made anew, for all handshakes from
//! then on. Connections outlive their certificate; who runs for longer than a year needs another one for the next.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::tls::Identity;
use stdx::{Context, Result};

const FILE_MAX_BYTES: u64 = 1 << 20;
/// As many as there are clients that live: one for each datastore and each way to members.
static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

struct Known {
    identity: Weak<Identity>,
    certificate: PathBuf,
    key: PathBuf,
}

/// The identity in two PEM files.
pub(super) fn open(certificate: &Path, key: &Path) -> Result<Arc<Identity>> {
    let identity = Identity::from_pem(&read(certificate)?, &read(key)?)?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|known| known.identity.strong_count() > 0);
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    known.push(Known { identity: Arc::downgrade(&identity), certificate, key });
    Ok(identity)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    rt::fs::read_within(path, FILE_MAX_BYTES)
}

/// Reads all of them again. One that cannot be read stays what it was.
///
/// # Errors
/// The first reason, after all others were read.
pub fn read_again() -> Result<()> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut done = Ok(());
    for Known { identity, certificate, key } in &*known {
        let Some(identity) = identity.upgrade() else { continue };
        let replace = || identity.replace_pem(&read(certificate)?, &read(key)?);
        let replaced = replace().context(|| format!("read {} again", certificate.display()));
        done = done.and(replaced);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_made_anew_count_from_then_on() {
        let dir = std::env::temp_dir().join(format!("datastore-identities-{}", std::process::id()));
        let (crt, key) = (dir.join("client.crt"), dir.join("client.key"));
        rt::fs::create_dir_all(&dir, 0o700).unwrap();
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
            rt::fs::write(&crt, made.cert.pem().as_bytes(), 0o600).unwrap();
            rt::fs::write(&key, made.signing_key.serialize_pem().as_bytes(), 0o600).unwrap();
            made.cert.der().to_vec()
        };
        let first = write();
        let identity = open(&crt, &key).unwrap();
        let gone = open(&crt, &key).unwrap();
        assert_eq!(identity.chain()[0].to_vec(), first);
        drop(gone);
        let second = write();
        // Other tests have files, too.
        let _ = read_again();
        assert_eq!(identity.chain()[0].to_vec(), second);
        rt::fs::write(&key, b"no key", 0o600).unwrap();
        assert!(read_again().is_err());
        assert_eq!(identity.chain()[0].to_vec(), second, "it stays what it was");
        rt::fs::remove_dir_all(dir).unwrap();
    }
}
