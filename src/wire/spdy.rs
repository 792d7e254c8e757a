//! SPDY/3.1 frames and header blocks, as Kubernetes' exec, attach and port-forward speak it.
//!
//! Header blocks are one zlib stream a direction, primed with a dictionary. Inflating is miniz_oxide's
//! over a window seeded with the dictionary; deflating uses stored blocks, since the few headers of a
//! session are not worth a compressor's 300 KiB. Never panics on any input; a header block is bounded
//! by `BLOCK_MAX_BYTES`, inflated or not, and DATA is passed through without being gathered.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use stdx::Arrange;

use crate::headers::{Headers, is_name};

/// Every frame's header.
pub const HEADER_BYTES: usize = 8;
/// A control frame's payload, and a header block when inflated.
pub const BLOCK_MAX_BYTES: usize = 32 * 1024;
/// The window of a stream and of the connection before any setting.
pub const WINDOW_DEFAULT: i64 = 64 * 1024;
/// The most data we put into one frame.
pub const DATA_MAX_BYTES: usize = 16 * 1024;

/// Status codes of RST_STREAM.
pub const RESET_PROTOCOL_ERROR: u32 = 1;
pub const RESET_INVALID_STREAM: u32 = 2;
pub const RESET_REFUSED_STREAM: u32 = 3;
pub const RESET_CANCEL: u32 = 5;
pub const RESET_FLOW_CONTROL_ERROR: u32 = 7;

const WINDOW_BYTES: usize = 32 * 1024;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const SETTING_INITIAL_WINDOW_SIZE: u32 = 7;

/// What a session cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpdyError(pub &'static str);

impl fmt::Display for SpdyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SPDY: {}", self.0)
    }
}
impl std::error::Error for SpdyError {}

/// One received frame. Header blocks are still deflated and must be inflated in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    SynStream {
        stream: u32,
        block: &'a [u8],
        fin: bool,
        unidirectional: bool,
    },
    SynReply {
        stream: u32,
        block: &'a [u8],
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    /// The new initial window, if the settings hold one.
    Settings {
        initial_window: Option<i64>,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        block: &'a [u8],
        fin: bool,
    },
    WindowUpdate {
        stream: u32,
        delta: i64,
    },
    /// The head of a DATA frame; `length` bytes of data follow it.
    Data {
        stream: u32,
        length: usize,
        fin: bool,
    },
    /// A type we do not know, to be ignored.
    Unknown,
}

/// Parses the next frame (of DATA, its head only); `None` if it is not complete. Gives the bytes used.
pub fn parse(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, SpdyError> {
    let Some(header) = input.get(..HEADER_BYTES) else { return Ok(None) };
    let first = u32_at(header, 0)?;
    let (flags, length) = (header[4], u32_at(header, 4)? as usize & 0x00ff_ffff);
    let fin = flags & FLAG_FIN != 0;
    if first & 0x8000_0000 == 0 {
        return Ok(Some((Frame::Data { stream: first, length, fin }, HEADER_BYTES)));
    }
    if first >> 16 & 0x7fff != 3 {
        return Err(SpdyError("version is not 3"));
    }
    if length > BLOCK_MAX_BYTES {
        return Err(SpdyError("control frame too long"));
    }
    let Some(payload) = input.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
    // The kind is the low half of the first word.
    let frame = match (first & 0xffff) as u16 {
        SYN_STREAM => Frame::SynStream {
            stream: stream_at(payload, 0)?,
            block: payload.get(10..).ok_or(SpdyError("SYN_STREAM"))?,
            fin,
            unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
        },
        SYN_REPLY => Frame::SynReply { stream: stream_at(payload, 0)?, block: &payload[4..], fin },
        RST_STREAM => Frame::Reset { stream: stream_at(payload, 0)?, status: u32_at(payload, 4)? },
        SETTINGS => Frame::Settings { initial_window: initial_window(payload)? },
        PING => Frame::Ping { id: u32_at(payload, 0)? },
        GOAWAY => {
            Frame::GoAway { last_stream: stream_at(payload, 0)?, status: u32_at(payload, 4)? }
        }
        HEADERS => Frame::Headers { stream: stream_at(payload, 0)?, block: &payload[4..], fin },
        WINDOW_UPDATE => Frame::WindowUpdate {
            stream: stream_at(payload, 0)?,
            delta: i64::from(u32_at(payload, 4)? & 0x7fff_ffff),
        },
        _ => Frame::Unknown,
    };
    Ok(Some((frame, HEADER_BYTES + length)))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, SpdyError> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_be_bytes).ok_or(SpdyError("truncated frame"))
}

