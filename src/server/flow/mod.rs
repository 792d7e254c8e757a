//! Priority and fairness: a request is of a flow, the flow of a priority level, and each level has its part of the
//! requests that are worked on at once. So no client keeps nodes or controllers from the server, however much it asks.
//!
//! What takes a seat is work: a stream, or a body that is still on its way, takes none.

mod fair;
mod schema;

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::flow_control;
use api::hash::{FNV64, fnv64a};
use api::kinds::{FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION};
use api::{Lens, Status, Value};
use stdx::metrics::{Text, number};
use stdx::{Arrange, OrdMap};
use store::{Error, Item, Query, Store, Watch};

use crate::storage;
use fair::{Arrived, Id, LevelSpec, Queuing, Refused, Seats};
pub(crate) use schema::Asked;
use schema::Schema;

/// How long a request waits for its turn: a quarter of what it may take, as upstream.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// How long the store is left alone when its watch cannot be had.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Changes that come together are read once.
const GATHER: Duration = Duration::from_millis(20);

/// Flow schemas, with their levels, that are counted apart.
const COUNTED_MAX: usize = 500;

/// A list takes a seat for each so many objects, up to the most (upstream's numbers).
const OBJECTS_PER_SEAT: usize = 100;
const SEATS_OF_A_LIST_MAX: usize = 10;

/// Who is next, for all requests over HTTP.
pub(crate) struct Flow {
    shared: Arc<Shared>,
    _task: rt::Task<Option<()>>,
}

struct Shared {
    /// In the order in which they are looked at.
    schemas: Mutex<Arc<Vec<Schema>>>,
    state: Mutex<State>,
}

struct State {
    seats: Seats,
    waiters: OrdMap<Id, Arc<Waiter>>,
    counts: OrdMap<(Arc<str>, Arc<str>), Counts>,
}

#[derive(Default)]
struct Waiter {
    begins: AtomicBool,
    told: rt::Event,
}

/// What happened to the requests of a schema.
#[derive(Default)]
struct Counts {
    dispatched: u64,
    refused: [u64; 4],
}

/// A request's flow.
#[derive(Debug, Clone)]
pub(crate) struct Matched {
    schema: Arc<str>,
    pub(crate) schema_uid: Arc<str>,
    level: Arc<str>,
    pub(crate) level_uid: Arc<str>,
    hash: u64,
}

/// A place among the requests that are worked on; it is given back when this is dropped.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    id: Id,
    of: (Arc<str>, Arc<str>),
}

impl Flow {
    /// Shares out so many seats as the stored configuration says, and follows it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn start(store: &Store, seats_max: usize) -> Result<Flow, Error> {
        let seats = Seats::new(u32::try_from(seats_max).unwrap_or(u32::MAX));
        let state = State { seats, waiters: OrdMap::new(), counts: OrdMap::new() };
        let shared = Arc::new(Shared { schemas: Mutex::default(), state: Mutex::new(state) });
        let watch = shared.read(store).await?;
        let _task = rt::spawn_named(
            "priority and fairness",
            follow(store.clone(), Arc::clone(&shared), watch),
        );
        Ok(Flow { shared, _task })
    }

    /// The flow of a request: what no other schema wants is `catch-all`'s, which is always there.
    pub(crate) fn of(&self, asked: &Asked<'_>) -> Option<Matched> {
        let schemas =
            Arc::clone(&self.shared.schemas.lock().unwrap_or_else(PoisonError::into_inner));
        let schema = schemas.iter().find(|schema| schema.fits(asked)).or_else(|| schemas.last())?;
        let parts = [&*schema.name, "\0", schema.distinguisher(asked)];
        Some(Matched {
            schema: Arc::clone(&schema.name),
            schema_uid: Arc::clone(&schema.uid),
            level: Arc::clone(&schema.level),
            level_uid: Arc::clone(&schema.level_uid),
            hash: parts.iter().fold(FNV64, |hash, part| fnv64a(hash, part.as_bytes())),
        })
    }

    /// Waits for a request's turn.
    ///
    /// # Errors
    /// 429 where too many wait, or for too long.
    pub(crate) async fn seat(&self, of: &Matched, width: usize) -> Result<Seat, Status> {
        let width = u32::try_from(width).unwrap_or(u32::MAX);
        let name = (Arc::clone(&of.schema), Arc::clone(&of.level));
        let (seat, waiter) = {
            let mut state = self.shared.lock();
            let (arrived, begun) = state.seats.arrive(&of.level, of.hash, width, now_us());
            state.tell(&begun);
            let (id, waits) = match arrived {
                Arrived::Begins(id) => (id, false),
                Arrived::Waits(id) => (id, true),
                Arrived::Refused(why) => {
                    state.count(name, |counts| counts.refused[why as usize] += 1);
                    return Err(refused());
                }
            };
            let waiter = waits.then(Arc::<Waiter>::default);
            if let Some(waiter) = &waiter {
                state.waiters.insert(id, Arc::clone(waiter));
            } else {
                state.count(name.clone(), |counts| counts.dispatched += 1);
            }
            (Seat { shared: Arc::clone(&self.shared), id, of: name }, waiter)
        };
        let Some(waiter) = waiter else { return Ok(seat) };
        let turn = async {
            loop {
                let told = waiter.told.listen();
                if waiter.begins.load(Ordering::Acquire) {
                    return;
                }
                told.await;
            }
        };
        if rt::timeout(WAIT_MAX, turn).await.is_err() {
            seat.give_back(Refused::TimeOut);
            return Err(refused());
        }
        self.shared.lock().count(seat.of.clone(), |counts| counts.dispatched += 1);
        Ok(seat)
    }

    /// More objects than this take no more seats.
    pub(crate) const LISTED_MAX: usize = OBJECTS_PER_SEAT * SEATS_OF_A_LIST_MAX;

    /// The seats that a list of so many objects takes.
    pub(crate) fn width(n_objects: usize) -> usize {
        n_objects.div_ceil(OBJECTS_PER_SEAT).clamp(1, SEATS_OF_A_LIST_MAX)
    }
}

