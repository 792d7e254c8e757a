//! DHCP for IPv4 (RFC 2131, 2132, 3396, 3442): what a client sends, and what it reads of a server's answers.
//!
//! Reading never panics: an answer that is too short, or whose options lie about their length, is no answer.

use std::net::Ipv4Addr;

/// Kinds of messages (option 53).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: u8,
    pub transaction: u32,
    /// Since the client began, at most 65535.
    pub secs: u16,
    pub mac: [u8; 6],
    /// The address that the client has and answers on; unspecified if none.
    pub client: Ipv4Addr,
    /// The address that it wants (option 50).
    pub requested: Option<Ipv4Addr>,
    /// Whose offer it takes (option 54).
    pub server: Option<Ipv4Addr>,
    /// Empty: none.
    pub hostname: String,
}

/// What a server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub kind: u8,
    pub transaction: u32,
    pub mac: [u8; 6],
    /// The address that the client gets.
    pub address: Option<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    pub prefix: Option<u8>,
    pub routers: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub domain: String,
    pub hostname: String,
    pub mtu: Option<u16>,
    pub lease_secs: Option<u32>,
    pub renewal_secs: Option<u32>,
    pub rebinding_secs: Option<u32>,
    /// Destination, prefix length, gateway (option 121). If there are any, `routers` do not count.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// A server's words to people.
    pub message: String,
}

const HEADER_LEN: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Some relays throw away what is shorter than BOOTP's messages were.
const MESSAGE_MIN_BYTES: usize = 300;
/// More of a list is not read.
const LIST_MAX_ITEMS: usize = 16;

const MASK: u8 = 1;
const ROUTERS: u8 = 3;
const DNS: u8 = 6;
const HOSTNAME: u8 = 12;
const DOMAIN: u8 = 15;
const MTU: u8 = 26;
const REQUESTED: u8 = 50;
const LEASE: u8 = 51;
const OVERLOAD: u8 = 52;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
const MESSAGE: u8 = 56;
const SIZE_MAX: u8 = 57;
const RENEWAL: u8 = 58;
const REBINDING: u8 = 59;
const CLIENT_ID: u8 = 61;
const ROUTES: u8 = 121;

/// What we ask for.
const WANTED: [u8; 10] =
    [ROUTES, MASK, ROUTERS, DNS, HOSTNAME, DOMAIN, MTU, LEASE, RENEWAL, REBINDING];

/// The largest message that we read.
pub const REPLY_MAX_BYTES: u16 = 1500;

impl Request {
    pub fn to_bytes(&self) -> Vec<u8> {
        const BOOT_REQUEST: u8 = 1;
        const ETHERNET: u8 = 1;
        const BROADCAST: u16 = 0x8000;
        let mut bytes = Vec::with_capacity(MESSAGE_MIN_BYTES);
        bytes.extend([BOOT_REQUEST, ETHERNET, 6, 0]);
        bytes.extend(self.transaction.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        // Without an address we can only hear what is sent to all.
        let flags = if self.client.is_unspecified() { BROADCAST } else { 0 };
        bytes.extend(flags.to_be_bytes());
        bytes.extend(self.client.octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(HEADER_LEN, 0);
        bytes.extend(COOKIE);
        let mut option = |code: u8, value: &[u8]| {
            let value = &value[..value.len().min(255)];
            bytes.push(code);
            bytes.push(u8::try_from(value.len()).unwrap_or(0));
            bytes.extend(value);
        };
        option(KIND, &[self.kind]);
        let mut id = [ETHERNET; 7];
        id[1..].copy_from_slice(&self.mac);
        option(CLIENT_ID, &id);
        if let Some(address) = self.requested {
            option(REQUESTED, &address.octets());
        }
        if let Some(server) = self.server {
            option(SERVER, &server.octets());
        }
        if matches!(self.kind, DISCOVER | REQUEST) {
            option(SIZE_MAX, &REPLY_MAX_BYTES.to_be_bytes());
            if !self.hostname.is_empty() {
                option(HOSTNAME, self.hostname.as_bytes());
            }
            option(PARAMETERS, &WANTED);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(MESSAGE_MIN_BYTES), 0);
        bytes
    }
}

impl Reply {
    /// Reads a server's message; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Reply> {
        const BOOT_REPLY: u8 = 2;
        let header = bytes.get(..HEADER_LEN)?;
        let options = bytes.get(HEADER_LEN..)?.strip_prefix(&COOKIE)?;
        if header[0] != BOOT_REPLY || header[1] != 1 || header[2] != 6 {
            return None;
        }
        let options = Options::read(options, header)?;
        let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
        let one = |code| options.get(code).and_then(|value| address(value.get(..4)?));
        let number = |code| {
            options
                .get(code)
                .and_then(|value| <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes))
        };
        let list = |code| {
            let value = options.get(code).unwrap_or(&[]);
            value.chunks_exact(4).take(LIST_MAX_ITEMS).filter_map(address).collect::<Vec<_>>()
        };
        let text = |code| {
            let value = options.get(code).unwrap_or(&[]);
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            String::from_utf8_lossy(&value[..end]).into_owned()
        };
        let mask = one(MASK).map(u32::from);
        // A mask with holes is none.
        let mask = mask.filter(|mask| mask.leading_ones() + mask.trailing_zeros() >= 32);
        Some(Reply {
            kind: *options.get(KIND)?.first()?,
            transaction: u32::from_be_bytes(header[4..8].try_into().ok()?),
            mac: header[28..34].try_into().ok()?,
            address: address(&header[16..20]).filter(|address| !address.is_unspecified()),
            server: one(SERVER),
            prefix: mask.and_then(|mask| u8::try_from(mask.leading_ones()).ok()),
            routers: list(ROUTERS),
            dns: list(DNS),
            domain: text(DOMAIN),
            hostname: text(HOSTNAME),
            mtu: options
                .get(MTU)
                .and_then(|value| <[u8; 2]>::try_from(value).ok())
                .map(u16::from_be_bytes),
            lease_secs: number(LEASE),
            renewal_secs: number(RENEWAL),
            rebinding_secs: number(REBINDING),
            routes: routes(options.get(ROUTES).unwrap_or(&[])),
            message: text(MESSAGE),
        })
    }
}

