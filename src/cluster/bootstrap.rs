//! Bootstrap data: the cluster's keys, encrypted with the server token, kept in the datastore.
//!
//! Format and key are k3s's (pkg/cluster/encrypt.go, storage.go): `/bootstrap/<12 hex of SHA-256(token)>`
//! holds `<salt>:<base64(nonce || ciphertext)>`, AES-256-GCM under PBKDF2-HMAC-SHA1(token, salt, 4096).

use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use stdx::{Context, Error, OrdMap, Result};

use crate::paths::Paths;
use crate::token;

const ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(4096).unwrap();

/// A key or a bundle of certificates.
const FILE_MAX_BYTES: u64 = 256 << 10;
pub const PASSWORDS: &str = "PasswdFile";

/// The files that make a server of this cluster, by k3s's names for them.
const FILES: &[(&str, &str)] = &[
    ("ClientCA", "tls/client-ca.crt"),
    ("ClientCAKey", "tls/client-ca.key"),
    ("ServerCA", "tls/server-ca.crt"),
    ("ServerCAKey", "tls/server-ca.key"),
    ("RequestHeaderCA", "tls/request-header-ca.crt"),
    ("RequestHeaderCAKey", "tls/request-header-ca.key"),
    ("ServiceKey", "tls/service.key"),
    ("ServiceCurrentKey", "tls/service.current.key"),
    (PASSWORDS, "cred/passwd"),
];

/// Those that only some servers have.
const OPTIONAL: &[(&str, &str)] = &[
    ("EncryptionConfig", "cred/encryption-config.json"),
    ("EncryptionHash", "cred/encryption-state.json"),
];

/// Those of servers that have an etcd of their own.
const ETCD: &[(&str, &str)] = &[
    ("ETCDServerCA", "tls/etcd/server-ca.crt"),
    ("ETCDServerCAKey", "tls/etcd/server-ca.key"),
    ("ETCDPeerCA", "tls/etcd/peer-ca.crt"),
    ("ETCDPeerCAKey", "tls/etcd/peer-ca.key"),
];

/// One file with the time it was last changed (RFC 3339).
#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "Timestamp")]
    timestamp: String,
    /// Base64.
    #[serde(rename = "Content")]
    content: String,
}

impl File {
    fn new(bytes: &[u8], now: stdx::time::Wall) -> File {
        File { timestamp: api::time::format(now), content: wire::base64::encode(bytes) }
    }
}

/// Where the bootstrap data of a token lies in the datastore.
pub fn storage_key(token: &str) -> String {
    format!("/bootstrap/{}", &token::hash(token.as_bytes())[..12])
}

/// The cluster's files as one encrypted block.
pub fn collect(paths: &Paths, token: &str, now: stdx::time::Wall) -> Result<Vec<u8>> {
    encrypt(token, &plain(paths, now)?)
}

