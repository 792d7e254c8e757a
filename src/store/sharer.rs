//! The committer of a shared log: plans, appends, follows what others appended, and plans again.
//!
//! What an answer says was true in the log: a transaction that changes something is appended on the
//! revision it was judged by, one that changes nothing is answered once the log says that there is no
//! newer revision. Lazy writes wait a moment for company; nobody else would see them otherwise.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::channel::Receiver;
use stdx::{OrdMap, time::Mono};

use crate::commit::{Asked, Command, Counters};
use crate::driver::{LeaseRow, Row, revision_of, row_id};
use crate::error::{Error, Result};
use crate::lease::Leases;
use crate::plan::{Base, Plan};
use crate::shared::{
    Append, Appended, Numbering, Refused, Role, SharedLog, Tail, lease_key, lease_of, lease_ttl,
};
use crate::state::{State, size_bytes};
use crate::txn::{Done, Request, Txn};
use crate::types::{Bytes, Class, Event, Expect, KeyValue, LeaseId, Limits, Op, Room, Span};
use crate::watch::{Hub, lock, read};

/// One operation of the log takes so long at most.
const LOG_WAIT_MAX: Duration = Duration::from_secs(3);
/// Reading everything, which may be a hundred megabytes, takes so long at most.
const LOAD_MAX: Duration = Duration::from_secs(60);
/// An append without an answer is sent again so often; then it is unknown whether it happened. So is a question.
const APPEND_TRIES_MAX: usize = 4;
const APPEND_RETRY: Duration = Duration::from_millis(100);
/// A batch is planned so often, then its writers are told that the log is busy.
const PLANS_MAX: usize = 100;
/// How long lazy writes wait for others to share an append with.
const LAZY_WAIT: Duration = Duration::from_millis(100);
/// How often a server says that it lives, and up to where it has followed.
const REPORT_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Sharer {
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Arc<dyn SharedLog>,
    pub(crate) leases: Arc<Mutex<Leases>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
    pub(crate) commands: Receiver<Command>,
    /// What newer rows replace, about; others may have purged some of it.
    pub(crate) dead_bytes: usize,
    pub(crate) role: Role,
    /// How long the last append took.
    pub(crate) append_took: Duration,
    pub(crate) report_at: Mono,
}

enum Wake {
    Command(Command),
    Grown,
    Time,
    Gone,
}

impl Sharer {
    /// Works until closed, or until every handle of the store is gone.
    pub(crate) async fn run(mut self) {
        let mut held = None;
        loop {
            let wake = match held.take() {
                Some(command) => Wake::Command(command),
                None => self.wait().await,
            };
            match wake {
                Wake::Command(Command::Close { reply }) => {
                    self.hub.close();
                    self.log.abandon();
                    let _ = reply.try_send(Ok(()));
                    return;
                }
                Wake::Command(command) => held = self.handle(command).await,
                Wake::Grown => {
                    if let Err(error) = self.catch_up().await {
                        log::warn!("{error}");
                        rt::sleep(APPEND_RETRY).await;
                    }
                }
                Wake::Time => {}
                Wake::Gone => return,
            }
            self.housekeeping().await;
        }
    }

    async fn wait(&self) -> Wake {
        let lease_at = lock(&self.leases).next_deadline().filter(|_| self.role.leads);
        let at = lease_at.into_iter().chain([self.report_at]).min().unwrap_or(self.report_at);
        let left = at.since(rt::now().mono);
        let command = async { self.commands.recv().await.map_or(Wake::Gone, Wake::Command) };
        let grown = async {
            self.log.grown(self.revision()).await;
            Wake::Grown
        };
        rt::timeout(left, rt::future::or(command, grown)).await.unwrap_or(Wake::Time)
    }

    fn revision(&self) -> u64 {
        read(&self.hub.state).revision
    }

