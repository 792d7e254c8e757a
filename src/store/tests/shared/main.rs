//! Two and three servers on one simulated log, under crash, delay and partition; seeded.

#[path = "../support/naive.rs"]
mod naive;

mod linear;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use linear::{Call, Watched, What, check};
use naive::{put, random_span, random_txn};
use rt::sim::End;
use stdx::{OrdSet, prng::Prng};
use store::{Class, Error, Fate, Limits, Log, LogPlant, Query, Room, Span, Store};

/// What one run is about.
#[derive(Clone, Copy)]
struct Setting {
    n_servers: usize,
    numbering: bool,
    faults: bool,
    plant: Option<LogPlant>,
}

struct World {
    log: Log,
    servers: Vec<Mutex<Option<Store>>>,
    cut_off: Mutex<OrdSet<usize>>,
    calls: Mutex<Vec<Call>>,
    watches: Mutex<Vec<rt::Task<Watched>>>,
    limits: Limits,
    ending: Mutex<bool>,
}

impl World {
    fn store(&self, server: usize) -> Option<Store> {
        self.servers[server].lock().unwrap().clone()
    }

    /// Starts a server, and a watch on it.
    async fn start(self: &Arc<World>, server: usize, prng: &mut Prng) {
        let Ok(store) = Store::open_log(&self.log, self.limits).await else { return };
        let span = if prng.chance(50) { Span::prefix("/") } else { random_span(prng) };
        let after = store.revision();
        if let Ok(mut watch) = store.watch(vec![span.clone()], Some(after)).await {
            let world = Arc::clone(self);
            self.watches.lock().unwrap().push(rt::spawn(async move {
                let mut watched = Watched { span, after, events: Vec::new(), whole: false };
                loop {
                    match rt::timeout(Duration::from_secs(1), watch.next()).await {
                        Ok(Ok(store::Item::Event(event))) => watched.events.push((*event).clone()),
                        Ok(Ok(store::Item::Progress(_))) => {}
                        Ok(Err(_)) => return watched,
                        Err(rt::Elapsed) if *world.ending.lock().unwrap() => {
                            watched.whole = true;
                            return watched;
                        }
                        Err(rt::Elapsed) => {}
                    }
                }
            }));
        }
        *self.servers[server].lock().unwrap() = Some(store);
    }
}

/// Servers are numbered by the log in the order of their starts; the hook must know whose they are.
fn faults(world: &Arc<World>, seed: u64) {
    let (weak, mut prng) = (Arc::downgrade(world), Prng::new(seed));
    world.log.on_message(move |server, _| {
        let slot = weak.upgrade().map_or(0, |world| server as usize % world.servers.len());
        let cut_off =
            weak.upgrade().is_some_and(|world| world.cut_off.lock().unwrap().contains(&slot));
        match prng.below(100) {
            _ if cut_off => Fate::Lost,
            0 => Fate::Lost,
            1 => Fate::After(Duration::from_millis(prng.below(5000))),
            _ => Fate::After(Duration::from_micros(prng.below(20_000))),
        }
    });
}

async fn client(world: Arc<World>, id: usize, mut prng: Prng) {
    for serial in 0..25 {
        let server = prng.below(world.servers.len() as u64) as usize;
        let Some(store) = world.store(server) else {
            rt::sleep(Duration::from_millis(300)).await;
            continue;
        };
        let invoked = rt::now().mono;
        let what = match prng.chance(40) {
            true => read(&store, random_span(&mut prng)).await,
            false => write(&store, format!("{id}-{serial}"), id, &mut prng).await,
        };
        drop(store);
        if let Some(what) = what {
            world.calls.lock().unwrap().push(Call { invoked, returned: rt::now().mono, what });
        }
        rt::sleep(Duration::from_millis(prng.below(60))).await;
    }
}

async fn read(store: &Store, span: Span) -> Option<What> {
    store.fresh().await.ok()?;
    let found = store.range(&Query::of(span.clone())).await.ok()?;
    Some(What::Read { span, found })
}

async fn write(store: &Store, marker: String, id: usize, prng: &mut Prng) -> Option<What> {
    let mut txn = random_txn(prng, store.revision());
    for branch in [&mut txn.then, &mut txn.otherwise] {
        branch.push(put(&format!("/m/{id}"), &marker));
    }
    let class = if prng.chance(30) { Class::Lazy } else { Class::Durable };
    let done = match store.txn(txn.clone(), class, Room::Whole).await {
        Ok(done) => Some(done),
        Err(Error::Storage(_) | Error::Closed) => None,
        Err(error) => panic!("{error}"),
    };
    Some(What::Txn { txn, marker, done })
}

