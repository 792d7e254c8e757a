//! Runs every controller: queues keys, reconciles them against the shared view, executes the actions.
//!
//! A key is reconciled by one worker at a time, never before the view has seen the key's own last
//! writes, again after a failure with back-off, and again at the time its controller asked for.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api::controller::{Ask, Cache, Memory, Question, Wakes, Watch, digest};
use api::{
    Action, Actions, Expect, Key, Kind, Kinds, Lens, LensMut, Next, Object, OnFailure, Registered,
    Status, Tally, Value, View, json,
};
use stdx::time::Mono;
use stdx::{OrdMap, OrdSet, metrics::Text};
use stdx::{backoff::Backoff, never};

use crate::events::{Folder, Source, Tell};
use crate::figures::{self, Figures};
use crate::informer::{Change, Informers, Interest};
use crate::kinds::Registry;
use crate::request::{Answer, Body, Client, DeleteOptions, ListOptions, PatchType, Request, Verb};

/// Keys of one controller that are worked on at the same time: enough for group commit to
/// gather their writes, few enough to keep order and memory in hand.
const WORKERS_MAX: usize = 8;

/// How long a key waits for the view to see its own writes before it is tried anyway. A watch that
/// broke is back much sooner; a reconcile that does not see its own creates makes them again, so
/// this is as long as upstream's expectations last.
const CATCH_UP_MAX: Duration = Duration::from_secs(300);

/// How often a reconcile may ask before it must have decided: a pass of the scheduler asks about each of its pods.
const ASKS_MAX: usize = 1024;

/// How often it is asked whether an uncertain create was done.
const LOOK_TRIES_MAX: u32 = 5;

const RETRY: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(300));

/// What an administrator told controllers; see [`View::settings`].
pub type Settings = Arc<dyn Any + Send + Sync>;

/// Who passes on what controllers ask of others than the API.
pub trait Outside: Send + Sync {
    /// Puts a question to somebody, for a bounded time.
    ///
    /// # Errors
    /// Why there is no answer.
    fn ask(&self, whom: usize, body: Value) -> rt::BoxFuture<'_, Result<Value, Status>>;
}

/// What controllers are given beside objects; mostly nothing.
#[derive(Clone, Default)]
pub struct Told {
    pub settings: Option<Settings>,
    pub outside: Option<Arc<dyn Outside>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({}, {})", self.settings.is_some(), self.outside.is_some())
    }
}

/// The running controllers. Dropping it stops them.
pub struct Driver {
    _tasks: Vec<rt::Task<Option<()>>>,
    loops: Vec<Arc<Loop>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.loops.iter().map(|l| l.controller.name)).finish()
    }
}

/// The drivers of a process, for whoever reads what they have done; those that have ended are forgotten.
#[derive(Default)]
pub struct Roster(Mutex<Vec<Weak<Loop>>>);

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roster")
    }
}

impl Roster {
    /// Takes in one more.
    pub fn note(&self, driver: &Driver) {
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|one| one.strong_count() > 0);
        loops.extend(driver.loops.iter().map(Arc::downgrade));
    }

    /// Appends how long the reconciles of one controller took, under a name of its own.
    pub fn write_worked(&self, controller: &str, name: &str, help: &str, text: &mut Text) {
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = loops.iter().filter_map(Weak::upgrade);
        for one in found.filter(|one| one.controller.name == controller) {
            text.family(name, "histogram", help);
            text.histogram(name, &[], &one.figures.worked);
        }
    }

    /// What one controller has counted.
    pub fn tally(&self, controller: &str) -> Tally {
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Tally::default();
        for one in loops.iter().filter_map(Weak::upgrade) {
            if one.controller.name == controller {
                all.add(one.tally.lock().unwrap_or_else(PoisonError::into_inner).clone());
            }
        }
        all
    }

    /// Appends what their controllers have done, under client-go's names.
    pub fn write(&self, text: &mut Text) {
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let loops: Vec<Arc<Loop>> = loops.iter().filter_map(Weak::upgrade).collect();
        let each = loops.iter();
        figures::write(
            text,
            each.map(|one| (one.controller.name, one.lock().depth(), &one.figures)),
        );
    }
}