    /// Handles a command and those that can share its way to the log; returns one that cannot.
    async fn handle(&mut self, command: Command) -> Option<Command> {
        match command {
            Command::Txn(asked) => return self.write(asked).await,
            Command::Fresh { reply } => {
                let mut replies = vec![reply];
                let mut held = None;
                while let Ok(next) = self.commands.try_recv() {
                    match next {
                        Command::Fresh { reply } => replies.push(reply),
                        other => {
                            held = Some(other);
                            break;
                        }
                    }
                }
                let fresh = self.freshen().await;
                for reply in replies {
                    let _ = reply.try_send(fresh.clone());
                }
                return held;
            }
            Command::Grant { lease, reply } => {
                let granted = self.grant(lease).await;
                let _ = reply.try_send(granted);
            }
            Command::Revoke { id, reply } => {
                let revoked = self.revoke(id, false).await;
                let revoked = revoked.and_then(|done| done.ok_or(Error::LeaseNotFound(id)));
                let _ = reply.try_send(revoked);
            }
            // Nothing is lazy here.
            Command::Sync { reply } | Command::Scrub { reply } | Command::Close { reply } => {
                drop(reply.try_send(Ok(())))
            }
        }
        None
    }

    /// Gathers the transactions that wait, and settles them together.
    async fn write(&mut self, first: Asked) -> Option<Command> {
        let mut bytes = first.txn.bytes();
        let mut asked = vec![first];
        let mut held = None;
        let until = rt::now().mono + LAZY_WAIT;
        while asked.len() < self.limits.batch_writes_max && bytes < self.limits.batch_bytes_max {
            let lazy = asked.iter().all(|asked| asked.class == Class::Lazy);
            let next = match self.commands.try_recv() {
                Ok(next) => next,
                Err(_) if lazy => {
                    let left = until.since(rt::now().mono);
                    match rt::timeout(left, self.commands.recv()).await {
                        Ok(Ok(next)) => next,
                        _ => break,
                    }
                }
                Err(_) => break,
            };
            match next {
                Command::Txn(next) => {
                    bytes += next.txn.bytes();
                    asked.push(next);
                }
                other => {
                    held = Some(other);
                    break;
                }
            }
        }
        let asks = asked.iter().map(|asked| (asked.txn.clone(), asked.class, asked.room)).collect();
        let done = self.settle(asks).await;
        for (asked, answer) in asked.into_iter().zip(done) {
            // The writer may have gone away; the write stands all the same.
            let _ = asked.reply.try_send(answer);
        }
        held
    }

