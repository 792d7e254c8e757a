//! The state machine of a tunnel's session: connections, what came and what is to be sent. No I/O, no clock.
//!
//! What nobody reads is bounded: a peer is told to pause a connection, and one that sends on all the same loses it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use stdx::{OrdMap, OrdSet, time::Mono};
use wire::remotedialer::{self as codec, Kind, Message, MessageError};

/// Received data of one connection after which the peer is told to pause it, below which to go on; remotedialer's.
pub(super) const PAUSE_BYTES: usize = 2 << 20;
pub(super) const RESUME_BYTES: usize = PAUSE_BYTES / 8;
/// Received data of one connection whose peer does not pause.
pub(super) const RECEIVED_MAX_BYTES: usize = 2 * PAUSE_BYTES;
/// Received data of all connections after which each that holds more than `RESUME_BYTES` is paused.
const SESSION_PAUSE_BYTES: usize = 4 * PAUSE_BYTES;
/// Received data of all connections; beyond it the one that holds most is lost.
pub(super) const SESSION_RECEIVED_MAX_BYTES: usize = 16 << 20;
/// Data of one connection that waits to be sent, and the most in one message.
pub(super) const SEND_BUFFERED_MAX_BYTES: usize = 32 * 1024;
/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Messages other than data that wait to be sent before nothing more is received.
const CONTROL_MAX: usize = 256;

/// Between pings of the agent, between its lists of connections, and how long a peer may be silent; remotedialer's.
pub(super) const PING_EVERY: Duration = Duration::from_secs(5);
const SYNC_EVERY: Duration = Duration::from_secs(60);
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    Ping,
    Message(Vec<u8>),
}

/// What the peer wants of us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: i64,
    pub(super) network: String,
    pub(super) address: String,
}

#[derive(Default)]
pub(super) struct State {
    connections: OrdMap<i64, Connection>,
    control: VecDeque<Vec<u8>>,
    /// Connections that have something to send, each once, in turn.
    ready: VecDeque<i64>,
    last_connection: i64,
    last_message: i64,
    received_bytes: usize,
    is_ping_due: bool,
    heard_at: Mono,
    synced_at: Mono,
    over: Option<String>,
    /// The driver's halves: one waits for something to send, the other until there is room for answers.
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

#[derive(Default)]
struct Connection {
    received: VecDeque<u8>,
    /// The peer was told to pause.
    has_paused_peer: bool,
    /// Why no more comes; `None` inside is the end of what there is.
    end: Option<Option<String>>,
    reader: Option<Waker>,
    to_send: Vec<u8>,
    /// The peer told us to pause.
    is_paused: bool,
    is_ready: bool,
    writer: Option<Waker>,
    /// Our user is done: what is left is sent, then this.
    farewell: Option<String>,
    /// The agent's last list did not have it.
    is_missed: bool,
}

impl State {
    pub(super) fn new(now: Mono) -> State {
        State { heard_at: now, synced_at: now, ..State::default() }
    }

    // ---- what streams ask ----

    /// Opens a connection. The peer answers only if it fails.
    pub(super) fn open(&mut self, network: &str, address: &str) -> Result<i64, String> {
        if let Some(why) = &self.over {
            return Err(why.clone());
        }
        if self.connections.len() >= CONNECTIONS_MAX || self.control.len() >= CONTROL_MAX {
            return Err("the tunnel has too many connections".into());
        }
        let target = format!("{network}/{address}");
        if target.len() > codec::CONNECT_MAX_BYTES {
            return Err("the address is too long".into());
        }
        self.last_connection += 1;
        let id = self.last_connection;
        self.connections.insert(id, Connection::default());
        self.tell(id, Kind::Connect, target.as_bytes());
        Ok(id)
    }

