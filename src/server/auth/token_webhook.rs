//! Bearer tokens that an administrator's server knows: it is asked by `TokenReview`, and what it said is kept for a while.
//!
//! Source: k8s.io/apiserver/plugin/pkg/authenticator/token/webhook, pkg/authentication/token/cache.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Lens, Value, json};
use client::{Access, Hook};
use ring::digest;
use rt::lock::Semaphore;
use stdx::time::Mono;
use stdx::{Context, Error, Result};

use crate::user::{AUTHENTICATED, User};

/// The longest answer: a user with its groups.
const ANSWER_MAX_BYTES: usize = 256 << 10;
/// Groups, and values of what is extra, of a user.
const TEXTS_MAX: usize = 1024;
/// How long a question may take, with its repetitions, and with waiting for its turn.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Questions at a time: anybody may send any token.
const QUESTIONS_MAX: usize = 64;
/// Between two lines in the log about a server that does not answer.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(5);
/// Answers that are kept.
const KEPT_MAX: usize = 4096;

const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// kube-apiserver's `--authentication-token-webhook-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWebhookOptions {
    /// A kubeconfig; without one nobody is asked.
    pub config_file: Option<PathBuf>,
    pub version: String,
    /// A duration as Go writes it.
    pub cache_ttl: String,
}

impl Default for TokenWebhookOptions {
    fn default() -> TokenWebhookOptions {
        TokenWebhookOptions {
            config_file: None,
            version: "v1beta1".into(),
            cache_ttl: "2m0s".into(),
        }
    }
}

/// The server that knows tokens.
#[derive(Debug)]
pub struct TokenWebhook {
    hook: Hook,
    version: String,
    ttl: Duration,
    questions: Semaphore,
    kept: Mutex<Kept>,
}

/// By digests of tokens with the audiences that they were shown for, so that no token lies in memory.
#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Key, (Mono, Answer)>,
    /// Whoever shows a token that is being asked about waits for that answer.
    asked: HashMap<Key, Arc<rt::lock::Mutex<()>>>,
    /// When it was last logged that the server cannot be asked.
    complained: Option<Mono>,
}

type Key = [u8; 32];
/// Who it is and for which audiences; `None` for a token that is nobody's.
type Answer = Option<(Arc<User>, Vec<String>)>;

impl TokenWebhook {
    /// Reads the kubeconfig. Blocking.
    ///
    /// # Errors
    /// If it cannot be used, or for a version that there is not.
    pub fn open(options: &TokenWebhookOptions) -> Result<Option<Arc<TokenWebhook>>> {
        let Some(file) = &options.config_file else { return Ok(None) };
        let version = options.version.as_str();
        if !VERSIONS.contains(&version) {
            return Err(Error::new(format!(
                "unsupported authentication webhook version {version:?}, supported versions are \"v1\", \"v1beta1\""
            )));
        }
        let ttl = cel::duration(&options.cache_ttl).and_then(|nanos| u64::try_from(nanos).ok());
        let ttl = ttl.map(Duration::from_nanos).context(|| {
            format!(
                "invalid argument {:?} for \"--authentication-token-webhook-cache-ttl\" flag: it is no duration",
                options.cache_ttl
            )
        })?;
        let hook = Access::from_kubeconfig_file(file)
            .and_then(|access| Hook::new(access, "kube-apiserver"))
            .context(|| "use --authentication-token-webhook-config-file")?;
        Ok(Some(Arc::new(TokenWebhook {
            hook,
            version: version.to_owned(),
            ttl,
            questions: Semaphore::new(QUESTIONS_MAX),
            kept: Mutex::default(),
        })))
    }

