//! The first message of a TLS client, as far as it says where it wants to go (RFC 8446; server names RFC 6066, ALPN RFC 7301).
//!
//! Nothing is checked but what is read; whoever ends the handshake judges the rest. Never panics on any input.

/// A first message longer than this, with the heads of its records, is none: what a router waits for of a stranger.
pub const MAX_BYTES: usize = 32 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_MAX_BYTES: usize = 16 * 1024 + 256;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// The longest name of a host (RFC 1035, with a dot at its end); a longer one is nobody's.
const NAME_MAX_BYTES: usize = 254;
/// Protocols that are read.
const PROTOCOLS_MAX: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// They may be the beginning of one.
    More,
    /// They are something else.
    Other,
    Hello(Hello),
}

/// Where a client wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// In lower case, without a dot at its end; "" for none.
    pub server_name: String,
    /// The protocols that it offers, the one it likes best first.
    pub protocols: Vec<String>,
}

/// Looks at all bytes that came so far.
pub fn look(bytes: &[u8]) -> Seen {
    let mut message = Vec::new();
    let mut rest = bytes;
    // Records may be as short as a byte, and all are looked at anew when more comes.
    let more = if bytes.len() > MAX_BYTES { Seen::Other } else { Seen::More };
    loop {
        // The kind of a record, the major version, and then the rest: each is judged as soon as it is there.
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE)
            || rest.get(1).is_some_and(|major| *major != 3)
        {
            return Seen::Other;
        }
        let Some((header, after)) = rest.split_first_chunk::<5>() else { return more };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_MAX_BYTES || message.len() + length > MAX_BYTES {
            return Seen::Other;
        }
        message.extend_from_slice(&after[..length.min(after.len())]);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Seen::Other;
        }
        if let Some(head) = message.first_chunk::<4>() {
            let whole =
                4 + (usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]));
            if whole > MAX_BYTES {
                return Seen::Other;
            }
            if let Some(body) = message.get(4..whole) {
                return read(body).map_or(Seen::Other, Seen::Hello);
            }
        }
        match after.get(length..) {
            Some(next) => rest = next,
            None => return more,
        }
    }
}

/// The message without its head; `None` if its parts do not fit into each other.
fn read(body: &[u8]) -> Option<Hello> {
    // The version and a random.
    let mut rest = body.get(2 + 32..)?;
    let _session = take(&mut rest, 1)?;
    let _suites = take(&mut rest, 2)?;
    let _compression = take(&mut rest, 1)?;
    let mut hello = Hello::default();
    if rest.is_empty() {
        return Some(hello);
    }
    let mut extensions = take(&mut rest, 2)?;
    while let Some((kind, after)) = extensions.split_first_chunk::<2>() {
        extensions = after;
        let mut content = take(&mut extensions, 2)?;
        match u16::from_be_bytes(*kind) {
            SERVER_NAME => {
                let mut names = take(&mut content, 2)?;
                while let Some((kind, after)) = names.split_first() {
                    names = after;
                    let name = take(&mut names, 2)?;
                    if *kind == 0 && name.len() <= NAME_MAX_BYTES && hello.server_name.is_empty() {
                        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                        name.trim_end_matches('.').clone_into(&mut hello.server_name);
                    }
                }
            }
            ALPN => {
                let mut names = take(&mut content, 2)?;
                while !names.is_empty() {
                    let name = String::from_utf8_lossy(take(&mut names, 1)?).into_owned();
                    if hello.protocols.len() < PROTOCOLS_MAX {
                        hello.protocols.push(name);
                    }
                }
            }
            _ => {}
        }
    }
    Some(hello)
}

/// Takes what follows its own length of `n_bytes` bytes.
fn take<'a>(rest: &mut &'a [u8], n_bytes: usize) -> Option<&'a [u8]> {
    let (length, after) = rest.split_at_checked(n_bytes)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (taken, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(n_bytes: usize, content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - n_bytes..], content].concat()
    }

    /// A message with these extensions, cut into records of at most so many bytes.
    fn hello(extensions: &[(u16, Vec<u8>)], record_bytes: usize) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &sized(2, content)].concat())
            .collect();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &sized(1, &[1; 32]),
            &sized(2, &[0x13, 1]),
            &sized(1, &[0]),
            &sized(2, &extensions),
        ]
        .concat();
        let message = [&[CLIENT_HELLO][..], &sized(3, &body)].concat();
        message
            .chunks(record_bytes)
            .flat_map(|part| [&[HANDSHAKE, 3, 1][..], &sized(2, part)].concat())
            .collect()
    }

    #[test]
    fn names_and_protocols_are_read_from_whole_messages_only() {
        let name = sized(2, &[&[0][..], &sized(2, b"Db.Example.org.")].concat());
        let protocols = sized(2, &[sized(1, b"h2"), sized(1, b"postgresql")].concat());
        let extensions = [(SERVER_NAME, name), (43, vec![2, 3, 4]), (ALPN, protocols)];
        let wanted = Hello {
            server_name: "db.example.org".into(),
            protocols: vec!["h2".into(), "postgresql".into()],
        };
        for record_bytes in [1, 7, 16384] {
            let bytes = hello(&extensions, record_bytes);
            for n in 0..bytes.len() {
                assert_eq!(look(&bytes[..n]), Seen::More, "{n} of {}", bytes.len());
            }
            assert_eq!(look(&bytes), Seen::Hello(wanted.clone()));
            let more = [&bytes[..], b"early data"].concat();
            assert_eq!(look(&more), Seen::Hello(wanted.clone()));
        }
        assert_eq!(look(&hello(&[], 16384)), Seen::Hello(Hello::default()));
        let name = sized(2, &[&[0][..], &sized(2, "a.".repeat(200).as_bytes())].concat());
        assert_eq!(look(&hello(&[(SERVER_NAME, name)], 16384)), Seen::Hello(Hello::default()));
    }

    #[test]
    fn what_is_no_hello_is_something_else() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[22, 2],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 1, 0, 1, 2],
            &[22, 3, 1, 0, 4, 1, 0xff, 0, 0],
        ] {
            assert_eq!(look(bytes), Seen::Other, "{bytes:?}");
        }
        // Parts that do not fit.
        assert_eq!(look(&hello(&[(SERVER_NAME, vec![0, 9, 0])], 16384)), Seen::Other);
        assert_eq!(look(&hello(&[(ALPN, vec![0, 2, 9, 0])], 16384)), Seen::Other);
        // In records of one byte it may be no longer, with their heads.
        let long = hello(&[(43, vec![0; 16 * 1024])], 1);
        assert_eq!(look(&long[..MAX_BYTES]), Seen::More);
        assert_eq!(look(&long[..=MAX_BYTES]), Seen::Other);
    }
}
