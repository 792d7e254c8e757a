//! Watches: which of them a change concerns, and each one's bounded queue.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use stdx::Arrange;

use crate::error::{Error, Result};
use crate::state::State;
use crate::types::{Event, Limits, Span};

/// What a watch yields.
#[derive(Debug, Clone)]
pub enum Item {
    Event(Arc<Event>),
    /// Every event of the watch up to this revision has been yielded.
    Progress(u64),
}

/// A stream of the changes to some spans, in revision order. Dropping it ends it.
///
/// A watch that does not keep up is cut off with [`Error::Lagged`]; it never slows down writers
/// or other watches.
pub struct Watch {
    hub: Arc<Hub>,
    queue: Arc<Queue>,
    /// What had happened between the asked revision and the watch's start.
    backlog: VecDeque<Arc<Event>>,
    progress_every: Option<Duration>,
}

impl Watch {
    /// Also yield a [`Item::Progress`] after each `interval` without an event.
    #[must_use]
    pub fn with_progress(mut self, interval: Duration) -> Watch {
        self.progress_every = Some(interval);
        self
    }

    /// Waits for the next change (or progress, see [`Watch::with_progress`]). Cancel-safe.
    ///
    /// # Errors
    /// `Lagged` when it was cut off, `Closed` when the store was closed. Final, both.
    pub async fn next(&mut self) -> Result<Item> {
        loop {
            let listener = self.queue.changed.listen();
            if let Some(event) = self.try_next()? {
                return Ok(Item::Event(event));
            }
            match self.progress_every {
                None => listener.await,
                Some(interval) => {
                    if rt::timeout(interval, listener).await.is_err()
                        && let Some(revision) = self.progress()
                    {
                        return Ok(Item::Progress(revision));
                    }
                }
            }
        }
    }

    /// The next change if one waits already.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>> {
        if let Some(event) = self.backlog.pop_front() {
            return Ok(Some(event));
        }
        let mut waiting = lock(&self.queue.waiting);
        match waiting.events.pop_front() {
            Some(event) => {
                waiting.bytes -= event.weight_bytes();
                Ok(Some(event))
            }
            None => match &waiting.end {
                Some(end) => Err(end.clone()),
                None => Ok(None),
            },
        }
    }

    /// The revision after which it began, when it was made or resumed.
    pub fn begins_after(&self) -> u64 {
        self.queue.after
    }

    /// Goes on after `revision` (`None`: from now on), also where it was cut off.
    ///
    /// # Errors
    /// `Compacted` if the changes since are no longer known, `Closed`.
    pub fn resume(&mut self, revision: Option<u64>) -> Result<()> {
        let (spans, limits) = (self.queue.spans.clone(), self.queue.limits);
        let mut again = self.hub.watch_within(spans, revision, limits)?;
        again.progress_every = self.progress_every;
        *self = again;
        Ok(())
    }

    /// The revision up to which everything has been yielded; `None` while events wait or after the end.
    pub fn progress(&self) -> Option<u64> {
        // The revision is read first: what came later is in the queue, or no concern of this answer.
        let revision = read(&self.hub.state).revision;
        let waiting = lock(&self.queue.waiting);
        let done = self.backlog.is_empty() && waiting.events.is_empty() && waiting.end.is_none();
        done.then_some(revision)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.hub.registry).remove(&self.queue);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?})", self.queue.spans)
    }
}

/// The state and those who watch it. Lock order: state, then registry, then a queue.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) state: RwLock<State>,
    pub(crate) registry: Mutex<Registry>,
    limits: Limits,
}

impl Hub {
    pub(crate) fn new(state: State, limits: Limits) -> Hub {
        Hub { state: RwLock::new(state), registry: Mutex::default(), limits }
    }

    /// Starts a watch of what happens after `revision`; `None` is now.
    pub(crate) fn watch(self: &Arc<Hub>, spans: Vec<Span>, revision: Option<u64>) -> Result<Watch> {
        self.watch_within(spans, revision, self.limits)
    }

    /// [`Hub::watch`] with bounds of its own.
    pub(crate) fn watch_within(
        self: &Arc<Hub>,
        spans: Vec<Span>,
        revision: Option<u64>,
        limits: Limits,
    ) -> Result<Watch> {
        let state = read(&self.state);
        let after = revision.unwrap_or(state.revision);
        let backlog = state.changes(&spans, after)?;
        let queue = Arc::new(Queue {
            spans,
            after,
            waiting: Mutex::default(),
            changed: rt::Event::new(),
            limits,
        });
        let mut registry = lock(&self.registry);
        if let Some(end) = &registry.closed {
            return Err(end.clone());
        }
        registry.add(&queue);
        Ok(Watch { hub: Arc::clone(self), queue, backlog, progress_every: None })
    }