    /// Who a token belongs to, and which of the audiences that are wanted it is for. A server whose answer names none
    /// speaks for `own`.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        wanted: &[String],
        own: &[String],
    ) -> Answer {
        let key = key(token, wanted);
        let now = rt::now().mono;
        if let Some(answer) = self.kept().get(&key, now) {
            return answer;
        }
        let lock = Arc::clone(self.kept().asked.entry(key).or_default());
        let turn = Turn { webhook: self, key, lock };
        let asking = async {
            // Where nothing is kept, nobody has anything to wait for.
            let is_kept = !self.ttl.is_zero();
            let _turn = if is_kept { Some(turn.lock.lock().await) } else { None };
            // Somebody else may have been told meanwhile.
            if let Some(answer) = self.kept().get(&key, now) {
                return Ok(answer);
            }
            let _place = self.questions.acquire().await;
            let answer = self.ask(token, wanted, own).await?;
            if is_kept {
                self.kept().put(key, rt::now().mono + self.ttl, answer.clone());
            }
            Ok::<Answer, Error>(answer)
        };
        match rt::timeout(WAIT_MAX, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => self.complain(&error.to_string()),
            Err(rt::Elapsed) => self.complain("context deadline exceeded"),
        }
    }

    /// Tells that nobody can say whose a token is; not for each token that a stranger shows.
    fn complain(&self, why: &str) -> Answer {
        let now = rt::now().mono;
        let mut kept = self.kept();
        let is_due = kept.complained.is_none_or(|last| now.since(last) >= COMPLAINTS_EVERY);
        if is_due {
            kept.complained = Some(now);
            log::error!("Failed to make webhook authenticator request: {why}");
        }
        None
    }

    async fn ask(&self, token: &str, wanted: &[String], own: &[String]) -> Result<Answer> {
        let question = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": wanted},
            "status": {"user": {}},
        });
        let question = question.to_string().into_bytes();
        let text = self.hook.ask(&question, ANSWER_MAX_BYTES).await?;
        let answer = wire::json::parse(&text).context(|| "read its answer")?.tree;
        self.read(&answer, wanted, own)
    }

    fn read(&self, answer: &Value, wanted: &[String], own: &[String]) -> Result<Answer> {
        let version = format!("authentication.k8s.io/{}", self.version);
        if answer.str("kind") != "TokenReview" || answer.str("apiVersion") != version {
            return Err(Error::new(format!("its answer is no TokenReview of {version}")));
        }
        let status = answer.at("status");
        let named = texts(status, "audiences");
        let for_whom = if named.is_empty() { own } else { &named[..] };
        let audiences: Vec<String> =
            wanted.iter().filter(|one| for_whom.contains(one)).cloned().collect();
        if audiences.is_empty() || !status.flag("authenticated") {
            let why = status.str("error");
            if !why.is_empty() {
                log::debug!("the token webhook refused a token: {why:?}");
            }
            return Ok(None);
        }
        let user = status.at("user");
        let mut read = User {
            name: user.str("username").to_owned(),
            uid: user.str("uid").to_owned(),
            groups: texts(user, "groups"),
            ..User::default()
        };
        if read.name.is_empty() {
            return Err(Error::new("its answer names no user"));
        }
        for (key, values) in user.at("extra").as_object().into_iter().flatten().take(TEXTS_MAX) {
            read.extra.insert(key.clone(), texts(values, ""));
        }
        if !read.in_group(AUTHENTICATED) {
            read.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(Some((Arc::new(read), audiences)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Single steps under the lock: a panic leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait for one answer.
struct Turn<'a> {
    webhook: &'a TokenWebhook,
    key: Key,
    lock: Arc<rt::lock::Mutex<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut kept = self.webhook.kept();
        // The map has one, and this is the last who waits.
        if Arc::strong_count(&self.lock) <= 2 {
            kept.asked.remove(&self.key);
        }
    }
}

impl Kept {
    fn get(&self, key: &Key, now: Mono) -> Option<Answer> {
        let (until, answer) = self.answers.get(key)?;
        (now < *until).then(|| answer.clone())
    }

    /// A refusal goes before somebody's answer, and all go where that makes no room.
    fn put(&mut self, key: Key, until: Mono, answer: Answer) {
        if self.answers.len() >= KEPT_MAX {
            let now = rt::now().mono;
            self.answers.retain(|_, (until, _)| now < *until);
        }
        if self.answers.len() >= KEPT_MAX {
            self.answers.retain(|_, (_, answer)| answer.is_some());
        }
        if self.answers.len() >= KEPT_MAX {
            self.answers.clear();
        }
        self.answers.insert(key, (until, answer));
    }
}

fn texts(tree: &Value, path: &str) -> Vec<String> {
    let texts = tree.list(path).iter().filter_map(|text| text.as_str().map(str::to_owned));
    texts.take(TEXTS_MAX).collect()
}

/// Lengths stand before texts, so that no two questions look alike.
fn key(token: &str, wanted: &[String]) -> Key {
    let mut hash = digest::Context::new(&digest::SHA256);
    for text in [token].into_iter().chain(wanted.iter().map(String::as_str)) {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}
