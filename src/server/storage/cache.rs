//! The watch cache: decodes each change once and hands it to the watches that it may concern.
//!
//! One task follows the store. Watches stand in an index by what they select, so that a change
//! costs as much as the watches it concerns, however many others there are. What a watch has not
//! read yet waits in a queue of its own; one that falls too far behind is ended.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};

use api::{Kind, Object};
use stdx::OrdMap;
use store::{Error, Event, Item, Limits, Span, Store};

use super::change::{Change, Type, lock};
use super::selection::Selection;
use crate::storage;

/// The cache may be behind by this many times what one watch may.
const BEHIND_PARTS: usize = 8;

/// Changes dispatched before other tasks get their turn.
const TURN_CHANGES: usize = 64;

/// The latest changes, whose encoded events are kept for the next watch that sends them.
const SHARED_CHANGES_MAX: usize = 64;

/// The changes of a store as watches see them. It ends, and all its watches with it, when it is dropped.
pub(crate) struct Cache {
    shared: Arc<Shared>,
    _dispatcher: rt::Task<Option<()>>,
}

struct Shared {
    index: Mutex<Index>,
    limits: Limits,
}

/// All watches, by what they select.
struct Index {
    /// By the prefix of the kind's keys.
    kinds: OrdMap<String, Watches>,
    /// The newest change that was handed out.
    dispatched: u64,
    /// Everything up to here was handed out, changes that concern no object included.
    complete: u64,
    /// The latest changes, oldest first.
    recent: VecDeque<Weak<Change>>,
    closed: bool,
}

/// The watches of one kind.
struct Watches {
    kind: &'static Kind,
    /// By what the keys they see begin with, below the kind's prefix: "" for all, `namespace/`, or one whole key.
    by_key: OrdMap<String, Vec<Arc<Queue>>>,
    /// By a field that must have a value, and that value.
    by_field: OrdMap<String, OrdMap<String, Vec<Arc<Queue>>>>,
}

/// Where a watch stands in the index.
enum Place {
    Key(String),
    Field { path: String, value: String },
}

/// What one watch selects, and what waits for it.
struct Queue {
    /// The prefix of the kind's keys.
    prefix: String,
    place: Place,
    /// "" or `namespace/`.
    namespace: String,
    selection: Selection,
    /// Only later revisions concern it.
    after: u64,
    waiting: Mutex<Waiting>,
    changed: rt::Event,
}

#[derive(Default)]
struct Waiting {
    changes: VecDeque<(Type, Arc<Change>)>,
    bytes: usize,
    end: Option<Error>,
}

impl Cache {
    /// Starts to follow `store`.
    ///
    /// # Errors
    /// If the store is closed.
    pub(crate) fn start(store: &Store) -> Result<Cache, Error> {
        let watch = store.watch_all(BEHIND_PARTS)?;
        let shared = Shared::new(store, watch.begins_after());
        let dispatcher = rt::spawn_named("watch cache", dispatch(watch, Arc::clone(&shared)));
        Ok(Cache { shared, _dispatcher: dispatcher })
    }