/// A file by its name here, and what takes its place.
pub type Replaced = (&'static str, Vec<u8>);

/// [`collect`], with files that are not on the disk yet.
pub fn collect_with(
    paths: &Paths,
    token: &str,
    replaced: &[Replaced],
    now: stdx::time::Wall,
) -> Result<Vec<u8>> {
    let mut files = read_all(paths, now)?;
    for (name, bytes) in replaced {
        files.insert(*name, File::new(bytes, now));
    }
    let plain = serde_json::to_vec(&files).context(|| "encode the bootstrap data")?;
    encrypt(token, &plain)
}

/// The cluster's files as who joins gets them, in JSON: all its keys, readable.
pub fn plain(paths: &Paths, now: stdx::time::Wall) -> Result<Vec<u8>> {
    serde_json::to_vec(&read_all(paths, now)?).context(|| "encode the bootstrap data")
}

/// The authorities and the keys of service accounts in `tls/` of a directory, in JSON, for [`replacements`].
pub fn offered(dir: &Path, now: stdx::time::Wall) -> Result<Vec<u8>> {
    let mut files = OrdMap::new();
    for (name, path) in rotatable() {
        if let Some(bytes) = rt::fs::read_record(dir.join(path), FILE_MAX_BYTES)? {
            files.insert(name, File::new(&bytes, now));
        }
    }
    serde_json::to_vec(&files).context(|| "encode the certificates")
}

/// What of [`offered`] files is another one than on the disk.
///
/// # Errors
/// If it cannot be read.
pub fn replacements(paths: &Paths, offered: &[u8]) -> Result<Vec<Replaced>> {
    let files: OrdMap<String, File> =
        serde_json::from_slice(offered).context(|| "decode the certificates")?;
    let mut replaced = Vec::new();
    for (name, _) in rotatable() {
        let Some(file) = files.get(name) else { continue };
        let bytes = wire::base64::decode(&file.content).context(|| format!("decode {name}"))?;
        if !bytes.is_empty() && read(paths, name)?.as_ref() != Some(&bytes) {
            replaced.push((name, bytes));
        }
    }
    Ok(replaced)
}

/// What may be replaced: not the passwords, nor what follows from another file.
fn rotatable() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = FILES.iter().chain(ETCD).copied();
    all.filter(|(name, _)| !["ServiceCurrentKey", PASSWORDS].contains(name))
}

/// A file as it is on the disk.
pub(crate) fn read(paths: &Paths, name: &str) -> Result<Option<Vec<u8>>> {
    let mut all = FILES.iter().chain(OPTIONAL).chain(ETCD);
    match all.find(|(known, _)| *known == name) {
        Some((_, path)) => rt::fs::read_optional(paths.server().join(path)),
        None => Ok(None),
    }
}

/// Where files lie that take their places at the next start.
fn staged(paths: &Paths) -> PathBuf {
    paths.server().join("rotated")
}

/// Keeps files until the next start: what runs goes on with those that it has.
pub fn stage(paths: &Paths, replaced: &[Replaced]) -> Result<()> {
    for (name, path) in FILES.iter().chain(ETCD) {
        let Some((_, bytes)) = replaced.iter().find(|(known, _)| known == name) else { continue };
        let file = staged(paths).join(path);
        rt::fs::create_dir_all(file.parent().unwrap_or(&file), 0o700)?;
        rt::fs::write_atomic(&file, bytes, 0o600)?;
    }
    Ok(())
}

/// Puts staged files in their places, before anything looks at those.
pub fn promote(paths: &Paths) -> Result<()> {
    let staged = staged(paths);
    if !staged.exists() {
        return Ok(());
    }
    for (name, path) in FILES.iter().chain(ETCD) {
        if let Some(bytes) = rt::fs::read_optional(staged.join(path))? {
            log::info!("{name} is the new one from now on");
            let file = paths.server().join(path);
            rt::fs::create_dir_all(file.parent().unwrap_or(&file), 0o700)?;
            rt::fs::write_atomic(file, &bytes, 0o600)?;
        }
    }
    rt::fs::remove_dir_all(staged)
}

/// What the datastore gets is what will be on the disk.
fn read_all(paths: &Paths, now: stdx::time::Wall) -> Result<OrdMap<&'static str, File>> {
    let mut files = OrdMap::new();
    let staged = staged(paths);
    for (name, path) in FILES.iter().chain(OPTIONAL).chain(ETCD) {
        let found = match rt::fs::read_optional(staged.join(path))? {
            Some(bytes) => Some(bytes),
            None => rt::fs::read_optional(paths.server().join(path))?,
        };
        if let Some(bytes) = found {
            files.insert(*name, File::new(&bytes, now));
        }
    }
    Ok(files)
}

