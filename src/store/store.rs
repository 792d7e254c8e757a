//! The store's handle: open, read, write, watch, close.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::channel::{Sender, bounded};

use crate::bell::Bell;
use crate::commit::{Asked, Command, Committer, Counters, Lazy, SHRINK_FIRST};
use crate::driver::{Driver, LeaseRow};
use crate::error::{Error, Result};
use crate::lease::{LeaseInfo, Leases, shared_ttl};
use crate::memory::Disk;
use crate::memory_log::Log;
use crate::sealed::{Envelope, Sealed, SealedLog};
use crate::shared::{Role, SharedLog, lease_key};
use crate::sharer::{Sharer, leases_of};
use crate::sqlite::SqliteDriver;
use crate::state::State;
use crate::txn::{Compare, Done, Relation, Request, Target, Txn};
use crate::types::{
    Class, Event, KeyValue, LeaseId, Limits, Op, Query, Range, Room, Span, Stats, Written,
};
use crate::watch::{Follow, Hub, Watch, lock, read};

/// Revisioned keys -> bytes. Clones are handles of the same store; it stops with the last of them,
/// as in a crash unless [`Store::close`] came first.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    hub: Arc<Hub>,
    backend: Backend,
    leases: Arc<Mutex<Leases>>,
    counters: Arc<Counters>,
    limits: Limits,
    commands: Sender<Command>,
    /// Ends the committer with the last handle.
    _committer: rt::Task<Option<()>>,
}

/// Whom the committer writes to.
enum Backend {
    /// Ours alone.
    Own(Arc<dyn Driver>),
    Shared(Arc<dyn SharedLog>),
}

impl Store {
    /// Opens the SQLite file at `path` (`<data-dir>/server/db/state.db`), creating it (mode 0600).
    ///
    /// # Errors
    /// If the file cannot be opened, is damaged, is something else, or is in use by another process.
    pub async fn open(path: &Path, limits: Limits) -> Result<Store> {
        Store::start(Arc::new(SqliteDriver::new(path)), limits).await
    }

    /// Opens a store whose disk is simulated: whatever `disk` holds is there.
    ///
    /// # Errors
    /// None today; the shape is that of [`Store::open`].
    pub async fn open_memory(disk: &Disk, limits: Limits) -> Result<Store> {
        Store::start(Arc::new(disk.driver()), limits).await
    }

    /// [`Store::open`] with values sealed on the disk as `envelope` says.
    ///
    /// # Errors
    /// As [`Store::open`], and if a value cannot be opened.
    pub async fn open_sealed(
        path: &Path,
        limits: Limits,
        envelope: Arc<dyn Envelope>,
    ) -> Result<Store> {
        let driver = Arc::new(SqliteDriver::new(path));
        Store::start(Arc::new(Sealed { driver, envelope }), limits).await
    }

    async fn start(driver: Arc<dyn Driver>, limits: Limits) -> Result<Store> {
        let mut loaded = driver.load().await.map_err(|error| Error::Storage(Arc::new(error)))?;
        if loaded.mark != 0 && !loaded.clean {
            log::info!("datastore: it was not closed cleanly; revisions go on at {}", loaded.mark);
        }
        let now = rt::now().mono;
        let mut leases = Leases::default();
        for lease in loaded.leases {
            leases.add(lease, now, true);
        }
        for kv in loaded.keys.values().filter(|kv| kv.lease != 0) {
            leases.attach(kv.lease, &kv.key);
        }
        for kv in loaded.keys.values_mut() {
            kv.checked = (limits.check)(&kv.key, &kv.value);
        }
        // Like etcd's, an empty store is at revision 1: 0 means "any" in the API.
        let revision = loaded.mark.max(1);
        let hub = Arc::new(Hub::new(State::new(loaded.keys, revision, limits.owner), limits));
        let leases = Arc::new(Mutex::new(leases));
        let counters = Arc::new(Counters::default());
        let (commands, queue) = bounded(limits.queue_writes_max);
        let committer = Committer {
            hub: Arc::clone(&hub),
            driver: Arc::clone(&driver),
            leases: Arc::clone(&leases),
            counters: Arc::clone(&counters),
            limits,
            commands: queue,
            revision,
            mark: loaded.mark,
            dead: loaded.dead,
            purging: false,
            running_told: false,
            lazy: Lazy::default(),
            ghosts: Default::default(),
            retry_at: now,
            shrink_at: Some(now + SHRINK_FIRST),
        };
        let _committer = rt::spawn_named("datastore committer", committer.run());
        let backend = Backend::Own(driver);
        Ok(Store(Arc::new(Inner { hub, backend, leases, counters, limits, commands, _committer })))
    }

