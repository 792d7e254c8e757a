//! The default driver: one SQLite file in WAL mode, one connection, one fsync a batch.
//!
//! Rows are appended in the order of their numbers, so one transaction fills neighbouring pages;
//! pages freed by deletions are used again, and what is free beyond that goes back to the disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::BoxFuture;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use stdx::{Context, Error, Result};

use crate::ballast::Ballast;
use crate::driver::{Batch, Driver, LeaseRow, Loaded, Row, revision_of};
use crate::types::{Bytes, Class, KeyValue};
use crate::watch::lock;

pub(crate) struct SqliteDriver(Arc<File>);

struct File {
    path: PathBuf,
    /// `None` before the start, after the end, and after an error that a fresh connection may cure.
    connection: Mutex<Option<Connection>>,
    file_bytes: AtomicU64,
    abandoned: AtomicBool,
    ballast: Mutex<Ballast>,
}

impl SqliteDriver {
    pub(crate) fn new(path: &Path) -> SqliteDriver {
        let path = path.to_owned();
        let connection = Mutex::new(None);
        let (file_bytes, abandoned) = (AtomicU64::new(0), AtomicBool::new(false));
        let ballast = Mutex::new(Ballast::new(&path));
        SqliteDriver(Arc::new(File { path, connection, file_bytes, abandoned, ballast }))
    }

    /// Runs disk work on the blocking pool; the one committer never has two at once.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<File>) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let file = Arc::clone(&self.0);
        Box::pin(rt::unblock(move || work(&file)))
    }
}

impl fmt::Debug for SqliteDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteDriver({})", self.0.path.display())
    }
}

impl Driver for SqliteDriver {
    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        self.run(|file| {
            let what = || format!("open the datastore {}", file.path.display());
            let mut slot = lock(&file.connection);
            let connection = file.connect().context(what)?;
            let loaded = load(&connection, file.n_bytes(&connection)).context(what)?;
            // What was read is in our own memory now.
            connection.release_memory().context(what)?;
            *slot = Some(connection);
            Ok(loaded)
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<()>> {
        self.run(move |file| {
            let what = || format!("write to the datastore {}", file.path.display());
            let mut slot = lock(&file.connection);
            if file.abandoned.load(Ordering::SeqCst) {
                return Err(Error::new("the store is gone")).context(what);
            }
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => file.connect().context(what)?,
            };
            let mut committed = commit(&mut connection, &batch);
            let is_full = |done: &rusqlite::Result<()>| {
                done.as_ref().is_err_and(|e| e.sqlite_error_code() == Some(ErrorCode::DiskFull))
            };
            let now = rt::now().mono;
            let is_idle = connection.is_autocommit();
            if is_full(&committed) && is_idle && lock(&file.ballast).drop_off(now) {
                committed = commit(&mut connection, &batch);
            }
            // Nobody waits for the ballast; while it is being taken, it is not asked for.
            let due = file.ballast.try_lock().is_ok_and(|mut ballast| ballast.is_due(now));
            if due && committed.is_ok() {
                let file = Arc::clone(file);
                rt::spawn(rt::unblock(move || lock(&file.ballast).take())).detach();
            }
            file.n_bytes(&connection);
            // A full disk leaves the connection sound; after anything else a new one looks afresh.
            let sound = committed.is_ok() || is_full(&committed);
            let wanted = !file.abandoned.load(Ordering::SeqCst);
            if sound && wanted && connection.is_autocommit() {
                *slot = Some(connection);
            }
            committed.context(what)
        })
    }

    fn shrink(&self) -> BoxFuture<'_, Result<bool>> {
        self.run(|file| {
            let what = || format!("shrink the datastore {}", file.path.display());
            let slot = lock(&file.connection);
            let Some(connection) = slot.as_ref() else { return Ok(false) };
            let more = shrink(connection, REWRITTEN_MAX_BYTES).context(what)?;
            file.n_bytes(connection);
            Ok(more)
        })
    }

    fn scrub(&self, begin: bool) -> BoxFuture<'_, Result<()>> {
        self.run(move |file| {
            let what = || format!("scrub the datastore {}", file.path.display());
            let slot = lock(&file.connection);
            let Some(connection) = slot.as_ref() else { return Ok(()) };
            scrub(connection, begin).context(what)?;
            file.n_bytes(connection);
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.run(|file| {
            let Some(connection) = lock(&file.connection).take() else { return Ok(()) };
            connection
                .close()
                .map_err(|(_, error)| error)
                .context(|| format!("close the datastore {}", file.path.display()))
        })
    }

    fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        // A commit that runs right now holds the connection, sees the flag, and drops it itself.
        if let Ok(mut slot) = self.0.connection.try_lock() {
            slot.take();
        }
    }

