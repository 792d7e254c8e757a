//! The state machine of one HTTP/2 connection, either role: streams, windows, what was received and what is to be sent.
//!
//! No I/O: the driver feeds frames in and takes bytes out. Longer than other files since it is one
//! state machine. Every collection here is bounded: streams by the concurrency limit and its double
//! for those not yet let go, received data by the windows, data to send by `SEND_BUFFERED_MAX_BYTES`
//! a stream, control frames by the driver, which stops reading while they pile up.

use std::collections::VecDeque;
use std::task::Waker;

use stdx::time::Mono;
use stdx::{OrdMap, never};
use wire::headers::Headers;
use wire::hpack;
use wire::http1::content_length;
use wire::http2::{self as codec, Code, FRAME_MAX_BYTES, Frame, Http2Error, Setting};

use super::head::{self, RequestHead};
use super::{Config, Role};
use crate::body::Chunk;

/// Data of one stream that waits for its window or the connection.
pub(super) const SEND_BUFFERED_MAX_BYTES: usize = 16 * 1024;
/// Frames in a row that move nothing forward before the peer is told to calm down.
const UNHELPFUL_MAX: u32 = 10_000;
/// How many more streams a peer may reset than it lets finish.
const RESETS_MAX: u32 = 500;
/// CONTINUATION frames of one header block.
const CONTINUATIONS_MAX: u32 = 64;
/// Closed streams we remember, to tell late frames from wrong ones.
const CLOSED_REMEMBERED_MAX: usize = 128;
/// Received frames smaller than this are put together.
const COALESCED_MAX_BYTES: usize = 4096;

pub(super) struct State {
    pub(super) config: Config,
    encoder: hpack::Encoder,
    decoder: hpack::Decoder,
    pub(super) streams: OrdMap<u32, Stream>,
    /// Streams that are open as the protocol counts.
    pub(super) n_open: usize,
    /// Encoded frames that go out before any data.
    pub(super) control: Vec<u8>,
    /// Streams that have something to send and a window for it.
    ready: VecDeque<u32>,
    send_window: i64,
    peer_initial_window: i64,
    pub(super) peer_streams_max: u32,
    recv_window: i64,
    recv_unreturned: i64,
    block: Option<Block>,
    last_peer_stream: u32,
    next_local_stream: u32,
    /// Closed streams, and whether we reset them, so that late frames are to be expected.
    closed: VecDeque<(u32, bool)>,
    settings_came: bool,
    /// We refuse streams after this one.
    pub(super) goaway_sent: Option<u32>,
    pub(super) goaway_came: bool,
    /// The connection is over; what is in `control` still goes out.
    pub(super) failure: Option<String>,
    pub(super) driver: Option<Waker>,
    n_unhelpful: u32,
    n_resets: u32,
    /// Streams the peer opened, to be handed to the service.
    pub(super) opened: Vec<(u32, RequestHead, bool)>,
    /// Since when no stream is open.
    pub(super) idle_since: Mono,
    /// An answer to our last PING came.
    pub(super) pong_came: bool,
    /// The owner of the client connection is gone.
    pub(super) is_abandoned: bool,
}

/// A header block that continues.
struct Block {
    stream: u32,
    bytes: Vec<u8>,
    end_stream: bool,
    n_frames: u32,
}

#[derive(Default)]
pub(super) struct Stream {
    /// Client: the response's head.
    pub(super) head: Option<(u16, Headers)>,
    head_came: bool,
    is_head_request: bool,
    pub(super) received: VecDeque<Vec<u8>>,
    pub(super) recv_end: bool,
    pub(super) trailers: Option<Headers>,
    recv_window: i64,
    recv_unreturned: i64,
    /// What the content-length still promises.
    content_left: Option<u64>,
    pub(super) reader: Option<Waker>,
    pub(super) reader_gone: bool,

    to_send: VecDeque<Chunk>,
    pub(super) send_bytes: usize,
    send_window: i64,
    /// The body is complete, with these trailers.
    pub(super) send_end: Option<Headers>,
    /// END_STREAM is on its way.
    send_done: bool,
    is_ready: bool,
    pub(super) sender: Option<Waker>,