    /// Settles transactions in order: together as far as one append takes them. An answer for each, or none is known.
    async fn settle(&mut self, asks: Vec<(Txn, Class, Room)>) -> Vec<Result<Done>> {
        let mut answers = Vec::with_capacity(asks.len());
        while answers.len() < asks.len() {
            let left = &asks[answers.len()..];
            match self.settle_first(left).await {
                Ok(settled) => answers.extend(settled),
                Err(error) => answers.extend(left.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    /// Plans, and appends, until the log agrees: the first of them, and as many more as fit into one append.
    async fn settle_first(&mut self, asks: &[(Txn, Class, Room)]) -> Result<Vec<Result<Done>>> {
        // What the log held at some time since they were asked: what changes nothing need not see more.
        let mut newest = None;
        for _ in 0..PLANS_MAX {
            let (base, plan, mut answers) = self.plan(asks);
            if plan.events.is_empty() {
                let known = match newest {
                    Some(known) => known,
                    None => *newest.insert(self.newest().await?),
                };
                if known <= base {
                    return Ok(answers);
                }
                self.catch_up().await?;
                continue;
            }
            let relied = &asks[..answers.len()];
            let appended = match self.append(base, &plan, relied).await {
                // Those of this append, and nobody else's.
                Err(refused @ Error::Invalid(_)) => {
                    return Ok(answers.iter().map(|_| Err(refused.clone())).collect());
                }
                appended => appended?,
            };
            match appended {
                Appended::Lost => self.catch_up().await?,
                Appended::At(first) if first == base + 1 => {
                    self.show(plan.revision, &plan.events);
                    self.give_way().await;
                    return Ok(answers);
                }
                Appended::At(first) => {
                    let moved = first - (base + 1);
                    while self.revision() < plan.revision + moved {
                        self.catch_up().await?;
                    }
                    for done in answers.iter_mut().filter_map(|answer| answer.as_mut().ok()) {
                        done.move_up(base, moved);
                    }
                    return Ok(answers);
                }
            }
        }
        Err(storage("the datastore's log is busy: other servers were faster each time"))
    }

    fn plan(&self, asks: &[(Txn, Class, Room)]) -> (u64, Plan, Vec<Result<Done>>) {
        let (state, leases) = (read(&self.hub.state), lock(&self.leases));
        let base = Base { state: &state, leases: &leases, limits: &self.limits };
        let mut plan = Plan::new(state.revision, self.log.numbering());
        let mut answers = Vec::with_capacity(asks.len());
        for (txn, class, room) in asks {
            if !plan.has_place_for(&state, txn) {
                break;
            }
            answers.push(plan.add(base, txn.clone(), *class, *room));
        }
        (state.revision, plan, answers)
    }

    async fn append(
        &mut self,
        base: u64,
        plan: &Plan,
        asks: &[(Txn, Class, Room)],
    ) -> Result<Appended> {
        let rows = rows_of(&plan.events);
        let relied = asks.iter().flat_map(|(txn, _, _)| txn.spans()).collect();
        let token = rt::random_u64();
        let append = Append { base, last: plan.revision, token, rows, relied };
        let mut tries = 0;
        loop {
            // The same again, whatever became of it: the log knows the token.
            let start = rt::now().mono;
            let appended = self.ask(self.log.append(append.clone())).await;
            self.append_took = rt::now().mono.since(start);
            self.counters.n_commits.fetch_add(1, Ordering::Relaxed);
            tries += 1;
            match appended {
                Ok(appended) => return Ok(appended),
                Err(error) => {
                    self.counters.n_failed_commits.fetch_add(1, Ordering::Relaxed);
                    log::warn!("{error}");
                    match refused(&error) {
                        Some(why) => return Err(Error::Invalid(why)),
                        None if tries == APPEND_TRIES_MAX => return Err(error),
                        None => {}
                    }
                    rt::sleep(APPEND_RETRY).await;
                }
            }
        }
    }

    async fn ask<T>(&self, operation: impl Future<Output = stdx::Result<T>>) -> Result<T> {
        self.ask_within(LOG_WAIT_MAX, operation).await
    }

    async fn ask_within<T>(
        &self,
        wait_max: Duration,
        operation: impl Future<Output = stdx::Result<T>>,
    ) -> Result<T> {
        match rt::timeout(wait_max, operation).await {
            Ok(answer) => answer.map_err(|error| Error::Storage(Arc::new(error))),
            Err(rt::Elapsed) => Err(storage("the datastore's log does not answer")),
        }
    }

    /// Asks for what may be asked any number of times: a datastore that is choosing its leader answers some seconds later.
    async fn ask_again<'a, T: 'a>(
        &self,
        operation: impl Fn() -> rt::BoxFuture<'a, stdx::Result<T>>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.ask(operation()).await {
                Err(error) if tries < APPEND_TRIES_MAX => {
                    log::debug!("{error}; asking again");
                    rt::sleep(APPEND_RETRY).await;
                }
                answer => return answer,
            }
        }
    }

    async fn newest(&self) -> Result<u64> {
        self.ask_again(|| self.log.newest()).await
    }

    /// Brings the state to what the log holds by now.
    async fn freshen(&mut self) -> Result<()> {
        match self.newest().await? <= self.revision() {
            true => Ok(()),
            false => self.catch_up().await,
        }
    }

    async fn catch_up(&mut self) -> Result<()> {
        loop {
            let visible = self.revision();
            match self.ask_again(|| self.log.tail(visible)).await? {
                Tail::Rows { revision, .. } if revision <= visible => return Ok(()),
                Tail::Rows { rows, revision } => {
                    let events = self.events_of(rows);
                    self.show(revision, &events);
                }
                Tail::Compacted => return self.reload().await,
            }
        }
    }

    /// What rows of others did to the state.
    fn events_of(&self, rows: Vec<Row>) -> Vec<Arc<Event>> {
        let state = read(&self.hub.state);
        let mut changed: OrdMap<Bytes, Option<KeyValue>> = OrdMap::new();
        let mut events = Vec::with_capacity(rows.len());
        for Row { id, key, kv, .. } in rows {
            let before = match changed.get(&key) {
                Some(before) => before.clone(),
                None => state.get(&key).cloned(),
            };
            // One allocation for all versions of a key.
            let key = before.as_ref().map_or(key, |before| Arc::clone(&before.key));
            let now = kv.map(|kv| KeyValue { key: Arc::clone(&key), ..kv });
            changed.insert(Arc::clone(&key), now.clone());
            events.push(Arc::new(Event { revision: revision_of(id).0, key, now, before }));
        }
        events
    }

    /// Makes visible what the log holds.
    fn show(&mut self, revision: u64, events: &[Arc<Event>]) {
        self.hub.publish(revision, events);
        let mut leases = lock(&self.leases);
        for event in events {
            if let Some(id) = lease_of(&event.key) {
                follow_lease(&mut leases, id, event.now.as_ref());
            }
            leases.follow(event);
        }
        let dead = |event: &Arc<Event>| {
            let tombstone = event.now.is_none().then_some(event.key.len());
            tombstone.unwrap_or(0) + event.before.as_ref().map_or(0, size_bytes)
        };
        self.dead_bytes += events.iter().map(dead).sum::<usize>();
    }

    /// Starts anew from what the log holds, because it no longer tells what happened since.
    async fn reload(&mut self) -> Result<()> {
        let loaded = self.ask_within(LOAD_MAX, self.log.load()).await?;
        log::warn!("datastore: this server was away too long and reads everything again");
        *lock(&self.leases) = leases_of(&loaded.keys);
        self.dead_bytes = loaded.dead.bytes;
        self.hub.restart(State::new(loaded.keys, loaded.mark, self.limits.owner));
        Ok(())
    }

    /// A server that has just won lets others go first for a moment, or whoever is busiest would win
    /// each time.
    async fn give_way(&self) {
        if self.role.n_servers > 1 {
            let most = (self.append_took * 2).min(GIVE_WAY_MAX).as_micros();
            let most = u64::try_from(most).unwrap_or(0).max(1);
            rt::sleep(Duration::from_micros(rt::random_u64() % most)).await;
        }
    }

    async fn housekeeping(&mut self) {
        let now = rt::now().mono;
        let reported = now >= self.report_at;
        if reported {
            self.report_at = now + REPORT_EVERY;
            match self.ask(self.log.report(self.revision())).await {
                Ok(role) => self.role = role,
                Err(_) => self.role.leads = false,
            }
        }
        if !self.role.leads {
            return;
        }
        let expired = lock(&self.leases).expired(now);
        if let Some(id) = expired
            && let Err(error) = self.revoke(id, true).await
        {
            log::warn!("end lease {id}: {error}");
            rt::sleep(APPEND_RETRY).await;
        }
        if reported && self.dead_bytes > self.limits.dead_bytes_max {
            match self.ask(self.log.purge()).await {
                Ok(()) => self.dead_bytes = 0,
                Err(error) => log::warn!("{error}"),
            }
        }
    }

    async fn grant(&mut self, lease: LeaseRow) -> Result<LeaseId> {
        let LeaseRow { id, ttl, .. } = lease;
        let value = ttl.as_millis().to_string().into_bytes();
        let txn = Txn::from(vec![Op::create(lease_key(id), value)]);
        let mut answers = self.settle(vec![(txn, Class::Durable, Room::Whole)]).await;
        match answers.pop().map(|answer| answer.and_then(Done::written)) {
            Some(Ok(_)) => Ok(id),
            Some(Err(Error::Conflict { .. })) => Err(Error::LeaseExists(id)),
            Some(Err(error)) => Err(error),
            None => Err(Error::Closed),
        }
    }

    /// Deletes the lease with its keys; if it must have expired, only as long as nobody has renewed it.
    async fn revoke(&mut self, id: LeaseId, expired: bool) -> Result<Option<Done>> {
        let mut n_tries = 0;
        let mut in_parts;
        while n_tries < PLANS_MAX {
            let Some(row) = read(&self.hub.state).get(&lease_key(id)).cloned() else {
                return Ok(None);
            };
            let mut txn = {
                let leases = lock(&self.leases);
                let over =
                    leases.info(id, rt::now().mono).is_none_or(|info| info.remaining.is_zero());
                if expired && !over {
                    return Ok(None);
                }
                let keys = leases.keys(id).into_iter();
                let then = keys.map(|key| Request::Delete(Span::Key(key))).collect();
                Txn { then, ..Txn::default() }
            };
            let end = Op::Delete { key: row.key, expect: Expect::Revision(row.mod_revision) };
            let mut end = Txn::from(vec![end]);
            txn.compares = end.compares;
            match self.log.numbering() {
                // More than one append takes: the lease goes with the last of its keys.
                Numbering::Append { changes_max, .. } if txn.then.len() >= changes_max => {
                    txn.then.truncate(changes_max);
                    in_parts = true;
                }
                _ => {
                    txn.then.append(&mut end.then);
                    in_parts = false;
                }
            }
            let mut answers = self.settle(vec![(txn, Class::Durable, Room::Whole)]).await;
            match answers.pop() {
                Some(Ok(done)) if done.failed.is_some() => n_tries += 1,
                Some(Ok(_)) if in_parts => {}
                Some(answer) => return answer.map(Some),
                None => return Ok(None),
            }
        }
        Err(storage("the lease is renewed faster than it can be ended"))
    }
}

/// The most that the winner of an append waits before its next one.
const GIVE_WAY_MAX: Duration = Duration::from_millis(100);

/// Why the log takes no such append, however often it is sent.
fn refused(error: &Error) -> Option<String> {
    let Error::Storage(error) = error else { return None };
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    while let Some(error) = next {
        if let Some(Refused(why)) = error.downcast_ref() {
            return Some(why.clone());
        }
        next = error.source();
    }
    None
}

fn storage(why: &str) -> Error {
    Error::Storage(Arc::new(stdx::Error::new(why)))
}

fn rows_of(events: &[Arc<Event>]) -> Vec<Row> {
    let mut place = (0, 0);
    let row = |event: &Arc<Event>| {
        // Events of one revision are numbered in their order.
        place =
            if place.0 == event.revision { (place.0, place.1 + 1) } else { (event.revision, 0) };
        let replaces = event.before.as_ref().map_or(0, |kv| kv.mod_revision);
        let (key, kv) = (Arc::clone(&event.key), event.now.clone());
        Row { id: row_id(place.0, place.1), key, kv, replaces }
    };
    events.iter().map(row).collect()
}

fn follow_lease(leases: &mut Leases, id: LeaseId, row: Option<&KeyValue>) {
    let now = rt::now().mono;
    match row.and_then(|kv| lease_ttl(&kv.value)) {
        None => leases.remove(id),
        Some(_) if leases.contains(id) => drop(leases.keep_alive(id, now)),
        Some(ttl) => leases.add(LeaseRow { id, ttl, class: Class::Durable }, now, false),
    }
}

/// The leases among the keys, each with its whole time before it.
pub(crate) fn leases_of(keys: &OrdMap<Bytes, KeyValue>) -> Leases {
    let mut leases = Leases::default();
    for (key, kv) in keys {
        if let Some(id) = lease_of(key) {
            follow_lease(&mut leases, id, Some(kv));
        }
    }
    for kv in keys.values().filter(|kv| kv.lease != 0) {
        leases.attach(kv.lease, &kv.key);
    }
    leases
}
