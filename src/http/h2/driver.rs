//! The I/O of an HTTP/2 connection: reads frames into the state, writes what the state has, keeps the clocks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use stdx::time::Mono;
use wire::http2::{self as codec, PREFACE};

use super::head::RequestHead;
use super::{Config, RecvHalf, Role, SendHalf, Shared, halves, lock};
use crate::io::{Io, linger, poll_drain, poll_fill};

/// Output encoded at once.
const OUTPUT_MAX_BYTES: usize = 32 * 1024;
/// While this much of control frames waits to be written, nothing is read: a peer that asks for
/// answers without taking them stops itself.
const CONTROL_MAX_BYTES: usize = 64 * 1024;
/// Reads and writes in one go before other tasks get their turn.
const ROUNDS_MAX: usize = 16;

/// What a connection reports to who runs it.
pub(crate) enum Event {
    /// Server: the peer opened a stream; whether its body is empty.
    Request { head: RequestHead, send: SendHalf, recv: RecvHalf, is_empty: bool },
    /// The connection is over.
    End,
}

pub(crate) struct Driver {
    shared: Shared,
    io: Io,
    input: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    preface_came: bool,
    started: Mono,
    last_read: Mono,
    last_write: Mono,
    pinged: Option<Mono>,
    tick: Option<rt::Sleep>,
    tick_after: Duration,
}

impl Driver {
    pub(super) fn new(shared: Shared, io: Io, input: Vec<u8>) -> Driver {
        let now = rt::now().mono;
        let (role, tick_after) = {
            let state = lock(&shared);
            (state.config.role, tick_after(&state.config))
        };
        Driver {
            shared,
            io,
            input,
            out: Vec::new(),
            sent: 0,
            preface_came: role == Role::Client,
            started: now,
            last_read: now,
            last_write: now,
            pinged: None,
            tick: None,
            tick_after,
        }
    }

