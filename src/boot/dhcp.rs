//! The DHCP client as a state machine: time and messages come in, messages and settings go out. No I/O.

use std::net::Ipv4Addr;
use std::time::Duration;

use stdx::time::Mono;
use wire::dhcp::{ACK, DISCOVER, NAK, OFFER, REQUEST, Reply, Request};

/// How long a server may take before we ask again: doubled each time, up to the second value.
const ASK_FIRST: Duration = Duration::from_secs(2);
const ASK_MAX: Duration = Duration::from_secs(64);
/// Requests for one offer before we look for another.
const REQUESTS_MAX: u32 = 4;
/// Below this, asking again would be all we do (RFC 2131, 4.4.5).
const RENEW_AGAIN_MIN: Duration = Duration::from_secs(60);
/// A server that says nothing, or nonsense, gets this.
const LEASE_MIN: Duration = Duration::from_secs(30);
/// No server makes us renew more often.
const PAUSE_MIN: Duration = Duration::from_secs(10);
const LEASE_DEFAULT: Duration = Duration::from_secs(3600);

/// What the network gave us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    /// Destination, prefix length, gateway; unspecified is the default route, no gateway a neighbour.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) domain: String,
    pub(crate) hostname: String,
    pub(crate) mtu: Option<u16>,
    pub(crate) server: Ipv4Addr,
    pub(crate) lifetime: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// To everyone.
    Broadcast(Request),
    Send(Ipv4Addr, Request),
    /// Use this, in place of what was used before.
    Use(Lease),
    /// The lease is over: use nothing.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Discovering,
    Requesting { offer: Reply },
    Bound { lease: Lease, since: Mono },
    Renewing { lease: Lease, since: Mono },
    Rebinding { lease: Lease, since: Mono },
}

#[derive(Debug)]
pub(crate) struct Client {
    mac: [u8; 6],
    hostname: String,
    state: State,
    /// The number of the present conversation; the server repeats it.
    transaction: u32,
    began: Mono,
    /// Messages of this state that went unanswered.
    n_asked: u32,
    /// When to act next if nothing comes.
    pub(crate) deadline: Mono,
    renew_after: Duration,
    rebind_after: Duration,
}

