//! One watch of everything: what happened since the log was read, kept until the store has taken it.
//!
//! A revision of etcd is told whole, in order, and each has something that changed; so as soon as a revision is
//! here, everything before it is, and `tail` waits for the newest one that any answer named. Nothing that
//! the store was told to be there is missing then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::grpc::{Code, Incoming, Outgoing, Status};
use stdx::backoff::Backoff;
use store::{Row, Tail};
use wire::etcd::{
    Bytes, Event, EventType, Message, WatchCreateRequest, WatchRequest, WatchResponse, method,
};

use super::append::is_bookkeeping;
use super::link::Link;
use super::{ITEMS_MAX, lock, revision, row, signed};

/// What waits for the store; then the etcd is not read on.
const WAITING_MAX_BYTES: usize = 16 << 20;
/// What one revision may bring, which is told whole.
const REVISION_MAX_BYTES: usize = 64 << 20;
/// What the store is told at once, if it is several revisions.
const TAIL_MAX_BYTES: usize = 4 << 20;
/// About what a row takes besides its key and its value.
const ROW_OVERHEAD_BYTES: usize = 150;
/// How long a watch may take to begin, or to tell what is known to be there.
const SILENCE_MAX: Duration = Duration::from_secs(1);
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));

#[derive(Debug, Default)]
pub(super) struct Follower {
    followed: Mutex<Followed>,
    /// Told when something came, or is lost.
    changed: rt::Event,
    /// Told when the store has taken something.
    taken: rt::Event,
    /// Asks for another watch.
    stale: rt::Event,
}

/// What is known of the log; pure.
#[derive(Debug, Default)]
struct Followed {
    /// What the store has not taken, by revision.
    waiting: VecDeque<Told>,
    waiting_bytes: usize,
    /// Everything up to here has come.
    seen: u64,
    /// The last revision in which a key changed that is somebody's.
    news: u64,
    /// The newest revision that there is, as far as any answer said.
    known: u64,
    /// The store has taken everything up to here.
    taken: u64,
    /// Parts of an answer whose last part is to come.
    parts: Vec<Event>,
    parts_bytes: usize,
    /// What comes next is gone: everything must be read anew.
    lost: bool,
}

#[derive(Debug)]
struct Told {
    revision: u64,
    rows: Vec<Row>,
    bytes: usize,
}

impl Follower {
    /// Everything up to `revision` was read.
    pub(super) fn begin(&self, revision: u64) {
        *lock(&self.followed) = Followed {
            seen: revision,
            news: revision,
            known: revision,
            taken: revision,
            ..Followed::default()
        };
    }

    /// An answer said that there is this revision.
    pub(super) fn knows(&self, newest: i64) {
        let mut followed = lock(&self.followed);
        followed.known = followed.known.max(revision(newest));
    }

    pub(super) fn seen(&self) -> u64 {
        lock(&self.followed).seen
    }

    pub(super) fn lose(&self) {
        lock(&self.followed).lost = true;
        self.changed.notify(usize::MAX);
    }

    /// What came after `after`, at least up to the newest revision that is known when it is asked for.
    pub(super) async fn tail(&self, after: u64) -> Tail {
        let until = lock(&self.followed).known;
        loop {
            let changed = self.changed.listen();
            if let Some(tail) = self.take(after, until) {
                return tail;
            }
            if rt::timeout(SILENCE_MAX, changed).await.is_err() {
                self.stale.notify(usize::MAX);
            }
        }
    }

    fn take(&self, after: u64, until: u64) -> Option<Tail> {
        let mut followed = lock(&self.followed);
        let tail = followed.take(after, until);
        self.taken.notify(usize::MAX);
        tail
    }

    pub(super) async fn grown(&self, after: u64) {
        loop {
            let changed = self.changed.listen();
            {
                let mut followed = lock(&self.followed);
                if followed.lost || followed.news > after {
                    return;
                }
                followed.forget(after);
                self.taken.notify(usize::MAX);
            }
            changed.await;
        }
    }

    /// Waits until there is room for more.
    async fn room(&self) {
        loop {
            let taken = self.taken.listen();
            if lock(&self.followed).waiting_bytes < WAITING_MAX_BYTES {
                return;
            }
            taken.await;
        }
    }
}

