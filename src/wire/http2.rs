//! HTTP/2 frames (RFC 9113): parse and emit, with the checks that need nothing but the frame itself.
//!
//! Never panics on any input and allocates nothing while parsing; the caller's buffer is bounded by
//! `FRAME_MAX_BYTES` and the nine bytes of a frame header.

use std::fmt;

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest payload we take and send: the protocol's default.
pub const FRAME_MAX_BYTES: usize = 16_384;
pub const HEADER_BYTES: usize = 9;
/// Flow-control windows before any setting, and the most they may become.
pub const WINDOW_DEFAULT: i64 = 65_535;
pub const WINDOW_MAX: i64 = 0x7fff_ffff;

/// Error codes; unknown ones keep their number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Code = Code(0);
    pub const PROTOCOL_ERROR: Code = Code(1);
    pub const INTERNAL_ERROR: Code = Code(2);
    pub const FLOW_CONTROL_ERROR: Code = Code(3);
    pub const STREAM_CLOSED: Code = Code(5);
    pub const FRAME_SIZE_ERROR: Code = Code(6);
    pub const REFUSED_STREAM: Code = Code(7);
    pub const CANCEL: Code = Code(8);
    pub const COMPRESSION_ERROR: Code = Code(9);
    pub const ENHANCE_YOUR_CALM: Code = Code(11);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a bad frame breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Error {
    Connection(Code, &'static str),
    Stream(u32, Code, &'static str),
}

impl fmt::Display for Http2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Http2Error::Connection(code, what) => write!(f, "{code}: {what}"),
            Http2Error::Stream(id, code, what) => write!(f, "stream {id}: {code}: {what}"),
        }
    }
}
impl std::error::Error for Http2Error {}

/// One received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `flow_bytes` counts the padding, as flow control does.
    Data {
        stream: u32,
        data: &'a [u8],
        flow_bytes: usize,
        end_stream: bool,
    },
    Headers {
        stream: u32,
        block: &'a [u8],
        end_stream: bool,
        end_headers: bool,
    },
    Priority {
        stream: u32,
    },
    Reset {
        stream: u32,
        code: Code,
    },
    /// Six bytes a setting; see `settings`.
    Settings {
        values: &'a [u8],
    },
    SettingsAck,
    PushPromise {
        stream: u32,
    },
    Ping {
        ack: bool,
        data: [u8; 8],
    },
    GoAway {
        last_stream: u32,
        code: Code,
        debug: &'a [u8],
    },
    WindowUpdate {
        stream: u32,
        increment: i64,
    },
    Continuation {
        stream: u32,
        block: &'a [u8],
        end_headers: bool,
    },
    /// A type we do not know, to be ignored.
    Unknown {
        stream: u32,
    },
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;

/// Parses the next frame; `None` if it is not complete. Gives the frame's whole length as well, also
/// with a stream error, after which the caller goes on behind the frame.
pub fn parse(input: &[u8]) -> Option<(Result<Frame<'_>, Http2Error>, usize)> {
    let header = input.get(..HEADER_BYTES)?;
    let length =
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
    if length > FRAME_MAX_BYTES {
        let error = Http2Error::Connection(Code::FRAME_SIZE_ERROR, "frame too long");
        return Some((Err(error), input.len()));
    }
    let payload = input.get(HEADER_BYTES..HEADER_BYTES + length)?;
    let stream = u32_at(header, 5) & 0x7fff_ffff;
    Some((parse_payload(header[3], header[4], stream, payload), HEADER_BYTES + length))
}

