//! What is remembered of each name server: whether it was silent lately, and whether it knows EDNS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use stdx::time::Mono;

use http::dns::Edns;

/// How often a silent server is asked again, at most.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long a server is believed not to know EDNS.
const WITHOUT_EDNS: Duration = Duration::from_secs(600);

/// Bounded by the servers of `resolv.conf`: [`Health::keep`] drops the others.
#[derive(Debug, Default)]
pub(crate) struct Health(HashMap<SocketAddr, Server>);

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    /// It was silent; asked last then.
    silent: Option<Mono>,
    knows_edns: Option<(bool, Mono)>,
}

impl Health {
    /// The servers that are believed to answer and those that are not, each in their order.
    pub(crate) fn split(&self, servers: &[SocketAddr]) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let is_up = |server: &&SocketAddr| self.0.get(server).is_none_or(|s| s.silent.is_none());
        servers.iter().partition(is_up)
    }

    pub(crate) fn edns(&self, server: SocketAddr, now: Mono) -> Edns {
        match self.0.get(&server).and_then(|server| server.knows_edns) {
            Some((true, _)) => Edns::Known,
            Some((false, since)) if now.since(since) < WITHOUT_EDNS => Edns::Unknown,
            _ => Edns::Asked,
        }
    }

    /// True once every [`PROBE_EVERY`].
    pub(crate) fn may_probe(&mut self, server: SocketAddr, now: Mono) -> bool {
        let Some(known) = self.0.get_mut(&server) else { return false };
        let due = known.silent.is_some_and(|last| now.since(last) >= PROBE_EVERY);
        if due {
            known.silent = Some(now);
        }
        due
    }

    pub(crate) fn answered(&mut self, server: SocketAddr, knows_edns: bool, now: Mono) {
        let known = self.0.entry(server).or_default();
        if known.silent.take().is_some() {
            log::info!("name server {server} answers again");
        }
        if known.knows_edns.is_none_or(|(before, _)| before != knows_edns) {
            known.knows_edns = Some((knows_edns, now));
        }
    }

    pub(crate) fn failed(&mut self, server: SocketAddr, now: Mono) {
        let known = self.0.entry(server).or_default();
        if known.silent.is_none() {
            log::warn!("name server {server} does not answer: others are asked first");
        }
        known.silent = Some(now);
        // Whoever comes back there may be another.
        known.knows_edns = None;
    }

    pub(crate) fn keep(&mut self, servers: &[SocketAddr]) {
        self.0.retain(|server, _| servers.contains(server));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_servers_come_last_and_are_asked_again_now_and_then() {
        let at = |secs| Mono(0) + Duration::from_secs(secs);
        let servers: Vec<SocketAddr> =
            ["10.0.0.1:53", "10.0.0.2:53"].iter().map(|text| text.parse().unwrap()).collect();
        let (one, two) = (servers[0], servers[1]);
        let mut health = Health::default();
        assert_eq!(health.split(&servers), (vec![one, two], vec![]));
        assert!(!health.may_probe(one, at(0)));
        health.failed(one, at(1));
        assert_eq!(health.split(&servers), (vec![two], vec![one]));
        let probes: Vec<u64> = (1..=14).filter(|secs| health.may_probe(one, at(*secs))).collect();
        assert_eq!(probes, [6, 11]);
        health.answered(one, true, at(15));
        assert_eq!(health.split(&servers), (vec![one, two], vec![]));
        assert!(!health.may_probe(one, at(30)));
        health.keep(&[two]);
        assert!(health.0.is_empty());
    }

    #[test]
    fn who_knows_no_edns_is_asked_without_it_for_a_while() {
        let at = |secs| Mono(0) + Duration::from_secs(secs);
        let server: SocketAddr = "10.0.0.1:53".parse().unwrap();
        let mut health = Health::default();
        assert_eq!(health.edns(server, at(0)), Edns::Asked);
        health.answered(server, false, at(1));
        health.answered(server, false, at(300));
        assert_eq!(health.edns(server, at(600)), Edns::Unknown);
        assert_eq!(health.edns(server, at(601)), Edns::Asked);
        health.answered(server, true, at(602));
        assert_eq!(health.edns(server, at(100_000)), Edns::Known);
        health.failed(server, at(100_001));
        assert_eq!(health.edns(server, at(100_002)), Edns::Asked);
    }
}
