//! Names of hosts, looked up as other programs of this machine do: in `/etc/hosts`, then by the name servers of
//! `/etc/resolv.conf`, with its `search`, `ndots`, `timeout` and `attempts` (resolv.conf(5)).
//!
//! Not by the C library: to look a name up, a static program would load whatever shared libraries the host has.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rt::BoxFuture;
use rt::net::{TcpStream, is_far};
use wire::dns::{Name, Query, code, kind};

use crate::dns::{self, Edns};

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Name servers, and domains that are searched, that count: as resolvers elsewhere have it.
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
const NDOTS_MAX: usize = 15;
const TIMEOUT_MAX_SECS: u64 = 30;
const ATTEMPTS_MAX: usize = 5;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Connects to a name or an address, to the first of the name's addresses that answers.
///
/// # Errors
/// Why the name leads nowhere, or why the last address does not answer.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream> {
    first_of(lookup(host).await?, port).await
}

/// As [`connect`], for a place that a stranger named: never to this machine, nor to what only its own
/// link has, whatever a name resolves to at that moment.
///
/// # Errors
/// As [`connect`], and if there is no other address.
pub(crate) async fn connect_far(host: &str, port: u16) -> Result<TcpStream> {
    let mut far = lookup(host).await?;
    far.retain(|address| is_far(*address));
    if far.is_empty() {
        let text = "its address is loopback, link-local, unspecified or multicast";
        return Err(Error::new(ErrorKind::PermissionDenied, text));
    }
    first_of(far, port).await
}

async fn first_of(addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream> {
    let mut last = ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of a host, IPv4 first; an address, with brackets or without, is its own.
///
/// # Errors
/// `NotFound` if there is no such host, others if nobody could say.
pub fn lookup(host: &str) -> BoxFuture<'_, Result<Vec<IpAddr>>> {
    // Boxed: it is below every request, and rarely more than an address.
    Box::pin(look_up(host))
}

async fn look_up(host: &str) -> Result<Vec<IpAddr>> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let read =
        |path: &'static str| rt::unblock(move || rt::fs::read_small_text(path).unwrap_or_default());
    let listed = in_hosts(&read(HOSTS).await, name);
    if !listed.is_empty() {
        return Ok(listed);
    }
    if is_localhost(name) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    Resolver::read(&read(RESOLV_CONF).await).find(name).await
}

/// RFC 6761: no server is asked for it.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The addresses of the lines that name a host.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name)).then_some(address)
    });
    lines.take(ADDRESSES_MAX).collect()
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, PartialEq)]
struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: usize,
}

impl Resolver {
    fn read(text: &str) -> Resolver {
        let mut found = Resolver {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if found.servers.len() < SERVERS_MAX => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    found.servers.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
                }
                // The last line counts.
                Some("search" | "domain") => {
                    let domains = words.map(|word| word.trim_end_matches('.').to_owned());
                    found.search =
                        domains.filter(|word| !word.is_empty()).take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|word| found.option(word)),
                _ => {}
            }
        }
        if found.servers.is_empty() {
            found.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        found
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<usize>() else { return };
        match name {
            "ndots" => self.ndots = value.min(NDOTS_MAX),
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS_MAX),
            "timeout" => {
                let secs = u64::try_from(value).unwrap_or(TIMEOUT_MAX_SECS);
                self.timeout = Duration::from_secs(secs.clamp(1, TIMEOUT_MAX_SECS));
            }
            _ => {}
        }
    }

    /// The names that a name may mean, in the order in which they are asked for.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let mut all: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let place = if name.matches('.').count() >= self.ndots { 0 } else { all.len() };
        all.insert(place, name.to_owned());
        all
    }

    async fn find(&self, name: &str) -> Result<Vec<IpAddr>> {
        let mut failed = None;
        for candidate in self.candidates(name) {
            match self.ask(&candidate).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("lookup {name}: no such host"))
        }))
    }

    /// The addresses of a whole name; none if a server says that there are none.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>> {
        let no_name = |_| Error::new(ErrorKind::NotFound, format!("lookup {name}: no such host"));
        let name = Name::from_text(name).map_err(no_name)?;
        let (v4, v6) = (Query::new(name.clone(), kind::A), Query::new(name.clone(), kind::AAAA));
        let mut last = Error::other("no name server");
        for _ in 0..self.attempts {
            for server in &self.servers {
                // Who answers one of them answers at once; the time is that of both.
                let both = rt::future::zip(ask(*server, &v4), ask(*server, &v6));
                let answers = match rt::timeout(self.timeout, both).await {
                    Ok((v4, v6)) => [v4, v6],
                    Err(rt::Elapsed) => {
                        let why = format!("lookup {}: i/o timeout", name.to_lower_text());
                        last = Error::new(ErrorKind::TimedOut, why);
                        continue;
                    }
                };
                let mut found = Vec::new();
                let mut failed = None;
                for answer in answers {
                    match answer {
                        Ok(addresses) => found.extend(addresses),
                        Err(error) => failed = Some(error),
                    }
                }
                match failed {
                    Some(error) if found.is_empty() => last = error,
                    _ => {
                        found.truncate(ADDRESSES_MAX);
                        return Ok(found);
                    }
                }
            }
        }
        Err(last)
    }
}

