//! Random histories against a naive model of etcd's semantics, with faults and power cuts; seeded.

use std::time::Duration;

use rt::sim::End;
use stdx::{OrdMap, prng::Prng};
use store::{Class, Disk, Error, Event, Expect, Fault, Limits, Op, Query, Span, Store};

const KEYS: [&str; 8] = ["/a", "/a/1", "/a/2", "/b", "/b/1", "/b/11", "/b/2", "/c"];

/// What one key was at some moment: value, create revision, mod revision, version.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Version {
    value: Vec<u8>,
    created: u64,
    modified: u64,
    version: u32,
}

type Snapshot = OrdMap<String, Version>;

/// Every revision's whole state, and per key what a power cut may leave.
#[derive(Default)]
struct Model {
    snapshots: OrdMap<u64, Snapshot>,
    /// The last durable version first, then what was lazy or failed since.
    candidates: OrdMap<String, Vec<Option<Version>>>,
}

impl Model {
    fn now(&self) -> (u64, Snapshot) {
        self.snapshots.last_key_value().map(|(r, s)| (*r, s.clone())).unwrap_or_default()
    }

    fn at(&self, revision: u64) -> Snapshot {
        self.snapshots.range(..=revision).next_back().map(|(_, s)| s.clone()).unwrap_or_default()
    }

