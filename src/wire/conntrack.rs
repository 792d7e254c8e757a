//! Connection tracking over nfnetlink: reading entries and deleting some.

use std::net::{IpAddr, SocketAddr};

use crate::netlink::{Attribute, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Writer};
use crate::nft::{HEADER_LEN, NFPROTO_IPV4, NFPROTO_IPV6};

const SUBSYSTEM: u16 = 1;
const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// One tracked connection, as far as we look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub protocol: u8,
    pub source: SocketAddr,
    /// Where the client sent to.
    pub destination: SocketAddr,
    /// Who answers.
    pub reply_source: SocketAddr,
    id: u32,
}

/// Asks for all connections of one family.
pub fn dump(w: &mut Writer, sequence: u32, ipv6: bool) {
    w.message(SUBSYSTEM << 8 | GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| header(w, ipv6));
}

/// Deletes one connection; the id makes sure that it is not a newer one of the same addresses.
pub fn delete(w: &mut Writer, sequence: u32, connection: &Connection) {
    let ipv6 = connection.source.is_ipv6();
    w.message(SUBSYSTEM << 8 | DELETE, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        header(w, ipv6);
        w.nest(TUPLE_ORIGINAL, |w| {
            w.nest(TUPLE_IP, |w| {
                w.address(if ipv6 { 3 } else { 1 }, connection.source.ip());
                w.address(if ipv6 { 4 } else { 2 }, connection.destination.ip());
            });
            w.nest(TUPLE_PROTOCOL, |w| {
                w.u8(1, connection.protocol);
                w.be16(2, connection.source.port());
                w.be16(3, connection.destination.port());
            });
        });
        w.be32(ID, connection.id);
    });
}

/// Reads one connection; `None` for those without ports.
pub fn parse(message: &Message<'_>) -> Option<Connection> {
    if message.kind != SUBSYSTEM << 8 | NEW {
        return None;
    }
    let (mut original, mut reply, mut id) = (None, None, 0);
    for attribute in message.attributes(HEADER_LEN) {
        match attribute.kind {
            TUPLE_ORIGINAL => original = tuple(&attribute),
            TUPLE_REPLY => reply = tuple(&attribute),
            ID => id = attribute.be32()?,
            _ => {}
        }
    }
    let (protocol, source, destination) = original?;
    let (_, reply_source, _) = reply?;
    Some(Connection { protocol, source, destination, reply_source, id })
}

fn tuple(attribute: &Attribute<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (mut source, mut destination): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, None, None);
    for part in attribute.nested() {
        for inner in part.nested() {
            match (part.kind, inner.kind) {
                (TUPLE_IP, 1 | 3) => source = inner.address(),
                (TUPLE_IP, 2 | 4) => destination = inner.address(),
                (TUPLE_PROTOCOL, 1) => protocol = inner.u8(),
                (TUPLE_PROTOCOL, 2) => source_port = inner.be16(),
                (TUPLE_PROTOCOL, 3) => destination_port = inner.be16(),
                _ => {}
            }
        }
    }
    let source = SocketAddr::new(source?, source_port?);
    Some((protocol?, source, SocketAddr::new(destination?, destination_port?)))
}

fn header(w: &mut Writer, ipv6: bool) {
    w.raw(&[if ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }, 0, 0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::messages;
    use stdx::prng::Prng;

    #[test]
    fn arbitrary_messages_never_panic() {
        let connection = Connection {
            protocol: 17,
            source: "10.0.0.1:5".parse().unwrap(),
            destination: "10.43.0.10:53".parse().unwrap(),
            reply_source: "10.42.0.2:53".parse().unwrap(),
            id: 7,
        };
        let mut w = Writer::new();
        delete(&mut w, 1, &connection);
        let good = w.finish().unwrap();
        let mut prng = Prng::new(3);
        for _ in 0..10_000 {
            let mut buf = good.clone();
            let idx = prng.below(buf.len() as u64) as usize;
            buf[idx] = prng.next_u64() as u8;
            for message in messages(&buf).flatten() {
                let as_new = Message { kind: SUBSYSTEM << 8 | NEW, ..message };
                let _ = parse(&as_new);
            }
        }
    }
}