    /// Runs until there is something to report.
    pub(crate) async fn next(&mut self) -> Event {
        rt::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// After the end: sees to it that the peer gets what was written last.
    pub(crate) async fn close(mut self) {
        let closed = Box::new(rt::io::Cursor::new(Vec::new()));
        linger(std::mem::replace(&mut self.io, closed)).await;
    }

    pub(crate) fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Event> {
        lock(&self.shared).driver = Some(cx.waker().clone());
        // What was read together with the preface, before this driver existed.
        if !self.input.is_empty() {
            self.take_input();
        }
        for _ in 0..ROUNDS_MAX {
            if let Some(event) = self.opened() {
                return Poll::Ready(event);
            }
            let written = self.write(cx);
            if written.is_ready() && lock(&self.shared).is_finished() {
                return Poll::Ready(Event::End);
            }
            match self.read(cx) {
                Poll::Ready(true) => continue,
                Poll::Ready(false) => {
                    lock(&self.shared).end("the peer closed the connection".to_owned());
                    return Poll::Ready(Event::End);
                }
                Poll::Pending => {}
            }
            let has_more = {
                let state = lock(&self.shared);
                !state.opened.is_empty() || (written.is_ready() && state.is_finished())
            };
            if has_more {
                continue;
            }
            self.keep_time(cx);
            return match lock(&self.shared).failure.is_some() && self.is_hopeless() {
                true => Poll::Ready(Event::End),
                false => Poll::Pending,
            };
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next stream that the peer opened.
    fn opened(&mut self) -> Option<Event> {
        let mut state = lock(&self.shared);
        if state.opened.is_empty() {
            return None;
        }
        let (id, head, is_empty) = state.opened.remove(0);
        drop(state);
        let (send, recv) = halves(&self.shared, id);
        Some(Event::Request { head, send, recv, is_empty })
    }

    /// Writes what there is. Ready: all is written.
    fn write(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        loop {
            if self.sent == self.out.len() {
                self.out.clear();
                self.sent = 0;
                lock(&self.shared).fill(&mut self.out, OUTPUT_MAX_BYTES);
                if self.out.is_empty() {
                    self.out = Vec::new();
                    self.last_write = rt::now().mono;
                    return Poll::Ready(());
                }
            }
            let before = self.sent;
            let drained = poll_drain(&mut self.io, &self.out, &mut self.sent, cx);
            if self.sent > before {
                self.last_write = rt::now().mono;
            }
            match drained {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.out.clear();
                    self.sent = 0;
                    let mut state = lock(&self.shared);
                    state.control.clear();
                    state.end(format!("write: {error}"));
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads once. Ready: whether the connection is still open.
    fn read(&mut self, cx: &mut Task<'_>) -> Poll<bool> {
        {
            let state = lock(&self.shared);
            if state.failure.is_some() || state.control.len() > CONTROL_MAX_BYTES {
                return Poll::Pending;
            }
        }
        match poll_fill(&mut self.io, &mut self.input, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(false),
            Poll::Ready(Ok(_)) => {
                self.last_read = rt::now().mono;
                self.pinged = None;
                self.take_input();
                Poll::Ready(true)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Parses the frames that are complete.
    fn take_input(&mut self) {
        let mut state = lock(&self.shared);
        let mut at = 0;
        if !self.preface_came {
            let n = self.input.len().min(PREFACE.len());
            if self.input[..n] != PREFACE[..n] {
                let error = codec::Http2Error::Connection(codec::Code::PROTOCOL_ERROR, "preface");
                state.receive(Err(error));
            }
            if n < PREFACE.len() {
                return;
            }
            self.preface_came = true;
            at = n;
        }
        while let Some((frame, length)) = codec::parse(&self.input[at..]) {
            state.receive(frame);
            at += length;
            if state.failure.is_some() {
                break;
            }
        }
        self.input.drain(..at);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Looks at the clocks and sets the next alarm.
    fn keep_time(&mut self, cx: &mut Task<'_>) {
        loop {
            let tick_after = self.tick_after;
            let tick = self.tick.get_or_insert_with(|| rt::sleep(tick_after));
            if Pin::new(tick).poll(cx).is_pending() {
                return;
            }
            self.tick = None;
            self.on_tick();
            // What `on_tick` has to say is written right away.
            cx.waker().wake_by_ref();
        }
    }

    fn on_tick(&mut self) {
        let now = rt::now().mono;
        let mut state = lock(&self.shared);
        let config = state.config.clone();
        if state.failure.is_some() {
            return;
        }
        let mut end = |why: &str| {
            state.send_goaway(0, codec::Code::NO_ERROR, why);
            state.end(why.to_owned());
        };
        let is_blocked = self.sent < self.out.len();
        if is_blocked && now.since(self.last_write) >= config.stall_max {
            return end("the peer takes nothing");
        }
        if !self.preface_came && now.since(self.started) >= config.greeting_max {
            return end("the peer says nothing");
        }
        if let Some(pinged) = self.pinged
            && now.since(pinged) >= config.ping_max
        {
            return end("no answer to PING");
        }
        if state.n_open == 0 {
            if now.since(state.idle_since) >= config.idle_max {
                state.drain();
                // A second time round means that the peer did not answer.
                if now.since(state.idle_since) >= config.idle_max + config.ping_max {
                    state.end("idle".to_owned());
                }
            }
        } else if self.pinged.is_none() && now.since(self.last_read) >= config.ping_after {
            codec::emit_ping(&mut state.control, false, *b"alive???");
            self.pinged = Some(now);
        }
    }

    /// Whether an ended connection cannot even write its last words.
    fn is_hopeless(&self) -> bool {
        rt::now().mono.since(self.last_write) >= Duration::from_secs(5)
    }
}

/// How often the clocks are looked at. A limit of nothing (a probe keeps no connection) must not
/// make an alarm that is due for ever.
fn tick_after(config: &Config) -> Duration {
    const TICK_MIN: Duration = Duration::from_millis(100);
    let shortest = config
        .idle_max
        .min(config.ping_after)
        .min(config.ping_max)
        .min(config.stall_max)
        .min(config.greeting_max);
    (shortest / 2).max(TICK_MIN)
}

impl Drop for Driver {
    fn drop(&mut self) {
        lock(&self.shared).end("the connection was dropped".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An alarm that is always due would keep an executor's thread for ever.
    #[test]
    fn no_limit_makes_the_alarm_ring_without_end() {
        let hour = Duration::from_secs(3600);
        let config = |idle_max: Duration| Config {
            role: Role::Client,
            stream_window: 1,
            connection_window: 1,
            streams_max: 1,
            header_max_bytes: 1,
            greeting_max: hour,
            idle_max,
            stall_max: hour,
            ping_after: hour,
            ping_max: hour,
        };
        assert!(tick_after(&config(Duration::ZERO)) >= Duration::from_millis(10));
        assert_eq!(tick_after(&config(Duration::from_secs(60))).as_secs(), 30);
    }
}
