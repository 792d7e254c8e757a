//! What a batch of transactions will have done, before anyone may know; pure and synchronous.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use stdx::OrdMap;

use crate::driver::{CHANGES_MAX, row_id};
use crate::error::{Error, Result};
use crate::lease::Leases;
use crate::shared::Numbering;
use crate::state::{State, size_bytes};
use crate::txn::{Compare, Done, Failed, Request, Response, Txn};
use crate::types::{Bytes, Class, Event, KeyValue, LeaseId, Limits, Query, Range, Room, Span};

/// What transactions are judged by, besides the batch so far.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub(crate) state: &'a State,
    pub(crate) leases: &'a Leases,
    pub(crate) limits: &'a Limits,
}

pub(crate) struct Plan {
    numbering: Numbering,
    /// The revision that it stands on.
    base: u64,
    /// The last revision given out.
    pub(crate) revision: u64,
    /// The newest version of every key the batch changes.
    pub(crate) outcomes: OrdMap<Bytes, Outcome>,
    /// Those among them that must be on disk first.
    pub(crate) durable: HashSet<Bytes>,
    pub(crate) events: Vec<Arc<Event>>,
    grown_bytes: isize,
    /// The same for each owner of keys.
    owners_grown: HashMap<Box<[u8]>, isize>,
}

pub(crate) struct Outcome {
    pub(crate) id: u64,
    pub(crate) now: Option<KeyValue>,
}

/// A transaction that is being added, and how to take it back.
struct Adding {
    n_events_before: usize,
    undo: Vec<(Bytes, Option<Outcome>)>,
    growth: isize,
    /// What judges its values; `None` if who wrote them vouches for them.
    check: Option<fn(&[u8], &[u8]) -> bool>,
}

/// A transaction whose comparisons, and those of all in it, were judged before anything of it happens.
struct Judged {
    failed: Option<Failed>,
    requests: Vec<Request>,
    /// One for each transaction among the requests.
    inner: VecDeque<Judged>,
}

impl Plan {
    pub(crate) fn new(revision: u64, numbering: Numbering) -> Plan {
        Plan {
            numbering,
            base: revision,
            revision,
            outcomes: OrdMap::new(),
            durable: HashSet::new(),
            events: Vec::new(),
            grown_bytes: 0,
            owners_grown: HashMap::new(),
        }
    }

    /// Judges a transaction by the state and the batch so far, and adds what it does.
    ///
    /// # Errors
    /// Why nothing of it can happen; then it is not in the plan.
    pub(crate) fn add(
        &mut self,
        base: Base<'_>,
        txn: Txn,
        class: Class,
        room: Room,
    ) -> Result<Done> {
        let foreign = txn.foreign;
        let judged = self.judge(base.state, txn);
        let mut adding = Adding {
            n_events_before: self.events.len(),
            undo: Vec::new(),
            growth: 0,
            check: foreign.then_some(base.limits.check),
        };
        let failed = judged.failed.clone();
        let done = self
            .carry_out_all(base, judged, &mut adding)
            .and_then(|responses| self.check_room(base, &adding, room).map(|()| responses));
        let responses = match done {
            Ok(responses) => responses,
            Err(error) => {
                self.take_back(adding);
                return Err(error);
            }
        };
        if let Some(what) = self.unsound(base.state, &adding) {
            // The request ends with it, and not the committer, which everybody needs.
            self.take_back(adding);
            return Err(Error::Invalid(format!("what cannot be: {what}")));
        }
        self.account(base.state, &adding);
        let events = self.events[adding.n_events_before..].to_vec();
        if class == Class::Durable {
            self.durable.extend(events.iter().map(|event| Arc::clone(&event.key)));
        }
        let revision = match events.last() {
            Some(last) => last.revision,
            None => base.state.revision,
        };
        self.revision = self.revision.max(revision);
        Ok(Done { failed, responses, revision, events })
    }

