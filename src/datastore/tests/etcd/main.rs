//! The shared log in a real etcd: what it must do, and what becomes of it when the etcd breaks.

#[path = "../../../store/tests/shared/linear.rs"]
mod linear;
#[path = "../../../store/tests/support/naive.rs"]
mod naive;

mod history;
mod server;
mod speed;

use std::sync::Arc;
use std::time::Duration;

use datastore::Files;
use server::{Etcd, WAIT_MAX, Way};
use store::{
    Append, Appended, Bytes, Class, Error, Limits, Numbering, Op, Query, Row, SharedLog, Span,
    Store, Tail, Version,
};
use wire::etcd::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, Message, PutRequest, RangeRequest,
    RangeResponse, method,
};

async fn open(endpoints: &str) -> Arc<dyn SharedLog> {
    datastore::open(endpoints, Files::default()).await.unwrap()
}

async fn store(endpoints: &str) -> Store {
    Store::share(open(endpoints).await, Limits::default()).await.unwrap()
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

/// A version of a key, the change after `base`, that replaces the one of a revision.
fn put(base: u64, place: u32, key: &str, value: &str, created: u64, version: u32) -> Row {
    let version = Version { value: bytes(value), create_revision: created, version, lease: 0 };
    Row::new(base + 1, place, bytes(key), Some(version))
}

fn append(base: u64, token: u64, rows: Vec<Row>) -> Append {
    let relied = rows.iter().map(|row| Span::Key(Arc::clone(&row.key))).collect();
    Append { base, last: base + 1, token, rows, relied }
}

fn replacing(mut row: Row, revision: u64) -> Row {
    row.replaces = revision;
    row
}

fn shown(rows: &[Row]) -> String {
    let one = |row: &Row| {
        let (revision, key) = (row.revision(), row.key.escape_ascii());
        match &row.kv {
            None => format!("{key}@{revision} gone"),
            Some(kv) => format!(
                "{key}@{revision}={} c{} v{}",
                kv.value.escape_ascii(),
                kv.create_revision,
                kv.version
            ),
        }
    };
    rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What came after a revision, and what it leads to.
async fn rows_after(log: &dyn SharedLog, after: u64) -> (String, u64) {
    log.newest().await.unwrap();
    match log.tail(after).await.unwrap() {
        Tail::Rows { rows, revision } => (shown(&rows), revision),
        Tail::Compacted => ("compacted".to_owned(), 0),
    }
}

#[test]
fn appends_happen_once_and_only_on_what_they_saw() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let (first, second) = (open(&etcd.endpoints()).await, open(&etcd.endpoints()).await);
        first.load().await.unwrap();
        second.load().await.unwrap();
        assert_eq!(first.newest().await.unwrap(), 1);
        assert!(matches!(first.numbering(), Numbering::Append { .. }));
        let rows = vec![put(1, 0, "/b", "x", 2, 1), put(1, 1, "/a", "\0'\u{1a}ä", 2, 1)];
        let all = append(1, 7, rows);
        let grown = rt::spawn({
            let second = Arc::clone(&second);
            async move { second.grown(1).await }
        });
        assert_eq!(first.append(all.clone()).await.unwrap(), Appended::At(2));
        grown.await;
        assert_eq!(first.append(all.clone()).await.unwrap(), Appended::At(2), "the same token");
        let expected = "/b@2=x c2 v1, /a@2=\\x00\\'\\x1a\\xc3\\xa4 c2 v1";
        assert_eq!(rows_after(&*second, 1).await, (expected.to_owned(), 2));
        assert_eq!(rows_after(&*second, 2).await, (String::new(), 2));
        // Another key may follow on an old base; the same may not.
        let other = append(1, 8, vec![put(1, 0, "/c", "z", 2, 1)]);
        assert_eq!(second.append(other.clone()).await.unwrap(), Appended::At(3));
        assert_eq!(second.append(other.clone()).await.unwrap(), Appended::At(3));
        let lost = append(1, 9, vec![put(1, 0, "/b", "y", 2, 1)]);
        let third = open(&etcd.endpoints()).await;
        assert_eq!(third.append(lost.clone()).await.unwrap(), Appended::Lost);
        // What was refused stays so, though its reason goes: a copy of it may come late.
        let delete = replacing(Row::new(4, 0, bytes("/b"), None), 2);
        let done = first.append(append(3, 10, vec![delete])).await.unwrap();
        assert!(matches!(done, Appended::At(_)), "{done:?}");
        assert_eq!(third.append(lost).await.unwrap(), Appended::Lost);
        assert_eq!(first.append(all).await.unwrap(), Appended::Lost, "no token is kept for ever");
        // A plan that looked at a range in which something was deleted since.
        let mut looked = append(3, 11, vec![put(3, 0, "/d", "1", 4, 1)]);
        looked.relied.push(Span::prefix("/b"));
        assert_eq!(second.append(looked.clone()).await.unwrap(), Appended::Lost);
        let base = second.newest().await.unwrap();
        second.tail(base).await.unwrap();
        looked = append(base, 12, vec![put(base, 0, "/d", "1", base + 1, 1)]);
        looked.relied.push(Span::prefix("/b"));
        assert_eq!(second.append(looked).await.unwrap(), Appended::At(base + 1));
        // Keys that changed without us.
        let strange = PutRequest { key: bytes("/d"), value: bytes("2"), ..Default::default() };
        etcd.ask(0, method::PUT, &strange.encode()).await.unwrap();
        let ours = replacing(put(base + 1, 0, "/d", "3", base + 1, 2), base + 1);
        assert_eq!(second.append(append(base + 1, 13, vec![ours])).await.unwrap(), Appended::Lost);
        let mut looked = append(base + 1, 14, vec![put(base + 1, 0, "/e", "1", base + 2, 1)]);
        looked.relied.push(Span::prefix("/d"));
        assert_eq!(third.append(looked).await.unwrap(), Appended::Lost);
        // Books are kept, and nobody sees them.
        let role = first.report(5).await.unwrap();
        assert!(role.leads && role.n_servers == 3, "{role:?}");
        let role = second.report(5).await.unwrap();
        assert!(!role.leads && role.n_servers == 3, "{role:?}");
        let seen = store(&etcd.endpoints()).await.range(&Query::prefix("")).await.unwrap();
        let keys: Vec<_> = seen.items.iter().map(|kv| kv.key.escape_ascii().to_string()).collect();
        assert_eq!(keys, ["/a", "/c", "/d"]);
    });
}

