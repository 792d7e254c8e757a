//! One question to one name server: over UDP with or without EDNS, over TCP if the answer is too large.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::{TcpStream, UdpSocket};
use stdx::{Context, Error, Result};
use wire::dns::{Foreign, MESSAGE_MAX_BYTES, Query, code};

/// What is known of a server and EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edns {
    /// It understands it.
    Known,
    /// It does not, and is not bothered with it.
    Unknown,
    /// To be found out with this question.
    Asked,
}

/// How long a server that may not know EDNS has for an answer before it is asked without: some are silent.
const EDNS_PATIENCE: Duration = Duration::from_millis(400);
/// Packets on one socket that are no answer to its question.
const STRAY_PACKETS_MAX: usize = 64;
const UDP_ANSWER_MAX_BYTES: usize = 4096;

/// Asks, and says whether the server knows EDNS. The caller sets the time for all of it.
///
/// # Errors
/// If nothing comes that answers the question.
pub async fn ask(server: SocketAddr, query: &Query, edns: Edns) -> Result<(Foreign, bool)> {
    ask_over_udp(server, query, edns).await.context(|| format!("ask name server {server}"))
}

async fn ask_over_udp(server: SocketAddr, query: &Query, edns: Edns) -> Result<(Foreign, bool)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A fresh socket, so a port of the kernel's choice, and an id a question: an attacker must guess both.
    let socket = UdpSocket::bind((any, 0)).await.context(|| "open a UDP socket")?;
    socket.connect(server).await.context(|| "connect")?;
    let mut asked = Asked { socket, query, with: None, without: None };
    match edns {
        Edns::Unknown => asked.send(false).await?,
        Edns::Known | Edns::Asked => asked.send(true).await?,
    }
    let mut answer = match edns {
        Edns::Asked => match rt::timeout(EDNS_PATIENCE, asked.receive()).await {
            Ok(answer) => answer?,
            Err(_) => {
                asked.send(false).await?;
                asked.receive().await?
            }
        },
        _ => asked.receive().await?,
    };
    let dislikes =
        matches!(answer.code(), code::FORMAT_ERROR | code::NOT_IMPLEMENTED | code::BAD_VERSION)
            || (answer.code() == code::SERVER_FAILURE && edns == Edns::Asked);
    if dislikes && answer.with_edns {
        let failure = answer;
        asked.send(false).await?;
        answer = asked.receive().await?;
        // The question was the trouble, not EDNS.
        if matches!(answer.code(), code::SERVER_FAILURE | code::FORMAT_ERROR)
            && answer.code() == failure.code()
        {
            answer.with_edns = true;
        }
    }
    let knows = answer.with_edns;
    let Some(foreign) = answer.foreign else {
        return Err(Error::new("it cannot read the question"));
    };
    if !foreign.truncated {
        return Ok((foreign, knows));
    }
    match ask_over_tcp(server, query, knows).await {
        Ok(whole) => Ok((whole, knows)),
        // Part of an answer is more than none; the client is told that it is a part.
        Err(error) => {
            log::debug!("name server {server}: {error}");
            Ok((foreign, knows))
        }
    }
}

struct Asked<'a> {
    socket: UdpSocket,
    query: &'a Query,
    /// The ids under which it was asked with EDNS and without.
    with: Option<u16>,
    without: Option<u16>,
}

struct Received {
    /// `None`: a refusal that is nothing but a header.
    foreign: Option<Foreign>,
    refused: u16,
    with_edns: bool,
}

impl Received {
    fn code(&self) -> u16 {
        self.foreign.as_ref().map_or(self.refused, |foreign| foreign.code)
    }
}