    /// [`Store::share`] with values sealed in the log as `envelope` says.
    ///
    /// # Errors
    /// As [`Store::share`], and if a value cannot be opened.
    pub async fn share_sealed(
        log: Arc<dyn SharedLog>,
        limits: Limits,
        envelope: Arc<dyn Envelope>,
    ) -> Result<Store> {
        Store::share(Arc::new(SealedLog { log, envelope }), limits).await
    }

    /// Opens a store on a simulated log that other servers may share.
    ///
    /// # Errors
    /// `Storage` if the log is out of reach.
    pub async fn open_log(log: &Log, limits: Limits) -> Result<Store> {
        Store::share(Arc::new(log.driver()), limits).await
    }

    /// Opens a store on a log that other servers may share.
    ///
    /// # Errors
    /// `Storage` if the log is out of reach or not what it should be.
    pub async fn share(log: Arc<dyn SharedLog>, limits: Limits) -> Result<Store> {
        let loaded = log.load().await.map_err(|error| Error::Storage(Arc::new(error)))?;
        let leases = Arc::new(Mutex::new(leases_of(&loaded.keys)));
        let state = State::new(loaded.keys, loaded.mark, limits.owner);
        let hub = Arc::new(Hub::new(state, limits));
        let counters = Arc::new(Counters::default());
        let (commands, queue) = bounded(limits.queue_writes_max);
        let sharer = Sharer {
            hub: Arc::clone(&hub),
            log: Arc::clone(&log),
            leases: Arc::clone(&leases),
            counters: Arc::clone(&counters),
            limits,
            commands: queue,
            dead_bytes: loaded.dead.bytes,
            role: Role::default(),
            append_took: Duration::ZERO,
            report_at: rt::now().mono,
        };
        let _committer = rt::spawn_named("datastore committer", sharer.run());
        let backend = Backend::Shared(log);
        Ok(Store(Arc::new(Inner { hub, backend, leases, counters, limits, commands, _committer })))
    }

    /// Whether other servers may write to the same log.
    pub fn is_shared(&self) -> bool {
        matches!(self.0.backend, Backend::Shared(_))
    }

    /// Reads from here on show everything that any server was told is written. Where the log is
    /// our own they do so anyway, and nothing is asked.
    ///
    /// # Errors
    /// `Storage` if a shared log is out of reach.
    pub async fn fresh(&self) -> Result<()> {
        match self.is_shared() {
            true => self.ask(|reply| Command::Fresh { reply }).await,
            false => Ok(()),
        }
    }