#[test]
fn what_does_not_fit_is_refused_at_once_and_nothing_else() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let store = store(&etcd.endpoints()).await;
        let value = |n_bytes: usize| vec![b'x'; n_bytes];
        let large = Op::put(*b"/large", value(1_600_000));
        let (before, begun) = (store.revision(), rt::now().mono);
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let (store, key) = (store.clone(), format!("/small/{n}").into_bytes());
                let op = Op::put(key, value(100_000));
                rt::spawn(async move { store.write_one(op, Class::Durable).await.map(drop) })
            })
            .collect();
        match store.write_one(large, Class::Durable).await {
            Err(Error::Invalid(why)) => assert_eq!(why, "etcdserver: request is too large"),
            other => panic!("{other:?}"),
        }
        for task in tasks {
            task.await.unwrap();
        }
        let took = rt::now().mono.since(begun);
        assert!(took < WAIT_MAX, "it took {took:?}");
        assert!(store.get("/large").await.unwrap().is_none());
        assert!(store.revision() > before);
        store.write_one(Op::put(*b"/large", value(1_500_000)), Class::Durable).await.unwrap();
        // More keys than etcd takes in one transaction, of transactions that may share one and of one.
        let many = |n: usize| (0..n).map(|n| Op::put(format!("/k/{n}").into_bytes(), *b"1"));
        store.write(many(100).collect(), Class::Durable).await.unwrap();
        let refused = store.write(many(127).collect(), Class::Durable).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        let tasks: Vec<_> = many(300)
            .map(|op| {
                let store = store.clone();
                rt::spawn(async move { store.write_one(op, Class::Durable).await.map(drop) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let found = store.range(&Query::prefix("/k/")).await.unwrap();
        assert_eq!(found.items.len(), 300);
        // All of it is read again, in pages that are too large to be one.
        let again = self::store(&etcd.endpoints()).await;
        let all = again.range(&Query::prefix("")).await.unwrap();
        assert_eq!(all.items.len(), 321);
        assert_eq!(all.items.last().unwrap().value.len(), 100_000);
    });
}

#[test]
fn an_etcd_of_others_is_taken_over_and_given_back() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let key = "/registry/events/default/e";
        let lease = LeaseGrantRequest { id: 77, ttl: 1000 };
        etcd.ask(0, method::LEASE_GRANT, &lease.encode()).await.unwrap();
        for (key, lease) in [(key, 77), ("/registry/pods/default/p", 0)] {
            let put =
                PutRequest { key: bytes(key), value: bytes("1"), lease, ..Default::default() };
            etcd.ask(0, method::PUT, &put.encode()).await.unwrap();
            etcd.ask(0, method::PUT, &put.encode()).await.unwrap();
        }
        let store = store(&etcd.endpoints()).await;
        let found = store.get(key).await.unwrap().unwrap();
        assert_eq!((found.version, found.create_revision, found.mod_revision), (2, 2, 3));
        let mut watch = store.watch(vec![Span::prefix("/registry/")], None).await.unwrap();
        // The lease of the others ends in the etcd.
        etcd.ask(0, method::LEASE_REVOKE, &LeaseRevokeRequest { id: 77 }.encode()).await.unwrap();
        match rt::timeout(WAIT_MAX, watch.next()).await.unwrap().unwrap() {
            store::Item::Event(event) => {
                assert!(event.is_delete() && *event.key == *key.as_bytes(), "{event:?}");
            }
            other => panic!("{other:?}"),
        }
        // A lease of ours is one of the etcd, which it ends only if nobody else does.
        let ttl = Duration::from_secs(2);
        store.lease_grant(5, ttl, Class::Durable).await.unwrap();
        let op = Op::put(*b"/registry/leased", *b"x").with_lease(5);
        store.write_one(op, Class::Durable).await.unwrap();
        let ask = LeaseTimeToLiveRequest { id: 5, keys: true }.encode();
        let told = etcd.ask(0, method::LEASE_TIME_TO_LIVE, &ask).await.unwrap();
        let told = LeaseTimeToLiveResponse::decode(&told, 100).unwrap();
        let mut bound: Vec<_> =
            told.keys.iter().map(|key| key.escape_ascii().to_string()).collect();
        bound.sort();
        assert_eq!(bound, ["/k3rs/leases/5", "/registry/leased"]);
        assert!(told.granted_ttl > 100, "{told:?}");
        store.lease_keep_alive(5).await.unwrap();
        let gone = async {
            loop {
                if let Ok(store::Item::Event(event)) = watch.next().await
                    && event.is_delete()
                {
                    return event;
                }
            }
        };
        let gone = rt::timeout(WAIT_MAX, gone).await.expect("the lease does not end");
        assert_eq!(gone.key.escape_ascii().to_string(), "/registry/leased");
        // Then it is over in the etcd, too, and one of its number may last longer.
        let ended = async {
            loop {
                let told = etcd.ask(0, method::LEASE_TIME_TO_LIVE, &ask).await.unwrap();
                if LeaseTimeToLiveResponse::decode(&told, 100).unwrap().ttl < 0 {
                    return;
                }
            }
        };
        rt::timeout(WAIT_MAX, ended).await.expect("the etcd keeps the lease");
        store.lease_grant(5, Duration::from_secs(1000), Class::Durable).await.unwrap();
        // One of somebody else's is not ours, and may be too short.
        let theirs = LeaseGrantRequest { id: 6, ttl: 10 };
        etcd.ask(0, method::LEASE_GRANT, &theirs.encode()).await.unwrap();
        match store.lease_grant(6, Duration::from_secs(1000), Class::Durable).await {
            Err(Error::Invalid(why)) => assert_eq!(why, "etcdserver: lease already exists"),
            other => panic!("{other:?}"),
        }
        // What is there in the end is what a client of etcd sees.
        let all = RangeRequest {
            key: bytes("/registry/"),
            range_end: wire::etcd::prefix_end(b"/registry/"),
            ..Default::default()
        };
        let all = etcd.ask(0, method::RANGE, &all.encode()).await.unwrap();
        let all = RangeResponse::decode(&all, 100).unwrap();
        let expected = store.range(&Query::prefix("/registry/")).await.unwrap();
        assert_eq!(all.kvs.len(), 1);
        assert_eq!(all.kvs[0].key, expected.items[0].key);
        assert_eq!(all.kvs[0].mod_revision.cast_unsigned(), expected.items[0].mod_revision);
    });
}