fn parse_payload(
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> Result<Frame<'_>, Http2Error> {
    let size = |ok: bool| match ok {
        true => Ok(()),
        false => Err(Http2Error::Connection(Code::FRAME_SIZE_ERROR, "length of a frame")),
    };
    let on_stream = |wanted: bool| match wanted == (stream != 0) {
        true => Ok(()),
        false => Err(Http2Error::Connection(Code::PROTOCOL_ERROR, "stream of a frame")),
    };
    let has = |flag: u8| flags & flag != 0;
    match kind {
        DATA => {
            on_stream(true)?;
            let data = unpad(payload, has(PADDED))?;
            let end_stream = has(END_STREAM);
            Ok(Frame::Data { stream, data, flow_bytes: payload.len(), end_stream })
        }
        HEADERS => {
            on_stream(true)?;
            let mut block = unpad(payload, has(PADDED))?;
            if has(PRIORITIZED) {
                size(block.len() >= 5)?;
                if u32_at(block, 0) & 0x7fff_ffff == stream {
                    let what = "stream depends on itself";
                    // The block must be decoded all the same, so the whole connection goes.
                    return Err(Http2Error::Connection(Code::PROTOCOL_ERROR, what));
                }
                block = &block[5..];
            }
            let (end_stream, end_headers) = (has(END_STREAM), has(END_HEADERS));
            Ok(Frame::Headers { stream, block, end_stream, end_headers })
        }
        PRIORITY => {
            on_stream(true)?;
            if payload.len() != 5 {
                return Err(Http2Error::Stream(stream, Code::FRAME_SIZE_ERROR, "PRIORITY"));
            }
            if u32_at(payload, 0) & 0x7fff_ffff == stream {
                let what = "stream depends on itself";
                return Err(Http2Error::Stream(stream, Code::PROTOCOL_ERROR, what));
            }
            Ok(Frame::Priority { stream })
        }
        RST_STREAM => {
            on_stream(true)?;
            size(payload.len() == 4)?;
            Ok(Frame::Reset { stream, code: Code(u32_at(payload, 0)) })
        }
        SETTINGS => {
            on_stream(false)?;
            if has(ACK) {
                size(payload.is_empty())?;
                return Ok(Frame::SettingsAck);
            }
            size(payload.len().is_multiple_of(6))?;
            Ok(Frame::Settings { values: payload })
        }
        PUSH_PROMISE => {
            on_stream(true)?;
            Ok(Frame::PushPromise { stream })
        }
        PING => {
            on_stream(false)?;
            size(payload.len() == 8)?;
            let mut data = [0; 8];
            data.copy_from_slice(payload);
            Ok(Frame::Ping { ack: has(ACK), data })
        }
        GOAWAY => {
            on_stream(false)?;
            size(payload.len() >= 8)?;
            let last_stream = u32_at(payload, 0) & 0x7fff_ffff;
            Ok(Frame::GoAway { last_stream, code: Code(u32_at(payload, 4)), debug: &payload[8..] })
        }
        WINDOW_UPDATE => {
            size(payload.len() == 4)?;
            let increment = i64::from(u32_at(payload, 0) & 0x7fff_ffff);
            match (increment, stream) {
                (0, 0) => Err(Http2Error::Connection(Code::PROTOCOL_ERROR, "increment of zero")),
                (0, _) => {
                    Err(Http2Error::Stream(stream, Code::PROTOCOL_ERROR, "increment of zero"))
                }
                _ => Ok(Frame::WindowUpdate { stream, increment }),
            }
        }
        CONTINUATION => {
            on_stream(true)?;
            Ok(Frame::Continuation { stream, block: payload, end_headers: has(END_HEADERS) })
        }
        _ => Ok(Frame::Unknown { stream }),
    }
}

fn unpad(payload: &[u8], is_padded: bool) -> Result<&[u8], Http2Error> {
    if !is_padded {
        return Ok(payload);
    }
    let (&n_pad, rest) = payload
        .split_first()
        .ok_or(Http2Error::Connection(Code::FRAME_SIZE_ERROR, "length of a frame"))?;
    rest.len()
        .checked_sub(usize::from(n_pad))
        .map(|n| &rest[..n])
        .ok_or(Http2Error::Connection(Code::PROTOCOL_ERROR, "padding"))
}

/// The four bytes at `at`, which the caller has checked to be there; 0 if not.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or([0; 4]))
}

/// One setting; unknown ones are to be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    HeaderTableSize(u32),
    EnablePush(bool),
    MaxConcurrentStreams(u32),
    InitialWindowSize(i64),
    MaxFrameSize(usize),
    MaxHeaderListSize(u32),
    Unknown(u16, u32),
}

/// The settings of a SETTINGS frame's payload.
pub fn settings(values: &[u8]) -> impl Iterator<Item = Result<Setting, Http2Error>> {
    values.chunks_exact(6).map(|six| {
        let value = u32_at(six, 2);
        let bad = |code, what| Err(Http2Error::Connection(code, what));
        Ok(match u16::from_be_bytes([six[0], six[1]]) {
            1 => Setting::HeaderTableSize(value),
            2 if value > 1 => return bad(Code::PROTOCOL_ERROR, "ENABLE_PUSH"),
            2 => Setting::EnablePush(value == 1),
            3 => Setting::MaxConcurrentStreams(value),
            4 if i64::from(value) > WINDOW_MAX => {
                return bad(Code::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE");
            }
            4 => Setting::InitialWindowSize(i64::from(value)),
            5 if !(16_384..=16_777_215).contains(&value) => {
                return bad(Code::PROTOCOL_ERROR, "MAX_FRAME_SIZE");
            }
            5 => Setting::MaxFrameSize(value as usize),
            6 => Setting::MaxHeaderListSize(value),
            other => Setting::Unknown(other, value),
        })
    })
}

fn emit_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    // Callers keep payloads within `FRAME_MAX_BYTES`, which fits 24 bits.
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends a DATA frame; `data` must be at most `FRAME_MAX_BYTES`.
pub fn emit_data(out: &mut Vec<u8>, stream: u32, data: &[u8], end_stream: bool) {
    emit_header(out, data.len(), DATA, if end_stream { END_STREAM } else { 0 }, stream);
    out.extend_from_slice(data);
}

/// Appends a header block as HEADERS and as many CONTINUATION frames as it takes.
pub fn emit_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool) {
    let (first, mut rest) = block.split_at(block.len().min(FRAME_MAX_BYTES));
    let mut flags = if end_stream { END_STREAM } else { 0 };
    flags |= if rest.is_empty() { END_HEADERS } else { 0 };
    emit_header(out, first.len(), HEADERS, flags, stream);
    out.extend_from_slice(first);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(FRAME_MAX_BYTES));
        let flags = if after.is_empty() { END_HEADERS } else { 0 };
        emit_header(out, next.len(), CONTINUATION, flags, stream);
        out.extend_from_slice(next);
        rest = after;
    }
}

