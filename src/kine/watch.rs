//! Watches: many on one stream, served by one task.
//!
//! Each is a watch of the store that rings this stream's bell. What waits for a client that takes nothing is
//! bounded for the whole stream; a watch that is cut off reads on from the store's history, as etcd does,
//! and is cancelled as compacted if that no longer goes back far enough. Requests are read one by one and
//! only as fast as answers are taken, so a stream has one page of the past in hand, however many watches
//! ask for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::grpc::{Incoming, Outgoing, Status};
use rt::future::{or, pending, poll_fn};
use stdx::OrdMap;
use store::{Bell, Error, Event, Follow, Span, Watch};
use wire::etcd::{
    Bytes, Event as Told, EventType, Filters, KeyValue, Message, WatchCreateRequest, WatchRequest,
    WatchResponse,
};

use crate::budget::FREE_BYTES;
use crate::front::{Front, read, signed, unsigned};

use crate::refusal::{COMPACTED, STOPPED, TOO_MANY_REQUESTS, status_of};
use crate::shape::{shown, span};

/// What may wait for one stream.
const WAITING_MAX_BYTES: usize = 2 << 20;
/// Events of one message, about; all of a revision are in one.
const MESSAGE_BYTES: usize = FREE_BYTES;
/// A part of a message, where the client takes parts.
const FRAGMENT_BYTES: usize = 1 << 20;
/// Messages of one watch before others get their turn.
const TURN_MAX: usize = 16;
/// The number that stands for no watch, or for all.
const NO_ID: i64 = -1;

struct Stream {
    front: Front,
    outgoing: Outgoing,
    bell: Arc<Bell>,
    watches: OrdMap<i64, Watching>,
    /// Those that have more to say than fits into a turn.
    again: Vec<u64>,
    next_id: i64,
    /// How many watches want to be told how far they are, and when they are told next.
    n_progress: usize,
    tick: Option<rt::Sleep>,
    /// The client asked how far all are.
    progress_asked: bool,
}

struct Watching {
    span: Span,
    /// `None`: on its way from the past.
    live: Option<Watch>,
    /// All up to here was told.
    after: u64,
    filters: Filters,
    prev_kv: bool,
    progress: bool,
    fragment: bool,
}

enum Turn {
    Asked(WatchRequest),
    /// Nothing more is asked; what is watched goes on.
    AskedAll,
    Rung(Vec<u64>),
    /// Watches had more to say than fits into a turn.
    Again,
    Tick,
    Gone,
}

/// Serves one stream to its end.
pub(crate) async fn run(front: Front, mut incoming: Incoming, outgoing: Outgoing) {
    let mut stream = Stream {
        front,
        outgoing,
        bell: Bell::new(WAITING_MAX_BYTES),
        watches: OrdMap::new(),
        again: Vec::new(),
        next_id: 0,
        n_progress: 0,
        tick: None,
        progress_asked: false,
    };
    let mut asks = true;
    let ended = loop {
        let turn = stream.next(asks.then_some(&mut incoming)).await;
        let done = match turn {
            Ok(Turn::Asked(ask)) => stream.asked(ask).await,
            Ok(Turn::AskedAll) => {
                asks = false;
                Ok(())
            }
            Ok(Turn::Rung(numbers)) => stream.rung(numbers).await,
            Ok(Turn::Again) => {
                let numbers = std::mem::take(&mut stream.again);
                stream.rung(numbers).await
            }
            Ok(Turn::Tick) => stream.tick().await,
            Ok(Turn::Gone) => break Ok(()),
            Err(status) => Err(status),
        };
        let done = match done {
            Ok(()) if stream.progress_asked => stream.tell_progress().await,
            done => done,
        };
        if let Err(status) = done {
            break Err(status);
        }
    };
    // The watches end before the client hears of it.
    stream.front.0.n_watches.fetch_sub(stream.watches.len(), Relaxed);
    let Stream { watches, outgoing, .. } = stream;
    drop(watches);
    outgoing.finish(ended);
}

impl Stream {
    async fn next(&mut self, incoming: Option<&mut Incoming>) -> Result<Turn, Status> {
        let gone = async {
            self.outgoing.closed().await;
            Ok(Turn::Gone)
        };
        let asked = async {
            let Some(incoming) = incoming else { return pending().await };
            match incoming.next().await? {
                Some(message) => Ok(Turn::Asked(read(&message)?)),
                None => Ok(Turn::AskedAll),
            }
        };
        let rung = async {
            match self.again.is_empty() {
                true => Ok(Turn::Rung(self.bell.rung().await)),
                false => Ok(Turn::Again),
            }
        };
        let tick = async {
            match &mut self.tick {
                Some(tick) => poll_fn(|cx| Pin::new(&mut *tick).poll(cx)).await,
                None => pending().await,
            }
            Ok(Turn::Tick)
        };
        or(gone, or(asked, or(rung, tick))).await
    }

