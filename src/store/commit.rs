//! The committer: many writes, one transaction, one fsync; then everyone sees them, in order.
//!
//! Transactions are judged in memory, in the order of arrival, by the visible state and the batch so
//! far (`plan.rs`). Nothing of a batch is visible before the driver has it; if the driver fails, the
//! batch's writers get the error and the state is as before. Lazy writes skip the driver while the
//! revisions reserved on disk last.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::channel::{Receiver, Sender};
use stdx::{OrdMap, OrdSet, time::Mono};

use crate::driver::{Batch, Dead, Driver, LeaseRow, Row, row_id};
use crate::error::{Error, Result};
use crate::lease::Leases;
use crate::plan::{Base, Plan};
use crate::shared::Numbering;
use crate::state::{State, size_bytes};
use crate::txn::{Done, Request, Txn};
use crate::types::{Bytes, Class, KeyValue, LeaseId, Limits, Room, Span};
use crate::watch::{Hub, lock, read};

/// A transaction and where its answer goes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) txn: Txn,
    pub(crate) class: Class,
    pub(crate) room: Room,
    pub(crate) reply: Sender<Result<Done>>,
}

/// What the committer is asked to do. Answers come when it is done, durable as the class says.
#[derive(Debug)]
pub(crate) enum Command {
    Txn(Asked),
    Grant {
        lease: LeaseRow,
        reply: Sender<Result<LeaseId>>,
    },
    Revoke {
        id: LeaseId,
        reply: Sender<Result<Done>>,
    },
    /// Follows a shared log to its end. Nobody asks for it where the log is our own.
    Fresh {
        reply: Sender<Result<()>>,
    },
    /// Writes what is lazy.
    Sync {
        reply: Sender<Result<()>>,
    },
    /// Writes what is lazy, and leaves nothing on the disk but what the state holds.
    Scrub {
        reply: Sender<Result<()>>,
    },
    /// Writes what is lazy, then ends.
    Close {
        reply: Sender<Result<()>>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) n_commits: AtomicU64,
    pub(crate) n_failed_commits: AtomicU64,
    pub(crate) n_lazy: AtomicUsize,
    pub(crate) n_dead_rows: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) hub: Arc<Hub>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) leases: Arc<Mutex<Leases>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) commands: Receiver<Command>,
    /// The last revision given out, though perhaps never shown: numbers of failed batches are skipped.
    pub(crate) revision: u64,
    /// Revisions up to here may be shown without asking the disk.
    pub(crate) mark: u64,
    pub(crate) dead: Dead,
    pub(crate) purging: bool,
    /// Whether this start has told the disk that it runs.
    pub(crate) running_told: bool,
    pub(crate) lazy: Lazy,
    /// Rows of batches that were reported as failed, though the disk may hold them. They are deleted
    /// with the next batch, or they could outlive the tombstone of their key.
    pub(crate) ghosts: OrdSet<u64>,
    /// After a failure, housekeeping waits until then.
    pub(crate) retry_at: Mono,
    /// When the file is looked at for room to give back; `None` until something was deleted.
    pub(crate) shrink_at: Option<Mono>,
}

/// Keys whose newest version is not on disk.
#[derive(Debug, Default)]
pub(crate) struct Lazy {
    keys: OrdMap<Bytes, LazyKey>,
    bytes: usize,
    since: Option<Mono>,
}

#[derive(Debug)]
struct LazyKey {
    /// The number of its newest version's row, once written.
    id: u64,
    bytes: usize,
    /// The row that is on disk instead, if any.
    on_disk: Option<OnDisk>,
}

/// A row on disk and its size.
type OnDisk = (u64, usize);

