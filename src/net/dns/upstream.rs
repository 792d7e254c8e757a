//! The name servers behind us: read from `resolv.conf`, asked one after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rt::io::{AsyncReadExt, AsyncWriteExt};
use rt::net::{TcpStream, UdpSocket};
use stdx::time::Mono;
use stdx::{Context, Error, Result};
use wire::dns::{Foreign, MESSAGE_MAX_BYTES, Query};

use crate::lock;

const DNS_PORT: u16 = 53;
/// One server's time to answer, per try.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Servers that are asked; resolvers elsewhere read three.
const SERVERS_MAX: usize = 3;
/// How long a reading of the file is believed.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Where systemd-resolved writes the real servers, when `resolv.conf` only names its stub.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Where questions go that are not the cluster's.
#[derive(Debug)]
pub(crate) struct Upstream {
    resolv_conf: PathBuf,
    /// Our own addresses: asking them would be a circle.
    own: Vec<IpAddr>,
    servers: Mutex<Option<(Mono, Arc<[SocketAddr]>)>>,
}

impl Upstream {
    pub(crate) fn new(resolv_conf: PathBuf, own: Vec<IpAddr>) -> Upstream {
        Upstream { resolv_conf, own, servers: Mutex::default() }
    }

    /// The first server's answer that is no failure, or the last failure.
    pub(crate) async fn ask(&self, query: &Query) -> Result<Foreign> {
        let servers = self.servers().await;
        let mut last =
            Err(Error::new(format!("no name server to ask in {}", self.resolv_conf.display())));
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            last = match rt::timeout(ANSWER_TIMEOUT, ask_one(*server, query)).await {
                Ok(Ok(foreign)) if foreign.code == wire::dns::code::SERVER_FAILURE => Ok(foreign),
                Ok(Ok(foreign)) => return Ok(foreign),
                Ok(Err(error)) => Err(error).context(|| format!("ask name server {server}")),
                Err(_) => Err(Error::new(format!("name server {server} does not answer"))),
            };
        }
        last
    }

    async fn servers(&self) -> Arc<[SocketAddr]> {
        let now = rt::now().mono;
        if let Some((read, servers)) = &*lock(&self.servers)
            && now.since(*read) < READ_EVERY
        {
            return servers.clone();
        }
        let (path, own) = (self.resolv_conf.clone(), self.own.clone());
        let servers: Arc<[SocketAddr]> = rt::unblock(move || {
            let text = rt::fs::read_text(path).unwrap_or_default();
            let resolved = || rt::fs::read_text(RESOLVED_CONF).unwrap_or_default();
            // A resolver on the host's own loopback is reachable from here, but comes last: it may
            // itself lead to cluster DNS.
            Some(parse(&text, &own, false))
                .filter(|servers| !servers.is_empty())
                .or_else(|| Some(parse(&resolved(), &own, false)))
                .filter(|servers| !servers.is_empty())
                .unwrap_or_else(|| parse(&text, &own, true))
        })
        .await
        .into();
        *lock(&self.servers) = Some((now, servers.clone()));
        servers
    }
}

/// The `nameserver` lines that are on loopback or not, without our own addresses.
fn parse(text: &str, own: &[IpAddr], loopback: bool) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        let usable = ip.is_loopback() == loopback && !ip.is_unspecified() && !own.contains(&ip);
        if usable && servers.len() < SERVERS_MAX {
            servers.push(SocketAddr::new(ip, DNS_PORT));
        }
    }
    servers
}

async fn ask_one(server: SocketAddr, query: &Query) -> Result<Foreign> {
    // A fresh socket and id a question: an attacker must guess both.
    let id = u16::try_from(rt::random_u64() & 0xffff).unwrap_or(0);
    let bytes = query.to_bytes(id);
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.context(|| "open a UDP socket")?;
    socket.connect(server).await.context(|| "connect")?;
    socket.send(&bytes).await.context(|| "send")?;
    const UDP_ANSWER_MAX_BYTES: usize = 4096;
    let mut buf = vec![0; UDP_ANSWER_MAX_BYTES];
    loop {
        let n = socket.recv(&mut buf).await.context(|| "receive")?;
        match Foreign::parse(&buf[..n], query, id) {
            Ok(foreign) if foreign.truncated => return ask_over_tcp(server, query, id).await,
            Ok(foreign) => return Ok(foreign),
            // Not the answer: it may still come.
            Err(error) => log::debug!("name server {server}: {error}"),
        }
    }
}

async fn ask_over_tcp(server: SocketAddr, query: &Query, id: u16) -> Result<Foreign> {
    let mut stream = TcpStream::connect(server).await.context(|| "connect over TCP")?;
    let bytes = query.to_bytes(id);
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

    #[test]
    fn loopback_servers_are_apart_and_our_own_are_skipped() {
        let text = "# x\nsearch a b\nnameserver 127.0.0.53\nnameserver 10.43.0.10\n\
                    nameserver 192.168.1.1 # router\nnameserver fd00::1\nnameserver bad\noptions x\n";
        let own: Vec<IpAddr> = vec!["10.43.0.10".parse().unwrap()];
        let found = |text: &str, loopback| -> Vec<String> {
            parse(text, &own, loopback).iter().map(SocketAddr::to_string).collect()
        };
        assert_eq!(found(text, false), ["192.168.1.1:53", "[fd00::1]:53"]);
        assert_eq!(found(text, true), ["127.0.0.53:53"]);
        assert!(found("", false).is_empty());
    }
}