    /// Asks what was added whether it follows what was there.
    fn unsound(&self, state: &State, adding: &Adding) -> Option<&'static str> {
        self.events[adding.n_events_before..].iter().find_map(|event| {
            if event.revision <= state.revision {
                return Some("A change is given a revision that is taken");
            }
            let now = event.now.as_ref()?;
            let (made, version) = match &event.before {
                Some(before) => (before.create_revision, before.version.saturating_add(1)),
                None => (event.revision, 1),
            };
            let follows = now.mod_revision == event.revision
                && now.create_revision == made
                && now.version == version;
            (!follows).then_some("A version does not follow the one before")
        })
    }

    /// Whether what a transaction may change can be appended with what the plan holds already. An empty
    /// plan takes everything; what is too much even for it is refused by [`Plan::add`].
    pub(crate) fn has_place_for(&self, state: &State, txn: &Txn) -> bool {
        let Numbering::Append { changes_max, bytes_max } = self.numbering else { return true };
        if self.events.is_empty() {
            return true;
        }
        if self.bytes() + txn.bytes() > bytes_max {
            return false;
        }
        let free = changes_max.saturating_sub(self.events.len());
        let fits = |requests: &[Request]| {
            let mut n_changes = 0;
            let changed_before = |span: &Span| match span {
                Span::Key(key) => self.outcomes.contains_key(key),
                span => self.outcomes.keys().any(|key| span.contains(key)),
            };
            let mut all = Vec::new();
            Request::flat(requests, &mut all);
            let mut clear = true;
            for span in all.into_iter().filter_map(Request::changed) {
                n_changes += match &span {
                    Span::Key(_) => 1,
                    span => state.count_up_to(span, free + 1),
                };
                clear &= !changed_before(&span);
            }
            clear && n_changes <= free
        };
        fits(&txn.then) && fits(&txn.otherwise)
    }

    /// What the log is to hold of it, about.
    fn bytes(&self) -> usize {
        let value = |event: &Arc<Event>| event.now.as_ref().map_or(0, |kv| kv.value.len());
        self.events.iter().map(|event| event.key.len() + value(event)).sum()
    }

    fn current<'a>(&'a self, state: &'a State, key: &[u8]) -> Option<&'a KeyValue> {
        match self.outcomes.get(key) {
            Some(outcome) => outcome.now.as_ref(),
            None => state.get(key),
        }
    }

    /// The keys of a query as the batch so far leaves them.
    fn range<'a>(
        &'a self,
        state: &'a State,
        query: &'a Query,
    ) -> impl Iterator<Item = &'a KeyValue> {
        let changed = self.outcomes.iter().filter(|(key, _)| query.covers(key));
        state.overlaid(query, changed.map(|(key, outcome)| (key, outcome.now.as_ref())))
    }

    /// Which branches are taken.
    fn judge(&self, state: &State, txn: Txn) -> Judged {
        let failed = self.first_failed(state, &txn.compares);
        let mut requests = if failed.is_none() { txn.then } else { txn.otherwise };
        let mut inner = VecDeque::new();
        for request in &mut requests {
            if let Request::Txn(txn) = request {
                inner.push_back(self.judge(state, std::mem::take(txn)));
            }
        }
        Judged { failed, requests, inner }
    }

    fn first_failed(&self, state: &State, compares: &[Compare]) -> Option<Failed> {
        compares.iter().enumerate().find_map(|(compare_idx, compare)| {
            let failed = |current: Option<&KeyValue>| match compare.holds(current) {
                true => None,
                false => Some(Failed { compare_idx, current: current.cloned() }),
            };
            match &compare.span {
                Span::Key(key) => failed(self.current(state, key)),
                span => {
                    let query = Query::of(span.clone());
                    let mut found = self.range(state, &query).peekable();
                    match found.peek() {
                        None => failed(None),
                        Some(_) => found.find_map(|kv| failed(Some(kv))),
                    }
                }
            }
        })
    }

    fn carry_out_all(
        &mut self,
        base: Base<'_>,
        judged: Judged,
        adding: &mut Adding,
    ) -> Result<Vec<Response>> {
        let mut inner = judged.inner;
        let one = |request| match request {
            Request::Txn(_) => {
                // There is one for each.
                let Some(judged) = inner.pop_front() else {
                    return Err(Error::Invalid("a transaction was not judged".into()));
                };
                let held = judged.failed.is_none();
                Ok(Response::Txn(held, self.carry_out_all(base, judged, adding)?))
            }
            request => self.carry_out(base, request, adding),
        };
        judged.requests.into_iter().map(one).collect()
    }

    fn carry_out(
        &mut self,
        base: Base<'_>,
        request: Request,
        adding: &mut Adding,
    ) -> Result<Response> {
        let state = base.state;
        match request {
            Request::Put { key, value, lease } => {
                if lease != 0 && !base.leases.contains(lease) {
                    return Err(Error::LeaseNotFound(lease));
                }
                let before = self.current(state, &key).cloned();
                self.put(key, value, lease, before.clone(), adding)?;
                Ok(Response::Put(before))
            }
            Request::Update { key, value, lease } => {
                if let Some(lease) = lease.filter(|lease| *lease != 0)
                    && !base.leases.contains(lease)
                {
                    return Err(Error::LeaseNotFound(lease));
                }
                let before = self.current(state, &key).ok_or(Error::KeyNotFound)?;
                let value = value.unwrap_or_else(|| Arc::clone(&before.value));
                let lease = lease.unwrap_or(before.lease);
                self.carry_out(base, Request::Put { key, value, lease }, adding)
            }
            Request::Delete(Span::Key(key)) => {
                let before: Vec<KeyValue> =
                    self.current(state, &key).cloned().into_iter().collect();
                self.delete(&before, adding)?;
                Ok(Response::Delete(before))
            }
            Request::Delete(span) => {
                let before: Vec<KeyValue> = self.range(state, &Query::of(span)).cloned().collect();
                self.delete(&before, adding)?;
                Ok(Response::Delete(before))
            }
            Request::Range(query) if query.at.is_some() => {
                Ok(Response::Range(state.range(&query)?))
            }
            Request::Txn(_) => Err(Error::Invalid("a transaction was not judged".into())),
            Request::Range(query) => {
                let changed = self.events[adding.n_events_before..].last();
                let revision = changed.map_or(self.revision, |last| last.revision);
                Ok(Response::Range(Range::page(revision, query.limit, self.range(state, &query))))
            }
        }
    }

    fn put(
        &mut self,
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
        before: Option<KeyValue>,
        adding: &mut Adding,
    ) -> Result<()> {
        let (revision, sub) = self.place(adding)?;
        let checked = adding.check.is_none_or(|check| check(&key, &value));
        let kv = KeyValue {
            // One allocation for all versions of a key.
            key: before.as_ref().map_or(key, |kv| Arc::clone(&kv.key)),
            value,
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version.saturating_add(1)),
            sub,
            checked,
            lease,
        };
        adding.growth += signed(size_bytes(&kv));
        self.change(Arc::clone(&kv.key), before, Some(kv), (revision, sub), adding);
        Ok(())
    }

    fn delete(&mut self, found: &[KeyValue], adding: &mut Adding) -> Result<()> {
        for kv in found {
            let place = self.place(adding)?;
            self.change(Arc::clone(&kv.key), Some(kv.clone()), None, place, adding);
        }
        Ok(())
    }

    /// The next change's revision and place in it.
    fn place(&self, adding: &Adding) -> Result<(u64, u32)> {
        let n_changes = self.events.len() - adding.n_events_before;
        let (n_before, most) = match self.numbering {
            Numbering::Append { changes_max, .. } => (self.events.len(), changes_max),
            _ => (n_changes, CHANGES_MAX as usize),
        };
        let Some(sub) = u32::try_from(n_before).ok().filter(|_| n_before < most) else {
            return Err(Error::Invalid(format!("a transaction changes at most {most} keys")));
        };
        Ok(match self.numbering {
            Numbering::Txn => (self.revision + 1, sub),
            Numbering::Change => (self.revision + 1 + u64::from(sub), 0),
            Numbering::Append { .. } => (self.base + 1, sub),
        })
    }

    fn change(
        &mut self,
        key: Bytes,
        before: Option<KeyValue>,
        now: Option<KeyValue>,
        (revision, sub): (u64, u32),
        adding: &mut Adding,
    ) {
        adding.growth -= before.as_ref().map_or(0, |kv| signed(size_bytes(kv)));
        let outcome = Outcome { id: row_id(revision, sub), now: now.clone() };
        let replaced = self.outcomes.insert(Arc::clone(&key), outcome);
        adding.undo.push((Arc::clone(&key), replaced));
        self.events.push(Arc::new(Event { revision, key, now, before }));
    }

    fn take_back(&mut self, adding: Adding) {
        self.events.truncate(adding.n_events_before);
        for (key, outcome) in adding.undo.into_iter().rev() {
            match outcome {
                Some(outcome) => drop(self.outcomes.insert(key, outcome)),
                None => drop(self.outcomes.remove(&key)),
            }
        }
    }

    /// Whose room a transaction takes: that of the first key that it changes.
    fn owner<'a>(&'a self, state: &State, adding: &Adding) -> Option<(&'a [u8], usize)> {
        state.owned(&self.events.get(adding.n_events_before)?.key)
    }

    fn account(&mut self, state: &State, adding: &Adding) {
        if adding.growth == 0 {
            return;
        }
        if let Some(owner) = self.owner(state, adding).map(|(owner, _)| Box::from(owner)) {
            *self.owners_grown.entry(owner).or_default() += adding.growth;
        }
        self.grown_bytes += adding.growth;
    }

    /// Whether the store, and the owner of the first key, may grow by so much.
    fn check_room(&self, base: Base<'_>, adding: &Adding, room: Room) -> Result<()> {
        let Base { state, limits, .. } = base;
        if adding.growth <= 0 {
            return Ok(());
        }
        let full = |held: isize, bytes_max: usize, owner: Option<&[u8]>| {
            let held_bytes = usize::try_from(held).unwrap_or(0);
            match held + adding.growth > signed(bytes_max) {
                true => {
                    Err(Error::Full { held_bytes, bytes_max, owner: owner.map(<[u8]>::to_vec) })
                }
                false => Ok(()),
            }
        };
        let held = signed(state.keys_bytes()) + self.grown_bytes;
        match room {
            Room::Unbounded => Ok(()),
            Room::Whole => full(held, limits.state_bytes_max, None),
            Room::Common => {
                if let Some((owner, owned)) = self.owner(state, adding) {
                    let grown = self.owners_grown.get(owner).copied().unwrap_or(0);
                    full(signed(owned) + grown, limits.owner_bytes_max(), Some(owner))?;
                }
                full(held, limits.common_bytes_max(), None)
            }
        }
    }
}

fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}