/// Revisions are reserved this far ahead; a crash skips as many at most.
const MARK_STEP: u64 = 4096;
/// Dead rows are deleted once they are more than the limit and this part of the living.
const DEAD_LIVE_PARTS: usize = 4;
const PURGE_ROWS_MAX: usize = 256;
const GHOSTS_MAX: usize = 16 << 10;
/// Lazy data up to this size and at least this old joins a batch that is written anyway.
const JOIN_BYTES_MAX: usize = 32 << 10;
const JOIN_AGE_MIN: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// After a start, after the last deletion, and between two steps, the file is made smaller.
pub(crate) const SHRINK_FIRST: Duration = Duration::from_secs(60);
const SHRINK_REST: Duration = Duration::from_secs(10);
const SHRINK_STEP: Duration = Duration::from_millis(250);

enum Wake {
    Command(Command),
    Time,
    Gone,
}

impl Committer {
    /// Works until closed, or until every handle of the store is gone.
    pub(crate) async fn run(mut self) {
        let mut held = None;
        loop {
            let wake = match held.take() {
                Some(command) => Wake::Command(command),
                None => self.wait().await,
            };
            match wake {
                Wake::Command(command) => {
                    let close = matches!(command, Command::Close { .. });
                    held = self.handle(command).await;
                    if close {
                        return;
                    }
                }
                Wake::Time => {}
                Wake::Gone => return,
            }
            self.housekeeping().await;
        }
    }

    async fn wait(&mut self) -> Wake {
        let flush_at = self.lazy.since.map(|since| since + self.limits.lazy_age_max);
        let lease_at = lock(&self.leases).next_deadline();
        let next = flush_at.into_iter().chain(lease_at).chain(self.shrink_at).min();
        let next = next.map(|at| at.max(self.retry_at));
        let received = match next {
            None => self.commands.recv().await,
            Some(at) => {
                let left = at.since(rt::now().mono);
                match rt::timeout(left, self.commands.recv()).await {
                    Ok(received) => received,
                    Err(rt::Elapsed) => return Wake::Time,
                }
            }
        };
        received.map_or(Wake::Gone, Wake::Command)
    }

    /// Handles a command and those that can share its batch; returns one that cannot.
    async fn handle(&mut self, command: Command) -> Option<Command> {
        match command {
            Command::Txn(asked) => return self.write(asked).await,
            Command::Grant { lease, reply } => {
                let granted = self.grant(lease).await;
                let _ = reply.try_send(granted);
            }
            Command::Revoke { id, reply } => {
                let revoked = self.revoke(id).await;
                let _ = reply.try_send(revoked);
            }
            Command::Fresh { reply } => drop(reply.try_send(Ok(()))),
            Command::Sync { reply } => {
                let synced = self.flush(None).await;
                let _ = reply.try_send(synced);
            }
            Command::Scrub { reply } => {
                let scrubbed = self.scrub().await;
                let _ = reply.try_send(scrubbed);
            }
            Command::Close { reply } => {
                let closed = self.close().await;
                let _ = reply.try_send(closed);
            }
        }
        None
    }

    /// Collects the transactions that wait, commits them together, and answers each.
    async fn write(&mut self, first: Asked) -> Option<Command> {
        let mut plan = Plan::new(self.revision, Numbering::Txn);
        let mut held = None;
        let mut answers = Vec::new();
        {
            let state = read(&self.hub.state);
            let leases = lock(&self.leases);
            let base = Base { state: &state, leases: &leases, limits: &self.limits };
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(Asked { txn, class, room, reply }) = next.take() {
                bytes += txn.bytes();
                answers.push((reply, plan.add(base, txn, class, room)));
                if answers.len() >= self.limits.batch_writes_max
                    || bytes >= self.limits.batch_bytes_max
                {
                    break;
                }
                match self.commands.try_recv() {
                    Ok(Command::Txn(asked)) => next = Some(asked),
                    Ok(other) => held = Some(other),
                    Err(_) => {}
                }
            }
        }
        let done = self.commit(plan).await;
        for (reply, answer) in answers {
            // What a transaction found may have been done by another that has just failed.
            let answer = answer.and_then(|answer| done.clone().map(|()| answer));
            // The writer may have gone away; the write stands all the same.
            let _ = reply.try_send(answer);
        }
        held
    }