fn stream_at(bytes: &[u8], at: usize) -> Result<u32, SpdyError> {
    Ok(u32_at(bytes, at)? & 0x7fff_ffff)
}

fn initial_window(payload: &[u8]) -> Result<Option<i64>, SpdyError> {
    let mut window = None;
    for entry in payload.get(4..).ok_or(SpdyError("truncated frame"))?.chunks_exact(8) {
        if u32_at(entry, 0)? & 0x00ff_ffff == SETTING_INITIAL_WINDOW_SIZE {
            window = Some(i64::from(u32_at(entry, 4)? & 0x7fff_ffff));
        }
    }
    Ok(window)
}

/// The receiving side's zlib stream.
pub struct HeaderDecoder {
    inflater: Box<DecompressorOxide>,
    /// What was inflated last, as a ring; deflate refers back into it.
    window: Box<[u8]>,
    at: usize,
    header_left: usize,
}

impl HeaderDecoder {
    pub fn new() -> HeaderDecoder {
        let mut window = vec![0; WINDOW_BYTES].into_boxed_slice();
        let dictionary = dictionary();
        window[..dictionary.len()].copy_from_slice(&dictionary);
        HeaderDecoder { inflater: Box::default(), window, at: dictionary.len(), header_left: 6 }
    }

    /// Inflates and parses one header block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut input = block;
        while self.header_left > 0 {
            let Some((&byte, rest)) = input.split_first() else { break };
            // Two bytes say deflate with a dictionary, four which one.
            let is_right = match self.header_left {
                6 => byte & 0x0f == 8,
                5 => byte & 0x20 != 0,
                n => byte == DICTIONARY_ID.to_be_bytes()[4 - n],
            };
            if !is_right {
                return Err(SpdyError("zlib header"));
            }
            self.header_left -= 1;
            input = rest;
        }
        let mut text = Vec::new();
        loop {
            let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
            let (status, n_in, n_out) =
                decompress(&mut self.inflater, input, &mut self.window, self.at, flags);
            text.extend_from_slice(&self.window[self.at..self.at + n_out]);
            self.at = (self.at + n_out) % WINDOW_BYTES;
            input = &input[n_in..];
            if text.len() > BLOCK_MAX_BYTES {
                return Err(SpdyError("header block too long"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => break,
                _ => return Err(SpdyError("header block does not inflate")),
            }
        }
        parse_fields(&text)
    }
}

impl Default for HeaderDecoder {
    fn default() -> HeaderDecoder {
        HeaderDecoder::new()
    }
}

impl fmt::Debug for HeaderDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("spdy::HeaderDecoder")
    }
}

