//! Image credential providers: programs of the operator's that are asked for an image's credentials.
//!
//! The protocol is `credentialprovider.kubelet.k8s.io`: a request on the program's standard input, a response on its
//! standard output, which says for how long it may be remembered and for what.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Lens, Value, json};
use rt::process::Ended;
use runtime::images::PullAuth;
use stdx::time::Mono;
use stdx::{Context, Error, OrdMap, Result};

use crate::config::CredentialPlugin;
use crate::keyring::{Keyring, covers};

/// How long a program may take, as upstream.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Answers that are remembered, of all programs.
const CACHED_MAX: usize = 256;
/// What is told of a program's complaint.
const COMPLAINT_MAX_BYTES: usize = 256;
/// What an answer for all images is remembered under.
const GLOBAL: &str = "global";

/// The configured programs, and what they said.
#[derive(Debug)]
pub(crate) struct Plugins {
    all: Vec<CredentialPlugin>,
    /// By the program's place and what the answer is for.
    cached: Mutex<OrdMap<(usize, String), Cached>>,
    /// One lock for each program and image that is being asked about now.
    asking: Mutex<OrdMap<(usize, String), Arc<rt::lock::Mutex<()>>>>,
}

#[derive(Debug, Clone)]
struct Cached {
    auths: Vec<(String, PullAuth)>,
    until: Mono,
}

/// What a program answered.
#[derive(Debug)]
struct Answer {
    auths: Vec<(String, PullAuth)>,
    /// What the answer is for, as it is remembered.
    key: String,
    lasts: Duration,
}

impl Plugins {
    pub(crate) fn new(all: Vec<CredentialPlugin>) -> Plugins {
        Plugins { all, cached: Mutex::default(), asking: Mutex::default() }
    }

    /// What the programs know for a repository (`docker.io/library/nginx`), the most specific first. One that fails is
    /// logged, and the others count.
    pub(crate) async fn lookup(&self, repository: &str) -> Vec<PullAuth> {
        let mut ring = Keyring::default();
        for (n, plugin) in self.all.iter().enumerate() {
            if !plugin.images.iter().any(|place| covers(place, repository)) {
                continue;
            }
            match self.known(n, plugin, repository).await {
                Ok(auths) => auths.into_iter().for_each(|(place, auth)| ring.add(&place, auth)),
                Err(error) => log::error!(
                    "Failed getting credential from external registry credential provider {}: {error}",
                    plugin.name
                ),
            }
        }
        ring.lookup(repository)
    }

    /// What is remembered of a program, or else what it says.
    async fn known(
        &self,
        n: usize,
        plugin: &CredentialPlugin,
        repository: &str,
    ) -> Result<Vec<(String, PullAuth)>> {
        if let Some(found) = self.remembered(n, repository) {
            return Ok(found);
        }
        let lock = {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            asking.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(asking.entry((n, repository.to_owned())).or_default())
        };
        let _one = lock.lock().await;
        // Somebody else may have asked while this one waited.
        if let Some(found) = self.remembered(n, repository) {
            return Ok(found);
        }
        let answer = ask(plugin, repository).await?;
        if !answer.lasts.is_zero() {
            let until = rt::now().mono + answer.lasts;
            self.remember((n, answer.key), Cached { auths: answer.auths.clone(), until });
        }
        Ok(answer.auths)
    }

    fn remembered(&self, n: usize, repository: &str) -> Option<Vec<(String, PullAuth)>> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let now = rt::now().mono;
        [repository, registry(repository), GLOBAL].into_iter().find_map(|key| {
            let found = cached.get(&(n, key.to_owned()))?;
            (found.until > now).then(|| found.auths.clone())
        })
    }

    fn remember(&self, key: (usize, String), answer: Cached) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let now = rt::now().mono;
        cached.retain(|_, other| other.until > now);
        if cached.len() < CACHED_MAX || cached.contains_key(&key) {
            cached.insert(key, answer);
        }
    }
}

/// The host and port of a repository.
fn registry(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}

async fn ask(plugin: &CredentialPlugin, repository: &str) -> Result<Answer> {
    let request = json!({
        "kind": "CredentialProviderRequest",
        "apiVersion": plugin.api_version,
        "image": repository,
    });
    let args: Vec<&OsStr> = plugin.args.iter().map(OsStr::new).collect();
    let input = request.to_string();
    let program = plugin.program.as_os_str();
    let asked = rt::process::ask(program, &args, &plugin.env, input.as_bytes(), ANSWER_MAX_BYTES);
    let answer = match rt::timeout(ANSWER_MAX, asked).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Error::new(format!("no answer within {} s", ANSWER_MAX.as_secs()))),
    };
    match answer.ended {
        Some(Ended::Code(0)) => read(&answer.output, plugin, repository),
        ended => {
            let errors = answer.errors.get(..COMPLAINT_MAX_BYTES).unwrap_or(&answer.errors);
            let complaint = String::from_utf8_lossy(errors);
            Err(Error::new(format!("it ended with {ended:?}: {}", complaint.trim().escape_debug())))
        }
    }
}

