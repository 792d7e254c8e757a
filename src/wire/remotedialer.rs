//! Messages of rancher/remotedialer, which carry many connections in one WebSocket between a server and an agent.
//!
//! A binary message is `varint id | varint connection | varint type | payload`, with one more varint (a deadline that
//! nobody looks at) before the payload of CONNECT and DATA. Varints are Go's signed ones (`binary.PutVarint`: zigzag).
//! Never panics on any input; what is read borrows from the message, whose length the caller bounds.

use std::fmt;

use crate::protobuf::put_varint;

/// The longest message: what Go copies at once is 32 KiB, before four varints.
pub const MESSAGE_MAX_BYTES: usize = 128 * 1024;
/// `network/address` of a CONNECT.
pub const CONNECT_MAX_BYTES: usize = 266;
/// The text of an ERROR; what is longer is cut off.
pub const ERROR_MAX_BYTES: usize = 100;
/// The text of the ERROR that ends a connection well.
pub const EOF: &str = "EOF";

/// What agents of old took for the deadline, in milliseconds.
const DEADLINE_MS: i64 = 15_000;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data = 1,
    Connect = 2,
    Error = 3,
    Pause = 6,
    Resume = 7,
    SyncConnections = 8,
}

/// What a session cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageError(pub &'static str);

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
impl std::error::Error for MessageError {}

/// One received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Data(&'a [u8]),
    /// Open a connection.
    Connect {
        network: &'a str,
        address: &'a str,
    },
    /// The connection is over: well (`EOF`), or why not.
    Error(String),
    /// Send no more on the connection; go on.
    Pause,
    Resume,
    /// The connections that the sender has.
    SyncConnections(Vec<i64>),
    /// About sessions of other servers, or of a later version.
    Other,
}

/// Reads a message: the connection that it is about, and what it says.
///
/// # Errors
/// If it is none.
pub fn parse(message: &[u8]) -> Result<(i64, Message<'_>), MessageError> {
    let mut rest = message;
    let _id = varint(&mut rest)?;
    let connection = varint(&mut rest)?;
    let kind = varint(&mut rest)?;
    if kind == Kind::Data as i64 || kind == Kind::Connect as i64 {
        varint(&mut rest)?;
    }
    let message = match kind {
        1 => Message::Data(rest),
        2 => {
            let text =
                std::str::from_utf8(rest).ok().filter(|text| text.len() <= CONNECT_MAX_BYTES);
            let parts = text.and_then(|text| text.split_once('/'));
            let (network, address) =
                parts.ok_or(MessageError("failed to parse connect address"))?;
            Message::Connect { network, address }
        }
        3 => {
            let text = &rest[..rest.len().min(ERROR_MAX_BYTES)];
            Message::Error(String::from_utf8_lossy(text).into_owned())
        }
        6 => Message::Pause,
        7 => Message::Resume,
        8 => {
            let (ids, left) = rest.as_chunks::<8>();
            if !left.is_empty() {
                return Err(MessageError(
                    "decoding sync connections payload: incorrect data format",
                ));
            }
            Message::SyncConnections(ids.iter().map(|id| i64::from_le_bytes(*id)).collect())
        }
        _ => Message::Other,
    };
    Ok((connection, message))
}

/// Makes a message. The payload of an ERROR is cut to its bound.
pub fn emit(id: i64, connection: i64, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let payload = match kind {
        Kind::Error => cut(payload),
        _ => payload,
    };
    let mut out = Vec::with_capacity(24 + payload.len());
    put_signed(&mut out, id);
    put_signed(&mut out, connection);
    put_signed(&mut out, kind as i64);
    if matches!(kind, Kind::Data | Kind::Connect) {
        put_signed(&mut out, DEADLINE_MS);
    }
    out.extend_from_slice(payload);
    out
}

/// The payload of a SYNCCONNECTIONS.
pub fn connections(ids: impl Iterator<Item = i64>) -> Vec<u8> {
    ids.flat_map(i64::to_le_bytes).collect()
}