    fn file_bytes(&self) -> u64 {
        self.0.file_bytes.load(Ordering::Relaxed)
    }
}

/// Small pages: a commit of one small object rewrites the last page, so a page's size is the least
/// a commit costs. Values above a page continue on pages of their own.
const PAGE_SIZE_BYTES: u32 = 1024;
/// Rows are appended: what was written last is all that is written again.
const CACHE_MAX_KIB: u32 = 64;
/// The log is copied back into the file when it holds this much, and cut to it.
const WAL_MAX_BYTES: u32 = 1 << 20;
/// After an unclean stop, files up to this size are checked whole; larger ones as far as they are read.
const CHECKED_MAX_BYTES: u64 = 64 << 20;
/// How long to wait for another process to let go of the file (a k3rs that is just stopping).
const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// 1 had seven bits for the place in a revision.
const VERSION: i64 = 2;
/// Free pages that stay in the file, beside a quarter of it: what comes and goes shall not cost anything.
const FREE_KEPT_BYTES: u64 = 1 << 20;
/// What is moved and cut off in one step.
const SHRINK_STEP_BYTES: u64 = 1 << 20;
const SHRINK_CACHE_MAX_KIB: u32 = 2048;
/// A file that holds at most this much is written anew instead.
const REWRITTEN_MAX_BYTES: u64 = 16 << 20;

impl File {
    fn connect(&self) -> Result<Connection> {
        if let Some(dir) = self.path.parent()
            && !rt::fs::list_dir(dir)?.contains(&self.path)
        {
            rt::fs::create_dir_all(dir, 0o700)?;
            // An empty file is a new database, and SQLite gives its log the same mode.
            rt::fs::write_atomic(&self.path, b"", 0o600)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).context(|| "open")?;
        connection.busy_timeout(BUSY_WAIT_MAX).context(|| "set the busy time-out")?;
        // Exclusive, before anything is read: no shared-memory file, and a second server is refused.
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {PAGE_SIZE_BYTES};
                 PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA mmap_size = 0;
                 PRAGMA cache_size = -{CACHE_MAX_KIB};
                 PRAGMA auto_vacuum = INCREMENTAL;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = {};
                 PRAGMA journal_size_limit = {WAL_MAX_BYTES};
                 PRAGMA temp_store = MEMORY;
                 PRAGMA trusted_schema = OFF;",
                WAL_MAX_BYTES / PAGE_SIZE_BYTES
            ))
            .context(|| "prepare the connection")?;
        prepare_tables(&connection)?;
        Ok(connection)
    }

    fn n_bytes(&self, connection: &Connection) -> u64 {
        let pages: i64 =
            connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap_or(0);
        let n_bytes = u64::try_from(pages).unwrap_or(0) * u64::from(PAGE_SIZE_BYTES);
        self.file_bytes.store(n_bytes, Ordering::Relaxed);
        n_bytes
    }
}

fn prepare_tables(connection: &Connection) -> Result<()> {
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .context(|| "read the schema's version")?;
    match version {
        VERSION => return Ok(()),
        1 => return widen(connection).context(|| "bring the tables to version 2"),
        _ => {}
    }
    let n_tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .context(|| "read the schema")?;
    if version > VERSION {
        return Err(Error::new(format!(
            "the datastore is of version {version}, which a later k3rs wrote; this one reads versions up to {VERSION} (k3rs rollback puts back what was kept for it)"
        )));
    }
    if version != 0 || n_tables != 0 {
        return Err(Error::new(format!(
            "the file is not a k3rs datastore of version {VERSION} (version {version}, {n_tables} tables)"
        )));
    }
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE log ({LOG_COLUMNS});
             CREATE TABLE lease (
               id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, lazy INTEGER NOT NULL
             );
             CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             PRAGMA user_version = {VERSION};
             COMMIT;"
        ))
        .context(|| "create the tables")
}

const LOG_COLUMNS: &str = "
    id INTEGER PRIMARY KEY,          -- mod revision and place in it, twenty bits
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB                       -- NULL: the key is gone
";

/// Brings a file of version 1 to version 2: rows get wider numbers. All of it happens or nothing.
fn widen(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE wide ({LOG_COLUMNS});
         INSERT INTO wide SELECT ((id >> 7) << 20) | (id & 127),
           key, create_revision, version, lease, value FROM log ORDER BY id;
         DROP TABLE log;
         ALTER TABLE wide RENAME TO log;
         PRAGMA user_version = 2;
         COMMIT;"
    ))
}