    /// Makes a plan durable where it must be, then visible.
    async fn commit(&mut self, plan: Plan) -> Result<()> {
        self.revision = plan.revision;
        if plan.events.is_empty() {
            return Ok(());
        }
        if !plan.durable.is_empty() || plan.revision > self.mark {
            self.write_out(&plan).await?;
        }
        self.note_lazy(&plan);
        self.hub.publish(plan.revision, &plan.events);
        let mut leases = lock(&self.leases);
        for event in &plan.events {
            leases.follow(event);
        }
        Ok(())
    }

    /// Hands a batch to the driver: the plan's durable keys, reservations, and what is due anyway.
    async fn write_out(&mut self, plan: &Plan) -> Result<()> {
        let now = rt::now().mono;
        let old_enough = self.lazy.since.is_some_and(|since| now.since(since) >= JOIN_AGE_MIN);
        let join = old_enough && self.lazy.bytes <= JOIN_BYTES_MAX;
        let mut draft = Draft::default();
        {
            let state = read(&self.hub.state);
            for key in &plan.durable {
                // Every durable key of a plan has an outcome in it.
                let Some(outcome) = plan.outcomes.get(key) else { continue };
                self.add_row(&state, &mut draft, key, outcome.id, outcome.now.as_ref());
            }
            let joining =
                self.lazy.keys.iter().filter(|(key, _)| !plan.outcomes.contains_key(*key));
            for (key, lazy) in joining.filter(|_| join) {
                self.add_row(&state, &mut draft, key, lazy.id, state.get(key));
            }
        }
        if plan.revision + MARK_STEP / 4 > self.mark {
            draft.batch.mark = Some(plan.revision + MARK_STEP);
        }
        self.submit(draft).await
    }

    /// Writes everything lazy; with `clean`, as the last thing before the end.
    async fn flush(&mut self, clean: Option<u64>) -> Result<()> {
        let mut draft = Draft::default();
        {
            let state = read(&self.hub.state);
            for (key, lazy) in &self.lazy.keys {
                self.add_row(&state, &mut draft, key, lazy.id, state.get(key));
            }
        }
        let has_ended = !lock(&self.leases).ended.is_empty();
        if clean.is_none() && self.lazy.keys.is_empty() && !has_ended {
            return Ok(());
        }
        if let Some(revision) = clean {
            draft.batch.mark = Some(revision);
            draft.batch.clean = Some(true);
        }
        self.submit(draft).await
    }

    /// One key's newest version as a row, and the row it replaces.
    fn add_row(
        &self,
        state: &State,
        draft: &mut Draft,
        key: &Bytes,
        id: u64,
        now: Option<&KeyValue>,
    ) {
        draft.settled.push(Arc::clone(key));
        let on_disk = self.on_disk(state, key);
        if on_disk.is_none() && now.is_none() {
            // Created and deleted between two batches: the disk never knew it.
            return;
        }
        let row = Row { id, key: Arc::clone(key), kv: now.cloned(), replaces: 0 };
        draft.replaced.extend(on_disk.filter(|(id, _)| *id != row.id));
        if now.is_none() {
            draft.replaced.push((row.id, row.bytes()));
        }
        let lease = now.map_or(0, |kv| kv.lease);
        if let Some(lease) = lock(&self.leases).missing_row(lease)
            && !draft.batch.leases.contains(&lease)
        {
            draft.batch.leases.push(lease);
        }
        draft.batch.rows.push(row);
    }

    /// The key's row on disk before this batch.
    fn on_disk(&self, state: &State, key: &Bytes) -> Option<OnDisk> {
        match self.lazy.keys.get(key) {
            Some(lazy) => lazy.on_disk,
            None => state.get(key).map(on_disk_of),
        }
    }