impl Followed {
    /// Takes what a watch told.
    fn told(&mut self, answer: WatchResponse) {
        if self.lost {
            return;
        }
        self.parts_bytes += answer.events.iter().map(weight_bytes).sum::<usize>();
        self.parts.extend(answer.events);
        if self.parts_bytes > REVISION_MAX_BYTES {
            self.lost = true;
            (self.parts, self.parts_bytes) = (Vec::new(), 0);
        }
        if answer.fragment {
            return;
        }
        self.parts_bytes = 0;
        // A watch that begins again tells nothing twice; what it does all the same is passed over.
        let seen = self.seen;
        for event in std::mem::take(&mut self.parts) {
            let at = revision(event.kv.mod_revision);
            if at > seen && at >= self.seen {
                self.event(at, event);
            }
        }
    }

    fn event(&mut self, at: u64, event: Event) {
        if at > self.seen {
            self.seen = at;
            self.waiting.push_back(Told { revision: at, rows: Vec::new(), bytes: 0 });
        }
        let Some(told) = self.waiting.back_mut() else { return };
        if is_bookkeeping(&event.kv.key) {
            return;
        }
        self.news = at;
        let place = u32::try_from(told.rows.len()).unwrap_or(u32::MAX);
        let bytes = weight_bytes(&event);
        told.rows.push(match event.kind {
            EventType::DELETE => Row::new(at, place, event.kv.key, None),
            _ => row(&event.kv, place),
        });
        told.bytes += bytes;
        self.waiting_bytes += bytes;
    }

    /// Drops what the store has.
    fn forget(&mut self, after: u64) {
        while let Some(told) = self.waiting.pop_front_if(|told| told.revision <= after) {
            self.waiting_bytes -= told.bytes;
        }
        self.taken = self.taken.max(after);
    }

