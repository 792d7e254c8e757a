//! A bounded cache of upstream's answers, positive and negative.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stdx::time::Mono;
use wire::dns::{Foreign, Name, Query, code};

/// Answers are not kept, and not told to clients, for longer than this.
pub(crate) const TTL_MAX_SECS: u32 = 30;
/// Bytes of answers in each of the two generations.
const GENERATION_MAX_BYTES: usize = 256 << 10;
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// Two generations: when the young one is full it becomes the old one, and what is asked for in the
/// old one becomes young again. So what is used stays, at the cost of two maps and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: Name,
    kind: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    foreign: Arc<Foreign>,
    got: Mono,
    until: Mono,
}

impl Cache {
    /// The answer and its age in seconds, if it is still good.
    pub(crate) fn get(&mut self, query: &Query, now: Mono) -> Option<(Arc<Foreign>, u32)> {
        let key = key_of(query);
        let found = match self.young.get(&key) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(&key)?;
                if entry.until > now {
                    self.insert(key, entry.clone());
                }
                entry
            }
        };
        let age_secs = u32::try_from(now.since(found.got).as_secs()).unwrap_or(u32::MAX);
        (found.until > now).then_some((found.foreign, age_secs))
    }

    /// Keeps an answer for as long as it says, at most [`TTL_MAX_SECS`]. Failures are not kept.
    pub(crate) fn put(&mut self, query: &Query, foreign: Arc<Foreign>, now: Mono) {
        let keeps = matches!(foreign.code, code::NO_ERROR | code::NAME_ERROR) && !foreign.truncated;
        let ttl_secs = foreign.ttl_secs.min(TTL_MAX_SECS);
        if keeps && ttl_secs > 0 {
            let until = now + Duration::from_secs(u64::from(ttl_secs));
            self.insert(key_of(query), Entry { foreign, got: now, until });
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        let size = |entry: &Entry| entry.foreign.size_bytes() + ENTRY_OVERHEAD_BYTES;
        self.young_bytes += size(&entry);
        if let Some(replaced) = self.young.insert(key, entry) {
            self.young_bytes -= size(&replaced);
        }
        if self.young_bytes > GENERATION_MAX_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

fn key_of(query: &Query) -> Key {
    Key {
        name: query.name.to_lower(),
        kind: query.kind,
        dnssec_ok: query.dnssec_ok,
        checking_disabled: query.checking_disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use wire::dns::{Answer, Data, Section, kind};

    fn query(name: &str) -> Query {
        Query { id: 1, ..Query::new(Name::from_text(name).unwrap(), kind::A) }
    }

    fn answer(query: &Query, ttl: u32) -> Arc<Foreign> {
        let mut answer = Answer::new(query, code::NO_ERROR, false, 512);
        let data = Data::Address(IpAddr::from([1, 2, 3, 4]));
        answer.record(Section::Answer, &query.name, ttl, &data);
        Arc::new(Foreign::parse(&answer.finish(), query, 1).unwrap())
    }

    #[test]
    fn answers_age_end_and_stay_bounded() {
        let mut cache = Cache::default();
        let at = |secs| Mono(0) + Duration::from_secs(secs);
        let (short, long) = (query("short.example"), query("LONG.example"));
        cache.put(&short, answer(&short, 5), at(0));
        cache.put(&long, answer(&long, 3600), at(0));
        assert_eq!(cache.get(&short, at(3)).map(|(_, age)| age), Some(3));
        assert!(cache.get(&short, at(5)).is_none());
        assert!(cache.get(&query("long.EXAMPLE"), at(29)).is_some());
        assert!(cache.get(&long, at(30)).is_none());
        cache.put(&short, answer(&short, 0), at(31));
        assert!(cache.get(&short, at(31)).is_none());
        for idx in 0..10_000 {
            let flood = query(&format!("host-{idx}.example"));
            cache.put(&flood, answer(&flood, 30), at(40));
            cache.put(&long, answer(&long, 30), at(40));
        }
        assert!(cache.young.len() + cache.old.len() < 4000);
        assert!(cache.get(&long, at(41)).is_some());
    }
}
