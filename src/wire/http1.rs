//! HTTP/1 heads (over httparse), body framing, chunked coding and dates, both directions, no I/O.
//!
//! Strict where leniency allows request smuggling: one framing per message, no folded lines, no
//! differing lengths. Never panics on any input; a head is bounded by the caller, a chunk-size line
//! and the trailers by constants here.

use std::fmt;

use crate::headers::Headers;

/// Fields in one head.
pub const FIELDS_MAX: usize = 128;
/// A chunk-size line with its extensions, in bytes.
const CHUNK_LINE_MAX_BYTES: usize = 256;
/// The trailer section of a chunked body, in bytes.
const TRAILERS_MAX_BYTES: usize = 8 * 1024;

/// Why a message is refused. `TooLarge` is answered 431, `Unsupported` 501, the others 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http1Error {
    Malformed(&'static str),
    TooLarge,
    Unsupported(&'static str),
}

impl fmt::Display for Http1Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Http1Error::Malformed(what) => write!(f, "malformed HTTP/1 message: {what}"),
            Http1Error::TooLarge => f.write_str("HTTP/1 head too large"),
            Http1Error::Unsupported(what) => write!(f, "unsupported: {what}"),
        }
    }
}
impl std::error::Error for Http1Error {}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    /// 0 or 1.
    pub minor: u8,
    pub headers: Headers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    pub minor: u8,
    pub headers: Headers,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// Responses only: the body ends with the connection.
    UntilClose,
}

/// Whether `input` holds a whole head, looking only at what came after the first `seen` bytes.
pub fn has_head(input: &[u8], seen: usize) -> bool {
    let recent = &input[seen.saturating_sub(3).min(input.len())..];
    recent.windows(4).any(|w| w == b"\r\n\r\n") || recent.windows(2).any(|w| w == b"\n\n")
}

/// Parses a request head; `None` if it is not complete, else the head and its length in bytes.
pub fn parse_request(input: &[u8]) -> Result<Option<(RequestHead, usize)>, Http1Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(input).map_err(refuse)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let head = RequestHead {
        method: head.method.unwrap_or("").to_owned(),
        target: head.path.unwrap_or("").to_owned(),
        minor: head.version.unwrap_or(0),
        headers: collect(head.headers),
    };
    Ok(Some((head, length)))
}

/// Parses a response head; `None` if it is not complete, else the head and its length in bytes.
pub fn parse_response(input: &[u8]) -> Result<Option<(ResponseHead, usize)>, Http1Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(input).map_err(refuse)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let head = ResponseHead {
        status: head.code.unwrap_or(0),
        minor: head.version.unwrap_or(0),
        headers: collect(head.headers),
    };
    Ok(Some((head, length)))
}

fn refuse(error: httparse::Error) -> Http1Error {
    match error {
        httparse::Error::TooManyHeaders => Http1Error::TooLarge,
        httparse::Error::Version => Http1Error::Unsupported("HTTP version"),
        httparse::Error::HeaderName => Http1Error::Malformed("field name"),
        httparse::Error::HeaderValue => Http1Error::Malformed("field value"),
        _ => Http1Error::Malformed("first line"),
    }
}

fn collect(fields: &[httparse::Header<'_>]) -> Headers {
    let mut headers = Headers::new();
    for field in fields {
        headers.append(field.name, field.value);
    }
    headers
}

/// The framing of a request's body.
pub fn request_framing(headers: &Headers, minor: u8) -> Result<Framing, Http1Error> {
    match explicit_framing(headers)? {
        Some(Framing::Chunked) if minor == 0 => {
            Err(Http1Error::Malformed("chunked body in an HTTP/1.0 request"))
        }
        Some(framing) => Ok(framing),
        None => Ok(Framing::Length(0)),
    }
}

/// The framing of a response's body; `bodiless` for answers to HEAD and successful CONNECT.
pub fn response_framing(
    headers: &Headers,
    status: u16,
    bodiless: bool,
) -> Result<Framing, Http1Error> {
    if bodiless || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Length(0));
    }
    Ok(explicit_framing(headers)?.unwrap_or(Framing::UntilClose))
}

fn explicit_framing(headers: &Headers) -> Result<Option<Framing>, Http1Error> {
    let length = content_length(headers)?;
    let mut codings = headers
        .iter()
        .filter(|(name, _)| *name == "transfer-encoding")
        .flat_map(|(_, value)| value.split(|&b| b == b','))
        .map(<[u8]>::trim_ascii);
    match (codings.next(), codings.next(), length) {
        (None, _, length) => Ok(length.map(Framing::Length)),
        (Some(_), _, Some(_)) => Err(Http1Error::Malformed("both a length and a transfer coding")),
        (Some(coding), None, None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(Framing::Chunked))
        }
        _ => Err(Http1Error::Unsupported("transfer coding")),
    }
}