impl Asked<'_> {
    async fn send(&mut self, edns: bool) -> Result<()> {
        let other = if edns { self.without } else { self.with };
        let id = random_id(other);
        *(if edns { &mut self.with } else { &mut self.without }) = Some(id);
        self.socket.send(&self.query.to_bytes(id, edns)).await.context(|| "send")?;
        Ok(())
    }

    /// The next packet that is an answer. After the question was put without EDNS, only that counts as a refusal.
    async fn receive(&mut self) -> Result<Received> {
        let mut buf = vec![0; UDP_ANSWER_MAX_BYTES];
        for _ in 0..STRAY_PACKETS_MAX {
            let n = self.socket.recv(&mut buf).await.context(|| "receive")?;
            for (id, with_edns) in [(self.with, true), (self.without, false)] {
                let Some(id) = id else { continue };
                let late = with_edns && self.without.is_some();
                match Foreign::parse(&buf[..n], self.query, id) {
                    Ok(foreign)
                        if late
                            && foreign.code != code::NO_ERROR
                            && foreign.code != code::NAME_ERROR => {}
                    Ok(foreign) => {
                        return Ok(Received {
                            refused: foreign.code,
                            foreign: Some(foreign),
                            with_edns,
                        });
                    }
                    Err(_) => {
                        if let Some(refused) =
                            Foreign::bare_refusal(&buf[..n], id).filter(|_| !late)
                        {
                            return Ok(Received { foreign: None, refused, with_edns });
                        }
                    }
                }
            }
        }
        Err(Error::new(format!("{STRAY_PACKETS_MAX} packets that are no answer")))
    }
}

fn random_id(other: Option<u16>) -> u16 {
    let id = u16::try_from(rt::random_u64() & 0xffff).unwrap_or(0);
    if Some(id) == other { id.wrapping_add(1) } else { id }
}