/// Classless routes: prefix length, as many bytes of the destination as it needs, gateway.
fn routes(mut bytes: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first() {
        let n = usize::from(*prefix).div_ceil(8);
        let (Some(significant), Some(gateway)) = (rest.get(..n), rest.get(n..n + 4)) else { break };
        if *prefix > 32 || routes.len() == LIST_MAX_ITEMS {
            break;
        }
        let mut destination = [0; 4];
        destination[..n].copy_from_slice(significant);
        let gateway = Ipv4Addr::new(gateway[0], gateway[1], gateway[2], gateway[3]);
        routes.push((Ipv4Addr::from(destination), *prefix, gateway));
        bytes = &rest[n + 4..];
    }
    routes
}

/// Options by code; the parts of a long one are put together.
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// Reads the options field, and those in the file and server name fields if they are lent out.
    fn read(field: &[u8], header: &[u8]) -> Option<Options> {
        let mut options = Options(Vec::new());
        options.add(field)?;
        let lent = options.get(OVERLOAD).and_then(|value| value.first().copied()).unwrap_or(0);
        if lent & 1 != 0 {
            options.add(&header[108..236])?;
        }
        if lent & 2 != 0 {
            options.add(&header[44..108])?;
        }
        Some(options)
    }

    fn add(&mut self, mut field: &[u8]) -> Option<()> {
        while let Some((code, rest)) = field.split_first() {
            match code {
                0 => field = rest,
                255 => break,
                _ => {
                    let (len, rest) = rest.split_first()?;
                    let value = rest.get(..usize::from(*len))?;
                    field = &rest[usize::from(*len)..];
                    match self.0.iter_mut().find(|(known, _)| known == code) {
                        Some((_, known)) => known.extend(value),
                        None => self.0.push((*code, value.to_vec())),
                    }
                }
            }
        }
        Some(())
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }
}

