//! Transactions: every comparison, both branches, ranges, many changes of one revision; and random
//! ones against a naive model.

#[path = "support/naive.rs"]
mod naive;

use naive::{
    Naive, answers, bytes, compare, naive_run_numbered, naive_shown, put, random_txn, shown, text,
};
use rt::sim::End;
use stdx::prng::Prng;
use store::{
    Class, Disk, Done, Error, Limits, Op, Query, Relation, Request, Room, Span, Store, Target, Txn,
};

fn simulated(seed: u64, test: impl Future<Output = ()> + 'static) {
    assert_eq!(rt::sim::run(seed, 10_000_000, test), End::Done(()), "seed {seed}");
}

async fn open(limits: Limits) -> Store {
    Store::open_memory(&Disk::new(), limits).await.unwrap()
}

async fn run(store: &Store, txn: Txn) -> Result<Done, Error> {
    store.txn(txn, Class::Durable, Room::Whole).await
}

/// What the transaction must answer; `naive` and `revision` go on to after it.
fn naive_run(naive: &mut Naive, revision: &mut u64, txn: &Txn) -> (bool, Vec<String>) {
    let next = *revision + 1;
    let mut changed = false;
    let told = naive_run_numbered(naive, txn, &mut || {
        changed = true;
        next
    });
    *revision += u64::from(changed);
    told
}

#[test]
fn comparisons_hold_as_in_etcd() {
    simulated(1, async {
        let store = open(Limits::default()).await;
        let lease = store.lease_grant(7, std::time::Duration::from_secs(60), Class::Durable).await;
        let op = Op::put(*b"/a", *b"m").with_lease(lease.unwrap());
        store.write_one(op, Class::Durable).await.unwrap(); // revision 2
        store.write_one(Op::put(*b"/b", *b"n"), Class::Durable).await.unwrap(); // 3
        store.write_one(Op::put(*b"/b", *b"n"), Class::Durable).await.unwrap(); // 4
        let (a, b, none) = (Span::key("/a"), Span::key("/b"), Span::key("/none"));
        let all = Span::prefix("/");
        use Relation::{Equal, Greater, Less, NotEqual};
        use Target::{CreateRevision, Lease, ModRevision, Value, Version};
        let cases = [
            (&a, Value(bytes("m")), [true, false, false, false]),
            (&a, Value(bytes("z")), [false, true, true, false]),
            (&a, Value(bytes("")), [false, true, false, true]),
            // A key that does not exist has no value, though its numbers are zero.
            (&none, Value(bytes("")), [false, false, false, false]),
            (&none, Version(0), [true, false, false, false]),
            (&none, ModRevision(1), [false, true, true, false]),
            (&none, Lease(0), [true, false, false, false]),
            (&b, Version(2), [true, false, false, false]),
            (&b, Version(1), [false, true, false, true]),
            (&b, CreateRevision(3), [true, false, false, false]),
            (&b, ModRevision(5), [false, true, true, false]),
            (&a, Lease(7), [true, false, false, false]),
            (&b, Lease(7), [false, true, true, false]),
            // Every key of a span, or none at all as if it were one that does not exist.
            (&all, ModRevision(1), [false, true, false, true]),
            (&all, ModRevision(2), [false, false, false, false]),
            (&all, ModRevision(9), [false, true, true, false]),
            (&Span::prefix("/x"), Version(0), [true, false, false, false]),
        ];
        for (span, target, expected) in cases {
            for (relation, expected) in [Equal, NotEqual, Less, Greater].into_iter().zip(expected) {
                let compares = vec![compare(span.clone(), target.clone(), relation)];
                let txn = Txn { compares, ..Txn::default() };
                let done = run(&store, txn.clone()).await.unwrap();
                assert_eq!(done.failed.is_none(), expected, "{txn:?}");
                assert_eq!(done.revision, 4);
            }
        }
    });
}