    pub(super) reset: Option<Code>,
    /// Counted out of `n_open`.
    pub(super) is_closed: bool,
    /// Sides that still hold on to this entry.
    pub(super) n_handles: u8,
}

type Outcome = Result<(), Http2Error>;

impl State {
    pub(super) fn new(config: Config, now: Mono) -> State {
        let mut control = Vec::new();
        if config.role == Role::Client {
            control.extend_from_slice(codec::PREFACE);
        }
        let window = u32::try_from(config.stream_window).unwrap_or(65_535);
        let list_max = u32::try_from(config.header_max_bytes).unwrap_or(u32::MAX);
        let last = match config.role {
            Role::Server => (3, config.streams_max),
            Role::Client => (2, 0),
        };
        codec::emit_settings(&mut control, &[last, (4, window), (6, list_max)]);
        let extra = config.connection_window - codec::WINDOW_DEFAULT;
        if extra > 0 {
            codec::emit_window_update(&mut control, 0, extra);
        }
        State {
            encoder: hpack::Encoder::new(),
            decoder: hpack::Decoder::new(hpack::TABLE_DEFAULT_BYTES),
            streams: OrdMap::new(),
            n_open: 0,
            control,
            ready: VecDeque::new(),
            send_window: codec::WINDOW_DEFAULT,
            peer_initial_window: codec::WINDOW_DEFAULT,
            peer_streams_max: 100,
            recv_window: config.connection_window.max(codec::WINDOW_DEFAULT),
            recv_unreturned: 0,
            block: None,
            last_peer_stream: 0,
            next_local_stream: 1,
            closed: VecDeque::new(),
            settings_came: false,
            goaway_sent: None,
            goaway_came: false,
            failure: None,
            driver: None,
            n_unhelpful: 0,
            n_resets: 0,
            opened: Vec::new(),
            idle_since: now,
            pong_came: false,
            is_abandoned: false,
            config,
        }
    }

    // ---- what comes in ----

