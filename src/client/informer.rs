//! Informers: one list and watch per kind and scope, kept as a view that everyone in the process shares.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::controller::Cache;
use api::{Kind, Object};
use stdx::backoff::Backoff;

use crate::request::{Client, ListOptions, WatchEvent};

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
    state: Mutex<State>,
    /// Woken at every change and when a kind's first list is complete.
    changed: rt::Event,
}

#[derive(Default)]
struct State {
    kinds: BTreeMap<&'static Kind, KindView>,
    listeners: Vec<Listener>,
    tasks: Vec<rt::Task<Option<()>>>,
}

#[derive(Default)]
struct KindView {
    interests: Vec<Interest>,
    objects: BTreeMap<(String, String), Object>,
    /// Owner uid to the keys of what it owns.
    owned: HashMap<String, BTreeSet<(String, String)>>,
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
        Informers {
            shared: Arc::new(Shared { client, state: Mutex::default(), changed: rt::Event::new() }),
        }
    }

    /// Adds a listener; it hears every change from now on, of every kind.
    pub fn listen(&self, listener: Listener) {
        self.lock().listeners.push(listener);
    }

    /// Starts keeping `interest` in view, once.
    pub fn want(&self, interest: Interest) {
        let mut state = self.lock();
        let view = state.kinds.entry(interest.kind).or_default();
        if view.interests.contains(&interest) {
            return;
        }
        view.interests.push(interest.clone());
        let shared = Arc::downgrade(&self.shared);
        let kind = interest.kind;
        let task = rt::spawn_named(format!("informer {}", kind.plural), run(shared, interest));
        state.tasks.push(task);
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
    pub fn has_seen(&self, kind: &'static Kind, revision: u64) -> bool {
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
            let old = match &new {
                // A list and a watch may overlap: never go back.
                Some(new)
                    if view
                        .objects
                        .get(&key)
                        .is_some_and(|old| old.revision() >= new.revision()) =>
                {
                    return;
                }
                Some(new) => view.objects.insert(key.clone(), new.clone()),
                None => view.objects.remove(&key),
            };
            view.reindex(&key, old.as_ref(), new.as_ref());
            if old.is_none() && new.is_none() {
                return;
            }
            (Change { old, new }, state.listeners.clone())
        };
        for listener in listeners {
            listener(&change);
        }
        self.changed.notify(usize::MAX);
    }

    fn seen(&self, kind: &'static Kind, revision: u64, synced: bool) {
        {
            let mut state = self.lock();
            let view = state.kinds.entry(kind).or_default();
            view.revision = view.revision.max(revision);
            view.synced |= synced;
        }
        self.changed.notify(usize::MAX);
    }
}

impl KindView {
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

/// Lists, then watches, for ever; ends when the informers are dropped.
async fn run(shared: std::sync::Weak<Shared>, interest: Interest) {
    let mut failures = 0;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let client = strong.client.clone();
        drop(strong);
        match list_and_watch(&shared, &client, &interest, &mut failures).await {
            Ok(()) => {}
            Err(status) => {
                failures += 1;
                log::debug!("informer {}: {status}", interest.kind.plural);
            }
        }
        rt::sleep(RETRY.delay(failures)).await;
    }
}

async fn list_and_watch(
    shared: &std::sync::Weak<Shared>,
    client: &Client,
    interest: &Interest,
    failures: &mut u32,
) -> Result<(), api::Status> {
    let kind = interest.kind;
    let options =
        ListOptions { field_selector: interest.field_selector.clone(), ..ListOptions::default() };
    let list = client.list(kind, "", options.clone()).await?;
    let Some(strong) = shared.upgrade() else { return Ok(()) };
    replace(&strong, interest, list.items, list.revision);
    drop(strong);
    let mut revision = list.revision;
    loop {
        let from = ListOptions {
            resource_version: revision.to_string(),
            allow_bookmarks: true,
            ..options.clone()
        };
        let mut watch = client.watch(kind, "", from).await?;
        while let Some(event) = watch.next().await {
            let Some(shared) = shared.upgrade() else { return Ok(()) };
            *failures = 0;
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    revision = object.revision();
                    shared.apply(kind, key_of(&object), Some(object), revision);
                }
                WatchEvent::Deleted(object) => {
                    revision = object.revision();
                    shared.apply(kind, key_of(&object), None, revision);
                }
                WatchEvent::Bookmark { revision: at, .. } => {
                    revision = at;
                    shared.seen(kind, at, true);
                }
            }
        }
    }
}

/// Makes the view what a fresh list says, telling only the differences.
fn replace(shared: &Shared, interest: &Interest, items: Vec<Object>, revision: u64) {
    let kind = interest.kind;
    let fresh: BTreeSet<(String, String)> = items.iter().map(key_of).collect();
    let gone: Vec<(String, String)> = {
        let mut state = shared.lock();
        let view = state.kinds.entry(kind).or_default();
        // With several interests in one kind an absence from one list proves nothing.
        match view.interests.len() {
            1 => view
                .objects
                .iter()
                .filter(|(key, object)| !fresh.contains(*key) && object.revision() <= revision)
                .map(|(key, _)| key.clone())
                .collect(),
            _ => Vec::new(),
        }
    };
    for key in gone {
        shared.apply(kind, key, None, revision);
    }
    for object in items {
        let at = object.revision();
        shared.apply(kind, key_of(&object), Some(object), at);
    }
    shared.seen(kind, revision, true);
}

fn key_of(object: &Object) -> (String, String) {
    (object.namespace().to_owned(), object.name().to_owned())
}

impl Cache for Informers {
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
}