    /// The snapshot that a write leads to at `revision`, or the operation that forbids it.
    fn apply(&self, ops: &[Op], revision: u64) -> Result<Option<Snapshot>, usize> {
        let (_, mut snapshot) = self.now();
        let mut changed = false;
        for (idx, op) in ops.iter().enumerate() {
            let key = text(op.key());
            let old = snapshot.get(&key).cloned();
            let expect = match op {
                Op::Put { expect, .. } | Op::Delete { expect, .. } => *expect,
            };
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => old.is_none(),
                Expect::Revision(revision) => old.as_ref().is_some_and(|v| v.modified == revision),
            };
            if !holds {
                return Err(idx);
            }
            match op {
                Op::Put { value, .. } => {
                    let created = old.as_ref().map_or(revision, |v| v.created);
                    let version = old.map_or(1, |v| v.version + 1);
                    let value = value.to_vec();
                    snapshot.insert(key, Version { value, created, modified: revision, version });
                    changed = true;
                }
                Op::Delete { .. } => changed |= snapshot.remove(&key).is_some(),
            }
        }
        Ok(changed.then_some(snapshot))
    }

    fn note(&mut self, ops: &[Op], snapshot: &Snapshot, durable: bool) {
        let (_, before) = self.now();
        for op in ops {
            let key = text(op.key());
            if before.get(&key) == snapshot.get(&key) {
                // Deleting what is absent changes nothing, so it makes nothing durable.
                continue;
            }
            let candidates = self.candidates.entry(key.clone()).or_insert_with(|| vec![None]);
            if durable {
                candidates.clear();
            }
            candidates.push(snapshot.get(&key).cloned());
        }
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

fn shown(kv: &store::KeyValue) -> (String, Version) {
    let version = Version {
        value: kv.value.to_vec(),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
    };
    (text(&kv.key), version)
}

fn random_ops(prng: &mut Prng, snapshot: &Snapshot, serial: u64) -> Vec<Op> {
    let n_ops = 1 + prng.below(3) * prng.below(2);
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..n_ops {
        let key = KEYS[prng.below(KEYS.len() as u64) as usize];
        if ops.iter().any(|op| &**op.key() == key.as_bytes()) {
            continue;
        }
        let current = snapshot.get(key).map_or(7, |v| v.modified);
        let expect = match prng.below(4) {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => Expect::Revision(current),
            _ => Expect::Revision(current.saturating_sub(prng.below(2))),
        };
        let key = key.as_bytes();
        ops.push(if prng.chance(25) {
            Op::Delete { key: key.into(), expect }
        } else {
            let value = serial.to_string().into_bytes().into();
            Op::Put { key: key.into(), value, expect, lease: 0 }
        });
    }
    ops
}

async fn check_reads(store: &Store, model: &Model, prng: &mut Prng) {
    let (revision, _) = model.now();
    assert_eq!(store.revision(), revision);
    let at = revision.saturating_sub(prng.below(12));
    let prefix = ["", "/a", "/b/", "/b/1", "/z"][prng.below(5) as usize];
    let query = Query { at: Some(at), limit: prng.below(4) as usize, ..Query::prefix(prefix) };
    match store.range(&query).await {
        Err(Error::Compacted { .. }) => assert!(at < store.compact_revision()),
        Err(error) => panic!("{error}"),
        Ok(mut range) => {
            assert!(at >= store.compact_revision());
            let mut found: Vec<_> = range.items.iter().map(shown).collect();
            while range.more() {
                let after = range.items.last().map(|kv| kv.key.clone());
                let next = store.range(&Query { after, ..query.clone() }).await.unwrap();
                assert_eq!(next.items.len() + next.remaining, range.remaining);
                found.extend(next.items.iter().map(shown));
                range = next;
            }
            let expected: Vec<_> =
                model.at(at).into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
            assert_eq!(found, expected, "{query:?}");
        }
    }
}

/// A watch from some revision, replayed over the list at that revision, must give the list now.
async fn check_watch(store: &Store, model: &Model, prng: &mut Prng) {
    let (revision, _) = model.now();
    let from = revision.saturating_sub(prng.below(12)).max(store.compact_revision());
    let spans = match prng.below(3) {
        0 => vec![Span::prefix("/")],
        1 => vec![Span::prefix("/b"), Span::key("/b/1")],
        _ => vec![Span::Between((*b"/a/1").into(), (*b"/b/11").into())],
    };
    let covered = |key: &str| spans.iter().any(|span| span.contains(key.as_bytes()));
    let mut state = model.at(from);
    state.retain(|key, _| covered(key));
    let mut watch = store.watch(spans.clone(), Some(from)).await.unwrap();
    let mut last = from;
    while let Some(event) = watch.try_next().unwrap() {
        assert!(event.revision >= last);
        last = event.revision;
        replay(&mut state, &event);
    }
    assert_eq!(watch.progress(), Some(revision));
    let mut expected = model.at(revision);
    expected.retain(|key, _| covered(key));
    assert_eq!(state, expected);
}

fn replay(state: &mut Snapshot, event: &Event) {
    let key = text(&event.key);
    assert_eq!(state.get(&key), event.before.as_ref().map(|kv| shown(kv).1).as_ref());
    match &event.now {
        Some(kv) => state.insert(key, shown(kv).1),
        None => state.remove(&key),
    };
}

async fn history(seed: u64) {
    let mut prng = Prng::new(seed);
    let disk = Disk::new();
    let limits = Limits {
        history_events_max: 20,
        lazy_age_max: Duration::from_secs(100),
        dead_bytes_max: 100,
        ..Limits::default()
    };
    let mut store = Store::open_memory(&disk, limits).await.unwrap();
    let mut model = Model::default();
    model.snapshots.insert(store.revision(), Snapshot::new());
    for serial in 0..400 {
        match prng.below(100) {
            0..70 => {
                let ops = random_ops(&mut prng, &model.now().1, serial);
                let class = if prng.chance(40) { Class::Lazy } else { Class::Durable };
                write(&store, &mut model, ops, class).await;
            }
            70..85 => check_reads(&store, &model, &mut prng).await,
            85..93 => check_watch(&store, &model, &mut prng).await,
            93 => {
                let at = model.now().0.saturating_sub(prng.below(5));
                let done = store.compact(at).await.is_ok();
                assert!(!done || store.compact_revision() == at);
            }
            94 => rt::sleep(Duration::from_secs(prng.below(80))).await,
            95 => store.sync().await.unwrap_or(()),
            96 => match prng.below(3) {
                0 => disk.on_commit(|| Some(Fault::Fail)),
                1 => disk.on_commit(|| Some(Fault::FailAfterWriting)),
                _ => disk.heal(),
            },
            _ => {
                disk.heal();
                let clean = prng.chance(50);
                store = restart(store, &disk, &mut model, limits, clean).await;
            }
        }
    }
    // Whatever happened: dead rows and ghosts do not come back.
    disk.heal();
    restart(store, &disk, &mut model, limits, true).await;
}

async fn write(store: &Store, model: &mut Model, ops: Vec<Op>, class: Class) {
    let before = store.revision();
    let expected = model.apply(&ops, u64::MAX);
    match (store.write(ops.clone(), class).await, expected) {
        (Ok(written), Ok(None)) => {
            assert_eq!(written.revision, before);
            assert!(written.events.is_empty());
        }
        (Ok(written), Ok(Some(_))) => {
            assert!(written.revision > before);
            let snapshot = model.apply(&ops, written.revision).unwrap().unwrap();
            model.note(&ops, &snapshot, class == Class::Durable);
            let mut replayed = model.now().1;
            for event in &written.events {
                assert_eq!(event.revision, written.revision);
                replay(&mut replayed, event);
            }
            assert_eq!(replayed, snapshot);
            model.snapshots.insert(written.revision, snapshot);
        }
        (Err(Error::Conflict { current }), Err(idx)) => {
            let key = text(ops[idx].key());
            assert_eq!(current.map(|kv| shown(&kv).1).as_ref(), model.now().1.get(&key));
        }
        (Err(Error::Storage(_)), Ok(Some(_))) => {
            // It may be on disk all the same, at a revision nobody was told.
            assert_eq!(store.revision(), before);
            let ambiguous = model.apply(&ops, 0).unwrap().unwrap();
            model.note(&ops, &ambiguous, false);
        }
        (found, expected) => panic!("{ops:?}: {found:?}, expected {expected:?}"),
    }
}

async fn restart(
    store: Store,
    disk: &Disk,
    model: &mut Model,
    limits: Limits,
    clean: bool,
) -> Store {
    let (revision, state) = model.now();
    if clean {
        store.close().await.unwrap();
    }
    drop(store);
    disk.cut_power();
    let store = Store::open_memory(disk, limits).await.unwrap();
    assert!(store.revision() >= revision, "revisions never go back");
    let found: Snapshot =
        store.range(&Query::prefix("")).await.unwrap().items.iter().map(shown).collect();
    if clean {
        assert_eq!(found, state, "a clean close loses nothing");
    }
    for (key, candidates) in &model.candidates {
        let is = found.get(key);
        // An ambiguous version's revisions are unknown to the model: it is known by its value.
        let fits = |candidate: &Option<Version>| match (candidate, is) {
            (Some(it), Some(is)) if it.modified == 0 => it.value == is.value,
            (it, is) => it.as_ref() == is,
        };
        assert!(candidates.iter().any(fits), "{key}: {is:?} is none of {candidates:?}");
    }
    model.candidates =
        KEYS.iter().map(|key| (key.to_string(), vec![found.get(*key).cloned()])).collect();
    model.snapshots = OrdMap::from([(store.revision(), found)]);
    store
}

#[test]
fn random_histories_match_the_model() {
    for seed in 0..300 {
        let end = rt::sim::run(seed, 10_000_000, history(seed));
        assert_eq!(end, End::Done(()), "seed {seed}");
    }
}

/// Many writers increment counters with compare-and-swap through faults and delays; a watcher
/// follows. No increment is lost, none is seen twice, and the watch sees what the list holds.
async fn concurrent(seed: u64) {
    let disk = Disk::new();
    let store = Store::open_memory(&disk, Limits::default()).await.unwrap();
    let mut faults = Prng::new(seed);
    disk.on_commit(move || match faults.below(4) {
        0 => Some(Fault::Fail),
        1 => Some(Fault::Delay(Duration::from_millis(faults.below(50)))),
        _ => None,
    });
    let mut watch = store.watch(vec![Span::prefix("/n/")], None).await.unwrap();
    let mut writers = Vec::new();
    for id in 0..10_u64 {
        let store = store.clone();
        let mut prng = Prng::new(seed ^ (id << 32));
        writers.push(rt::spawn(async move {
            let mut n_done = [0_u64; 3];
            for _ in 0..20 {
                let idx = prng.below(3) as usize;
                let key = format!("/n/{idx}");
                let class = if prng.chance(30) { Class::Lazy } else { Class::Durable };
                let current = store.get(&key).await.unwrap();
                let count: u64 = current.as_ref().map_or(0, |kv| text(&kv.value).parse().unwrap());
                let value = (count + 1).to_string().into_bytes();
                let op = match current {
                    None => Op::create(key.as_bytes(), value),
                    Some(kv) => Op::update(key.as_bytes(), value, kv.mod_revision),
                };
                match store.write_one(op, class).await {
                    Ok(written) => {
                        n_done[idx] += 1;
                        assert!(store.revision() >= written.revision, "seen once acknowledged");
                    }
                    Err(Error::Conflict { .. } | Error::Storage(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if prng.chance(30) {
                    rt::sleep(Duration::from_millis(prng.below(30))).await;
                }
            }
            n_done
        }));
    }
    let mut n_done = [0; 3];
    for writer in writers {
        for (sum, n) in n_done.iter_mut().zip(writer.await) {
            *sum += n;
        }
    }
    let mut state = Snapshot::new();
    let mut last = 0;
    while let Some(event) = watch.try_next().unwrap() {
        assert!(event.revision > last);
        last = event.revision;
        replay(&mut state, &event);
    }
    for (idx, n) in n_done.iter().enumerate() {
        let value = state.get(&format!("/n/{idx}")).map_or(0, |v| text(&v.value).parse().unwrap());
        assert_eq!(value, *n, "counter {idx}");
    }
    let listed: Snapshot =
        store.range(&Query::prefix("/n/")).await.unwrap().items.iter().map(shown).collect();
    assert_eq!(state, listed);
}

#[test]
fn concurrent_compare_and_swap_loses_nothing() {
    for seed in 0..100 {
        let end = rt::sim::run(seed, 10_000_000, concurrent(seed));
        assert_eq!(end, End::Done(()), "seed {seed}");
    }
}