async fn ask_over_tcp(server: SocketAddr, query: &Query, edns: bool) -> Result<Foreign> {
    let mut stream = TcpStream::connect(server).await.context(|| "connect over TCP")?;
    let id = random_id(None);
    let bytes = query.to_bytes(id, edns);
    let mut framed = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await.context(|| "send over TCP")?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).await.context(|| "receive over TCP")?;
    let len = usize::from(u16::from_be_bytes(len)).min(MESSAGE_MAX_BYTES);
    let mut buf = vec![0; len];
    stream.read_exact(&mut buf).await.context(|| "receive over TCP")?;
    Foreign::parse(&buf, query, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Plain;
    use wire::dns::{Answer, Data, Name, Section, kind};

    /// What a server does with a question.
    type Server = fn(query: &Query) -> Vec<Vec<u8>>;

    fn query() -> Query {
        Query::new(Name::from_text("host.example").unwrap(), kind::A)
    }

    fn good(query: &Query) -> Vec<u8> {
        coded(query, code::NO_ERROR)
    }

    fn coded(query: &Query, code: u16) -> Vec<u8> {
        let mut answer = Answer::new(query, code, false, 512);
        if code == code::NO_ERROR {
            answer.record(Section::Answer, &query.name, 30, &Data::Address([1, 2, 3, 4].into()));
        }
        answer.finish()
    }

    fn bare(query: &Query, code: u16) -> Vec<u8> {
        wire::dns::refusal(query.id, code)
    }

    /// Asks a server on loopback; what it said, and how many questions it got.
    fn try_one(server: Server, edns: Edns) -> (String, usize) {
        let socket = Plain::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut buf, mut n_asked) = ([0; 4096], 0);
            while let Ok((n, peer)) = socket.recv_from(&mut buf) {
                if n == 1 {
                    break;
                }
                n_asked += 1;
                for answer in server(&Query::parse(&buf[..n]).unwrap()) {
                    socket.send_to(&answer, peer).unwrap();
                }
            }
            n_asked
        });
        let asked = query();
        let result = rt::block_on(rt::timeout(Duration::from_secs(2), ask(address, &asked, edns)));
        let said = match result {
            Ok(Ok((foreign, knows))) => format!("{} {knows}", foreign.code),
            Ok(Err(error)) => error.to_string().split(": ").last().unwrap_or("").to_owned(),
            Err(_) => "silence".to_owned(),
        };
        Plain::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
        (said, thread.join().unwrap())
    }

    #[test]
    fn every_kind_of_server_without_edns_is_understood() {
        let table: [(&str, Server, Edns, &str, usize); 12] = [
            ("knows it", |q| vec![good(q)], Edns::Asked, "0 true", 1),
            ("is asked without", |q| vec![good(q)], Edns::Unknown, "0 false", 1),
            (
                "refuses with a header",
                |q| {
                    vec![if q.edns_udp_bytes.is_some() {
                        bare(q, code::FORMAT_ERROR)
                    } else {
                        good(q)
                    }]
                },
                Edns::Asked,
                "0 false",
                2,
            ),
            (
                "refuses with the question",
                |q| {
                    vec![if q.edns_udp_bytes.is_some() {
                        coded(q, code::FORMAT_ERROR)
                    } else {
                        good(q)
                    }]
                },
                Edns::Asked,
                "0 false",
                2,
            ),
            (
                "does not implement it",
                |q| {
                    vec![if q.edns_udp_bytes.is_some() {
                        coded(q, code::NOT_IMPLEMENTED)
                    } else {
                        good(q)
                    }]
                },
                Edns::Asked,
                "0 false",
                2,
            ),
            (
                "fails on it",
                |q| {
                    vec![if q.edns_udp_bytes.is_some() {
                        coded(q, code::SERVER_FAILURE)
                    } else {
                        good(q)
                    }]
                },
                Edns::Asked,
                "0 false",
                2,
            ),
            (
                "forgot it after a change",
                |q| {
                    vec![if q.edns_udp_bytes.is_some() {
                        bare(q, code::NOT_IMPLEMENTED)
                    } else {
                        good(q)
                    }]
                },
                Edns::Known,
                "0 false",
                2,
            ),
            (
                "is silent about it",
                |q| if q.edns_udp_bytes.is_some() { Vec::new() } else { vec![good(q)] },
                Edns::Asked,
                "0 false",
                2,
            ),
            (
                "fails on everything",
                |q| vec![coded(q, code::SERVER_FAILURE)],
                Edns::Asked,
                "2 true",
                2,
            ),
            (
                "fails, and knows it",
                |q| vec![coded(q, code::SERVER_FAILURE)],
                Edns::Known,
                "2 true",
                1,
            ),
            (
                "reads nothing",
                |q| vec![bare(q, code::FORMAT_ERROR)],
                Edns::Asked,
                "it cannot read the question",
                2,
            ),
            ("says nothing", |_| Vec::new(), Edns::Asked, "silence", 2),
        ];
        for (what, server, edns, expected, n_asked) in table {
            assert_eq!(
                try_one(server, edns),
                (expected.to_owned(), n_asked),
                "a server that {what}"
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_waited_out() {
        let forged: Server = |q| {
            let other_id = Query { id: q.id.wrapping_add(1), ..q.clone() };
            let name = Name::from_text("other.example").unwrap();
            let other_name = Query { name, ..q.clone() };
            let other_kind = Query { kind: kind::AAAA, ..q.clone() };
            let mut answers = vec![b"junk".to_vec(), Vec::from([0u8; 12])];
            answers
                .extend([&other_id, &other_name, &other_kind].map(|q| coded(q, code::NAME_ERROR)));
            answers.push(q.to_bytes(q.id, false));
            answers.push(good(q));
            answers
        };
        assert_eq!(try_one(forged, Edns::Asked), ("0 true".to_owned(), 1));
        let flood: Server = |q| vec![q.to_bytes(q.id, false); STRAY_PACKETS_MAX];
        let said = try_one(flood, Edns::Known).0;
        assert_eq!(said, format!("{STRAY_PACKETS_MAX} packets that are no answer"));
    }
}