    async fn asked(&mut self, ask: WatchRequest) -> Result<(), Status> {
        match ask {
            WatchRequest::Create(ask) => self.create(ask).await,
            WatchRequest::Cancel(ask) => match self.remove(ask.watch_id) {
                true => self.tell_cancelled(ask.watch_id, "", 0).await,
                false => Ok(()),
            },
            WatchRequest::Progress(_) => {
                self.progress_asked = true;
                Ok(())
            }
            WatchRequest::None => Ok(()),
        }
    }

    async fn create(&mut self, ask: WatchCreateRequest) -> Result<(), Status> {
        let header = self.front.header_now();
        let created = WatchResponse { header, created: true, ..WatchResponse::default() };
        let id = match self.admit(&ask) {
            Ok(id) => id,
            Err(why) => {
                let cancel_reason = why.to_owned();
                let refused =
                    WatchResponse { watch_id: NO_ID, canceled: true, cancel_reason, ..created };
                return self.outgoing.send(&refused.encode()).await;
            }
        };
        // A watch of the empty key is one of the least.
        let key = if ask.key.is_empty() { Bytes::from([0]) } else { ask.key };
        let after = match ask.start_revision {
            0 => unsigned(created.header.revision),
            start => unsigned(start).saturating_sub(1),
        };
        let watching = Watching {
            span: span(&key, &ask.range_end),
            live: None,
            after,
            filters: ask.filters,
            prev_kv: ask.prev_kv,
            progress: ask.progress_notify,
            fragment: ask.fragment,
        };
        self.watches.insert(id, watching);
        self.n_progress += usize::from(ask.progress_notify);
        if self.n_progress > 0 && self.tick.is_none() {
            self.tick = Some(rt::sleep(self.front.0.settings.progress_every));
        }
        self.outgoing.send(&WatchResponse { watch_id: id, ..created }.encode()).await?;
        self.advance(id).await
    }

