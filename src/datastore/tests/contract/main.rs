//! What a log must do, on real databases: `e2e/setup.sh test` installs them.

mod database;
mod history;
#[allow(dead_code)]
#[path = "../../../store/tests/shared/linear.rs"]
mod linear;
mod losing;
#[allow(dead_code)]
#[path = "../../../store/tests/support/naive.rs"]
mod naive;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use database::{Database, Kind};
use datastore::Files;
use losing::Losing;
use store::{Append, Appended, Bytes, Limits, Query, Row, SharedLog, Store, Tail, Version};

/// Whatever is waited for comes within this time.
const WAIT_MAX: Duration = Duration::from_secs(60);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    rt::block_on(async { rt::timeout(WAIT_MAX, future).await.expect("it takes too long") })
}

async fn open(database: &Database, name: &str) -> Arc<dyn SharedLog> {
    datastore::open(&database.endpoint(name), Files::default()).await.unwrap()
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn put(revision: u64, key: &str, value: &str, create_revision: u64, version: u32) -> Row {
    let version = Version { value: bytes(value), create_revision, version, lease: 0 };
    Row::new(revision, 0, bytes(key), Some(version))
}

fn append(base: u64, token: u64, rows: Vec<Row>) -> Append {
    Append { base, last: base + rows.len() as u64, token, rows, relied: Vec::new() }
}

async fn rows_after(log: &dyn SharedLog, after: u64) -> (Vec<Row>, u64) {
    match log.tail(after).await.unwrap() {
        Tail::Rows { rows, revision } => (rows, revision),
        Tail::Compacted => panic!("compacted after {after}"),
    }
}

fn shown(rows: &[Row]) -> String {
    let one = |row: &Row| match &row.kv {
        Some(kv) => format!(
            "{}@{}={} c{} v{}",
            row.key.escape_ascii(),
            row.revision(),
            kv.value.escape_ascii(),
            kv.create_revision,
            kv.version
        ),
        None => format!("{}@{} gone", row.key.escape_ascii(), row.revision()),
    };
    rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Appends by two servers, told to each other; what comes twice, and what comes too late.
async fn appends(database: &Database) {
    // Both find nothing, and one of them makes it.
    let both = rt::future::zip(open(database, "appends"), open(database, "appends")).await;
    let (first, second) = both;
    first.load().await.unwrap();
    let base = first.newest().await.unwrap();
    assert_eq!(base, 1, "kine's mark is the first row");
    let rows = vec![
        put(2, "/a", "x", 2, 1),
        put(3, "/b", "\0'\\\u{1a}ä", 3, 1),
        put(4, "/a", "y", 2, 2),
        Row::new(5, 0, bytes("/b"), None),
    ];
    let all = append(1, 7, rows);
    let grown = rt::spawn({
        let second = Arc::clone(&second);
        async move { second.grown(1).await }
    });
    assert_eq!(first.append(all.clone()).await.unwrap(), Appended::At(2));
    grown.await;
    assert_eq!(first.append(all.clone()).await.unwrap(), Appended::At(2), "the same token");
    assert_eq!(
        second.append(append(1, 8, vec![put(2, "/c", "z", 2, 1)])).await.unwrap(),
        Appended::Lost
    );
    assert_eq!(second.newest().await.unwrap(), 5);
    let (rows, revision) = rows_after(&*second, 1).await;
    let expected = "/a@2=x c2 v1, /b@3=\\x00\\'\\\\\\x1a\\xc3\\xa4 c3 v1, /a@4=y c2 v2, /b@5 gone";
    assert_eq!((shown(&rows).as_str(), revision), (expected, 5));
    let (rows, revision) = rows_after(&*second, 5).await;
    assert_eq!((rows.len(), revision), (0, 5));
    // A key that comes back, over its tombstone.
    let back = append(5, 9, vec![put(6, "/b", "", 6, 1)]);
    assert_eq!(second.append(back).await.unwrap(), Appended::At(6));
    // The first server's last append is still known after the other's.
    assert_eq!(first.append(all).await.unwrap(), Appended::At(2));
    let columns = "id, name, created, deleted, create_revision, prev_revision, lease";
    let table =
        database.sql("appends", &format!("SELECT {columns} FROM kine ORDER BY id")).unwrap();
    assert_eq!(
        table,
        "1|compact_rev_key|1|0|0|0|0\n2|/a|1|0|0|0|0\n3|/b|1|0|0|0|0\n4|/a|0|0|2|2|0\n5|/b|0|1|3|3|0\n6|/b|1|0|0|5|0"
    );
    let values = "SELECT id, value = old_value, octet_length(value), octet_length(old_value) FROM kine WHERE id > 1 ORDER BY id";
    let values =
        database.sql("appends", values).unwrap().replace("|t|", "|1|").replace("|f|", "|0|");
    assert_eq!(values, "2||1|\n3||6|\n4|0|1|1\n5|1|6|6\n6|0|0|6");
    let store = Store::share(Arc::clone(&second), Limits::default()).await.unwrap();
    let all = store.range(&Query::prefix("")).await.unwrap();
    let items = "[/a@4 (created 2, version 2, 1 bytes), /b@6 (created 6, version 1, 0 bytes)]";
    assert_eq!(format!("{:?}", all.items).replace('"', ""), items);
    // A server whose row is gone cannot say whether what it sent before had arrived.
    database.sql("appends", "DELETE FROM k3rs_server WHERE id > 0").unwrap();
    let newest = first.newest().await.unwrap();
    let lost = append(newest, 20, vec![put(newest + 1, "/c", "x", newest + 1, 1)]);
    for _ in 0..3 {
        assert!(first.append(lost.clone()).await.is_err());
    }
    let again = append(newest, 21, lost.rows);
    assert_eq!(first.append(again).await.unwrap(), Appended::At(newest + 1));
}

/// Rows in pages, by number and by size, and what no page and no table takes.
async fn pages(database: &Database) {
    let log = open(database, "pages").await;
    let mut last = 1;
    for batch in 0..3 {
        let rows = (0..400).map(|n| {
            let revision = last + 1 + n;
            put(revision, &format!("/{batch}/{n}"), "x", revision, 1)
        });
        let batch = append(last, batch, rows.collect());
        last = batch.last;
        log.append(batch).await.unwrap();
    }
    let mut told = 1;
    let mut pages = Vec::new();
    loop {
        let (rows, revision) = rows_after(&*log, told).await;
        if rows.is_empty() {
            break;
        }
        pages.push(rows.len());
        told = revision;
    }
    assert_eq!((pages, told), (vec![500, 500, 200], 1201));
    let large = "\0".repeat(1_500_000);
    let rows = (1..=5).map(|n| put(last + n, &format!("/large/{n}"), &large, last + n, 1));
    log.append(append(last, 10, rows.collect())).await.unwrap();
    let (rows, revision) = rows_after(&*log, last).await;
    assert_eq!((rows.len(), revision), (3, last + 3), "no more than four megabytes and one row");
    last += 5;
    let long = "k".repeat(4000);
    let refused = log.append(append(last, 11, vec![put(last + 1, &long, "x", last + 1, 1)])).await;
    assert!(refused.unwrap_err().to_string().contains("longer than kine's table takes"));
    if database.kind == Kind::Mariadb {
        // In several packets, as far as a row fits into one.
        let endpoint = format!("{}?maxAllowedPacket=1000000", database.endpoint("pages"));
        let log = datastore::open(&endpoint, Files::default()).await.unwrap();
        let large = "y".repeat(400_000);
        let rows = (1..=5).map(|n| put(last + n, &format!("/parts/{n}"), &large, last + n, 1));
        let parts = append(last, 12, rows.collect());
        assert_eq!(log.append(parts.clone()).await.unwrap(), Appended::At(last + 1));
        assert_eq!(log.append(parts).await.unwrap(), Appended::At(last + 1));
        last += 5;
        let larger = "y".repeat(1_400_000);
        let one = append(last, 13, vec![put(last + 1, "/parts/6", &larger, last + 1, 1)]);
        let refused = log.append(one).await.unwrap_err();
        assert!(refused.to_string().contains("max_allowed_packet"), "{refused}");
    }
}

/// Purging as far as everyone has followed, and who has not.
async fn purges(database: &Database) {
    let first = open(database, "purges").await;
    let second = open(database, "purges").await;
    let mut last = 1;
    for round in 0..10 {
        let rows = (0..10).map(|n| {
            put(last + 1 + n, &format!("/{n}"), "x", 2 + n, u32::try_from(round).unwrap() + 1)
        });
        let batch = append(last, round, rows.collect());
        last = batch.last;
        first.append(batch).await.unwrap();
    }
    let count = || database.sql("purges", "SELECT count(*) FROM kine").unwrap();
    let mark = "SELECT prev_revision FROM kine WHERE name = 'compact_rev_key'";
    assert!(first.report(last).await.unwrap().leads);
    let role = second.report(50).await.unwrap();
    assert!(!role.leads && role.n_servers == 2);
    first.purge().await.unwrap();
    assert_eq!(database.sql("purges", mark).unwrap(), "50");
    // Of 49 rows up to there ten live; 51 are later, and one is kine's.
    assert_eq!(count(), "62");
    // A number that is free because its row is purged is not free.
    let old = append(5, 30, vec![put(6, "/old", "x", 6, 1)]);
    assert_eq!(first.append(old).await.unwrap(), Appended::Lost);
    assert!(matches!(second.tail(49).await.unwrap(), Tail::Compacted));
    assert_eq!(rows_after(&*second, 50).await.0.len(), 51);
    // A server that is gone holds nobody up, nor leads.
    database.sql("purges", "UPDATE k3rs_server SET seen = 0 WHERE followed > 50").unwrap();
    assert!(second.report(last).await.unwrap().leads);
    first.report(last).await.unwrap();
    let gone = append(last, 20, vec![Row::new(last + 1, 0, bytes("/0"), None)]);
    second.append(gone).await.unwrap();
    last += 1;
    second.report(last).await.unwrap();
    first.report(last).await.unwrap();
    second.purge().await.unwrap();
    // The tombstone says which revision comes next, and what it replaces goes with it later.
    assert_eq!(
        (database.sql("purges", mark).unwrap(), count()),
        ((last - 1).to_string(), "12".into())
    );
    assert_eq!(second.newest().await.unwrap(), last);
    let next = append(last, 21, vec![put(last + 1, "/0", "y", last + 1, 1)]);
    assert_eq!(first.append(next).await.unwrap(), Appended::At(last + 1));
    for log in [&first, &second] {
        log.report(last + 1).await.unwrap();
    }
    second.purge().await.unwrap();
    assert_eq!(count(), "11");
    let store = Store::share(first, Limits::default()).await.unwrap();
    assert_eq!(store.count(&store::Span::prefix("/")).await.unwrap(), 10);
}

/// A stock server's table is taken over, and given back.
async fn takes_over(database: &Database) {
    // Its tables are like ours but for our columns; made here in another way, they are made whole.
    drop(open(database, "stock").await);
    database.sql("stock", "DROP TABLE k3rs_server").unwrap();
    for column in ["k3rs_lease", "k3rs_version"] {
        database.sql("stock", &format!("ALTER TABLE kine DROP COLUMN {column}")).unwrap();
    }
    let columns =
        "id, name, created, deleted, create_revision, prev_revision, lease, value, old_value";
    let rows = [
        "(2, '/registry/health', 1, 0, 0, 0, 0, 'h', NULL)",
        "(3, '/registry/events/a', 1, 0, 0, 0, 3600, 'e', NULL)",
        "(4, 'gap-4', 0, 1, 0, 0, 0, NULL, NULL)",
        "(5, '/registry/events/a', 0, 0, 3, 3, 3600, 'f', 'e')",
        "(6, '/registry/masterleases/x', 1, 0, 0, 0, 15, 'm', NULL)",
        "(7, '/registry/b', 1, 0, 0, 0, 0, 'b', NULL)",
        "(8, '/registry/b', 0, 1, 7, 7, 0, 'b', 'b')",
        "(9, '/registry/events/c', 1, 0, 0, 0, 3600, 'e', NULL)",
    ];
    let insert = format!("INSERT INTO kine ({columns}) VALUES {}", rows.join(", "));
    database.sql("stock", &insert).unwrap();
    let first = Store::share(open(database, "stock").await, Limits::default()).await.unwrap();
    let second = Store::share(open(database, "stock").await, Limits::default()).await.unwrap();
    for store in [&first, &second] {
        let keys = store.range(&Query::prefix("/registry/")).await.unwrap();
        let shown: Vec<String> =
            keys.items.iter().map(|kv| format!("{kv:?} {}", kv.lease)).collect();
        let expected = [
            r#"/registry/events/a@5 (created 3, version 2, 1 bytes) 3600"#,
            r#"/registry/events/c@9 (created 9, version 1, 1 bytes) 3600"#,
            r#"/registry/health@2 (created 2, version 1, 1 bytes) 0"#,
            r#"/registry/masterleases/x@6 (created 6, version 1, 1 bytes) 15"#,
        ];
        assert_eq!(shown.join("\n").replace('"', ""), expected.join("\n"));
        assert_eq!(store.lease_ids().await, [15, 3600], "made once");
        assert_eq!(store.lease_info(3600).await.unwrap().ttl, Duration::from_secs(3600));
    }
    let leases = "SELECT count(*) FROM kine WHERE name LIKE '/k3rs/leases/%'";
    assert_eq!(database.sql("stock", leases).unwrap(), "2");
    // What we write has its time where kine looks for it.
    let put = store::Op::put(*b"/registry/events/a", *b"g").with_lease(3600);
    let written = first.write_one(put, store::Class::Durable).await.unwrap();
    let row = format!(
        "SELECT created, deleted, create_revision, prev_revision, lease FROM kine WHERE id = {}",
        written.revision
    );
    assert_eq!(database.sql("stock", &row).unwrap(), "0|0|3|5|3600");
    first.lease_revoke(15).await.unwrap();
    second.fresh().await.unwrap();
    assert!(second.get("/registry/masterleases/x").await.unwrap().is_none());
    let newest = first.revision();
    let tombstone = "SELECT created, deleted, create_revision, prev_revision, lease, value = old_value FROM kine WHERE name = '/registry/masterleases/x' AND deleted = 1";
    assert_eq!(database.sql("stock", tombstone).unwrap().replace('t', "1"), "0|1|6|6|15|1");
    first.close().await.unwrap();
    second.close().await.unwrap();
    // Kine goes on with the next number.
    let insert = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value) VALUES ('/registry/d', 1, 0, 0, 0, 0, 'd')";
    database.sql("stock", insert).unwrap();
    let max = database.sql("stock", "SELECT max(id) FROM kine").unwrap();
    assert_eq!(max, (newest + 1).to_string());
}

/// An answer that is lost: what was appended is known when it comes again, also when others went on meanwhile.
async fn loses(database: &Database) {
    let way = Losing::before(database.socket_address()).await;
    let far = datastore::open(&database.endpoint_at(&way.address, "loses"), Files::default()).await;
    let far = far.unwrap();
    let near = open(database, "loses").await;
    let mut last = 1;
    for token in 0..20 {
        let one = append(last, token, vec![put(last + 1, "/a", "x", last + 1, 1)]);
        // The listening connection is told at about the same time, and may lose what it is told instead.
        way.lose();
        assert_eq!(far.append(one.clone()).await.unwrap(), Appended::At(last + 1));
        last += 1;
        let other = append(last, 100 + token, vec![put(last + 1, "/b", "x", last + 1, 1)]);
        assert_eq!(near.append(other).await.unwrap(), Appended::At(last + 1));
        assert_eq!(far.append(one).await.unwrap(), Appended::At(last));
        last += 1;
        while !way.has_lost() {
            let _ = far.newest().await;
        }
    }
    assert_eq!(rows_after(&*near, 1).await.0.len(), 40);
}

/// Whom the endpoint and the flags believe.
async fn believes(database: &Database) {
    let ours = Files { cafile: Some(database.file("certificate.pem")), ..Files::default() };
    let other = Files { cafile: Some(database.file("other.pem")), ..Files::default() };
    let none = Files::default();
    let nameless = &database.nameless;
    let here = database.endpoint("tls");
    let there = database.endpoint_at(nameless, "tls");
    let cases: Vec<(String, &Files, bool)> = match database.kind {
        Kind::Postgres => vec![
            (format!("{here}?sslmode=disable"), &none, true),
            (format!("{here}?sslmode=require"), &none, true),
            // The public authorities know nothing of it.
            (format!("{here}?sslmode=verify-ca"), &none, false),
            (here.clone(), &ours, true),
            (there.clone(), &ours, false),
            (format!("{there}?sslmode=verify-ca"), &ours, true),
            (format!("{there}?sslmode=verify-ca"), &other, false),
            (here.clone(), &other, false),
            // A password that is wrong, and a setting that is none.
            (here.replace("p%40ss", "pass"), &none, false),
            (format!("{here}?no_such_setting=1"), &none, false),
        ],
        Kind::Mariadb => vec![
            (format!("{here}?tls=preferred"), &none, true),
            (format!("{here}?tls=skip-verify"), &none, true),
            (format!("{here}?tls=true"), &none, false),
            (here.clone(), &ours, true),
            (there.clone(), &ours, false),
            (here.clone(), &other, false),
            (here.replace("p@ss", "pass"), &none, false),
            (format!("{here}?no_such_setting=1"), &none, false),
        ],
    };
    for (endpoint, files, believed) in cases {
        let opened = datastore::open(&endpoint, files.clone()).await;
        assert_eq!(opened.is_ok(), believed, "{endpoint} {files:?}: {opened:?}");
        if let Ok(log) = opened {
            log.load().await.unwrap();
        }
    }
    // Over TLS it is what is said to be spoken.
    let log = match database.kind {
        Kind::Postgres => open(database, "tls").await,
        Kind::Mariadb => datastore::open(&format!("{here}?tls=true"), ours).await.unwrap(),
    };
    let sql = match database.kind {
        Kind::Postgres => "SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl",
        Kind::Mariadb => {
            "SELECT variable_value > 0 FROM information_schema.global_status WHERE variable_name = 'ssl_finished_accepts'"
        }
    };
    assert_eq!(database.sql(database.first(), sql).unwrap().replace('t', "1"), "1");
    drop(log);
}

/// Connections that are cut, and a database that dies and comes back: what is asked then is answered, and what
/// was appended stands.
async fn breaks(database: &Database) {
    let log = open(database, "breaks").await;
    log.load().await.unwrap();
    assert_eq!(
        log.append(append(1, 1, vec![put(2, "/a", "x", 2, 1)])).await.unwrap(),
        Appended::At(2)
    );
    database.cut();
    assert_eq!(
        log.append(append(2, 2, vec![put(3, "/a", "y", 2, 2)])).await.unwrap(),
        Appended::At(3)
    );
    database.kill();
    // The process of the connection notices a little later.
    while log.newest().await.is_ok() {
        rt::sleep(Duration::from_millis(10)).await;
    }
    let again = append(3, 3, vec![put(4, "/a", "z", 2, 3)]);
    assert!(log.append(again.clone()).await.is_err());
    database.run();
    assert_eq!(log.append(again.clone()).await.unwrap(), Appended::At(4));
    assert_eq!(log.append(again).await.unwrap(), Appended::At(4));
    // Who listens comes back too.
    let other = open(database, "breaks").await;
    assert_eq!(
        other.append(append(4, 4, vec![put(5, "/a", "z", 2, 4)])).await.unwrap(),
        Appended::At(5)
    );
    log.grown(4).await;
    // What is dropped in the middle of its way leaves a log that works.
    for n in 0..50 {
        let _ = rt::timeout(Duration::from_micros(n * 40), log.tail(1)).await;
    }
    assert_eq!(rows_after(&*log, 1).await.0.len(), 4);
    log.abandon();
    assert!(log.newest().await.is_err());
}

fn does_what_a_log_must(kind: Kind) {
    let Some(database) = Database::start(kind) else { return };
    block_on(appends(&database));
    block_on(loses(&database));
    block_on(believes(&database));
    block_on(pages(&database));
    block_on(purges(&database));
    block_on(takes_over(&database));
    block_on(history::is_one(&database));
    block_on(breaks(&database));
}

#[test]
fn postgres() {
    does_what_a_log_must(Kind::Postgres);
}

#[test]
fn mariadb() {
    does_what_a_log_must(Kind::Mariadb);
}