    /// The changes after a revision to the selected objects of a kind in a namespace, or in all ("").
    ///
    /// # Errors
    /// `Compacted` if the changes since are no longer known, `Closed`.
    pub(crate) fn watch(
        &self,
        store: &Store,
        kind: &'static Kind,
        namespace: &str,
        selection: &Selection,
        after: u64,
    ) -> Result<Watch, Error> {
        let namespace = match namespace {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let whole_key = !kind.namespaced() || !namespace.is_empty();
        let place = match (selection.name(), selection.field()) {
            (Some(name), _) if whole_key => Place::Key(format!("{namespace}{name}")),
            (_, Some((path, value))) => Place::Field { path: path.into(), value: value.into() },
            _ => Place::Key(namespace.clone()),
        };
        let prefix = storage::prefix(kind, "");
        let mut span = format!("{prefix}{namespace}");
        let mut index = lock(&self.shared.index);
        if index.closed {
            return Err(Error::Closed);
        }
        // Changes up to here were handed out, perhaps not yet all of the last revision: of that one
        // the store knows all.
        let dispatched = index.dispatched;
        let span = match &place {
            Place::Key(key) => {
                span.truncate(prefix.len());
                span.push_str(key);
                if key.is_empty() || key.ends_with('/') {
                    Span::prefix(span)
                } else {
                    Span::key(span)
                }
            }
            Place::Field { .. } => Span::prefix(span),
        };
        let mut backlog = match after < dispatched {
            true => store.changes(span, after)?,
            false => VecDeque::new(),
        };
        backlog.retain(|event| event.revision <= dispatched);
        let queue = Arc::new(Queue {
            prefix,
            place,
            namespace,
            selection: selection.clone(),
            after: after.max(dispatched),
            waiting: Mutex::default(),
            changed: rt::Event::new(),
        });
        index.add(kind, &queue);
        drop(index);
        Ok(Watch { shared: Arc::clone(&self.shared), kind, queue, backlog })
    }
}

#[cfg(test)]
impl Cache {
    /// A cache that hands out what it is told to.
    pub(crate) fn by_hand(store: &Store) -> Cache {
        let idle = rt::spawn_named("no watch cache", async {});
        Cache { shared: Shared::new(store, store.revision()), _dispatcher: idle }
    }

    pub(crate) fn hand_out(&self, event: &Event) {
        self.shared.dispatch(event);
    }

    /// How many watches a change is offered to.
    pub(crate) fn n_concerned(&self, kind: &'static Kind, event: &Event) -> usize {
        let prefix = storage::prefix(kind, "");
        let index = lock(&self.shared.index);
        let Some(watches) = index.kinds.get(&prefix) else { return 0 };
        let rest = std::str::from_utf8(&event.key[prefix.len()..]).unwrap();
        let mut n = 0;
        watches.concerned(rest, &Change::of(kind, event).unwrap(), &mut |_| n += 1);
        n
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        lock(&self.shared.index).end(&Error::Closed);
    }
}

/// Hands out every change, in order.
async fn dispatch(mut watch: store::Watch, shared: Arc<Shared>) {
    // The revision of the last change, and how many changes of it were handed out.
    let (mut last, mut n_of_last) = (watch.begins_after(), 0);
    let mut n_again = 0;
    let mut n_changes = 0usize;
    loop {
        match watch.next().await {
            Ok(Item::Event(_)) if n_again > 0 => n_again -= 1,
            Ok(Item::Event(event)) => {
                n_of_last = if event.revision == last { n_of_last + 1 } else { 1 };
                last = event.revision;
                shared.dispatch(&event);
            }
            Ok(Item::Progress(_)) => {}
            Err(Error::Lagged) => match watch.resume(Some(last - 1)) {
                // A revision may have been handed out in part.
                Ok(()) => n_again = n_of_last,
                Err(_) => {
                    // What was missed is not known any more: whoever watches must list again.
                    let mut index = lock(&shared.index);
                    index.end(&Error::Lagged);
                    if watch.resume(None).is_err() {
                        return index.end(&Error::Closed);
                    }
                    (last, n_of_last, n_again) = (watch.begins_after(), 0, 0);
                    (index.dispatched, index.complete, index.closed) = (last, last, false);
                }
            },
            Err(_) => return lock(&shared.index).end(&Error::Closed),
        }
        if let Some(revision) = watch.progress() {
            lock(&shared.index).complete = revision;
        }
        n_changes += 1;
        if n_changes.is_multiple_of(TURN_CHANGES) {
            rt::future::yield_now().await;
        }
    }
}

impl Shared {
    fn new(store: &Store, revision: u64) -> Arc<Shared> {
        Arc::new(Shared {
            index: Mutex::new(Index {
                kinds: OrdMap::new(),
                dispatched: revision,
                complete: revision,
                recent: VecDeque::new(),
                closed: false,
            }),
            limits: *store.limits(),
        })
    }