pub fn emit_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    emit_header(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// Appends SETTINGS with these numbers and values.
pub fn emit_settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    emit_header(out, 6 * values.len(), SETTINGS, 0, 0);
    for (number, value) in values {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn emit_settings_ack(out: &mut Vec<u8>) {
    emit_header(out, 0, SETTINGS, ACK, 0);
}

pub fn emit_ping(out: &mut Vec<u8>, ack: bool, data: [u8; 8]) {
    emit_header(out, 8, PING, if ack { ACK } else { 0 }, 0);
    out.extend_from_slice(&data);
}

pub fn emit_goaway(out: &mut Vec<u8>, last_stream: u32, code: Code, debug: &str) {
    emit_header(out, 8 + debug.len().min(256), GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(&debug.as_bytes()[..debug.len().min(256)]);
}

/// Appends WINDOW_UPDATE; `increment` must be in 1..=`WINDOW_MAX`.
pub fn emit_window_update(out: &mut Vec<u8>, stream: u32, increment: i64) {
    emit_header(out, 4, WINDOW_UPDATE, 0, stream);
    let increment = u32::try_from(increment.clamp(1, WINDOW_MAX)).unwrap_or(1);
    out.extend_from_slice(&increment.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    fn every_frame() -> Vec<u8> {
        let mut out = Vec::new();
        emit_settings(&mut out, &[(1, 4096), (4, 70_000), (99, 1)]);
        emit_settings_ack(&mut out);
        emit_headers(&mut out, 1, &[0x82; 20_000], false);
        emit_data(&mut out, 1, b"hello", true);
        emit_ping(&mut out, true, [7; 8]);
        emit_window_update(&mut out, 1, 5);
        emit_reset(&mut out, 1, Code::CANCEL);
        emit_goaway(&mut out, 1, Code::NO_ERROR, "bye");
        out
    }

    #[test]
    fn frames_survive_the_trip() {
        let bytes = every_frame();
        let (mut at, mut seen) = (0, Vec::new());
        while let Some((frame, length)) = parse(&bytes[at..]) {
            assert!(parse(&bytes[at..at + length - 1]).is_none());
            let text = format!("{:?}", frame.unwrap());
            seen.push(text.split([' ', '{']).next().unwrap_or("").to_owned());
            at += length;
        }
        assert_eq!(at, bytes.len());
        assert_eq!(
            seen.join(" "),
            "Settings SettingsAck Headers Continuation Data Ping WindowUpdate Reset GoAway"
        );
    }

    #[test]
    fn bad_frames_are_errors_of_the_right_size() {
        let check = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
            let mut bytes = Vec::new();
            emit_header(&mut bytes, payload.len(), kind, flags, stream);
            bytes.extend_from_slice(payload);
            match parse(&bytes).unwrap().0 {
                Err(Http2Error::Connection(code, _)) => format!("connection {code}"),
                Err(Http2Error::Stream(_, code, _)) => format!("stream {code}"),
                Ok(frame) => panic!("{frame:?}"),
            }
        };
        assert_eq!(check(DATA, 0, 0, b""), "connection PROTOCOL_ERROR");
        assert_eq!(check(DATA, PADDED, 1, b"\x05aaaa"), "connection PROTOCOL_ERROR");
        assert_eq!(check(HEADERS, PRIORITIZED, 1, b"1234"), "connection FRAME_SIZE_ERROR");
        assert_eq!(check(PRIORITY, 0, 1, b"1234"), "stream FRAME_SIZE_ERROR");
        assert_eq!(check(SETTINGS, ACK, 0, b"123456"), "connection FRAME_SIZE_ERROR");
        assert_eq!(check(WINDOW_UPDATE, 0, 1, &[0; 4]), "stream PROTOCOL_ERROR");
        assert_eq!(check(PING, 0, 0, b"1234567"), "connection FRAME_SIZE_ERROR");
    }

    #[test]
    fn random_and_mutated_frames_never_panic() {
        let mut prng = Prng::new(3);
        let valid = every_frame();
        for _ in 0..3000 {
            let mut bytes = valid.clone();
            for _ in 0..1 + prng.below(8) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            let mut at = 0;
            while let Some((frame, length)) = parse(&bytes[at..]) {
                if let Ok(Frame::Settings { values }) = frame {
                    settings(values).for_each(drop);
                }
                at += length;
            }
        }
    }
}