/// One controller's queue and means.
struct Loop {
    controller: &'static Registered,
    informers: Informers,
    client: Client,
    told: Told,
    queue: Mutex<Queue>,
    /// Woken when a key becomes ready or due earlier than thought.
    wake: rt::Event,
    folder: Mutex<Folder>,
    figures: Figures,
    /// What the controller has counted; it names few series.
    tally: Mutex<Tally>,
    /// What the controller keeps for itself.
    memory: Mutex<Memory>,
    /// The epoch of the kinds that are kept in view, for all controllers of a driver.
    wanted: Arc<AtomicU64>,
    /// The epoch of kinds that was in view as a whole.
    synced_epoch: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Every key with something pending; bounded by the objects that exist.
    keys: OrdMap<Key, Pending>,
    /// At this many keys those whose writes have been seen are dropped.
    sweep_at: usize,
    n_working: usize,
}

#[derive(Default)]
struct Pending {
    /// When to reconcile; `None` while nothing is asked for.
    due: Option<Mono>,
    working: bool,
    failures: u32,
    /// Own writes that the view must have seen first.
    written: OrdMap<&'static Kind, u64>,
}

impl Queue {
    /// How many keys wait for a worker.
    fn depth(&self) -> u64 {
        let now = rt::now().mono;
        let waits = |it: &&Pending| !it.working && it.due.is_some_and(|due| due <= now);
        self.keys.values().filter(waits).count() as u64
    }
}