    fn dispatch(&self, event: &Event) {
        let mut index = lock(&self.index);
        index.dispatched = event.revision;
        let Ok(key) = std::str::from_utf8(&event.key) else { return };
        // No kind's prefix begins another's, so it is the last one that is not beyond the key.
        let found = index.kinds.range::<str>((Bound::Unbounded, Bound::Included(key))).next_back();
        let Some((prefix, watches)) = found.filter(|(prefix, _)| key.starts_with(*prefix)) else {
            return;
        };
        let change = match Change::of(watches.kind, event) {
            Ok(change) => Arc::new(change),
            Err(status) => {
                let prefix = prefix.clone();
                log::error!("a change of {key} cannot be shown: {status}");
                if let Some(watches) = index.kinds.remove(&prefix) {
                    watches.for_each(&mut |queue| {
                        queue.end(&Error::Storage(Arc::new(stdx::Error::new(status.message()))))
                    });
                }
                return;
            }
        };
        let mut cut_off = Vec::new();
        let rest = &key[prefix.len()..];
        let mut n_concerned = 0;
        watches.concerned(rest, &change, &mut |queue| {
            n_concerned += 1;
            if !queue.offer(rest, &change, &self.limits) {
                cut_off.push(Arc::clone(queue));
            }
        });
        for queue in cut_off {
            index.remove(&queue);
            queue.end(&Error::Lagged);
        }
        match n_concerned {
            0 | 1 => change.keep_no_events(),
            _ => index.remember(&change),
        }
    }
}

impl Index {
    fn add(&mut self, kind: &'static Kind, queue: &Arc<Queue>) {
        let watches = self.kinds.entry(queue.prefix.clone()).or_insert_with(|| Watches {
            kind,
            by_key: OrdMap::new(),
            by_field: OrdMap::new(),
        });
        let (places, key) = match &queue.place {
            Place::Key(key) => (&mut watches.by_key, key),
            Place::Field { path, value } => {
                (watches.by_field.entry(path.clone()).or_default(), value)
            }
        };
        places.entry(key.clone()).or_default().push(Arc::clone(queue));
    }

    fn remove(&mut self, queue: &Arc<Queue>) {
        let Some(watches) = self.kinds.get_mut(&queue.prefix) else { return };
        match &queue.place {
            Place::Key(key) => remove(&mut watches.by_key, key, queue),
            Place::Field { path, value } => {
                if let Some(values) = watches.by_field.get_mut(path) {
                    remove(values, value, queue);
                    if values.is_empty() {
                        watches.by_field.remove(path);
                    }
                }
            }
        }
        if watches.by_key.is_empty() && watches.by_field.is_empty() {
            self.kinds.remove(&queue.prefix);
        }
    }

    /// Keeps the change's encoded events until enough newer ones came.
    fn remember(&mut self, change: &Arc<Change>) {
        self.recent.push_back(Arc::downgrade(change));
        if self.recent.len() > SHARED_CHANGES_MAX
            && let Some(old) = self.recent.pop_front().and_then(|old| old.upgrade())
        {
            old.keep_no_events();
        }
    }

    /// Ends every watch, and refuses new ones.
    fn end(&mut self, error: &Error) {
        self.closed = true;
        for watches in std::mem::take(&mut self.kinds).into_values() {
            watches.for_each(&mut |queue| queue.end(error));
        }
    }
}

fn remove(places: &mut OrdMap<String, Vec<Arc<Queue>>>, key: &str, queue: &Arc<Queue>) {
    if let Some(queues) = places.get_mut(key) {
        queues.retain(|it| !Arc::ptr_eq(it, queue));
        if queues.is_empty() {
            places.remove(key);
        }
    }
}

impl Watches {
    /// Visits every watch that may see a change of the object whose key is `rest` below the prefix.
    fn concerned(&self, rest: &str, change: &Change, visit: &mut dyn FnMut(&Arc<Queue>)) {
        let namespace = &rest[..rest.find('/').map_or(0, |at| at + 1)];
        let mut keys = vec!["", namespace, rest];
        // A key of a cluster's object has no namespace.
        keys.dedup();
        for key in keys {
            self.by_key.get(key).into_iter().flatten().for_each(&mut *visit);
        }
        for (path, values) in &self.by_field {
            let value =
                |object: &Option<Object>| object.as_ref().map(|o| super::selection::field(o, path));
            let (now, before) = (value(&change.now), value(&change.before));
            let mut visit_value = |value: Option<String>| {
                value
                    .and_then(|value| values.get(&value))
                    .into_iter()
                    .flatten()
                    .for_each(&mut *visit);
            };
            if before != now {
                visit_value(before);
            }
            visit_value(now);
        }
    }