/// The `content-length`, which may be repeated but not differ.
pub fn content_length(headers: &Headers) -> Result<Option<u64>, Http1Error> {
    let mut length = None;
    for (_, value) in headers.iter().filter(|(name, _)| *name == "content-length") {
        for item in value.split(|&b| b == b',') {
            let item = item.trim_ascii();
            let digits = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
            let parsed = std::str::from_utf8(item).ok().and_then(|text| text.parse::<u64>().ok());
            match (parsed.filter(|_| digits), length) {
                (Some(n), None) => length = Some(n),
                (Some(n), Some(before)) if n == before => {}
                _ => return Err(Http1Error::Malformed("content-length")),
            }
        }
    }
    Ok(length)
}

/// Takes a body out of the bytes of a connection.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes of an unfinished chunk-size line or trailer section.
    line: Vec<u8>,
    trailers: Option<Headers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    /// After a chunk's data: CR LF.
    ChunkEnd,
    Trailers,
    Done,
}

/// One step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// `input[start..end]` is body data; go on after `end`.
    Data { start: usize, end: usize },
    /// The first `consumed` bytes are used up and more is needed.
    More { consumed: usize },
    /// The body ends after `consumed` bytes.
    Done { consumed: usize },
}

impl BodyDecoder {
    pub fn new(framing: Framing) -> BodyDecoder {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, line: Vec::new(), trailers: None }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is the end of the body.
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// How many bytes are left, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(n) => Some(n),
            _ => None,
        }
    }

    pub fn trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }

    /// Decodes the next step from `input`, which continues where the last step ended.
    pub fn decode(&mut self, input: &[u8]) -> Result<Decoded, Http1Error> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Done => return Ok(Decoded::Done { consumed: at }),
                _ if rest.is_empty() => return Ok(Decoded::More { consumed: at }),
                State::UntilClose => {
                    return Ok(Decoded::Data { start: at, end: input.len() });
                }
                State::Length(left) | State::ChunkData(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - n as u64;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => State::Done,
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::ChunkEnd,
                        _ => State::ChunkData(left),
                    };
                    return Ok(Decoded::Data { start: at, end: at + n });
                }
                State::ChunkLine => {
                    at += self.take_line(rest, CHUNK_LINE_MAX_BYTES)?;
                    if !self.line.ends_with(b"\n") {
                        continue;
                    }
                    let size = chunk_size(&std::mem::take(&mut self.line))?;
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::ChunkEnd => {
                    at += self.take_line(rest, 2)?;
                    if !self.line.ends_with(b"\n") {
                        continue;
                    }
                    if std::mem::take(&mut self.line) != b"\r\n" {
                        return Err(Http1Error::Malformed("end of chunk"));
                    }
                    self.state = State::ChunkLine;
                }
                State::Trailers => {
                    at += self.take_line(rest, TRAILERS_MAX_BYTES)?;
                    if self.line == b"\r\n" || self.line.ends_with(b"\r\n\r\n") {
                        self.trailers = parse_trailers(&std::mem::take(&mut self.line))?;
                        self.state = State::Done;
                    }
                }
            }
        }
    }

    /// Moves input to `line` up to and with the next line feed; returns how much.
    fn take_line(&mut self, input: &[u8], max_bytes: usize) -> Result<usize, Http1Error> {
        let n = input.iter().position(|&b| b == b'\n').map_or(input.len(), |i| i + 1);
        if self.line.len() + n > max_bytes {
            return Err(Http1Error::Malformed("line of a chunked body too long"));
        }
        self.line.extend_from_slice(&input[..n]);
        Ok(n)
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Http1Error> {
    let line = line.strip_suffix(b"\r\n").ok_or(Http1Error::Malformed("chunk size"))?;
    let size = line.split(|&b| b == b';').next().unwrap_or(line).trim_ascii_end();
    let hex = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(size).ok().filter(|_| hex);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Http1Error::Malformed("chunk size"))
}

fn parse_trailers(section: &[u8]) -> Result<Option<Headers>, Http1Error> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(section, &mut fields).map_err(refuse)? {
        httparse::Status::Complete((_, [])) => Ok(None),
        httparse::Status::Complete((_, fields)) => Ok(Some(collect(fields))),
        httparse::Status::Partial => Err(Http1Error::Malformed("trailers")),
    }
}

/// Appends a request head. `target` and `method` must hold no spaces or controls; they are dropped.
pub fn emit_request(out: &mut Vec<u8>, method: &str, target: &str, headers: &Headers) {
    out.extend(method.bytes().filter(u8::is_ascii_graphic));
    out.push(b' ');
    out.extend(target.bytes().filter(|&b| b > b' ' && b != 0x7f));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    emit_fields(out, headers);
}

