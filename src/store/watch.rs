//! Watches: which of them a change concerns, and each one's bounded queue.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use stdx::{Arrange, OrdMap};

use crate::bell::Bell;
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
                self.queue.less(&mut waiting, event.weight_bytes());
                Ok(Some(event))
            }
            None => match &waiting.end {
                Some(end) => Err(end.clone()),
                None => Ok(None),
            },
        }
    }

    /// What waits: whole revisions, one more until they pass `bytes_max`; perhaps nothing.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn take(&mut self, bytes_max: usize) -> Result<Vec<Arc<Event>>> {
        let hub = Arc::clone(&self.hub);
        // While it is held, no revision is half in the queue.
        let _state = read(&hub.state);
        let (mut taken, mut bytes) = (Vec::<Arc<Event>>::new(), 0);
        loop {
            let next = self.backlog.front().map(|event| event.revision);
            let next = next.or_else(|| Some(lock(&self.queue.waiting).events.front()?.revision));
            if bytes > bytes_max && taken.last().map(|event| event.revision) != next {
                return Ok(taken);
            }
            match self.try_next() {
                Ok(Some(event)) => {
                    bytes += event.weight_bytes();
                    taken.push(event);
                }
                Err(error) if taken.is_empty() => return Err(error),
                Ok(None) | Err(_) => return Ok(taken),
            }
        }
    }

    /// The first revision that it did not yield because it was cut off.
    pub fn cut_off_at(&self) -> Option<u64> {
        lock(&self.queue.waiting).cut_off_at
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
        let mut waiting = lock(&self.queue.waiting);
        let bytes = waiting.bytes;
        self.queue.less(&mut waiting, bytes);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?})", self.queue.spans)
    }
}

/// A watch on the way to the present.
#[derive(Debug)]
pub enum Follow {
    /// There is more than one page; this is what happened until then, whole revisions.
    Page {
        events: Vec<Arc<Event>>,
        revision: u64,
    },
    Live(Watch),
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
        self.enter(Queue::new(spans, after, limits, None), backlog)
    }

    /// A watch of one span that rings, or a page of what it must yield before it can begin.
    pub(crate) fn follow(
        self: &Arc<Hub>,
        span: Span,
        revision: Option<u64>,
        bell: (Arc<Bell>, u64),
    ) -> Result<Follow> {
        let state = read(&self.state);
        let after = revision.unwrap_or(state.revision);
        let (events, more) = state.page(&span, after)?;
        if let Some(revision) = more {
            return Ok(Follow::Page { events, revision });
        }
        let rings = !events.is_empty();
        let queue = Queue::new(vec![span], after, self.limits, Some(bell));
        let watch = self.enter(queue, events.into())?;
        if rings {
            watch.queue.ring();
        }
        Ok(Follow::Live(watch))
    }

    /// The state must be locked since the backlog was read.
    fn enter(self: &Arc<Hub>, queue: Queue, backlog: VecDeque<Arc<Event>>) -> Result<Watch> {
        let queue = Arc::new(queue);
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
    by_anchor: OrdMap<Box<[u8]>, Vec<Arc<Queue>>>,
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
        self.remove_all(std::slice::from_ref(queue));
    }

    /// In one go, for there may be thousands at one anchor.
    fn remove_all(&mut self, gone: &[Arc<Queue>]) {
        let mut gone_at: Vec<*const Queue> = gone.iter().map(Arc::as_ptr).collect();
        gone_at.arrange();
        let mut places: Vec<&[u8]> = gone.iter().flat_map(|queue| anchors(queue)).collect();
        places.arrange();
        places.dedup();
        let mut found = Vec::new();
        for anchor in places {
            if let Some(queues) = self.by_anchor.get_mut(anchor) {
                queues.retain(|it| {
                    let stays = gone_at.binary_search(&Arc::as_ptr(it)).is_err();
                    if !stays {
                        found.push(Arc::as_ptr(it));
                    }
                    stays
                });
                if queues.is_empty() {
                    self.by_anchor.remove(anchor);
                }
            }
        }
        found.arrange();
        found.dedup();
        self.n_watches -= found.len();
    }

    /// Hands an event to every watch with a span that holds its key.
    fn deliver(&mut self, event: &Arc<Event>) {
        let mut cut_off = Vec::new();
        // Anchors of the key are among those not above it; the nearest one below says how far to jump.
        let mut upper: &[u8] = &event.key;
        let mut bound = Bound::Included(upper);
        while let Some((anchor, queues)) =
            self.by_anchor.range::<[u8]>((Bound::Unbounded, bound)).next_back()
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
        self.remove_all(&cut_off);
        for queue in cut_off {
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
    /// Whom it wakes instead of its own waiter, and its number there.
    bell: Option<(Arc<Bell>, u64)>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The first revision that was thrown away.
    cut_off_at: Option<u64>,
    /// The event last offered, so that overlapping spans yield it once.
    last: Option<Arc<Event>>,
    end: Option<Error>,
}

impl Queue {
    fn new(spans: Vec<Span>, after: u64, limits: Limits, bell: Option<(Arc<Bell>, u64)>) -> Queue {
        let (waiting, changed) = (Mutex::default(), rt::Event::new());
        Queue { spans, after, waiting, changed, limits, bell }
    }

    fn ring(&self) {
        match &self.bell {
            Some((bell, number)) => bell.ring(*number),
            None => drop(self.changed.notify(1)),
        }
    }

    /// So many bytes fewer wait.
    fn less(&self, waiting: &mut Waiting, bytes: usize) {
        waiting.bytes -= bytes;
        if let Some((bell, _)) = &self.bell {
            bell.sub(bytes);
        }
    }

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
        let bytes = event.weight_bytes();
        waiting.bytes += bytes;
        waiting.events.push_back(Arc::clone(event));
        if self.bell.is_none() || waiting.events.len() == 1 {
            self.ring();
        }
        let has_place = self.bell.as_ref().is_none_or(|(bell, _)| bell.add(bytes, waiting.bytes));
        // One revision always fits, however much it changes: who was up to date is not cut off by it.
        let one = waiting.events.front().is_some_and(|first| first.revision == event.revision);
        let within = waiting.events.len() <= self.limits.watch_events_max
            && waiting.bytes <= self.limits.watch_bytes_max;
        has_place && (one || within)
    }

    fn end(&self, error: Error) {
        let mut waiting = lock(&self.waiting);
        if matches!(error, Error::Lagged) {
            // It must list again, or read what happened since; the memory is freed at once.
            waiting.cut_off_at = waiting.events.front().map(|event| event.revision);
            waiting.events = VecDeque::new();
            let bytes = waiting.bytes;
            self.less(&mut waiting, bytes);
        }
        waiting.end.get_or_insert(error);
        self.ring();
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
