//! This machine's addresses: as the command line says, or as a DHCP server says for as long as we run.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use stdx::time::Mono;
use stdx::{Context, Result};
use sys::dhcp_socket::DhcpSocket;
use sys::netlink::{Family, Netlink};
use sys::poll::{POLLIN, PollSet};
use wire::dhcp::Reply;
use wire::netlink::messages;
use wire::rtnetlink::{self as rtnl, Link, Route};

use crate::dhcp::{Action, Client, Lease};
use crate::links::{Links, cards};
use crate::words::{Address, Method};

/// One interface that DHCP keeps up.
#[derive(Debug)]
struct Leased {
    link: u32,
    name: String,
    client: Client,
    socket: DhcpSocket,
    /// What is set on the interface now.
    used: Option<Lease>,
    has_carrier: bool,
    /// Set while nobody answers, so that the log says it once.
    told: bool,
}

#[derive(Debug)]
pub(crate) struct Network {
    links: Links,
    events: Option<Netlink>,
    leased: Vec<Leased>,
    /// Wanted, but the card is not there yet.
    pending: Vec<Address>,
    /// Cards that have their settings.
    taken: Vec<u32>,
    static_dns: Vec<IpAddr>,
    hostname: String,
    places: Vec<usize>,
    events_place: usize,
    /// What `/etc/resolv.conf` should say, once that can be written.
    resolv_conf: Option<String>,
}

/// What is still to come before the machine has the addresses that it shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Nothing,
    /// Any network card at all; perhaps there is none.
    AnyCard,
    /// An answer, or a card that was named.
    Address,
}

const IFF_LOWER_UP: u32 = 0x1_0000;

impl Network {
    /// Brings the loopback up and begins with the rest. `hostname` is what DHCP servers are told; empty: nothing.
    pub(crate) fn start(addresses: &[Address], hostname: &str) -> Result<Network> {
        let mut links = Links::open()?;
        let all = links.all()?;
        for link in all.iter().filter(|link| link.flags & rtnl::IFF_LOOPBACK != 0) {
            links.set_up(link)?;
        }
        let mut pending = addresses.to_vec();
        if pending.is_empty() {
            pending.push(Address {
                device: String::new(),
                method: Method::Dhcp,
                gateway: None,
                hostname: None,
                dns: Vec::new(),
            });
        }
        pending.retain(|address| address.method != Method::Off);
        let events = Netlink::subscribe(Family::Route, rtnl::GROUP_LINK);
        let mut network = Network {
            links,
            events: events.ok(),
            leased: Vec::new(),
            pending,
            taken: Vec::new(),
            static_dns: Vec::new(),
            hostname: hostname.to_owned(),
            places: Vec::new(),
            events_place: 0,
            resolv_conf: None,
        };
        network.look_for_cards();
        Ok(network)
    }

    /// Sets up what waits for a card that is there now.
    pub(crate) fn look_for_cards(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let cards = match self.links.all() {
            Ok(links) => cards(links),
            Err(error) => return log::warn!("{error}"),
        };
        let named: Vec<String> =
            self.pending.iter().map(|address| address.device.clone()).collect();
        for address in std::mem::take(&mut self.pending) {
            let fits = |card: &&Link| {
                !self.taken.contains(&card.index)
                    && match address.device.as_str() {
                        "" => !named.contains(&card.name),
                        device => card.name == device,
                    }
            };
            let Some(card) = cards.iter().find(fits) else {
                self.pending.push(address);
                continue;
            };
            let done = match address.method {
                Method::Off => Ok(()),
                Method::Dhcp => self.begin_dhcp(card),
                Method::Static { address: ip, prefix } => {
                    self.set_static(card, ip, prefix, &address)
                }
            };
            match done {
                Ok(()) => self.taken.push(card.index),
                Err(error) => {
                    log::warn!("Set up interface {}: {error}", card.name);
                    self.pending.push(address);
                }
            }
        }
    }

