//! MySQL's and MariaDB's protocol, as far as a client with statements in text needs it.
//!
//! A packet has three bytes of length, a number in its exchange and a payload; numbers are little endian, lengths in
//! payloads take one to nine bytes. Never panics on any input; what is read borrows from the buffer. Packets of
//! 16 MiB, which go on in the next one, are refused: no row of ours is so large.

use std::fmt;

const HEADER_BYTES: usize = 4;
/// The longest payload; one byte more and it would go on in another packet.
pub const PAYLOAD_MAX_BYTES: usize = 0xff_ffff - 1;
/// Columns of a row.
pub const COLUMNS_MAX: usize = 64;

const COM_QUERY: u8 = 3;
/// `utf8mb4_general_ci`, which every server has.
const CHARSET: u8 = 45;

/// What both sides can do, as far as it matters here.
pub mod can {
    pub const LONG_PASSWORD: u32 = 1;
    pub const WITH_DATABASE: u32 = 8;
    pub const PROTOCOL_41: u32 = 0x200;
    pub const TLS: u32 = 0x800;
    pub const TRANSACTIONS: u32 = 0x2000;
    pub const SECURE_CONNECTION: u32 = 0x8000;
    pub const MULTI_STATEMENTS: u32 = 0x1_0000;
    pub const MULTI_RESULTS: u32 = 0x2_0000;
    pub const PLUGINS: u32 = 0x8_0000;
}

/// Another result follows this one.
const MORE_RESULTS: u16 = 8;

/// What a connection cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError(pub &'static str);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MySQL's protocol: {}", self.0)
    }
}
impl std::error::Error for MessageError {}

type Result<T> = std::result::Result<T, MessageError>;

/// Writes a packet with its number.
pub fn put_packet(out: &mut Vec<u8>, number: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0, 0, number]);
    body(out);
    let length = u32::try_from(out.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
    out[start..start + 3].copy_from_slice(&length.to_le_bytes()[..3]);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().filter(|byte| **byte != 0));
    out.push(0);
}

/// Who comes, or only that TLS begins: the same beginning.
pub fn put_hello(out: &mut Vec<u8>, capabilities: u32) {
    out.extend(capabilities.to_le_bytes());
    out.extend(0x0100_0000_u32.to_le_bytes());
    out.push(CHARSET);
    out.extend([0; 23]);
}

/// Goes on after the hello. `proof` is what the way of passwords wants, at most 255 bytes; `database` may be empty if
/// the hello says nothing of one.
pub fn put_login(out: &mut Vec<u8>, user: &str, proof: &[u8], database: &str, plugin: &str) {
    put_text(out, user.as_bytes());
    let proof = &proof[..proof.len().min(255)];
    out.push(u8::try_from(proof.len()).unwrap_or(0));
    out.extend(proof);
    if !database.is_empty() {
        put_text(out, database.as_bytes());
    }
    put_text(out, plugin.as_bytes());
}

/// Statements in one text, with semicolons between them.
pub fn put_query(out: &mut Vec<u8>, sql: &[u8]) {
    put_packet(out, 0, |out| {
        out.push(COM_QUERY);
        out.extend(sql);
    });
}

/// Writes a text or bytes into a statement, between quotes. For sessions whose `sql_mode` has no `NO_BACKSLASH_ESCAPES`.
pub fn put_quoted(sql: &mut Vec<u8>, bytes: &[u8]) {
    sql.push(b'\'');
    for byte in bytes {
        let escaped = match byte {
            0 => b'0',
            b'\n' => b'n',
            b'\r' => b'r',
            0x1a => b'Z',
            b'\'' | b'"' | b'\\' => *byte,
            _ => {
                sql.push(*byte);
                continue;
            }
        };
        sql.extend([b'\\', escaped]);
    }
    sql.push(b'\'');
}

/// The first packet of a buffer: its number, its payload, and how long it is; `None` if it is not there as a whole.
///
/// # Errors
/// If it is too long.
pub fn next(buffer: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let Some((header, rest)) = buffer.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    if length > PAYLOAD_MAX_BYTES {
        return Err(MessageError("a packet is too long"));
    }
    Ok(rest.get(..length).map(|payload| (header[3], payload, HEADER_BYTES + length)))
}

/// What a server says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// `8.0.36`, or `5.5.5-10.11.6-MariaDB`.
    pub version: &'a [u8],
    pub capabilities: u32,
    /// What a proof is made with: 20 bytes.
    pub salt: Vec<u8>,
    pub plugin: &'a [u8],
}