    /// Takes one parsed frame.
    pub(super) fn receive(&mut self, frame: Result<Frame<'_>, Http2Error>) {
        if self.failure.is_some() {
            return;
        }
        let outcome = frame.and_then(|frame| self.on_frame(frame));
        let outcome = match self.n_unhelpful > UNHELPFUL_MAX {
            true => Err(Http2Error::Connection(Code::ENHANCE_YOUR_CALM, "too many idle frames")),
            false => outcome,
        };
        match outcome {
            Ok(()) => {}
            Err(Http2Error::Stream(id, code, what)) => {
                log::debug!("HTTP/2 stream {id}: {code}: {what}");
                self.reset(id, code);
                // Making us reset streams is as good as resetting them.
                if let Err(Http2Error::Connection(code, what)) = self.count_reset() {
                    self.fail(code, what);
                }
            }
            Err(Http2Error::Connection(code, what)) => self.fail(code, what),
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Outcome {
        if let Some(block) = &self.block
            && !matches!(frame, Frame::Continuation { stream, .. } if stream == block.stream)
        {
            return broken("frame amid a header block");
        }
        if !self.settings_came && !matches!(frame, Frame::Settings { .. }) {
            return broken("first frame is not SETTINGS");
        }
        self.n_unhelpful += 1;
        match frame {
            Frame::Data { stream, data, flow_bytes, end_stream } => {
                self.on_data(stream, data, flow_bytes, end_stream)
            }
            Frame::Headers { stream, block, end_stream, end_headers } => {
                let bytes = block.to_vec();
                let block = Block { stream, bytes, end_stream, n_frames: 0 };
                self.on_block_part(block, end_headers)
            }
            Frame::Continuation { block, end_headers, .. } => {
                let Some(mut whole) = self.block.take() else {
                    return broken("CONTINUATION without HEADERS");
                };
                whole.bytes.extend_from_slice(block);
                whole.n_frames += 1;
                self.on_block_part(whole, end_headers)
            }
            Frame::Priority { .. } | Frame::Unknown { .. } => Ok(()),
            Frame::Reset { stream, code } => self.on_reset(stream, code),
            Frame::Settings { values } => self.on_settings(values),
            Frame::SettingsAck => Ok(()),
            Frame::PushPromise { .. } => broken("PUSH_PROMISE"),
            Frame::Ping { ack: true, .. } => {
                self.pong_came = true;
                // The answer to the PING that follows a first GOAWAY: now the last stream is known.
                if self.goaway_sent == Some(u32::MAX >> 1) {
                    self.send_goaway(self.last_peer_stream, Code::NO_ERROR, "");
                }
                Ok(())
            }
            Frame::Ping { ack: false, data } => {
                codec::emit_ping(&mut self.control, true, data);
                Ok(())
            }
            Frame::GoAway { last_stream, code, .. } => {
                self.on_goaway(last_stream, code);
                Ok(())
            }
            Frame::WindowUpdate { stream, increment } => self.on_window_update(stream, increment),
        }
    }

    fn on_data(&mut self, id: u32, data: &[u8], flow_bytes: usize, end_stream: bool) -> Outcome {
        let flow = flow_bytes as i64;
        self.recv_window -= flow;
        if self.recv_window < 0 {
            return Err(Http2Error::Connection(Code::FLOW_CONTROL_ERROR, "connection window"));
        }
        let late = self.is_late(id)?;
        let Some(stream) = self.streams.get_mut(&id).filter(|_| !late) else {
            self.return_window(flow);
            return match late {
                true => Ok(()),
                false => Err(Http2Error::Connection(Code::STREAM_CLOSED, "DATA")),
            };
        };
        let stream_error = |code, what| Err(Http2Error::Stream(id, code, what));
        stream.recv_window -= flow;
        let refused = if stream.recv_end || stream.is_closed {
            Some((Code::STREAM_CLOSED, "DATA after the end"))
        } else if stream.recv_window < 0 {
            Some((Code::FLOW_CONTROL_ERROR, "stream window"))
        } else if self.config.role == Role::Client && !stream.head_came {
            Some((Code::PROTOCOL_ERROR, "DATA before HEADERS"))
        } else {
            None
        };
        if let Some((code, what)) = refused {
            self.return_window(flow);
            return stream_error(code, what);
        }
        if let Some(left) = &mut stream.content_left {
            let after = left.checked_sub(data.len() as u64).filter(|&n| n == 0 || !end_stream);
            let Some(after) = after else {
                self.return_window(flow);
                return stream_error(Code::PROTOCOL_ERROR, "length is not content-length");
            };
            *left = after;
        }
        if !data.is_empty() {
            self.n_unhelpful = 0;
        }
        let mut returned = flow - data.len() as i64;
        stream.recv_unreturned += returned;
        if stream.reader_gone {
            returned = flow;
        } else if !data.is_empty() {
            match stream.received.back_mut() {
                Some(last) if last.len() + data.len() <= COALESCED_MAX_BYTES => {
                    last.extend_from_slice(data);
                }
                _ => stream.received.push_back(data.to_vec()),
            }
        }
        stream.recv_end |= end_stream;
        wake(&mut stream.reader);
        self.return_window(returned);
        if end_stream {
            self.settle(id);
        }
        Ok(())
    }

    fn on_block_part(&mut self, block: Block, end_headers: bool) -> Outcome {
        if block.bytes.len() > self.config.header_max_bytes || block.n_frames > CONTINUATIONS_MAX {
            return Err(Http2Error::Connection(Code::ENHANCE_YOUR_CALM, "header block too large"));
        }
        if !end_headers {
            self.block = Some(block);
            return Ok(());
        }
        let Block { stream, bytes, end_stream, .. } = block;
        let decoded = self
            .decoder
            .decode(&bytes, self.config.header_max_bytes)
            .map_err(|_| Http2Error::Connection(Code::COMPRESSION_ERROR, "header block"))?;
        match self.config.role {
            Role::Server => self.on_request(stream, decoded, end_stream),
            Role::Client => self.on_response(stream, decoded, end_stream),
        }
    }

    fn on_request(&mut self, id: u32, decoded: hpack::Decoded, end_stream: bool) -> Outcome {
        if id.is_multiple_of(2) {
            return broken("even stream from a client");
        }
        if self.streams.contains_key(&id) {
            return self.on_trailers(id, decoded, end_stream);
        }
        if id <= self.last_peer_stream {
            return match self.is_late(id)? {
                true => Ok(()),
                false if self.closed.iter().any(|(closed, _)| *closed == id) => {
                    Err(Http2Error::Connection(Code::STREAM_CLOSED, "HEADERS on a closed stream"))
                }
                false => broken("stream numbers went back"),
            };
        }
        if self.goaway_sent.is_some_and(|last| id > last) {
            return Ok(());
        }
        self.last_peer_stream = id;
        if self.streams.len() > 2 * self.config.streams_max as usize + 16 {
            let what = "too many streams that were reset";
            return Err(Http2Error::Connection(Code::ENHANCE_YOUR_CALM, what));
        }
        if self.n_open >= self.config.streams_max as usize {
            return Err(Http2Error::Stream(id, Code::REFUSED_STREAM, "too many streams"));
        }
        let bad = |what| Http2Error::Stream(id, Code::PROTOCOL_ERROR, what);
        if decoded.is_malformed {
            return Err(bad("malformed field"));
        }
        if decoded.is_too_large {
            let fields = Headers::new().with(":status", "431");
            let mut block = Vec::new();
            self.encoder.encode(&fields, &mut block);
            codec::emit_headers(&mut self.control, id, &block, true);
            return Err(Http2Error::Stream(id, Code::NO_ERROR, "fields too large"));
        }
        let head = head::request(&decoded.headers).map_err(bad)?;
        let length = content_length(&head.headers).map_err(|_| bad("content-length"))?;
        if end_stream && length.is_some_and(|length| length != 0) {
            return Err(bad("length is not content-length"));
        }
        self.n_unhelpful = 0;
        let stream = Stream {
            recv_end: end_stream,
            recv_window: self.config.stream_window,
            send_window: self.peer_initial_window,
            content_left: length,
            n_handles: 2,
            ..Stream::default()
        };
        self.streams.insert(id, stream);
        self.n_open += 1;
        self.opened.push((id, head, end_stream));
        Ok(())
    }

    fn on_response(&mut self, id: u32, decoded: hpack::Decoded, end_stream: bool) -> Outcome {
        if !self.streams.contains_key(&id) {
            return match self.is_late(id)? {
                true => Ok(()),
                false => Err(Http2Error::Connection(Code::STREAM_CLOSED, "HEADERS")),
            };
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.head_came) else {
            return self.on_trailers(id, decoded, end_stream);
        };
        let bad = |what| Http2Error::Stream(id, Code::PROTOCOL_ERROR, what);
        if decoded.is_malformed || decoded.is_too_large {
            return Err(bad("malformed or too large fields"));
        }
        let (status, headers) = head::response(&decoded.headers).map_err(bad)?;
        if status < 200 {
            return if end_stream { Err(bad("interim response ends the stream")) } else { Ok(()) };
        }
        let length = content_length(&headers).map_err(|_| bad("content-length"))?;
        let has_body = !stream.is_head_request && status != 204 && status != 304;
        stream.content_left = length.filter(|_| has_body);
        if end_stream && stream.content_left.is_some_and(|n| n != 0) {
            return Err(bad("length is not content-length"));
        }
        stream.head_came = true;
        stream.head = Some((status, headers));
        stream.recv_end = end_stream;
        wake(&mut stream.reader);
        self.n_unhelpful = 0;
        if end_stream {
            self.settle(id);
        }
        Ok(())
    }

    fn on_trailers(&mut self, id: u32, decoded: hpack::Decoded, end_stream: bool) -> Outcome {
        if self.is_late(id)? {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.is_closed && stream.reset.is_none() {
            return Err(Http2Error::Connection(Code::STREAM_CLOSED, "HEADERS on a closed stream"));
        }
        let refuse = |code, what| Err(Http2Error::Stream(id, code, what));
        if stream.recv_end || stream.is_closed {
            return refuse(Code::STREAM_CLOSED, "HEADERS after the end");
        }
        if !end_stream || decoded.is_malformed || decoded.is_too_large {
            return refuse(Code::PROTOCOL_ERROR, "bad trailers");
        }
        if stream.content_left.is_some_and(|n| n != 0) {
            return refuse(Code::PROTOCOL_ERROR, "length is not content-length");
        }
        match head::trailers(&decoded.headers) {
            Ok(trailers) => stream.trailers = Some(trailers),
            Err(what) => return refuse(Code::PROTOCOL_ERROR, what),
        }
        stream.recv_end = true;
        wake(&mut stream.reader);
        self.settle(id);
        Ok(())
    }

    fn on_reset(&mut self, id: u32, code: Code) -> Outcome {
        if self.is_idle(id) {
            return broken("RST_STREAM on an idle stream");
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.is_closed {
            return Ok(());
        }
        // A server that has said all it wants resets with NO_ERROR what it does not want to read.
        let is_mere_stop =
            self.config.role == Role::Client && code == Code::NO_ERROR && stream.recv_end;
        if !is_mere_stop {
            stream.reset = Some(code);
        }
        stream.send_done = true;
        stream.to_send.clear();
        stream.send_bytes = 0;
        wake(&mut stream.reader);
        wake(&mut stream.sender);
        self.close(id, false);
        self.count_reset()
    }

    /// Streams that are reset cost us more than their peer: only so many may be.
    fn count_reset(&mut self) -> Outcome {
        self.n_resets += u32::from(self.config.role == Role::Server);
        match self.n_resets > RESETS_MAX {
            true => {
                let what = "streams opened only to be reset";
                Err(Http2Error::Connection(Code::ENHANCE_YOUR_CALM, what))
            }
            false => Ok(()),
        }
    }

    fn on_settings(&mut self, values: &[u8]) -> Outcome {
        self.settings_came = true;
        for setting in codec::settings(values) {
            match setting? {
                Setting::HeaderTableSize(size) => self.encoder.resize(size as usize),
                Setting::MaxConcurrentStreams(n) => self.peer_streams_max = n,
                Setting::InitialWindowSize(size) => {
                    let change = size - self.peer_initial_window;
                    self.peer_initial_window = size;
                    let ids: Vec<u32> = self.streams.keys().copied().collect();
                    for id in ids {
                        self.widen(id, change).map_err(|_| {
                            let what = "INITIAL_WINDOW_SIZE overflows a window";
                            Http2Error::Connection(Code::FLOW_CONTROL_ERROR, what)
                        })?;
                    }
                }
                // We send frames of the least size every peer takes, and never push.
                Setting::MaxFrameSize(_)
                | Setting::EnablePush(_)
                | Setting::MaxHeaderListSize(_)
                | Setting::Unknown(..) => {}
            }
        }
        codec::emit_settings_ack(&mut self.control);
        Ok(())
    }

    fn on_window_update(&mut self, id: u32, increment: i64) -> Outcome {
        if id == 0 {
            self.send_window += increment;
            if self.send_window > codec::WINDOW_MAX {
                let what = "connection window overflows";
                return Err(Http2Error::Connection(Code::FLOW_CONTROL_ERROR, what));
            }
            return Ok(());
        }
        if self.is_idle(id) {
            return broken("WINDOW_UPDATE on an idle stream");
        }
        self.widen(id, increment)
    }

    fn widen(&mut self, id: u32, change: i64) -> Outcome {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.send_window += change;
        if stream.send_window > codec::WINDOW_MAX {
            return Err(Http2Error::Stream(id, Code::FLOW_CONTROL_ERROR, "window overflows"));
        }
        self.make_ready(id);
        Ok(())
    }

    fn on_goaway(&mut self, last_stream: u32, code: Code) {
        self.goaway_came = true;
        if self.config.role == Role::Server {
            return;
        }
        if code != Code::NO_ERROR {
            log::debug!("HTTP/2 server goes away: {code}");
        }
        let unseen: Vec<u32> =
            self.streams.range(last_stream.saturating_add(1)..).map(|s| *s.0).collect();
        for id in unseen {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.reset = Some(Code::REFUSED_STREAM);
                wake(&mut stream.reader);
                wake(&mut stream.sender);
            }
            self.close(id, false);
        }
    }

    /// Whether a stream was never opened.
    fn is_idle(&self, id: u32) -> bool {
        match (self.config.role, id % 2) {
            (Role::Server, 1) => id > self.last_peer_stream,
            (Role::Client, 1) => id >= self.next_local_stream,
            _ => true,
        }
    }

    /// Whether a frame for this stream may have crossed our reset of it, and is to be ignored.
    fn is_late(&self, id: u32) -> Outcome2 {
        if self.is_idle(id) {
            return Err(Http2Error::Connection(Code::PROTOCOL_ERROR, "frame on an idle stream"));
        }
        if self.goaway_sent.is_some_and(|last| id > last) {
            return Ok(true);
        }
        if let Some(stream) = self.streams.get(&id) {
            return Ok(stream.is_closed && self.was_reset_by_us(id));
        }
        Ok(self.was_reset_by_us(id))
    }

    fn was_reset_by_us(&self, id: u32) -> bool {
        self.closed.iter().any(|&(closed, by_us)| closed == id && by_us)
    }

    // ---- ends ----

    /// Resets a stream, whether it is there or not.
    pub(super) fn reset(&mut self, id: u32, code: Code) {
        codec::emit_reset(&mut self.control, id, code);
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.reset.get_or_insert(code);
                stream.to_send.clear();
                stream.send_bytes = 0;
                wake(&mut stream.reader);
                wake(&mut stream.sender);
                self.close(id, true);
            }
            None => self.remember_closed(id, true),
        }
        self.wake_driver();
    }

    /// Looks whether both directions of a stream are done.
    fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.recv_end && stream.send_done {
            self.n_resets = self.n_resets.saturating_sub(1);
            self.close(id, false);
        } else if stream.send_done && stream.reader_gone && stream.reset.is_none() {
            // The answer is complete and nobody will read the rest of the request.
            let code = match self.config.role {
                Role::Server => Code::NO_ERROR,
                Role::Client => Code::CANCEL,
            };
            self.reset(id, code);
        }
    }

