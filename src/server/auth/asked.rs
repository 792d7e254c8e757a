//! Questions to an administrator's webhooks: what one answered is kept for a while, and the same question is put once at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Lens, Value, json};
use client::Hook;
use ring::digest;
use rt::lock::Semaphore;
use stdx::time::Mono;
use stdx::{Context, Error, Result};

/// The longest answer: a user with its groups.
const ANSWER_MAX_BYTES: usize = 256 << 10;
/// Questions at a time: anybody may send any token.
const QUESTIONS_MAX: usize = 64;
/// Between two lines in the log about a server that does not answer.
const COMPLAINTS_EVERY: Duration = Duration::from_secs(5);
/// Answers that are kept, and what they may take together.
const KEPT_MAX: usize = 8192;
const KEPT_MAX_BYTES: usize = 4 << 20;
/// Of one, beside its text.
const ENTRY_BYTES: usize = 128;

/// What an answer is kept under: a hash of the question, so that no token lies in memory.
pub(super) type Key = [u8; 32];

/// Looks at the status of an answer: how long it is kept, and whether it is worth more than others: a stranger can cause
/// any number of refusals.
pub(super) type Judge<'a> = &'a (dyn Fn(&Value) -> Result<(Duration, bool)> + Send + Sync);

/// A server that is asked by objects with a spec, and answers with their status.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) hook: Hook,
    pub(super) kind: &'static str,
    pub(super) api_version: String,
    /// What upstream calls it in the log.
    pub(super) what: &'static str,
    /// How long a question may take, with its repetitions, and with waiting for its turn.
    pub(super) time_max: Duration,
    pub(super) questions: Semaphore,
    pub(super) kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    answers: HashMap<Key, Entry>,
    n_bytes: usize,
    /// Whoever has a question that is being asked waits for that answer.
    asked: HashMap<Key, Arc<rt::lock::Mutex<()>>>,
    /// When it was last logged that the server cannot be asked.
    complained: Option<Mono>,
}

#[derive(Debug)]
struct Entry {
    until: Mono,
    text: Arc<[u8]>,
    is_worth_more: bool,
}

