//! A shared log without a database: for tests and the simulator, which can delay, cut off and spoil it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::BoxFuture;
use stdx::{Error, Result};
use stdx::{OrdMap, OrdSet, time::Mono};

use crate::driver::{Loaded, Row, revision_of, row_id};
use crate::shared::{Append, Appended, Numbering, Role, SharedLog, Tail};
use crate::types::{Bytes, Event, KeyValue};
use crate::watch::lock;

/// The database that servers share. Clones are the same one.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Rows>>);

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the server to the log.
    There,
    /// The answer.
    Back,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives after this long.
    After(Duration),
    /// It never arrives; the sender hears of it, or waits.
    Lost,
}

/// A mistake that a driver or the committer could make, for tests that must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogPlant {
    /// What stands on an old revision is appended all the same, as if it were not planned again.
    NoReplan,
    /// An append that is sent again is appended again.
    NoTokens,
    /// Purging waits for no server, and does not say so.
    HastyPurge,
    /// The newest revision is that of a copy which lags behind.
    StaleNewest,
    /// What follows a revision is told without its last row.
    ShortTail,
    /// A revision's rows can be told in two parts.
    TornTail,
}

type Hook = Box<dyn FnMut(u64, Way) -> Fate + Send>;

#[derive(Default)]
struct Rows {
    rows: OrdMap<u64, Row>,
    newest: u64,
    tokens: OrdMap<u64, u64>,
    /// Rows up to this revision may be missing.
    purged_to: u64,
    servers: OrdMap<u64, Server>,
    n_servers: u64,
    hook: Option<Hook>,
    plant: Option<LogPlant>,
    /// Whether it numbers revisions itself; some are then skipped, as if others wrote.
    numbers: bool,
    grown: Arc<rt::Event>,
    /// Every row ever appended, for checkers.
    history: Vec<Row>,
    n_lost: u64,
}

struct Server {
    revision: u64,
    seen: Mono,
}

/// A server that was not heard of for so long does not hold up purging.
const SERVER_GONE: Duration = Duration::from_secs(30);
/// Changes that one append to a log that numbers itself may hold.
const APPEND_CHANGES_MAX: usize = 20;
/// And about how many bytes, if they are several transactions'.
const APPEND_BYTES_MAX: usize = 100;
/// Rows that are told at once.
const TAIL_ROWS_MAX: usize = 50;

impl Log {
    /// A log whose rows have their revision as unique key, as in kine's table.
    pub fn new() -> Log {
        Log::default()
    }

    /// A log that gives revisions itself, as etcd does.
    pub fn numbering() -> Log {
        let log = Log::new();
        lock(&log.0).numbers = true;
        log
    }

    /// Asks `hook` what becomes of each message from or to a server.
    pub fn on_message(&self, hook: impl FnMut(u64, Way) -> Fate + Send + 'static) {
        lock(&self.0).hook = Some(Box::new(hook));
    }

    /// No more faults.
    pub fn heal(&self) {
        lock(&self.0).hook = None;
    }

    pub fn plant(&self, plant: LogPlant) {
        lock(&self.0).plant = Some(plant);
    }

    /// Everything that was ever appended, in order, whether purged or not.
    pub fn history(&self) -> Vec<Event> {
        let mut current: OrdMap<_, KeyValue> = OrdMap::new();
        let event = |row: Row| {
            let before = match &row.kv {
                Some(kv) => current.insert(Arc::clone(&row.key), kv.clone()),
                None => current.remove(&row.key),
            };
            Event { revision: revision_of(row.id).0, key: row.key, now: row.kv, before }
        };
        lock(&self.0).history.clone().into_iter().map(event).collect()
    }

    /// How many rows it holds, and how many appends were too late.
    pub fn figures(&self) -> (usize, u64) {
        let rows = lock(&self.0);
        (rows.rows.len(), rows.n_lost)
    }

    /// The next server's way to the log, and its number.
    pub(crate) fn driver(&self) -> MemoryLog {
        let mut rows = lock(&self.0);
        rows.newest = rows.newest.max(1);
        rows.n_servers += 1;
        MemoryLog { log: self.clone(), server: rows.n_servers }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = lock(&self.0);
        write!(f, "Log({} rows, revision {})", rows.rows.len(), rows.newest)
    }
}

impl Rows {
    fn append(&mut self, append: Append) -> Appended {
        if let Some(first) = self.tokens.get(&append.token)
            && self.plant != Some(LogPlant::NoTokens)
        {
            return Appended::At(*first);
        }
        let free = match self.numbers {
            false => self.newest == append.base,
            true => {
                let later = self.history.iter().rev();
                let mut later = later.take_while(|row| revision_of(row.id).0 > append.base);
                !later.any(|row| append.relied.iter().any(|span| span.contains(&row.key)))
            }
        };
        if !free && self.plant != Some(LogPlant::NoReplan) {
            self.n_lost += 1;
            return Appended::Lost;
        }
        let gap = if self.numbers { rt::random_u64() % 2 } else { 0 };
        let first = self.newest + 1 + gap;
        let moved = first - (append.base + 1);
        self.tokens.insert(append.token, first);
        self.newest = append.last + moved;
        for row in append.rows {
            let row = moved_row(row, append.base, moved);
            self.history.push(row.clone());
            self.rows.insert(row.id, row);
        }
        self.grown.notify(usize::MAX);
        Appended::At(first)
    }

