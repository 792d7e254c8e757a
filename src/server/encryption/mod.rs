//! Encryption at rest: which values the disk holds sealed, by an administrator's `EncryptionConfiguration`.
//!
//! Values are sealed where they leave memory (`store::Envelope`), so requests, watches and informers know nothing of
//! it. What the disk holds is what kube-apiserver would have written: `k8s:enc:PROVIDER:v1:KEY:` and the sealed bytes.

mod ciphers;
mod config;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use api::Kind;
use api::kinds::{KINDS, SECRET};
use stdx::{Context, Error, Result};
use store::{Class, Op, Query, Store};

use crate::{files, storage};
use config::{Provider, Rule};

/// Secrets that are written anew in one transaction.
const PAGE_MAX: usize = 64;
const PREFIX: &[u8] = b"k8s:enc:";
/// How upstream's encodings of objects begin. CBC authenticates nothing: another key may leave a padding that looks sound.
const ENCODINGS: [&[u8]; 2] = [b"k8s\0", b"{"];

/// The envelope of a server's store. Without a configuration it opens and seals nothing, and refuses what is sealed.
#[derive(Debug)]
pub struct Encryption {
    path: Option<PathBuf>,
    rules: RwLock<Arc<Vec<Rule>>>,
}

impl Encryption {
    /// By the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read or says something wrong, in upstream's words.
    pub fn new(path: Option<PathBuf>) -> Result<Arc<Encryption>> {
        let rules = path.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Arc::new(Encryption { path, rules: RwLock::new(Arc::new(rules)) }))
    }

    /// Reads the file again; what is written from now on is sealed as it says.
    ///
    /// # Errors
    /// As for [`Encryption::new`]; what was read before stays in force.
    pub fn reload(&self) -> Result<()> {
        if let Some(path) = &self.path {
            let rules = Arc::new(read(path)?);
            *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        }
        Ok(())
    }

    /// Reads the file again whenever it changes (`--encryption-provider-config-automatic-reload`).
    pub async fn follow(self: Arc<Encryption>) {
        let Some(path) = self.path.clone() else { return };
        let known = files::text(&path).ok();
        files::follow(&path, known, "encryption", &|| self.reload()).await;
    }

    fn rules(&self) -> Arc<Vec<Rule>> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes every Secret anew, so that the disk has it as the configuration of now says; how many there are. Watches see
/// new versions, as upstream's do.
///
/// # Errors
/// The store's own.
pub async fn rewrite_secrets(store: &Store) -> Result<usize> {
    let mut query = Query { limit: PAGE_MAX, ..Query::prefix(storage::prefix(&SECRET, "")) };
    let mut n = 0;
    loop {
        let page = store.range(&query).await.context(|| "read the secrets")?;
        let update = |kv: &store::KeyValue| {
            Op::update(kv.key.clone(), kv.value.clone(), kv.mod_revision).with_lease(kv.lease)
        };
        let all: Vec<Op> = page.items.iter().map(update).collect();
        n += all.len();
        if let Some(last) = page.items.last() {
            query.after = Some(last.key.clone());
            let written = store.write(all, Class::Durable).await;
            // Somebody else wrote one meanwhile, and so the others are written one by one.
            for kv in page.items.iter().filter(|_| written.is_err()) {
                match store.write_one(update(kv), Class::Durable).await {
                    Ok(_) | Err(store::Error::Conflict { .. }) => {}
                    Err(error) => return Err(error).context(|| "write a secret anew"),
                }
            }
        }
        if !page.more() {
            return Ok(n);
        }
    }
}

fn read(path: &Path) -> Result<Vec<Rule>> {
    let shown = path.display().to_string();
    let parse = || -> Result<Vec<Rule>, String> {
        let text = files::text(path).map_err(|why| {
            format!("error while loading file: error reading encryption provider configuration file {shown:?}: {why}")
        })?;
        config::parse(&text, &shown)
    };
    parse().map_err(|why| Error::new(format!("error while parsing file: {why}")))
}

