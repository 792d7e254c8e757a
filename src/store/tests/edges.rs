//! Single behaviours: watches that lag, progress, leases, bounds, lazy data, power cuts.

use std::time::Duration;

use rt::sim::End;
use store::{Class, Disk, Error, Expect, Fault, Item, Limits, Op, Query, Room, Span, Store};

fn simulated(test: impl Future<Output = ()> + 'static) {
    assert_eq!(rt::sim::run(1, 1_000_000, test), End::Done(()));
}

async fn put(store: &Store, key: &str, value: &str, class: Class) -> u64 {
    let op = Op::put(key.as_bytes(), value.as_bytes());
    store.write_one(op, class).await.unwrap().revision
}

async fn value(store: &Store, key: &str) -> Option<String> {
    let kv = store.get(key).await.unwrap()?;
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

#[test]
fn a_slow_watch_is_cut_off_alone() {
    simulated(async {
        let limits = Limits { watch_events_max: 10, ..Limits::default() };
        let store = Store::open_memory(&Disk::new(), limits).await.unwrap();
        let mut slow = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        let mut quick = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        let mut other = store.watch(vec![Span::prefix("/other")], None).await.unwrap();
        for idx in 0..30 {
            put(&store, "/a", &idx.to_string(), Class::Durable).await;
            assert!(quick.try_next().unwrap().is_some());
        }
        assert!(matches!(slow.next().await, Err(Error::Lagged)));
        assert_eq!(slow.progress(), None);
        assert_eq!(store.stats().n_watches, 2);
        assert!(quick.try_next().unwrap().is_none());
        assert!(other.try_next().unwrap().is_none());
        drop((slow, quick, other));
        assert_eq!(store.stats().n_watches, 0);
    });
}

#[test]
fn progress_comes_when_nothing_else_does() {
    simulated(async {
        let store = Store::open_memory(&Disk::new(), Limits::default()).await.unwrap();
        let every = Duration::from_secs(60);
        let watch = store.watch(vec![Span::prefix("/a")], None).await.unwrap();
        let mut watch = watch.with_progress(every);
        put(&store, "/a", "1", Class::Durable).await;
        let revision = put(&store, "/b", "1", Class::Durable).await;
        let start = rt::now().mono;
        assert!(matches!(watch.next().await, Ok(Item::Event(event)) if &*event.key == b"/a"));
        assert!(matches!(watch.next().await, Ok(Item::Progress(r)) if r == revision));
        assert_eq!(rt::now().mono.since(start), every);
        store.close().await.unwrap();
        assert!(matches!(watch.next().await, Err(Error::Closed)));
        let refused = store.write_one(Op::put(*b"/a", *b"2"), Class::Lazy).await;
        assert!(matches!(refused, Err(Error::Closed)));
        assert_eq!(value(&store, "/a").await.as_deref(), Some("1"), "reads go on");
    });
}

#[test]
fn leases_take_their_keys_along() {
    simulated(async {
        let disk = Disk::new();
        let mut store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        let ttl = Duration::from_secs(10);
        let lease = store.lease_grant(7, ttl, Class::Durable).await.unwrap();
        assert!(matches!(store.lease_grant(7, ttl, Class::Lazy).await, Err(Error::LeaseExists(7))));
        for idx in 0..300 {
            let op = Op::put(format!("/l/{idx}").into_bytes(), *b"x").with_lease(lease);
            store.write_one(op, Class::Durable).await.unwrap();
        }
        let unknown = store.write_one(Op::put(*b"/x", *b"x").with_lease(8), Class::Lazy).await;
        assert!(matches!(unknown, Err(Error::LeaseNotFound(8))));
        // A key that is written without the lease leaves it.
        put(&store, "/l/0", "free", Class::Durable).await;
        rt::sleep(Duration::from_secs(9)).await;
        assert_eq!(store.lease_keep_alive(lease).await.unwrap(), ttl);
        rt::sleep(Duration::from_secs(9)).await;
        assert_eq!(store.count(&Span::prefix("/l/")).await.unwrap(), 300);
        // A crash renews, so that a long stop does not empty the cluster.
        drop(store);
        store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        assert_eq!(store.lease_info(7).await.unwrap().keys.len(), 299);
        rt::sleep(Duration::from_secs(9)).await;
        assert_eq!(store.count(&Span::prefix("/l/")).await.unwrap(), 300);
        rt::sleep(Duration::from_secs(2)).await;
        assert_eq!(store.count(&Span::prefix("/l/")).await.unwrap(), 1);
        assert!(matches!(store.lease_info(7).await, Err(Error::LeaseNotFound(7))));
        drop(store);
        store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        assert_eq!(store.count(&Span::prefix("/l/")).await.unwrap(), 1);
        assert_eq!(store.stats().n_leases, 0);
    });
}

#[test]
fn a_lease_is_on_disk_before_its_keys_and_ends_through_a_full_disk() {
    simulated(async {
        let disk = Disk::new();
        let mut store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        let ttl = Duration::from_secs(3600);
        let lease = store.lease_shared(ttl, Class::Lazy).await.unwrap();
        assert_eq!(store.lease_shared(ttl, Class::Lazy).await.unwrap(), lease, "it is shared");
        let op = Op::create(*b"/event", *b"x").with_lease(lease);
        store.write_one(op, Class::Lazy).await.unwrap();
        store.sync().await.unwrap();
        drop(store);
        store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        assert_eq!(store.lease_info(lease).await.unwrap().keys.len(), 1);
        disk.on_commit(|| Some(Fault::Fail));
        rt::sleep(ttl + Duration::from_secs(300)).await;
        disk.heal();
        rt::sleep(Duration::from_secs(600)).await;
        assert_eq!(value(&store, "/event").await, None);
        drop(store);
        assert!(disk.keys().is_empty());
    });
}

#[test]
fn a_disk_that_fails_stops_durable_writes_only() {
    simulated(async {
        let disk = Disk::new();
        let store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        put(&store, "/a", "1", Class::Durable).await;
        let mut watch = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        disk.on_commit(|| Some(Fault::Fail));
        let failed = store.write_one(Op::put(*b"/a", *b"2"), Class::Durable).await;
        assert!(matches!(failed, Err(Error::Storage(_))), "{failed:?}");
        assert_eq!(value(&store, "/a").await.as_deref(), Some("1"));
        assert!(watch.try_next().unwrap().is_none(), "nothing was shown");
        let heartbeat = put(&store, "/lease", "beat", Class::Lazy).await;
        assert_eq!(watch.try_next().unwrap().unwrap().revision, heartbeat);
        disk.heal();
        let recovered = put(&store, "/a", "3", Class::Durable).await;
        assert!(recovered > heartbeat);
        assert_eq!(watch.try_next().unwrap().unwrap().revision, recovered);
    });
}

#[test]
fn lazy_data_costs_no_commit_until_it_is_old() {
    simulated(async {
        let disk = Disk::new();
        let store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        put(&store, "/lease", "0", Class::Lazy).await; // reserves revisions
        let n_before = store.stats().n_commits;
        for beat in 1..30 {
            rt::sleep(Duration::from_secs(10)).await;
            put(&store, "/lease", &beat.to_string(), Class::Lazy).await;
        }
        assert_eq!(store.stats().n_commits, n_before);
        assert_eq!(store.stats().n_lazy, 1);
        rt::sleep(Duration::from_secs(11)).await;
        assert_eq!((store.stats().n_commits, store.stats().n_lazy), (n_before + 1, 0));
        // Lost in a power cut, though its revision is not used again.
        let lost = put(&store, "/lease", "lost", Class::Lazy).await;
        disk.cut_power();
        let store = Store::open_memory(&disk, Limits::default()).await.unwrap();
        assert_eq!(value(&store, "/lease").await.as_deref(), Some("29"));
        assert!(store.revision() > lost);
        let old = store.watch(vec![Span::prefix("/")], Some(lost)).await;
        assert!(matches!(old, Err(Error::Compacted { .. })), "who saw it must list again");
    });
}

#[test]
fn bounds_refuse_with_a_reason_and_deletes_still_work() {
    simulated(async {
        let limits = Limits { state_bytes_max: 1000, value_bytes_max: 600, ..Limits::default() };
        let store = Store::open_memory(&Disk::new(), limits).await.unwrap();
        let put = |key: &str, n: usize| {
            let op = Op::put(key.as_bytes(), vec![b'x'; n]);
            store.write_one(op, Class::Durable)
        };
        assert!(matches!(put("/a", 601).await, Err(Error::Invalid(_))));
        assert!(matches!(put("", 1).await, Err(Error::Invalid(_))));
        assert!(matches!(store.write(vec![], Class::Durable).await, Err(Error::Invalid(_))));
        put("/a", 600).await.unwrap();
        assert!(matches!(put("/b", 600).await, Err(Error::Full { .. })));
        put("/a", 500).await.unwrap();
        store.write_one(Op::delete(*b"/a", Expect::Any), Class::Durable).await.unwrap();
        put("/b", 600).await.unwrap();
        assert_eq!(store.stats().state_bytes, 602);
        let future = store.range(&Query { at: Some(99), ..Query::prefix("/") }).await;
        assert!(matches!(future, Err(Error::Future { asked: 99, .. })));
    });
}

#[test]
fn one_owner_leaves_room_for_others_and_everybody_for_the_cluster() {
    fn owner(key: &[u8]) -> Option<&[u8]> {
        (key != b"/system").then(|| &key[..2])
    }
    simulated(async {
        let limits = Limits { state_bytes_max: 8000, owner, ..Limits::default() };
        assert_eq!((limits.common_bytes_max(), limits.owner_bytes_max()), (7000, 5250));
        let store = Store::open_memory(&Disk::new(), limits).await.unwrap();
        let put = |key: &str, n: usize, room: Room| {
            let op = Op::put(key.as_bytes(), vec![b'x'; n - key.len()]);
            store.write_within(vec![op], Class::Durable, room)
        };
        for idx in 0..5 {
            put(&format!("/a{idx}"), 1000, Room::Common).await.unwrap();
        }
        let error = put("/a5", 251, Room::Common).await.unwrap_err().to_string();
        assert_eq!(error, "/a holds 5000 of at most 5250 bytes of the datastore");
        put("/a0", 900, Room::Common).await.unwrap();
        put("/b0", 1000, Room::Common).await.unwrap();
        put("/c0", 1000, Room::Common).await.unwrap();
        let error = put("/d0", 200, Room::Common).await.unwrap_err().to_string();
        assert_eq!(error, "the datastore holds 6900 of at most 7000 bytes");
        put("/system", 1000, Room::Whole).await.unwrap();
        assert!(matches!(put("/system", 2000, Room::Whole).await, Err(Error::Full { .. })));
        // What gets smaller, and what leads to a deletion, finds room even so.
        put("/b0", 900, Room::Common).await.unwrap();
        put("/a1", 2500, Room::Unbounded).await.unwrap();
        store.write_one(Op::delete(*b"/a1", Expect::Any), Class::Durable).await.unwrap();
        put("/a5", 100, Room::Common).await.unwrap();
        // Several in one batch are counted together.
        let both = rt::future::zip(put("/d0", 100, Room::Common), put("/d1", 1500, Room::Common));
        let (first, second) = both.await;
        assert!(first.is_ok() && second.is_err(), "{first:?} {second:?}");
    });
}

#[test]
fn one_allocation_per_value_is_shared_by_everyone() {
    simulated(async {
        let store = Store::open_memory(&Disk::new(), Limits::default()).await.unwrap();
        let mut watch = store.watch(vec![Span::prefix("/")], None).await.unwrap();
        let value: store::Bytes = (*b"v").into();
        store.write_one(Op::create(*b"/a", value.clone()), Class::Durable).await.unwrap();
        let event = watch.try_next().unwrap().unwrap();
        let kv = store.get("/a").await.unwrap().unwrap();
        assert!(std::sync::Arc::ptr_eq(&value, &kv.value));
        assert!(std::sync::Arc::ptr_eq(&value, &event.now.as_ref().unwrap().value));
        store.write_one(Op::update(*b"/a", *b"w", kv.mod_revision), Class::Durable).await.unwrap();
        let event = watch.try_next().unwrap().unwrap();
        assert!(std::sync::Arc::ptr_eq(&value, &event.before.as_ref().unwrap().value));
    });
}