#[test]
fn one_branch_happens_in_order_at_one_revision() {
    simulated(1, async {
        let store = open(Limits::default()).await;
        let mut watch = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        let absent = compare(Span::key("/a"), Target::Version(0), Relation::Equal);
        let all = Request::Range(Query { limit: 2, ..Query::prefix("/") });
        let txn = Txn {
            compares: vec![absent],
            then: vec![
                put("/a", "1"),
                put("/b", "1"),
                put("/a", "2"),
                all.clone(),
                put("/c", "1"),
                Request::Delete(Span::prefix("/b")),
                all.clone(),
            ],
            otherwise: vec![Request::Delete(Span::prefix("/")), put("/a", "3"), all],
            ..Txn::default()
        };
        let done = run(&store, txn.clone()).await.unwrap();
        let expected = [
            "put ",
            "put ",
            "put /a=1@2v1",
            "/a=2@2v2 /b=1@2v1 +0",
            "put ",
            "deleted /b=1@2v1",
            "/a=2@2v2 /c=1@2v1 +0",
        ];
        assert_eq!((done.revision, answers(&done)), (2, expected.map(String::from).to_vec()));
        let done = run(&store, txn).await.unwrap();
        let current = done.failed.as_ref().unwrap().current.as_ref();
        assert_eq!(shown(current), "/a=2@2v2");
        let expected = ["deleted /a=2@2v2 /c=1@2v1", "put ", "/a=3@3v1 +0"];
        assert_eq!((done.revision, answers(&done)), (3, expected.map(String::from).to_vec()));
        let mut heard = Vec::new();
        while let Some(event) = watch.try_next().unwrap() {
            let what = event.now.as_ref().map_or("gone".into(), |kv| text(&kv.value));
            heard.push(format!("{} {} {what}", event.revision, text(&event.key)));
        }
        let expected = [
            "2 /a 1",
            "2 /b 1",
            "2 /a 2",
            "2 /c 1",
            "2 /b gone",
            "3 /a gone",
            "3 /c gone",
            "3 /a 3",
        ];
        assert_eq!(heard, expected);
        let past = store.range(&Query { at: Some(2), ..Query::prefix("/") }).await.unwrap();
        assert_eq!(shown(&past.items), "/a=2@2v2 /c=1@2v1");
    });
}

#[test]
fn what_cannot_happen_whole_leaves_nothing() {
    simulated(1, async {
        let store =
            open(Limits { state_bytes_max: 100, txn_ops_max: 5, ..Limits::default() }).await;
        let many = Txn { then: vec![put("/a", "1"); 6], ..Txn::default() };
        assert!(matches!(run(&store, many).await, Err(Error::Invalid(_))));
        run(&store, Txn { then: vec![put("/a", "1")], ..Txn::default() }).await.unwrap();
        let large = "x".repeat(200);
        let no_lease = Request::Put { key: bytes("/d"), value: bytes("1"), lease: 9 };
        let past = Request::Range(Query { at: Some(99), ..Query::prefix("/") });
        for last in [put("/c", &large), no_lease, past] {
            let then = vec![
                put("/a", "2"),
                put("/a", "3"),
                Request::Delete(Span::prefix("/")),
                put("/b", "1"),
                last,
            ];
            // Another one of the same batch stands on the state without it.
            let other = Txn { then: vec![put("/z", "1")], ..Txn::default() };
            let refused = run(&store, Txn { then, ..Txn::default() });
            let (refused, other) = rt::future::zip(refused, run(&store, other)).await;
            assert!(refused.is_err() && other.is_ok(), "{refused:?} {other:?}");
            let all = store.range(&Query::prefix("/")).await.unwrap();
            let keys: Vec<String> = all.items.iter().map(|kv| text(&kv.key)).collect();
            assert_eq!(keys, ["/a", "/z"]);
            assert_eq!((text(&all.items[0].value), all.items[0].version), ("1".into(), 1));
            assert_eq!(store.stats().state_bytes, 6);
        }
    });
}

