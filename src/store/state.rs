//! The current state and its recent past, in memory; pure and synchronous.
//!
//! The past is a list of events, each holding the version it replaced. A read at an older revision
//! takes the current state and undoes the events since.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use stdx::ordered::{Entry, Iter};
use stdx::{OrdMap, never};

use crate::error::{Error, Result};
use crate::types::{Bytes, Event, KeyValue, Query, Range, Span};

/// Whose a key is.
pub(crate) type Owner = fn(&[u8]) -> Option<&[u8]>;

#[derive(Debug)]
pub(crate) struct State {
    keys: OrdMap<Bytes, KeyValue>,
    keys_bytes: usize,
    owner: Owner,
    /// What each owner of keys holds.
    owned_bytes: OrdMap<Box<[u8]>, usize>,
    /// The newest revision anyone may see.
    pub(crate) revision: u64,
    /// Reads and watches go back to here; nothing at or below it is in `history`.
    pub(crate) compact_revision: u64,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
}

impl State {
    /// A state without a past, as loaded from disk.
    pub(crate) fn new(keys: OrdMap<Bytes, KeyValue>, revision: u64, owner: Owner) -> State {
        let mut state = State {
            keys: OrdMap::new(),
            keys_bytes: 0,
            owner,
            owned_bytes: OrdMap::new(),
            revision,
            compact_revision: revision,
            history: VecDeque::new(),
            history_bytes: 0,
        };
        for kv in keys.values() {
            state.account(&kv.key, 0, size_bytes(kv));
        }
        state.keys = keys;
        state
    }

    /// Counts a version of `key` that another one of it replaces; 0 is none.
    fn account(&mut self, key: &[u8], before: usize, now: usize) {
        self.keys_bytes = self.keys_bytes + now - before;
        let Some(owner) = (self.owner)(key) else { return };
        match self.owned_bytes.get_mut(owner) {
            Some(held) => *held = *held + now - before,
            None => drop(self.owned_bytes.insert(owner.into(), now)),
        }
        if self.owned_bytes.get(owner) == Some(&0) {
            self.owned_bytes.remove(owner);
        }
    }