#[test]
fn who_was_away_while_it_was_compacted_reads_everything_anew() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let way = Way::to(etcd.address(0)).await;
        let (near, far) = (store(&etcd.endpoints()).await, store(&way.endpoint).await);
        let write = |key: &'static str, value: &'static str| {
            near.write_one(
                Op::put(*key.as_bytes().first_chunk::<2>().unwrap(), value.as_bytes()),
                Class::Durable,
            )
        };
        write("/a", "1").await.unwrap();
        far.fresh().await.unwrap();
        assert!(far.get("/a").await.unwrap().is_some());
        // A cut that loses nothing.
        way.cut();
        write("/a", "2").await.unwrap();
        way.mend();
        until_fresh(&far, &near).await;
        let mut watch = far.watch(vec![Span::prefix("/")], None).await.unwrap();
        // One after which the past is gone.
        way.cut();
        near.write_one(Op::delete(*b"/a", store::Expect::Any), Class::Durable).await.unwrap();
        write("/b", "1").await.unwrap();
        let revision = write("/b", "2").await.unwrap().revision.cast_signed();
        let compaction = CompactionRequest { revision, physical: true };
        etcd.ask(0, method::COMPACT, &compaction.encode()).await.unwrap();
        way.mend();
        until_fresh(&far, &near).await;
        assert!(watch.next().await.is_err(), "a watch is told that it missed something");
        let found = far.write_one(Op::put(*b"/c", *b"1"), Class::Durable).await.unwrap();
        near.fresh().await.unwrap();
        assert_eq!(near.get("/c").await.unwrap().unwrap().mod_revision, found.revision);
    });
}