/// Asks one server.
async fn ask(server: SocketAddr, query: &Query) -> Result<Vec<IpAddr>> {
    // What EDNS would save is a second question over TCP, for answers that are rare here.
    let asked = dns::ask(server, query, Edns::Unknown).await;
    let (answer, _) = asked.map_err(|error| Error::other(error.to_string()))?;
    match answer.code {
        code::NO_ERROR | code::NAME_ERROR => Ok(answer.addresses()),
        other => Err(Error::other(format!("name server {server} answers with code {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use rt::io::{AsyncReadExt, AsyncWriteExt};
    use rt::net::UdpSocket;
    use wire::dns::MESSAGE_MAX_BYTES;

    use super::*;

    #[test]
    fn files_are_read_as_elsewhere() {
        let hosts = "# x\n127.0.0.1 localhost me\n192.0.2.7\tA.example. a # b\n::1 localhost\nbad a\n192.0.2.8 a\n";
        for (name, wanted) in [
            ("localhost", "127.0.0.1 ::1"),
            ("a", "192.0.2.7 192.0.2.8"),
            ("a.EXAMPLE", "192.0.2.7"),
            ("b", ""),
            ("192.0.2.7", ""),
        ] {
            let found: Vec<String> =
                in_hosts(hosts, name).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), wanted, "{name}");
        }
        let text = "; x\ndomain a.\nsearch b.example c\nnameserver 192.0.2.1 # x\nnameserver bad\n\
                    nameserver fd00::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n\
                    options ndots:2 timeout:0 attempts:99 rotate ndots:x\n";
        let found = Resolver::read(text);
        let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.2:53"]);
        assert_eq!(found.search, ["b.example", "c"]);
        assert_eq!((found.ndots, found.timeout.as_secs(), found.attempts), (2, 1, 5));
        assert_eq!(found.candidates("x"), ["x.b.example", "x.c", "x"]);
        assert_eq!(found.candidates("x.y.z"), ["x.y.z", "x.y.z.b.example", "x.y.z.c"]);
        assert_eq!(found.candidates("x."), ["x"]);
        let nothing = Resolver::read("");
        assert_eq!(nothing.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert!(is_localhost("a.LocalHost.") && !is_localhost("localhost.example"));
    }

    /// A server that knows `a.example` (both families), tells of `long.example` over TCP only, and fails for `bad.example`.
    async fn serve(socket: UdpSocket, listener: rt::net::TcpListener) {
        use wire::dns::{Answer, Data, Section};
        let answer = |bytes: &[u8], over_tcp: bool| {
            let query = Query::parse(bytes).unwrap();
            let name = query.name.to_lower_text();
            let name = name.trim_end_matches('.');
            let code = match name {
                "a.example" | "long.example" => code::NO_ERROR,
                "bad.example" => code::SERVER_FAILURE,
                _ => code::NAME_ERROR,
            };
            let mut answer = Answer::new(&query, code, false, MESSAGE_MAX_BYTES);
            let v4 = Data::Address([192, 0, 2, 9].into());
            let v6 = Data::Address(Ipv6Addr::from(0xfd00_u128 << 112 | 9).into());
            match (name, query.kind) {
                (_, kind::A) if code == 0 => answer.record(Section::Answer, &query.name, 1, &v4),
                (_, kind::AAAA) if code == 0 => answer.record(Section::Answer, &query.name, 1, &v6),
                _ => {}
            }
            let mut bytes = answer.finish();
            if name == "long.example" && !over_tcp {
                // Cut.
                bytes[2] |= 2;
            }
            bytes
        };
        let over_udp = async {
            let mut buf = [0; 512];
            loop {
                let (n, from) = socket.recv_from(&mut buf).await.unwrap();
                // Somebody else's answer comes first.
                socket.send_to(&[0; 12], from).await.unwrap();
                socket.send_to(&answer(&buf[..n], false), from).await.unwrap();
            }
        };
        let over_tcp = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut len = [0; 2];
                stream.read_exact(&mut len).await.unwrap();
                let mut buf = vec![0; usize::from(u16::from_be_bytes(len))];
                stream.read_exact(&mut buf).await.unwrap();
                let bytes = answer(&buf, true);
                let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                stream.write_all(&[&len[..], &bytes].concat()).await.unwrap();
            }
        };
        rt::future::or(over_udp, over_tcp).await
    }

    #[test]
    fn servers_are_asked_as_elsewhere() {
        rt::block_on(async {
            let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = listener.local_addr().unwrap();
            let socket = UdpSocket::bind(server).await.unwrap();
            let _serving = rt::spawn(serve(socket, listener));
            let resolver = Resolver {
                servers: vec![server],
                search: vec!["example".into()],
                ndots: 1,
                timeout: Duration::from_secs(5),
                attempts: 1,
            };
            for (name, wanted) in [
                ("a", "192.0.2.9 fd00::9"),
                ("a.example", "192.0.2.9 fd00::9"),
                ("A.Example.", "192.0.2.9 fd00::9"),
                ("long", "192.0.2.9 fd00::9"),
                ("none", "lookup none: no such host"),
                ("a.", "lookup a.: no such host"),
            ] {
                let found = resolver.find(name).await;
                let found =
                    found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
                let found = found.map_or_else(|error| error.to_string(), |all| all.join(" "));
                assert_eq!(found, wanted, "{name}");
            }
            let error = resolver.find("bad").await.unwrap_err().to_string();
            assert!(error.ends_with("answers with code 2"), "{error}");
            assert_eq!(lookup("[::1]").await.unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
            let near = connect_far("localhost", 1).await.unwrap_err();
            assert_eq!(near.kind(), ErrorKind::PermissionDenied);
        });
    }
}