    /// The number of a new watch, or why there is none, in etcd's words.
    fn admit(&mut self, ask: &WatchCreateRequest) -> Result<i64, &'static str> {
        let end = &*ask.range_end;
        if !end.is_empty() && *end != [0] && *ask.key >= *end {
            return Err("mvcc: watcher range is empty");
        }
        let mut id = ask.watch_id;
        if id == 0 {
            while self.watches.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            id = self.next_id;
            self.next_id += 1;
        } else if self.watches.contains_key(&id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream");
        }
        let shared = &self.front.0;
        if shared.n_watches.fetch_add(1, Relaxed) >= shared.settings.watches_max {
            shared.n_watches.fetch_sub(1, Relaxed);
            return Err(TOO_MANY_REQUESTS.words());
        }
        Ok(id)
    }

    /// Whether there was such a watch.
    fn remove(&mut self, id: i64) -> bool {
        let Some(watching) = self.watches.remove(&id) else { return false };
        self.front.0.n_watches.fetch_sub(1, Relaxed);
        self.n_progress -= usize::from(watching.progress);
        if self.n_progress == 0 {
            self.tick = None;
        }
        true
    }

    async fn tell_cancelled(&mut self, id: i64, why: &str, compact: u64) -> Result<(), Status> {
        let told = WatchResponse {
            header: self.front.header_now(),
            watch_id: id,
            canceled: true,
            compact_revision: signed(compact),
            cancel_reason: why.to_owned(),
            ..WatchResponse::default()
        };
        self.outgoing.send(&told.encode()).await
    }

    async fn rung(&mut self, numbers: Vec<u64>) -> Result<(), Status> {
        for number in numbers {
            self.advance(number.cast_signed()).await?;
        }
        Ok(())
    }

    /// Tells what a watch has to say: from the past until it is live, then what waits.
    async fn advance(&mut self, id: i64) -> Result<(), Status> {
        for _ in 0..TURN_MAX {
            let Some(watching) = self.watches.get_mut(&id) else { return Ok(()) };
            let step = match &mut watching.live {
                Some(live) => live.take(MESSAGE_BYTES),
                None => {
                    let bell = (Arc::clone(&self.bell), id.cast_unsigned());
                    let store = &self.front.0.store;
                    match store.follow(watching.span.clone(), Some(watching.after), bell) {
                        Ok(Follow::Live(live)) => {
                            watching.live = Some(live);
                            continue;
                        }
                        Ok(Follow::Page { events, .. }) => Ok(events),
                        Err(error) => Err(error),
                    }
                }
            };
            match step {
                Ok(events) if events.is_empty() => return Ok(()),
                Ok(events) => self.tell(id, &events).await?,
                Err(Error::Lagged) => {
                    let cut_off_at = watching.live.take().and_then(|live| live.cut_off_at());
                    match cut_off_at {
                        Some(revision) => watching.after = watching.after.max(revision - 1),
                        // The store began anew; what it told before may not be so.
                        None => return self.end_compacted(id, self.front.0.store.revision()).await,
                    }
                }
                Err(Error::Compacted { compact_revision, .. }) => {
                    return self.end_compacted(id, compact_revision).await;
                }
                Err(Error::Closed) => return Err(STOPPED.status()),
                Err(error) => return Err(status_of(error)),
            }
        }
        self.again.push(id.cast_unsigned());
        Ok(())
    }

    /// Cancels a watch that asks for what is forgotten. Clients begin again at the revision that is told,
    /// so it is the first that can be watched from.
    async fn end_compacted(&mut self, id: i64, compact_revision: u64) -> Result<(), Status> {
        self.remove(id);
        self.tell_cancelled(id, COMPACTED.words(), compact_revision + 1).await
    }

    /// Tells events of a watch, whole revisions.
    async fn tell(&mut self, id: i64, events: &[Arc<Event>]) -> Result<(), Status> {
        let Some(watching) = self.watches.get_mut(&id) else { return Ok(()) };
        let Some(last) = events.last().map(|event| event.revision) else { return Ok(()) };
        watching.after = last;
        let (filters, prev_kv) = (watching.filters, watching.prev_kv);
        let wanted = |event: &&Arc<Event>| match event.is_delete() {
            true => !filters.no_delete,
            false => !filters.no_put,
        };
        let fragment_bytes = if watching.fragment { FRAGMENT_BYTES } else { usize::MAX };
        let mut wanted = events.iter().filter(wanted).peekable();
        while wanted.peek().is_some() {
            let (mut told, mut bytes) = (Vec::new(), 0);
            while let Some(event) = wanted.peek() {
                let event_bytes = bytes_of(event, prev_kv);
                if bytes > 0 && bytes + event_bytes > fragment_bytes {
                    break;
                }
                bytes += event_bytes;
                told.push(shown_event(event, prev_kv));
                wanted.next();
            }
            let message = WatchResponse {
                header: self.front.header(last),
                watch_id: id,
                fragment: wanted.peek().is_some(),
                events: told,
                ..WatchResponse::default()
            };
            let charge = self.front.0.answers.take(bytes).await?;
            self.outgoing.send(&message.encode()).await?;
            if bytes > FREE_BYTES {
                self.outgoing.ready().await?;
            }
            drop(charge);
        }
        Ok(())
    }

    /// Tells the watches that want it how far they are, if they are up to date.
    async fn tick(&mut self) -> Result<(), Status> {
        self.tick = Some(rt::sleep(self.front.0.settings.progress_every));
        let far = |(id, watching): (&i64, &Watching)| {
            let live = watching.live.as_ref().filter(|_| watching.progress)?;
            Some((*id, live.progress()?))
        };
        let told: Vec<(i64, u64)> = self.watches.iter().filter_map(far).collect();
        for (id, revision) in told {
            self.tell_far(id, revision).await?;
        }
        Ok(())
    }

    /// Tells how far all watches are, as soon as none has anything to say.
    async fn tell_progress(&mut self) -> Result<(), Status> {
        if !self.again.is_empty() {
            return Ok(());
        }
        // What happened up to this revision has rung.
        let revision = self.front.0.store.revision();
        let rung = self.bell.try_rung();
        if !rung.is_empty() {
            self.again = rung;
            return Ok(());
        }
        self.progress_asked = false;
        match self.watches.is_empty() {
            true => Ok(()),
            false => self.tell_far(NO_ID, revision).await,
        }
    }

    async fn tell_far(&mut self, id: i64, revision: u64) -> Result<(), Status> {
        let header = self.front.header(revision);
        let told = WatchResponse { header, watch_id: id, ..WatchResponse::default() };
        self.outgoing.send(&told.encode()).await
    }
}

/// An event as the API has it.
fn shown_event(event: &Event, prev_kv: bool) -> Told {
    let (kind, kv) = match &event.now {
        Some(kv) => (EventType::PUT, shown(kv, false)),
        None => {
            let (key, mod_revision) = (Arc::clone(&event.key), signed(event.revision));
            (EventType::DELETE, KeyValue { key, mod_revision, ..KeyValue::default() })
        }
    };
    let before = event.before.as_ref().filter(|_| prev_kv);
    Told { kind, kv, prev_kv: before.map(|kv| shown(kv, false)) }
}

/// About the bytes of an event in a message.
fn bytes_of(event: &Event, prev_kv: bool) -> usize {
    let bytes = |kv: &store::KeyValue| kv.key.len() + kv.value.len() + 32;
    let before = event.before.as_ref().filter(|_| prev_kv);
    event.key.len() + 32 + event.now.as_ref().map_or(0, bytes) + before.map_or(0, bytes)
}
