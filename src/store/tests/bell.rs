//! Many watches behind one bell: nothing is missed or told twice, whatever is cut off or read in pages.

use std::sync::Arc;

use rt::sim::End;
use stdx::{OrdMap, prng::Prng};
use store::{
    Bell, Class, Disk, Error, Event, Follow, Limits, Op, Query, Request, Room, Span, Store, Txn,
    Watch,
};

fn simulated(seed: u64, test: impl Future<Output = ()> + 'static) {
    assert_eq!(rt::sim::run(seed, 10_000_000, test), End::Done(()), "seed {seed}");
}

async fn open(limits: Limits) -> Store {
    Store::open_memory(&Disk::new(), limits).await.unwrap()
}

fn key(idx: u64) -> Vec<u8> {
    format!("/k/{idx}").into_bytes()
}

async fn put(store: &Store, idx: u64, bytes: usize) -> u64 {
    let op = Op::put(key(idx), vec![b'x'; bytes]);
    store.write_one(op, Class::Durable).await.unwrap().revision
}

/// Reads pages until the watch is live.
fn catch_up(
    store: &Store,
    span: &Span,
    mut after: u64,
    bell: &Arc<Bell>,
    number: u64,
    heard: &mut Vec<u64>,
) -> Watch {
    loop {
        match store.follow(span.clone(), Some(after), (Arc::clone(bell), number)).unwrap() {
            Follow::Live(watch) => return watch,
            Follow::Page { events, revision } => {
                assert!(!events.is_empty() && revision > after);
                heard.extend(events.iter().map(|event| event.revision));
                after = revision;
            }
        }
    }
}

#[test]
fn the_bell_says_who_has_something() {
    simulated(1, async {
        let store = open(Limits::default()).await;
        let bell = Bell::new(1 << 20);
        let follow = |idx: u64| match store
            .follow(Span::key(key(idx)), None, (Arc::clone(&bell), idx))
            .unwrap()
        {
            Follow::Live(watch) => watch,
            Follow::Page { .. } => panic!("there is no past"),
        };
        let mut watches: Vec<Watch> = (0..3).map(follow).collect();
        assert!(rt::future::poll_once(bell.rung()).await.is_none());
        put(&store, 1, 1).await;
        put(&store, 1, 1).await;
        put(&store, 9, 1).await;
        assert_eq!(bell.rung().await, [1]);
        let revisions =
            |events: Vec<Arc<Event>>| events.iter().map(|event| event.revision).collect::<Vec<_>>();
        assert_eq!(revisions(watches[1].take(0).unwrap()), [2], "one revision at least");
        assert_eq!(revisions(watches[1].take(1000).unwrap()), [3]);
        assert!(watches[1].take(1000).unwrap().is_empty() && bell.try_rung().is_empty());
        // Two changes of one revision are not torn apart.
        let then = [0, 2, 0].map(|idx| Request::Put {
            key: key(idx).into(),
            value: (*b"x").into(),
            lease: 0,
        });
        let txn = Txn { then: then.into(), ..Txn::default() };
        store.txn(txn, Class::Durable, Room::Whole).await.unwrap();
        assert_eq!(bell.try_rung(), [0, 2]);
        assert_eq!(revisions(watches[0].take(0).unwrap()), [5, 5]);
        store.close().await.unwrap();
        assert_eq!(bell.try_rung(), [0, 1, 2]);
        assert!(matches!(watches[1].take(0), Err(Error::Closed)));
        assert_eq!(revisions(watches[2].take(0).unwrap()), [5]);
        assert!(matches!(watches[2].take(0), Err(Error::Closed)));
    });
}

/// Watchers that take when they like, with room for a few events only.
#[test]
fn who_is_cut_off_goes_on_where_it_was() {
    for seed in 0..200 {
        simulated(seed, async move {
            let mut prng = Prng::new(seed);
            let limits = Limits { watch_events_max: 4, ..Limits::default() };
            let store = open(limits).await;
            let bell = Bell::new(2000);
            let spans =
                [Span::prefix("/k/"), Span::key(key(1)), Span::key(key(2)), Span::prefix("/none")];
            let mut heard: Vec<Vec<u64>> = vec![Vec::new(); spans.len()];
            let mut watches: OrdMap<u64, Watch> = OrdMap::new();
            for (number, span) in (0..).zip(&spans) {
                watches.insert(number, catch_up(&store, span, 1, &bell, number, &mut Vec::new()));
            }
            let mut told: Vec<Vec<u64>> = vec![Vec::new(); spans.len()];
            let mut rung = Vec::new();
            let mut n_cut_off = 0;
            for round in 0..400 {
                if round < 380 && prng.chance(70) {
                    let idx = prng.below(3);
                    let revision = put(&store, idx, prng.below(300) as usize).await;
                    for (told, span) in told.iter_mut().zip(&spans) {
                        told.extend(span.contains(&key(idx)).then_some(revision));
                    }
                    continue;
                }
                rung.extend(bell.try_rung());
                while !rung.is_empty() && (round >= 380 || prng.chance(50)) {
                    let number = rung.pop().unwrap();
                    let idx = number as usize;
                    let watch = watches.get_mut(&number).unwrap();
                    match watch.take(prng.below(600) as usize) {
                        Ok(events) if events.is_empty() => {}
                        Ok(events) => {
                            heard[idx].extend(events.iter().map(|event| event.revision));
                            rung.push(number);
                        }
                        Err(Error::Lagged) => {
                            n_cut_off += 1;
                            let after = watch.cut_off_at().unwrap() - 1;
                            let again = catch_up(
                                &store,
                                &spans[idx],
                                after,
                                &bell,
                                number,
                                &mut heard[idx],
                            );
                            watches.insert(number, again);
                            rung.push(number);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            assert_eq!(heard, told, "seed {seed}");
            assert!(n_cut_off > 0, "seed {seed} tests nothing");
            assert_eq!(store.stats().n_watches, spans.len());
            drop(watches);
            assert_eq!(store.stats().n_watches, 0);
        });
    }
}

#[test]
fn a_long_past_comes_in_pages() {
    simulated(1, async {
        let store = open(Limits::default()).await;
        for idx in 0..1000 {
            put(&store, idx % 7, 10).await;
        }
        let (mut heard, bell) = (Vec::new(), Bell::new(1000));
        let mut watch = catch_up(&store, &Span::prefix("/k/"), 1, &bell, 3, &mut heard);
        assert_eq!(heard.len(), 768, "256 a page");
        assert_eq!(bell.try_rung(), [3], "the last of them waits in the watch");
        heard.extend(watch.take(usize::MAX).unwrap().iter().map(|event| event.revision));
        assert_eq!(heard, (2..=1001).collect::<Vec<u64>>());
        store.compact(500).await.unwrap();
        let late = store.follow(Span::prefix("/k/"), Some(499), (Arc::clone(&bell), 4));
        assert!(matches!(late, Err(Error::Compacted { compact_revision: 500, .. })));
        assert_eq!(store.range(&Query::prefix("/k/")).await.unwrap().items.len(), 7);
    });
}