impl Asked {
    pub(super) fn new(
        hook: Hook,
        (kind, api_version): (&'static str, String),
        what: &'static str,
        time_max: Duration,
    ) -> Asked {
        let questions = Semaphore::new(QUESTIONS_MAX);
        Asked { hook, kind, api_version, what, time_max, questions, kept: Mutex::default() }
    }

    /// The status that answers `spec`. Without a key nothing is kept, and nobody waits for another's answer.
    ///
    /// # Errors
    /// Why there is none, which is logged, but not each time.
    pub(super) async fn answer(
        &self,
        key: Option<Key>,
        spec: &(dyn Fn() -> Value + Send + Sync),
        judge: Judge<'_>,
    ) -> Result<Value> {
        let now = rt::now().mono;
        let known = key.and_then(|key| self.kept().get(&key, now));
        let found = match known {
            Some(text) => Ok(text),
            None => match rt::timeout(self.time_max, self.asking(key, spec, judge)).await {
                Ok(found) => found,
                Err(rt::Elapsed) => Err(Error::new("context deadline exceeded")),
            },
        };
        let read =
            found.and_then(|text| serde_json::from_slice(&text).context(|| "read its answer"));
        if let Err(why) = &read {
            self.complain(why);
        }
        read
    }

    async fn asking(
        &self,
        key: Option<Key>,
        spec: &(dyn Fn() -> Value + Send + Sync),
        judge: Judge<'_>,
    ) -> Result<Arc<[u8]>> {
        let turn = key.map(|key| {
            let lock = Arc::clone(self.kept().asked.entry(key).or_default());
            Turn { asked: self, key, lock }
        });
        let _turn = match &turn {
            Some(turn) => Some(turn.lock.lock().await),
            None => None,
        };
        // Somebody else may have been told meanwhile.
        if let Some(text) = key.and_then(|key| self.kept().get(&key, rt::now().mono)) {
            return Ok(text);
        }
        let _place = self.questions.acquire().await;
        let question = json!({
            "kind": self.kind,
            "apiVersion": self.api_version,
            "metadata": {"creationTimestamp": null},
            "spec": spec(),
            "status": if self.kind == "TokenReview" { json!({"user": {}}) } else { json!({"allowed": false}) },
        });
        let question = question.to_string().into_bytes();
        let text = self.hook.ask(&question, ANSWER_MAX_BYTES).await?;
        let answer = wire::json::parse(&text).context(|| "read its answer")?.tree;
        if answer.str("kind") != self.kind || answer.str("apiVersion") != self.api_version {
            let (kind, version) = (self.kind, &self.api_version);
            return Err(Error::new(format!("its answer is no {kind} of {version}")));
        }
        let (time, is_worth_more) = judge(answer.at("status"))?;
        let text: Arc<[u8]> = answer.at("status").to_string().into_bytes().into();
        if let Some(key) = key.filter(|_| !time.is_zero()) {
            let until = rt::now().mono + time;
            self.kept().put(key, Entry { until, text: Arc::clone(&text), is_worth_more });
        }
        Ok(text)
    }

    /// Tells that nobody answers; not for each question that a stranger causes.
    fn complain(&self, why: &Error) {
        let now = rt::now().mono;
        let mut kept = self.kept();
        let is_due = kept.complained.is_none_or(|last| now.since(last) >= COMPLAINTS_EVERY);
        if is_due {
            kept.complained = Some(now);
            log::error!("Failed to make webhook {} request: {why}", self.what);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Single steps under the lock: a panic leaves nothing half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait for one answer.
struct Turn<'a> {
    asked: &'a Asked,
    key: Key,
    lock: Arc<rt::lock::Mutex<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut kept = self.asked.kept();
        // The map has one, and this is the last who waits.
        if Arc::strong_count(&self.lock) <= 2 {
            kept.asked.remove(&self.key);
        }
    }
}

impl Kept {
    fn get(&self, key: &Key, now: Mono) -> Option<Arc<[u8]>> {
        let entry = self.answers.get(key)?;
        (now < entry.until).then(|| Arc::clone(&entry.text))
    }

    /// Where there is no room, what is over goes first, then what is worth less, then all.
    fn put(&mut self, key: Key, entry: Entry) {
        let now = rt::now().mono;
        let n_bytes = entry.n_bytes();
        for step in 0..3 {
            if self.answers.len() < KEPT_MAX && self.n_bytes + n_bytes <= KEPT_MAX_BYTES {
                break;
            }
            self.answers.retain(|_, entry| match step {
                0 => now < entry.until,
                1 => entry.is_worth_more,
                _ => false,
            });
            self.n_bytes = self.answers.values().map(Entry::n_bytes).sum();
        }
        if let Some(old) = self.answers.insert(key, entry) {
            self.n_bytes -= old.n_bytes();
        }
        self.n_bytes += n_bytes;
    }
}

impl Entry {
    fn n_bytes(&self) -> usize {
        self.text.len() + ENTRY_BYTES
    }
}

/// The key of some texts. Lengths stand before them, so that no two questions look alike.
pub(super) fn key<'a>(texts: impl Iterator<Item = &'a str>) -> Key {
    let mut hash = digest::Context::new(&digest::SHA256);
    for text in texts {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    key
}

/// The duration that a flag or a field says.
///
/// A negative one is none.
pub fn duration(text: &str) -> Option<Duration> {
    stdx::duration::parse(text)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_refusals_go_first() {
        let mut kept = Kept::default();
        let until = rt::now().mono + Duration::from_secs(3600);
        let text: Arc<[u8]> = vec![b' '; 1000].into();
        let nth = |n: usize| key([n.to_string().as_str()].into_iter());
        for n in 0..100 {
            kept.put(nth(n), Entry { until, text: Arc::clone(&text), is_worth_more: true });
        }
        for n in 100..20_000 {
            kept.put(nth(n), Entry { until, text: Arc::clone(&text), is_worth_more: false });
            assert!(kept.answers.len() <= KEPT_MAX && kept.n_bytes <= KEPT_MAX_BYTES);
        }
        let n_bytes: usize = kept.answers.values().map(Entry::n_bytes).sum();
        assert_eq!(kept.n_bytes, n_bytes);
        assert!((0..100).all(|n| kept.get(&nth(n), rt::now().mono).is_some()));
        assert!(kept.get(&nth(0), until).is_none());
        for n in 20_000..30_000 {
            kept.put(nth(n), Entry { until, text: Arc::clone(&text), is_worth_more: true });
            assert!(kept.answers.len() <= KEPT_MAX && kept.n_bytes <= KEPT_MAX_BYTES);
        }
        assert_ne!(key(["a", "b"].into_iter()), key(["ab", ""].into_iter()));
    }
}
