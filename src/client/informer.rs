//! Informers: one list and watch per kind and scope, kept as a view that everyone in the process shares.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api::controller::Cache;
use api::{Kind, Kinds, Object};
use stdx::{OrdMap, OrdSet, backoff::Backoff};

use crate::follow::{News, Selection, follow};
use crate::kinds::Registry;
use crate::request::{Client, List, WatchEvent};

/// How a listener hears of changes: called under no lock, must not block.
pub type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// One change of the view.
#[derive(Debug, Clone)]
pub struct Change {
    pub old: Option<Object>,
    pub new: Option<Object>,
}

impl Change {
    /// The newer state.
    pub fn object(&self) -> Option<&Object> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// What to keep in view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    pub kind: &'static Kind,
    /// A field selector, such as `spec.nodeName=a`; "" for all.
    pub field_selector: String,
}

impl Interest {
    pub fn all(kind: &'static Kind) -> Interest {
        Interest { kind, field_selector: String::new() }
    }
}

/// A shared view over several kinds, fed by one task a kind.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    /// Whose kinds are looked at; without it, those in code.
    registry: Option<Arc<Registry>>,
    state: Mutex<State>,
    /// Woken at every change and when a kind's first list is complete.
    changed: rt::Event,
}

#[derive(Default)]
struct State {
    kinds: OrdMap<&'static Kind, KindView>,
    /// Those of them that were not listed yet.
    unsynced: OrdSet<&'static Kind>,
    listeners: Vec<Listener>,
}

#[derive(Default)]
struct KindView {
    interest: Option<Interest>,
    /// Feeds it; ends with it.
    task: Option<rt::Task<Option<()>>>,
    objects: OrdMap<(String, String), Object>,
    /// Owner uid to the keys of what it owns.
    owned: HashMap<String, OrdSet<(String, String)>>,
    synced: bool,
    /// The newest revision seen, of any event or bookmark.
    revision: u64,
}

const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));

impl fmt::Debug for Informers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().kinds.keys()).finish()
    }
}

impl Informers {
    pub fn new(client: Client) -> Informers {
        Informers::over(client, None)
    }

    /// Informers that know which kinds come and go.
    pub fn following(client: Client, registry: Arc<Registry>) -> Informers {
        Informers::over(client, Some(registry))
    }

    fn over(client: Client, registry: Option<Arc<Registry>>) -> Informers {
        let (state, changed) = (Mutex::default(), rt::Event::new());
        Informers { shared: Arc::new(Shared { client, registry, state, changed }) }
    }

    pub(crate) fn registry(&self) -> Option<&Arc<Registry>> {
        self.shared.registry.as_ref()
    }

