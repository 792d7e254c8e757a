//! Two servers on one etcd that is killed and comes back: whether what clients were told is one history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use stdx::prng::Prng;
use store::{Class, Error, Event, Limits, Query, Room, SharedLog, Span, Store, Tail};

use crate::linear::{Call, Watched, What, check};
use crate::naive::{put, random_span, random_txn};
use crate::server::{Etcd, WAIT_MAX};

const CLIENTS: usize = 8;
/// Answers before the etcd is killed, and after it came back.
const ANSWERS: usize = 300;

/// What everybody looks at.
#[derive(Default)]
struct Run {
    n_answers: AtomicUsize,
    n_failures: AtomicUsize,
    /// Clients ask nothing more.
    ending: AtomicBool,
    /// Nothing happens any more.
    ended: AtomicBool,
}

/// Waits until there are so many more.
async fn more(counter: &AtomicUsize, n: usize) {
    let until = counter.load(Ordering::Relaxed) + n;
    let there = async {
        while counter.load(Ordering::Relaxed) < until {
            rt::sleep(Duration::from_millis(10)).await;
        }
    };
    rt::timeout(WAIT_MAX, there).await.expect("nothing goes on");
}

/// Follows the log beside the stores: the witness.
async fn witness(log: Arc<dyn SharedLog>, mut after: u64, run: Arc<Run>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut current = stdx::OrdMap::new();
    loop {
        // What was asked for before the end is all there is.
        let is_last = run.ended.load(Ordering::Acquire);
        let newest = log.newest().await.unwrap_or(0);
        while let Ok(Ok(Tail::Rows { rows, revision })) =
            rt::timeout(Duration::from_secs(3), log.tail(after)).await
        {
            for row in rows {
                let before = match &row.kv {
                    Some(kv) => current.insert(row.key.clone(), kv.clone()),
                    None => current.remove(&row.key),
                };
                let (revision, key) = (row.revision(), row.key.clone());
                events.push(Event { revision, key, now: row.kv, before });
            }
            if revision <= after {
                break;
            }
            after = revision;
        }
        if is_last && newest > 0 && after >= newest {
            return events;
        }
        let _ = rt::timeout(Duration::from_millis(100), log.grown(after)).await;
    }
}

async fn client(stores: Vec<Store>, id: usize, mut prng: Prng, run: Arc<Run>) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut serial = 0;
    while !run.ending.load(Ordering::Relaxed) {
        serial += 1;
        let store = &stores[prng.below(stores.len() as u64) as usize];
        let invoked = rt::now().mono;
        let what = match prng.chance(40) {
            true => {
                let span = random_span(&mut prng);
                if store.fresh().await.is_err() {
                    run.n_failures.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let found = store.range(&Query::of(span.clone())).await.unwrap();
                What::Read { span, found }
            }
            false => {
                let marker = format!("{id}-{serial}");
                let mut txn = random_txn(&mut prng, store.revision());
                for branch in [&mut txn.then, &mut txn.otherwise] {
                    branch.push(put(&format!("/m/{id}"), &marker));
                }
                let class = if prng.chance(30) { Class::Lazy } else { Class::Durable };
                let done = match store.txn(txn.clone(), class, Room::Whole).await {
                    Ok(done) => Some(done),
                    Err(Error::Storage(_)) => {
                        run.n_failures.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                    // A key that changes twice has no place in one revision of an etcd.
                    Err(Error::Invalid(_)) => continue,
                    Err(error) => panic!("{error}"),
                };
                What::Txn { txn, marker, done }
            }
        };
        run.n_answers.fetch_add(1, Ordering::Relaxed);
        calls.push(Call { invoked, returned: rt::now().mono, what });
        rt::sleep(Duration::from_micros(prng.below(5000))).await;
    }
    calls
}

async fn watch(store: Store, span: Span, run: Arc<Run>) -> Watched {
    let after = store.revision();
    let mut watched = Watched { span, after, events: Vec::new(), whole: false };
    let Ok(mut watch) = store.watch(vec![watched.span.clone()], Some(after)).await else {
        return watched;
    };
    loop {
        match rt::timeout(Duration::from_millis(500), watch.next()).await {
            Ok(Ok(store::Item::Event(event))) => watched.events.push((*event).clone()),
            Ok(Ok(store::Item::Progress(_))) => {}
            Ok(Err(_)) => return watched,
            Err(rt::Elapsed) if run.ended.load(Ordering::Acquire) => {
                watched.whole = true;
                return watched;
            }
            Err(rt::Elapsed) => {}
        }
    }
}

#[test]
fn two_servers_have_one_history() {
    let Some(etcd) = Etcd::start(1) else { return };
    let etcd = Arc::new(etcd);
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    rt::start_workers(1);
    rt::block_on(async {
        let mut prng = Prng::new(seed);
        let log = crate::open(&etcd.endpoints()).await;
        log.load().await.unwrap();
        let run = Arc::new(Run::default());
        let witness = rt::spawn(witness(log, 1, Arc::clone(&run)));
        let limits = Limits { dead_bytes_max: 1 << 30, ..Limits::default() };
        let mut stores = Vec::new();
        for _ in 0..2 {
            let log = crate::open(&etcd.endpoints()).await;
            stores.push(Store::share(log, limits).await.unwrap());
        }
        let watches: Vec<_> = stores
            .iter()
            .flat_map(|store| [(store, Span::prefix("/")), (store, random_span(&mut prng))])
            .map(|(store, span)| rt::spawn(watch(store.clone(), span, Arc::clone(&run))))
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let prng = Prng::new(prng.next_u64());
                rt::spawn(client(stores.clone(), id, prng, Arc::clone(&run)))
            })
            .collect();
        more(&run.n_answers, ANSWERS).await;
        let killed = Arc::clone(&etcd);
        rt::unblock(move || killed.kill(0)).await;
        more(&run.n_failures, 1).await;
        let killed = Arc::clone(&etcd);
        rt::unblock(move || killed.run(0)).await;
        more(&run.n_answers, ANSWERS).await;
        run.ending.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        for client in clients {
            calls.extend(rt::timeout(WAIT_MAX, client).await.expect("a client hangs"));
        }
        let mut held = Vec::new();
        for store in &stores {
            let fresh = async {
                while store.fresh().await.is_err() {
                    rt::sleep(Duration::from_millis(50)).await;
                }
            };
            rt::timeout(WAIT_MAX, fresh).await.expect("no store is fresh again");
            let all = store.range(&Query::prefix("/")).await.unwrap();
            held.push(crate::naive::shown(&all.items));
        }
        assert_eq!(held[0], held[1], "seed {seed}");
        run.ended.store(true, Ordering::Release);
        let history = rt::timeout(WAIT_MAX, witness).await.expect("the witness hangs");
        let mut told = Vec::new();
        for watch in watches {
            told.push(watch.await);
        }
        let n_unknown =
            calls.iter().filter(|call| matches!(&call.what, What::Txn { done: None, .. })).count();
        eprintln!("{} calls, {n_unknown} of unknown end, {} events", calls.len(), history.len());
        check(&calls, &told, &history, false).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    });
}