    fn set_static(&mut self, card: &Link, ip: IpAddr, prefix: u8, address: &Address) -> Result<()> {
        self.links.set_up(card)?;
        self.links.add_address(card.index, ip, prefix)?;
        if let Some(gateway) = address.gateway {
            self.links.add_route(&Route {
                ipv6: gateway.is_ipv6(),
                gateway: Some(gateway),
                link: Some(card.index),
                on_link: !in_subnet(ip, prefix, gateway),
                ..Route::default()
            })?;
        }
        log::info!("Interface {} has the address {ip}/{prefix}", card.name);
        self.static_dns.extend(&address.dns);
        self.write_names();
        Ok(())
    }

    fn begin_dhcp(&mut self, card: &Link) -> Result<()> {
        self.links.set_up(card)?;
        let socket = DhcpSocket::open(&card.name).context(|| "open a socket for DHCP")?;
        let mut mac = [0; 6];
        mac.copy_from_slice(card.mac.get(..6).context(|| "read the card's address")?);
        let seed = (rt::random_u64() >> 32) as u32;
        let client = Client::new(mac, &self.hostname, seed, rt::now().mono);
        log::info!("Asking for an address for interface {} (DHCP)", card.name);
        self.leased.push(Leased {
            link: card.index,
            name: card.name.clone(),
            client,
            socket,
            used: None,
            // What it has now is not known: the first word of a carrier asks again at once.
            has_carrier: true,
            told: false,
        });
        Ok(())
    }

    pub(crate) fn waits_for(&self) -> Waits {
        if self.leased.iter().any(|leased| leased.used.is_none()) {
            return Waits::Address;
        }
        match self.pending.iter().any(|address| !address.device.is_empty()) {
            true => Waits::Address,
            false if self.pending.is_empty() => Waits::Nothing,
            false => Waits::AnyCard,
        }
    }

    /// True while a card is not there.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The host name that a DHCP server gave.
    pub(crate) fn given_hostname(&self) -> Option<&str> {
        let names = self.leased.iter().filter_map(|leased| leased.used.as_ref());
        names.map(|lease| lease.hostname.as_str()).find(|name| !name.is_empty())
    }

    /// The hardware address of the first card, for names that must differ.
    pub(crate) fn first_mac(&mut self) -> Option<Vec<u8>> {
        cards(self.links.all().ok()?).into_iter().next().map(|card| card.mac)
    }

    /// When it wants a turn even if nothing comes.
    pub(crate) fn deadline(&self) -> Option<Mono> {
        self.leased.iter().map(|leased| leased.client.deadline).min()
    }

    pub(crate) fn add_to(&mut self, set: &mut PollSet) {
        self.places.clear();
        for leased in &self.leased {
            self.places.push(set.add(leased.socket.as_fd(), POLLIN));
        }
        if let Some(events) = &self.events {
            self.events_place = set.add(events.as_fd(), POLLIN);
        }
    }

    /// One turn: what came in, and what is due.
    pub(crate) fn turn(&mut self, set: &PollSet, now: Mono) {
        if self.events.is_some() && set.ready(self.events_place) != 0 {
            self.read_events(now);
        }
        for idx in 0..self.leased.len() {
            let mut actions = Vec::new();
            if self.places.get(idx).is_some_and(|place| set.ready(*place) != 0) {
                actions.extend(self.leased[idx].read(now));
            }
            actions.extend(self.leased[idx].client.tick(now));
            self.act(idx, actions);
        }
    }

