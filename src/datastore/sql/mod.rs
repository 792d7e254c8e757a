//! kine's table in a SQL database as a log that several servers share.
//!
//! Each changed key is a row, and its `id` is the revision. An append goes there and back once, in one transaction:
//! it takes the lock that appends and purges share, marks itself as this server's last one if its base is the
//! newest revision, and adds its rows if it did. So no row comes out of order, none is added twice, and what
//! another server was faster with changes nothing. Rows that a kine beside us adds at the same moment meet the
//! table's key, and the append is lost; but kine numbers before it commits, and does not wait for anybody, so
//! servers of both kinds must not write at once.
//!
//! One connection does the work and is let go of in the middle of anything; another one listens for what others
//! append, or looks now and then.

mod follow;
mod mysql;
mod mysql_dsn;
mod postgres;
mod postgres_url;
mod rows;
mod scram;
mod server;
mod session;
mod statements;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rt::BoxFuture;
use stdx::{Context, Error, Result};
use store::{Append, Appended, LeaseId, Loaded, Numbering, Refused, Role, Row, SharedLog, Tail};

use self::follow::{Followed, follow};
use self::mysql::Mysql;
use self::postgres::Postgres;
use self::rows::{lease_rows, read_row, ttl_secs};
use self::server::Server;
use self::session::{
    Failure, FailureKind, Session, Sink, Step, Value, Way, number, number_or_null,
};
use self::statements::{MYSQL, POSTGRES, Statements};
use crate::Files;

/// How many revisions are purged in one transaction, which holds up appends.
const PURGE_STEP: u64 = 2000;
/// A database that is not there yet is waited for, as kine does.
const AWAY_MAX: Duration = Duration::from_secs(300);
const AWAY_RETRY: Duration = Duration::from_secs(1);
const CREATES_MAX: usize = 3;
/// A row of an index in PostgreSQL may have 2704 bytes.
const POSTGRES_NAME_MAX_BYTES: usize = 2600;
/// kine's column.
const MYSQL_NAME_MAX_BYTES: usize = 630;
/// Everything that is read when a server starts, keys and values.
const LOADED_MAX_BYTES: usize = 1 << 30;
/// Leases of a stock server's keys are added so often; others that start now do the same.
const LOADS_MAX: usize = 10;

/// Opens the table of a PostgreSQL database; `rest` is the endpoint after its scheme.
pub(crate) async fn open_postgres(rest: &str, files: Files) -> Result<Arc<dyn SharedLog>> {
    let server = postgres_url::parse(rest, files).await?;
    SqlLog::open(Database { kind: Kind::Postgres, server }).await
}

/// Opens the table of a MySQL or MariaDB database.
pub(crate) async fn open_mysql(rest: &str, files: Files) -> Result<Arc<dyn SharedLog>> {
    let server = mysql_dsn::parse(rest, files).await?;
    SqlLog::open(Database { kind: Kind::Mysql, server }).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    Mysql,
}

/// A database and how to speak to it.
struct Database {
    kind: Kind,
    server: Server,
}

impl Database {
    fn statements(&self) -> &'static Statements {
        match self.kind {
            Kind::Postgres => &POSTGRES,
            Kind::Mysql => &MYSQL,
        }
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        match self.kind {
            Kind::Postgres => Ok(Box::new(Postgres::connect(&self.server).await?)),
            Kind::Mysql => Ok(Box::new(Mysql::connect(&self.server, &self.server.database).await?)),
        }
    }

    /// Whether a key fits into the table's column and its indexes.
    fn check(&self, name: &str) -> Result<(), Failure> {
        let bytes_max = match self.kind {
            Kind::Postgres => POSTGRES_NAME_MAX_BYTES,
            Kind::Mysql => MYSQL_NAME_MAX_BYTES,
        };
        let fits = match self.kind {
            Kind::Postgres => !name.contains('\0'),
            Kind::Mysql => name.is_ascii(),
        };
        match (name.len() <= bytes_max, fits) {
            (true, true) => Ok(()),
            (false, _) => Err(refused(name.as_bytes(), "is longer than kine's table takes")),
            (_, false) => {
                Err(refused(name.as_bytes(), "has characters that kine's table does not take"))
            }
        }
    }

    /// Makes the database itself, over a connection to one that is always there.
    async fn create(&self) -> Result<()> {
        let name = &self.server.database;
        match self.kind {
            Kind::Postgres => {
                let server = Server { database: "postgres".to_owned(), ..self.server.clone() };
                let sql = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
                Ok(Postgres::connect(&server).await?.execute(&sql).await?)
            }
            Kind::Mysql => {
                let sql = format!("CREATE DATABASE IF NOT EXISTS `{}`", name.replace('`', "``"));
                Ok(Mysql::connect(&self.server, "").await?.execute(&sql).await?)
            }
        }
    }
}