impl store::Envelope for Encryption {
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
        let rules = self.rules();
        let Some(provider) = rule(&rules, key).and_then(|rule| rule.providers.first()) else {
            return Ok(None);
        };
        let Some(with) = provider.keys.first() else { return Ok(None) };
        let mut bytes = format!("k8s:enc:{}:v1:{}:", provider.name, with.name).into_bytes();
        bytes.reserve(value.len() + 64);
        with.cipher.seal(key, value, &mut bytes).map_err(Error::new)?;
        Ok(Some(bytes))
    }

    fn open(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        let is_sealed = bytes.starts_with(PREFIX);
        let rules = self.rules();
        let rule = rule(&rules, key);
        if !is_sealed {
            let identity = |rule: &Rule| rule.providers.iter().any(|p| p.keys.is_empty());
            return match rule.is_none_or(identity) {
                true => Ok(None),
                false => Err(Error::new(format!(
                    "{} is not encrypted, and the encryption configuration has no provider identity for it",
                    key.escape_ascii()
                ))),
            };
        }
        let providers = rule.map_or(&[][..], |rule| &rule.providers);
        open(providers, key, bytes).map(Some).context(|| format!("decrypt {}", key.escape_ascii()))
    }
}

/// Several providers may have keys of one name; the first that opens the value counts, as upstream.
fn open(providers: &[Provider], key: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
    let rest = bytes.strip_prefix(PREFIX).unwrap_or(bytes);
    let mut failed = None;
    for provider in providers {
        let own = rest.strip_prefix(provider.name.as_bytes());
        let Some(rest) = own.and_then(|rest| rest.strip_prefix(b":v1:")) else { continue };
        for with in &provider.keys {
            let own = rest.strip_prefix(with.name.as_bytes());
            let Some(sealed) = own.and_then(|rest| rest.strip_prefix(b":")) else { continue };
            match with.cipher.open(key, sealed) {
                Ok(value) if ENCODINGS.iter().any(|start| value.starts_with(start)) => {
                    return Ok(value);
                }
                Ok(_) => failed = Some((with, "what comes out is no object".to_owned())),
                Err(why) => failed = Some((with, why)),
            }
        }
    }
    let mut parts = rest.splitn(4, |byte| *byte == b':');
    let mut part = || parts.next().unwrap_or_default().escape_ascii().to_string();
    let (provider, _version, name) = (part(), part(), part());
    Err(Error::new(match failed {
        Some((with, why)) => format!(
            "the key {:?} of the provider {provider} in the encryption configuration is not the one that it was encrypted with: {why}",
            with.name
        ),
        None => format!(
            "it was encrypted with the key {name:?} of the provider {provider}, which the encryption configuration does not have for it (--secrets-encryption, or --kube-apiserver-arg=encryption-provider-config=FILE)"
        ),
    }))
}

/// The rule for the object at a key: of its resource, else of its group, else of everything.
fn rule<'a>(rules: &'a [Rule], key: &[u8]) -> Option<&'a Rule> {
    if rules.is_empty() {
        return None;
    }
    let (group, resource) = resource_at(key)?;
    let of = |group: &str, resource: &str| {
        rules.iter().find(|rule| rule.resources.iter().any(|(g, r)| g == group && r == resource))
    };
    of(group, resource).or_else(|| of(group, "*")).or_else(|| of("*", "*"))
}