    /// Makes changes visible: to reads, and to the watches they concern.
    pub(crate) fn publish(&self, revision: u64, events: &[Arc<Event>]) {
        let mut state = write(&self.state);
        let mut registry = lock(&self.registry);
        for event in events {
            state.apply(event);
            registry.deliver(event);
        }
        state.revision = state.revision.max(revision);
        state.trim(self.limits.history_events_max, self.limits.history_bytes_max);
    }

    /// Another state takes the place of this one; what led to it is not known, so all watches end.
    pub(crate) fn restart(&self, state: State) {
        let mut old = write(&self.state);
        *old = state;
        lock(&self.registry).end(&Error::Lagged);
    }

    /// Ends every watch, and refuses new ones.
    pub(crate) fn close(&self) {
        let mut registry = lock(&self.registry);
        registry.closed = Some(Error::Closed);
        registry.end(&Error::Closed);
    }
}

/// All watches, by the bytes every key of a span starts with.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_anchor: BTreeMap<Box<[u8]>, Vec<Arc<Queue>>>,
    pub(crate) n_watches: usize,
    closed: Option<Error>,
}

impl Registry {
    fn end(&mut self, error: &Error) {
        for queue in std::mem::take(&mut self.by_anchor).into_values().flatten() {
            queue.end(error.clone());
        }
        self.n_watches = 0;
    }

    fn add(&mut self, queue: &Arc<Queue>) {
        self.n_watches += 1;
        for anchor in anchors(queue) {
            self.by_anchor.entry(anchor.into()).or_default().push(Arc::clone(queue));
        }
    }

    fn remove(&mut self, queue: &Arc<Queue>) {
        let mut found = false;
        for anchor in anchors(queue) {
            if let Some(queues) = self.by_anchor.get_mut(anchor) {
                let n_before = queues.len();
                queues.retain(|it| !Arc::ptr_eq(it, queue));
                found |= queues.len() < n_before;
                if queues.is_empty() {
                    self.by_anchor.remove(anchor);
                }
            }
        }
        self.n_watches -= usize::from(found);
    }

    /// Hands an event to every watch with a span that holds its key.
    fn deliver(&mut self, event: &Arc<Event>) {
        let mut cut_off = Vec::new();
        // Anchors of the key are among those not above it; the nearest one below says how far to jump.
        let mut upper: &[u8] = &event.key;
        let mut bound = Bound::Included(upper);
        while let Some((anchor, queues)) =
            self.by_anchor.range::<[u8], _>((Bound::Unbounded, bound)).next_back()
        {
            if upper.starts_with(anchor) {
                cut_off.extend(queues.iter().filter(|queue| !queue.offer(event)).cloned());
                upper = &upper[..anchor.len()];
                bound = Bound::Excluded(upper);
            } else {
                let n_common = upper.iter().zip(anchor.iter()).take_while(|(a, b)| a == b).count();
                upper = &upper[..n_common];
                bound = Bound::Included(upper);
            }
        }
        for queue in cut_off {
            self.remove(&queue);
            queue.end(Error::Lagged);
        }
    }
}

/// The distinct anchors of a watch's spans.
fn anchors(queue: &Queue) -> Vec<&[u8]> {
    let mut anchors: Vec<&[u8]> = queue.spans.iter().map(Span::anchor).collect();
    anchors.arrange();
    anchors.dedup();
    anchors
}

/// One watch's side of the registry.
#[derive(Debug)]
pub(crate) struct Queue {
    spans: Vec<Span>,
    /// Only later revisions concern it (it may wait for one that has not happened).
    after: u64,
    waiting: Mutex<Waiting>,
    changed: rt::Event,
    limits: Limits,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The event last offered, so that overlapping spans yield it once.
    last: Option<Arc<Event>>,
    end: Option<Error>,
}

impl Queue {
    /// False if it has no room left.
    fn offer(&self, event: &Arc<Event>) -> bool {
        if event.revision <= self.after || !self.spans.iter().any(|it| it.contains(&event.key)) {
            return true;
        }
        let mut waiting = lock(&self.waiting);
        if self.spans.len() > 1 {
            if waiting.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, event)) {
                return true;
            }
            waiting.last = Some(Arc::clone(event));
        }
        waiting.bytes += event.weight_bytes();
        waiting.events.push_back(Arc::clone(event));
        self.changed.notify(1);
        // One revision always fits, however much it changes: who was up to date is not cut off by it.
        let one = waiting.events.front().is_some_and(|first| first.revision == event.revision);
        one || waiting.events.len() <= self.limits.watch_events_max
            && waiting.bytes <= self.limits.watch_bytes_max
    }

    fn end(&self, error: Error) {
        let mut waiting = lock(&self.waiting);
        if matches!(error, Error::Lagged) {
            // It must list again anyway; the memory is freed at once.
            waiting.events = VecDeque::new();
            waiting.bytes = 0;
        }
        waiting.end.get_or_insert(error);
        self.changed.notify(1);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn read(state: &RwLock<State>) -> std::sync::RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn write(state: &RwLock<State>) -> std::sync::RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
