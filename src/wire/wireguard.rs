//! WireGuard's devices and peers over generic netlink: what is asked of the kernel, and its answers.
//!
//! Reading never panics, whatever the bytes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use stdx::Sensitive;

use crate::netlink::{Attribute, Message, Writer, read_u16};
use crate::netlink::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

/// A key, private, public or shared.
pub type Key = [u8; 32];

/// Peers that one message changes: all of it is one attribute, of no more than 64 KiB.
pub const PEERS_IN_MESSAGE_MAX: usize = 256;

/// Generic netlink's own family, which knows the numbers of the others.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const GENL_HEADER_LEN: usize = 4;

const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_KEEPALIVE: u16 = 5;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A device as the kernel has it.
#[derive(Clone, Debug, Default)]
pub struct Device {
    pub private_key: Option<Sensitive<Key>>,
    /// The kernel makes it of the private one.
    pub public_key: Option<Key>,
    pub listen_port: u16,
    pub peers: Vec<Peer>,
}

/// Another end of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub key: Key,
    /// All zeroes: none.
    pub preshared: Sensitive<Key>,
    /// Where packets go; the kernel changes it when the peer speaks from elsewhere.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep a way through firewalls open; 0: none.
    pub keepalive_secs: u16,
    /// The addresses that are reached through the peer, and that it may send from.
    pub allowed: Vec<(IpAddr, u8)>,
}

/// What becomes of a peer.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It has this key, and these settings from now on. Without an endpoint it keeps its own.
    Set(&'a Peer),
    Remove(&'a Key),
}

/// Asks for the number of generic netlink's family `name`.
pub fn find_family(w: &mut Writer, sequence: u32, name: &str) {
    w.message(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        w.raw(&[CTRL_CMD_GETFAMILY, 1, 0, 0]);
        w.str(CTRL_ATTR_FAMILY_NAME, name);
    });
}

/// The number in an answer to [`find_family`].
pub fn parse_family(message: &Message<'_>) -> Option<u16> {
    message.attributes(GENL_HEADER_LEN).find(|a| a.kind == CTRL_ATTR_FAMILY_ID)?.u16()
}

/// Asks for a device and all its peers; they come in several messages.
pub fn dump_device(w: &mut Writer, sequence: u32, family: u16, link: u32) {
    w.message(family, NLM_F_REQUEST | NLM_F_DUMP, sequence, |w| {
        w.raw(&[WG_CMD_GET_DEVICE, 1, 0, 0]);
        w.u32(WGDEVICE_A_IFINDEX, link);
    });
}

/// Gives a device its key and the UDP port that it listens at. Peers stay.
pub fn set_device(
    w: &mut Writer,
    sequence: u32,
    (family, link): (u16, u32),
    private_key: &Sensitive<Key>,
    listen_port: u16,
) {
    set(w, sequence, (family, link), |w| {
        w.bytes(WGDEVICE_A_PRIVATE_KEY, private_key.reveal());
        w.u16(WGDEVICE_A_LISTEN_PORT, listen_port);
    });
}

