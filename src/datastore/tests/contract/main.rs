//! What a log must do, on real databases: `e2e/setup.sh test` installs them.

mod database;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use database::{Database, Kind};
use datastore::Files;
use store::{Append, Appended, Bytes, Row, SharedLog, Tail, Version};

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
    let first = open(database, "appends").await;
    let second = open(database, "appends").await;
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
    let loaded = store::Store::share(Arc::clone(&second), store::Limits::default()).await.unwrap();
    let all = loaded.range(&store::Query::prefix("")).await.unwrap();
    assert_eq!(
        format!("{:?}", all.items),
        r#"["/a"@4 (created 2, version 2, 1 bytes), "/b"@6 (created 6, version 1, 0 bytes)]"#
            .replace('"', "")
    );
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