    fn for_each(&self, visit: &mut dyn FnMut(&Arc<Queue>)) {
        let places = self.by_field.values().chain(std::iter::once(&self.by_key));
        places.flat_map(OrdMap::values).flatten().for_each(visit);
    }
}

impl Queue {
    /// False if it has no room left.
    fn offer(&self, rest: &str, change: &Arc<Change>, limits: &Limits) -> bool {
        if change.revision() <= self.after || !rest.starts_with(&self.namespace) {
            return true;
        }
        let Some(event) = change.seen_by(&self.selection) else { return true };
        let mut waiting = lock(&self.waiting);
        waiting.bytes += change.weight_bytes();
        waiting.changes.push_back((event, Arc::clone(change)));
        self.changed.notify(1);
        // A single change always fits, whatever its size.
        waiting.changes.len() <= limits.watch_events_max
            && (waiting.bytes <= limits.watch_bytes_max || waiting.changes.len() == 1)
    }

    fn end(&self, error: &Error) {
        let mut waiting = lock(&self.waiting);
        if matches!(error, Error::Lagged) {
            // It must list again anyway; the memory is freed at once.
            waiting.changes = VecDeque::new();
            waiting.bytes = 0;
        }
        waiting.end.get_or_insert_with(|| error.clone());
        self.changed.notify(1);
    }
}

/// The changes that one watch sees. Dropping it ends it.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    kind: &'static Kind,
    queue: Arc<Queue>,
    /// What had happened between the asked revision and the watch's start.
    backlog: VecDeque<Arc<Event>>,
}

impl Watch {
    /// The next change if one waits already.
    ///
    /// # Errors
    /// `Lagged` when it was cut off, `Closed` when the server stopped, `Storage` for an object that
    /// cannot be read. Final, all of them.
    pub(crate) fn try_next(&mut self) -> Result<Option<(Type, Arc<Change>)>, Error> {
        while let Some(event) = self.backlog.pop_front() {
            let change = Change::of(self.kind, &event)
                .map_err(|status| Error::Storage(Arc::new(stdx::Error::new(status.message()))))?;
            if let Some(seen) = change.seen_by(&self.queue.selection) {
                return Ok(Some((seen, Arc::new(change))));
            }
        }
        let mut waiting = lock(&self.queue.waiting);
        match waiting.changes.pop_front() {
            Some((event, change)) => {
                waiting.bytes -= change.weight_bytes();
                Ok(Some((event, change)))
            }
            None => match &waiting.end {
                Some(end) => Err(end.clone()),
                None => Ok(None),
            },
        }
    }

    /// Completes once something new waits, if made before [`Watch::try_next`] found nothing.
    pub(crate) fn changed(&self) -> rt::EventListener {
        self.queue.changed.listen()
    }

    /// The revision up to which everything has been yielded; `None` while changes wait or after the end.
    pub(crate) fn progress(&self) -> Option<u64> {
        // The revision is read first: what came later is in the queue, or no concern of this answer.
        let revision = lock(&self.shared.index).complete;
        let waiting = lock(&self.queue.waiting);
        let done = self.backlog.is_empty() && waiting.changes.is_empty() && waiting.end.is_none();
        done.then_some(revision.max(self.queue.after))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.shared.index).remove(&self.queue);
    }
}