    /// What the owner of a key holds, and who that is.
    pub(crate) fn owned<'a>(&self, key: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let owner = (self.owner)(key)?;
        Some((owner, self.owned_bytes.get(owner).copied().unwrap_or(0)))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub(crate) fn n_keys(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keys_bytes(&self) -> usize {
        self.keys_bytes
    }

    pub(crate) fn n_history(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Makes one change visible. Events come in revision order.
    pub(crate) fn apply(&mut self, event: &Arc<Event>) {
        never!(event.revision < self.revision, "A revision is smaller than the one before");
        let old = match &event.now {
            Some(kv) => {
                match self.keys.entry(Arc::clone(&event.key)) {
                    // The map's own key and the version's are the same allocation.
                    Entry::Occupied(mut slot) => Some(slot.insert(kv.clone())),
                    Entry::Vacant(slot) => {
                        slot.insert(kv.clone());
                        None
                    }
                }
            }
            None => self.keys.remove(&*event.key),
        };
        let now = event.now.as_ref().map_or(0, size_bytes);
        self.account(&event.key, old.as_ref().map_or(0, size_bytes), now);
        self.revision = event.revision;
        self.history_bytes += event.weight_bytes();
        self.history.push_back(Arc::clone(event));
    }

    /// Forgets the oldest past beyond the bounds.
    pub(crate) fn trim(&mut self, events_max: usize, bytes_max: usize) {
        while self.history.len() > events_max || self.history_bytes > bytes_max {
            self.forget_oldest();
        }
        // A revision's changes are forgotten together, or a resumed watch would see half of it.
        while self.history.front().is_some_and(|event| event.revision <= self.compact_revision) {
            self.forget_oldest();
        }
    }

    /// Forgets the past up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: u64) {
        while self.history.front().is_some_and(|event| event.revision <= revision) {
            self.forget_oldest();
        }
        self.compact_revision = self.compact_revision.max(revision);
        if self.history.is_empty() {
            self.history.shrink_to(HISTORY_IDLE_MAX);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= event.weight_bytes();
            self.compact_revision = self.compact_revision.max(event.revision);
        }
    }

    /// The changes after `revision` to keys of `spans`, oldest first.
    pub(crate) fn changes(&self, spans: &[Span], revision: u64) -> Result<VecDeque<Arc<Event>>> {
        self.check_compacted(revision)?;
        let matches = |event: &&Arc<Event>| spans.iter().any(|span| span.contains(&event.key));
        Ok(self.history_after(revision).filter(matches).cloned().collect())
    }

    /// The first changes after `revision` to keys of a span, whole revisions; and, if there are more, up
    /// to where they go.
    pub(crate) fn page(
        &self,
        span: &Span,
        revision: u64,
    ) -> Result<(Vec<Arc<Event>>, Option<u64>)> {
        self.check_compacted(revision)?;
        let (mut events, mut bytes) = (Vec::<Arc<Event>>::new(), 0);
        for event in self.history_after(revision).filter(|event| span.contains(&event.key)) {
            let full = events.len() >= PAGE_EVENTS || bytes > PAGE_BYTES;
            if full
                && let Some(last) = events.last().map(|event| event.revision)
                && last != event.revision
            {
                return Ok((events, Some(last)));
            }
            bytes += event.weight_bytes();
            events.push(Arc::clone(event));
        }
        Ok((events, None))
    }

    pub(crate) fn range(&self, query: &Query) -> Result<Range> {
        match query.at.filter(|at| *at != self.revision) {
            None => {
                let found = self.keys_of(query).map(|(_, kv)| kv);
                Ok(Range::page(self.revision, query.limit, found))
            }
            Some(at) if at > self.revision => {
                Err(Error::Future { asked: at, revision: self.revision })
            }
            Some(at) => {
                self.check_compacted(at)?;
                Ok(Range::page(at, query.limit, self.keys_at(query, at)))
            }
        }
    }

    fn check_compacted(&self, asked: u64) -> Result<()> {
        if asked < self.compact_revision {
            return Err(Error::Compacted { asked, compact_revision: self.compact_revision });
        }
        Ok(())
    }

    fn history_after(&self, revision: u64) -> impl Iterator<Item = &Arc<Event>> {
        let n_before = self.history.partition_point(|event| event.revision <= revision);
        self.history.range(n_before..)
    }

    /// The current keys a query covers, in order.
    fn keys_of(&self, query: &Query) -> Iter<'_, Bytes, KeyValue> {
        let start = match &query.after {
            Some(after) if **after >= *query.span.start() => Bound::Excluded(&**after),
            _ => Bound::Included(query.span.start()),
        };
        let end = match &query.span {
            Span::Key(key) => Bound::Included(key.to_vec()),
            Span::Prefix(prefix) => prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded),
            Span::Between(_, end) => Bound::Excluded(end.to_vec()),
            Span::From(_) => Bound::Unbounded,
        };
        let end = match &end {
            Bound::Included(end) => Bound::Included(&**end),
            Bound::Excluded(end) => Bound::Excluded(&**end),
            Bound::Unbounded => Bound::Unbounded,
        };
        self.keys.range::<[u8]>((start, end))
    }

    /// The keys a query covers as they were at `at`: the current ones with later changes undone.
    fn keys_at<'a>(&'a self, query: &'a Query, at: u64) -> impl Iterator<Item = &'a KeyValue> {
        let mut undone: OrdMap<&Bytes, Option<&KeyValue>> = OrdMap::new();
        for event in self.history_after(at).filter(|event| query.covers(&event.key)) {
            undone.entry(&event.key).or_insert(event.before.as_ref());
        }
        self.overlaid(query, undone.into_iter())
    }

    /// The keys a query covers, where `others` (covered too, in order) take the place of the current
    /// ones: another version, or `None` for a key that is not there.
    pub(crate) fn overlaid<'a>(
        &'a self,
        query: &Query,
        others: impl Iterator<Item = (&'a Bytes, Option<&'a KeyValue>)>,
    ) -> impl Iterator<Item = &'a KeyValue> {
        let mut now = self.keys_of(query).peekable();
        let mut others = others.peekable();
        std::iter::from_fn(move || {
            loop {
                let order = match (now.peek(), others.peek()) {
                    (Some((key, _)), Some((other, _))) => (*key).cmp(other),
                    (None, Some(_)) => Ordering::Greater,
                    (_, None) => Ordering::Less,
                };
                if order == Ordering::Equal {
                    now.next();
                }
                if order == Ordering::Less {
                    return now.next().map(|(_, kv)| kv);
                }
                if let Some((_, Some(kv))) = others.next() {
                    return Some(kv);
                }
            }
        })
    }

    /// How many keys a span holds now.
    pub(crate) fn count(&self, span: &Span) -> usize {
        self.keys_of(&Query::of(span.clone())).count()
    }

    /// The same, counting no further than `most`.
    pub(crate) fn count_up_to(&self, span: &Span, most: usize) -> usize {
        self.keys_of(&Query::of(span.clone())).take(most).count()
    }
}

/// Changes of one page, about.
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES: usize = 1 << 20;

/// A drained history keeps room for this many events.
const HISTORY_IDLE_MAX: usize = 64;

/// What a key counts in the bound of the whole state.
pub(crate) fn size_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