/// A response; what is in it is not told, for it holds secrets.
fn read(bytes: &[u8], plugin: &CredentialPlugin, repository: &str) -> Result<Answer> {
    let tree: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::new(format!("its answer is no JSON: {:?}", error.classify())))?;
    if tree.str("apiVersion") != plugin.api_version {
        return Err(Error::new(format!(
            "apiVersion from credential plugin response did not match expected apiVersion:{}, actual apiVersion:{}",
            plugin.api_version,
            tree.str("apiVersion")
        )));
    }
    if tree.str("kind") != "CredentialProviderResponse" {
        let kind = tree.str("kind");
        return Err(Error::new(format!(
            "failed to decode CredentialProviderResponse, unexpected Kind: {kind:?}"
        )));
    }
    let key = match tree.str("cacheKeyType") {
        "Image" => repository,
        "Registry" => registry(repository),
        "Global" => GLOBAL,
        other => {
            return Err(Error::new(format!(
                "credential provider plugin did not return a valid cacheKeyType: {other:?}"
            )));
        }
    };
    let lasts = match tree.at("cacheDuration") {
        Value::Null => plugin.cache,
        text => {
            let nanos = text.as_str().and_then(stdx::duration::parse);
            let nanos = nanos.context(|| format!("cacheDuration {text}"))?;
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
        }
    };
    let auths = tree.at("auth").as_object().into_iter().flatten().map(|(place, auth)| {
        let (username, password) = (auth.str("username").to_owned(), auth.str("password").into());
        (place.clone(), PullAuth { username, password, ..PullAuth::default() })
    });
    Ok(Answer { auths: auths.collect(), key: key.to_owned(), lasts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> CredentialPlugin {
        CredentialPlugin {
            name: "p".into(),
            program: "/nowhere/p".into(),
            api_version: "credentialprovider.kubelet.k8s.io/v1".into(),
            images: vec!["*.io".into()],
            cache: Duration::from_secs(5),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    fn answer(changes: &Value) -> Result<Answer, String> {
        let mut tree = json!({
            "kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "cacheKeyType": "Registry", "auth": {"r.io": {"username": "u", "password": "p"}},
        });
        for (name, value) in changes.as_object().unwrap() {
            tree[name] = value.clone();
        }
        read(tree.to_string().as_bytes(), &plugin(), "r.io/a").map_err(|error| error.to_string())
    }

    #[test]
    fn answers_say_what_for_and_how_long() {
        let read = answer(&json!({})).unwrap();
        assert_eq!((read.key.as_str(), read.lasts), ("r.io", Duration::from_secs(5)));
        assert_eq!(read.auths[0].0, "r.io");
        assert_eq!(read.auths[0].1.password.reveal(), "p");
        let read = answer(&json!({"cacheKeyType": "Image", "cacheDuration": "1m0s"})).unwrap();
        assert_eq!((read.key.as_str(), read.lasts), ("r.io/a", Duration::from_secs(60)));
        let read = answer(&json!({"cacheKeyType": "Global", "cacheDuration": "0s"})).unwrap();
        assert_eq!((read.key.as_str(), read.lasts), (GLOBAL, Duration::ZERO));
        for (change, why) in [
            (
                json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1beta1"}),
                "apiVersion from credential plugin response did not match expected apiVersion:credentialprovider.kubelet.k8s.io/v1, actual apiVersion:credentialprovider.kubelet.k8s.io/v1beta1",
            ),
            (
                json!({"kind": "X"}),
                "failed to decode CredentialProviderResponse, unexpected Kind: \"X\"",
            ),
            (
                json!({"cacheKeyType": "image"}),
                "credential provider plugin did not return a valid cacheKeyType: \"image\"",
            ),
            (json!({"cacheDuration": "soon"}), "cacheDuration \"soon\""),
        ] {
            assert_eq!(answer(&change).unwrap_err(), why);
        }
    }

    #[test]
    fn answers_are_remembered_for_what_they_are_for() {
        let plugins = Plugins::new(vec![plugin()]);
        let cached = |secs: u64| Cached {
            auths: vec![("r.io".into(), PullAuth::default())],
            until: rt::now().mono + Duration::from_secs(secs),
        };
        plugins.remember((0, "r.io".into()), cached(60));
        plugins.remember((1, GLOBAL.into()), cached(60));
        plugins.remember((2, "r.io/a".into()), cached(0));
        assert!(
            plugins.remembered(0, "r.io/a").is_some() && plugins.remembered(0, "q.io/a").is_none()
        );
        assert!(plugins.remembered(1, "q.io/a").is_some());
        assert!(plugins.remembered(2, "r.io/a").is_none(), "its time is over");
        for n in 0..2 * CACHED_MAX {
            plugins.remember((0, n.to_string()), cached(60));
        }
        assert_eq!(plugins.cached.lock().unwrap().len(), CACHED_MAX);
    }
}