/// Changes peers, no more than [`PEERS_IN_MESSAGE_MAX`]; all others stay.
pub fn set_peers(
    w: &mut Writer,
    sequence: u32,
    (family, link): (u16, u32),
    changes: &[Change<'_>],
) {
    set(w, sequence, (family, link), |w| {
        w.nest(WGDEVICE_A_PEERS, |w| {
            for change in changes {
                // The kernel looks at no numbers in a list.
                w.nest(0, |w| match change {
                    Change::Set(peer) => write_peer(w, peer),
                    Change::Remove(key) => {
                        w.bytes(WGPEER_A_PUBLIC_KEY, *key);
                        w.u32(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
                    }
                });
            }
        });
    });
}

fn set(w: &mut Writer, sequence: u32, device: (u16, u32), body: impl FnOnce(&mut Writer)) {
    w.message(device.0, NLM_F_REQUEST | NLM_F_ACK, sequence, |w| {
        w.raw(&[WG_CMD_SET_DEVICE, 1, 0, 0]);
        w.u32(WGDEVICE_A_IFINDEX, device.1);
        body(w);
    });
}

fn write_peer(w: &mut Writer, peer: &Peer) {
    w.bytes(WGPEER_A_PUBLIC_KEY, &peer.key);
    w.u32(WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
    w.bytes(WGPEER_A_PRESHARED_KEY, peer.preshared.reveal());
    if let Some(endpoint) = peer.endpoint {
        w.bytes(WGPEER_A_ENDPOINT, &socket_address(endpoint));
    }
    w.u16(WGPEER_A_KEEPALIVE, peer.keepalive_secs);
    w.nest(WGPEER_A_ALLOWEDIPS, |w| {
        for (address, prefix) in &peer.allowed {
            w.nest(0, |w| {
                w.u16(WGALLOWEDIP_A_FAMILY, if address.is_ipv4() { AF_INET } else { AF_INET6 });
                w.address(WGALLOWEDIP_A_IPADDR, *address);
                w.u8(WGALLOWEDIP_A_CIDR_MASK, *prefix);
            });
        }
    });
}

/// A `sockaddr_in` or `sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = [family.to_ne_bytes(), address.port().to_be_bytes()].concat();
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend_from_slice(&ip.octets());
            bytes.extend_from_slice(&[0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&ip.octets());
            bytes.extend_from_slice(&[0; 4]);
        }
    }
    bytes
}

fn parse_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be(read_u16(bytes, 2)?);
    let ip: IpAddr = match read_u16(bytes, 0)? {
        AF_INET => <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?.into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Takes in one message of an answer to [`dump_device`].
pub fn parse_device(message: &Message<'_>, device: &mut Device) {
    for attribute in message.attributes(GENL_HEADER_LEN) {
        match attribute.kind {
            WGDEVICE_A_PRIVATE_KEY => device.private_key = key(&attribute).map(Sensitive::from),
            WGDEVICE_A_PUBLIC_KEY => device.public_key = key(&attribute),
            WGDEVICE_A_LISTEN_PORT => device.listen_port = attribute.u16().unwrap_or(0),
            WGDEVICE_A_PEERS => {
                for peer in attribute.nested().filter_map(|nested| parse_peer(&nested)) {
                    add_peer(&mut device.peers, peer);
                }
            }
            _ => {}
        }
    }
}

/// A peer whose blocks do not fit one message comes again in the next one.
fn add_peer(peers: &mut Vec<Peer>, peer: Peer) {
    match peers.last_mut().filter(|last| last.key == peer.key) {
        Some(last) => last.allowed.extend(peer.allowed),
        None => peers.push(peer),
    }
}

fn parse_peer(attribute: &Attribute<'_>) -> Option<Peer> {
    let mut peer = Peer {
        key: [0; 32],
        preshared: [0; 32].into(),
        endpoint: None,
        keepalive_secs: 0,
        allowed: Vec::new(),
    };
    for part in attribute.nested() {
        match part.kind {
            WGPEER_A_PUBLIC_KEY => peer.key = key(&part)?,
            WGPEER_A_PRESHARED_KEY => peer.preshared = key(&part)?.into(),
            WGPEER_A_ENDPOINT => peer.endpoint = parse_socket_address(part.value),
            WGPEER_A_KEEPALIVE => peer.keepalive_secs = part.u16()?,
            WGPEER_A_ALLOWEDIPS => {
                peer.allowed.extend(part.nested().filter_map(|block| allowed(&block)));
            }
            _ => {}
        }
    }
    (peer.key != [0; 32]).then_some(peer)
}

fn allowed(attribute: &Attribute<'_>) -> Option<(IpAddr, u8)> {
    let (mut address, mut prefix) = (None, None);
    for part in attribute.nested() {
        match part.kind {
            WGALLOWEDIP_A_IPADDR => address = part.address(),
            WGALLOWEDIP_A_CIDR_MASK => prefix = part.u8(),
            _ => {}
        }
    }
    address.zip(prefix)
}

fn key(attribute: &Attribute<'_>) -> Option<Key> {
    attribute.value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::messages;
    use stdx::prng::Prng;

    fn peer(n: u8, endpoint: &str, allowed: &[(&str, u8)]) -> Peer {
        Peer {
            key: [n; 32],
            preshared: [9; 32].into(),
            endpoint: endpoint.parse().ok(),
            keepalive_secs: 25,
            allowed: allowed.iter().map(|(a, p)| (a.parse().unwrap(), *p)).collect(),
        }
    }

    fn hex(write: impl FnOnce(&mut Writer)) -> (String, Vec<u8>) {
        let mut w = Writer::new();
        write(&mut w);
        let buf = w.finish().unwrap();
        (crate::hex::encode(&buf[16..]), buf)
    }

    /// As the kernel's headers have it, after the message's own header.
    #[cfg(target_endian = "little")]
    #[test]
    fn requests_are_as_the_kernel_reads_them() {
        let (text, _) = hex(|w| find_family(w, 1, "wireguard"));
        assert_eq!(text, "030100000e000200776972656775617264000000");
        let (text, _) = hex(|w| dump_device(w, 1, 30, 5));
        assert_eq!(text, "000100000800010005000000");
        let (text, buf) = hex(|w| set_device(w, 1, (30, 5), &[7; 32].into(), 51820));
        let seven = "07".repeat(32);
        let expected = format!("01010000080001000500000024000300{seven}060006006cca0000");
        assert_eq!((&*text, &buf[4..6]), (&*expected, &[30, 0][..]));
        let one = peer(1, "192.0.2.11:51820", &[("10.42.1.0", 24)]);
        let two = [2; 32];
        let changes = [Change::Set(&one), Change::Remove(&two)];
        let (text, _) = hex(|w| set_peers(w, 1, (30, 5), &changes));
        let expected = [
            "010100000800010005000000",
            "c4000880",
            "90000080",
            &format!("24000100{}", "01".repeat(32)),
            "0800030002000000",                         // its blocks are these
            &format!("24000200{}", "09".repeat(32)),    // shared key
            "140004000200ca6cc000020b0000000000000000", // sockaddr_in
            "0600050019000000",                         // keepalive
            "20000980",
            "1c000080",
            "0600010002000000",
            "080002000a2a0100",
            "0500030018000000",
            "30000080",
            &format!("24000100{}", "02".repeat(32)),
            "0800030001000000", // goes
        ];
        assert_eq!(text, expected.concat());
    }

    #[test]
    fn answers_are_read_even_in_pieces() {
        let one = peer(1, "192.0.2.11:51820", &[("10.42.1.0", 24), ("10.42.7.0", 24)]);
        let six = peer(6, "[fd00::11]:51821", &[("fd42:0:0:1::", 64)]);
        let mut rest = peer(6, "", &[("fd42:0:0:2::", 64)]);
        let (_, buf) = hex(|w| {
            set_device(w, 1, (30, 5), &[7; 32].into(), 51820);
            set_peers(w, 2, (30, 5), &[Change::Set(&one), Change::Set(&six)]);
            rest.preshared = [0; 32].into();
            set_peers(w, 3, (30, 5), &[Change::Set(&rest)]);
        });
        let mut device = Device::default();
        for message in messages(&buf) {
            parse_device(&message.unwrap(), &mut device);
        }
        assert_eq!(device.private_key, Some([7; 32].into()));
        assert_eq!((device.listen_port, device.public_key), (51820, None));
        let mut whole = six.clone();
        whole.allowed.push(("fd42:0:0:2::".parse().unwrap(), 64));
        assert_eq!(device.peers, [one, whole]);
        let (_, buf) = hex(|w| {
            w.message(16, 0, 1, |w| {
                w.raw(&[1, 2, 0, 0]);
                w.u16(CTRL_ATTR_FAMILY_ID, 30);
            })
        });
        assert_eq!(parse_family(&messages(&buf).next().unwrap().unwrap()), Some(30));
    }

    #[test]
    fn the_largest_message_fits_its_attribute() {
        let block = ("fd42:0:0:1::", 64);
        let peers: Vec<Peer> =
            (0..PEERS_IN_MESSAGE_MAX).map(|_| peer(1, "[fd00::11]:51820", &[block; 1])).collect();
        let changes: Vec<Change<'_>> = peers.iter().map(Change::Set).collect();
        hex(|w| set_peers(w, 1, (30, 5), &changes));
    }

    #[test]
    fn mutated_messages_never_panic() {
        let one = peer(1, "192.0.2.11:51820", &[("10.42.1.0", 24)]);
        let six = peer(6, "[fd00::11]:51821", &[("fd42:0:0:1::", 64)]);
        let (_, good) = hex(|w| {
            set_peers(w, 2, (30, 5), &[Change::Set(&one), Change::Set(&six)]);
        });
        let mut prng = Prng::new(5);
        for _ in 0..20_000 {
            let mut buf = good.clone();
            for _ in 0..=prng.below(3) {
                let idx = prng.below(buf.len() as u64) as usize;
                buf[idx] = prng.next_u64() as u8;
            }
            buf.truncate(prng.below(buf.len() as u64 + 1) as usize);
            let mut device = Device::default();
            for message in messages(&buf).flatten() {
                parse_device(&message, &mut device);
                let _ = parse_family(&message);
            }
        }
    }
}