/// Upstream's words for why something was refused, in the order of [`Refused`].
const REASONS: [&str; 4] = ["queue-full", "concurrency-limit", "time-out", "cancelled"];

impl Flow {
    /// Appends what Prometheus reads of it, under upstream's names.
    pub(crate) fn write(&self, text: &mut Text) {
        let state = self.shared.lock();
        let of_levels: [(&str, &str, fn(&fair::Level) -> u32); 4] = [
            ("nominal_limit_seats", "Seats that are a level's own.", |it| it.nominal),
            ("current_executing_requests", "Requests that are worked on.", |it| it.n_executing),
            ("current_executing_seats", "Seats that are taken.", |it| it.seats),
            ("current_inqueue_requests", "Requests that wait.", |it| it.n_waiting),
        ];
        for (name, help, value) in of_levels {
            let name = format!("apiserver_flowcontrol_{name}");
            text.family(&name, "gauge", help);
            for level in state.seats.levels() {
                let labels = [("priority_level", &*level.spec.name)];
                text.sample(&name, &labels, f64::from(value(level)), None);
            }
        }
        let name = "apiserver_flowcontrol_dispatched_requests_total";
        text.family(name, "counter", "Requests that were worked on.");
        for ((schema, level), counts) in &state.counts {
            let labels = [("flow_schema", &**schema), ("priority_level", &**level)];
            text.sample(name, &labels, number(counts.dispatched), None);
        }
        let name = "apiserver_flowcontrol_rejected_requests_total";
        text.family(name, "counter", "Requests that were refused.");
        for ((schema, level), counts) in &state.counts {
            let labels = [("flow_schema", &**schema), ("priority_level", &**level)];
            for (reason, n) in REASONS.iter().zip(counts.refused).filter(|(_, n)| *n > 0) {
                let labels = [labels[0], labels[1], ("reason", *reason)];
                text.sample(name, &labels, number(n), None);
            }
        }
    }

    /// `/debug/api_priority_and_fairness/dump_priority_levels` and `dump_queues`, as upstream writes them.
    pub(crate) fn dump(&self, what: &str) -> Option<String> {
        let state = self.shared.lock();
        let mut out = String::new();
        match what {
            "dump_priority_levels" => {
                out.push_str("PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n");
                for level in state.seats.levels() {
                    let mut sum = Counts::default();
                    for (_, counts) in state.counts.iter().filter(|(of, _)| of.1 == level.spec.name)
                    {
                        sum.dispatched += counts.dispatched;
                        for (sum, n) in sum.refused.iter_mut().zip(counts.refused) {
                            *sum += n;
                        }
                    }
                    let [full, limit, timed_out, cancelled] = sum.refused;
                    let active = level.queues.values().filter(|it| !it.waiting.is_empty()).count();
                    let _ = writeln!(
                        out,
                        "{}, {active}, {}, {}, {}, {}, {}, {}, {timed_out}, {cancelled}",
                        level.spec.name,
                        level.queues.is_empty(),
                        level.is_gone,
                        level.n_waiting,
                        level.n_executing,
                        sum.dispatched,
                        full + limit,
                    );
                }
            }
            "dump_queues" => {
                out.push_str("PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR\n");
                for level in state.seats.levels().filter(|level| level.spec.queuing.is_some()) {
                    for (idx, queue) in &level.queues {
                        let _ = writeln!(
                            out,
                            "{}, {idx}, {}, {}, {}, {:.8}ss",
                            level.spec.name,
                            queue.waiting.len(),
                            queue.n_executing,
                            queue.seats,
                            queue.work as f64 / 1e6,
                        );
                    }
                }
            }
            _ => return None,
        }
        Some(out)
    }
}

/// Upstream's answer to what has no turn.
pub(crate) fn refused() -> Status {
    Status::too_many_requests("too many requests, please try again later", 1)
}