/// Writes the files that are missing on disk from a block of the datastore. Where none is, the block
/// stays shut: its key takes longer to derive than anything else of a start. `optional` is for what the secrets encryption has.
///
/// # Errors
/// If the token does not open the block: it belongs to another cluster.
pub fn restore(paths: &Paths, token: &str, block: &[u8], optional: bool) -> Result<()> {
    let is_there = |path| rt::fs::metadata(paths.server().join(path)).is_ok();
    let wanted = || FILES.iter().chain(OPTIONAL.iter().filter(|_| optional));
    if wanted().all(|(_, path)| is_there(path)) {
        return Ok(());
    }
    let plain = decrypt(token, block)?;
    let files: OrdMap<String, File> =
        serde_json::from_slice(&plain).context(|| "decode the bootstrap data")?;
    for (name, path) in wanted() {
        let path = paths.server().join(path);
        let Some(file) = files.get(*name) else { continue };
        if rt::fs::read_optional(&path)?.is_some() {
            continue;
        }
        let bytes = wire::base64::decode(&file.content)
            .context(|| format!("decode {name} in the bootstrap data"))?;
        if let Some(dir) = path.parent() {
            rt::fs::create_dir_all(dir, 0o700)?;
        }
        rt::fs::write_atomic(&path, &bytes, 0o600)?;
    }
    Ok(())
}

/// Makes the disk have what the datastore of several servers has. Where a file is another one, the datastore's counts,
/// unless the disk's was changed after it: then somebody meant something by it. Says whether the disk has files that the
/// datastore lacks.
///
/// # Errors
/// As [`restore`], and where a file on disk is newer; nothing is written then.
pub fn reconcile(paths: &Paths, token: &str, block: &[u8], force: bool) -> Result<bool> {
    take(paths, &decrypt(token, block)?, force)
}

/// [`reconcile`] with what [`plain`] made, here or on another server. What has no name here is left out.
///
/// # Errors
/// As [`reconcile`].
pub fn take(paths: &Paths, plain: &[u8], force: bool) -> Result<bool> {
    let files: OrdMap<String, File> =
        serde_json::from_slice(plain).context(|| "decode the bootstrap data")?;
    let (mut wanted, mut lacks) = (Vec::new(), false);
    for (name, path) in FILES.iter().chain(OPTIONAL).chain(ETCD) {
        let path = paths.server().join(path);
        let Some(file) = files.get(*name) else {
            lacks |= path.exists();
            continue;
        };
        let bytes = wire::base64::decode(&file.content)
            .context(|| format!("decode {name} in the bootstrap data"))?;
        let on_disk = rt::fs::read_optional(&path)?;
        if on_disk.as_ref() == Some(&bytes) {
            continue;
        }
        if on_disk.is_some() && !force {
            let changed = rt::fs::metadata(&path).and_then(|file| file.modified());
            let changed = changed.context(|| format!("look at {}", path.display()))?;
            let changed = changed.duration_since(std::time::SystemTime::UNIX_EPOCH);
            let changed = changed.unwrap_or_default().as_secs();
            let saved = api::time::parse(&file.timestamp).map_or(0, |saved| saved.secs());
            if i64::try_from(changed).unwrap_or(i64::MAX) > saved + SKEW_SECS {
                return Err(Error::new(format!(
                    "{} newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore.",
                    path.display()
                )));
            }
        }
        wanted.push((path, bytes));
    }
    for (path, bytes) in wanted {
        log::debug!("Taking {} from the cluster", path.display());
        if let Some(dir) = path.parent() {
            rt::fs::create_dir_all(dir, 0o700)?;
        }
        rt::fs::write_atomic(&path, &bytes, 0o600)?;
    }
    Ok(lacks)
}

