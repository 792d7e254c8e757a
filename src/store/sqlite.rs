//! The default driver: one SQLite file in WAL mode, one connection, one fsync a batch.
//!
//! Rows are appended in the order of their numbers, so one transaction fills neighbouring pages;
//! pages freed by deletions are used again, so the file stops growing without a VACUUM.

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
const VERSION: i64 = 1;

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
        // Exclusive: no shared-memory file, and a second server is refused.
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {PAGE_SIZE_BYTES};
                 PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA mmap_size = 0;
                 PRAGMA cache_size = -{CACHE_MAX_KIB};
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
    if version == VERSION {
        return Ok(());
    }
    let n_tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .context(|| "read the schema")?;
    if version != 0 || n_tables != 0 {
        return Err(Error::new(format!(
            "the file is not a k3rs datastore of version {VERSION} (version {version}, {n_tables} tables)"
        )));
    }
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE log (
               id INTEGER PRIMARY KEY,          -- mod revision and place in it, seven bits
               key BLOB NOT NULL,
               create_revision INTEGER NOT NULL,
               version INTEGER NOT NULL,
               lease INTEGER NOT NULL,
               value BLOB                       -- NULL: the key is gone
             );
             CREATE TABLE lease (
               id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, lazy INTEGER NOT NULL
             );
             CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             PRAGMA user_version = {VERSION};
             COMMIT;"
        ))
        .context(|| "create the tables")
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
            lease,
        });
        loaded.row(Row { id, key, kv });
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

/// SQLite's integers are signed; revisions stay far below 2^56, so that their row numbers fit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).context(|| format!("a negative number {number} where none may be"))
}
