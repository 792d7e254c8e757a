//! A tiny cluster in memory for tests: applies actions as the API would, wakes controllers by
//! their own watches, and steps time and a pretended kubelet deterministically.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use api::controller::{Cache, Fixture, digest};
use api::kinds::POD;
use api::status::{Reason, Status};
use api::{Action, Actions, Expect, Key, Kind, Lens, LensMut, Next, Object, Registered, Value};
use api::{View, Wakes, json};
use stdx::time::{Eras, Mono, Now, Wall};
use stdx::{OrdMap, OrdSet, prng::Prng};

use crate::support::{conditions, same};

/// 2024-01-01T00:00:00Z
const START: i64 = 1_704_067_200;
/// Reconciles in one `settle`; more means that controllers fight.
const STEPS_MAX: usize = 5_000;

pub(crate) fn now_at(secs: i64) -> Now {
    let wall = Wall::from_secs(START + secs);
    Now { wall, mono: Mono(u64::try_from(secs).unwrap_or(0) * 1_000_000_000), ..Now::default() }
}

/// What one reconcile of `C` asks for, as text, one action a line, then what comes next.
pub(crate) fn reconcile<C: api::Controller>(
    trees: impl IntoIterator<Item = Value>,
    (kind, namespace, name): (&'static Kind, &str, &str),
    secs: i64,
) -> String {
    let fixture = Fixture::new(trees);
    let mut actions = Actions::default();
    let key = Key::new(kind, namespace, name);
    let next = C::reconcile(&fixture.view(now_at(secs)), &key, &mut actions);
    let mut text = String::new();
    for action in &actions.list {
        let _ = writeln!(text, "{}", line(action));
    }
    if let Next::After(wait) = next {
        let _ = writeln!(text, "after {}s", wait.as_secs());
    }
    text
}

/// One action as one line: enough to see what is meant, not every default.
pub(crate) fn line(action: &Action) -> String {
    let place = |kind: &Kind, tree: &Value| {
        let (ns, name) = (tree.str("metadata.namespace"), tree.str("metadata.name"));
        format!("{} {}{}{name}", kind.name, ns, if ns.is_empty() { "" } else { "/" })
    };
    match action {
        Action::Create { kind, object } => format!("create {}", place(kind, object)),
        Action::Update { kind, object } => format!("update {}", place(kind, object)),
        Action::UpdateStatus { kind, object } => {
            format!("status {} {}", place(kind, object), object.at("status"))
        }
        Action::Patch { key, subresource, patch, .. } => {
            let slash = if subresource.is_empty() { "" } else { "/" };
            format!("patch{slash}{subresource} {key} {patch}")
        }
        Action::Delete { key, grace_secs, propagation, .. } => {
            let grace = grace_secs.map(|secs| format!(" grace {secs}")).unwrap_or_default();
            format!("delete {key} {propagation}{grace}")
        }
        Action::Bind { namespace, pod, node, .. } => format!("bind {namespace}/{pod} {node}"),
        Action::Finalize { object } => {
            format!("finalize {} {}", object.str("metadata.name"), object.at("spec.finalizers"))
        }
        Action::Expect(Expect::Live { key, .. }) => format!("expect live {key}"),
        Action::Expect(Expect::Gone { key, .. }) => format!("expect gone {key}"),
        Action::Expect(Expect::Unchanged { key, revision }) => {
            format!("expect unchanged {key} {revision}")
        }
        Action::Expect(Expect::Empty { kind, namespace }) => {
            format!("expect empty {namespace} {}", kind.plural)
        }
        Action::Expect(Expect::Current { kind, namespace, .. }) => {
            format!("expect current {namespace} {}", kind.plural)
        }
        Action::Event { about, warning, reason, message } => {
            let level = if *warning { "Warning" } else { "Normal" };
            format!("event {} {level} {reason}: {message}", Key::of(about))
        }
    }
}

pub(crate) struct World {
    pub(crate) fixture: Fixture,
    pub(crate) secs: i64,
    /// How the wall clock was set: added to the time that passes.
    skew_secs: i64,
    eras: Eras,
    /// Every event told so far, as text.
    pub(crate) events: Vec<String>,
    /// Refuses actions, as quota or admission would.
    pub(crate) refuse: fn(&Action) -> Option<Status>,
    controllers: Vec<&'static Registered>,
    queue: OrdSet<(usize, Key)>,
    timers: OrdMap<(usize, Key), Wall>,
    revision: u64,
    n_made: u64,
    /// Present while faults are injected.
    chance: Option<Prng>,
    /// Former states, with the revision at which each was superseded, oldest first.
    past: VecDeque<(u64, Vec<Object>)>,
    /// The revision of each key's own last write: its view is never older.
    written: OrdMap<(usize, Key), u64>,
}

/// How many states a view may lag behind.
const LAG_MAX: usize = 12;

impl World {
    /// A world of these objects in which the named controllers run; if none is named, all but the server's own.
    pub(crate) fn new(names: &[&str], trees: impl IntoIterator<Item = Value>) -> World {
        let of_server = crate::SERVER_CONTROLLERS.iter().filter(|_| !names.is_empty());
        let all = crate::CONTROLLERS.iter().chain(crate::CLOUD_CONTROLLERS).chain(of_server);
        let controllers: Vec<&Registered> =
            all.filter(|c| names.is_empty() || names.contains(&c.name)).collect();
        assert!(controllers.len() >= names.len(), "unknown controller in {names:?}");
        let mut world = World {
            fixture: Fixture::default(),
            secs: 0,
            skew_secs: 0,
            eras: Eras::starting(Wall::from_secs(START)),
            events: Vec::new(),
            refuse: |_| None,
            controllers,
            queue: OrdSet::new(),
            timers: OrdMap::new(),
            revision: 0,
            n_made: 0,
            chance: None,
            past: VecDeque::new(),
            written: OrdMap::new(),
        };
        for tree in trees {
            world.create(tree);
        }
        world
    }

    pub(crate) fn now(&self) -> Now {
        let now = now_at(self.secs);
        Now { wall: Wall::from_secs(now.wall.secs() + self.skew_secs), eras: self.eras, ..now }
    }

    /// Somebody sets the clock, and everything that waits looks again.
    pub(crate) fn set_clock(&mut self, by_secs: i64) {
        let before = self.now().wall;
        self.skew_secs += by_secs;
        self.eras.set(before, self.now().wall);
        self.queue.extend(std::mem::take(&mut self.timers).into_keys());
        self.settle();
    }

    /// Creates as a user would.
    pub(crate) fn create(&mut self, tree: Value) {
        let kind = api::kinds::of_tree(&tree).unwrap_or_else(|| panic!("unknown kind in {tree}"));
        self.apply(Action::Create { kind, object: tree }).unwrap_or_else(|e| panic!("{e:?}"));
    }

    pub(crate) fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Value> {
        self.view().get(kind, namespace, name).map(|object| object.tree())
    }

    pub(crate) fn list(&self, kind: &'static Kind) -> Vec<Value> {
        self.view().list(kind, None).iter().map(Object::tree).collect()
    }

    pub(crate) fn names(&self, kind: &'static Kind) -> Vec<String> {
        self.view().list(kind, None).iter().map(|object| object.name().to_owned()).collect()
    }

    fn view(&self) -> View<'_> {
        self.fixture.view(self.now())
    }

    /// Changes an object in any way, as a user or a node would.
    pub(crate) fn edit(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let mut tree = self
            .get(kind, namespace, name)
            .unwrap_or_else(|| panic!("no {} {namespace}/{name}", kind.name));
        let spec = tree.at("spec").clone();
        change(&mut tree);
        if kind.declared.generation && !same(&spec, tree.at("spec")) {
            let generation = tree.int("metadata.generation").unwrap_or(0);
            tree.set("metadata.generation", generation + 1);
        }
        self.store(kind, tree);
    }

    pub(crate) fn delete(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        propagation: &'static str,
    ) {
        let object = self.view().get(kind, namespace, name).expect("test deletes what exists");
        let action = Action::Delete {
            key: Key::of(&object),
            uid: object.uid().into(),
            revision: None,
            grace_secs: None,
            propagation,
        };
        self.apply(action).unwrap_or_else(|e| panic!("{e:?}"));
    }

    /// Reconciles until nothing is queued.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let Some((idx, key)) = self.queue.pop_first() else { return };
            self.step(idx, key);
        }
        panic!("no fixpoint; queued: {:?}; events: {:#?}", self.queue, self.events);
    }

    /// Lets time pass, running what is due at the second when it is due.
    pub(crate) fn advance(&mut self, secs: i64) {
        let end = self.secs + secs;
        self.settle();
        while let Some(at) = self.timers.values().min().copied() {
            let start = Wall::from_secs(START + self.skew_secs);
            let due = (at.0 - start.0 + 999_999_999).div_euclid(1_000_000_000);
            if due > end {
                break;
            }
            self.secs = self.secs.max(due);
            let now = self.now().wall;
            let ready: Vec<_> =
                self.timers.iter().filter(|(_, at)| **at <= now).map(|(k, _)| k.clone()).collect();
            for key in ready {
                self.timers.remove(&key);
                self.queue.insert(key);
            }
            self.settle();
        }
        self.secs = end;
    }

    /// Checks that a reconcile of everything once more changes nothing.
    pub(crate) fn assert_fixpoint(&mut self) {
        self.settle();
        let (revision, before) = (self.revision, self.fixture.objects.clone());
        for object in &before {
            self.wake(object);
        }
        self.settle();
        if self.revision != revision {
            let was: Vec<_> = before.iter().filter(|o| !self.fixture.objects.contains(o)).collect();
            let new: Vec<_> = self.fixture.objects.iter().filter(|o| !before.contains(o)).collect();
            let text = |list: Vec<&Object>| -> Vec<String> {
                list.iter().map(|o| o.tree().to_string()).collect()
            };
            panic!("a further full reconcile changed {:#?} to {:#?}", text(was), text(new));
        }
    }

    /// From now on views lag, actions fail, their answers get lost, and keys come again.
    pub(crate) fn faults(&mut self, seed: u64) {
        self.chance = Some(Prng::new(seed));
    }

    /// No more faults; what was missed is looked at again, as after a restart.
    pub(crate) fn faultless(&mut self) {
        self.chance = None;
        self.past.clear();
        for object in self.fixture.objects.clone() {
            self.wake(&object);
        }
    }

    /// One in `n`, while there are faults.
    fn perhaps(&mut self, n: u64) -> bool {
        self.chance.as_mut().is_some_and(|chance| chance.below(n) == 0)
    }

    /// What a reconcile sees: the present, or under faults some state since the key's own last write.
    fn seen(&mut self, idx: usize, key: &Key) -> Fixture {
        let present = || self.fixture.objects.clone();
        let since = self.written.get(&(idx, key.clone())).copied().unwrap_or(0);
        let usable: Vec<usize> = (0..self.past.len()).filter(|n| self.past[*n].0 > since).collect();
        let Some(chance) = self.chance.as_mut().filter(|_| !usable.is_empty()) else {
            return Fixture { objects: present() };
        };
        let pick = usize::try_from(chance.below(2 * usable.len() as u64)).unwrap_or(0);
        match usable.get(pick) {
            Some(n) => Fixture { objects: self.past[*n].1.clone() },
            None => Fixture { objects: self.fixture.objects.clone() },
        }
    }

    fn step(&mut self, idx: usize, key: Key) {
        let controller = self.controllers[idx];
        let mut actions = Actions::default();
        let seen = self.seen(idx, &key);
        let stale = seen.objects != self.fixture.objects;
        let declared = Declared { seen: &seen, controller };
        let view = View { cache: &declared, now: self.now(), settings: None };
        let next = (controller.reconcile)(&view, &key, &mut actions);
        self.timers.remove(&(idx, key.clone()));
        if let Next::After(wait) = next {
            // Zero would spin; the driver's clock moves on, ours has to be pushed.
            self.timers
                .insert((idx, key.clone()), self.now().wall + wait.max(Duration::from_millis(1)));
        }
        if stale || self.perhaps(20) {
            // The view catches up, and events make the key come again.
            self.queue_later(idx, &key);
        }
        for action in actions.list {
            let before = self.revision;
            let mut done = match self.perhaps(15) {
                true => Err(Status::unavailable("lost on the way")),
                false => self.apply(action.clone()),
            };
            if self.revision != before {
                self.written.insert((idx, key.clone()), self.revision);
            }
            if done.is_ok() && self.perhaps(15) {
                done = Err(Status::unavailable("the answer is lost"));
            }
            let Err(status) = done else { continue };
            // Back-off, as the driver's.
            self.timers.insert((idx, key.clone()), self.now().wall + Duration::from_secs(1));
            if let Some(on_failure) = &actions.on_failure
                && status.reason() == Reason::Forbidden
            {
                let mut more = Actions::default();
                (on_failure.then)(&on_failure.about, &action, &status, self.now(), &mut more);
                for action in more.list {
                    let _ = self.apply(action);
                }
            }
            break;
        }
    }

    fn queue_later(&mut self, idx: usize, key: &Key) {
        let at = self.now().wall + Duration::from_secs(1);
        let timer = self.timers.entry((idx, key.clone())).or_insert(at);
        *timer = at.min(*timer);
    }

    /// Does what the API would do.
    pub(crate) fn apply(&mut self, action: Action) -> Result<(), Status> {
        if let Some(status) = (self.refuse)(&action) {
            return Err(status);
        }
        match action {
            Action::Create { kind, object } => self.apply_create(kind, object),
            Action::Update { kind, object } => {
                let old = self.exact(kind, &object)?.tree();
                self.apply_update(kind, &old, object, false)
            }
            Action::UpdateStatus { kind, object } => {
                let (old, mut new) = (self.exact(kind, &object)?.tree(), object);
                rules::strategy::update_status(kind, &mut new, &old);
                self.store(kind, new);
                Ok(())
            }
            Action::Patch { key, subresource, uid, revision, patch } => {
                let object = self.same_one(&key, &uid, revision)?;
                let old = object.tree();
                let mut new = old.clone();
                api::patch::merge(&mut new, &patch);
                self.apply_update(key.kind, &old, new, subresource == "status")
            }
            Action::Delete { key, uid, revision, grace_secs, propagation } => {
                match self.same_one(&key, &uid, revision) {
                    Ok(object) => self.apply_delete(&object, grace_secs, propagation),
                    Err(status) if revision.is_some() && status.is_conflict() => {
                        return Err(status);
                    }
                    Err(_) => {}
                }
                Ok(())
            }
            Action::Bind { namespace, pod, uid, node } => {
                self.same_one(&Key::new(&POD, &*namespace, &*pod), &uid, None)?;
                self.edit(&POD, &namespace, &pod, |tree| tree.set("spec.nodeName", node));
                Ok(())
            }
            Action::Finalize { object } => {
                let kind = &api::kinds::NAMESPACE;
                let mut tree = self.exact(kind, &object)?.tree();
                tree.set("spec.finalizers", object.at("spec.finalizers").clone());
                self.store(kind, tree);
                Ok(())
            }
            Action::Expect(expect) => self.expect(&expect),
            Action::Event { .. } => {
                self.events.push(line(&action).trim_start_matches("event ").to_owned());
                Ok(())
            }
        }
    }

    fn apply_create(&mut self, kind: &'static Kind, mut tree: Value) -> Result<(), Status> {
        self.n_made += 1;
        if tree.str("metadata.name").is_empty() {
            let name = format!("{}{}", tree.str("metadata.generateName"), self.n_made);
            tree.set("metadata.name", name);
        }
        let (namespace, name) = (tree.str("metadata.namespace"), tree.str("metadata.name"));
        if self.view().get(kind, namespace, name).is_some() {
            return Err(Status::already_exists(kind, name));
        }
        tree.set_default("metadata.uid", format!("uid-{:04}", self.n_made));
        tree.set_default("metadata.creationTimestamp", api::time::format(self.now().wall));
        if kind.declared.generation {
            tree.set_default("metadata.generation", 1);
        }
        self.store(kind, tree);
        Ok(())
    }

    fn apply_update(
        &mut self,
        kind: &'static Kind,
        old: &Value,
        mut new: Value,
        status: bool,
    ) -> Result<(), Status> {
        let name = new.str("metadata.name").to_owned();
        if status {
            new.set("spec", old.at("spec").clone());
        } else if api::Form::from(kind).has_status() {
            new.set("status", old.at("status").clone());
        }
        for field in ["status", "spec"] {
            if new.at(field).is_null() {
                new.remove(field);
            }
        }
        if same(old, &new) {
            return Ok(());
        }
        if new.str("metadata.uid") != old.str("metadata.uid") {
            return Err(Status::conflict(kind, &name, "another uid"));
        }
        if kind.declared.generation && !same(old.at("spec"), new.at("spec")) {
            new.set("metadata.generation", old.int("metadata.generation").unwrap_or(0) + 1);
        }
        self.store(kind, new);
        Ok(())
    }

    fn apply_delete(&mut self, object: &Object, grace_secs: Option<i64>, propagation: &str) {
        let kind = object.kind();
        let mut tree = object.tree();
        let finalizer = match propagation {
            "Foreground" => "foregroundDeletion",
            "Orphan" => "orphan",
            _ => "",
        };
        if !finalizer.is_empty() && !tree.list("metadata.finalizers").iter().any(|f| f == finalizer)
        {
            tree.list_mut("metadata.finalizers").push(finalizer.into());
        }
        let graceful = *kind == POD
            && grace_secs != Some(0)
            && !tree.str("spec.nodeName").is_empty()
            && !matches!(tree.str("status.phase"), "Succeeded" | "Failed");
        let namespace = kind.name == "Namespace" && !tree.list("spec.finalizers").is_empty();
        if graceful || namespace || !tree.list("metadata.finalizers").is_empty() {
            tree.set_default("metadata.deletionTimestamp", api::time::format(self.now().wall));
            if namespace {
                tree.set("status.phase", "Terminating");
            }
            if graceful {
                tree.set("metadata.deletionGracePeriodSeconds", grace_secs.unwrap_or(30));
            }
            self.store(kind, tree);
        } else {
            self.forget(object);
        }
    }

    fn expect(&self, expect: &Expect) -> Result<(), Status> {
        let there =
            |key: &Key, uid: &str| self.view().at(key).filter(|o| uid.is_empty() || o.uid() == uid);
        let holds = match expect {
            Expect::Live { key, uid } => there(key, uid).is_some_and(|o| !o.deleting()),
            Expect::Gone { key, uid } => there(key, uid).is_none(),
            Expect::Unchanged { key, revision } => {
                there(key, "").is_some_and(|o| o.revision() == *revision)
            }
            Expect::Empty { kind, namespace } => self.view().list(kind, Some(namespace)).is_empty(),
            Expect::Current { kind, namespace, seen } => {
                digest(&self.view().list(kind, Some(namespace))) == *seen
            }
        };
        holds.then_some(()).ok_or_else(|| Status::conflict(&POD, "", "expectation"))
    }

    /// The present object of a tree, if the tree is of its revision.
    fn exact(&self, kind: &'static Kind, tree: &Value) -> Result<Object, Status> {
        let name = tree.str("metadata.name");
        let found = self.view().get(kind, tree.str("metadata.namespace"), name);
        let object = found.ok_or_else(|| Status::not_found(kind, name))?;
        match object.revision().to_string() == tree.str("metadata.resourceVersion") {
            true => Ok(object),
            false => Err(Status::modified(kind, name)),
        }
    }

    fn same_one(&self, key: &Key, uid: &str, revision: Option<u64>) -> Result<Object, Status> {
        let object = self.view().at(key).ok_or_else(|| Status::not_found(key.kind, &key.name))?;
        match object.uid() == uid && revision.is_none_or(|r| r == object.revision()) {
            true => Ok(object),
            false => Err(Status::modified(key.kind, &key.name)),
        }
    }

    /// Writes an object and wakes who watches it; what is finalized goes away.
    fn store(&mut self, kind: &'static Kind, mut tree: Value) {
        let old = self.view().get(kind, tree.str("metadata.namespace"), tree.str("metadata.name"));
        let finalized = tree.has("metadata.deletionTimestamp")
            && tree.list("metadata.finalizers").is_empty()
            && *kind != POD
            && tree.list("spec.finalizers").is_empty();
        if let Some(old) = old.as_ref().filter(|_| finalized) {
            return self.forget(old);
        }
        if old.as_ref().is_some_and(|old| {
            tree.set("metadata.resourceVersion", old.revision().to_string());
            same(&old.tree(), &tree)
        }) {
            return;
        }
        self.remember();
        tree.set("metadata.resourceVersion", self.revision.to_string());
        let new = Object::from_tree(kind, &tree).unwrap_or_else(|error| panic!("{error}"));
        match old {
            Some(old) => {
                let place = self.fixture.objects.iter().position(|o| *o == old);
                self.fixture.objects[place.expect("it was found in view")] = new.clone();
                self.wake(&old);
            }
            None => self.fixture.objects.push(new.clone()),
        }
        self.wake(&new);
    }

    /// Keeps the state that is about to change for views that lag.
    fn remember(&mut self) {
        self.revision += 1;
        if self.chance.is_some() {
            self.past.push_back((self.revision, self.fixture.objects.clone()));
            if self.past.len() > LAG_MAX {
                self.past.pop_front();
            }
        }
    }

    fn forget(&mut self, object: &Object) {
        self.remember();
        self.fixture.objects.retain(|o| Key::of(o) != Key::of(object));
        self.wake(object);
    }

    /// Queues the keys that an object wakes.
    fn wake(&mut self, object: &Object) {
        let mut woken = Vec::new();
        for (idx, controller) in self.controllers.iter().enumerate() {
            for watch in controller.watches_of(object.kind()) {
                let owner = |o: &api::object::Owner, kind: &'static Kind| {
                    let ns = if kind.namespaced() { object.namespace() } else { "" };
                    (&*o.kind == kind.name).then(|| (idx, Key::new(kind, ns, &*o.name)))
                };
                match watch.wakes {
                    Wakes::Itself => woken.push((idx, Key::of(object))),
                    Wakes::Controller(kind) => {
                        woken.extend(object.controller().and_then(|o| owner(&o, kind)));
                    }
                    Wakes::Owners(kind) => {
                        woken.extend(object.owners().iter().filter_map(|o| owner(o, kind)));
                    }
                    Wakes::With(choose) => {
                        let declared = Declared { seen: &self.fixture, controller };
                        let keys = choose(
                            &View { cache: &declared, now: self.now(), settings: None },
                            object,
                        );
                        woken.extend(keys.into_iter().map(|key| (idx, key)));
                    }
                }
            }
        }
        self.queue.extend(woken);
    }

    /// The pretended kubelet: pods run and become ready, deleted pods go away. Pods for which
    /// `ready` says no are left as they are.
    pub(crate) fn kubelet_if(&mut self, ready: impl Fn(&Value) -> bool) {
        for pod in self.view().list(&POD, None) {
            let tree = pod.tree();
            if pod.deleting() {
                if tree.list("metadata.finalizers").is_empty() {
                    self.forget(&pod);
                }
            } else if matches!(tree.str("status.phase"), "" | "Pending") && ready(&tree) {
                let ip = format!("10.42.0.{}", 2 + self.revision % 250);
                let now = self.now();
                self.edit(&POD, pod.namespace(), pod.name(), |tree| {
                    tree.set_default("spec.nodeName", "node-a");
                    tree.set("status.phase", "Running");
                    tree.set("status.podIP", ip.clone());
                    tree.set("status.podIPs", json!([{"ip": ip}]));
                    set_ready(tree, true, now);
                });
            }
        }
    }

    pub(crate) fn kubelet(&mut self) {
        self.kubelet_if(|_| true);
    }

    /// Settles and runs the kubelet in turn until neither does anything.
    pub(crate) fn converge(&mut self) {
        for _ in 0..200 {
            let before = self.revision;
            self.settle();
            self.kubelet();
            if self.revision == before {
                return;
            }
        }
        panic!("pods never settle");
    }

    /// A pod's containers end.
    pub(crate) fn finish(&mut self, name: &str, phase: &str, exit: i64) {
        let pods = self.view().list(&POD, None);
        let pod = pods.iter().find(|pod| pod.name() == name).expect("test finishes what exists");
        let now = self.now();
        self.edit(&POD, pod.namespace(), name, |tree| {
            tree.set("status.phase", phase);
            set_ready(tree, false, now);
            let time = api::time::format(now.wall);
            tree.set(
                "status.containerStatuses",
                json!([{"name": "main", "state": {"terminated": {"exitCode": exit, "finishedAt": time}}}]),
            );
        });
    }
}

/// A view that holds only what a controller said it reads, as the driver's does.
struct Declared<'a> {
    seen: &'a Fixture,
    controller: &'a Registered,
}

impl Declared<'_> {
    fn check(&self, kind: &'static Kind) {
        let watched = self.controller.watches_of(kind).next().is_some();
        let read = self.controller.reads.contains(&kind);
        assert!(watched || read, "{} reads {} undeclared", self.controller.name, kind.name);
    }
}

impl Cache for Declared<'_> {
    fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Object> {
        self.check(kind);
        self.seen.get(kind, namespace, name)
    }

    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Object> {
        self.check(kind);
        self.seen.list(kind, namespace)
    }

    fn owned(&self, kind: &'static Kind, namespace: &str, uid: &str) -> Vec<Object> {
        self.check(kind);
        self.seen.owned(kind, namespace, uid)
    }
}

/// Sets a pod's Ready condition.
pub(crate) fn set_ready(tree: &mut Value, ready: bool, now: Now) {
    let status = if ready { "True" } else { "False" };
    let condition =
        conditions::Condition { kind: "Ready", status, reason: "", message: String::new() };
    conditions::set(tree.list_mut("status.conditions"), &condition, now);
}