    /// Cables that were put in.
    fn read_events(&mut self, now: Mono) {
        let Some(events) = &self.events else { return };
        let mut risen = Vec::new();
        let mut buf = Vec::new();
        loop {
            match events.receive(&mut buf) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Too many at once: those that were lost are made good by the deadlines.
                Err(_) => break,
            }
            for message in messages(&buf).flatten() {
                if message.kind != rtnl::RTM_NEWLINK {
                    continue;
                }
                let Some(link) = rtnl::parse_link(&message) else { continue };
                let has_carrier = link.flags & IFF_LOWER_UP != 0;
                let place = self.leased.iter().position(|leased| leased.link == link.index);
                let Some(idx) = place else { continue };
                if has_carrier && !self.leased[idx].has_carrier {
                    risen.push(idx);
                }
                self.leased[idx].has_carrier = has_carrier;
            }
        }
        for idx in risen {
            let actions = self.leased[idx].client.link_is_up(now);
            self.act(idx, actions);
        }
    }

    fn act(&mut self, idx: usize, actions: Vec<Action>) {
        for action in actions {
            let leased = &mut self.leased[idx];
            let sent = match action {
                Action::Broadcast(request) => {
                    leased.socket.send(&request.to_bytes(), Ipv4Addr::BROADCAST)
                }
                Action::Send(server, request) => leased.socket.send(&request.to_bytes(), server),
                Action::Use(lease) => {
                    self.use_lease(idx, Some(lease));
                    continue;
                }
                Action::Stop => {
                    log::warn!("Interface {} has lost its address (DHCP)", leased.name);
                    self.use_lease(idx, None);
                    continue;
                }
            };
            if let Err(error) = sent {
                // Without a cable the next try is as good.
                log::debug!("ask for an address on {}: {error}", leased.name);
            }
            const DISCOVERS_QUIET_SECS: u64 = 20;
            let waited =
                leased.client.waiting_since().map(|since| rt::now().mono.since(since).as_secs());
            if !leased.told && waited.is_some_and(|secs| secs >= DISCOVERS_QUIET_SECS) {
                log::warn!("No DHCP server answers on {}; asking on", leased.name);
                leased.told = true;
            }
        }
    }

    /// Brings the interface from what it had to what it shall have.
    fn use_lease(&mut self, idx: usize, lease: Option<Lease>) {
        let leased = &mut self.leased[idx];
        let before = std::mem::replace(&mut leased.used, lease.clone());
        if before.is_none() || lease.is_none() {
            leased.told = false;
        }
        let (link, name) = (leased.link, leased.name.clone());
        let place = |lease: &Lease| (IpAddr::from(lease.address), lease.prefix);
        let note = |result: Result<()>| {
            if let Err(error) = result {
                log::warn!("Interface {name}: {error}");
            }
        };
        if let Some(before) = &before {
            let kept = lease.as_ref().map_or(&[][..], |lease| &lease.routes);
            for route in before.routes.iter().filter(|route| !kept.contains(route)) {
                note(self.links.remove_route(&lease_route(before, link, *route)));
            }
            if lease.as_ref().map(place) != Some(place(before)) {
                note(self.links.remove_address(link, before.address.into(), before.prefix));
            }
        }
        if let Some(lease) = &lease {
            if let Some(mtu) = lease.mtu {
                note(self.links.set_mtu(link, mtu.into()));
            }
            note(self.links.add_address(link, lease.address.into(), lease.prefix));
            for route in &lease.routes {
                note(self.links.add_route(&lease_route(lease, link, *route)));
            }
            if before.as_ref().map(place) != Some(place(lease)) {
                log::info!(
                    "Interface {name} has the address {}/{} from {} for {} s (DHCP)",
                    lease.address,
                    lease.prefix,
                    lease.server,
                    lease.lifetime.as_secs()
                );
            }
        }
        self.write_names();
    }

    /// `/etc/resolv.conf`, if somebody told us a name server, or had.
    fn write_names(&mut self) {
        let leases = self.leased.iter().filter_map(|leased| leased.used.as_ref());
        let text = resolv_conf(&self.static_dns, leases);
        if text.is_empty() && self.resolv_conf.is_none() {
            return;
        }
        if self.resolv_conf.as_deref() != Some(&text) {
            if let Err(error) = rt::fs::replace("/etc/resolv.conf", text.as_bytes(), 0o644) {
                log::warn!("{error}");
            }
            self.resolv_conf = Some(text);
        }
    }
}