fn load(connection: &Connection, file_bytes: u64) -> Result<Loaded> {
    let meta = |name: &str| -> Result<Option<i64>> {
        let mut statement =
            connection.prepare("SELECT value FROM meta WHERE name = ?").context(|| "read meta")?;
        let mut rows = statement.query([name]).context(|| "read meta")?;
        let row = rows.next().context(|| "read meta")?;
        row.map(|row| row.get(0)).transpose().context(|| "read meta")
    };
    let mark = meta("mark")?;
    let clean = meta("clean")? == Some(1);
    if mark.is_some() && !clean && file_bytes <= CHECKED_MAX_BYTES {
        check(connection)?;
    }
    let mark = unsigned(mark.unwrap_or(0)).context(|| "read meta")?;
    let mut loaded = Loaded { mark, clean, ..Loaded::default() };
    load_leases(connection, &mut loaded).context(|| "read the leases")?;
    load_rows(connection, &mut loaded).context(|| "read the rows")?;
    Ok(loaded)
}

/// Asks SQLite whether the file's structure is whole.
fn check(connection: &Connection) -> Result<()> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", (), |row| row.get(0))
        .context(|| "check the file after an unclean stop")?;
    match verdict.as_str() {
        "ok" => Ok(()),
        verdict => Err(Error::new(format!("the file is damaged: {verdict}"))),
    }
}

/// Reading a row fails in several ways; the caller says what was being read.
type Reading = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn load_leases(connection: &Connection, loaded: &mut Loaded) -> Reading {
    let mut statement = connection.prepare("SELECT id, ttl_ms, lazy FROM lease")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let class = if row.get::<_, bool>(2)? { Class::Lazy } else { Class::Durable };
        let ttl = Duration::from_millis(unsigned(row.get(1)?)?);
        loaded.leases.push(LeaseRow { id: row.get(0)?, ttl, class });
    }
    Ok(())
}

fn load_rows(connection: &Connection, loaded: &mut Loaded) -> Reading {
    let mut statement = connection
        .prepare("SELECT id, key, create_revision, version, lease, value FROM log ORDER BY id")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let id = unsigned(row.get(0)?)?;
        let (mod_revision, sub) = revision_of(id);
        if mod_revision > loaded.mark {
            return Err(format!("row {id} is beyond the revision {}", loaded.mark).into());
        }
        let key = Bytes::from(row.get_ref(1)?.as_blob()?);
        let create_revision = unsigned(row.get(2)?)?;
        let version = row.get(3)?;
        let lease = row.get(4)?;
        let kv = row.get_ref(5)?.as_blob_or_null()?.map(|value| KeyValue {
            key: Arc::clone(&key),
            value: Bytes::from(value),
            create_revision,
            mod_revision,
            version,
            sub,
            checked: false,
            lease,
        });
        loaded.row(Row { id, key, kv, replaces: 0 });
    }
    Ok(())
}

fn commit(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Deletions first: a row that is written again may be among them.
    if !batch.purged.is_empty() {
        let mut purge = transaction.prepare("DELETE FROM log WHERE id = ?")?;
        for id in &batch.purged {
            purge.execute([signed(*id)])?;
        }
    }
    if !batch.rows.is_empty() {
        let mut insert = transaction.prepare(
            "INSERT OR REPLACE INTO log (id, key, create_revision, version, lease, value)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for row in &batch.rows {
            let kv = row.kv.as_ref();
            insert.execute(params![
                signed(row.id),
                &*row.key,
                kv.map_or(0, |kv| signed(kv.create_revision)),
                kv.map_or(0, |kv| kv.version),
                kv.map_or(0, |kv| kv.lease),
                kv.map(|kv| &*kv.value),
            ])?;
        }
    }
    for lease in &batch.leases {
        let ttl_ms = i64::try_from(lease.ttl.as_millis()).unwrap_or(i64::MAX);
        transaction.execute(
            "INSERT OR REPLACE INTO lease VALUES (?, ?, ?)",
            params![lease.id, ttl_ms, lease.class == Class::Lazy],
        )?;
    }
    for id in &batch.ended_leases {
        transaction.execute("DELETE FROM lease WHERE id = ?", [id])?;
    }
    let marks = [("mark", batch.mark.map(signed)), ("clean", batch.clean.map(i64::from))];
    for (name, value) in marks {
        if let Some(value) = value {
            transaction
                .execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", params![name, value])?;
        }
    }
    transaction.commit()
}