    fn take(&mut self, after: u64, until: u64) -> Option<Tail> {
        if self.lost || after < self.taken {
            return Some(Tail::Compacted);
        }
        self.forget(after);
        if self.seen < until {
            return None;
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for told in &self.waiting {
            if bytes > 0 && bytes + told.bytes > TAIL_MAX_BYTES {
                return Some(Tail::Rows { rows, revision: told.revision - 1 });
            }
            bytes += told.bytes;
            rows.extend(told.rows.iter().cloned());
        }
        Some(Tail::Rows { rows, revision: self.seen.max(after) })
    }
}

fn weight_bytes(event: &Event) -> usize {
    event.kv.key.len() + event.kv.value.len() + ROW_OVERHEAD_BYTES
}

/// Follows the log for as long as it can be followed.
pub(super) async fn follow(link: Arc<Link>, follower: Arc<Follower>) {
    let mut failures = 0;
    loop {
        let (idx, seen) = (link.used(), follower.seen());
        match watch(&link, idx, &follower).await {
            Ok(()) => {}
            Err(status) if lock(&follower.followed).lost => {
                log::warn!("datastore: the etcd no longer tells what happened: {}", status.message);
                follower.changed.notify(usize::MAX);
                return;
            }
            Err(status) => {
                log::log!(link.level(), "datastore: watch of the etcd broke: {}", status.message);
                link.leave(idx, &status.message);
            }
        }
        failures = if follower.seen() > seen { 1 } else { failures + 1 };
        rt::sleep(AGAIN.delay(failures)).await;
    }
}

/// Watches until it breaks, or until another endpoint or another watch is wanted.
async fn watch(link: &Link, idx: usize, follower: &Follower) -> Result<(), Status> {
    let (moved, stale) = (link.moved.listen(), follower.stale.listen());
    if link.used() != idx {
        return Ok(());
    }
    let (outgoing, incoming) = link.stream(method::WATCH);
    let told = read(outgoing, incoming, follower);
    let moved = async {
        moved.await;
        Ok(())
    };
    let stale = async {
        stale.await;
        Err(Status::new(Code::DEADLINE_EXCEEDED, "it does not tell what is there"))
    };
    rt::future::or(told, rt::future::or(moved, stale)).await
}

async fn read(
    mut outgoing: Outgoing,
    mut incoming: Incoming,
    follower: &Follower,
) -> Result<(), Status> {
    {
        let mut followed = lock(&follower.followed);
        (followed.parts, followed.parts_bytes) = (Vec::new(), 0);
    }
    let create = WatchCreateRequest {
        key: Bytes::from([0]),
        range_end: Bytes::from([0]),
        start_revision: signed(follower.seen()).saturating_add(1),
        fragment: true,
        ..WatchCreateRequest::default()
    };
    outgoing.send(&WatchRequest::Create(create).encode()).await?;
    let mut is_created = false;
    loop {
        follower.room().await;
        let next = match is_created {
            true => incoming.next().await,
            false => {
                rt::timeout(SILENCE_MAX, incoming.next()).await.unwrap_or_else(|rt::Elapsed| {
                    Err(Status::new(Code::DEADLINE_EXCEEDED, "no watch begins"))
                })
            }
        };
        let Some(message) = next? else {
            return Err(Status::new(Code::UNAVAILABLE, "the etcd ended it"));
        };
        let answer = WatchResponse::decode(&message, ITEMS_MAX)
            .map_err(|error| Status::new(Code::INTERNAL, error.to_string()))?;
        is_created |= answer.created;
        if answer.canceled {
            let why = match answer.compact_revision {
                0 => answer.cancel_reason,
                _ => "it is compacted".to_owned(),
            };
            lock(&follower.followed).lost |= answer.compact_revision != 0;
            return Err(Status::new(Code::OUT_OF_RANGE, why));
        }
        lock(&follower.followed).told(answer);
        follower.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::etcd::KeyValue;

    fn event(revision: i64, key: &str) -> Event {
        let key = Bytes::from(key.as_bytes());
        let kv = KeyValue { key, mod_revision: revision, version: 1, ..KeyValue::default() };
        Event { kv, ..Event::default() }
    }

    fn told(events: &[(i64, &str)], fragment: bool) -> WatchResponse {
        let events = events.iter().map(|(revision, key)| event(*revision, key)).collect();
        WatchResponse { events, fragment, ..WatchResponse::default() }
    }

    fn shown(tail: Option<Tail>) -> String {
        match tail {
            None => "not yet".to_owned(),
            Some(Tail::Compacted) => "compacted".to_owned(),
            Some(Tail::Rows { rows, revision }) => {
                let one = |row: &Row| format!("{}@{} ", row.key.escape_ascii(), row.revision());
                rows.iter().map(one).chain([format!("to {revision}")]).collect()
            }
        }
    }

    #[test]
    fn revisions_are_told_whole_once_and_as_far_as_is_known() {
        let mut followed = Followed { seen: 5, taken: 5, news: 5, ..Followed::default() };
        assert_eq!(shown(followed.take(5, 5)), "to 5");
        assert_eq!(shown(followed.take(5, 6)), "not yet");
        followed.told(told(&[(5, "/old"), (6, "/a"), (7, "/b")], true));
        assert_eq!(shown(followed.take(5, 5)), "to 5", "its last part is to come");
        followed.told(told(&[(7, "/c"), (7, "/k3rs/log/s")], false));
        followed.told(told(&[(7, "/c"), (8, "/k3rs/servers/s")], false));
        assert_eq!((followed.seen, followed.news), (8, 7));
        assert_eq!(shown(followed.take(5, 7)), "/a@6 /b@7 /c@7 to 8");
        assert_eq!(shown(followed.take(5, 7)), "/a@6 /b@7 /c@7 to 8", "the answer was lost");
        assert_eq!(shown(followed.take(6, 8)), "/b@7 /c@7 to 8");
        assert_eq!(shown(followed.take(8, 8)), "to 8");
        assert_eq!((followed.waiting.len(), followed.waiting_bytes), (0, 0));
        assert_eq!(shown(followed.take(6, 8)), "compacted", "that is forgotten");
        followed.told(told(&[(8, "/k3rs/servers/s"), (9, "/d")], false));
        assert_eq!(shown(followed.take(8, 9)), "/d@9 to 9");
    }

    #[test]
    fn what_is_told_at_once_has_a_bound() {
        let mut followed = Followed::default();
        let large = |revision: i64| {
            let mut event = event(revision, "/large");
            event.kv.value = vec![0; TAIL_MAX_BYTES / 2].into();
            event
        };
        let events = (1..=5).map(large).collect();
        followed.told(WatchResponse { events, ..WatchResponse::default() });
        assert_eq!(shown(followed.take(0, 5)), "/large@1 to 1");
        assert_eq!(shown(followed.take(1, 5)), "/large@2 to 2");
        for _ in 0..40 {
            followed.told(WatchResponse {
                events: vec![large(6)],
                fragment: true,
                ..WatchResponse::default()
            });
        }
        assert_eq!(shown(followed.take(1, 5)), "compacted", "a revision that is too large");
        assert!(followed.parts.is_empty(), "and is not kept");
    }
}