/// Crashes, starts again and cuts off servers.
async fn nemesis(world: Arc<World>, mut prng: Prng) {
    for _ in 0..6 {
        rt::sleep(Duration::from_millis(prng.below(1500))).await;
        let server = prng.below(world.servers.len() as u64) as usize;
        match prng.below(3) {
            0 => {
                *world.servers[server].lock().unwrap() = None;
                rt::sleep(Duration::from_millis(prng.below(1000))).await;
                while world.store(server).is_none() {
                    world.start(server, &mut prng).await;
                }
            }
            _ => {
                world.cut_off.lock().unwrap().insert(server);
                // Sometimes for so long that others go on without it.
                let most = if prng.chance(20) { 60_000 } else { 4_000 };
                rt::sleep(Duration::from_millis(prng.below(most))).await;
                world.cut_off.lock().unwrap().remove(&server);
            }
        }
    }
}

async fn history(seed: u64, setting: Setting, out: Arc<Mutex<Result<(), String>>>) {
    let mut prng = Prng::new(seed);
    let log = if setting.numbering { Log::numbering() } else { Log::new() };
    if let Some(plant) = setting.plant {
        log.plant(plant);
    }
    let limits = Limits { dead_bytes_max: 300, history_events_max: 30, ..Limits::default() };
    let world = Arc::new(World {
        log: log.clone(),
        servers: (0..setting.n_servers).map(|_| Mutex::new(None)).collect(),
        cut_off: Mutex::default(),
        calls: Mutex::default(),
        watches: Mutex::default(),
        limits,
        ending: Mutex::default(),
    });
    for server in 0..setting.n_servers {
        world.start(server, &mut prng).await;
    }
    if setting.faults {
        faults(&world, prng.next_u64());
    }
    let mut tasks = Vec::new();
    for id in 0..6 {
        tasks.push(rt::spawn(client(Arc::clone(&world), id, Prng::new(prng.next_u64()))));
    }
    if setting.faults {
        tasks.push(rt::spawn(nemesis(Arc::clone(&world), Prng::new(prng.next_u64()))));
    }
    for task in tasks {
        task.await;
    }
    log.heal();
    // Everything that is on its way arrives, then nothing changes any more.
    rt::sleep(Duration::from_secs(30)).await;
    let mut states = OrdSet::new();
    for server in 0..setting.n_servers {
        let Some(store) = world.store(server) else { continue };
        store.fresh().await.unwrap();
        let all = store.range(&Query::prefix("")).await.unwrap();
        states.insert(format!("{} {}", all.revision, naive::shown(&all.items)));
    }
    *world.ending.lock().unwrap() = true;
    let mut watches = Vec::new();
    let tasks = std::mem::take(&mut *world.watches.lock().unwrap());
    for task in tasks {
        watches.push(task.await);
    }
    let calls = std::mem::take(&mut *world.calls.lock().unwrap());
    let checked = check(&calls, &watches, &log.history(), !setting.numbering);
    *out.lock().unwrap() = match checked {
        Ok(()) if states.len() > 1 => Err(format!("servers differ: {states:?}")),
        checked => checked,
    };
}

fn run(seed: u64, setting: Setting) -> Result<(), String> {
    let out = Arc::new(Mutex::new(Ok(())));
    let end = rt::sim::run(seed, 50_000_000, history(seed, setting, Arc::clone(&out)));
    assert_eq!(end, End::Done(()), "seed {seed}");
    let out = out.lock().unwrap().clone();
    out.map_err(|why| format!("seed {seed}: {why}"))
}

const SETTING: Setting = Setting { n_servers: 2, numbering: false, faults: true, plant: None };

#[test]
fn several_servers_have_one_history() {
    for seed in 0..120 {
        let n_servers = 2 + (seed % 2) as usize;
        for numbering in [false, true] {
            run(seed, Setting { n_servers, numbering, ..SETTING }).unwrap();
        }
    }
}

#[test]
fn planted_bugs_are_caught() {
    use LogPlant::{HastyPurge, NoReplan, NoTokens, ShortTail, StaleNewest, TornTail};
    for plant in [NoReplan, NoTokens, HastyPurge, StaleNewest, ShortTail, TornTail] {
        let caught = (0..60).find_map(|seed| {
            // Only a revision with several changes can be torn.
            let numbering = plant == TornTail;
            let setting = Setting { n_servers: 3, plant: Some(plant), numbering, ..SETTING };
            run(seed, setting).err()
        });
        let why = caught.unwrap_or_else(|| panic!("{plant:?} went unnoticed"));
        eprintln!("{plant:?}: {}", &why[..why.len().min(160)]);
    }
}

