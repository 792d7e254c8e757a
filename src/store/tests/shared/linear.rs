//! Whether what clients and watches of several servers were told is one history.
//!
//! The log's own order is the witness: every acknowledged transaction must stand in it at its revision
//! and answer what a naive model answers there; what was asked after something was answered must not
//! come before it; what failed with an unknown outcome stands in it once or not at all; reads and
//! watches show the witness's states and events, none lost, none twice, none of another order.

use stdx::{OrdMap, OrdSet, time::Mono};
use store::{Done, Event, KeyValue, Range, Span, Txn};

use crate::naive::{Naive, answers, naive_run_numbered, naive_shown, shown, text};

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
    states: OrdMap<u64, Naive>,
    events: OrdMap<u64, Vec<Event>>,
}

impl Witness {
    fn new(history: &[Event]) -> Result<Witness, String> {
        let mut witness = Witness { states: OrdMap::new(), events: OrdMap::new() };
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

    /// Judges the transactions of one revision, in the order in which the log has them; with a revision for
    /// each change it is the last one's, and there is one transaction.
    fn check_txns(
        &self,
        at: u64,
        each_change: bool,
        txns: &[(&Txn, Option<&Done>)],
    ) -> Result<u64, String> {
        // How many revisions it took is not told: one number must explain everything.
        let most = if each_change { CHANGES_MAX.min(at) } else { 1 };
        let mut why = format!("revision {at} is not what {txns:?} do");
        for n in (1..=most).rev() {
            let mut state = self.at(at - n);
            let mut n_changes = 0;
            let mut next = || {
                n_changes += 1;
                if each_change { at - n + n_changes } else { at }
            };
            let run = |(txn, _): &(&Txn, _)| naive_run_numbered(&mut state, txn, &mut next);
            let told: Vec<_> = txns.iter().map(run).collect();
            if state != self.at(at) || each_change && n_changes != n {
                continue;
            }
            let wrong = txns.iter().zip(told).find_map(|((txn, done), expected)| {
                let done = done.as_ref()?;
                let told = (done.failed.is_none(), answers(done));
                (told != expected)
                    .then(|| format!("at {at} told {told:?}, not {expected:?}: {txn:?}"))
            });
            match wrong {
                None => return Ok(n),
                Some(wrong) => why = wrong,
            }
        }
        Err(why)
    }

    /// The place of a marker among the events of its revision.
    fn place(&self, at: u64, marker: &str) -> usize {
        let wrote = |event: &Event| event.now.as_ref().is_some_and(|kv| text(&kv.value) == marker);
        self.events[&at].iter().position(wrote).unwrap()
    }
}

/// More than any transaction here changes.
const CHANGES_MAX: u64 = 40;

/// What is wrong, if anything.
pub(crate) fn check(
    calls: &[Call],
    watches: &[Watched],
    history: &[Event],
    each_change: bool,
) -> Result<(), String> {
    let witness = Witness::new(history)?;
    let mut explained = OrdSet::new();
    // When each call took place, where it is known.
    let mut places: Vec<(&Call, u64, bool)> = Vec::new();
    let mut txns: OrdMap<u64, Vec<(usize, &Txn, Option<&Done>)>> = OrdMap::new();
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
                let among = witness.place(place, marker);
                txns.entry(place).or_default().push((among, txn, done.as_ref()));
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
    for (at, mut txns) in txns {
        txns.sort_by_key(|(among, ..)| *among);
        let txns: Vec<_> = txns.into_iter().map(|(_, txn, done)| (txn, done)).collect();
        let n = witness.check_txns(at, each_change, &txns)?;
        explained.extend(at + 1 - n..=at);
    }
    let system = |events: &Vec<Event>| events.iter().all(|event| event.key.starts_with(b"/k3rs/"));
    let unknown =
        |(revision, events): &(&u64, &Vec<Event>)| !explained.contains(revision) && !system(events);
    if let Some((revision, events)) = witness.events.iter().find(unknown) {
        return Err(format!("nobody asked for revision {revision}: {events:?}"));
    }
    for (call, place, changes) in &places {
        // What nobody was told may have happened after its client gave up.
        let unknown = |call: &Call| matches!(call.what, What::Txn { done: None, .. });
        let answered =
            |other: &&(&Call, u64, bool)| other.0.returned < call.invoked && !unknown(other.0);
        let before = places.iter().filter(answered).map(|other| other.1).max().unwrap_or(0);
        if before > *place || *changes && before == *place {
            return Err(format!(
                "what was asked after revision {before} was answered took place at {place}: {}",
                match &call.what {
                    What::Txn { txn, done, .. } => format!("{txn:?} {done:?}"),
                    What::Read { span, .. } => format!("read of {span:?}"),
                }
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
    // Who wrote it, and at which place of its revision, is nothing that a watch tells.
    let same = |kv: &Option<KeyValue>, other: &Option<KeyValue>| {
        shown(kv) == shown(other)
            && kv.as_ref().map(|kv| kv.create_revision)
                == other.as_ref().map(|kv| kv.create_revision)
    };
    let differ = |(heard, expected): &(&Event, &&Event)| {
        (heard.revision, &heard.key) != (expected.revision, &expected.key)
            || !same(&heard.now, &expected.now)
            || !same(&heard.before, &expected.before)
    };
    let wrong = watch.events.iter().zip(&expected).find(differ);
    wrong.map_or(Ok(()), |(heard, expected)| {
        Err(format!("a watch heard {heard:?}, not {expected:?}"))
    })
}
