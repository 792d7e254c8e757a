//! What a log that several servers append to must do. Each keeps the state in memory and follows it.
//!
//! The log is the arbiter: an append says on which revision its plan stands, and is refused if
//! another server's came first. It is then planned again on what the log brings. Two kinds of logs
//! fit: one in which the revision is the unique key of a row (SQL: the plan's own numbers stand or
//! nothing does), and one that numbers revisions itself (etcd: it says which it gave). In the first,
//! a transaction's changes have revisions of their own: all are appended or none, and who reads
//! without waiting for the newest revision may see the first of them before the last.

use std::fmt;
use std::time::Duration;

use rt::BoxFuture;
use stdx::Result;

use crate::driver::{Loaded, Row};
use crate::types::{Bytes, LeaseId, Span};

pub trait SharedLog: Send + Sync + fmt::Debug {
    /// How it gives revisions; always the same.
    fn numbering(&self) -> Numbering;

    /// Reads everything that lives, and the newest revision as `mark`.
    fn load(&self) -> BoxFuture<'_, Result<Loaded>>;

    /// Appends all of it, or says that another server was faster. An append whose answer was lost
    /// may be sent again: its token is appended once.
    ///
    /// # Errors
    /// [`Refused`], somewhere among the causes, if it need not be sent again; else nobody knows what became
    /// of it.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended>>;

    /// The newest revision.
    fn newest(&self) -> BoxFuture<'_, Result<u64>>;

    /// What was appended after `after`, whole revisions, oldest first; nothing if that is all.
    fn tail(&self, after: u64) -> BoxFuture<'_, Result<Tail>>;

    /// Waits until there may be something after `after`: told by the log, or by looking now and then.
    fn grown(&self, after: u64) -> BoxFuture<'_, ()>;

    /// Says that this server lives and has followed to `revision`.
    fn report(&self, revision: u64) -> BoxFuture<'_, Result<Role>>;

    /// Deletes the rows that newer ones replace and the tombstones, up to where every living server
    /// has followed; all of them at once, so that no row outlives what hides it.
    fn purge(&self) -> BoxFuture<'_, Result<()>>;

    /// Lets go of the log as a crash would, at once.
    fn abandon(&self);
}

/// How a log gives revisions to what is appended at once. Only our own file leaves us free to give one
/// to each transaction, whatever it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// One for each transaction: the changes have places in it.
    Txn,
    /// One for each change, because the revision is the key of its row (kine's table).
    Change,
    /// One for everything together, in which no key changes twice (etcd).
    Append {
        /// How many changes fit into one.
        changes_max: usize,
        /// Transactions share one up to so many bytes of keys and values; a larger one goes alone.
        bytes_max: usize,
    },
}

/// A batch of transactions.
#[derive(Debug, Clone)]
pub struct Append {
    /// The revision that the plan stands on; its own follow.
    pub base: u64,
    /// The last revision of the plan; [`Numbering::Change`] makes it `base` and as many as there are rows.
    pub last: u64,
    /// Random; the same when the append is sent again.
    pub token: u64,
    /// Every change, for those who watch on other servers: also what a later one of them replaces.
    pub rows: Vec<Row>,
    /// What the plan looked at. A log that numbers itself refuses only what touches these.
    pub relied: Vec<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Its first revision; the others follow without a gap.
    At(u64),
    /// Nothing of it is in the log, nor will be.
    Lost,
}

/// Why the log takes no such append, however often it is sent: it is too large, say.
#[derive(Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[derive(Debug)]
pub enum Tail {
    Rows {
        rows: Vec<Row>,
        /// The revision that they lead to.
        revision: u64,
    },
    /// Rows after the revision are purged: everything must be read anew.
    Compacted,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Role {
    /// Whether this server ends leases and purges. Two may believe it for a while: what they do is
    /// judged by the log like everything else.
    pub leads: bool,
    /// How many servers live.
    pub n_servers: usize,
}

/// Leases are keys like others in a shared log, so that everyone follows them: their time starts
/// again with each version.
const LEASES: &str = "/k3rs/leases/";

/// The key of a lease; its value is the time that the lease has, in milliseconds, as text.
pub fn lease_key(id: LeaseId) -> Bytes {
    format!("{LEASES}{id}").into_bytes().into()
}

/// How long a lease lasts, of the value of its key.
pub(crate) fn lease_ttl(value: &[u8]) -> Option<Duration> {
    std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_millis)
}

pub(crate) fn lease_of(key: &[u8]) -> Option<i64> {
    std::str::from_utf8(key.strip_prefix(LEASES.as_bytes())?).ok()?.parse().ok()
}

impl Row {
    /// If the key is that of a lease: its number, and how long it lasts, unless it ends.
    pub fn lease(&self) -> Option<(LeaseId, Option<Duration>)> {
        let id = lease_of(&self.key)?;
        Some((id, self.kv.as_ref().and_then(|kv| lease_ttl(&kv.value))))
    }
}
