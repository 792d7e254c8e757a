//! Whether what clients and watches of several servers were told is one history.
//!
//! The log's own order is the witness: every acknowledged transaction must stand in it at its revision
//! and answer what a naive model answers there; what was asked after something was answered must not
//! come before it; what failed with an unknown outcome stands in it once or not at all; reads and
//! watches show the witness's states and events, none lost, none twice, none of another order.

use std::collections::{BTreeMap, BTreeSet};

use stdx::time::Mono;
use store::{Done, Event, Range, Span, Txn};

use crate::naive::{Naive, answers, naive_run, naive_shown, shown, text};

/// What one client asked and was told.
pub(crate) struct Call {
    pub(crate) invoked: Mono,
    pub(crate) returned: Mono,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// The marker is a value that only this transaction writes. `None`: nobody knows.
    Txn {
        txn: Txn,
        marker: String,
        done: Option<Done>,
    },
    Read {
        span: Span,
        found: Range,
    },
}

/// What one watch was told.
pub(crate) struct Watched {
    pub(crate) span: Span,
    pub(crate) after: u64,
    pub(crate) events: Vec<Event>,
    /// Whether it was told everything up to the end.
    pub(crate) whole: bool,
}

struct Witness {
    /// Of each revision, and of the one before the first.
    states: BTreeMap<u64, Naive>,
    events: BTreeMap<u64, Vec<Event>>,
}

impl Witness {
    fn new(history: &[Event]) -> Result<Witness, String> {
        let mut witness = Witness { states: BTreeMap::new(), events: BTreeMap::new() };
        let mut state = Naive::new();
        witness.states.insert(0, Naive::new());
        let mut last = 0;
        for event in history {
            if event.revision < last {
                return Err(format!("revision {} after {last}", event.revision));
            }
            last = event.revision;
            match &event.now {
                Some(kv) => {
                    let version = (
                        text(&kv.value),
                        kv.create_revision,
                        kv.mod_revision,
                        u64::from(kv.version),
                    );
                    state.insert(text(&event.key), version);
                }
                None => drop(state.remove(&text(&event.key))),
            }
            witness.states.insert(last, state.clone());
            witness.events.entry(last).or_default().push(event.clone());
        }
        Ok(witness)
    }

    fn at(&self, revision: u64) -> Naive {
        self.states
            .range(..=revision)
            .next_back()
            .map(|(_, state)| state.clone())
            .unwrap_or_default()
    }

    /// Where a value was written.
    fn found(&self, marker: &str) -> Vec<u64> {
        let wrote = |event: &Event| event.now.as_ref().is_some_and(|kv| text(&kv.value) == marker);
        let of =
            |(revision, events): (&u64, &Vec<Event>)| events.iter().any(wrote).then_some(*revision);
        self.events.iter().filter_map(of).collect()
    }

    fn check_txn(&self, txn: &Txn, at: u64, done: Option<&Done>) -> Result<(), String> {
        let mut state = self.at(at - 1);
        let mut revision = at - 1;
        let (holds, expected) = naive_run(&mut state, &mut revision, txn);
        if state != self.at(at) {
            return Err(format!("revision {at} is not what {txn:?} does"));
        }
        let Some(done) = done else { return Ok(()) };
        if (done.failed.is_none(), answers(done)) != (holds, expected.clone()) {
            let (told, holds_told) = (answers(done), done.failed.is_none());
            return Err(format!(
                "at {at} told {holds_told} {told:?}, not {holds} {expected:?}: {txn:?}"
            ));
        }
        Ok(())
    }
}

/// What is wrong, if anything.
pub(crate) fn check(calls: &[Call], watches: &[Watched], history: &[Event]) -> Result<(), String> {
    let witness = Witness::new(history)?;
    let mut explained = BTreeSet::new();
    // When each call took place, where it is known.
    let mut places: Vec<(&Call, u64, bool)> = Vec::new();
    for call in calls {
        match &call.what {
            What::Txn { txn, marker, done } => {
                let found = witness.found(marker);
                let place = match (done, &found[..]) {
                    (_, [_, _, ..]) => return Err(format!("{marker} happened twice: {found:?}")),
                    (Some(done), [at]) if *at == done.revision => *at,
                    (Some(done), _) => {
                        return Err(format!(
                            "{marker} was acknowledged at {}, found at {found:?}",
                            done.revision
                        ));
                    }
                    (None, [at]) => *at,
                    (None, []) => continue,
                };
                witness.check_txn(txn, place, done.as_ref())?;
                explained.insert(place);
                places.push((call, place, true));
            }
            What::Read { span, found } => {
                let mut expected = witness.at(found.revision);
                expected.retain(|key, _| span.contains(key.as_bytes()));
                if shown(&found.items) != naive_shown(&expected) {
                    return Err(format!(
                        "read of {span:?} at {}: {:?}, not {expected:?}",
                        found.revision, found.items
                    ));
                }
                places.push((call, found.revision, false));
            }
        }
    }
    let system = |events: &Vec<Event>| events.iter().all(|event| event.key.starts_with(b"/k3rs/"));
    let unknown =
        |(revision, events): &(&u64, &Vec<Event>)| !explained.contains(revision) && !system(events);
    if let Some((revision, events)) = witness.events.iter().find(unknown) {
        return Err(format!("nobody asked for revision {revision}: {events:?}"));
    }
    for (call, place, changes) in &places {
        let answered = |other: &&(&Call, u64, bool)| other.0.returned < call.invoked;
        let before = places.iter().filter(answered).map(|other| other.1).max().unwrap_or(0);
        if before > *place || *changes && before == *place {
            return Err(format!(
                "what was asked after revision {before} was answered took place at {place}"
            ));
        }
    }
    watches.iter().try_for_each(|watch| check_watch(watch, &witness))
}

fn check_watch(watch: &Watched, witness: &Witness) -> Result<(), String> {
    let later = witness.events.range(watch.after + 1..).flat_map(|(_, events)| events);
    let expected: Vec<&Event> = later.filter(|event| watch.span.contains(&event.key)).collect();
    let n = watch.events.len();
    if n > expected.len() || watch.whole && n < expected.len() {
        return Err(format!("a watch heard {n} of {} events", expected.len()));
    }
    let wrong = watch.events.iter().zip(&expected).find(|(heard, expected)| heard != *expected);
    wrong.map_or(Ok(()), |(heard, expected)| {
        Err(format!("a watch heard {heard:?}, not {expected:?}"))
    })
}