fn now_us() -> i64 {
    i64::try_from(rt::now().mono.0 / 1000).unwrap_or(i64::MAX)
}

impl Seat {
    /// The work is done: what is left is to send the answer.
    pub(crate) fn sends(&self) {
        self.shared.lock().seats.sends(self.id, now_us());
    }

    fn give_back(&self, why: Refused) {
        let mut state = self.shared.lock();
        if state.waiters.remove(&self.id).is_some_and(|it| !it.begins.load(Ordering::Acquire)) {
            state.count(self.of.clone(), |counts| counts.refused[why as usize] += 1);
        }
        let begun = state.seats.end(self.id, now_us());
        state.tell(&begun);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.give_back(Refused::Cancelled);
    }
}

impl State {
    fn count(&mut self, of: (Arc<str>, Arc<str>), add: impl FnOnce(&mut Counts)) {
        if self.counts.len() < COUNTED_MAX || self.counts.contains_key(&of) {
            add(self.counts.entry(of).or_default());
        }
    }

    fn tell(&mut self, begun: &[Id]) {
        for id in begun {
            if let Some(waiter) = self.waiters.remove(id) {
                waiter.begins.store(true, Ordering::Release);
                waiter.told.notify(usize::MAX);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is stored for the configuration; a watch goes on from there.
    async fn read(&self, store: &Store) -> Result<Watch, Error> {
        let kinds = [&PRIORITY_LEVEL_CONFIGURATION, &FLOW_SCHEMA];
        let spans: Vec<_> = kinds.iter().map(|kind| storage::span(kind, "")).collect();
        let mut trees: [Vec<Value>; 2] = Default::default();
        let mut revision = u64::MAX;
        for ((kind, span), trees) in kinds.into_iter().zip(&spans).zip(&mut trees) {
            let range = store.range(&Query::of(span.clone())).await?;
            // What changes between the two is read again.
            revision = revision.min(range.revision);
            trees.extend(
                range
                    .items
                    .iter()
                    .filter_map(|item| Some(storage::object(kind, item).ok()?.tree())),
            );
        }
        self.configure(trees);
        store.watch(spans, Some(revision)).await
    }

    fn configure(&self, [mut levels, mut schemas]: [Vec<Value>; 2]) {
        // What is mandatory is there before its objects are.
        for object in flow_control::objects() {
            let name = object.str("metadata.name");
            let is_schema = object.str("kind") == FLOW_SCHEMA.name;
            let known = if is_schema { &mut schemas } else { &mut levels };
            if flow_control::is_mandatory(name)
                && !known.iter().any(|it| it.str("metadata.name") == name)
            {
                known.push(object);
            }
        }
        let levels: Vec<LevelSpec> = levels.iter().map(level).collect();
        let mut schemas: Vec<Schema> = schemas
            .iter()
            .filter_map(|tree| {
                let name = tree.str("spec.priorityLevelConfiguration.name");
                // One that names a level that is not there says so in its condition, and counts for nothing.
                let level = levels.iter().find(|level| *level.name == *name)?;
                Some(Schema::of(tree, level))
            })
            .collect();
        schemas.arrange_by(|a, b| a.order().cmp(&b.order()));
        *self.schemas.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(schemas);
        let mut state = self.lock();
        let begun = state.seats.configure(levels, now_us());
        state.tell(&begun);
    }
}

fn level(tree: &Value) -> LevelSpec {
    let exempt = tree.str("spec.type") == "Exempt";
    let part = tree.at(if exempt { "spec.exempt" } else { "spec.limited" });
    let number = |tree: &Value, field: &str| tree.int(field).and_then(|n| u32::try_from(n).ok());
    let queuing = part.at("limitResponse.queuing");
    let name = |path: &str| Arc::from(tree.str(path));
    LevelSpec {
        name: name("metadata.name"),
        uid: name("metadata.uid"),
        exempt,
        shares: number(part, "nominalConcurrencyShares").unwrap_or(0),
        lendable: number(part, "lendablePercent").unwrap_or(0),
        borrowing: number(part, "borrowingLimitPercent"),
        queuing: (part.str("limitResponse.type") == "Queue").then(|| Queuing {
            queues: number(queuing, "queues").unwrap_or(1),
            hand: number(queuing, "handSize").unwrap_or(1),
            length_max: number(queuing, "queueLengthLimit").unwrap_or(1),
        }),
    }
}

async fn follow(store: Store, shared: Arc<Shared>, mut watch: Watch) {
    loop {
        match watch.next().await {
            Ok(Item::Progress(_)) => continue,
            Err(Error::Closed) => return,
            Ok(Item::Event(_)) => rt::sleep(GATHER).await,
            Err(_) => rt::sleep(RETRY_AFTER).await,
        }
        watch = loop {
            match shared.read(&store).await {
                Ok(again) => break again,
                Err(Error::Closed) => return,
                Err(error) => log::warn!("read flow schemas and priority levels: {error}"),
            }
            rt::sleep(RETRY_AFTER).await;
        };
    }
}