async fn held(store: &Store) -> String {
    naive::shown(&store.range(&Query::prefix("/")).await.unwrap().items)
}

/// Waits until a store holds what another one does.
async fn until_fresh(store: &Store, other: &Store) {
    let same = async {
        loop {
            if store.fresh().await.is_ok() && held(store).await == held(other).await {
                return;
            }
            rt::sleep(Duration::from_millis(50)).await;
        }
    };
    rt::timeout(WAIT_MAX, same).await.expect("they never hold the same");
}

/// What waits for the store has a bound, and servers that are gone are forgotten by compaction only.
#[test]
fn compaction_goes_as_far_as_every_living_server() {
    let Some(etcd) = Etcd::start(1) else { return };
    rt::block_on(async {
        let (first, second) = (open(&etcd.endpoints()).await, open(&etcd.endpoints()).await);
        let limits = Limits { dead_bytes_max: 0, ..Limits::default() };
        let writer = Store::share(Arc::clone(&first), limits).await.unwrap();
        second.load().await.unwrap();
        for n in 0..10u8 {
            writer.write_one(Op::put(*b"/a", [n]), Class::Durable).await.unwrap();
        }
        let newest = writer.revision();
        // Nobody knows how far the second is, then it is somewhere.
        first.purge().await.unwrap();
        second.report(newest - 5).await.unwrap();
        first.report(newest).await.unwrap();
        first.purge().await.unwrap();
        let read = |revision: u64| {
            let (etcd, revision) = (&etcd, revision.cast_signed());
            async move {
                let range = RangeRequest { key: bytes("/a"), revision, ..Default::default() };
                etcd.ask(0, method::RANGE, &range.encode()).await
            }
        };
        assert!(read(newest - 5).await.is_ok());
        let gone = read(newest - 6).await.unwrap_err();
        assert!(gone.message.contains("has been compacted"), "{gone}");
        // A deletion of everything by somebody else, at one revision.
        for n in 0..3000 {
            let key = bytes(&format!("/many/{n}"));
            let put = PutRequest { key, ..Default::default() };
            etcd.ask(0, method::PUT, &put.encode()).await.unwrap();
        }
        let delete = DeleteRangeRequest {
            key: bytes("/many/"),
            range_end: wire::etcd::prefix_end(b"/many/"),
            ..Default::default()
        };
        etcd.ask(0, method::DELETE_RANGE, &delete.encode()).await.unwrap();
        writer.fresh().await.unwrap();
        assert!(writer.range(&Query::prefix("/many/")).await.unwrap().items.is_empty());
    });
}

/// Writes one after another, each as often as it takes: the longest that one took, and the last value.
async fn write_on(
    store: &Store,
    key: &'static str,
    ending: &std::sync::atomic::AtomicBool,
) -> (Duration, u64) {
    let (mut longest, mut n) = (Duration::ZERO, 0u64);
    while !ending.load(std::sync::atomic::Ordering::Relaxed) {
        let begun = rt::now().mono;
        n += 1;
        let written = async {
            loop {
                let op = Op::put(key.as_bytes(), n.to_string().into_bytes());
                if store.write_one(op, Class::Durable).await.is_ok() {
                    return;
                }
            }
        };
        rt::timeout(WAIT_MAX, written).await.expect("writes do not go on");
        longest = longest.max(rt::now().mono.since(begun));
    }
    (longest, n)
}