/// The first key after all that start with `prefix`; `None` if there is none.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let n_kept = prefix.iter().rposition(|byte| *byte != u8::MAX)? + 1;
    let mut end = prefix[..n_kept].to_vec();
    // `n_kept` is at least 1 and that byte is below 255.
    end[n_kept - 1] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, create_revision: u64, mod_revision: u64) -> KeyValue {
        KeyValue {
            key: key.as_bytes().into(),
            value: mod_revision.to_string().as_bytes().into(),
            create_revision,
            mod_revision,
            version: 1,
            sub: 0,
            checked: true,
            lease: 0,
        }
    }

    fn put(state: &mut State, key: &str) {
        let revision = state.revision + 1;
        let before = state.get(key.as_bytes()).cloned();
        let created = before.as_ref().map_or(revision, |kv| kv.create_revision);
        let now = kv(key, created, revision);
        let event = Event { revision, key: Arc::clone(&now.key), now: Some(now), before };
        state.apply(&Arc::new(event));
    }

    fn delete(state: &mut State, key: &str) {
        let before = state.get(key.as_bytes()).cloned();
        let revision = state.revision + 1;
        let event = Event { revision, key: key.as_bytes().into(), now: None, before };
        state.apply(&Arc::new(event));
    }

    fn shown(range: Result<Range>) -> String {
        match range {
            Err(error) => error.to_string(),
            Ok(range) => {
                let items = range.items.iter();
                let text: Vec<String> = items
                    .map(|kv| format!("{}@{}", kv.key.escape_ascii(), kv.mod_revision))
                    .collect();
                format!("{} +{}", text.join(" "), range.remaining)
            }
        }
    }

    #[test]
    fn reads_at_every_revision_undo_what_came_later() {
        let mut state = State::new(OrdMap::new(), 1, |_| None);
        put(&mut state, "b"); // 2
        put(&mut state, "a"); // 3
        put(&mut state, "b"); // 4
        delete(&mut state, "b"); // 5
        put(&mut state, "c"); // 6
        put(&mut state, "b"); // 7
        let at = |at, limit, after: Option<&str>| {
            let after = after.map(|after| after.as_bytes().into());
            shown(state.range(&Query { span: Span::prefix(""), at: Some(at), limit, after }))
        };
        let all: Vec<String> = (1..=8).map(|revision| at(revision, 0, None)).collect();
        assert_eq!(
            all,
            [
                " +0",
                "b@2 +0",
                "a@3 b@2 +0",
                "a@3 b@4 +0",
                "a@3 +0",
                "a@3 c@6 +0",
                "a@3 b@7 c@6 +0",
                "revision 8 is in the future, the current one is 7",
            ]
        );
        assert_eq!(at(4, 1, None), "a@3 +1");
        assert_eq!(at(4, 1, Some("a")), "b@4 +0");
        assert_eq!(at(7, 1, Some("a")), "b@7 +1");
    }

    #[test]
    fn compaction_and_bounds_take_away_the_past_only() {
        let mut state = State::new(OrdMap::new(), 1, |_| None);
        for key in ["a", "b", "a", "c"] {
            put(&mut state, key);
        }
        state.compact(3);
        let old = Query { at: Some(2), ..Query::prefix("") };
        assert_eq!(shown(state.range(&old)), "revision 2 is compacted, the oldest kept is 3");
        let kept = Query { at: Some(3), ..Query::prefix("") };
        assert_eq!(shown(state.range(&kept)), "a@2 b@3 +0");
        assert!(state.changes(&[Span::prefix("")], 2).is_err());
        assert_eq!(state.changes(&[Span::prefix("")], 3).unwrap().len(), 2);
        state.trim(1, usize::MAX);
        assert_eq!((state.compact_revision, state.n_history()), (4, 1));
        state.trim(0, 0);
        assert_eq!((state.compact_revision, state.history_bytes()), (5, 0));
        assert_eq!(shown(state.range(&Query::prefix(""))), "a@4 b@3 c@5 +0");
    }

    #[test]
    fn odd_spans_are_empty_not_fatal() {
        let mut state = State::new(OrdMap::new(), 1, |_| None);
        put(&mut state, "b");
        let cases = [
            (Span::Between((*b"c").into(), (*b"a").into()), None, " +0"),
            (Span::key("b"), Some("b"), " +0"),
            (Span::key("b"), None, "b@2 +0"),
            (Span::prefix([0xff, 0xff]), None, " +0"),
            (Span::From((*b"a").into()), None, "b@2 +0"),
            (Span::prefix("b"), Some("z"), " +0"),
            (Span::prefix("b"), Some("a"), "b@2 +0"),
        ];
        for (span, after, expected) in cases {
            let after = after.map(|after: &str| after.as_bytes().into());
            let query = Query { span, at: None, limit: 0, after };
            assert_eq!(shown(state.range(&query)), expected, "{query:?}");
        }
    }
}