/// Group and resource of the object at a key: a kind in code, or one that is defined, at `GROUP/RESOURCE/`.
fn resource_at(key: &[u8]) -> Option<(&str, &str)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix("/registry/")?;
    let is_of = |kind: &&&'static Kind| {
        rest.strip_prefix(kind.storage_prefix()).is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(kind) = KINDS.iter().find(is_of) {
        return Some((kind.group, kind.plural));
    }
    let mut parts = rest.split('/');
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Envelope;

    const KEY: &str = "/registry/secrets/default/a";
    const VALUE: &[u8] = b"k8s\0value";

    fn with(name: &str, providers: &str) -> Arc<Encryption> {
        let path = std::env::temp_dir().join(format!("k3rs-{name}-{}.yaml", std::process::id()));
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [secrets, configmaps, widgets.example.com, '*.apps'], providers: [{providers}]}}]"
        );
        rt::fs::write(&path, text.as_bytes(), 0o600).unwrap();
        Encryption::new(Some(path)).unwrap()
    }

    fn keys(provider: &str, names: &[(&str, u8)]) -> String {
        let key = |(name, byte): &(&str, u8)| {
            format!("{{name: {name}, secret: {}}}", wire::base64::encode(&[*byte; 32]))
        };
        let keys: Vec<String> = names.iter().map(key).collect();
        format!("{{{provider}: {{keys: [{}]}}}}", keys.join(", "))
    }

    #[test]
    fn the_first_key_writes_and_every_key_reads() {
        for provider in ["aescbc", "aesgcm", "secretbox"] {
            let one = with("one", &keys(provider, &[("k1", 1)]));
            let sealed = one.seal(KEY.as_bytes(), VALUE).unwrap().unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{provider}:v1:k1:").as_bytes()));
            assert!(!sealed.windows(5).any(|part| part == b"value"));
            let open = |providers: String, key: &str| {
                let opened = with("two", &providers).open(key.as_bytes(), &sealed);
                opened.map(|value| value == Some(VALUE.to_vec())).map_err(|e| e.to_string())
            };
            let both = keys(provider, &[("k2", 2), ("k1", 1)]);
            assert_eq!(open(both.clone(), KEY), Ok(true));
            assert_eq!(open(format!("{{identity: {{}}}}, {both}"), KEY), Ok(true));
            // A name may be used twice, by two providers of one type.
            let twice =
                format!("{}, {}", keys(provider, &[("k1", 9)]), keys(provider, &[("k1", 1)]));
            assert_eq!(open(twice, KEY), Ok(true));
            let missing = open(keys(provider, &[("k2", 1)]), KEY).unwrap_err();
            assert_eq!(
                missing,
                format!(
                    "decrypt {KEY}: it was encrypted with the key \"k1\" of the provider {provider}, which the encryption configuration does not have for it (--secrets-encryption, or --kube-apiserver-arg=encryption-provider-config=FILE)"
                )
            );
            let changed = open(keys(provider, &[("k1", 3)]), KEY).unwrap_err();
            assert!(
                changed.starts_with(&format!("decrypt {KEY}: the key \"k1\" of the provider {provider} in the encryption configuration is not the one that it was encrypted with: ")),
                "{changed}"
            );
            let none = Encryption::new(None).unwrap().open(KEY.as_bytes(), &sealed).unwrap_err();
            assert!(none.to_string().contains("the key \"k1\" of the provider"), "{none}");
        }
    }

    #[test]
    fn resources_are_found_by_their_keys() {
        let one = with("which", &keys("aescbc", &[("k1", 1)]));
        for (key, sealed) in [
            (KEY, true),
            ("/registry/configmaps/default/a", true),
            ("/registry/deployments/default/a", true),
            ("/registry/example.com/widgets/default/a", true),
            ("/registry/example.com/gadgets/default/a", false),
            ("/registry/pods/default/a", false),
            ("/registry/secretsx/default/a", false),
            ("/bootstrap/abc", false),
            ("/k3rs/claims/ip/10.43.0.1", false),
        ] {
            assert_eq!(one.seal(key.as_bytes(), VALUE).unwrap().is_some(), sealed, "{key}");
            let plain = one.open(key.as_bytes(), VALUE);
            assert_eq!(plain.is_err(), sealed, "there is no identity: {key}");
        }
        let off = Encryption::new(None).unwrap();
        assert_eq!(off.seal(KEY.as_bytes(), VALUE).unwrap(), None);
        assert_eq!(off.open(KEY.as_bytes(), VALUE).unwrap(), None);
        let identity =
            with("identity", &format!("{{identity: {{}}}}, {}", keys("aescbc", &[("k", 1)])));
        assert_eq!(identity.seal(KEY.as_bytes(), VALUE).unwrap(), None);
        assert_eq!(identity.open(KEY.as_bytes(), VALUE).unwrap(), None);
    }

    #[test]
    fn a_configuration_that_is_wrong_leaves_the_one_before() {
        let one = with("reload", &keys("aescbc", &[("k1", 1)]));
        rt::fs::write(one.path.as_ref().unwrap(), b"kind: Nonsense", 0o600).unwrap();
        assert!(one.reload().unwrap_err().to_string().starts_with("error while parsing file: "));
        assert!(one.seal(KEY.as_bytes(), VALUE).unwrap().is_some());
    }
}