/// Takes the keys of Secrets from a block of the datastore, and nothing else; whether they are other ones. What a server has
/// of its own is not asked for its time: while it runs, only servers change them.
///
/// # Errors
/// As [`restore`].
pub fn take_encryption(paths: &Paths, token: &str, block: &[u8]) -> Result<bool> {
    let plain = decrypt(token, block)?;
    let files: OrdMap<String, File> =
        serde_json::from_slice(&plain).context(|| "decode the bootstrap data")?;
    let mut is_other = false;
    for (name, path) in OPTIONAL {
        let Some(file) = files.get(*name) else { continue };
        let bytes = wire::base64::decode(&file.content)
            .context(|| format!("decode {name} in the bootstrap data"))?;
        let path = paths.server().join(path);
        if rt::fs::read_record(&path, FILE_MAX_BYTES)?.as_ref() != Some(&bytes) {
            rt::fs::write_atomic(&path, &bytes, 0o600)?;
            is_other = true;
        }
    }
    Ok(is_other)
}

/// How far servers' clocks may be apart, as k3s's.
const SKEW_SECS: i64 = 3;

fn key(token: &str, salt: &str) -> Result<LessSafeKey> {
    let mut key = [0; 32];
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA1,
        ROUNDS,
        salt.as_bytes(),
        token.as_bytes(),
        &mut key,
    );
    let key =
        UnboundKey::new(&AES_256_GCM, &key).map_err(|_| Error::new("make the bootstrap key"))?;
    Ok(LessSafeKey::new(key))
}

fn encrypt(token: &str, plain: &[u8]) -> Result<Vec<u8>> {
    let salt = token::random_hex(8);
    let mut nonce = [0; NONCE_LEN];
    rt::random(&mut nonce);
    let mut sealed = plain.to_vec();
    key(token, &salt)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .map_err(|_| Error::new("encrypt the bootstrap data"))?;
    let sealed = [&nonce[..], &sealed].concat();
    Ok(format!("{salt}:{}", wire::base64::encode(&sealed)).into_bytes())
}

fn decrypt(token: &str, block: &[u8]) -> Result<Vec<u8>> {
    let malformed = || "read the bootstrap data: it is malformed";
    let text = std::str::from_utf8(block).context(malformed)?;
    let (salt, sealed) = text.split_once(':').context(malformed)?;
    let sealed = wire::base64::decode(sealed).context(malformed)?;
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).context(malformed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::new(malformed()))?;
    let mut plain = sealed.to_vec();
    let n = key(token, salt)?
        .open_in_place(nonce, Aad::empty(), &mut plain)
        .map_err(|_| {
            Error::new(
                "decrypt the bootstrap data: the datastore belongs to a cluster with another token",
            )
        })?
        .len();
    plain.truncate(n);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_its_token_only() {
        let block = encrypt("secret", b"plain").unwrap();
        assert_eq!(decrypt("secret", &block).unwrap(), b"plain");
        assert!(decrypt("other", &block).unwrap_err().to_string().contains("another token"));
        for bad in [&b""[..], b"abc", b"salt:", b"salt:AAAA", b"\xff:x"] {
            assert!(decrypt("secret", bad).is_err());
        }
        assert_eq!(storage_key("secret"), "/bootstrap/2bb80d537b1d");
    }

    #[test]
    fn is_opened_only_where_a_file_is_missing() {
        let dir = std::env::temp_dir().join(format!("cluster-bootstrap-{}", std::process::id()));
        let paths = Paths::new(&dir);
        for (name, path) in FILES {
            let path = paths.server().join(path);
            rt::fs::create_dir_all(path.parent().unwrap(), 0o700).unwrap();
            rt::fs::write_atomic(path, name.as_bytes(), 0o600).unwrap();
        }
        let block = collect(&paths, "secret", rt::now().wall).unwrap();
        let lost = paths.server().join(FILES[7].1);
        assert_eq!(restore(&paths, "other", &block, false).map_err(|e| e.to_string()), Ok(()));
        rt::fs::remove_file(&lost).unwrap();
        assert!(
            restore(&paths, "other", &block, false)
                .unwrap_err()
                .to_string()
                .contains("another token")
        );
        restore(&paths, "secret", &block, false).unwrap();
        assert_eq!(rt::fs::read_text(&lost).unwrap(), FILES[7].0);
        rt::fs::remove_dir_all(dir).unwrap();
    }
}