struct SqlLog {
    database: Arc<Database>,
    /// This server in the database's table of servers: later ones have higher numbers.
    me: i64,
    /// The connection that nobody works with at the moment.
    idle: Mutex<Option<Box<dyn Session>>>,
    /// The seconds that leases have, for kine's own column.
    ttls: Mutex<HashMap<LeaseId, i64>>,
    /// An append of which the database forgot whether it happened.
    doubtful: Mutex<Option<u64>>,
    followed: Arc<Followed>,
    follower: Mutex<Option<rt::Task<Option<()>>>>,
    abandoned: AtomicBool,
}

impl SqlLog {
    async fn open(database: Database) -> Result<Arc<dyn SharedLog>> {
        let what = || format!("open the datastore {}", database.server.database);
        let mut session = first_session(&database).await.context(what)?;
        let now_ms = prepare(&database, &mut session).await.context(what)?;
        let database = Arc::new(database);
        let followed = Arc::new(Followed::default());
        let log = SqlLog {
            // Of two that start in the same millisecond one is lower, whichever.
            me: (now_ms << 20) | i64::from(rt::random_u64() as u32 >> 12),
            idle: Mutex::new(Some(session)),
            ttls: Mutex::default(),
            doubtful: Mutex::default(),
            followed: Arc::clone(&followed),
            follower: Mutex::default(),
            abandoned: AtomicBool::new(false),
            database: Arc::clone(&database),
        };
        log.tell(0).await?;
        let follower = rt::spawn_named("datastore follower", follow(database, followed));
        *lock(&log.follower) = Some(follower);
        Ok(Arc::new(log))
    }