    pub(super) fn poll_read(
        &mut self,
        id: i64,
        buf: &mut [u8],
        cx: &mut Task<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(Ok(0)) };
        if connection.received.is_empty() {
            return match &connection.end {
                Some(None) => Poll::Ready(Ok(0)),
                Some(Some(why)) => Poll::Ready(Err(io::Error::other(why.clone()))),
                None => {
                    connection.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let n = io::Read::read(&mut connection.received, buf).unwrap_or(0);
        self.received_bytes -= n;
        if connection.received.is_empty() {
            connection.received = VecDeque::new();
        }
        if connection.has_paused_peer && connection.received.len() < RESUME_BYTES {
            connection.has_paused_peer = false;
            if connection.end.is_none() {
                self.tell(id, Kind::Resume, b"");
            }
        }
        Poll::Ready(Ok(n))
    }

    pub(super) fn poll_write(
        &mut self,
        id: i64,
        bytes: &[u8],
        cx: &mut Task<'_>,
    ) -> Poll<io::Result<usize>> {
        let connection =
            self.connections.get_mut(&id).filter(|connection| connection.end.is_none());
        let Some(connection) = connection else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let room = SEND_BUFFERED_MAX_BYTES - connection.to_send.len();
        if room == 0 {
            connection.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = bytes.len().min(room);
        connection.to_send.extend_from_slice(&bytes[..n]);
        self.make_ready(id);
        Poll::Ready(Ok(n))
    }

    /// The user of a connection is done with it. What it wrote is sent, then the end, or `why` it failed.
    pub(super) fn close(&mut self, id: i64, why: &str) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.received_bytes -= connection.received.len();
        connection.received = VecDeque::new();
        if connection.end.is_some() {
            return self.remove(id);
        }
        if connection.to_send.is_empty() {
            self.remove(id);
            self.tell(id, Kind::Error, why.as_bytes());
        } else {
            connection.farewell = Some(why.to_owned());
        }
    }

    // ---- what the driver asks ----

    /// Takes a message of the peer; what it wants opened is to be answered by `accept`.
    ///
    /// # Errors
    /// What the session cannot go on after.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Option<Wanted>, MessageError> {
        let (id, message) = codec::parse(bytes)?;
        match message {
            Message::Data(data) => self.data(id, data),
            Message::Connect { network, address } => {
                let (network, address) = (network.to_owned(), address.to_owned());
                return Ok(Some(Wanted { id, network, address }));
            }
            Message::Error(why) => self.fail(id, Some(why).filter(|why| why != codec::EOF)),
            Message::Pause => self.pause(id, true),
            Message::Resume => self.pause(id, false),
            Message::SyncConnections(ids) => self.sync(&ids.into_iter().collect()),
            Message::Other => {}
        }
        Ok(None)
    }

    /// Lets the peer have the connection that it asked for, or says why not.
    pub(super) fn accept(&mut self, wanted: &Wanted, is_allowed: bool) -> bool {
        let id = wanted.id;
        let why = if !is_allowed {
            "connect not allowed"
        } else if self.connections.contains_key(&id) {
            // To the peer both are one from now on, so neither can go on.
            self.fail(id, Some("the peer used the connection's number again".into()));
            "the connection's number is in use"
        } else if self.connections.len() >= CONNECTIONS_MAX {
            "the tunnel has too many connections"
        } else {
            self.connections.insert(id, Connection::default());
            return true;
        };
        self.tell(id, Kind::Error, why.as_bytes());
        false
    }

    /// What is to be sent next; `None` once the session is over.
    pub(super) fn poll_outgoing(&mut self, cx: &mut Task<'_>) -> Poll<Option<Outgoing>> {
        if self.over.is_some() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.is_ping_due) {
            return Poll::Ready(Some(Outgoing::Ping));
        }
        if let Some(message) = self.control.pop_front() {
            if self.control.len() < CONTROL_MAX {
                wake(&mut self.receiver);
            }
            return Poll::Ready(Some(Outgoing::Message(message)));
        }
        if let Some(message) = self.next_data() {
            return Poll::Ready(Some(Outgoing::Message(message)));
        }
        self.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready once the answers to what may come next have room.
    pub(super) fn poll_room(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        if self.control.len() < CONTROL_MAX || self.over.is_some() {
            return Poll::Ready(());
        }
        self.receiver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self, now: Mono) {
        self.heard_at = now;
    }

    /// When to look again whether the peer is there, or `None` if it is not.
    pub(super) fn silent_until(&self, now: Mono) -> Option<Mono> {
        let until = self.heard_at + SILENCE_MAX;
        (until > now).then_some(until)
    }

    /// An agent's: a ping is due, and from time to time the list of the connections that it has.
    pub(super) fn tick(&mut self, now: Mono) {
        self.is_ping_due = true;
        if now.since(self.synced_at) >= SYNC_EVERY && self.control.len() < CONTROL_MAX {
            self.synced_at = now;
            let living = self.connections.iter().filter(|(_, connection)| connection.end.is_none());
            let ids = codec::connections(living.map(|(id, _)| *id));
            self.tell(0, Kind::SyncConnections, &ids);
        }
        wake(&mut self.sender);
    }

    pub(super) fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    /// Ends everything.
    pub(super) fn end(&mut self, why: String) {
        if self.over.is_some() {
            return;
        }
        let ids: Vec<i64> = self.connections.keys().copied().collect();
        for id in ids {
            self.fail(id, Some(why.clone()));
        }
        self.control = VecDeque::new();
        self.ready = VecDeque::new();
        self.over = Some(why);
        wake(&mut self.sender);
        wake(&mut self.receiver);
    }

    // ---- inside ----

    fn data(&mut self, id: i64, data: &[u8]) {
        let total = self.received_bytes + data.len();
        let connection =
            self.connections.get_mut(&id).filter(|connection| connection.end.is_none());
        let Some(connection) = connection else {
            let why = format!("connection not found {id}");
            return self.tell(id, Kind::Error, why.as_bytes());
        };
        // Our user is gone already, and the peer will hear of it.
        if connection.farewell.is_some() {
            return;
        }
        connection.received.extend(data);
        self.received_bytes = total;
        let held = connection.received.len();
        wake(&mut connection.reader);
        if held > RECEIVED_MAX_BYTES {
            return self.lose(id);
        }
        let is_full = held > PAUSE_BYTES || (total > SESSION_PAUSE_BYTES && held > RESUME_BYTES);
        if is_full && !std::mem::replace(&mut connection.has_paused_peer, true) {
            self.tell(id, Kind::Pause, b"");
        }
        if total > SESSION_RECEIVED_MAX_BYTES {
            let largest =
                self.connections.iter().max_by_key(|(_, connection)| connection.received.len());
            if let Some(id) = largest.map(|(id, _)| *id) {
                self.lose(id);
            }
        }
    }

    /// Breaks off a connection that holds too much.
    fn lose(&mut self, id: i64) {
        const WHY: &str = "more came than anybody reads";
        if let Some(connection) = self.connections.get_mut(&id) {
            self.received_bytes -= connection.received.len();
            connection.received = VecDeque::new();
        }
        self.fail(id, Some(WHY.into()));
        self.tell(id, Kind::Error, WHY.as_bytes());
    }

    /// No more comes on a connection, and nothing more can be sent.
    fn fail(&mut self, id: i64, why: Option<String>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.farewell.is_some() {
            return self.remove(id);
        }
        connection.end.get_or_insert(why);
        connection.to_send = Vec::new();
        wake(&mut connection.reader);
        wake(&mut connection.writer);
    }

    fn remove(&mut self, id: i64) {
        if self.connections.remove(&id).is_some_and(|connection| connection.is_ready) {
            self.ready.retain(|ready| *ready != id);
        }
    }

    fn pause(&mut self, id: i64, is_paused: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_paused = is_paused;
            self.make_ready(id);
        }
    }