    /// The newest version of a key.
    ///
    /// # Errors
    /// None for the drivers of today; remote ones can fail.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>> {
        Ok(read(&self.0.hub.state).get(key.as_ref()).cloned())
    }

    /// Reads keys in order, now or at a past revision, page by page.
    ///
    /// # Errors
    /// `Compacted` or `Future` for a revision out of reach.
    pub async fn range(&self, query: &Query) -> Result<Range> {
        read(&self.0.hub.state).range(query)
    }

    /// How many keys there are now.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn count(&self, span: &Span) -> Result<usize> {
        Ok(read(&self.0.hub.state).count(span))
    }

    /// The same, but no further than `most`: for who wants to know whether there are many.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn count_up_to(&self, span: &Span, most: usize) -> Result<usize> {
        Ok(read(&self.0.hub.state).count_up_to(span, most))
    }

    /// All operations or none, at one new revision. When it returns, reads and watches show it,
    /// and it is on disk unless it is lazy. Dropping the future does not take a write back.
    ///
    /// # Errors
    /// `Conflict` if an expectation does not hold; `Storage` if the disk failed (nothing was shown,
    /// though after a crash the write may turn out to have happened); the others as they say.
    pub async fn write(&self, ops: Vec<Op>, class: Class) -> Result<Written> {
        self.write_within(ops, class, Room::Whole).await
    }

    /// [`Store::write`] that may fill the store only as far as `room` says.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_within(&self, ops: Vec<Op>, class: Class, room: Room) -> Result<Written> {
        if ops.is_empty() {
            return Err(Error::Invalid("a write has at least one operation".into()));
        }
        self.txn(ops.into(), class, room).await?.written()
    }

    /// One branch of the transaction, at one new revision if it changes anything. Shown and durable
    /// as [`Store::write`] says. That a comparison does not hold is no error.
    ///
    /// # Errors
    /// As [`Store::write`], but for `Conflict`; `Compacted` or `Future` if it reads at such a revision.
    pub async fn txn(&self, txn: Txn, class: Class, room: Room) -> Result<Done> {
        txn.check(&self.0.limits)?;
        self.ask(|reply| Command::Txn(Asked { txn, class, room, reply })).await
    }

    /// [`Store::write`] of a single operation: the key's new version, `None` if it is gone now.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_one(&self, op: Op, class: Class) -> Result<Written> {
        self.write(vec![op], class).await
    }

    /// The changes after `revision` (`None`: from now on) to keys in any of `spans`, in order.
    ///
    /// # Errors
    /// `Compacted` if the changes since are no longer known.
    pub async fn watch(&self, spans: Vec<Span>, revision: Option<u64>) -> Result<Watch> {
        self.0.hub.watch(spans, revision)
    }

    /// A watch of every key from now on, with room for `parts` times as much as another one may have
    /// waiting: for the one who passes changes on to many.
    ///
    /// # Errors
    /// `Closed`
    pub fn watch_all(&self, parts: usize) -> Result<Watch> {
        self.0.hub.watch_within(vec![Span::prefix("")], None, self.0.limits.times(parts))
    }

    /// A watch of a span that rings a bell under this number, for what happens after `revision` (`None`:
    /// from now on); or first, again and again, a page of what happened since.
    ///
    /// # Errors
    /// `Compacted` if the changes since are no longer known, `Closed`.
    pub fn follow(
        &self,
        span: Span,
        revision: Option<u64>,
        bell: (Arc<Bell>, u64),
    ) -> Result<Follow> {
        self.0.hub.follow(span, revision, bell)
    }

    /// The changes after `revision` to keys of a span, oldest first, as far as they are visible now.
    ///
    /// # Errors
    /// `Compacted` if they are no longer known.
    pub fn changes(&self, span: Span, revision: u64) -> Result<VecDeque<Arc<Event>>> {
        read(&self.0.hub.state).changes(&[span], revision)
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The newest visible revision.
    pub fn revision(&self) -> u64 {
        read(&self.0.hub.state).revision
    }

    /// The oldest revision that can be read, and watched from.
    pub fn compact_revision(&self) -> u64 {
        read(&self.0.hub.state).compact_revision
    }

    /// Forgets what was before `revision`. It happens by itself as well, to keep the bounds.
    ///
    /// # Errors
    /// `Compacted` if that is done already, `Future` if it cannot be yet.
    pub async fn compact(&self, revision: u64) -> Result<()> {
        let mut state = crate::watch::write(&self.0.hub.state);
        if revision > state.revision {
            return Err(Error::Future { asked: revision, revision: state.revision });
        }
        if revision <= state.compact_revision {
            let compact_revision = state.compact_revision;
            return Err(Error::Compacted { asked: revision, compact_revision });
        }
        state.compact(revision);
        Ok(())
    }

    /// A new lease. `id` 0 lets the store choose.
    ///
    /// # Errors
    /// `LeaseExists`; `Storage` as for a write of its class.
    pub async fn lease_grant(&self, id: LeaseId, ttl: Duration, class: Class) -> Result<LeaseId> {
        let id = if id == 0 { random_lease_id() } else { id };
        let lease = LeaseRow { id, ttl, class };
        self.ask(|reply| Command::Grant { lease, reply }).await
    }

    /// A lease for keys that shall live `ttl`, or a little longer: such leases are shared, so that
    /// thousands of short-lived objects cost a few leases.
    ///
    /// # Errors
    /// As [`Store::lease_grant`].
    pub async fn lease_shared(&self, ttl: Duration, class: Class) -> Result<LeaseId> {
        let shareable = lock(&self.0.leases).shareable(ttl, class, rt::now().mono);
        match shareable {
            Some(id) => Ok(id),
            None => self.lease_grant(0, shared_ttl(ttl), class).await,
        }
    }

    /// Starts the lease's time again; the time it has now.
    ///
    /// # Errors
    /// `LeaseNotFound`.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration> {
        let kept = lock(&self.0.leases).keep_alive(id, rt::now().mono);
        let ttl = kept.ok_or(Error::LeaseNotFound(id))?;
        if self.is_shared() {
            // Its time starts again for everyone with a new version of its key.
            let exists = Compare {
                span: Span::Key(lease_key(id)),
                relation: Relation::Greater,
                target: Target::Version(0),
            };
            let value = ttl.as_millis().to_string().into_bytes().into();
            let then = vec![Request::Put { key: lease_key(id), value, lease: 0 }];
            let txn = Txn { compares: vec![exists], then, ..Txn::default() };
            let done = self.txn(txn, Class::Lazy, Room::Unbounded).await?;
            if done.failed.is_some() {
                return Err(Error::LeaseNotFound(id));
            }
        }
        Ok(ttl)
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// `LeaseNotFound`; `Storage` as for a write of its class.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Written> {
        self.ask(|reply| Command::Revoke { id, reply }).await?.written()
    }

    /// # Errors
    /// `LeaseNotFound`.
    pub async fn lease_info(&self, id: LeaseId) -> Result<LeaseInfo> {
        lock(&self.0.leases).info(id, rt::now().mono).ok_or(Error::LeaseNotFound(id))
    }

    pub async fn lease_ids(&self) -> Vec<LeaseId> {
        lock(&self.0.leases).ids()
    }

    /// Writes what is lazy to disk.
    ///
    /// # Errors
    /// `Storage` if that failed; it is tried again by itself.
    pub async fn sync(&self) -> Result<()> {
        self.ask(|reply| Command::Sync { reply }).await
    }

    /// Removes from the disk whatever is not the state of now: replaced and deleted values too, which
    /// otherwise stay there for a while. Writes wait for it.
    ///
    /// # Errors
    /// `Storage` if that failed.
    pub async fn scrub(&self) -> Result<()> {
        self.ask(|reply| Command::Scrub { reply }).await
    }

    /// Writes what is lazy, ends all watches, lets go of the disk. Reads still work; writes do not.
    ///
    /// # Errors
    /// `Storage` if what was lazy could not be written; the store is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.ask(|reply| Command::Close { reply }).await
    }

    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let n_watches = lock(&inner.hub.registry).n_watches;
        let n_leases = lock(&inner.leases).len();
        let state = read(&inner.hub.state);
        Stats {
            revision: state.revision,
            compact_revision: state.compact_revision,
            n_keys: state.n_keys(),
            state_bytes: state.keys_bytes(),
            n_history: state.n_history(),
            history_bytes: state.history_bytes(),
            n_watches,
            n_leases,
            n_lazy: inner.counters.n_lazy.load(Ordering::Relaxed),
            n_dead_rows: inner.counters.n_dead_rows.load(Ordering::Relaxed),
            n_commits: inner.counters.n_commits.load(Ordering::Relaxed),
            n_failed_commits: inner.counters.n_failed_commits.load(Ordering::Relaxed),
            file_bytes: match &inner.backend {
                Backend::Own(driver) => driver.file_bytes(),
                Backend::Shared(_) => 0,
            },
        }
    }

    /// Sends a command to the committer and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = bounded(1);
        self.0.commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.recv().await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The committer ends only when the executor gets to it; the file is free at once, and
        // nobody waits for events that cannot come.
        match &self.backend {
            Backend::Own(driver) => driver.abandon(),
            Backend::Shared(log) => log.abandon(),
        }
        self.hub.close();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.revision();
        match &self.0.backend {
            Backend::Own(driver) => write!(f, "Store({driver:?}, revision {revision})"),
            Backend::Shared(log) => write!(f, "Store({log:?}, revision {revision})"),
        }
    }
}

/// Positive, as etcd's clients expect.
fn random_lease_id() -> LeaseId {
    i64::try_from(rt::random_u64() >> 1).unwrap_or(0).max(1)
}