/// One step of giving free pages back; whether another one is worth it.
///
/// A file that holds little is written anew at once: that writes what it holds and nothing else, and
/// SQLite takes its time to find each of very many free pages. A larger one shrinks page by page.
fn shrink(connection: &Connection, rewritten_max_bytes: u64) -> Result<bool> {
    let number = |name: &str| -> Result<u64> {
        let value = connection.pragma_query_value(None, name, |row| row.get(0));
        unsigned(value.context(|| format!("read {name}"))?)
    };
    let page = u64::from(PAGE_SIZE_BYTES);
    let surplus = || -> Result<u64> {
        let (all, free) = (number("page_count")? * page, number("freelist_count")? * page);
        Ok(free.saturating_sub((all / 4).max(FREE_KEPT_BYTES)))
    };
    let left = surplus()?;
    if left == 0 {
        return Ok(false);
    }
    let held = (number("page_count")? - number("freelist_count")?) * page;
    if held <= rewritten_max_bytes {
        let rewrite = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM";
        connection.execute_batch(rewrite).context(|| "write the file anew")?;
        checkpoint(connection)?;
        connection.release_memory().context(|| "give back memory")?;
        return Ok(false);
    }
    if number("auto_vacuum")? == 0 {
        return Ok(false);
    }
    let n_pages = left.min(SHRINK_STEP_BYTES) / page;
    // The list of free pages is read again for each of them.
    let cache = |kib: u32| {
        let set = format!("PRAGMA cache_size = -{kib}");
        connection.execute_batch(&set).context(|| "set the size of the cache")
    };
    cache(SHRINK_CACHE_MAX_KIB)?;
    let given = give_back(connection, n_pages).context(|| "give back free pages");
    cache(CACHE_MAX_KIB)?;
    given?;
    // A step that moved nothing would not move anything the next time either.
    let more = (1..left).contains(&surplus()?);
    if !more {
        // The file itself is cut when the log is copied back into it.
        checkpoint(connection)?;
    }
    connection.release_memory().context(|| "give back memory")?;
    Ok(more)
}

/// Before dead rows are deleted, has SQLite overwrite what it deletes; afterwards rids the file of what was
/// deleted earlier: written anew if it holds little, or else cut by its free pages. The log ends empty.
fn scrub(connection: &Connection, begin: bool) -> Result<()> {
    if begin {
        return connection.execute_batch("PRAGMA secure_delete = ON").context(|| "overwrite");
    }
    let number = |name: &str| -> Result<u64> {
        let value = connection.pragma_query_value(None, name, |row| row.get(0));
        unsigned(value.context(|| format!("read {name}"))?)
    };
    let n_free = number("freelist_count")?;
    let held = (number("page_count")? - n_free) * u64::from(PAGE_SIZE_BYTES);
    if held <= REWRITTEN_MAX_BYTES {
        let rewrite = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM";
        connection.execute_batch(rewrite).context(|| "write the file anew")?;
    } else {
        give_back(connection, n_free).context(|| "give back free pages")?;
    }
    let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    cut.context(|| "copy the log into the file")?;
    connection.execute_batch("PRAGMA secure_delete = OFF").context(|| "overwrite no longer")?;
    connection.release_memory().context(|| "give back memory")
}

/// Moves so many pages from the file's end into free places, and cuts them off.
fn give_back(connection: &Connection, n_pages: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({n_pages})"))?;
    let mut rows = statement.query(())?;
    // It answers an empty row for each page.
    while rows.next()?.is_some() {}
    Ok(())
}

fn checkpoint(connection: &Connection) -> Result<()> {
    let row = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    row.context(|| "copy the log into the file")
}