#[test]
fn an_update_keeps_what_it_does_not_give() {
    simulated(1, async {
        let store = open(Limits::default()).await;
        let lease = store.lease_grant(7, std::time::Duration::from_secs(60), Class::Durable).await;
        let lease = lease.unwrap();
        let update = |value: Option<&str>, lease| {
            let then = vec![Request::Update { key: bytes("/a"), value: value.map(bytes), lease }];
            run(&store, Txn { then, ..Txn::default() })
        };
        assert!(matches!(update(None, None).await, Err(Error::KeyNotFound)));
        let op = Op::put(*b"/a", *b"m").with_lease(lease);
        store.write_one(op, Class::Durable).await.unwrap();
        let mut seen = Vec::new();
        for (value, lease) in [(Some("n"), None), (None, Some(0)), (None, None), (None, Some(7))] {
            update(value, lease).await.unwrap();
            let kv = store.get("/a").await.unwrap().unwrap();
            seen.push((text(&kv.value), kv.lease, kv.version));
        }
        let n = || "n".to_owned();
        assert_eq!(seen, [(n(), 7, 2), (n(), 0, 3), (n(), 0, 4), (n(), 7, 5)]);
        assert!(matches!(update(None, Some(9)).await, Err(Error::LeaseNotFound(9))));
    });
}

#[test]
fn transactions_in_transactions_are_judged_first_and_bounded() {
    simulated(1, async {
        let store = open(Limits { txn_ops_max: 4, ..Limits::default() }).await;
        let absent = || vec![compare(Span::key("/a"), Target::Version(0), Relation::Equal)];
        let inner = Txn { compares: absent(), then: vec![put("/b", "2")], ..Txn::default() };
        // What the outer one does first is nothing that the inner one compares with.
        let then =
            vec![put("/a", "1"), Request::Txn(inner.clone()), Request::Range(Query::prefix("/"))];
        let outer = Txn { compares: absent(), then, ..Txn::default() };
        let done = run(&store, outer.clone()).await.unwrap();
        let expected = ["put ", "true [\"put \"]", "/a=1@2v1 /b=2@2v1 +0"];
        assert_eq!(answers(&done), expected.map(String::from));
        let done = run(&store, outer).await.unwrap();
        assert!(done.failed.is_some() && done.responses.is_empty());
        let deep = |n: usize| {
            (1..n).fold(inner.clone(), |txn, _| Txn {
                otherwise: vec![Request::Txn(txn)],
                ..Txn::default()
            })
        };
        run(&store, deep(store::TXN_DEPTH_MAX)).await.unwrap();
        let refused = run(&store, deep(store::TXN_DEPTH_MAX + 1)).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        let wide = Txn { then: vec![Request::Txn(deep(2)); 4], ..Txn::default() };
        run(&store, wide.clone()).await.unwrap();
        let wider = Txn { then: vec![Request::Txn(wide); 4], ..Txn::default() };
        assert!(matches!(run(&store, wider).await, Err(Error::Invalid(_))));
    });
}

#[test]
fn foreign_values_are_checked() {
    simulated(1, async {
        let check = |_: &[u8], value: &[u8]| value == b"good";
        let store = open(Limits { check, ..Limits::default() }).await;
        for (foreign, value, checked) in
            [(false, "bad", true), (true, "bad", false), (true, "good", true)]
        {
            let inner = Txn { then: vec![put("/a", value)], ..Txn::default() };
            run(&store, Txn { then: vec![Request::Txn(inner)], foreign, ..Txn::default() })
                .await
                .unwrap();
            assert_eq!(
                store.get("/a").await.unwrap().unwrap().checked,
                checked,
                "{foreign} {value}"
            );
        }
    });
}