/// Why a server refused something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    pub number: u16,
    pub message: String,
}

/// # Errors
/// If it is of another version of the protocol. A server that is full refuses with an error instead.
pub fn greeting(payload: &[u8]) -> Result<std::result::Result<Greeting<'_>, ServerError>> {
    let mut reader = Reader(payload);
    match reader.byte()? {
        0xff => return Ok(Err(server_error(&mut reader)?)),
        10 => {}
        _ => return Err(MessageError("the server's version is none of ours")),
    }
    let version = reader.text()?;
    let _thread = reader.take(4)?;
    let mut salt = reader.take(8)?.to_vec();
    let _filler = reader.byte()?;
    let low = u32::from(reader.short()?);
    let _charset = reader.byte()?;
    let _status = reader.short()?;
    let capabilities = low | u32::from(reader.short()?) << 16;
    let length = usize::from(reader.byte()?);
    let _reserved = reader.take(10)?;
    // Ends with a NUL that is not of the salt.
    let more = reader.take(length.saturating_sub(8).max(13))?;
    salt.extend(&more[..more.len() - 1]);
    let plugin = if capabilities & can::PLUGINS != 0 { reader.last_text() } else { &[] };
    Ok(Ok(Greeting { version, capabilities, salt, plugin }))
}

/// What comes while a server makes sure who came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    Ok,
    Error(ServerError),
    /// Another way of passwords, with another salt.
    Switch {
        plugin: &'a [u8],
        salt: &'a [u8],
    },
    /// Whatever the way of passwords means by it.
    More(&'a [u8]),
}

/// # Errors
/// If it is none of these.
pub fn login(payload: &[u8]) -> Result<Login<'_>> {
    let mut reader = Reader(payload);
    Ok(match reader.byte()? {
        0 => Login::Ok,
        0xff => Login::Error(server_error(&mut reader)?),
        0xfe if payload.len() == 1 => Login::Switch { plugin: b"mysql_old_password", salt: &[] },
        0xfe => {
            let plugin = reader.text()?;
            Login::Switch { plugin, salt: reader.last_text() }
        }
        1 => Login::More(reader.0),
        _ => return Err(MessageError("an answer to a login is none")),
    })
}

/// How the answer to a statement begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Ok {
        n_changed: u64,
        more: bool,
    },
    Error(ServerError),
    /// Rows of so many columns follow, after a packet for each column and [`Next::End`].
    Columns(usize),
}

/// # Errors
/// If it is none of these, or the server wants a file of the client's.
pub fn reply(payload: &[u8]) -> Result<Reply> {
    let mut reader = Reader(payload);
    Ok(match payload.first() {
        Some(0) => {
            reader.byte()?;
            let n_changed = reader.number()?;
            let _id = reader.number()?;
            Reply::Ok { n_changed, more: reader.short()? & MORE_RESULTS != 0 }
        }
        Some(0xff) => {
            reader.byte()?;
            Reply::Error(server_error(&mut reader)?)
        }
        Some(0xfb) => return Err(MessageError("the server wants a file")),
        _ => {
            let n = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
            if n == 0 || n > COLUMNS_MAX {
                return Err(MessageError("a row has too many columns"));
            }
            Reply::Columns(n)
        }
    })
}

/// What follows columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    Row(Vec<Option<&'a [u8]>>),
    End { more: bool },
    Error(ServerError),
}

/// # Errors
/// If it is none of these.
pub fn next_row(payload: &[u8], n_columns: usize) -> Result<Next<'_>> {
    let mut reader = Reader(payload);
    match payload.first() {
        Some(0xfe) if payload.len() < 9 => {
            reader.byte()?;
            let _warnings = reader.short()?;
            Ok(Next::End { more: reader.short()? & MORE_RESULTS != 0 })
        }
        Some(0xff) => {
            reader.byte()?;
            Ok(Next::Error(server_error(&mut reader)?))
        }
        _ => {
            let column = |_| {
                if reader.0.first() == Some(&0xfb) {
                    reader.byte()?;
                    return Ok(None);
                }
                let length = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
                Ok(Some(reader.take(length)?))
            };
            Ok(Next::Row((0..n_columns.min(COLUMNS_MAX)).map(column).collect::<Result<_>>()?))
        }
    }
}

/// After the byte that says it is one.
fn server_error(reader: &mut Reader<'_>) -> Result<ServerError> {
    let number = reader.short()?;
    let text = match reader.0 {
        // `#` and a state of five characters, once the protocol is agreed on.
        [b'#', _, _, _, _, _, text @ ..] => text,
        text => text,
    };
    Ok(ServerError { number, message: String::from_utf8_lossy(text).into_owned() })
}