    /// Connections that an agent's lists lack twice are over there. Once is not enough: the list may have been made
    /// before the agent knew of a connection.
    fn sync(&mut self, ids: &OrdSet<i64>) {
        let mut lost = Vec::new();
        for (id, connection) in &mut self.connections {
            let is_missed = !ids.contains(id);
            if std::mem::replace(&mut connection.is_missed, is_missed) && is_missed {
                lost.push(*id);
            }
        }
        for id in lost {
            self.fail(id, Some("sync from client".into()));
        }
    }

    fn make_ready(&mut self, id: i64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_ready || connection.is_paused || connection.to_send.is_empty() {
            return;
        }
        connection.is_ready = true;
        self.ready.push_back(id);
        wake(&mut self.sender);
    }

    /// What the next connection in turn has to say: all that it wrote, so that each gets its part.
    fn next_data(&mut self) -> Option<Vec<u8>> {
        while let Some(id) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.is_ready = false;
            if connection.is_paused || connection.to_send.is_empty() {
                continue;
            }
            let data = std::mem::take(&mut connection.to_send);
            wake(&mut connection.writer);
            if let Some(why) = connection.farewell.take() {
                self.connections.remove(&id);
                self.tell(id, Kind::Error, why.as_bytes());
            }
            return Some(codec::emit(self.message_id(), id, Kind::Data, &data));
        }
        self.ready = VecDeque::new();
        None
    }

    fn message_id(&mut self) -> i64 {
        self.last_message = self.last_message.wrapping_add(1);
        self.last_message
    }

    fn tell(&mut self, id: i64, kind: Kind, payload: &[u8]) {
        if self.over.is_none() {
            let message = codec::emit(self.message_id(), id, kind, payload);
            self.control.push_back(message);
            wake(&mut self.sender);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