fn parse_fields(text: &[u8]) -> Result<Headers, SpdyError> {
    fn piece<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SpdyError> {
        let length = u32_at(rest, 0)? as usize;
        let piece = rest.get(4..).and_then(|rest| rest.get(..length));
        let piece = piece.ok_or(SpdyError("truncated header block"))?;
        *rest = &rest[4 + length..];
        Ok(piece)
    }
    let n_fields = u32_at(text, 0)?;
    let mut rest = &text[4..];
    let mut headers = Headers::new();
    for _ in 0..n_fields {
        let (name, values) = (piece(&mut rest)?, piece(&mut rest)?);
        let name = std::str::from_utf8(name).map_err(|_| SpdyError("header name"))?;
        if !is_name(name.as_bytes()) {
            return Err(SpdyError("header name"));
        }
        for value in values.split(|&b| b == 0) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// The sending side's zlib stream.
#[derive(Debug, Default)]
pub struct HeaderEncoder {
    header_sent: bool,
}

impl HeaderEncoder {
    pub fn new() -> HeaderEncoder {
        HeaderEncoder::default()
    }

    fn encode(&mut self, headers: &Headers) -> Vec<u8> {
        let mut text = Vec::new();
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| name).collect();
        names.arrange();
        names.dedup();
        push_u32(&mut text, names.len());
        for name in names {
            push_u32(&mut text, name.len());
            text.extend_from_slice(name.as_bytes());
            let values: Vec<&[u8]> =
                headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value).collect();
            let values = values.join(&0);
            push_u32(&mut text, values.len());
            text.extend_from_slice(&values);
        }
        let mut block = Vec::new();
        if !std::mem::replace(&mut self.header_sent, true) {
            block.extend_from_slice(&[0x78, 0x20]);
            block.extend_from_slice(&DICTIONARY_ID.to_be_bytes());
        }
        // The empty last block is what a zlib flush ends with; Go's reader gives out its data there.
        for stored in text.chunks(0xffff).chain([&[][..]]) {
            let length = u16::try_from(stored.len()).unwrap_or(0);
            block.push(0);
            block.extend_from_slice(&length.to_le_bytes());
            block.extend_from_slice(&(!length).to_le_bytes());
            block.extend_from_slice(stored);
        }
        block
    }

    /// Appends SYN_STREAM.
    pub fn emit_syn_stream(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        headers: &Headers,
        fin: bool,
    ) {
        let block = self.encode(headers);
        emit_control(out, SYN_STREAM, fin, 10 + block.len());
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&block);
    }

    /// Appends SYN_REPLY.
    pub fn emit_syn_reply(&mut self, out: &mut Vec<u8>, stream: u32, headers: &Headers) {
        let block = self.encode(headers);
        emit_control(out, SYN_REPLY, false, 4 + block.len());
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(&block);
    }
}

fn push_u32(out: &mut Vec<u8>, n: usize) {
    // Lengths here are of headers we made, far below 4 GiB.
    out.extend_from_slice(&(n as u32).to_be_bytes());
}