/// Ten thousand keys come and go at one revision each, on disk too, and a watch that was up to date
/// hears all of it.
#[test]
fn a_revision_holds_as_many_changes_as_there_are_keys() {
    let dir = std::env::temp_dir().join(format!("store-txn-{}", std::process::id()));
    let path = dir.join("state.db");
    rt::block_on(async {
        let limits = Limits { txn_ops_max: 20_000, ..Limits::default() };
        let store = Store::open(&path, limits).await.unwrap();
        let mut watch = store.watch(vec![Span::prefix("/k/")], None).await.unwrap();
        let then = (0..10_000).map(|idx| put(&format!("/k/{idx:05}"), "x")).collect();
        let made = run(&store, Txn { then, ..Txn::default() }).await.unwrap();
        store.write_one(Op::put(*b"/other", *b"y"), Class::Durable).await.unwrap();
        store.close().await.unwrap();
        let mut n_heard = 0;
        while let Ok(Some(event)) = watch.try_next() {
            assert_eq!(
                (event.revision, text(&event.key)),
                (made.revision, format!("/k/{n_heard:05}"))
            );
            n_heard += 1;
        }
        assert_eq!(n_heard, 10_000);
        drop((store, watch));
        let store = Store::open(&path, Limits::default()).await.unwrap();
        assert_eq!(store.count(&Span::prefix("/k/")).await.unwrap(), 10_000);
        let then = vec![Request::Delete(Span::prefix("/k/"))];
        let gone = run(&store, Txn { then, ..Txn::default() }).await.unwrap();
        assert_eq!(gone.events.len(), 10_000);
        assert!(gone.events.iter().all(|event| event.revision == gone.revision));
        store.close().await.unwrap();
        drop(store);
        let store = Store::open(&path, Limits::default()).await.unwrap();
        let left = store.range(&Query::prefix("/")).await.unwrap();
        assert_eq!((left.items.len(), text(&left.items[0].key)), (1, "/other".into()));
        assert_eq!(store.revision(), gone.revision);
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn history(seed: u64) {
    let mut prng = Prng::new(seed);
    let disk = Disk::new();
    let mut store = Store::open_memory(&disk, Limits::default()).await.unwrap();
    let (mut naive, mut revision) = (Naive::new(), store.revision());
    for _ in 0..40 {
        // Several share a batch, in the order of their asking.
        let txns: Vec<Txn> =
            (0..1 + prng.below(5)).map(|_| random_txn(&mut prng, revision)).collect();
        let class = if prng.chance(30) { Class::Lazy } else { Class::Durable };
        let tasks: Vec<_> = txns
            .iter()
            .map(|txn| {
                let (store, txn) = (store.clone(), txn.clone());
                rt::spawn(async move { store.txn(txn, class, Room::Whole).await })
            })
            .collect();
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.unwrap());
        }
        // The simulated executor starts tasks in an order of its own: what changed tells it.
        let mut order: Vec<usize> = (0..txns.len()).collect();
        order.sort_by_key(|idx| (done[*idx].revision, done[*idx].events.is_empty()));
        if txns.len() == 1 {
            let (holds, expected) = naive_run(&mut naive, &mut revision, &txns[0]);
            assert_eq!(
                (done[0].failed.is_none(), answers(&done[0])),
                (holds, expected),
                "{:?}",
                txns[0]
            );
            assert_eq!(done[0].revision, revision);
        } else {
            for idx in order.into_iter().filter(|idx| !done[*idx].events.is_empty()) {
                let (holds, expected) = naive_run(&mut naive, &mut revision, &txns[idx]);
                assert_eq!(
                    (done[idx].failed.is_none(), answers(&done[idx])),
                    (holds, expected),
                    "{:?}",
                    txns[idx]
                );
                assert_eq!(done[idx].revision, revision);
            }
        }
        let now = store.range(&Query::prefix("/")).await.unwrap();
        assert_eq!(shown(&now.items), naive_shown(&naive));
        if prng.chance(10) {
            store.close().await.unwrap();
            store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        }
    }
}

#[test]
fn random_transactions_match_the_model() {
    for seed in 0..200 {
        simulated(seed, history(seed));
    }
}
