//! Whose certificate a client gets: by the name that it asks for, of those that Ingresses brought.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use api::{Lens, Object};
use http::tls::{Choose, Identity};
use routes::{Key, Model, Table};
use stdx::{Context, Error, OrdMap, OrdSet, Result};

/// Names of one certificate.
const NAMES_MAX: usize = 256;

/// A certificate with its key, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    identity: Arc<Identity>,
    pub(crate) names: Vec<String>,
    pub(crate) common_name: String,
    pub(crate) serial: String,
    pub(crate) not_after_secs: i64,
}

/// The certificates in use, by name.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    /// `*.` before a name is one label more, a dot alone any number of them.
    by_name: HashMap<String, Arc<Identity>>,
    /// For names of which nobody brought one.
    others: Option<Arc<Identity>>,
    /// For metrics.
    pub(crate) all: Vec<Loaded>,
}

/// Secrets that were read, by key, with the revision; and why a Secret has no certificate.
pub(crate) type Cache = OrdMap<Key, (u64, Result<Loaded, String>)>;

impl Certificates {
    /// Reads those Secrets that changed. Of two certificates for one name the first one counts.
    pub(crate) fn load(model: &Model, table: &Table, cache: &mut Cache) -> Certificates {
        let keys = table.certificates.iter().map(|key| (key, None));
        let of_hosts = table.host_certificates.iter().map(|(key, host)| (key, Some(&**host)));
        let all: Vec<(&Key, Option<&str>)> = keys.chain(of_hosts).collect();
        let wanted: OrdSet<&Key> = all.iter().map(|(key, _)| *key).collect();
        cache.retain(|key, _| wanted.contains(key));
        let mut shown = OrdSet::new();
        let mut certificates = Certificates::default();
        for (key, host) in all {
            let Some(secret) = model.secret(key) else { continue };
            let known = cache.get(key).filter(|(revision, _)| *revision == secret.revision());
            let loaded = match known {
                Some((_, loaded)) => loaded.clone(),
                None => {
                    let loaded = read(secret).map_err(|error| error.to_string());
                    cache.insert(key.clone(), (secret.revision(), loaded.clone()));
                    loaded
                }
            };
            let Ok(loaded) = loaded else { continue };
            let mut add = |name: &str| {
                let identity = Arc::clone(&loaded.identity);
                certificates.by_name.entry(name.to_owned()).or_insert(identity);
            };
            match host {
                // Without the asterisk: of any number of labels.
                Some(host) if !host.is_empty() => add(host.trim_start_matches('*')),
                _ => loaded.names.iter().for_each(|name| add(name)),
            }
            if host == Some("") {
                let others = &mut certificates.others;
                others.get_or_insert_with(|| Arc::clone(&loaded.identity));
            }
            if shown.insert(key) {
                certificates.all.push(loaded);
            }
        }
        certificates
    }
}

fn read(secret: &Object) -> Result<Loaded> {
    let tree = secret.tree();
    let part = |name: &str| {
        let text = tree.entry("data", name).context(|| format!("find {name} in it"))?;
        wire::base64::decode(text).context(|| format!("decode its {name}"))
    };
    let (chain, key) = (part("tls.crt")?, part("tls.key")?);
    let identity = Identity::from_pem(&chain, &key)?;
    describe(identity)
}

fn describe(identity: Arc<Identity>) -> Result<Loaded> {
    let what = || "read the certificate";
    let chain = identity.chain();
    let leaf = chain.first().ok_or_else(|| Error::new("no certificate in the chain"))?;
    let read = wire::x509::read(leaf).context(what)?;
    let common_name = read.subject.common_name;
    // Clients send no addresses as names.
    let mut names: Vec<String> = read.dns_names;
    names.truncate(NAMES_MAX);
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    if names.is_empty() && !common_name.is_empty() {
        names.push(common_name.to_ascii_lowercase());
    }
    Ok(Loaded {
        serial: read.serial,
        not_after_secs: read.not_after.secs(),
        identity,
        names,
        common_name,
    })
}

/// Chooses among the certificates in use; who asks for another name gets the default one.
#[derive(Debug)]
pub(crate) struct Chooser {
    current: RwLock<Arc<Certificates>>,
    default: Loaded,
}

impl Chooser {
    pub(crate) fn new() -> Result<Chooser> {
        Ok(Chooser { current: RwLock::default(), default: default_certificate()? })
    }

    /// Handshakes from now on use these; connections that exist stay as they are.
    pub(crate) fn replace(&self, certificates: Certificates) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }

    fn current(&self) -> Arc<Certificates> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Each certificate that is shown, the default one last.
    pub(crate) fn all(&self) -> Vec<Loaded> {
        let mut all = self.current().all.clone();
        all.push(self.default.clone());
        all
    }
}

impl Chooser {
    /// The certificate that somebody brought for this name.
    fn find(&self, name: &str) -> Option<Arc<Identity>> {
        let current = self.current();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            current.by_name.get(&format!("*.{parent}")).or_else(|| {
                let mut dots = name.match_indices('.').map(|(at, _)| &name[at..]);
                dots.find_map(|suffix| current.by_name.get(suffix))
            })
        };
        current.by_name.get(name).or_else(wildcard).map(Arc::clone)
    }
}

impl Choose for Chooser {
    fn choose(&self, name: &str) -> Option<Arc<Identity>> {
        let others = || self.current().others.clone();
        Some(self.find(name).or_else(others).unwrap_or_else(|| Arc::clone(&self.default.identity)))
    }
}

/// Chooses no certificate for names that nobody brought one for.
#[derive(Debug)]
pub(crate) struct Strict(pub(crate) Arc<Chooser>);

impl Choose for Strict {
    fn choose(&self, name: &str) -> Option<Arc<Identity>> {
        self.0.find(name)
    }
}

/// Chooses no certificate.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Choose for Nobody {
    fn choose(&self, _: &str) -> Option<Arc<Identity>> {
        None
    }
}

/// Traefik's certificate for names of which nobody brought one: self-signed, new at each start, for a year.
fn default_certificate() -> Result<Loaded> {
    const YEAR_SECS: u64 = 365 * 24 * 3600;
    let what = || "make the default certificate";
    let mut random = [0; 32];
    rt::random(&mut random);
    let encode = wire::hex::encode;
    let name = format!("{}.{}.traefik.default", encode(&random[..16]), encode(&random[16..]));
    let key = rcgen::KeyPair::generate().context(what)?;
    let mut params = rcgen::CertificateParams::new(vec![name]).context(what)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "TRAEFIK DEFAULT CERT");
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    let now = u64::try_from(rt::now().wall.secs()).unwrap_or(0);
    params.not_after = params.not_before + Duration::from_secs(now + YEAR_SECS);
    let certificate = params.self_signed(&key).context(what)?;
    describe(Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?)
}
