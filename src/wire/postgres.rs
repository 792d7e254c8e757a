//! PostgreSQL's protocol, version 3, as far as a client with prepared statements needs it.
//!
//! A message is a kind, a length that counts itself, and a body; only what a client says first has no kind. Everything
//! is big endian, texts end with a NUL. Never panics on any input; what is read borrows from the buffer, and nothing
//! is believed about a length that the buffer does not hold.

use std::fmt;

/// The longest message that is read: a row of kine's table may hold a value of 16 MiB.
pub const MESSAGE_MAX_BYTES: usize = 32 << 20;
/// Columns of a row.
pub const COLUMNS_MAX: usize = 64;

const VERSION: u32 = 3 << 16;
const HEADER_BYTES: usize = 5;

/// Asks whether the server speaks TLS on this connection: it answers with one byte, `S` or `N`.
pub const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What a connection cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError(pub &'static str);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL's protocol: {}", self.0)
    }
}
impl std::error::Error for MessageError {}

type Result<T> = std::result::Result<T, MessageError>;

/// A parameter of a statement; each goes in its binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Null,
    /// `int8`
    Int(i64),
    /// `text` or `bytea`
    Bytes(&'a [u8]),
}

/// Writes a message whose length is known once its body is written.
fn message(out: &mut Vec<u8>, kind: Option<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend(kind);
    let start = out.len();
    put_len(out, 0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_len(out: &mut Vec<u8>, n: usize) {
    out.extend(u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_count(out: &mut Vec<u8>, n: usize) {
    out.extend(u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

/// A text; a NUL in it, which would end it, is left out.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.push(0);
}

/// The first message: who comes, and settings of the session.
pub fn put_startup<'a>(out: &mut Vec<u8>, settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    message(out, None, |out| {
        out.extend(VERSION.to_be_bytes());
        for (name, value) in settings {
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// A password, in clear or hashed.
pub fn put_password(out: &mut Vec<u8>, password: &[u8]) {
    message(out, Some(b'p'), |out| put_text(out, password));
}

/// The choice of a SASL mechanism, with its first message.
pub fn put_sasl_first(out: &mut Vec<u8>, mechanism: &str, first: &[u8]) {
    message(out, Some(b'p'), |out| {
        put_text(out, mechanism.as_bytes());
        put_len(out, first.len());
        out.extend(first);
    });
}

/// The next message of a SASL exchange.
pub fn put_sasl(out: &mut Vec<u8>, next: &[u8]) {
    message(out, Some(b'p'), |out| out.extend(next));
}

/// Prepares a statement under a name; the server finds the types of its parameters.
pub fn put_parse(out: &mut Vec<u8>, name: &str, sql: &str) {
    message(out, Some(b'P'), |out| {
        put_text(out, name.as_bytes());
        put_text(out, sql.as_bytes());
        put_count(out, 0);
    });
}

/// Runs a prepared statement to its end; its rows come in binary form.
pub fn put_run(out: &mut Vec<u8>, name: &str, values: &[Value<'_>]) {
    message(out, Some(b'B'), |out| {
        put_text(out, b"");
        put_text(out, name.as_bytes());
        // One format for all: binary.
        put_count(out, 1);
        put_count(out, 1);
        put_count(out, values.len());
        for value in values {
            match value {
                Value::Null => out.extend((-1i32).to_be_bytes()),
                Value::Int(n) => {
                    put_len(out, 8);
                    out.extend(n.to_be_bytes());
                }
                Value::Bytes(bytes) => {
                    put_len(out, bytes.len());
                    out.extend(*bytes);
                }
            }
        }
        put_count(out, 1);
        put_count(out, 1);
    });
    message(out, Some(b'E'), |out| {
        put_text(out, b"");
        put_len(out, 0);
    });
}

/// The end of a transaction of several statements, or of the rest of one that failed.
pub fn put_sync(out: &mut Vec<u8>) {
    message(out, Some(b'S'), |_| {});
}

/// The end of the connection.
#[cfg(test)]
pub(crate) fn put_terminate(out: &mut Vec<u8>) {
    message(out, Some(b'X'), |_| {});
}

/// What a server wants before it believes who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    Ok,
    ClearPassword,
    Md5 {
        salt: [u8; 4],
    },
    /// The mechanisms that the server has.
    Sasl(Vec<&'a str>),
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// A way that is not ours, by its number.
    Other(u32),
}

/// Why a server refused something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    pub message: String,
    pub detail: String,
    /// The constraint that does not hold, if it was one.
    pub constraint: String,
}

/// One message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Authentication(Authentication<'a>),
    /// Everything before it is done: inside of a transaction or not is in the byte.
    Ready(u8),
    Error(ServerError),
    Row(Vec<Option<&'a [u8]>>),
    /// A statement is done, and changed so many rows.
    Complete(u64),
    Notification {
        channel: &'a str,
        payload: &'a str,
    },
    /// What the client has no use for.
    Other(u8),
}

/// The first message of a buffer and how long it is; `None` if it is not there as a whole.
///
/// # Errors
/// If it cannot be a server's, or is too long.
pub fn next(buffer: &[u8]) -> Result<Option<(Message<'_>, usize)>> {
    let Some((header, rest)) = buffer.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let Some(length) = length.checked_sub(4) else {
        return Err(MessageError("a length is less than its own"));
    };
    if length > MESSAGE_MAX_BYTES {
        return Err(MessageError("a message is too long"));
    }
    match rest.get(..length) {
        Some(body) => Ok(Some((read(header[0], body)?, HEADER_BYTES + length))),
        None => Ok(None),
    }
}

fn read(kind: u8, body: &[u8]) -> Result<Message<'_>> {
    let mut reader = Reader(body);
    Ok(match kind {
        b'R' => Message::Authentication(authentication(&mut reader)?),
        b'Z' => Message::Ready(reader.take(1)?[0]),
        b'E' => Message::Error(server_error(&mut reader)?),
        b'D' => Message::Row(row(&mut reader)?),
        b'C' => {
            // `INSERT 0 1`, `UPDATE 1`, `SELECT 5`, `BEGIN`.
            let tag = reader.text()?;
            let n = tag.rsplit(' ').next().and_then(|last| last.parse().ok());
            Message::Complete(n.unwrap_or(0))
        }
        b'A' => {
            let _process = reader.long()?;
            Message::Notification { channel: reader.text()?, payload: reader.text()? }
        }
        kind => Message::Other(kind),
    })
}

fn authentication<'a>(reader: &mut Reader<'a>) -> Result<Authentication<'a>> {
    Ok(match reader.long()? {
        0 => Authentication::Ok,
        3 => Authentication::ClearPassword,
        5 => Authentication::Md5 { salt: reader.array()? },
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.text()? {
                    "" => break,
                    _ if mechanisms.len() == COLUMNS_MAX => {
                        return Err(MessageError("there are too many SASL mechanisms"));
                    }
                    mechanism => mechanisms.push(mechanism),
                }
            }
            Authentication::Sasl(mechanisms)
        }
        11 => Authentication::SaslContinue(reader.0),
        12 => Authentication::SaslFinal(reader.0),
        other => Authentication::Other(other),
    })
}

fn server_error(reader: &mut Reader<'_>) -> Result<ServerError> {
    let mut error = ServerError::default();
    loop {
        let field = match reader.take(1)?[0] {
            0 => return Ok(error),
            b'C' => &mut error.code,
            b'M' => &mut error.message,
            b'D' => &mut error.detail,
            b'n' => &mut error.constraint,
            _ => {
                reader.bytes()?;
                continue;
            }
        };
        // The server's own encoding until the client's is agreed on.
        *field = String::from_utf8_lossy(reader.bytes()?).into_owned();
    }
}

fn row<'a>(reader: &mut Reader<'a>) -> Result<Vec<Option<&'a [u8]>>> {
    let n = usize::from(u16::from_be_bytes(reader.array()?));
    if n > COLUMNS_MAX {
        return Err(MessageError("a row has too many columns"));
    }
    let column = |_| {
        Ok(match reader.long()? {
            u32::MAX => None,
            length => Some(reader.take(length as usize)?),
        })
    };
    (0..n).map(column).collect()
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(n) else {
            return Err(MessageError("a message ends too early"));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn long(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Up to the next NUL.
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(MessageError("a text has no end"))?)?;
        self.take(1)?;
        Ok(text)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| MessageError("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says() {
        let mut out = Vec::new();
        put_startup(&mut out, [("user", "a\0b")]);
        assert_eq!(out, b"\0\0\0\x11\0\x03\0\0user\0ab\0\0");
        out.clear();
        put_parse(&mut out, "s1", "SELECT 1");
        assert_eq!(out, b"P\0\0\0\x12s1\0SELECT 1\0\0\0");
        out.clear();
        put_run(&mut out, "s1", &[Value::Int(258), Value::Null, Value::Bytes(b"xy")]);
        let bind = b"B\0\0\0\x28\0s1\0\0\x01\0\x01\0\x03\0\0\0\x08\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\0\0\0\x02xy\0\x01\0\x01";
        assert_eq!(out, [&bind[..], b"E\0\0\0\x09\0\0\0\0\0"].concat());
        out.clear();
        put_sasl_first(&mut out, "SCRAM-SHA-256", b"n,,n=,r=x");
        put_sasl(&mut out, b"c=biws");
        put_password(&mut out, b"secret");
        put_sync(&mut out);
        put_terminate(&mut out);
        let expected: [&[u8]; 5] = [
            b"p\0\0\0\x1fSCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x",
            b"p\0\0\0\x0ac=biws",
            b"p\0\0\0\x0bsecret\0",
            b"S\0\0\0\x04",
            b"X\0\0\0\x04",
        ];
        assert_eq!(out, expected.concat());
    }

    fn one(bytes: &[u8]) -> Message<'_> {
        let (message, length) = next(bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        for end in 0..bytes.len() {
            assert_eq!(next(&bytes[..end]), Ok(None), "a part of it");
        }
        message
    }

    #[test]
    fn what_a_server_says() {
        assert_eq!(one(b"R\0\0\0\x08\0\0\0\0"), Message::Authentication(Authentication::Ok));
        assert_eq!(
            one(b"R\0\0\0\x0c\0\0\0\x05salt"),
            Message::Authentication(Authentication::Md5 { salt: *b"salt" })
        );
        assert_eq!(
            one(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"),
            Message::Authentication(Authentication::Sasl(vec!["SCRAM-SHA-256"]))
        );
        assert_eq!(one(b"Z\0\0\0\x05I"), Message::Ready(b'I'));
        assert_eq!(one(b"C\0\0\0\x0fINSERT 0 1\0"), Message::Complete(1));
        assert_eq!(one(b"C\0\0\0\x0aBEGIN\0"), Message::Complete(0));
        assert_eq!(
            one(b"D\0\0\0\x14\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0"),
            Message::Row(vec![Some(b"ab"), None, Some(b"")])
        );
        assert_eq!(
            one(b"A\0\0\0\x10\0\0\0\x01k3rs\x0017\0"),
            Message::Notification { channel: "k3rs", payload: "17" }
        );
        let error = one(b"E\0\0\0\x23SERROR\0C23505\0Mdup\0nkine_pkey\0\0");
        let Message::Error(error) = error else { panic!("{error:?}") };
        assert_eq!(
            (&*error.code, &*error.message, &*error.constraint),
            ("23505", "dup", "kine_pkey")
        );
        assert_eq!(one(b"1\0\0\0\x04"), Message::Other(b'1'));
    }

    #[test]
    fn what_no_server_says() {
        assert_eq!(next(b"Z\0\0\0\x03").unwrap_err().0, "a length is less than its own");
        assert_eq!(next(b"D\x7f\xff\xff\xff").unwrap_err().0, "a message is too long");
        assert_eq!(next(b"Z\0\0\0\x04").unwrap_err().0, "a message ends too early");
        assert_eq!(next(b"D\0\0\0\x06\xff\xff").unwrap_err().0, "a row has too many columns");
        assert_eq!(
            next(b"D\0\0\0\x0a\0\x01\x7f\xff\xff\xff").unwrap_err().0,
            "a message ends too early"
        );
        assert_eq!(next(b"C\0\0\0\x05x").unwrap_err().0, "a text has no end");
    }
}
