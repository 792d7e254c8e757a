//! The name servers behind us: read from `resolv.conf`, asked one after the other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stdx::time::Mono;
use stdx::{Error, Result};
use wire::dns::{Foreign, Query, code};

use super::health::Health;
use crate::lock;

const DNS_PORT: u16 = 53;
/// One server's time to answer, per try.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Servers that are asked; resolvers elsewhere read three.
const SERVERS_MAX: usize = 3;
/// How long a reading of the file is believed.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Where systemd-resolved writes the real servers, when `resolv.conf` only names its stub.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// Where questions go that are not the cluster's.
#[derive(Clone, Debug)]
pub(crate) struct Upstream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    resolv_conf: PathBuf,
    /// Our own addresses: asking them would be a circle.
    own: Vec<IpAddr>,
    servers: Mutex<Option<(Mono, Arc<[SocketAddr]>)>>,
    health: Mutex<Health>,
}

impl Upstream {
    pub(crate) fn new(resolv_conf: PathBuf, own: Vec<IpAddr>) -> Upstream {
        let (servers, health) = (Mutex::default(), Mutex::default());
        Upstream(Arc::new(Shared { resolv_conf, own, servers, health }))
    }

    /// The first server's answer that is no failure, or the last failure. Servers that were silent lately come
    /// last, and are tried again beside a question that need not wait for them.
    pub(crate) async fn ask(&self, query: &Query) -> Result<Foreign> {
        let servers = self.servers().await;
        let mut last =
            Err(Error::new(format!("no name server to ask in {}", self.0.resolv_conf.display())));
        let (up, down) = lock(&self.0.health).split(&servers);
        if !up.is_empty() {
            self.probe(&down, query);
        }
        let all = up.iter().chain(&down);
        for (idx, server) in all.clone().chain(all).enumerate() {
            // A server that answers, and be it with a failure, is not bettered by silent ones.
            if idx >= up.len() && last.is_ok() {
                break;
            }
            let next = self.ask_one(*server, query).await;
            match next {
                Ok(foreign) if !is_failure(foreign.code) => return Ok(foreign),
                Ok(foreign) => last = Ok(foreign),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }

    async fn ask_one(&self, server: SocketAddr, query: &Query) -> Result<Foreign> {
        let edns = lock(&self.0.health).edns(server, rt::now().mono);
        let asked = http::dns::ask(server, query, edns);
        let result = match rt::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(format!("name server {server} does not answer"))),
        };
        let mut health = lock(&self.0.health);
        match &result {
            Ok((_, knows)) => health.answered(server, *knows, rt::now().mono),
            Err(_) => health.failed(server, rt::now().mono),
        }
        result.map(|(foreign, _)| foreign)
    }

    /// Asks silent servers, now and then, whether they are back; nobody waits for it.
    fn probe(&self, down: &[SocketAddr], query: &Query) {
        for server in down {
            if lock(&self.0.health).may_probe(*server, rt::now().mono) {
                let (upstream, server, query) = (self.clone(), *server, query.clone());
                rt::spawn(async move { drop(upstream.ask_one(server, &query).await) }).detach();
            }
        }
    }

    async fn servers(&self) -> Arc<[SocketAddr]> {
        let now = rt::now().mono;
        if let Some((read, servers)) = &*lock(&self.0.servers)
            && now.since(*read) < READ_EVERY
        {
            return servers.clone();
        }
        let (path, own) = (self.0.resolv_conf.clone(), self.0.own.clone());
        let servers: Arc<[SocketAddr]> = rt::unblock(move || {
            let text = rt::fs::read_small_text(path).unwrap_or_default();
            let resolved = || rt::fs::read_small_text(RESOLVED_CONF).unwrap_or_default();
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
        lock(&self.0.health).keep(&servers);
        *lock(&self.0.servers) = Some((now, servers.clone()));
        servers
    }
}

/// What another server may know better.
fn is_failure(answered: u16) -> bool {
    matches!(
        answered,
        code::SERVER_FAILURE | code::REFUSED | code::NOT_IMPLEMENTED | code::FORMAT_ERROR
    ) || answered > 0xf
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