impl Leased {
    fn read(&mut self, now: Mono) -> Vec<Action> {
        const REPLIES_MAX: usize = 16;
        let mut actions = Vec::new();
        let mut buf = vec![0; wire::dhcp::REPLY_MAX_BYTES.into()];
        for _ in 0..REPLIES_MAX {
            match self.socket.receive(&mut buf) {
                Ok(Some(n)) => {
                    if let Some(reply) = Reply::parse(&buf[..n]) {
                        actions.extend(self.client.receive(&reply, now));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("read a DHCP answer on {}: {error}", self.name);
                    break;
                }
            }
        }
        actions
    }
}

fn lease_route(lease: &Lease, link: u32, route: (Ipv4Addr, u8, Ipv4Addr)) -> Route {
    let (destination, prefix, gateway) = route;
    let gateway = Some(gateway).filter(|gateway| !gateway.is_unspecified());
    Route {
        destination: (prefix != 0).then_some((destination.into(), prefix)),
        gateway: gateway.map(IpAddr::from),
        link: Some(link),
        source: Some(lease.address.into()),
        on_link: gateway
            .is_some_and(|gateway| !in_subnet(lease.address.into(), lease.prefix, gateway.into())),
        ..Route::default()
    }
}

fn in_subnet(address: IpAddr, prefix: u8, other: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    };
    let differ = bits(address) ^ bits(other);
    address.is_ipv4() == other.is_ipv4() && differ.leading_zeros() >= u32::from(prefix)
}

fn resolv_conf<'a>(fixed: &[IpAddr], leases: impl Iterator<Item = &'a Lease>) -> String {
    /// As many as resolvers read.
    const SERVERS_MAX: usize = 3;
    let (mut servers, mut search) = (fixed.to_vec(), String::new());
    for lease in leases {
        servers.extend(lease.dns.iter().copied().map(IpAddr::from));
        // What goes into a file that programs read line by line must be a name.
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        if search.is_empty() && is_name(&lease.domain) {
            search = format!("search {}\n", lease.domain);
        }
    }
    servers.dedup();
    let lines = servers.iter().take(SERVERS_MAX).map(|server| format!("nameserver {server}\n"));
    search + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        for (address, prefix, other, want) in [
            ("10.0.2.15", 24, "10.0.2.2", true),
            ("10.0.2.15", 24, "10.0.3.2", false),
            ("10.0.2.15", 32, "10.0.2.2", false),
            ("10.0.2.15", 0, "1.1.1.1", true),
            ("fd00::1", 64, "fd00::2", true),
            ("fd00::1", 64, "10.0.2.2", false),
        ] {
            let parse = |text: &str| text.parse().unwrap();
            assert_eq!(in_subnet(parse(address), prefix, parse(other)), want, "{address} {other}");
        }
    }

    #[test]
    fn names() {
        let lease = |dns: &[[u8; 4]], domain: &str| Lease {
            address: Ipv4Addr::LOCALHOST,
            prefix: 8,
            routes: Vec::new(),
            dns: dns.iter().copied().map(Ipv4Addr::from).collect(),
            domain: domain.into(),
            hostname: String::new(),
            mtu: None,
            server: Ipv4Addr::LOCALHOST,
            lifetime: std::time::Duration::ZERO,
        };
        let leases = [
            lease(&[[1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 2, 2]], "a\nb"),
            lease(&[[3, 3, 3, 3]], "lan"),
        ];
        assert_eq!(
            resolv_conf(&[], leases.iter()),
            "search lan\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n"
        );
        assert_eq!(resolv_conf(&["fd00::1".parse().unwrap()], [].iter()), "nameserver fd00::1\n");
        assert_eq!(resolv_conf(&[], [].iter()), "");
    }
}