    fn statements(&self) -> &'static Statements {
        self.database.statements()
    }

    /// Runs statements that may run twice: a connection may have been cut while nobody looked.
    async fn run(&self, way: Way, steps: &[Step<'_>], sink: Sink<'_>) -> Result<Vec<u64>, Failure> {
        let n_rows = AtomicU64::new(0);
        let mut counting = |step: usize, row: &[Option<&[u8]>]| {
            n_rows.fetch_add(1, Ordering::Relaxed);
            sink(step, row)
        };
        match self.run_once(way, steps, &mut counting).await {
            Err(failure)
                if failure.kind == FailureKind::Cut && n_rows.load(Ordering::Relaxed) == 0 =>
            {
                self.run_once(way, steps, sink).await
            }
            ran => ran,
        }
    }

    /// Runs statements on the idle connection, or a new one. When dropped, the connection is too.
    async fn run_once(
        &self,
        way: Way,
        steps: &[Step<'_>],
        sink: Sink<'_>,
    ) -> Result<Vec<u64>, Failure> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(Error::new("the datastore is closed").into());
        }
        let idle = lock(&self.idle).take();
        let mut session = match idle {
            Some(session) => session,
            None => self.database.connect().await?,
        };
        let n_changed = session.run(way, steps, sink).await?;
        *lock(&self.idle) = Some(session);
        Ok(n_changed)
    }

    /// One row of one statement.
    async fn ask<T: Send>(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
        mut read: impl FnMut(&[Option<&[u8]>]) -> Result<T> + Send,
    ) -> Result<T> {
        let mut answer = None;
        let mut sink = |_: usize, row: &[Option<&[u8]>]| {
            answer = Some(read(row)?);
            Ok(())
        };
        self.run(Way::Each, &[Step::new(sql, values)], &mut sink).await?;
        answer.ok_or_else(|| Error::new("the database gave no answer"))
    }

    /// Says that this server lives.
    async fn tell(&self, revision: u64) -> Result<Role> {
        let statements = self.statements();
        let steps = [
            Step::new(statements.report, [Value::Int(self.me), int(revision)]),
            Step::new(statements.forget, []),
            Step::new(statements.role, []),
        ];
        let mut role = Role::default();
        let mut sink = |_: usize, row: &[Option<&[u8]>]| {
            let lowest: Option<i64> = number_or_null(column(row, 0))?;
            role = Role { leads: lowest == Some(self.me), n_servers: number(column(row, 1))? };
            Ok(())
        };
        self.run(Way::Each, &steps, &mut sink).await?;
        self.followed.set_servers(role.n_servers);
        Ok(role)
    }

    /// Appends, and once more if the connection was cut: the token tells what came of the first try.
    async fn append_surely(&self, append: &Append) -> Result<Appended> {
        let appended = match self.append_once(append).await {
            Err(Failure { kind: FailureKind::Cut, .. }) => self.append_once(append).await,
            appended => appended,
        };
        match appended {
            Ok(appended) => Ok(appended),
            Err(Failure { kind: FailureKind::Taken, .. }) => Ok(Appended::Lost),
            Err(Failure { kind: FailureKind::Refused, error }) => {
                Err(Error::wrap("append to the datastore", Refused(error.to_string())))
            }
            Err(failure) => Err(failure).context(|| "append to the datastore"),
        }
    }

    async fn append_once(&self, append: &Append) -> Result<Appended, Failure> {
        if *lock(&self.doubtful) == Some(append.token) {
            return Err(Error::new("it is not known whether the append happened").into());
        }
        let statements = self.statements();
        let me = Value::Int(self.me);
        let token = append.token.cast_signed();
        // Of this try alone: what came of an earlier one is another matter.
        let attempt = Value::Int(rt::random_u64().cast_signed());
        let claim = [me, Value::Int(token), int(append.base), attempt];
        let mut steps = vec![Step::new(statements.lock, []), Step::new(statements.claim, claim)];
        // Where the rows' own statements are.
        let mut rows = Vec::with_capacity(append.rows.len());
        let mut wanted = append.base;
        for row in &append.rows {
            wanted += 1;
            if row.revision() != wanted {
                return Err(Error::new("an append's revisions have a gap").into());
            }
            let step = self.step_of(row, me, attempt)?;
            let name = step.values[3];
            steps.extend(statements.look.iter().map(|sql| Step::new(sql, [name])));
            rows.push(steps.len());
            steps.push(step);
        }
        steps.extend(statements.end.map(|end| Step::new(end, [me, attempt])));
        let verdict = steps.len();
        steps.push(Step::new(statements.verdict, [me]));
        let mut last: Option<(Option<i64>, Option<u64>)> = None;
        let mut sink = |step: usize, row: &[Option<&[u8]>]| {
            if step == verdict {
                last = Some((number_or_null(column(row, 0))?, number_or_null(column(row, 1))?));
            }
            Ok(())
        };
        let n_changed = self.run_once(Way::Together, &steps, &mut sink).await?;
        if n_changed.get(1) == Some(&1) {
            if rows.iter().any(|row| n_changed.get(*row) != Some(&1)) {
                return Err(Error::new("the database did not add every row of an append").into());
            }
            self.learn(&append.rows, true);
            self.followed.appended(append.last);
            return Ok(Appended::At(append.base + 1));
        }
        match last {
            Some((Some(known), Some(first))) if known == token => {
                self.learn(&append.rows, true);
                Ok(Appended::At(first))
            }
            Some(_) => Ok(Appended::Lost),
            None => {
                // Somebody deleted our row, and with it what we did last.
                *lock(&self.doubtful) = Some(append.token);
                self.tell(append.base).await?;
                let why = "the datastore has forgotten this server; the append may have happened";
                Err(Error::new(why).into())
            }
        }
    }

    fn step_of<'a>(
        &self,
        row: &'a Row,
        me: Value<'a>,
        attempt: Value<'a>,
    ) -> Result<Step<'a>, Failure> {
        let name = std::str::from_utf8(&row.key)
            .map_err(|_| refused(&row.key, "is not UTF-8, as the datastore wants it"))?;
        self.database.check(name)?;
        let statements = self.statements();
        let mut values = vec![me, attempt, int(row.revision()), Value::Text(name)];
        let Some(kv) = &row.kv else { return Ok(Step::new(statements.delete, values)) };
        // A lease that begins in the same append.
        self.learn(std::slice::from_ref(row), false);
        let created = kv.create_revision == kv.mod_revision;
        let seconds = lock(&self.ttls).get(&kv.lease).copied().unwrap_or(0);
        values.extend([
            Value::Int(i64::from(created)),
            if created { Value::Int(0) } else { int(kv.create_revision) },
            Value::Int(seconds),
            Value::Bytes(&kv.value),
            if kv.lease == 0 { Value::Null } else { Value::Int(kv.lease) },
            Value::Int(i64::from(kv.version)),
        ]);
        Ok(Step::new(statements.put, values))
    }

    /// Remembers how long leases last, and forgets those that ended if `ends`.
    fn learn(&self, rows: &[Row], ends: bool) {
        for row in rows {
            match row.lease() {
                Some((id, Some(ttl))) => drop(lock(&self.ttls).insert(id, ttl_secs(ttl))),
                Some((id, None)) if ends => drop(lock(&self.ttls).remove(&id)),
                _ => {}
            }
        }
    }

    async fn load_all(&self) -> Result<Loaded> {
        for _ in 0..LOADS_MAX {
            let (loaded, newest, unknown) = self.load_once().await?;
            if unknown.is_empty() {
                return Ok(loaded);
            }
            // Keys of a stock server: those with the same time share a lease, which begins now.
            let rows = lease_rows(newest, &unknown);
            let last = newest + rows.len() as u64;
            let token = rt::random_u64();
            let append = Append { base: newest, last, token, rows, relied: Vec::new() };
            self.append_surely(&append).await?;
        }
        Err(Error::new("other servers write to the datastore faster than it can be read"))
    }

    /// Everything that lives, the newest revision, and the times of leases that are not there.
    async fn load_once(&self) -> Result<(Loaded, u64, Vec<LeaseId>)> {
        let statements = self.statements();
        let steps = [Step::new(statements.size, []), Step::new(statements.living, [])];
        let (mut loaded, mut newest, mut held_bytes, mut living_bytes) = (None, 0, 0, 0);
        let (mut wanted, mut found) = (HashSet::new(), HashMap::new());
        let mut sink = |step: usize, row: &[Option<&[u8]>]| {
            if step == 0 {
                newest = number_or_null(column(row, 0))?.unwrap_or(0);
                held_bytes = number_or_null(column(row, 1))?.unwrap_or(0);
                loaded = Some(Loaded::at(newest));
                return Ok(());
            }
            let (Some(read), Some(loaded)) = (read_row(row)?, &mut loaded) else { return Ok(()) };
            if let Some(kv) = &read.kv {
                living_bytes += read.key.len() + kv.value.len();
                if living_bytes > LOADED_MAX_BYTES {
                    return Err(Error::new("the datastore holds more than a gigabyte"));
                }
                wanted.extend((kv.lease != 0).then_some(kv.lease));
                found.extend(read.lease().map(|(id, ttl)| (id, ttl.map_or(0, ttl_secs))));
            }
            loaded.row(read);
            Ok(())
        };
        let ran = self.run(Way::Snapshot, &steps, &mut sink).await;
        ran.context(|| "read the datastore")?;
        let mut loaded = loaded.ok_or_else(|| Error::new("the datastore is empty"))?;
        loaded.unread(usize::saturating_sub(held_bytes, living_bytes));
        let unknown = wanted.iter().copied().filter(|id| !found.contains_key(id));
        let unknown = unknown.filter(|id| rows::is_stock_lease(*id)).collect();
        *lock(&self.ttls) = found;
        Ok((loaded, newest, unknown))
    }

    async fn tail_after(&self, after: u64) -> Result<Tail> {
        let statements = self.statements();
        let steps = [Step::new(statements.tail, [int(after)]), Step::new(statements.bounds, [])];
        let (mut rows, mut revision) = (Vec::new(), after);
        let (mut newest, mut purged) = (0, 0);
        let mut sink = |step: usize, row: &[Option<&[u8]>]| {
            if step == 1 {
                newest = number_or_null(column(row, 0))?.unwrap_or(0);
                purged = number_or_null(column(row, 1))?.unwrap_or(0);
                return Ok(());
            }
            let id = number(column(row, 0))?;
            if id <= revision || rows.len() >= rows::TAIL_ROWS_MAX {
                return Err(Error::new("the database gave other rows than were asked for"));
            }
            revision = id;
            rows.extend(read_row(row)?);
            Ok(())
        };
        // The rows come first: what was purged since is purged up to what comes second.
        let ran = self.run(Way::Each, &steps, &mut sink).await;
        ran.context(|| "follow the datastore")?;
        if after < purged || newest < after {
            // Or the database was put back to an older state.
            return Ok(Tail::Compacted);
        }
        self.learn(&rows, true);
        Ok(Tail::Rows { rows, revision })
    }

    async fn purge_all(&self) -> Result<()> {
        let statements = self.statements();
        loop {
            let followed = |row: &[Option<&[u8]>]| number_or_null(column(row, 2));
            let followed: Option<u64> = self.ask(statements.role, &[], followed).await?;
            let bounds = |row: &[Option<&[u8]>]| {
                let newest: Option<u64> = number_or_null(column(row, 0))?;
                let purged: Option<u64> = number_or_null(column(row, 1))?;
                Ok((newest.unwrap_or(0), purged.unwrap_or(0)))
            };
            let (newest, purged) = self.ask(statements.bounds, &[], bounds).await?;
            // The newest row stays whatever it is: it says which revision comes next.
            let to = followed.unwrap_or(0).min(newest.saturating_sub(1));
            if to <= purged {
                return Ok(());
            }
            let to = to.min(purged + PURGE_STEP);
            let steps = [
                Step::new(statements.lock, []),
                Step::new(statements.mark, [int(to)]),
                Step::new(statements.purge, [int(purged), int(to)]),
            ];
            let ran = self.run(Way::Together, &steps, &mut |_, _| Ok(())).await;
            if ran.context(|| "purge the datastore")?.get(1) != Some(&1) {
                return Err(Error::new("the datastore has lost kine's compact_rev_key"));
            }
        }
    }
}

