//! Several stores over one real database have one history, while connections are cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stdx::{OrdMap, OrdSet, prng::Prng};
use store::{Class, Error, Event, Limits, Query, Room, SharedLog, Span, Store};

use crate::database::Database;
use crate::linear::{Call, Watched, What, check};
use crate::naive::{self, put, random_span, random_txn};
use crate::{open, rows_after};

const DATABASE: &str = "history";
const N_SERVERS: usize = 2;
const N_CLIENTS: usize = 6;
/// So long at least, and until so many transactions were answered, however slow the machine is.
const RUNS: Duration = Duration::from_secs(3);
const ANSWERED_MIN: usize = 60;
const CUT_EVERY: Duration = Duration::from_millis(400);

pub(crate) async fn is_one(database: &Database) {
    // Nothing is purged, so that the table tells everything in the end.
    let limits = Limits { dead_bytes_max: usize::MAX, ..Limits::default() };
    let log = open(database, DATABASE).await;
    let start = log.newest().await.unwrap();
    let mut stores = Vec::new();
    for _ in 0..N_SERVERS {
        stores.push(Store::share(open(database, DATABASE).await, limits).await.unwrap());
    }
    let ending = Arc::new(Mutex::new(false));
    let watches: Vec<_> = stores.iter().map(|store| watch(store.clone(), start, &ending)).collect();
    let seed = rt::random_u64();
    eprintln!("history of seed {seed}");
    let mut prng = Prng::new(seed);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..N_CLIENTS)
        .map(|id| {
            let prng = Prng::new(prng.next_u64());
            rt::spawn(client(stores.clone(), id, Arc::clone(&stop), prng, Arc::clone(&calls)))
        })
        .collect();
    let n_answered = || calls.lock().unwrap().iter().filter(|call| is_answered(call)).count();
    let until = rt::now().mono + RUNS;
    while rt::now().mono < until || n_answered() < ANSWERED_MIN {
        rt::sleep(CUT_EVERY).await;
        database.cut();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await;
    }
    let mut states = OrdSet::new();
    for store in &stores {
        // The first request after a cut may find that out.
        while store.fresh().await.is_err() {}
        let all = store.range(&Query::prefix("")).await.unwrap();
        states.insert(format!("{} {}", all.revision, naive::shown(&all.items)));
    }
    *ending.lock().unwrap() = true;
    let mut watched = Vec::new();
    for watch in watches {
        watched.push(watch.await);
    }
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    let history = history(&*log).await;
    eprintln!("{} calls, {} events", calls.len(), history.len());
    check(&calls, &watched, &history, true).unwrap();
    assert_eq!(states.len(), 1, "servers differ");
}

fn is_answered(call: &Call) -> bool {
    matches!(&call.what, What::Txn { done: Some(_), .. })
}

/// Everything in the table.
async fn history(log: &dyn SharedLog) -> Vec<Event> {
    let mut after = 0;
    let mut events = Vec::new();
    let mut current = OrdMap::new();
    loop {
        let (rows, revision) = rows_after(log, after).await;
        if revision == after {
            return events;
        }
        after = revision;
        for row in rows {
            let before = match &row.kv {
                Some(kv) => current.insert(Arc::clone(&row.key), kv.clone()),
                None => current.remove(&row.key),
            };
            events.push(Event { revision: row.revision(), key: row.key, now: row.kv, before });
        }
    }
}

fn watch(store: Store, after: u64, ending: &Arc<Mutex<bool>>) -> rt::Task<Watched> {
    let ending = Arc::clone(ending);
    rt::spawn(async move {
        let span = Span::prefix("/");
        let mut watch = store.watch(vec![span.clone()], Some(after)).await.unwrap();
        let mut watched = Watched { span, after, events: Vec::new(), whole: false };
        loop {
            // What the store shows, it has told its watches by then.
            let is_ending = *ending.lock().unwrap();
            match rt::timeout(Duration::from_millis(200), watch.next()).await {
                Ok(Ok(store::Item::Event(event))) => watched.events.push((*event).clone()),
                Ok(Ok(store::Item::Progress(_))) => {}
                Ok(Err(_)) => return watched,
                Err(rt::Elapsed) if is_ending => {
                    watched.whole = true;
                    return watched;
                }
                Err(rt::Elapsed) => {}
            }
        }
    })
}

async fn client(
    stores: Vec<Store>,
    id: usize,
    stop: Arc<AtomicBool>,
    mut prng: Prng,
    calls: Arc<Mutex<Vec<Call>>>,
) {
    for serial in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let invoked = rt::now().mono;
        let store = &stores[prng.below(stores.len() as u64) as usize];
        let what = match prng.chance(40) {
            true => read(store, random_span(&mut prng)).await,
            false => Some(write(store, format!("{id}-{serial}"), id, &mut prng).await),
        };
        if let Some(what) = what {
            calls.lock().unwrap().push(Call { invoked, returned: rt::now().mono, what });
        }
        rt::sleep(Duration::from_millis(prng.below(10))).await;
    }
}

async fn read(store: &Store, span: Span) -> Option<What> {
    store.fresh().await.ok()?;
    let found = store.range(&Query::of(span.clone())).await.ok()?;
    Some(What::Read { span, found })
}

async fn write(store: &Store, marker: String, id: usize, prng: &mut Prng) -> What {
    let mut txn = random_txn(prng, store.revision());
    for branch in [&mut txn.then, &mut txn.otherwise] {
        branch.push(put(&format!("/m/{id}"), &marker));
    }
    let done = match store.txn(txn.clone(), Class::Durable, Room::Whole).await {
        Ok(done) => Some(done),
        Err(Error::Storage(_) | Error::Closed) => None,
        Err(error) => panic!("{error}"),
    };
    What::Txn { txn, marker, done }
}