impl Client {
    /// Acts at its deadline, which is now. `seed` makes transactions differ between machines and starts.
    pub(crate) fn new(mac: [u8; 6], hostname: &str, seed: u32, now: Mono) -> Client {
        Client {
            mac,
            hostname: hostname.to_owned(),
            state: State::Discovering,
            transaction: seed,
            began: now,
            n_asked: 0,
            deadline: now,
            renew_after: Duration::ZERO,
            rebind_after: Duration::ZERO,
        }
    }

    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. }
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Since when it has looked for an address, if it has none.
    pub(crate) fn waiting_since(&self) -> Option<Mono> {
        self.lease().is_none().then_some(self.began)
    }

    /// The cable is in (again): perhaps in another network. What we have is asked for at once, of anybody.
    pub(crate) fn link_is_up(&mut self, now: Mono) -> Vec<Action> {
        match std::mem::replace(&mut self.state, State::Discovering) {
            State::Bound { lease, since }
            | State::Renewing { lease, since }
            | State::Rebinding { lease, since } => {
                self.state = State::Rebinding { lease, since };
                self.converse(now);
                self.ask(now)
            }
            _ => {
                self.restart(now);
                self.ask(now)
            }
        }
    }

    /// What to do when the deadline has passed.
    pub(crate) fn tick(&mut self, now: Mono) -> Vec<Action> {
        if now < self.deadline {
            return Vec::new();
        }
        let (renew, rebind) = (self.renew_after, self.rebind_after);
        match std::mem::replace(&mut self.state, State::Discovering) {
            State::Discovering => self.ask(now),
            State::Requesting { .. } if self.n_asked >= REQUESTS_MAX => {
                self.restart(now);
                self.ask(now)
            }
            State::Requesting { offer } => {
                self.state = State::Requesting { offer };
                self.ask(now)
            }
            State::Bound { lease, since }
            | State::Renewing { lease, since }
            | State::Rebinding { lease, since }
                if now >= since + lease.lifetime =>
            {
                self.restart(now);
                let mut actions = vec![Action::Stop];
                actions.extend(self.ask(now));
                actions
            }
            State::Bound { lease, since } if now < since + rebind => {
                self.state = State::Renewing { lease, since };
                if now < since + renew {
                    self.deadline = since + renew;
                    return Vec::new();
                }
                self.converse(now);
                self.ask(now)
            }
            State::Renewing { lease, since } if now < since + rebind => {
                self.state = State::Renewing { lease, since };
                self.ask(now)
            }
            State::Rebinding { lease, since } => {
                self.state = State::Rebinding { lease, since };
                self.ask(now)
            }
            State::Bound { lease, since } | State::Renewing { lease, since } => {
                self.state = State::Rebinding { lease, since };
                self.converse(now);
                self.ask(now)
            }
        }
    }

    /// What to do with a server's message.
    pub(crate) fn receive(&mut self, reply: &Reply, now: Mono) -> Vec<Action> {
        if reply.transaction != self.transaction || reply.mac != self.mac {
            return Vec::new();
        }
        match (&self.state, reply.kind) {
            (State::Discovering, OFFER) if reply.address.is_some() && reply.server.is_some() => {
                self.state = State::Requesting { offer: reply.clone() };
                self.n_asked = 0;
                self.ask(now)
            }
            (State::Requesting { offer }, ACK) if reply.server.or(offer.server) == offer.server => {
                self.bind(reply, now)
            }
            (State::Renewing { .. } | State::Rebinding { .. }, ACK) => self.bind(reply, now),
            (State::Requesting { offer }, NAK) if reply.server.or(offer.server) == offer.server => {
                self.restart(now);
                // Not at once: a server that refuses what it offers would be asked for ever.
                self.deadline = now + ASK_FIRST;
                Vec::new()
            }
            (State::Renewing { .. } | State::Rebinding { .. }, NAK) => {
                self.restart(now);
                let mut actions = vec![Action::Stop];
                actions.extend(self.ask(now));
                actions
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, reply: &Reply, now: Mono) -> Vec<Action> {
        let Some(lease) = lease(reply, self.lease()) else { return Vec::new() };
        let lifetime = lease.lifetime;
        let secs = |value: Option<u32>| value.map(|secs| Duration::from_secs(u64::from(secs)));
        // The server's times count if they are in order and leave us time to do anything else.
        let rebind = secs(reply.rebinding_secs).filter(|at| (PAUSE_MIN..lifetime).contains(at));
        self.rebind_after = rebind.unwrap_or(lifetime / 8 * 7);
        let renew =
            secs(reply.renewal_secs).filter(|at| (PAUSE_MIN..self.rebind_after).contains(at));
        self.renew_after = renew.unwrap_or(lifetime / 2);
        self.renew_after = self.renew_after.min(self.rebind_after);
        self.n_asked = 0;
        self.deadline = now + self.renew_after;
        self.state = State::Bound { lease: lease.clone(), since: now };
        vec![Action::Use(lease)]
    }

    fn restart(&mut self, now: Mono) {
        self.state = State::Discovering;
        self.converse(now);
    }

    fn converse(&mut self, now: Mono) {
        self.transaction = self.transaction.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        self.began = now;
        self.n_asked = 0;
    }

    /// Sends what the state has to say, and sets the time to say it again.
    fn ask(&mut self, now: Mono) -> Vec<Action> {
        let patience = stdx::backoff::Backoff::new(ASK_FIRST, ASK_MAX);
        self.n_asked += 1;
        let mut deadline = now + patience.delay(self.n_asked);
        let request = Request {
            kind: REQUEST,
            transaction: self.transaction,
            secs: u16::try_from(now.since(self.began).as_secs()).unwrap_or(u16::MAX),
            mac: self.mac,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            hostname: self.hostname.clone(),
        };
        // Half of what is left, as the standard has it, until the next state begins.
        let next = |until: Mono| {
            let half = (until.since(now) / 2).max(RENEW_AGAIN_MIN);
            (now + half).min(until)
        };
        let action = match &self.state {
            State::Discovering => Action::Broadcast(Request { kind: DISCOVER, ..request }),
            State::Requesting { offer } => Action::Broadcast(Request {
                requested: offer.address,
                server: offer.server,
                ..request
            }),
            State::Bound { lease, since } | State::Renewing { lease, since } => {
                deadline = next(*since + self.rebind_after);
                Action::Send(lease.server, Request { client: lease.address, ..request })
            }
            State::Rebinding { lease, since } => {
                deadline = deadline.max(now + ASK_FIRST).min(*since + lease.lifetime);
                Action::Broadcast(Request { client: lease.address, ..request })
            }
        };
        self.deadline = deadline;
        vec![action]
    }
}

/// The lease in an acknowledgement; what it leaves out is as `before`.
fn lease(reply: &Reply, before: Option<&Lease>) -> Option<Lease> {
    let address = reply.address.or(before.map(|lease| lease.address))?;
    let default_prefix = match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    };
    let mut routes = reply.routes.clone();
    if routes.is_empty() {
        let default = reply.routers.first();
        routes.extend(default.map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router)));
    }
    let lifetime = match reply.lease_secs {
        Some(secs) => Duration::from_secs(u64::from(secs)).max(LEASE_MIN),
        None => LEASE_DEFAULT,
    };
    Some(Lease {
        address,
        prefix: reply.prefix.or(before.map(|lease| lease.prefix)).unwrap_or(default_prefix),
        routes,
        dns: reply.dns.clone(),
        domain: reply.domain.clone(),
        hostname: reply.hostname.clone(),
        mtu: reply.mtu.filter(|mtu| *mtu >= 576),
        server: reply.server.or(before.map(|lease| lease.server))?,
        lifetime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn at(secs: u64) -> Mono {
        Mono(0) + Duration::from_secs(1000 + secs)
    }

    fn reply(client: &Client, kind: u8) -> Reply {
        Reply {
            kind,
            transaction: client.transaction,
            mac: MAC,
            address: Some(OURS),
            server: Some(SERVER),
            prefix: Some(24),
            routers: vec![SERVER],
            lease_secs: Some(800),
            ..Reply::default()
        }
    }

    /// Actions in short.
    fn text(actions: &[Action]) -> String {
        let request = |request: &Request| {
            let kind = if request.kind == DISCOVER { "discover" } else { "request" };
            let requested = request.requested.map(|address| format!(" {address}"));
            format!("{kind}{}", requested.unwrap_or_default())
        };
        let one = |action: &Action| match action {
            Action::Broadcast(message) => format!("all: {}", request(message)),
            Action::Send(to, message) => {
                format!("{to}: {} as {}", request(message), message.client)
            }
            Action::Use(lease) => format!("use {}/{}", lease.address, lease.prefix),
            Action::Stop => "stop".into(),
        };
        actions.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn bound() -> Client {
        let mut client = Client::new(MAC, "gate", 1, at(0));
        assert_eq!(text(&client.tick(at(0))), "all: discover");
        let offer = reply(&client, OFFER);
        assert_eq!(text(&client.receive(&offer, at(0))), "all: request 10.0.0.9");
        let ack = reply(&client, ACK);
        assert_eq!(text(&client.receive(&ack, at(0))), "use 10.0.0.9/24");
        client
    }

    #[test]
    fn renewed_at_half_its_life() {
        let mut client = bound();
        assert_eq!(client.deadline, at(400));
        assert_eq!(text(&client.tick(at(399))), "");
        assert_eq!(text(&client.tick(at(400))), "10.0.0.1: request as 10.0.0.9");
        let ack = reply(&client, ACK);
        assert_eq!(text(&client.receive(&ack, at(401))), "use 10.0.0.9/24");
        assert_eq!(client.deadline, at(801));
    }

    #[test]
    fn rebound_by_another_server_and_lost_without_one() {
        let mut client = bound();
        client.tick(at(400));
        assert_eq!(client.deadline, at(550), "half of what is left until rebinding at 700");
        assert_eq!(text(&client.tick(at(550))), "10.0.0.1: request as 10.0.0.9");
        assert_eq!(text(&client.tick(at(625))), "10.0.0.1: request as 10.0.0.9");
        assert_eq!(text(&client.tick(at(700))), "all: request");
        let mut other = reply(&client, ACK);
        other.server = Some(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(text(&client.receive(&other, at(701))), "use 10.0.0.9/24");
        assert_eq!(client.lease().unwrap().server, Ipv4Addr::new(10, 0, 0, 2));

        let mut client = bound();
        client.tick(at(400));
        client.tick(at(700));
        let mut now = 700;
        while now < 800 {
            now = (client.deadline.since(at(0)).as_secs()).max(now + 1);
            let actions = text(&client.tick(at(now)));
            assert_eq!(actions, if now < 800 { "all: request" } else { "stop, all: discover" });
        }
        assert_eq!(now, 800, "the lease ends when it ends");
        assert!(client.lease().is_none());
    }

    #[test]
    fn refused() {
        let mut client = bound();
        client.tick(at(400));
        let nak = reply(&client, NAK);
        assert_eq!(text(&client.receive(&nak, at(401))), "stop, all: discover");
        let offer = reply(&client, OFFER);
        client.receive(&offer, at(402));
        let nak = reply(&client, NAK);
        assert_eq!(text(&client.receive(&nak, at(402))), "");
        assert_eq!(text(&client.tick(at(403))), "");
        assert_eq!(text(&client.tick(at(404))), "all: discover");
    }

    #[test]
    fn nobody_answers() {
        let mut client = Client::new(MAC, "", 1, at(0));
        let mut times = Vec::new();
        let mut now = at(0);
        while times.len() < 8 {
            assert_eq!(text(&client.tick(now)), "all: discover");
            times.push(client.deadline.since(now).as_secs());
            now = client.deadline;
        }
        assert_eq!(times, [2, 4, 8, 16, 32, 64, 64, 64]);
        // An offer whose server then falls silent.
        let offer = reply(&client, OFFER);
        client.receive(&offer, now);
        for _ in 1..REQUESTS_MAX {
            now = client.deadline;
            assert_eq!(text(&client.tick(now)), "all: request 10.0.0.9");
        }
        now = client.deadline;
        assert_eq!(text(&client.tick(now)), "all: discover");
    }

    #[test]
    fn not_for_us() {
        let mut client = Client::new(MAC, "", 1, at(0));
        client.tick(at(0));
        let mut offer = reply(&client, OFFER);
        offer.transaction ^= 1;
        assert!(client.receive(&offer, at(0)).is_empty());
        let mut offer = reply(&client, OFFER);
        offer.mac[5] = 9;
        assert!(client.receive(&offer, at(0)).is_empty());
        let ack = reply(&client, ACK);
        assert!(client.receive(&ack, at(0)).is_empty(), "nothing was requested");
        let offer = reply(&client, OFFER);
        client.receive(&offer, at(0));
        let mut other = reply(&client, ACK);
        other.server = Some(Ipv4Addr::new(10, 0, 0, 2));
        assert!(client.receive(&other, at(0)).is_empty(), "another server's acknowledgement");
    }

    #[test]
    fn a_new_cable() {
        let mut client = bound();
        assert_eq!(text(&client.link_is_up(at(10))), "all: request");
        assert!(client.lease().is_some(), "kept until somebody says no");
        assert_eq!(client.deadline, at(12));
        let mut client = Client::new(MAC, "", 1, at(0));
        client.tick(at(0));
        client.tick(at(2));
        assert_eq!(text(&client.link_is_up(at(3))), "all: discover");
        assert_eq!(client.deadline, at(5));
    }

    /// Whatever comes and whenever: deadlines lie ahead, and a lease is never used past its end.
    #[test]
    fn arbitrary_conversations() {
        let mut prng = stdx::prng::Prng::new(8);
        for _ in 0..300 {
            let mut client = Client::new(MAC, "", 1, at(0));
            let mut now = at(0);
            let mut ends: Option<Mono> = None;
            for _ in 0..200 {
                let actions = if prng.below(2) == 0 {
                    now = client.deadline.max(now);
                    client.tick(now)
                } else {
                    now = now + Duration::from_secs(prng.below(100));
                    let kinds = [OFFER, ACK, NAK];
                    let mut reply = reply(&client, kinds[prng.below(3) as usize]);
                    reply.lease_secs = Some(prng.below(1000) as u32);
                    reply.renewal_secs = Some(prng.below(1000) as u32);
                    reply.rebinding_secs = Some(prng.below(1000) as u32);
                    let mut actions = client.tick(now);
                    actions.extend(client.receive(&reply, now));
                    actions
                };
                for action in &actions {
                    match action {
                        Action::Use(lease) => ends = Some(now + lease.lifetime),
                        Action::Stop => ends = None,
                        _ => {}
                    }
                }
                assert!(ends.is_none_or(|ends| now < ends), "used past its end");
                assert_eq!(ends.is_some(), client.lease().is_some());
                assert!(client.deadline > now, "it would spin");
            }
        }
    }
}