/// A server's message with these options: for tests of clients.
#[cfg(test)]
pub(crate) fn reply_bytes(
    transaction: u32,
    mac: [u8; 6],
    address: Ipv4Addr,
    options: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&transaction.to_be_bytes());
    bytes[16..20].copy_from_slice(&address.octets());
    bytes[28..34].copy_from_slice(&mac);
    bytes.extend(COOKIE);
    for (code, value) in options {
        for part in value.chunks(255) {
            bytes.extend([*code, u8::try_from(part.len()).unwrap_or(0)]);
            bytes.extend(part);
        }
    }
    bytes.push(255);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdx::prng::Prng;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    #[test]
    fn a_request_is_laid_out_as_the_standard_says() {
        let request = Request {
            kind: REQUEST,
            transaction: 0x0102_0304,
            secs: 5,
            mac: MAC,
            client: Ipv4Addr::UNSPECIFIED,
            requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            hostname: "gate".into(),
        };
        let bytes = request.to_bytes();
        assert_eq!(bytes.len(), MESSAGE_MIN_BYTES);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
        assert_eq!(bytes[28..34], MAC);
        let options = [
            &[53, 1, 3, 61, 7, 1][..],
            &MAC,
            &[50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 57, 2, 5, 220, 12, 4],
            b"gate",
            &[55, 10, 121, 1, 3, 6, 12, 15, 26, 51, 58, 59, 255, 0],
        ]
        .concat();
        assert_eq!(bytes[236..240], COOKIE);
        assert_eq!(bytes[240..240 + options.len()], options);
        let renewing = Request {
            client: Ipv4Addr::new(10, 0, 2, 15),
            requested: None,
            server: None,
            ..request
        };
        let bytes = renewing.to_bytes();
        assert_eq!(bytes[10..16], [0, 0, 10, 0, 2, 15], "it can be answered without broadcast");
    }

    fn offer() -> Vec<u8> {
        reply_bytes(
            7,
            MAC,
            Ipv4Addr::new(10, 0, 2, 15),
            &[
                (KIND, &[OFFER]),
                (MASK, &[255, 255, 252, 0]),
                (ROUTERS, &[10, 0, 2, 2]),
                (DNS, &[10, 0, 2, 3, 1, 1, 1, 1]),
                (LEASE, &86400u32.to_be_bytes()),
                (SERVER, &[10, 0, 2, 2]),
                (HOSTNAME, b"gate\0"),
                (DOMAIN, b"lan"),
                (MTU, &[5, 120]),
                (ROUTES, &[0, 10, 0, 2, 2, 20, 172, 16, 16, 10, 0, 2, 9]),
            ],
        )
    }

    #[test]
    fn an_offer_is_read() {
        let reply = Reply::parse(&offer()).unwrap();
        let want = Reply {
            kind: OFFER,
            transaction: 7,
            mac: MAC,
            address: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            prefix: Some(22),
            routers: vec![Ipv4Addr::new(10, 0, 2, 2)],
            dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(1, 1, 1, 1)],
            domain: "lan".into(),
            hostname: "gate".into(),
            mtu: Some(1400),
            lease_secs: Some(86400),
            routes: vec![
                (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 2)),
                (Ipv4Addr::new(172, 16, 16, 0), 20, Ipv4Addr::new(10, 0, 2, 9)),
            ],
            ..Reply::default()
        };
        assert_eq!(reply, want);
    }

    #[test]
    fn options_in_lent_fields_and_in_parts() {
        let mut bytes = reply_bytes(
            1,
            MAC,
            Ipv4Addr::UNSPECIFIED,
            &[(OVERLOAD, &[3]), (MESSAGE, b"no "), (0, &[]), (MESSAGE, b"address")],
        );
        bytes[108..112].copy_from_slice(&[KIND, 1, NAK, 255]);
        bytes[44..51].copy_from_slice(&[SERVER, 4, 10, 0, 0, 1, 255]);
        let reply = Reply::parse(&bytes).unwrap();
        assert_eq!((reply.kind, reply.message.as_str()), (NAK, "no address"));
        assert_eq!((reply.server, reply.address), (Some(Ipv4Addr::new(10, 0, 0, 1)), None));
    }

    #[test]
    fn what_is_no_answer() {
        let good = offer();
        let request = Request {
            kind: DISCOVER,
            transaction: 7,
            secs: 0,
            mac: MAC,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            hostname: String::new(),
        };
        assert_eq!(Reply::parse(&request.to_bytes()), None, "our own question");
        assert_eq!(Reply::parse(&good[..240]), None, "no kind");
        assert_eq!(Reply::parse(&good[..250]), None, "an option is cut off");
        let holes =
            reply_bytes(1, MAC, Ipv4Addr::UNSPECIFIED, &[(KIND, &[2]), (MASK, &[255, 0, 255, 0])]);
        assert_eq!(Reply::parse(&holes).unwrap().prefix, None);
    }

    #[test]
    fn arbitrary_bytes_end_without_panic() {
        let mut prng = Prng::new(5);
        let good = offer();
        for round in 0..30_000u64 {
            let mut bytes = good.clone();
            match round % 3 {
                0 => bytes.truncate(prng.below(bytes.len() as u64) as usize),
                1 => {
                    bytes.resize(240 + prng.below(200) as usize, 0);
                    prng.fill(&mut bytes[240..]);
                }
                _ => {
                    for _ in 0..=prng.below(4) {
                        let idx = prng.below(bytes.len() as u64) as usize;
                        bytes[idx] = prng.next_u64() as u8;
                    }
                }
            }
            if let Some(reply) = Reply::parse(&bytes) {
                assert!(reply.dns.len() <= LIST_MAX_ITEMS && reply.routes.len() <= LIST_MAX_ITEMS);
                assert!(reply.prefix.unwrap_or(0) <= 32);
            }
        }
    }
}