/// SQLite's integers are signed; revisions stay far below 2^56, so that their row numbers fit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).context(|| format!("a negative number {number} where none may be"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::row_id;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("shrink-{name}-{}", std::process::id()));
            rt::fs::create_dir_all(&dir, 0o700).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn row(id: u64, value: Option<usize>) -> Row {
        let key = Bytes::from(id.to_string().into_bytes());
        let (mod_revision, sub) = revision_of(id);
        let kv = value.map(|n_bytes| KeyValue {
            key: Arc::clone(&key),
            value: vec![7; n_bytes].into(),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
            sub,
            checked: false,
            lease: 0,
        });
        Row { id, key, kv, replaces: 0 }
    }

    /// Rows come and all but a few go: the file must follow, in both kinds of files, and hold what is left.
    fn comes_and_goes(old_file: bool, rewritten_max_bytes: u64) {
        let dir = Dir::new(&format!("{old_file}-{rewritten_max_bytes}"));
        let path = dir.0.join("state.db");
        if old_file {
            let connection = Connection::open(&path).unwrap();
            let made = "PRAGMA page_size = 1024; PRAGMA auto_vacuum = NONE; VACUUM; PRAGMA journal_mode = WAL";
            connection.execute_batch(made).unwrap();
        }
        rt::block_on(async {
            let driver = SqliteDriver::new(&path);
            driver.load().await.unwrap();
            for first in (0..8000).step_by(500) {
                let rows = (first..first + 500).map(|id| row(128 + id, Some(2000))).collect();
                let mark = Some(1 << 20);
                driver.commit(Batch { rows, mark, ..Batch::default() }).await.unwrap();
            }
            assert!(!driver.shrink().await.unwrap(), "nothing is free");
            assert!(path.metadata().unwrap().len() > 14 << 20);
            // Every hundredth stays.
            let purged = (0..8000).filter(|id| id % 100 != 0).map(|id| 128 + id).collect();
            driver.commit(Batch { purged, ..Batch::default() }).await.unwrap();
            let step = || {
                let slot = lock(&driver.0.connection);
                shrink(slot.as_ref().unwrap(), rewritten_max_bytes).unwrap()
            };
            let mut steps = 1;
            while step() {
                steps += 1;
                assert!(steps < 100);
            }
            assert!(steps == 1 || rewritten_max_bytes == 0 && steps > 5, "{steps} steps");
            let n_bytes = path.metadata().unwrap().len();
            assert!(n_bytes < 3 << 20, "{n_bytes}");
            driver.close().await.unwrap();
            let again = SqliteDriver::new(&path);
            assert_eq!(again.load().await.unwrap().keys.len(), 80);
            assert!(!again.shrink().await.unwrap());
        });
    }

    /// A file as version 1 wrote it opens with every row in its place, dead ones and tombstones too.
    #[test]
    fn a_file_of_version_1_gets_wider_numbers() {
        let dir = Dir::new("version-1");
        let path = dir.0.join("state.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size = 1024; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
                 CREATE TABLE log (
                   id INTEGER PRIMARY KEY, key BLOB NOT NULL, create_revision INTEGER NOT NULL,
                   version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB
                 );
                 CREATE TABLE lease (
                   id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, lazy INTEGER NOT NULL
                 );
                 CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
                 INSERT INTO meta VALUES ('mark', 4100), ('clean', 0);
                 INSERT INTO lease VALUES (9, 60000, 0);
                 PRAGMA user_version = 1;",
            )
            .unwrap();
        let rows = [
            (2 << 7, "/a", 2, 1, Some("old")),
            (2 << 7 | 1, "/b", 2, 1, Some("b")),
            (2 << 7 | 127, "/c", 2, 1, Some("c")),
            (3 << 7, "/a", 2, 2, Some("new")),
            (4 << 7, "/c", 0, 0, None),
            (4100 << 7 | 5, "/d", 4100, 1, Some("d")),
        ];
        for (id, key, created, version, value) in rows {
            let (key, value) = (key.as_bytes(), value.map(str::as_bytes));
            let row = params![id, key, created, version, 9, value];
            connection.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", row).unwrap();
        }
        drop(connection);
        rt::block_on(async {
            for _ in 0..2 {
                let driver = SqliteDriver::new(&path);
                let loaded = driver.load().await.unwrap();
                let shown = |kv: &KeyValue| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let (key, value) = (text(&kv.key), text(&kv.value));
                    format!("{key}={value} {} {} {}", kv.create_revision, kv.mod_revision, kv.sub)
                };
                let keys: Vec<String> = loaded.keys.values().map(shown).collect();
                assert_eq!(keys, ["/a=new 2 3 0", "/b=b 2 2 1", "/d=d 4100 4100 5"]);
                assert_eq!((loaded.mark, loaded.leases.len()), (4100, 1));
                let dead = [(2, 0), (2, 127), (4, 0)];
                assert_eq!(loaded.dead.first(9), dead.map(|(revision, sub)| row_id(revision, sub)));
                driver.close().await.unwrap();
            }
        });
    }

    #[test]
    fn a_file_that_holds_little_is_written_anew() {
        comes_and_goes(false, REWRITTEN_MAX_BYTES);
    }

    #[test]
    fn a_file_that_holds_much_shrinks_in_bounded_steps() {
        comes_and_goes(false, 0);
    }

    #[test]
    fn a_file_from_before_files_could_shrink_is_written_anew() {
        comes_and_goes(true, REWRITTEN_MAX_BYTES);
    }
}