impl SharedLog for SqlLog {
    fn numbering(&self) -> Numbering {
        Numbering::Change
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        Box::pin(self.load_all())
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended>> {
        Box::pin(async move { self.append_surely(&append).await })
    }

    fn newest(&self) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async {
            let read = |row: &[Option<&[u8]>]| Ok(number_or_null(column(row, 0))?.unwrap_or(0));
            self.ask(self.statements().newest, &[], read).await
        })
    }

    fn tail(&self, after: u64) -> BoxFuture<'_, Result<Tail>> {
        Box::pin(self.tail_after(after))
    }

    fn grown(&self, after: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.followed.grown(after))
    }

    fn report(&self, revision: u64) -> BoxFuture<'_, Result<Role>> {
        Box::pin(async move { self.tell(revision).await.context(|| "report to the datastore") })
    }

    fn purge(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.purge_all())
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        *lock(&self.follower) = None;
        *lock(&self.idle) = None;
    }
}

impl fmt::Debug for SqlLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.database.kind;
        write!(f, "{kind:?} database {}, server {}", self.database.server.database, self.me)
    }
}

/// Connects, waits for a database that is not there yet, and makes it if it is missing.
async fn first_session(database: &Database) -> Result<Box<dyn Session>> {
    let until = rt::now().mono + AWAY_MAX;
    let mut n_created = 0;
    loop {
        match database.connect().await {
            Ok(session) => return Ok(session),
            Err(Failure { kind: FailureKind::NoDatabase, .. }) if n_created < CREATES_MAX => {
                n_created += 1;
                // Another server may be about it just now.
                if let Err(error) = database.create().await {
                    log::warn!("create the database {}: {error}", database.server.database);
                    rt::sleep(AWAY_RETRY).await;
                }
            }
            Err(Failure { kind: FailureKind::Cut, error }) if rt::now().mono < until => {
                log::warn!("datastore: {error}; trying again");
                rt::sleep(AWAY_RETRY).await;
            }
            Err(failure) => return Err(failure.error),
        }
    }
}