    fn close(&mut self, id: u32, by_us: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !std::mem::replace(&mut stream.is_closed, true) {
            never!(self.n_open == 0, "A stream closes, and none is open");
            self.n_open -= 1;
            self.remember_closed(id, by_us);
            if self.n_open == 0 {
                self.idle_since = rt::now().mono;
                self.wake_driver();
            }
        }
        self.let_go(id);
    }

    fn remember_closed(&mut self, id: u32, by_us: bool) {
        if self.closed.len() == CLOSED_REMEMBERED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back((id, by_us));
    }

    /// Forgets a closed stream that nobody holds.
    fn let_go(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|stream| stream.is_closed && stream.n_handles == 0) {
            self.streams.remove(&id);
        }
    }

    /// One side of a stream is dropped by its user.
    pub(super) fn drop_handle(&mut self, id: u32, is_reader: bool) {
        let role = self.config.role;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.n_handles -= 1;
        let is_open = stream.reset.is_none() && !stream.is_closed;
        if is_reader {
            stream.reader_gone = true;
            let unread: usize = stream.received.drain(..).map(|bytes| bytes.len()).sum();
            let unfinished = is_open && !stream.recv_end;
            self.return_window(unread as i64);
            if unfinished && role == Role::Client {
                self.reset(id, Code::CANCEL);
            } else {
                self.settle(id);
            }
        } else if is_open && stream.send_end.is_none() && !stream.send_done {
            let code = if role == Role::Server { Code::INTERNAL_ERROR } else { Code::CANCEL };
            self.reset(id, code);
        }
        self.let_go(id);
    }

    /// Ends the connection for an error of the peer's.
    fn fail(&mut self, code: Code, what: &str) {
        self.send_goaway(self.last_peer_stream, code, what);
        self.end(format!("{code}: {what}"));
    }

    /// The connection is over: every stream is told.
    pub(super) fn end(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.block = None;
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            if let Some(stream) = self.streams.get_mut(&id) {
                if !(stream.recv_end && stream.send_done) {
                    stream.reset.get_or_insert(Code::CANCEL);
                }
                wake(&mut stream.reader);
                wake(&mut stream.sender);
            }
            self.close(id, false);
        }
        self.wake_driver();
    }

    pub(super) fn send_goaway(&mut self, last_stream: u32, code: Code, what: &str) {
        self.goaway_sent = Some(last_stream);
        codec::emit_goaway(&mut self.control, last_stream, code, what);
    }

    /// Starts a graceful end: the peer learns it first, and a round trip later which streams count.
    pub(super) fn drain(&mut self) {
        if self.goaway_sent.is_none() {
            match self.config.role {
                Role::Server => {
                    self.send_goaway(u32::MAX >> 1, Code::NO_ERROR, "");
                    codec::emit_ping(&mut self.control, false, *b"draining");
                }
                Role::Client => self.send_goaway(0, Code::NO_ERROR, ""),
            }
        }
    }

    // ---- what goes out ----

    /// Client: opens a stream.
    pub(super) fn open(
        &mut self,
        fields: &Headers,
        end_stream: bool,
        is_head: bool,
    ) -> Option<u32> {
        let is_full = self.n_open >= self.peer_streams_max as usize;
        let is_over = self.failure.is_some()
            || self.goaway_came
            || self.goaway_sent.is_some()
            || self.next_local_stream > WINDOW_MAX_U32;
        if is_full || is_over {
            return None;
        }
        let id = self.next_local_stream;
        self.next_local_stream += 2;
        let stream = Stream {
            is_head_request: is_head,
            recv_window: self.config.stream_window,
            send_window: self.peer_initial_window,
            n_handles: 2,
            ..Stream::default()
        };
        self.streams.insert(id, stream);
        self.n_open += 1;
        self.send_headers(id, fields, end_stream);
        Some(id)
    }

    pub(super) fn send_headers(&mut self, id: u32, fields: &Headers, end_stream: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed || stream.reset.is_some() {
            return;
        }
        let mut block = Vec::new();
        self.encoder.encode(fields, &mut block);
        codec::emit_headers(&mut self.control, id, &block, end_stream);
        if end_stream {
            stream.send_done = true;
            self.settle(id);
        }
        self.wake_driver();
    }

    pub(super) fn send_data(&mut self, id: u32, chunk: Chunk) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed || stream.reset.is_some() || chunk.is_empty() {
            return;
        }
        stream.send_bytes += chunk.len();
        stream.to_send.push_back(chunk);
        self.make_ready(id);
    }

    pub(super) fn send_end(&mut self, id: u32, trailers: Headers) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.send_end = Some(trailers);
        self.make_ready(id);
    }

    fn make_ready(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let can_send = match stream.to_send.is_empty() {
            true => stream.send_end.is_some(),
            false => stream.send_window > 0,
        };
        if can_send && !stream.is_ready && !stream.is_closed && !stream.send_done {
            stream.is_ready = true;
            self.ready.push_back(id);
            self.wake_driver();
        }
    }

    /// Bytes of a stream were read by the user: the peer may send as many again.
    pub(super) fn consumed(&mut self, id: u32, n_bytes: usize) {
        let n_bytes = n_bytes as i64;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.recv_unreturned += n_bytes;
            if stream.recv_unreturned >= self.config.stream_window / 2 && !stream.recv_end {
                let increment = std::mem::take(&mut stream.recv_unreturned);
                stream.recv_window += increment;
                let most = self.config.stream_window;
                never!(stream.recv_window > most, "A stream's peer may send more than was agreed");
                codec::emit_window_update(&mut self.control, id, increment);
                self.wake_driver();
            }
        }
        self.return_window(n_bytes);
    }

    fn return_window(&mut self, n_bytes: i64) {
        self.recv_unreturned += n_bytes;
        if self.recv_unreturned >= self.config.connection_window / 2 {
            let increment = std::mem::take(&mut self.recv_unreturned);
            self.recv_window += increment;
            let most = self.config.connection_window.max(codec::WINDOW_DEFAULT);
            never!(self.recv_window > most, "A peer may send more than was agreed");
            codec::emit_window_update(&mut self.control, 0, increment);
            self.wake_driver();
        }
    }

    /// Appends what is to be sent next, about `max_bytes`.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>, max_bytes: usize) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.control);
        } else {
            out.append(&mut self.control);
        }
        while out.len() < max_bytes {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.is_ready = false;
            if stream.is_closed || stream.send_done {
                continue;
            }
            if let Some(chunk) = stream.to_send.front_mut() {
                let window = usize::try_from(stream.send_window.min(self.send_window)).unwrap_or(0);
                let n = chunk.len().min(FRAME_MAX_BYTES).min(window);
                if n == 0 {
                    if stream.send_window > 0 {
                        // The connection's window is used up: everybody waits.
                        stream.is_ready = true;
                        self.ready.push_front(id);
                        return;
                    }
                    continue;
                }
                let is_last = n == chunk.len() && stream.to_send.len() == 1;
                let ends = is_last && stream.send_end.as_ref().is_some_and(Headers::is_empty);
                if let Some(chunk) = stream.to_send.front_mut() {
                    codec::emit_data(out, id, &chunk[..n], ends);
                    chunk.advance(n);
                    if chunk.is_empty() {
                        stream.to_send.pop_front();
                    }
                }
                if stream.to_send.is_empty() {
                    stream.to_send = VecDeque::new();
                }
                never!(stream.send_bytes < n, "A stream sends more than was given to it");
                never!(stream.send_done, "A stream sends after its end");
                stream.send_bytes -= n;
                stream.send_window -= n as i64;
                self.send_window -= n as i64;
                never!(self.send_window < 0, "A connection sends more than its peer allows");
                never!(stream.send_window < 0, "A stream sends more than its peer allows");
                self.n_unhelpful = 0;
                stream.send_done = ends;
                if stream.send_bytes < SEND_BUFFERED_MAX_BYTES {
                    wake(&mut stream.sender);
                }
                if ends {
                    self.settle(id);
                } else {
                    self.make_ready(id);
                }
            } else if let Some(trailers) = stream.send_end.take() {
                stream.send_done = true;
                if trailers.is_empty() {
                    codec::emit_data(out, id, &[], true);
                } else {
                    let mut fields = Headers::new();
                    head::append_regular(&mut fields, &trailers);
                    let mut block = Vec::new();
                    self.encoder.encode(&fields, &mut block);
                    codec::emit_headers(out, id, &block, true);
                }
                self.settle(id);
            }
        }
    }

    /// Whether nothing is left to do on a connection that was told to end.
    pub(super) fn is_finished(&self) -> bool {
        let may_end = self.failure.is_some()
            || ((self.goaway_sent.is_some_and(|last| last != u32::MAX >> 1)
                || self.goaway_came
                || self.is_abandoned)
                && self.n_open == 0);
        may_end && self.control.is_empty() && self.opened.is_empty()
    }

    pub(super) fn wake_driver(&mut self) {
        wake(&mut self.driver);
    }
}

const WINDOW_MAX_U32: u32 = 0x7fff_ffff;
type Outcome2 = Result<bool, Http2Error>;

fn broken(what: &'static str) -> Outcome {
    Err(Http2Error::Connection(Code::PROTOCOL_ERROR, what))
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