impl Driver {
    /// Starts `controllers` over `informers`; `client_of` gives the client that acts as a controller.
    pub fn start(
        controllers: &'static [Registered],
        informers: &Informers,
        client_of: impl Fn(&'static str) -> Client,
    ) -> Driver {
        Driver::start_with(controllers, informers, &client_of, Told::default())
    }

    /// As [`Driver::start`], with what the controllers find in their views beside objects.
    pub fn start_with(
        controllers: &'static [Registered],
        informers: &Informers,
        client_of: &dyn Fn(&'static str) -> Client,
        told: Told,
    ) -> Driver {
        let mut driver = Driver { _tasks: Vec::new(), loops: Vec::new() };
        let wanted = Arc::new(AtomicU64::new(u64::MAX));
        for controller in controllers {
            let this = Arc::new(Loop {
                controller,
                informers: informers.clone(),
                client: client_of(controller.name),
                told: told.clone(),
                queue: Mutex::default(),
                wake: rt::Event::new(),
                folder: Mutex::default(),
                figures: Figures::default(),
                tally: Mutex::default(),
                memory: Mutex::default(),
                wanted: Arc::clone(&wanted),
                synced_epoch: AtomicU64::new(u64::MAX),
            });
            let weak = Arc::downgrade(&this);
            informers.listen(Arc::new(move |change| {
                if let Some(this) = weak.upgrade() {
                    this.hear(change);
                }
            }));
            driver.loops.push(this);
        }
        let kinds = informers.kinds();
        want(controllers, informers, &kinds);
        wanted.store(kinds.epoch(), Ordering::Release);
        if let Some(registry) = informers.registry() {
            let registry = Arc::clone(registry);
            let follow = follow_kinds(controllers, registry, informers.clone(), kinds, wanted);
            driver._tasks.push(rt::spawn_named("controllers' kinds", follow));
        }
        for this in &driver.loops {
            let running = rt::spawn_named(this.controller.name, run(Arc::clone(this)));
            driver._tasks.push(running);
        }
        let follow = follow_clock(driver.loops.clone());
        driver._tasks.push(rt::spawn_named("controllers' clock", follow));
        // What others have brought into view is news to these.
        driver.requeue_all();
        driver
    }

    /// True when no key is being worked on or due now: what a simulation waits for.
    pub fn idle(&self) -> bool {
        let now = rt::now().mono;
        self.loops.iter().all(|l| {
            let queue = l.lock();
            queue.n_working == 0 && queue.keys.values().all(|p| p.due.is_none_or(|due| due > now))
        })
    }

    /// Asks every controller to reconcile every object that it knows once more.
    pub fn requeue_all(&self) {
        for this in &self.loops {
            for kind in this.controller.kinds(&this.informers.kinds()) {
                for watch in this.controller.watches_of(kind) {
                    for object in this.informers.list(kind, None) {
                        this.wake_keys(&watch, &object);
                    }
                }
            }
        }
    }
}

/// Keeps in view what the controllers look at.
fn want(controllers: &'static [Registered], informers: &Informers, kinds: &Kinds) {
    let wanted: OrdSet<&'static Kind> =
        controllers.iter().flat_map(|controller| controller.kinds(kinds)).collect();
    wanted.into_iter().for_each(|kind| informers.want(Interest::all(kind)));
}

/// Begins and ends watches as kinds come and go; a change costs what the kinds are that changed.
async fn follow_kinds(
    controllers: &'static [Registered],
    registry: Arc<Registry>,
    informers: Informers,
    mut known: Arc<Kinds>,
    wanted: Arc<AtomicU64>,
) {
    loop {
        let kinds = registry.after(known.epoch()).await;
        let (changed, gone) = kinds.changes_since(&known);
        informers.forget(&gone);
        for kind in changed {
            if controllers.iter().any(|controller| controller.looks_at(kind)) {
                informers.want(Interest::all(kind));
            }
        }
        wanted.store(kinds.epoch(), Ordering::Release);
        informers.tell();
        known = kinds;
    }
}

impl Loop {
    fn view(&self) -> View<'_> {
        View { cache: &self.informers, now: rt::now(), settings: self.told.settings.as_deref() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Changed in single steps that a panic cannot leave half done.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all that the controller looks at was listed once, whatever kinds come meanwhile.
    async fn synced(&self) {
        loop {
            let kinds = self.informers.kinds();
            let epoch = kinds.epoch();
            if self.synced_epoch.load(Ordering::Relaxed) == epoch {
                return;
            }
            let wanted = || self.wanted.load(Ordering::Acquire) == epoch;
            let looks_at = |kind: &'static Kind| self.controller.looks_at(kind);
            let synced = async {
                self.informers.all_synced(wanted, looks_at).await;
                true
            };
            let others = async {
                match self.informers.registry() {
                    Some(registry) => drop(registry.after(epoch).await),
                    None => rt::future::pending().await,
                }
                false
            };
            if rt::future::or(synced, others).await {
                self.synced_epoch.store(epoch, Ordering::Relaxed);
                return;
            }
        }
    }

    fn hear(&self, change: &Change) {
        let Some(object) = change.object() else { return };
        for watch in self.controller.watches_of(object.kind()) {
            for object in change.old.iter().chain(&change.new) {
                self.wake_keys(&watch, object);
            }
        }
    }

    fn wake_keys(&self, watch: &Watch, object: &Object) {
        let owner_key = |owner: &api::object::Owner, kind: &'static Kind| {
            let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
            (&*owner.kind == kind.name && group == kind.group).then(|| {
                Key::new(
                    kind,
                    if kind.namespaced() { object.namespace() } else { "" },
                    &*owner.name,
                )
            })
        };
        match watch.wakes {
            Wakes::Itself => self.add(Key::of(object)),
            Wakes::Controller(kind) => {
                if let Some(key) = object.controller().and_then(|owner| owner_key(&owner, kind)) {
                    self.add(key);
                }
            }
            Wakes::Owners(kind) => {
                object
                    .meta()
                    .owners
                    .iter()
                    .filter_map(|owner| owner_key(owner, kind))
                    .for_each(|key| self.add(key));
            }
            Wakes::With(choose) => {
                let view = self.view();
                let chosen = catch_unwind(AssertUnwindSafe(|| choose(&view, object)));
                match chosen {
                    Ok(keys) => keys.into_iter().for_each(|key| self.add(key)),
                    Err(_) => log::error!("{}: panicked over {object:?}", self.controller.name),
                }
            }
        }
    }

    /// Asks for a reconcile of `key` now.
    fn add(&self, key: Key) {
        let now = rt::now().mono;
        let mut queue = self.lock();
        let pending = queue.keys.entry(key).or_default();
        if pending.due.is_none() {
            self.figures.added.fetch_add(1, Ordering::Relaxed);
        }
        // A key in back-off is not hurried by events: its failure would only repeat.
        if pending.failures == 0 || pending.due.is_none() {
            pending.due = Some(pending.due.map_or(now, |due| due.min(now)));
        }
        drop(queue);
        self.wake.notify(usize::MAX);
    }

    /// Takes a key that is due, or says when the next one is.
    fn take(&self) -> Result<Key, Option<Mono>> {
        let now = rt::now().mono;
        let mut queue = self.lock();
        if queue.n_working >= WORKERS_MAX {
            return Err(None);
        }
        let waiting = queue
            .keys
            .iter()
            .filter(|(_, p)| !p.working)
            .filter_map(|(key, p)| Some((p.due?, key)));
        let Some((due, key)) = waiting.min() else { return Err(None) };
        if due > now {
            return Err(Some(due));
        }
        let key = key.clone();
        self.figures.waited.observe(now.since(due));
        if let Some(pending) = queue.keys.get_mut(&key) {
            never!(pending.working, "A key is given to two workers");
            pending.due = None;
            pending.working = true;
            queue.n_working += 1;
        }
        Ok(key)
    }

    /// Reconciles one key and books the outcome.
    async fn work(&self, key: Key) {
        let written = self.lock().keys.get(&key).map(|p| p.written.clone()).unwrap_or_default();
        let catch_up = async {
            self.synced().await;
            for (kind, revision) in &written {
                self.informers.caught_up(kind, *revision).await;
            }
        };
        if rt::timeout(CATCH_UP_MAX, catch_up).await.is_err() {
            log::warn!(
                "{}: {key}: the view has not seen own writes after {CATCH_UP_MAX:?}",
                self.controller.name
            );
        }
        let mut written = OrdMap::new();
        let begun = rt::now().mono;
        let outcome = self.reconcile(&key, &mut written).await;
        let now = rt::now().mono;
        self.figures.worked.observe(now.since(begun));
        let mut queue = self.lock();
        never!(queue.n_working == 0, "A worker ends that never began");
        queue.n_working -= 1;
        if let Some(pending) = queue.keys.get_mut(&key) {
            never!(!pending.working, "A worker's key was not its own");
            pending.working = false;
            pending.written = written;
            match outcome {
                Ok(next) => {
                    pending.failures = 0;
                    if let Next::After(wait) = next {
                        let at = now + wait;
                        pending.due = Some(pending.due.map_or(at, |due| due.min(at)));
                    }
                }
                Err(error) => {
                    pending.failures += 1;
                    self.figures.retried.fetch_add(1, Ordering::Relaxed);
                    pending.due = Some(now + RETRY.delay(pending.failures));
                    let expected = error.is_conflict() || is_end_of_namespace(&error);
                    let level = if expected { log::Level::Debug } else { log::Level::Warn };
                    log::log!(level, "{}: {key}: {error}", self.controller.name);
                }
            }
            if pending.due.is_none() && pending.written.is_empty() {
                queue.keys.remove(&key);
            }
        }
        if queue.keys.len() >= queue.sweep_at {
            queue.keys.retain(|_, p| {
                p.working
                    || p.due.is_some()
                    || p.written.iter().any(|(kind, r)| !self.informers.has_seen(kind, *r))
            });
            queue.sweep_at = 64.max(queue.keys.len() * 2);
        }
        drop(queue);
        self.wake.notify(usize::MAX);
    }

    async fn reconcile(
        &self,
        key: &Key,
        written: &mut OrdMap<&'static Kind, u64>,
    ) -> Result<Next, Status> {
        let mut actions = Actions::default();
        let mut next = self.decide(key, &mut actions)?;
        for _ in 0..ASKS_MAX {
            let Some(mut ask) = actions.ask.take() else { break };
            let mut answers = Vec::new();
            for question in std::mem::take(&mut ask.questions) {
                answers.push(self.ask(question).await);
            }
            next = self.go_on(ask, answers, &mut actions)?;
        }
        let tally = std::mem::take(&mut actions.tally);
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
        let mut failed = None;
        for action in actions.list {
            let deletes = matches!(action, Action::Delete { .. });
            if failed.is_some() && !deletes {
                break;
            }
            // A copy of each action is kept only where someone may ask for it.
            let asked_for = actions.on_failure.as_ref().map(|_| action.clone());
            match self.execute(action).await {
                Ok(object) => note(written, object),
                Err(status) => {
                    if let (Some(on_failure), Some(refused)) = (&actions.on_failure, asked_for) {
                        self.refused(on_failure, &refused, &status, written).await;
                    }
                    // One object that may not be deleted keeps no others; nothing else rests on what failed.
                    failed.get_or_insert(status);
                    if !deletes {
                        break;
                    }
                }
            }
        }
        failed.map_or(Ok(next), Err)
    }

    /// Lets the controller tell about an action that the API will not do.
    async fn refused(
        &self,
        on_failure: &OnFailure,
        refused: &Action,
        status: &Status,
        written: &mut OrdMap<&'static Kind, u64>,
    ) {
        let passing = status.is_conflict() || status.is_not_found() || status.is_already_exists();
        if passing || is_end_of_namespace(status) || matches!(refused, Action::Expect(_)) {
            return;
        }
        let mut actions = Actions::default();
        (on_failure.then)(&on_failure.about, refused, status, rt::now(), &mut actions);
        for action in actions.list {
            match self.execute(action).await {
                Ok(object) => note(written, object),
                Err(error) => log::debug!("{}: telling of {status}: {error}", self.controller.name),
            }
        }
    }

    /// Checks a condition against the store, not the view.
    async fn expect(&self, expect: Expect) -> Result<(), Status> {
        let there = async |key: &Key, uid: &str| {
            let found = self.client.get_optional(key.kind, &key.namespace, &key.name).await?;
            Ok::<_, Status>(found.filter(|object| uid.is_empty() || object.uid() == uid))
        };
        let (kind, name, holds) = match &expect {
            Expect::Live { key, uid } => {
                (key.kind, &key.name, there(key, uid).await?.is_some_and(|o| !o.deleting()))
            }
            Expect::Gone { key, uid } => (key.kind, &key.name, there(key, uid).await?.is_none()),
            Expect::Unchanged { key, revision } => {
                let revised = |object: Object| object.revision() == *revision;
                (key.kind, &key.name, there(key, "").await?.is_some_and(revised))
            }
            Expect::Empty { kind, namespace } => {
                let options = ListOptions { limit: 1, ..ListOptions::default() };
                let found = self.client.list(kind, namespace, options).await?;
                (*kind, namespace, found.items.is_empty())
            }
            Expect::Current { kind, namespace, seen } => {
                let found = self.client.list(kind, namespace, ListOptions::default()).await?;
                (*kind, namespace, digest(&found.items) == *seen)
            }
        };
        match holds {
            true => Ok(()),
            false => Err(Status::conflict(kind, name, "the view lags behind the store")),
        }
    }

    /// Calls the controller; its panic is this key's failure, nobody else's.
    fn decide(&self, key: &Key, actions: &mut Actions) -> Result<Next, Status> {
        let view = self.view();
        catch_unwind(AssertUnwindSafe(|| (self.controller.reconcile)(&view, key, actions)))
            .map_err(|_| Status::internal("the controller panicked"))
    }

    /// As `decide`, after questions were answered.
    fn go_on(
        &self,
        ask: Ask,
        answers: Vec<Result<Value, Status>>,
        actions: &mut Actions,
    ) -> Result<Next, Status> {
        let view = self.view();
        // After a panic it holds what it held before, or a part: the controller's own reads bear that.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        catch_unwind(AssertUnwindSafe(|| ask.answer(&view, &mut memory, answers, actions)))
            .map_err(|_| Status::internal("the controller panicked"))
    }

    async fn ask(&self, question: Question) -> Result<Value, Status> {
        match question {
            Question::Read(paths) => {
                let mut last = Status::internal("nothing is asked for");
                for path in paths {
                    match self.client.api().read(path).await {
                        Err(status) if status.is_not_found() => last = status,
                        answered => return answered,
                    }
                }
                Err(last)
            }
            Question::Outside { whom, body } => match &self.told.outside {
                Some(outside) => outside.ask(whom, body).await,
                None => Err(Status::internal("nobody is there to be asked")),
            },
            Question::Update { kind, subresource, object } => {
                match self.client.put(Verb::Update, kind, subresource, object).await? {
                    Answer::Tree(tree) => Ok(tree),
                    Answer::Object(object) => Ok(object.tree()),
                    Answer::List(_) => Ok(Value::Null),
                }
            }
        }
    }

    /// Does one thing; gives the object that it wrote.
    async fn execute(&self, action: Action) -> Result<Option<Object>, Status> {
        match action {
            Action::Create { kind, object } => self.create(kind, object).await.map(Some),
            Action::Update { kind, object } => self.client.update(kind, object).await.map(Some),
            Action::UpdateStatus { kind, object } => {
                self.client.update_status(kind, object).await.map(Some)
            }
            Action::Patch { key, subresource, uid, revision, mut patch } => {
                patch.set("metadata.uid", uid);
                if let Some(revision) = revision {
                    patch.set("metadata.resourceVersion", revision.to_string());
                }
                let (namespace, name) = (&key.namespace, &key.name);
                self.client
                    .patch(key.kind, namespace, name, subresource, PatchType::Merge, patch)
                    .await
                    .map(Some)
            }
            Action::Delete { key, uid, revision, grace_secs, propagation } => {
                self.delete(&key, uid, revision, grace_secs, propagation).await
            }
            Action::Bind { namespace, pod, uid, node } => {
                let tree = json!({
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": {"namespace": namespace, "name": pod, "uid": uid},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                self.client.put(Verb::Create, &api::kinds::POD, "binding", tree).await.map(written)
            }
            Action::Finalize { object } => self
                .client
                .put(Verb::Update, &api::kinds::NAMESPACE, "finalize", object)
                .await
                .map(written),
            Action::Expect(expect) => self.expect(expect).await.map(|()| None),
            Action::Event { about, warning, reason, message } => {
                self.tell(&about, warning, reason, &message).await;
                Ok(None)
            }
        }
    }

    /// Creates. When it is not known whether that was done (the answer was lost, the server was
    /// stopping), the name tells: what is there must be seen by the view before the next reconcile,
    /// or that would make it a second time.
    async fn create(&self, kind: &'static Kind, tree: Value) -> Result<Object, Status> {
        let (namespace, name) =
            (tree.str("metadata.namespace").to_owned(), tree.str("metadata.name").to_owned());
        let unsure = match self.client.create(kind, tree).await {
            Err(status) if status.code() >= 500 && !name.is_empty() => status,
            done => return done,
        };
        for tries in 1..=LOOK_TRIES_MAX {
            match self.client.get_optional(kind, &namespace, &name).await {
                Ok(found) => return found.ok_or(unsure),
                Err(_) => rt::sleep(RETRY.delay(tries)).await,
            }
        }
        Err(unsure)
    }

    async fn delete(
        &self,
        key: &Key,
        uid: String,
        revision: Option<u64>,
        grace_secs: Option<i64>,
        propagation: &str,
    ) -> Result<Option<Object>, Status> {
        let mut request = Request::new(Verb::Delete, key.kind, &key.namespace, &key.name);
        request.delete = DeleteOptions {
            grace_secs,
            uid: Some(uid),
            resource_version: revision.map(|r| r.to_string()),
            propagation: propagation.to_owned(),
        };
        match self.client.call(request).await {
            Ok(answer) => Ok(written(answer)),
            // Gone already, or another of the same name: what was to be deleted is deleted.
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) if status.is_conflict() && revision.is_none() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Events are told as well as possible; a failure is logged, never retried.
    async fn tell(&self, about: &Object, warning: bool, reason: &str, message: &str) {
        let source = Source { component: self.controller.name.to_owned(), host: String::new() };
        let (now, suffix) = (rt::now().wall, rt::random_u64());
        let tell = {
            let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
            folder.tell(&source, about, "", warning, reason, message, now, suffix)
        };
        if let Err(status) = send_event(&self.client, tell, &self.folder).await {
            log::debug!("{}: event {reason} about {about:?}: {status}", self.controller.name);
        }
    }
}

/// Sends what a [`Folder`] decided. A patched event that is gone is forgotten, so that it is made anew next time.
pub async fn send_event(client: &Client, tell: Tell, folder: &Mutex<Folder>) -> Result<(), Status> {
    match tell {
        Tell::Create(tree) => client.create(&api::kinds::EVENT, tree).await.map(drop),
        Tell::Patch { namespace, name, patch } => {
            let mut request = Request::new(Verb::Patch, &api::kinds::EVENT, &namespace, &name);
            request.body = Body::Patch(PatchType::Merge, patch);
            let sent = client.call(request).await.map(drop);
            if sent.as_ref().is_err_and(Status::is_not_found) {
                folder.lock().unwrap_or_else(PoisonError::into_inner).forget(&namespace, &name);
            }
            sent
        }
    }
}

/// True if nothing can be made any more because the namespace is going away: no failure, the end.
fn is_end_of_namespace(status: &Status) -> bool {
    let causes = status.details().get("causes").and_then(Value::as_array);
    causes.into_iter().flatten().any(|cause| cause.str("reason") == "NamespaceTerminating")
}

/// Remembers a write that the view must have seen before the key is reconciled again.
fn note(written: &mut OrdMap<&'static Kind, u64>, object: Option<Object>) {
    if let Some(object) = object {
        let revision = written.entry(object.kind()).or_default();
        *revision = object.revision().max(*revision);
    }
}

fn written(answer: Answer) -> Option<Object> {
    match answer {
        Answer::Object(object) => Some(object),
        Answer::List(_) | Answer::Tree(_) => None,
    }
}

/// What waits for a time of day looks again when the wall clock was set.
async fn follow_clock(loops: Vec<Arc<Loop>>) {
    let mut settings = rt::ClockSettings::new();
    loop {
        settings.next().await;
        let now = rt::now().mono;
        for this in &loops {
            for pending in this.lock().keys.values_mut().filter(|pending| pending.failures == 0) {
                pending.due = pending.due.map(|due| due.min(now));
            }
            this.wake.notify(usize::MAX);
        }
    }
}

/// One controller's loop: hands due keys to workers.
async fn run(this: Arc<Loop>) {
    // A decision on part of what there is could be to make it again, or to throw out what is right.
    this.synced().await;
    let mut workers: Vec<rt::Task<Option<()>>> = Vec::new();
    loop {
        let woken = this.wake.listen();
        match this.take() {
            Ok(key) => {
                workers.retain(|task| !task.is_finished());
                let worker = Arc::clone(&this);
                workers.push(rt::spawn_named(this.controller.name, async move {
                    worker.work(key).await
                }));
            }
            Err(Some(due)) => rt::future::or(woken, async { rt::sleep_until(due).await }).await,
            Err(None) => woken.await,
        }
    }
}