#[test]
fn one_member_of_three_may_die_or_hang() {
    let Some(etcd) = Etcd::start(3) else { return };
    rt::block_on(async {
        let store = store(&etcd.endpoints()).await;
        let other = self::store(&etcd.endpoints()).await;
        let ending = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writing = rt::spawn({
            let (store, ending) = (store.clone(), Arc::clone(&ending));
            async move { write_on(&store, "/a", &ending).await }
        });
        // The first one is in use; then whoever leads.
        for round in 0..3 {
            let victim = if round == 0 { 0 } else { etcd.leader().await };
            let before = store.revision();
            match round {
                0 | 1 => etcd.hang(victim, true),
                _ => etcd.kill(victim),
            }
            let goes_on = async {
                while store.revision() < before + 20 {
                    rt::sleep(Duration::from_millis(10)).await;
                }
            };
            let begun = rt::now().mono;
            rt::timeout(WAIT_MAX, goes_on).await.expect("it does not go on");
            eprintln!("member {victim}: twenty writes {:?} later", rt::now().mono.since(begun));
            match round {
                0 | 1 => etcd.hang(victim, false),
                _ => rt::unblock(|| ()).await,
            }
            etcd.leader().await;
        }
        ending.store(true, std::sync::atomic::Ordering::Relaxed);
        let (longest, n) = writing.await;
        eprintln!("{n} writes, the longest took {longest:?}");
        until_fresh(&other, &store).await;
        let found = other.get("/a").await.unwrap().unwrap();
        assert_eq!(*found.value, *n.to_string().as_bytes());
    });
}

#[test]
fn over_tls_both_ends_show_who_they_are() {
    let Some(mut etcd) = Etcd::prepared(1) else { return };
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let host = etcd.address(0).split(':').next().unwrap().to_owned();
    let dir = etcd.dir().clone();
    let keep = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    keep("ca.crt", ca.pem());
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.clone()]).unwrap();
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        keep(&format!("{name}.crt"), params.signed_by(&key, &ca).unwrap().pem());
        keep(&format!("{name}.key"), key.serialize_pem());
    }
    etcd.over_tls("ca.crt", "server.crt", "server.key");
    etcd.run_all();
    let file = |name: &str| Some(etcd.dir().join(name));
    rt::block_on(async {
        let files = Files {
            cafile: file("ca.crt"),
            certfile: file("client.crt"),
            keyfile: file("client.key"),
        };
        let ready = async {
            loop {
                match datastore::open(&etcd.endpoints(), files.clone()).await {
                    Ok(log) => return log,
                    Err(_) => rt::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let log = rt::timeout(WAIT_MAX, ready).await.expect("no etcd over TLS");
        let store = Store::share(log, Limits::default()).await.unwrap();
        store.write_one(Op::put(*b"/a", *b"1"), Class::Durable).await.unwrap();
        // Nobody, and somebody who does not believe it.
        let nobody = Files { cafile: file("ca.crt"), ..Files::default() };
        let refused = datastore::open(&etcd.endpoints(), nobody).await.unwrap_err();
        assert!(refused.to_string().starts_with("without a client certificate"), "{refused}");
        let refused = datastore::open(&etcd.endpoints(), Files::default()).await.unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{refused}");
        let half = Files { keyfile: None, ..files };
        let refused = datastore::open(&etcd.endpoints(), half).await.unwrap_err();
        assert!(refused.to_string().contains("are given together"), "{refused}");
    });
}

#[test]
fn endpoints_that_cannot_be_are_refused() {
    rt::block_on(async {
        for (endpoint, why) in [
            ("http://u:p@127.0.0.1:1", "a user and a password are not supported"),
            ("http://127.0.0.1:1/path", "it should be of the form"),
            ("http://127.0.0.1:1,ftp://x", "its scheme is neither"),
            ("https://127.0.0.1:1", "127.0.0.1:1"),
        ] {
            let error = datastore::open(endpoint, Files::default()).await.unwrap_err().to_string();
            assert!(error.contains(why), "{endpoint}: {error}");
        }
    });
}