fn emit_control(out: &mut Vec<u8>, kind: u16, fin: bool, length: usize) {
    out.extend_from_slice(&0x8003u16.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let flags = if fin { u32::from(FLAG_FIN) << 24 } else { 0 };
    out.extend_from_slice(&(flags | length as u32 & 0x00ff_ffff).to_be_bytes());
}

fn emit_numbers(out: &mut Vec<u8>, kind: u16, numbers: &[u32]) {
    emit_control(out, kind, false, 4 * numbers.len());
    numbers.iter().for_each(|n| out.extend_from_slice(&n.to_be_bytes()));
}

pub fn emit_reset(out: &mut Vec<u8>, stream: u32, status: u32) {
    emit_numbers(out, RST_STREAM, &[stream, status]);
}

pub fn emit_ping(out: &mut Vec<u8>, id: u32) {
    emit_numbers(out, PING, &[id]);
}

pub fn emit_goaway(out: &mut Vec<u8>, last_stream: u32, status: u32) {
    emit_numbers(out, GOAWAY, &[last_stream, status]);
}

pub fn emit_window_update(out: &mut Vec<u8>, stream: u32, delta: i64) {
    let delta = u32::try_from(delta.clamp(1, 0x7fff_ffff)).unwrap_or(1);
    emit_numbers(out, WINDOW_UPDATE, &[stream, delta]);
}

/// Appends DATA; `data` must be at most `DATA_MAX_BYTES`.
pub fn emit_data(out: &mut Vec<u8>, stream: u32, data: &[u8], fin: bool) {
    out.extend_from_slice(&stream.to_be_bytes());
    let flags = if fin { u32::from(FLAG_FIN) << 24 } else { 0 };
    out.extend_from_slice(&(flags | data.len() as u32 & 0x00ff_ffff).to_be_bytes());
    out.extend_from_slice(data);
}

/// The checksum of the dictionary, by which zlib names it.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

/// The dictionary of the specification: words with their lengths, then loose text.
fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in DICTIONARY_WORDS.split('|') {
        push_u32(&mut dictionary, word.len());
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(DICTIONARY_TEXT.as_bytes());
    dictionary
}

const DICTIONARY_WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|\
    accept-encoding|accept-language|accept-ranges|age|allow|authorization|cache-control|connection|\
    content-base|content-encoding|content-language|content-length|content-location|content-md5|\
    content-range|content-type|date|etag|expect|expires|from|host|if-match|if-modified-since|\
    if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
    proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|\
    transfer-encoding|upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|\
    version|HTTP/1.1|url|public|set-cookie|keep-alive|origin";

const DICTIONARY_TEXT: &str = "1001012012022052063003023033043053063074024054064074084094104114124134\
    14415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 \
    Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, \
    Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
    application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    #[test]
    fn the_dictionary_is_the_one_zlib_expects() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(b << 16 | a, DICTIONARY_ID);
    }

    #[test]
    fn header_blocks_survive_the_trip() {
        let (mut encoder, mut decoder) = (HeaderEncoder::new(), HeaderDecoder::new());
        for n in 0..200 {
            let headers = Headers::new()
                .with("Streamtype", "stdin")
                .with("port", n.to_string())
                .with("x", "a")
                .with("x", vec![b'z'; 37 * n]);
            let block = encoder.encode(&headers);
            let decoded = decoder.decode(&block).unwrap();
            assert_eq!(decoded.get("streamtype"), Some("stdin"));
            assert_eq!(decoded.get_all("x").map(str::len).collect::<Vec<_>>(), [1, 37 * n]);
        }
    }

    /// Made by zlib itself, with the dictionary and a sync flush after each of two blocks.
    #[test]
    fn blocks_of_zlib_inflate() {
        let mut decoder = HeaderDecoder::new();
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2)
                .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
                .collect()
        };
        let first = decoder.decode(&hex(ZLIB_FIRST)).unwrap();
        assert_eq!(
            first,
            Headers::new().with("content-type", "text/plain").with("streamtype", "error")
        );
        let second = decoder.decode(&hex(ZLIB_SECOND)).unwrap();
        assert_eq!(second.get("streamtype"), Some("stdout"));
    }
    const ZLIB_FIRST: &str = "78f9e3c6a7c202e50e2c850917c215e0545852949a980b95634d054503000000ffff";
    const ZLIB_SECOND: &str = "2243233023a4e4979600000000ffff";

    #[test]
    fn frames_survive_the_trip() {
        let (mut out, mut encoder) = (Vec::new(), HeaderEncoder::new());
        encoder.emit_syn_stream(&mut out, 1, &Headers::new().with("a", "b"), true);
        encoder.emit_syn_reply(&mut out, 1, &Headers::new());
        emit_reset(&mut out, 1, RESET_CANCEL);
        emit_ping(&mut out, 7);
        emit_goaway(&mut out, 1, 0);
        emit_window_update(&mut out, 1, 5);
        emit_data(&mut out, 1, b"", true);
        let (mut at, mut seen) = (0, Vec::new());
        while let Some((frame, length)) = parse(&out[at..]).unwrap() {
            seen.push(format!("{frame:?}").split([' ', '{']).next().unwrap_or("").to_owned());
            at += length;
        }
        assert_eq!(seen.join(" "), "SynStream SynReply Reset Ping GoAway WindowUpdate Data");
        assert_eq!(at, out.len());
    }

    #[test]
    fn random_and_mutated_frames_never_panic() {
        let mut prng = Prng::new(11);
        let (mut valid, mut encoder) = (Vec::new(), HeaderEncoder::new());
        encoder.emit_syn_stream(&mut valid, 1, &Headers::new().with("a", "b"), true);
        emit_reset(&mut valid, 1, RESET_CANCEL);
        emit_window_update(&mut valid, 1, 5);
        for _ in 0..3000 {
            let mut bytes = valid.clone();
            for _ in 0..1 + prng.below(6) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            let (mut at, mut decoder) = (0, HeaderDecoder::new());
            while let Ok(Some((frame, length))) = parse(&bytes[at..]) {
                if let Frame::SynStream { block, .. } = frame {
                    let _ = decoder.decode(block);
                }
                at += length;
            }
        }
    }
}
