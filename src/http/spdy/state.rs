//! The state machine of a SPDY session: streams, windows, what came and what is to be sent. No I/O.
//!
//! Received data that nobody reads is bounded by `RECEIVED_MAX_BYTES` a stream, after which the
//! whole connection is not read until somebody does.

use std::collections::VecDeque;
use std::io;
use std::task::{Context as Task, Poll, Waker};

use stdx::{Error, OrdMap, Result};
use wire::headers::Headers;
use wire::spdy::{self as codec, DATA_MAX_BYTES, Frame, SpdyError};

/// Data of one stream that waits to be written.
pub(super) const SEND_BUFFERED_MAX_BYTES: usize = 32 * 1024;
/// Data of one stream that waits to be read before the connection is no longer read.
const RECEIVED_MAX_BYTES: usize = 128 * 1024;
/// Streams open at once.
const STREAMS_MAX: usize = 1024;
/// Output encoded at once, and control frames beyond which nothing is read.
const OUTPUT_MAX_BYTES: usize = 32 * 1024;
/// Window returned to the peer at once.
const WINDOW_STEP: i64 = codec::WINDOW_DEFAULT / 2;

pub(super) struct State {
    streams: OrdMap<u32, StreamState>,
    control: Vec<u8>,
    ready: VecDeque<u32>,
    encoder: codec::HeaderEncoder,
    next_stream: u32,
    last_peer_stream: u32,
    /// Whether the peer keeps windows; ours for it and its initial one.
    keeps_windows: bool,
    send_window: i64,
    initial_window: i64,
    unreturned: i64,
    /// Streams the peer opened that nobody accepted yet.
    pub(super) opened: VecDeque<(u32, Headers)>,
    pub(super) acceptor: Option<Waker>,
    pub(super) driver: Option<Waker>,
    /// Our side said or will say goodbye.
    pub(super) is_leaving: bool,
    pub(super) goodbye_sent: bool,
    /// The peer said goodbye.
    pub(super) is_gone: bool,
    pub(super) failure: Option<String>,
}

#[derive(Default)]
struct StreamState {
    received: VecDeque<Vec<u8>>,
    received_bytes: usize,
    unreturned: i64,
    recv_end: bool,
    reader: Option<Waker>,
    reader_gone: bool,

    to_send: VecDeque<Vec<u8>>,
    send_bytes: usize,
    send_window: i64,
    wants_fin: bool,
    fin_sent: bool,
    is_ready: bool,
    writer: Option<Waker>,
    writer_gone: bool,

    is_replied: bool,
    opener: Option<Waker>,
    is_reset: bool,
}

impl State {
    pub(super) fn new(first_stream: u32) -> State {
        State {
            streams: OrdMap::new(),
            control: Vec::new(),
            ready: VecDeque::new(),
            encoder: codec::HeaderEncoder::new(),
            next_stream: first_stream,
            last_peer_stream: 0,
            keeps_windows: false,
            send_window: codec::WINDOW_DEFAULT,
            initial_window: codec::WINDOW_DEFAULT,
            unreturned: 0,
            opened: VecDeque::new(),
            acceptor: None,
            driver: None,
            is_leaving: false,
            goodbye_sent: false,
            is_gone: false,
            failure: None,
        }
    }

    // ---- what the halves ask ----

    pub(super) fn open(&mut self, headers: &Headers) -> Option<u32> {
        if self.failure.is_some()
            || self.is_gone
            || self.is_leaving
            || self.streams.len() >= STREAMS_MAX
            || self.next_stream > 0x7fff_fffd
        {
            return None;
        }
        let id = self.next_stream;
        self.next_stream += 2;
        let stream = StreamState { send_window: self.initial_window, ..StreamState::default() };
        self.streams.insert(id, stream);
        self.encoder.emit_syn_stream(&mut self.control, id, headers, false);
        self.wake_driver();
        Some(id)
    }