/// The beginning of a text, in whole characters.
fn cut(text: &[u8]) -> &[u8] {
    let mut end = text.len().min(ERROR_MAX_BYTES);
    while end < text.len() && end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn varint(rest: &mut &[u8]) -> Result<i64, MessageError> {
    let mut value = 0u64;
    for idx in 0..10 {
        let (byte, left) = rest.split_first().ok_or(MessageError("unexpected EOF"))?;
        *rest = left;
        if idx == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * idx);
        if *byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err(MessageError("binary: varint overflows a 64-bit integer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// encoding/binary's rule, by hand: zigzag (0, -1, 1, -2 are 0, 1, 2, 3), seven bits a byte, the lowest first.
    #[test]
    fn varints_are_gos_signed_ones() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-2, &[3]),
            (63, &[126]),
            (64, &[0x80, 1]),
            (-64, &[127]),
            (15_000, &[0xb0, 0xea, 1]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_signed(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), Ok(value));
            assert!(rest.is_empty());
        }
        for bad in [
            &[][..],
            &[0x80],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(varint(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }

    /// message.go: `header` writes id, connection, type, and for DATA and CONNECT the deadline of 15000.
    #[test]
    fn messages_both_ways() {
        let sync = connections([5, 258].into_iter());
        for (kind, payload, bytes, message) in [
            // id 3, connection 2, type 1, deadline.
            (Kind::Data, &b"hi"[..], &b"\x06\x04\x02\xb0\xea\x01hi"[..], Message::Data(b"hi")),
            (Kind::Data, b"", b"\x06\x04\x02\xb0\xea\x01", Message::Data(b"")),
            (
                Kind::Connect,
                b"tcp/127.0.0.1:10250",
                b"\x06\x04\x04\xb0\xea\x01tcp/127.0.0.1:10250",
                Message::Connect { network: "tcp", address: "127.0.0.1:10250" },
            ),
            // `newErrorMessage`: no deadline, the error's text.
            (Kind::Error, b"EOF", b"\x06\x04\x06EOF", Message::Error("EOF".into())),
            // `newPause`, `newResume`: nothing follows.
            (Kind::Pause, b"", b"\x06\x04\x0c", Message::Pause),
            (Kind::Resume, b"", b"\x06\x04\x0e", Message::Resume),
            // session_sync.go, `encodeConnectionIDs`: eight bytes each, the lowest first.
            (
                Kind::SyncConnections,
                &sync,
                b"\x06\x04\x10\x05\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0",
                Message::SyncConnections(vec![5, 258]),
            ),
        ] {
            assert_eq!(emit(3, 2, kind, payload), bytes, "{kind:?}");
            assert_eq!(parse(bytes), Ok((2, message)), "{kind:?}");
        }
    }

    #[test]
    fn what_only_others_send() {
        for (bytes, message) in [
            // ADDCLIENT and REMOVECLIENT are about other servers' sessions.
            (&b"\x06\0\x08node/7"[..], Ok((0, Message::Other))),
            (b"\x06\0\x0anode/7", Ok((0, Message::Other))),
            (b"\x06\x04\x7e", Ok((2, Message::Other))),
            (b"\x06\x01\x05", Ok((-1, Message::Other))),
            // The deadline may be anything.
            (b"\x06\x04\x02\x01x", Ok((2, Message::Data(b"x")))),
            (b"\x06\x04\x02", Err(MessageError("unexpected EOF"))),
            (b"\x06\x04", Err(MessageError("unexpected EOF"))),
            (b"", Err(MessageError("unexpected EOF"))),
            (b"\x06\x04\x04\x00tcp", Err(MessageError("failed to parse connect address"))),
            (b"\x06\x04\x04\x00tcp/\xff", Err(MessageError("failed to parse connect address"))),
            (
                b"\x06\x04\x10\x05\0",
                Err(MessageError("decoding sync connections payload: incorrect data format")),
            ),
        ] {
            assert_eq!(parse(bytes), message, "{bytes:?}");
        }
        let long = [b"\x06\x04\x04\x00tcp/".to_vec(), vec![b'1'; CONNECT_MAX_BYTES]].concat();
        assert!(parse(&long).is_err());
    }

    #[test]
    fn texts_of_errors_are_cut_in_whole_characters() {
        let text = "ä".repeat(60);
        let message = emit(0, 0, Kind::Error, text.as_bytes());
        assert_eq!(parse(&message), Ok((0, Message::Error("ä".repeat(50)))));
        let odd = format!("x{text}");
        let message = emit(0, 0, Kind::Error, odd.as_bytes());
        assert_eq!(parse(&message), Ok((0, Message::Error(format!("x{}", "ä".repeat(49))))));
        let foreign = [b"\0\0\x06".to_vec(), vec![b'e'; 500]].concat();
        assert_eq!(parse(&foreign), Ok((0, Message::Error("e".repeat(100)))));
    }

    #[test]
    fn damaged_messages_break_nothing() {
        let mut prng = stdx::prng::Prng::new(3);
        for _ in 0..20_000 {
            let mut bytes = vec![0; prng.below(40) as usize];
            bytes.iter_mut().for_each(|byte| *byte = prng.next_u64() as u8);
            let _ = parse(&bytes);
        }
    }
}