/// Appends a response head.
pub fn emit_response(out: &mut Vec<u8>, status: u16, headers: &Headers) {
    let status = status.clamp(100, 999);
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    emit_fields(out, headers);
}

fn emit_fields(out: &mut Vec<u8>, headers: &Headers) {
    for (name, value) in headers.iter() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk of a chunked body; an empty one is nothing, since it would end the body.
pub fn emit_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub fn emit_last_chunk(out: &mut Vec<u8>, trailers: &Headers) {
    out.extend_from_slice(b"0\r\n");
    emit_fields(out, trailers);
}

/// The reason phrase of a status code.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Entity",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// An HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`, of seconds since the Unix epoch.
pub fn date(unix_secs: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, secs) = (unix_secs.div_euclid(86_400), unix_secs.rem_euclid(86_400));
    let (year, month, day) = stdx::time::civil(days);
    let name = |names: &[&'static str], idx: i64| {
        usize::try_from(idx).ok().and_then(|idx| names.get(idx).copied()).unwrap_or("")
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days.rem_euclid(7)),
        name(&MONTHS, month - 1),
        secs / 3600,
        secs / 60 % 60,
        secs % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    fn decode_all(
        framing: Framing,
        input: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize), Http1Error> {
        let mut decoder = BodyDecoder::new(framing);
        let (mut body, mut buffer, mut used) = (Vec::new(), Vec::new(), 0);
        let mut pieces = input.chunks(step.max(1));
        loop {
            let consumed = match decoder.decode(&buffer)? {
                Decoded::Data { start, end } => {
                    body.extend_from_slice(&buffer[start..end]);
                    end
                }
                Decoded::Done { consumed } => return Ok((body, used + consumed)),
                Decoded::More { consumed } => {
                    used += consumed;
                    buffer.drain(..consumed);
                    match pieces.next() {
                        Some(piece) => buffer.extend_from_slice(piece),
                        None => return Err(Http1Error::Malformed("test input ended")),
                    }
                    continue;
                }
            };
            used += consumed;
            buffer.drain(..consumed);
        }
    }

    #[test]
    fn chunked_bodies_decode_in_any_cut() {
        let input = b"4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nA: 1\r\n\r\nGET /next";
        for step in 1..input.len() {
            let (body, used) = decode_all(Framing::Chunked, input, step).unwrap();
            assert_eq!((&*body, &input[used..]), (&b"Wikipedia"[..], &b"GET /next"[..]));
        }
        for bad in ["x\r\n", "-1\r\n", "4\nWiki\r\n", "1\r\nabc", "10000000000000000\r\n", "\r\n"] {
            assert!(decode_all(Framing::Chunked, bad.as_bytes(), 1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn framing_refuses_what_smuggles() {
        let check = |fields: &[(&str, &str)]| {
            let mut headers = Headers::new();
            fields.iter().for_each(|(name, value)| headers.append(name, value));
            request_framing(&headers, 1)
        };
        assert_eq!(check(&[]), Ok(Framing::Length(0)));
        assert_eq!(
            check(&[("content-length", "7"), ("content-length", "7")]),
            Ok(Framing::Length(7))
        );
        assert_eq!(check(&[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked));
        for bad in [
            &[("content-length", "7"), ("content-length", "8")][..],
            &[("content-length", "+7")],
            &[("content-length", "")],
            &[("content-length", "7"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn heads_survive_the_trip() {
        let mut out = Vec::new();
        let headers = Headers::new().with("host", "a").with("x", "1");
        emit_request(&mut out, "GET", "/a b\r\nc", &headers);
        let (head, length) = parse_request(&out).unwrap().unwrap();
        assert_eq!((&*head.method, &*head.target, length), ("GET", "/abc", out.len()));
        assert_eq!(head.headers, headers);
        assert!(has_head(&out, out.len() - 1) && !has_head(&out[..out.len() - 1], 0));
        out.clear();
        emit_response(&mut out, 404, &headers);
        assert_eq!(parse_response(&out).unwrap().unwrap().0.status, 404);
    }

    #[test]
    fn dates() {
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut prng = Prng::new(1);
        let seeds: [&[u8]; 2] = [
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"4\r\nWiki\r\n5\r\npedia\r\n0\r\nA: 1\r\n\r\n",
        ];
        for round in 0..4000 {
            let mut input = seeds[round % 2].to_vec();
            for _ in 0..prng.below(6) {
                let at = prng.below(input.len() as u64) as usize;
                input[at] = prng.next_u64() as u8;
            }
            if let Ok(Some((head, _))) = parse_request(&input) {
                let _ = request_framing(&head.headers, head.minor);
            }
            let _ = parse_response(&input);
            let _ = decode_all(Framing::Chunked, &input, 1 + prng.below(9) as usize);
        }
    }
}
