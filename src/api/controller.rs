//! The shape of every controller: a view of the world in, actions out (house.md, section 5).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stdx::Arrange;
use stdx::{OrdMap, OrdSet, time::Now};

use crate::catalog::Kinds;
use crate::kind::Kind;
use crate::object::Object;
use crate::selector::Selector;
use crate::status::Status;

/// One object's identity. Cluster-scoped kinds have an empty namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: &'static Kind, namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key { kind, namespace: namespace.into(), name: name.into() }
    }

    pub fn of(object: &Object) -> Key {
        Key::new(object.kind(), object.namespace(), object.name())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name, self.namespace, self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.namespace.as_str(), self.name.as_str()) {
            // A controller's key for a kind as a whole: a log line names no object without a name.
            ("", "") => write!(f, "all {}", self.kind.plural),
            (namespace, "") => write!(f, "all {} in {namespace}", self.kind.plural),
            ("", name) => write!(f, "{} {name}", self.kind.name),
            (namespace, name) => write!(f, "{} {namespace}/{name}", self.kind.name),
        }
    }
}

/// What brains read: the informers' caches. Implemented by `client` and by test fixtures.
pub trait Cache {
    fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Object>;
    /// All of a kind, or those of one namespace, in key order.
    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Object>;
    /// Objects of `kind` with an owner reference (controlling or not) to `uid`, through an index.
    /// An empty namespace means every namespace.
    fn owned(&self, kind: &'static Kind, namespace: &str, uid: &str) -> Vec<Object>;
    /// The kinds that are served now.
    fn kinds(&self) -> Arc<Kinds> {
        Kinds::built_in()
    }
}

/// The world as one reconcile sees it, and the time.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub cache: &'a dyn Cache,
    pub now: Now,
    /// What an administrator told the controllers of this driver, in a form of their own; mostly nothing.
    pub settings: Option<&'a (dyn Any + Send + Sync)>,
}

impl View<'_> {
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Object> {
        self.cache.get(kind, namespace, name)
    }

    pub fn at(&self, key: &Key) -> Option<Object> {
        self.cache.get(key.kind, &key.namespace, &key.name)
    }

    pub fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Object> {
        self.cache.list(kind, namespace)
    }

    pub fn owned(&self, kind: &'static Kind, namespace: &str, uid: &str) -> Vec<Object> {
        self.cache.owned(kind, namespace, uid)
    }

    pub fn kinds(&self) -> Arc<Kinds> {
        self.cache.kinds()
    }

    /// Objects of one namespace whose labels match.
    pub fn selected(
        &self,
        kind: &'static Kind,
        namespace: &str,
        selector: &Selector,
    ) -> Vec<Object> {
        let mut objects = self.cache.list(kind, Some(namespace));
        objects.retain(|object| selector.matches(object.labels()));
        objects
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({:?})", self.now)
    }
}