    /// Stops watching kinds that are not served any more, and forgets their objects.
    pub(crate) fn forget(&self, kinds: &[&'static Kind]) {
        let gone: Vec<KindView> = {
            let mut state = self.lock();
            state.unsynced.retain(|kind| !kinds.contains(kind));
            kinds.iter().filter_map(|kind| state.kinds.remove(*kind)).collect()
        };
        // Tasks end outside the lock, which they may be about to take.
        drop(gone);
        self.shared.changed.notify(usize::MAX);
    }

    /// Adds a listener; it hears every change from now on, of every kind.
    pub fn listen(&self, listener: Listener) {
        self.lock().listeners.push(listener);
    }

    /// Starts keeping `interest` in view, once.
    ///
    /// # Panics
    /// If another selection of the kind is in view already: an absence from one list would say
    /// nothing of the other's objects. Two selections of a kind are two `Informers`.
    pub fn want(&self, interest: Interest) {
        let mut state = self.lock();
        let view = state.kinds.entry(interest.kind).or_default();
        if let Some(held) = &view.interest {
            assert_eq!(*held, interest, "two selections of one kind in one view");
            return;
        }
        view.interest = Some(interest.clone());
        state.unsynced.insert(interest.kind);
        let view = state.kinds.entry(interest.kind).or_default();
        let shared = Arc::downgrade(&self.shared);
        let kind = interest.kind;
        let task = rt::spawn_named(
            format!("informer {}", kind.plural),
            run(self.shared.client.clone(), shared, interest),
        );
        view.task = Some(task);
    }

    /// Waits until each of `kinds` was listed once, also those that nobody has wanted yet.
    pub async fn synced(&self, kinds: &[&'static Kind]) {
        loop {
            let listener = self.shared.changed.listen();
            let is_synced = {
                let state = self.lock();
                kinds.iter().all(|kind| state.kinds.get(kind).is_some_and(|view| view.synced))
            };
            if is_synced {
                return;
            }
            listener.await;
        }
    }

    /// Waits until `wanted` holds and of the kinds that are kept in view each that `looks_at` names was
    /// listed once. It costs what kinds there are that were not.
    pub(crate) async fn all_synced(
        &self,
        wanted: impl Fn() -> bool,
        looks_at: impl Fn(&'static Kind) -> bool,
    ) {
        loop {
            let listener = self.shared.changed.listen();
            if wanted() && !self.lock().unsynced.iter().any(|kind| looks_at(kind)) {
                return;
            }
            listener.await;
        }
    }

    /// Tells who waits that something is kept in view now.
    pub(crate) fn tell(&self) {
        self.shared.changed.notify(usize::MAX);
    }

    /// Waits until the view of `kind` has seen `revision`.
    pub async fn caught_up(&self, kind: &'static Kind, revision: u64) {
        loop {
            let listener = self.shared.changed.listen();
            if self.lock().kinds.get(&kind).is_none_or(|view| view.revision >= revision) {
                return;
            }
            listener.await;
        }
    }

    /// True if the kind is kept in view and has seen `revision`, or is not kept in view at all.
    pub(crate) fn has_seen(&self, kind: &'static Kind, revision: u64) -> bool {
        self.lock().kinds.get(&kind).is_none_or(|view| view.revision >= revision)
    }

    /// Completes at the next change after the call.
    pub async fn change(&self) {
        self.shared.changed.listen().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed in single steps that cannot be left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one change into the view and tells the listeners.
    fn apply(
        &self,
        kind: &'static Kind,
        key: (String, String),
        new: Option<Object>,
        revision: u64,
    ) {
        let (change, listeners) = {
            let mut state = self.lock();
            let view = state.kinds.entry(kind).or_default();
            view.revision = view.revision.max(revision);
            let held = view.objects.get(&key);
            // A watch may begin before what the view has already: never go back.
            let is_old = held.is_some_and(|held| match &new {
                Some(new) => held.revision() >= new.revision(),
                None => held.revision() > revision,
            });
            if is_old {
                return;
            }
            let Some(change) = view.put(key, new) else { return };
            (change, state.listeners.clone())
        };
        for listener in listeners {
            listener(&change);
        }
        self.changed.notify(usize::MAX);
    }

    /// Makes the view what a fresh list says, telling only the differences. What the list does not
    /// have is gone, and what it has counts, also at an older revision: the server may have been
    /// restored from a copy.
    fn replace(&self, kind: &'static Kind, list: List) {
        let (changes, listeners) = {
            let mut state = self.lock();
            let view = state.kinds.entry(kind).or_default();
            let mut changes = Vec::new();
            let fresh: OrdSet<(String, String)> = list.items.iter().map(key_of).collect();
            let gone: Vec<_> =
                view.objects.keys().filter(|key| !fresh.contains(*key)).cloned().collect();
            changes.extend(gone.into_iter().filter_map(|key| view.put(key, None)));
            for object in list.items {
                let key = key_of(&object);
                if view.objects.get(&key).is_none_or(|held| held.revision() != object.revision()) {
                    changes.extend(view.put(key, Some(object)));
                }
            }
            (changes, state.listeners.clone())
        };
        for change in &changes {
            listeners.iter().for_each(|listener| listener(change));
        }
        self.seen(kind, list.revision, true);
    }

    fn seen(&self, kind: &'static Kind, revision: u64, synced: bool) {
        {
            let mut state = self.lock();
            if synced {
                state.unsynced.remove(kind);
            }
            let view = state.kinds.entry(kind).or_default();
            view.revision = view.revision.max(revision);
            view.synced |= synced;
        }
        self.changed.notify(usize::MAX);
    }
}

impl KindView {
    /// Sets or removes one object; `None` if there was nothing to remove.
    fn put(&mut self, key: (String, String), new: Option<Object>) -> Option<Change> {
        let old = match &new {
            Some(new) => self.objects.insert(key.clone(), new.clone()),
            None => self.objects.remove(&key),
        };
        self.reindex(&key, old.as_ref(), new.as_ref());
        (old.is_some() || new.is_some()).then_some(Change { old, new })
    }

    fn reindex(&mut self, key: &(String, String), old: Option<&Object>, new: Option<&Object>) {
        for owner in old.iter().flat_map(|o| o.owners()) {
            if let Some(keys) = self.owned.get_mut(&*owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.owned.remove(&*owner.uid);
                }
            }
        }
        for owner in new.iter().flat_map(|o| o.owners()) {
            self.owned.entry(owner.uid.to_string()).or_default().insert(key.clone());
        }
    }
}

/// Keeps one kind's view; ends when the informers are dropped.
async fn run(client: Client, shared: Weak<Shared>, interest: Interest) {
    let Interest { kind, field_selector } = interest;
    let selection = Selection { kind, namespace: String::new(), field_selector };
    let mut hear = move |news: News| {
        let Some(shared) = shared.upgrade() else { return false };
        match news {
            News::Listed(list) => shared.replace(kind, list),
            News::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                let revision = object.revision();
                shared.apply(kind, key_of(&object), Some(object), revision);
            }
            News::Event(WatchEvent::Deleted(object)) => {
                shared.apply(kind, key_of(&object), None, object.revision());
            }
            News::Event(WatchEvent::Bookmark { revision, .. }) => shared.seen(kind, revision, true),
        }
        true
    };
    follow(client, selection, RETRY, &mut hear).await;
}

fn key_of(object: &Object) -> (String, String) {
    (object.namespace().to_owned(), object.name().to_owned())
}

impl Cache for Informers {
    fn kinds(&self) -> Arc<Kinds> {
        self.registry().map_or_else(Kinds::built_in, |registry| registry.current())
    }

    fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Object> {
        self.lock().kinds.get(&kind)?.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Object> {
        let state = self.lock();
        let Some(view) = state.kinds.get(&kind) else { return Vec::new() };
        match namespace {
            None => view.objects.values().cloned().collect(),
            Some(namespace) => {
                let from = (namespace.to_owned(), String::new());
                view.objects
                    .range(from..)
                    .take_while(|((ns, _), _)| ns == namespace)
                    .map(|(_, o)| o.clone())
                    .collect()
            }
        }
    }

    fn owned(&self, kind: &'static Kind, namespace: &str, uid: &str) -> Vec<Object> {
        let state = self.lock();
        let Some(view) = state.kinds.get(&kind) else { return Vec::new() };
        let Some(keys) = view.owned.get(uid) else { return Vec::new() };
        keys.iter()
            .filter(|(ns, _)| namespace.is_empty() || ns == namespace)
            .filter_map(|key| view.objects.get(key).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use api::kinds::{NODE, POD};
    use rt::{BoxFuture, future};

    use super::*;
    use crate::request::{Answer, Api, Request, WatchStream};

    /// An API that never answers.
    struct Silent;

    impl Api for Silent {
        fn call(&self, _: Request) -> BoxFuture<'_, Result<Answer, api::Status>> {
            Box::pin(future::pending())
        }

        fn watch(&self, _: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, api::Status>> {
            Box::pin(future::pending())
        }
    }

    /// Once controllers ran before anybody had asked for what they look at, took it for empty, and
    /// threw out pods for a history that was not there.
    #[test]
    fn what_nobody_asked_for_is_not_in_view() {
        rt::block_on(async {
            let informers = Informers::new(Client::new(Arc::new(Silent)));
            let is_known =
                async || future::poll_once(informers.synced(&[&NODE, &POD])).await.is_some();
            assert!(!is_known().await, "nothing is wanted");
            informers.want(Interest::all(&NODE));
            informers.shared.seen(&NODE, 1, true);
            assert!(!is_known().await, "one of two");
            informers.shared.seen(&POD, 1, true);
            assert!(is_known().await);
        });
    }

    fn node(name: &str, revision: u64) -> Object {
        let tree =
            api::json!({"metadata": {"name": name, "resourceVersion": revision.to_string()}});
        Object::from_tree(&NODE, &tree).unwrap()
    }

    #[test]
    fn the_view_follows_lists_and_events() {
        enum Step {
            List(u64, &'static [(&'static str, u64)]),
            Put(&'static str, u64),
            Delete(&'static str, u64),
        }
        use Step::{Delete, List as Listed, Put};
        let informers = Informers::new(Client::new(Arc::new(Silent)));
        let told = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&told);
        informers.listen(Arc::new(move |change| {
            let at = |object: &Option<Object>| object.as_ref().map_or(0, Object::revision);
            let name = change.object().unwrap().name();
            let text = format!("{name}:{}>{} ", at(&change.old), at(&change.new));
            heard.lock().unwrap().push_str(&text);
        }));
        for (step, view, tells) in [
            (Listed(5, &[("a", 1), ("b", 2)]), "a1 b2", "a:0>1 b:0>2"),
            (Put("b", 6), "a1 b6", "b:2>6"),
            (Put("b", 4), "a1 b6", ""),
            (Delete("a", 7), "b6", "a:1>0"),
            (Delete("a", 8), "b6", ""),
            (Delete("b", 3), "b6", ""),
            (Put("c", 9), "b6 c9", "c:0>9"),
            // What was deleted while nobody watched is no ghost, however new it was.
            (Listed(20, &[("b", 6), ("d", 19)]), "b6 d19", "c:9>0 d:0>19"),
            (Listed(20, &[("b", 6), ("d", 19)]), "b6 d19", ""),
            // A server restored from a copy counts from further back.
            (Listed(4, &[("b", 3)]), "b3", "d:19>0 b:6>3"),
            (Put("b", 5), "b5", "b:3>5"),
            (Listed(6, &[]), "", "b:5>0"),
        ] {
            match step {
                Listed(revision, items) => {
                    let items = items.iter().map(|(name, at)| node(name, *at)).collect();
                    informers.shared.replace(&NODE, List { items, revision, ..List::default() });
                }
                Put(name, at) => informers.shared.apply(
                    &NODE,
                    (String::new(), name.into()),
                    Some(node(name, at)),
                    at,
                ),
                Delete(name, at) => {
                    informers.shared.apply(&NODE, (String::new(), name.into()), None, at)
                }
            }
            let shown: Vec<String> = informers
                .list(&NODE, None)
                .iter()
                .map(|object| format!("{}{}", object.name(), object.revision()))
                .collect();
            assert_eq!(shown.join(" "), view);
            assert_eq!(std::mem::take(&mut *told.lock().unwrap()).trim(), tells, "{view}");
        }
    }

    #[test]
    #[should_panic(expected = "two selections of one kind in one view")]
    fn two_selections_of_a_kind_are_two_views() {
        rt::block_on(async {
            let informers = Informers::new(Client::new(Arc::new(Silent)));
            informers.want(Interest::all(&POD));
            informers.want(Interest::all(&POD));
            informers.want(Interest { kind: &POD, field_selector: "spec.nodeName=a".to_owned() });
        });
    }
}
