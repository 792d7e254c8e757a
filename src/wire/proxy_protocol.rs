//! HAProxy's PROXY protocol, versions 1 and 2: a header in which a proxy says whose connection it passes on.
//!
//! Never panics on any input; a header has a bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// A header of version 1, with its end.
const TEXT_MAX_BYTES: usize = 107;
/// Of version 2 after its first 16 bytes: addresses, and what else is said.
const MORE_MAX_BYTES: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// They may be the beginning of a header.
    More,
    /// They are no header.
    Other,
    /// A header of `n_bytes`; `source` is `None` if it is the proxy's own connection.
    Header { n_bytes: usize, source: Option<SocketAddr> },
}

/// Looks at all bytes that came so far.
pub fn look(bytes: &[u8]) -> Seen {
    let is_begun = |whole: &[u8]| {
        let n = bytes.len().min(whole.len());
        bytes[..n] == whole[..n]
    };
    if is_begun(SIGNATURE) {
        return binary(bytes).unwrap_or(Seen::More);
    }
    if !is_begun(b"PROXY ") {
        return Seen::Other;
    }
    let end = bytes.iter().take(TEXT_MAX_BYTES).position(|byte| *byte == b'\n');
    match end {
        Some(end) => text(&bytes[..end])
            .map_or(Seen::Other, |source| Seen::Header { n_bytes: end + 1, source }),
        None if bytes.len() >= TEXT_MAX_BYTES => Seen::Other,
        None => Seen::More,
    }
}

/// The source in a line; `None` if it is no proper one.
fn text(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\r')?;
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, _destination): (IpAddr, IpAddr) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let port = words.next()?.parse().ok()?;
    let wanted = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    (family == wanted).then(|| Some(SocketAddr::new(source, port)))
}

/// `None` if there is not enough of it.
fn binary(bytes: &[u8]) -> Option<Seen> {
    let head = bytes.get(12..16)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] >> 4 != 2 || head[0] & 15 > 1 || length > MORE_MAX_BYTES {
        return Some(Seen::Other);
    }
    let content = bytes.get(16..16 + length)?;
    let port = |at: usize| content.get(at..at + 2).map(|it| u16::from_be_bytes([it[0], it[1]]));
    let source = match (head[0] & 15, head[1] >> 4) {
        (1, 1) => content.first_chunk::<4>().map(|it| IpAddr::V4(Ipv4Addr::from(*it))).zip(port(8)),
        (1, 2) => {
            content.first_chunk::<16>().map(|it| IpAddr::V6(Ipv6Addr::from(*it))).zip(port(32))
        }
        _ => None,
    };
    let source = source.map(|(ip, port)| SocketAddr::new(ip, port));
    Some(Seen::Header { n_bytes: 16 + length, source })
}

/// The header of a connection from `source` that came in at `destination`. `version` is 1 or 2.
pub fn emit(version: u8, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let is_v4 = from.is_ipv4() && to.is_ipv4();
    if version == 1 {
        let (family, from, to) = match (is_v4, v6(from), v6(to)) {
            (true, ..) => ("TCP4", from.to_string(), to.to_string()),
            (false, from, to) => ("TCP6", from.to_string(), to.to_string()),
        };
        let ports = (source.port(), destination.port());
        return format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).into_bytes();
    }
    let mut out = SIGNATURE.to_vec();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([0x21, 0x11, 0, 12]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        _ => {
            out.extend([0x21, 0x21, 0, 36]);
            out.extend(v6(from).octets());
            out.extend(v6(to).octets());
        }
    }
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (source, destination) in [
            ("192.0.2.7:4711", "192.0.2.1:443"),
            ("[2001:db8::7]:4711", "[2001:db8::1]:443"),
            ("[::ffff:192.0.2.7]:4711", "192.0.2.1:443"),
        ] {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            for version in [1, 2] {
                let bytes = emit(version, source, destination);
                for n in 0..bytes.len() {
                    assert_eq!(look(&bytes[..n]), Seen::More, "{version} {n}");
                }
                let read = SocketAddr::new(source.ip().to_canonical(), source.port());
                let wanted = Seen::Header { n_bytes: bytes.len(), source: Some(read) };
                assert_eq!(look(&[&bytes[..], b"GET"].concat()), wanted);
            }
        }
        assert_eq!(
            emit(1, "192.0.2.7:1".parse().unwrap(), "192.0.2.1:2".parse().unwrap()),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n"
        );
    }

    #[test]
    fn what_is_no_header_is_something_else() {
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 1, 9]].concat();
        assert_eq!(look(&local), Seen::Header { n_bytes: 17, source: None });
        assert_eq!(look(b"PROXY UNKNOWN\r\n"), Seen::Header { n_bytes: 15, source: None });
        let long = [&b"PROXY "[..], &[b'x'; 200]].concat();
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            &long,
            &[&SIGNATURE[..], &[0x11, 0x11, 0, 12]].concat(),
            &[&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            assert_eq!(look(bytes), Seen::Other, "{bytes:?}");
        }
    }
}