/// Writers of one server each put keys of their own as fast as they can, over a log that is 1 ms
/// away: how many writes each server got done, and the longest that one waited.
fn throughput(writers: &'static [usize], millis: u64) -> (Vec<u64>, Duration, u64) {
    let out = Arc::new(Mutex::new((Vec::new(), Duration::ZERO, 0)));
    let told = Arc::clone(&out);
    let end = rt::sim::run(1, 100_000_000, async move {
        let log = Log::new();
        log.on_message(|_, _| Fate::After(Duration::from_millis(1)));
        let mut servers = Vec::new();
        for n_writers in writers {
            servers.push((Store::open_log(&log, Limits::default()).await.unwrap(), *n_writers));
        }
        // Each has heard of the others by then.
        rt::sleep(Duration::from_secs(6)).await;
        let end = rt::now().mono + Duration::from_millis(millis);
        let mut tasks = Vec::new();
        for (idx, (store, n_writers)) in servers.iter().enumerate() {
            for writer in 0..*n_writers {
                let store = store.clone();
                tasks.push(rt::spawn(async move {
                    let (mut n_done, mut longest) = (0, Duration::ZERO);
                    while rt::now().mono < end {
                        let start = rt::now().mono;
                        let op = store::Op::put(format!("/{idx}/{writer}").into_bytes(), *b"x");
                        store.write_one(op, Class::Durable).await.unwrap();
                        longest = longest.max(rt::now().mono.since(start));
                        n_done += 1;
                    }
                    (idx, n_done, longest)
                }));
            }
        }
        let mut done = vec![0; servers.len()];
        let mut longest = Duration::ZERO;
        for task in tasks {
            let (idx, n_done, waited) = task.await;
            done[idx] += n_done;
            longest = longest.max(waited);
        }
        *told.lock().unwrap() = (done, longest, log.figures().1);
    });
    assert_eq!(end, End::Done(()));
    let told = out.lock().unwrap();
    told.clone()
}

#[test]
fn a_busy_server_leaves_turns_to_others() {
    let figures: [&[usize]; 5] = [&[1], &[50], &[50, 1], &[50, 50], &[50, 50, 50]];
    for writers in figures {
        let (done, longest, n_lost) = throughput(writers, 5000);
        eprintln!(
            "writers {writers:?}: writes {done:?} in 5 s, longest {longest:?}, {n_lost} appends lost"
        );
        assert!(longest < Duration::from_millis(500), "{writers:?}: one waited {longest:?}");
        let most = done.iter().zip(writers).map(|(n, w)| n / *w as u64).max().unwrap_or(0);
        let least = done.iter().zip(writers).map(|(n, w)| n / *w as u64).min().unwrap_or(0);
        assert!(least * 4 > most, "{writers:?}: {done:?}");
    }
}

/// A lease is ended by whoever leads, not while another server keeps it alive, and for all.
#[test]
fn leases_end_for_every_server() {
    let end = rt::sim::run(1, 10_000_000, async {
        let log = Log::new();
        let first = Store::open_log(&log, Limits::default()).await.unwrap();
        let second = Store::open_log(&log, Limits::default()).await.unwrap();
        let ttl = Duration::from_secs(10);
        second.lease_grant(7, ttl, Class::Durable).await.unwrap();
        let op = store::Op::put(*b"/a", *b"x").with_lease(7);
        second.write_one(op, Class::Durable).await.unwrap();
        for _ in 0..3 {
            rt::sleep(Duration::from_secs(7)).await;
            assert_eq!(second.lease_keep_alive(7).await.unwrap(), ttl);
        }
        first.fresh().await.unwrap();
        assert!(first.get("/a").await.unwrap().is_some(), "it was kept alive on the other server");
        let taken = first.lease_grant(7, ttl, Class::Durable).await;
        assert!(matches!(taken, Err(Error::LeaseExists(7))), "{taken:?}");
        // The one that leads dies; the other ends the lease.
        drop(first);
        rt::sleep(Duration::from_secs(60)).await;
        assert!(second.get("/a").await.unwrap().is_none());
        assert!(matches!(second.lease_info(7).await, Err(Error::LeaseNotFound(7))));
        let gone = second.lease_keep_alive(7).await;
        assert!(matches!(gone, Err(Error::LeaseNotFound(7))), "{gone:?}");
    });
    assert_eq!(end, End::Done(()));
}