    /// One commit of the driver; what the batch settles is noted only when it succeeds.
    async fn submit(&mut self, draft: Draft) -> Result<()> {
        let Draft { mut batch, settled, replaced } = draft;
        if !self.running_told {
            batch.clean.get_or_insert(false);
        }
        let live_bytes = read(&self.hub.state).keys_bytes();
        let purge_at = self.limits.dead_bytes_max + live_bytes / DEAD_LIVE_PARTS;
        self.purging = self.dead.bytes > if self.purging { purge_at / 2 } else { purge_at };
        if self.purging {
            batch.purged = self.dead.first(PURGE_ROWS_MAX);
        }
        if self.ghosts.len() > GHOSTS_MAX {
            let batch = Batch { purged: self.ghosts.iter().copied().collect(), ..Batch::default() };
            self.send(batch).await?;
            self.ghosts.clear();
        }
        batch.purged.extend(&self.ghosts);
        batch.ended_leases = lock(&self.leases).ended.clone();
        // The rows are in order, so that neighbours land in neighbouring pages.
        batch.rows.sort_unstable_by_key(|row| row.id);

        let ids: Vec<u64> = batch.rows.iter().map(|row| row.id).collect();
        let purged = batch.purged.clone();
        let leases: Vec<LeaseId> = batch.leases.iter().map(|lease| lease.id).collect();
        let (n_ended, mark) = (batch.ended_leases.len(), batch.mark);
        if let Err(error) = self.send(batch).await {
            self.ghosts.extend(ids);
            return Err(error);
        }
        self.ghosts.clear();
        self.running_told = true;
        self.mark = mark.unwrap_or(self.mark);
        for key in settled {
            self.lazy.remove(&key);
        }
        if !purged.is_empty() {
            self.shrink_at = Some(rt::now().mono + SHRINK_REST);
        }
        for id in purged {
            self.dead.remove(id);
        }
        for (id, n_bytes) in replaced {
            self.dead.add(id, n_bytes);
        }
        let mut known = lock(&self.leases);
        for id in leases {
            known.written(id);
        }
        known.ended.drain(..n_ended);
        self.count();
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<()> {
        let committed = self.driver.commit(batch).await;
        self.counters.n_commits.fetch_add(1, Ordering::Relaxed);
        committed.map_err(|error| {
            self.counters.n_failed_commits.fetch_add(1, Ordering::Relaxed);
            self.retry_at = rt::now().mono + RETRY_AFTER;
            log::warn!("{error}");
            Error::Storage(Arc::new(error))
        })
    }

    /// Remembers which keys of a plan are newer in memory than on disk, before it becomes visible.
    fn note_lazy(&mut self, plan: &Plan) {
        if plan.durable.len() == plan.outcomes.len() {
            return;
        }
        let state = read(&self.hub.state);
        for (key, outcome) in &plan.outcomes {
            if plan.durable.contains(key) {
                continue;
            }
            let on_disk = self.on_disk(&state, key);
            let bytes = outcome.now.as_ref().map_or(key.len(), size_bytes);
            let lazy = LazyKey { id: outcome.id, bytes, on_disk };
            let known = self.lazy.keys.insert(Arc::clone(key), lazy);
            self.lazy.bytes = self.lazy.bytes + bytes - known.map_or(0, |known| known.bytes);
        }
        self.lazy.since.get_or_insert_with(|| rt::now().mono);
        drop(state);
        self.count();
    }

    fn count(&self) {
        self.counters.n_lazy.store(self.lazy.keys.len(), Ordering::Relaxed);
        self.counters.n_dead_rows.store(self.dead.len(), Ordering::Relaxed);
    }

    /// Ends leases whose time is over, and writes lazy data that is old or much.
    async fn housekeeping(&mut self) {
        let now = rt::now().mono;
        if now < self.retry_at {
            return;
        }
        let expired = lock(&self.leases).expired(now);
        if let Some(id) = expired
            && let Err(error) = self.revoke(id).await
        {
            log::warn!("end lease {id}: {error}");
            self.retry_at = now + RETRY_AFTER;
            return;
        }
        let old = self.lazy.since.is_some_and(|s| now.since(s) >= self.limits.lazy_age_max);
        if old || self.lazy.bytes > self.limits.lazy_bytes_max {
            // A failure is logged where it happens and tried again after a while.
            let _ = self.flush(None).await;
        }
        if self.shrink_at.is_some_and(|at| now >= at) && self.commands.is_empty() {
            self.shrink().await;
        }
    }

    /// One step of giving the disk back what the file no longer needs.
    async fn shrink(&mut self) {
        let more = self.driver.shrink().await.unwrap_or_else(|error| {
            log::warn!("{error}");
            false
        });
        self.shrink_at = more.then(|| rt::now().mono + SHRINK_STEP);
    }

    /// Deletes every dead row now, and has the disk forget what they held.
    async fn scrub(&mut self) -> Result<()> {
        self.flush(None).await?;
        let storage = |error| Error::Storage(Arc::new(error));
        self.driver.scrub(true).await.map_err(storage)?;
        while self.dead.len() > 0 {
            let purged = self.dead.first(PURGE_ROWS_MAX);
            let batch = Batch { purged, ..Batch::default() };
            self.submit(Draft { batch, ..Draft::default() }).await?;
        }
        self.driver.scrub(false).await.map_err(storage)
    }

    async fn grant(&mut self, lease: LeaseRow) -> Result<LeaseId> {
        if lock(&self.leases).contains(lease.id) {
            return Err(Error::LeaseExists(lease.id));
        }
        let durable = lease.class == Class::Durable;
        if durable {
            let batch = Batch { leases: vec![lease], ..Batch::default() };
            self.submit(Draft { batch, ..Draft::default() }).await?;
        }
        lock(&self.leases).add(lease, rt::now().mono, durable);
        Ok(lease.id)
    }

    /// Deletes the lease's keys, then the lease.
    async fn revoke(&mut self, id: LeaseId) -> Result<Done> {
        let mut plan = Plan::new(self.revision, Numbering::Txn);
        let (class, done) = {
            let (state, leases) = (read(&self.hub.state), lock(&self.leases));
            let class = leases.class(id).ok_or(Error::LeaseNotFound(id))?;
            let keys = leases.keys(id).into_iter();
            let then = keys.map(|key| Request::Delete(Span::Key(key))).collect();
            let base = Base { state: &state, leases: &leases, limits: &self.limits };
            (class, plan.add(base, Txn { then, ..Txn::default() }, class, Room::Whole)?)
        };
        self.commit(plan).await?;
        lock(&self.leases).remove(id);
        if class == Class::Durable {
            self.flush(None).await?;
        }
        Ok(done)
    }

    /// A clean end: nothing lazy is left behind, and the next start goes on with the next revision.
    async fn close(&mut self) -> Result<()> {
        let flushed = self.flush(Some(self.revision)).await;
        self.hub.close();
        let closed = self.driver.close().await.map_err(|error| Error::Storage(Arc::new(error)));
        flushed.and(closed)
    }
}

impl Lazy {
    fn remove(&mut self, key: &Bytes) {
        self.bytes -= self.keys.remove(key).map_or(0, |lazy| lazy.bytes);
        if self.keys.is_empty() {
            self.since = None;
        }
    }
}

/// A batch in the making, and what is settled when it succeeds.
#[derive(Default)]
struct Draft {
    batch: Batch,
    /// Keys that need no further writing.
    settled: Vec<Bytes>,
    /// Rows that are dead then.
    replaced: Vec<OnDisk>,
}

fn on_disk_of(kv: &KeyValue) -> OnDisk {
    let id = row_id(kv.mod_revision, kv.sub);
    let row = Row { id, key: Arc::clone(&kv.key), kv: Some(kv.clone()), replaces: 0 };
    (id, row.bytes())
}