    pub(super) fn poll_replied(&mut self, id: u32, cx: &mut Task<'_>) -> Poll<Result<()>> {
        let failed = self.failure.is_some();
        match self.streams.get_mut(&id) {
            Some(stream) if stream.is_replied => Poll::Ready(Ok(())),
            Some(stream) if !stream.is_reset && !failed => {
                stream.opener = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(Err(Error::new("the peer refused the SPDY stream"))),
        }
    }

    pub(super) fn reply(&mut self, id: u32) {
        self.encoder.emit_syn_reply(&mut self.control, id, &Headers::new());
        self.wake_driver();
    }

    pub(super) fn poll_received(
        &mut self,
        id: u32,
        cx: &mut Task<'_>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        let Some(stream) = self.streams.get_mut(&id) else { return Poll::Ready(Ok(None)) };
        if let Some(bytes) = stream.received.pop_front() {
            let was_full = stream.received_bytes >= RECEIVED_MAX_BYTES;
            stream.received_bytes -= bytes.len();
            if was_full && stream.received_bytes < RECEIVED_MAX_BYTES {
                self.wake_driver();
            }
            self.consumed(id, bytes.len());
            return Poll::Ready(Ok(Some(bytes)));
        }
        if stream.recv_end {
            return Poll::Ready(Ok(None));
        }
        if stream.is_reset || self.failure.is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        stream.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn consumed(&mut self, id: u32, n_bytes: usize) {
        let n_bytes = n_bytes as i64;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.unreturned += n_bytes;
            if stream.unreturned >= WINDOW_STEP && !stream.recv_end && !stream.is_reset {
                let delta = std::mem::take(&mut stream.unreturned);
                codec::emit_window_update(&mut self.control, id, delta);
                self.wake_driver();
            }
        }
        self.unreturned += n_bytes;
        if self.unreturned >= WINDOW_STEP {
            let delta = std::mem::take(&mut self.unreturned);
            codec::emit_window_update(&mut self.control, 0, delta);
            self.wake_driver();
        }
    }

    pub(super) fn poll_send(
        &mut self,
        id: u32,
        bytes: &[u8],
        cx: &mut Task<'_>,
    ) -> Poll<io::Result<usize>> {
        let failed = self.failure.is_some();
        let broken = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(stream) = self.streams.get_mut(&id) else { return broken() };
        if stream.is_reset || stream.wants_fin || failed {
            return broken();
        }
        if stream.send_bytes >= SEND_BUFFERED_MAX_BYTES {
            stream.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !bytes.is_empty() {
            stream.send_bytes += bytes.len();
            stream.to_send.push_back(bytes.to_vec());
            self.make_ready(id);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    pub(super) fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.wants_fin = true;
            self.make_ready(id);
        }
    }

    pub(super) fn reset(&mut self, id: u32, status: u32) {
        codec::emit_reset(&mut self.control, id, status);
        self.mark_reset(id);
        self.wake_driver();
    }

    fn mark_reset(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.is_reset = true;
            stream.to_send.clear();
            stream.send_bytes = 0;
            for waker in [&mut stream.reader, &mut stream.writer, &mut stream.opener] {
                wake(waker);
            }
        }
        self.opened.retain(|(opened, _)| *opened != id);
        self.let_go(id);
    }

    pub(super) fn drop_reader(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.reader_gone = true;
        let n_bytes = std::mem::take(&mut stream.received_bytes);
        stream.received.clear();
        self.consumed(id, n_bytes);
        self.wake_driver();
        self.let_go(id);
    }

    pub(super) fn drop_writer(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.writer_gone = true;
        }
        self.finish(id);
        self.let_go(id);
    }

    /// Forgets a stream that both of its users dropped, once nothing of it is left to send.
    fn let_go(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        let is_done = stream.is_reset || stream.fin_sent || self.failure.is_some();
        if stream.reader_gone && stream.writer_gone && is_done {
            if !stream.recv_end && !stream.is_reset && self.failure.is_none() && !self.is_leaving {
                // Nobody will read what still comes.
                codec::emit_reset(&mut self.control, id, codec::RESET_CANCEL);
            }
            self.streams.remove(&id);
            self.wake_driver();
        }
    }

    fn make_ready(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let has_some = !stream.to_send.is_empty() || (stream.wants_fin && !stream.fin_sent);
        if has_some && !stream.is_ready && !stream.is_reset {
            stream.is_ready = true;
            self.ready.push_back(id);
            self.wake_driver();
        }
    }

    // ---- what the driver does ----