/// What is left of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(n) else {
            return Err(MessageError("a packet ends too early"));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn short(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// A number with its length before it.
    fn number(&mut self) -> Result<u64> {
        let n_bytes = match self.byte()? {
            small @ 0..=0xfa => return Ok(u64::from(small)),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return Err(MessageError("a number is none")),
        };
        let bytes = self.take(n_bytes)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Up to the next NUL.
    fn text(&mut self) -> Result<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(MessageError("a text has no end"))?)?;
        self.byte()?;
        Ok(text)
    }

    /// The rest, whose NUL some servers leave out.
    fn last_text(&mut self) -> &'a [u8] {
        self.0.strip_suffix(&[0]).unwrap_or(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says() {
        let mut out = Vec::new();
        put_query(&mut out, b"SELECT 1");
        assert_eq!(out, b"\x09\0\0\0\x03SELECT 1");
        out.clear();
        put_packet(&mut out, 1, |out| {
            put_hello(out, can::PROTOCOL_41);
            put_login(out, "me", b"\x07\x08", "db", "mysql_native_password");
        });
        let hello =
            b"\x3f\0\0\x01\0\x02\0\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(out, [&hello[..], b"me\0\x02\x07\x08db\0mysql_native_password\0"].concat());
        out.clear();
        put_quoted(&mut out, b"a'b\\\0\n\"\xff");
        assert_eq!(out, b"'a\\'b\\\\\\0\\n\\\"\xff'");
    }

    #[test]
    fn what_a_server_says_first() {
        let payload = b"\x0a8.0.36\0\x05\0\0\0saltsalt\0\xff\xf7\x2d\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0moresaltsalt\0caching_sha2_password\0";
        let greeting = greeting(payload).unwrap().unwrap();
        assert_eq!(greeting.version, b"8.0.36");
        assert_eq!(greeting.capabilities, 0xdfff_f7ff);
        assert_eq!(greeting.salt, b"saltsaltmoresaltsalt");
        assert_eq!(greeting.plugin, b"caching_sha2_password");
        let full = super::greeting(b"\xff\x10\x04Too many connections").unwrap().unwrap_err();
        assert_eq!((full.number, &*full.message), (1040, "Too many connections"));
        assert_eq!(login(b"\0\0\0\x02\0\0\0"), Ok(Login::Ok));
        let switch = Login::Switch { plugin: b"p", salt: b"salt" };
        assert_eq!(login(b"\xfep\0salt\0"), Ok(switch));
        assert_eq!(login(b"\x01\x04"), Ok(Login::More(b"\x04")));
    }

    #[test]
    fn answers() {
        assert_eq!(reply(b"\0\x03\0\x0a\0\0\0"), Ok(Reply::Ok { n_changed: 3, more: true }));
        assert_eq!(
            reply(b"\0\xfc\x01\x02\0\x02\0\0\0"),
            Ok(Reply::Ok { n_changed: 513, more: false })
        );
        let error = ServerError { number: 1062, message: "dup".into() };
        assert_eq!(reply(b"\xff\x26\x04#23000dup"), Ok(Reply::Error(error)));
        assert_eq!(reply(b"\x02"), Ok(Reply::Columns(2)));
        assert_eq!(next_row(b"\x01a\xfb", 2), Ok(Next::Row(vec![Some(b"a"), None])));
        assert_eq!(next_row(b"\xfe\0\0\x02\0", 2), Ok(Next::End { more: false }));
        assert_eq!(next(b"\x01\0\0\x07x.."), Ok(Some((7, &b"x"[..], 5))));
        assert_eq!(next(b"\x02\0\0\x07x"), Ok(None));
    }

    #[test]
    fn what_no_server_says() {
        assert_eq!(next(b"\xff\xff\xff\0").unwrap_err().0, "a packet is too long");
        assert_eq!(reply(b"\xfb/etc/passwd").unwrap_err().0, "the server wants a file");
        assert_eq!(reply(b"\xfc\xff\xff").unwrap_err().0, "a row has too many columns");
        assert_eq!(reply(b"").unwrap_err().0, "a packet ends too early");
        assert_eq!(
            next_row(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", 1).unwrap_err().0,
            "a packet ends too early"
        );
        assert_eq!(greeting(b"\x09x\0").unwrap_err().0, "the server's version is none of ours");
        assert_eq!(greeting(b"\x0ax\0....").unwrap_err().0, "a packet ends too early");
    }
}