/// Makes the tables if they are missing. The database's time, in milliseconds.
async fn prepare(database: &Database, session: &mut Box<dyn Session>) -> Result<i64> {
    let statements = database.statements();
    let (mut is_whole, mut now_ms) = (false, 0);
    let mut sink = |_: usize, row: &[Option<&[u8]>]| {
        is_whole = number::<u8>(column(row, 0))? != 0;
        now_ms = number(column(row, 1))?;
        Ok(())
    };
    session.run(Way::Each, &[Step::new(statements.probe, [])], &mut sink).await?;
    if !is_whole {
        log::info!("datastore: making the tables that are missing");
        let steps: Vec<Step<'_>> = statements.setup.iter().map(|sql| Step::new(sql, [])).collect();
        match session.run(Way::Together, &steps, &mut |_, _| Ok(())).await {
            Ok(_) => {}
            // Another server that starts was faster. What MySQL changes in tables is in no transaction.
            Err(Failure { kind: FailureKind::Exists, .. }) => *session = database.connect().await?,
            Err(failure) => return Err(failure).context(|| "make the datastore's tables"),
        }
    }
    Ok(now_ms)
}

fn column<'a>(row: &[Option<&'a [u8]>], at: usize) -> Option<&'a [u8]> {
    row.get(at).copied().flatten()
}

/// What no try will bring into the table.
fn refused(key: &[u8], why: &str) -> Failure {
    let error = Error::new(format!("the key {} {why}", key.escape_ascii()));
    Failure { kind: FailureKind::Refused, error }
}

fn int(n: u64) -> Value<'static> {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single steps under the lock: a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