    pub(super) fn receive(
        &mut self,
        frame: Frame<'_>,
        decoder: &mut codec::HeaderDecoder,
    ) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { stream: id, block, fin, unidirectional } => {
                let headers = decoder.decode(block)?;
                self.on_syn_stream(id, headers, fin, unidirectional)?;
            }
            Frame::SynReply { stream: id, block, fin } => {
                decoder.decode(block)?;
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.is_replied = true;
                    stream.recv_end |= fin;
                    wake(&mut stream.opener);
                    wake(&mut stream.reader);
                }
            }
            Frame::Headers { stream: id, block, fin } => {
                decoder.decode(block)?;
                if fin {
                    self.on_fin(id);
                }
            }
            Frame::Reset { stream, .. } => self.mark_reset(stream),
            Frame::Settings { initial_window: Some(window) } => {
                self.keeps_windows = true;
                let change = window - std::mem::replace(&mut self.initial_window, window);
                let ids: Vec<u32> = self.streams.keys().copied().collect();
                for id in ids {
                    self.widen(id, change);
                }
            }
            Frame::Settings { initial_window: None } | Frame::Unknown => {}
            // Odd numbers are the client's: ours come back, theirs are answered.
            Frame::Ping { id } if id % 2 != self.next_stream % 2 => {
                codec::emit_ping(&mut self.control, id);
            }
            Frame::Ping { .. } => {}
            Frame::GoAway { .. } => {
                self.is_gone = true;
                wake(&mut self.acceptor);
            }
            Frame::WindowUpdate { stream: id, delta } => {
                self.keeps_windows = true;
                match id {
                    0 => self.send_window = (self.send_window + delta).min(i64::from(i32::MAX)),
                    id => self.widen(id, delta),
                }
            }
            // Only the driver sees where the data is.
            Frame::Data { .. } => {}
        }
        Ok(())
    }

    fn on_syn_stream(
        &mut self,
        id: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    ) -> Result<(), SpdyError> {
        if id == 0 || id % 2 == self.next_stream % 2 || id <= self.last_peer_stream {
            return Err(SpdyError("stream number"));
        }
        self.last_peer_stream = id;
        if self.streams.len() >= STREAMS_MAX || self.is_leaving {
            codec::emit_reset(&mut self.control, id, codec::RESET_REFUSED_STREAM);
            return Ok(());
        }
        let stream = StreamState {
            send_window: self.initial_window,
            recv_end: fin,
            fin_sent: unidirectional,
            wants_fin: unidirectional,
            is_replied: true,
            ..StreamState::default()
        };
        self.streams.insert(id, stream);
        self.opened.push_back((id, headers));
        wake(&mut self.acceptor);
        Ok(())
    }

    pub(super) fn on_data(&mut self, id: u32, bytes: &[u8]) {
        // Nothing to read is not worth a chunk, and a reader would take it for the end.
        if bytes.is_empty() {
            return;
        }
        match self.streams.get_mut(&id) {
            Some(stream) if !stream.reader_gone && !stream.recv_end && !stream.is_reset => {
                match stream.received.back_mut() {
                    Some(last) if last.len() + bytes.len() <= 4096 => last.extend_from_slice(bytes),
                    _ => stream.received.push_back(bytes.to_vec()),
                }
                stream.received_bytes += bytes.len();
                wake(&mut stream.reader);
            }
            _ => self.consumed(id, bytes.len()),
        }
    }

    pub(super) fn on_fin(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.recv_end = true;
            wake(&mut stream.reader);
        }
    }

    fn widen(&mut self, id: u32, change: i64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_window = (stream.send_window + change).min(i64::from(i32::MAX));
            self.make_ready(id);
        }
    }

    /// Whether received data piles up, so that the connection must not be read.
    pub(super) fn is_full(&self) -> bool {
        self.control.len() > OUTPUT_MAX_BYTES
            || self.streams.values().any(|stream| stream.received_bytes >= RECEIVED_MAX_BYTES)
    }

    /// Appends what is to be sent next.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.control);
        while out.len() < OUTPUT_MAX_BYTES {
            let Some(id) = self.ready.pop_front() else { break };
            let keeps_windows = self.keeps_windows;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.is_ready = false;
            if stream.is_reset || stream.fin_sent {
                continue;
            }
            let Some(bytes) = stream.to_send.front_mut() else {
                if stream.wants_fin {
                    stream.fin_sent = true;
                    codec::emit_data(out, id, &[], true);
                    self.let_go(id);
                }
                continue;
            };
            let window = match keeps_windows {
                true => stream.send_window.min(self.send_window),
                false => i64::MAX,
            };
            // Brought into a frame's size first: no window at all is more than 32 bits count.
            let window = window.clamp(0, DATA_MAX_BYTES as i64);
            let n = bytes.len().min(usize::try_from(window).unwrap_or(0));
            if n == 0 {
                if stream.send_window > 0 {
                    stream.is_ready = true;
                    self.ready.push_front(id);
                    break;
                }
                continue;
            }
            codec::emit_data(out, id, &bytes[..n], false);
            if n == bytes.len() {
                stream.to_send.pop_front();
            } else {
                bytes.drain(..n);
            }
            stream.send_bytes -= n;
            stream.send_window -= n as i64;
            self.send_window -= n as i64;
            wake(&mut stream.writer);
            self.make_ready(id);
        }
        let is_unsent = |stream: &StreamState| {
            !stream.is_reset
                && (!stream.to_send.is_empty() || (stream.wants_fin && !stream.fin_sent))
        };
        if self.is_leaving
            && !self.goodbye_sent
            && self.control.is_empty()
            && !self.streams.values().any(is_unsent)
        {
            self.goodbye_sent = true;
            codec::emit_goaway(out, self.last_peer_stream, 0);
        }
    }

    pub(super) fn end(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.opened.clear();
        wake(&mut self.acceptor);
        for stream in self.streams.values_mut() {
            for waker in [&mut stream.reader, &mut stream.writer, &mut stream.opener] {
                wake(waker);
            }
        }
    }

    pub(super) fn wake_driver(&mut self) {
        wake(&mut self.driver);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