/// One thing to do. Every action carries a precondition, so that a retry or a race is harmless:
/// creation fails on an existing name, updates carry `metadata.resourceVersion`, deletes and
/// patches carry the uid (and, where it matters, the resourceVersion) they were decided on.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The tree's `metadata.namespace` and `name` (or `generateName`) say where.
    Create { kind: &'static Kind, object: Value },
    /// Replaces; the tree holds the resourceVersion it was decided on.
    Update { kind: &'static Kind, object: Value },
    /// Replaces the status only; the tree holds the resourceVersion it was decided on.
    UpdateStatus { kind: &'static Kind, object: Value },
    /// A JSON merge patch (RFC 7386); `subresource` is "" or "status". The driver adds `uid` and,
    /// if given, `resourceVersion` to the patch's metadata as preconditions.
    Patch { key: Key, subresource: &'static str, uid: String, revision: Option<u64>, patch: Value },
    /// `propagation`: "Background", "Foreground" or "Orphan"; `grace_secs` `None` keeps the object's own.
    Delete {
        key: Key,
        uid: String,
        revision: Option<u64>,
        grace_secs: Option<i64>,
        propagation: &'static str,
    },
    /// `pods/binding`.
    Bind { namespace: String, pod: String, uid: String, node: String },
    /// `namespaces/finalize`: replaces `spec.finalizers`.
    Finalize { object: Value },
    /// Goes on only if this holds in the store itself, not in the view that may lag behind it;
    /// otherwise the rest of the list is dropped and the key is tried again. Guards acts that a
    /// stale view would make harmful (deleting for an owner that only seems absent).
    Expect(Expect),
    /// Something worth telling about an object; repeats are folded by the driver into a count.
    Event { about: Object, warning: bool, reason: &'static str, message: String },
}

/// A condition on the store's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The object with this uid is there and is not being deleted.
    Live { key: Key, uid: String },
    /// No object with this uid is there (the name may be taken by another one); with an empty uid, none at all.
    Gone { key: Key, uid: String },
    /// The object is still as it was seen. For decisions about one object that rest on another.
    Unchanged { key: Key, revision: u64 },
    /// The namespace holds no object of this kind.
    Empty { kind: &'static Kind, namespace: String },
    /// Of this kind and namespace, the store holds exactly what was seen, of which `seen` is the
    /// [`digest`]: for acts that rest on something not being there (a claim that no pod uses).
    Current { kind: &'static Kind, namespace: String, seen: u64 },
}

/// Tells one set of objects in their versions from another.
pub fn digest(objects: &[Object]) -> u64 {
    // Sums, so that the order says nothing.
    let one = |object: &Object| {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325 ^ object.revision();
        for byte in object.name().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    objects.iter().map(one).fold(0, u64::wrapping_add)
}

/// What to do when the API refuses an action of this reconcile.
///
/// The driver calls `then` for a refusal that trying again at once will not cure (forbidden,
/// invalid, quota, ...; not for conflicts, missing or already existing objects) and executes what
/// it asks for, ignoring failures of that; then the key is tried again with back-off as always.
#[derive(Clone)]
pub struct OnFailure {
    pub about: Object,
    pub then: fn(about: &Object, refused: &Action, why: &Status, now: Now, actions: &mut Actions),
}

impl fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnFailure({:?})", self.about)
    }
}

/// What a controller keeps from one reconcile to the next, of all its keys: what upstream too forgets when it
/// is started anew. Everything else is in objects.
pub type Memory = Option<Box<dyn Any + Send>>;

/// Something that no view shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// What is at a path with its query, whoever serves it: the first of these that anybody does.
    Read(Vec<String>),
    /// Replaces a subresource, and asks whether that was done; the tree's metadata says of what.
    Update { kind: &'static Kind, subresource: &'static str, object: Value },
    /// What somebody answers who is no part of the cluster, by the number that he has with whoever runs the controller.
    Outside { whom: usize, body: Value },
}

type Then =
    dyn FnOnce(&View<'_>, &mut Memory, Vec<Result<Value, Status>>, &mut Actions) -> Next + Send;

/// Questions without whose answers a reconcile cannot go on, and how it goes on: with the answers in their
/// order, and perhaps with another `Ask`. What it asked for before stays asked for.
pub struct Ask {
    pub questions: Vec<Question>,
    then: Box<Then>,
}

impl Ask {
    pub fn new(
        questions: Vec<Question>,
        then: impl FnOnce(&View<'_>, &mut Memory, Vec<Result<Value, Status>>, &mut Actions) -> Next
        + Send
        + 'static,
    ) -> Ask {
        Ask { questions, then: Box::new(then) }
    }

    /// Goes on with the answers; gives when to look again.
    pub fn answer(
        self,
        view: &View<'_>,
        memory: &mut Memory,
        answers: Vec<Result<Value, Status>>,
        actions: &mut Actions,
    ) -> Next {
        (self.then)(view, memory, answers, actions)
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({:?})", self.questions)
    }
}

/// What a reconcile asks for, in order. The driver stops at the first that fails and tries the key again.
#[derive(Debug, Default)]
pub struct Actions {
    pub list: Vec<Action>,
    pub on_failure: Option<OnFailure>,
    /// What must be answered before anything is done.
    pub ask: Option<Ask>,
    /// What is counted of this reconcile; the driver keeps the sums.
    pub tally: Tally,
}

/// Figures for whoever watches a controller: a brain keeps nothing between two reconciles. Each has a name and the values of its
/// labels.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often something happened.
    pub counted: OrdMap<(&'static str, Vec<String>), u64>,
    /// How many there are now, in place of what was said before.
    pub standing: OrdMap<(&'static str, Vec<String>), u64>,
}

impl Tally {
    /// Something happened once more.
    pub fn count(&mut self, name: &'static str, labels: &[&str]) {
        *self.counted.entry((name, owned(labels))).or_default() += 1;
    }

    /// There are so many.
    pub fn stand(&mut self, name: &'static str, labels: &[&str], n: u64) {
        self.standing.insert((name, owned(labels)), n);
    }

    /// One is no longer `from` and may be `to` now.
    pub fn move_one(&mut self, name: &'static str, from: &str, to: Option<&str>) {
        if let Some(n) = self.standing.get_mut(&(name, owned(&[from]))) {
            *n = n.saturating_sub(1);
        }
        if let Some(to) = to {
            *self.standing.entry((name, owned(&[to]))).or_default() += 1;
        }
    }

    /// Takes a later one in.
    pub fn add(&mut self, later: Tally) {
        for (series, n) in later.counted {
            *self.counted.entry(series).or_default() += n;
        }
        for (series, n) in later.standing {
            self.standing.insert(series, n);
        }
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

impl Actions {
    pub fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub fn create(&mut self, kind: &'static Kind, object: Value) {
        self.push(Action::Create { kind, object });
    }

    pub fn update(&mut self, kind: &'static Kind, object: Value) {
        self.push(Action::Update { kind, object });
    }

    pub fn update_status(&mut self, kind: &'static Kind, object: Value) {
        self.push(Action::UpdateStatus { kind, object });
    }

    pub fn expect(&mut self, expect: Expect) {
        self.push(Action::Expect(expect));
    }

    /// A merge patch of `object`, which must still be the same one (uid).
    pub fn patch(&mut self, object: &Object, patch: Value) {
        self.push(Action::Patch {
            key: Key::of(object),
            subresource: "",
            uid: object.uid().into(),
            revision: None,
            patch,
        });
    }

    /// A merge patch of exactly the state of `object` that was seen; for patches that replace lists.
    pub fn patch_exact(&mut self, object: &Object, patch: Value) {
        self.push(Action::Patch {
            key: Key::of(object),
            subresource: "",
            uid: object.uid().into(),
            revision: Some(object.revision()),
            patch,
        });
    }

    pub fn patch_status(&mut self, object: &Object, patch: Value) {
        self.push(Action::Patch {
            key: Key::of(object),
            subresource: "status",
            uid: object.uid().into(),
            revision: None,
            patch,
        });
    }

    /// As [`Actions::patch_exact`], of the status.
    pub fn patch_status_exact(&mut self, object: &Object, patch: Value) {
        self.push(Action::Patch {
            key: Key::of(object),
            subresource: "status",
            uid: object.uid().into(),
            revision: Some(object.revision()),
            patch,
        });
    }

    /// A background delete of `object`, which must still be the same one (uid).
    pub fn delete(&mut self, object: &Object) {
        self.push(Action::Delete {
            key: Key::of(object),
            uid: object.uid().into(),
            revision: None,
            grace_secs: None,
            propagation: "Background",
        });
    }

    pub fn event(&mut self, about: &Object, reason: &'static str, message: impl Into<String>) {
        self.push(Action::Event {
            about: about.clone(),
            warning: false,
            reason,
            message: message.into(),
        });
    }

    pub fn warning(&mut self, about: &Object, reason: &'static str, message: impl Into<String>) {
        self.push(Action::Event {
            about: about.clone(),
            warning: true,
            reason,
            message: message.into(),
        });
    }
}

/// When to look at the key again if no event comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Done,
    After(Duration),
}

impl Next {
    /// The sooner of two.
    #[must_use]
    pub fn or(self, other: Next) -> Next {
        match (self, other) {
            (Next::After(a), Next::After(b)) => Next::After(a.min(b)),
            (Next::Done, next) | (next, Next::Done) => next,
        }
    }
}

/// Which keys an event about an object wakes.
#[derive(Clone, Copy)]
pub enum Wakes {
    Itself,
    /// The controlling owner, if it is of this kind.
    Controller(&'static Kind),
    /// Any owner of this kind.
    Owners(&'static Kind),
    /// Chosen by a function that sees the view and the object (old and new state each pass once;
    /// the view already holds the change, so a deleted object is no longer in it).
    With(fn(&View<'_>, &Object) -> Vec<Key>),
}

/// One kind that wakes a controller.
#[derive(Clone, Copy)]
pub struct Watch {
    pub kind: &'static Kind,
    pub wakes: Wakes,
}

impl Watch {
    pub const fn new(kind: &'static Kind, wakes: Wakes) -> Watch {
        Watch { kind, wakes }
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wakes::Itself => f.write_str("Itself"),
            Wakes::Controller(kind) => write!(f, "Controller({})", kind.name),
            Wakes::Owners(kind) => write!(f, "Owners({})", kind.name),
            Wakes::With(_) => f.write_str("With"),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({})", self.kind.name)
    }
}

/// A controller. No input but view and key; state lives in objects only; same view, same actions.
pub trait Controller {
    /// `deployment-controller`: who it acts as (`system:serviceaccount:kube-system:<NAME>`) and what logs say.
    const NAME: &'static str;
    /// What wakes it. Reads of other kinds than these go in `READS`.
    const WATCHES: &'static [Watch];
    /// Kinds that it reads without being woken by them.
    const READS: &'static [&'static Kind] = &[];
    /// What wakes it of each kind that is served, those that are defined at run time included. They are
    /// watched as they come and go.
    const FOLLOWS: fn(&'static Kind) -> Option<Wakes> = |_| None;

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next;
}

/// One line of the `CONTROLLERS` table.
#[derive(Clone, Copy)]
pub struct Registered {
    pub name: &'static str,
    pub watches: &'static [Watch],
    pub reads: &'static [&'static Kind],
    pub follows: fn(&'static Kind) -> Option<Wakes>,
    pub reconcile: fn(&View<'_>, &Key, &mut Actions) -> Next,
}

impl Registered {
    pub const fn of<C: Controller>() -> Registered {
        Registered {
            name: C::NAME,
            watches: C::WATCHES,
            reads: C::READS,
            follows: C::FOLLOWS,
            reconcile: C::reconcile,
        }
    }

    /// What wakes it by changes of a kind.
    pub fn watches_of(&self, kind: &'static Kind) -> impl Iterator<Item = Watch> + '_ {
        let followed = (self.follows)(kind).map(|wakes| Watch::new(kind, wakes));
        self.watches.iter().copied().filter(move |watch| watch.kind == kind).chain(followed)
    }

    /// Whether a kind must be in view before it decides anything, if it is served.
    pub fn looks_at(&self, kind: &'static Kind) -> bool {
        self.watches.iter().any(|watch| watch.kind == kind)
            || self.reads.contains(&kind)
            || (self.follows)(kind).is_some()
    }

    /// What must be in view before it decides anything, each kind once.
    pub fn kinds(&self, kinds: &Kinds) -> OrdSet<&'static Kind> {
        let followed = kinds.stored().filter(|kind| (self.follows)(kind).is_some());
        let watched = self.watches.iter().map(|watch| watch.kind);
        watched.chain(self.reads.iter().copied()).chain(followed).collect()
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.name)
    }
}

/// A cache made from trees, for tests of brains.
#[derive(Debug, Default)]
pub struct Fixture {
    pub objects: Vec<Object>,
}

impl Fixture {
    /// # Panics
    /// If a tree's kind is unknown or it does not encode; fixtures are written by hand.
    pub fn new(trees: impl IntoIterator<Item = Value>) -> Fixture {
        let objects = trees.into_iter().map(|tree| {
            let kind =
                crate::kinds::of_tree(&tree).unwrap_or_else(|| panic!("unknown kind in {tree}"));
            let mut checked = tree.clone();
            let strict = crate::codec::FieldValidation::Strict;
            if let Err(error) = crate::codec::check_fields(kind, &mut checked, strict) {
                panic!("{error} in {tree}");
            }
            Object::from_tree(kind, &checked).unwrap_or_else(|error| panic!("{error}"))
        });
        Fixture { objects: objects.collect() }
    }

    pub fn view(&self, now: Now) -> View<'_> {
        View { cache: self, now, settings: None }
    }
}

impl Cache for Fixture {
    fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Object> {
        self.objects
            .iter()
            .find(|o| o.kind() == kind && o.namespace() == namespace && o.name() == name)
            .cloned()
    }

    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Object> {
        let matches =
            |o: &&Object| o.kind() == kind && namespace.is_none_or(|ns| o.namespace() == ns);
        let mut found: Vec<Object> = self.objects.iter().filter(matches).cloned().collect();
        found.arrange_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
        found
    }

    fn owned(&self, kind: &'static Kind, namespace: &str, uid: &str) -> Vec<Object> {
        let mut found = self.list(kind, Some(namespace).filter(|ns| !ns.is_empty()));
        found.retain(|o| o.owners().iter().any(|owner| &*owner.uid == uid));
        found
    }
}