    fn load(&self) -> Loaded {
        let mut loaded = Loaded::at(self.newest);
        for row in self.rows.values() {
            loaded.row(row.clone());
        }
        loaded
    }

    fn tail(&self, after: u64) -> Tail {
        if after < self.purged_to {
            return Tail::Compacted;
        }
        let mut rows: Vec<Row> = Vec::new();
        let mut revision = self.newest;
        for row in self.rows.range(row_id(after + 1, 0)..).map(|(_, row)| row) {
            let last = rows.last().map(|last| revision_of(last.id).0);
            let torn = self.plant == Some(LogPlant::TornTail);
            if rows.len() >= TAIL_ROWS_MAX && (torn || last != Some(revision_of(row.id).0)) {
                revision = last.unwrap_or(revision);
                break;
            }
            rows.push(row.clone());
        }
        if self.plant == Some(LogPlant::ShortTail) && rows.len() > 1 {
            rows.pop();
        }
        Tail::Rows { rows, revision }
    }

    fn report(&mut self, server: u64, revision: u64) -> Role {
        let now = rt::now().mono;
        self.servers.insert(server, Server { revision, seen: now });
        self.servers.retain(|_, server| now.since(server.seen) < SERVER_GONE);
        let leads = self.servers.keys().next() == Some(&server);
        Role { leads, n_servers: self.servers.len() }
    }

    fn purge(&mut self) {
        let hasty = self.plant == Some(LogPlant::HastyPurge);
        let followed = self.servers.values().map(|server| server.revision).min().unwrap_or(0);
        let to = if hasty { self.newest } else { followed };
        let mut newer: OrdSet<Bytes> = OrdSet::new();
        let n_before = self.rows.len();
        let rows: Vec<u64> =
            self.rows.range(..row_id(to + 1, 0)).rev().map(|(id, _)| *id).collect();
        for id in rows {
            let Some(row) = self.rows.get(&id) else { continue };
            if !newer.insert(Arc::clone(&row.key)) || row.kv.is_none() {
                self.rows.remove(&id);
            }
        }
        if self.rows.len() < n_before && !hasty {
            self.purged_to = to;
        }
    }
}

/// A planned row at the revision that the log gave.
fn moved_row(row: Row, base: u64, moved: u64) -> Row {
    let (revision, sub) = revision_of(row.id);
    let kv = row.kv.clone().map(|kv| kv.moved_up(base, moved));
    Row { id: row_id(revision + moved, sub), kv, ..row }
}

/// One server's way to the log.
pub(crate) struct MemoryLog {
    log: Log,
    server: u64,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {} of {:?}", self.server, self.log)
    }
}

impl MemoryLog {
    /// Sends a request and brings its answer. What is on its way arrives though nobody waits any more.
    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Rows) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (log, server) = (self.log.clone(), self.server);
        let (answer, answered) = rt::channel::bounded(1);
        rt::spawn(async move {
            if !travel(&log, server, Way::There).await {
                let _ = answer.try_send(Err(Error::new("the datastore's log is out of reach")));
                return;
            }
            let done = work(&mut lock(&log.0));
            let arrived = travel(&log, server, Way::Back).await;
            let lost = || Error::new("the connection to the datastore's log broke");
            let _ = answer.try_send(if arrived { Ok(done) } else { Err(lost()) });
        })
        .detach();
        Box::pin(async move {
            answered.recv().await.unwrap_or_else(|_| Err(Error::new("the datastore's log is gone")))
        })
    }
}

async fn travel(log: &Log, server: u64, way: Way) -> bool {
    let fate = lock(&log.0).hook.as_mut().map(|hook| hook(server, way));
    match fate {
        Some(Fate::After(duration)) => {
            rt::sleep(duration).await;
            true
        }
        Some(Fate::Lost) => false,
        None => true,
    }
}

impl SharedLog for MemoryLog {
    fn numbering(&self) -> Numbering {
        match lock(&self.log.0).numbers {
            true => {
                Numbering::Append { changes_max: APPEND_CHANGES_MAX, bytes_max: APPEND_BYTES_MAX }
            }
            false => Numbering::Change,
        }
    }

    fn load(&self) -> BoxFuture<'_, Result<Loaded>> {
        self.send(|rows| rows.load())
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended>> {
        self.send(|rows| rows.append(append))
    }

    fn newest(&self) -> BoxFuture<'_, Result<u64>> {
        self.send(|rows| match rows.plant {
            Some(LogPlant::StaleNewest) => rows.newest.saturating_sub(2),
            _ => rows.newest,
        })
    }

    fn tail(&self, after: u64) -> BoxFuture<'_, Result<Tail>> {
        self.send(move |rows| rows.tail(after))
    }

    fn grown(&self, after: u64) -> BoxFuture<'_, ()> {
        let log = self.log.clone();
        Box::pin(async move {
            loop {
                let listener = {
                    let rows = lock(&log.0);
                    if rows.newest > after {
                        break;
                    }
                    rows.grown.listen()
                };
                listener.await;
            }
            let _ = travel(&log, self.server, Way::Back).await;
        })
    }

    fn report(&self, revision: u64) -> BoxFuture<'_, Result<Role>> {
        let server = self.server;
        self.send(move |rows| rows.report(server, revision))
    }

    fn purge(&self) -> BoxFuture<'_, Result<()>> {
        self.send(Rows::purge)
    }

    fn abandon(&self) {}
}
