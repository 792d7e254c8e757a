//! Places for connections: who holds one, and who gives one up when all are taken.
//!
//! A new connection always gets a place. It is the oldest idle one of whoever holds the most that
//! goes: of an address while nobody has vouched for the connection, of a user afterwards.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stdx::{Arrange, OrdMap};

/// Parts of all places (in eighths) that those nobody vouched for may have, so that the others find
/// some; and the other way round, so that a newcomer has time to say who it is.
const STRANGERS_EIGHTHS: usize = 6;
const VOUCHED_EIGHTHS: usize = 7;
/// And so many at most: who comes next is looked for among them.
const STRANGERS_MAX: usize = 1024;
/// Where all are alike, this part of the places is made free at once.
const GONE_AT_ONCE_PARTS: usize = 64;
/// Of the strangers' places, the part that one address may have.
const ADDRESS_PARTS: usize = 2;

/// A connection that was accepted.
#[derive(Clone)]
pub(crate) enum Socket {
    Tcp(rt::net::TcpStream),
    Unix(rt::net::UnixStream),
}

/// The places of one server.
pub(crate) struct Places {
    taken: Mutex<Vec<Arc<Place>>>,
    max: usize,
    /// By user and address; otherwise all connections are alike.
    shared: bool,
}

/// One connection's place. Whoever knows its user vouches for it.
pub struct Place {
    /// `None` on unix sockets.
    address: Option<IpAddr>,
    /// For closing it from outside; gone once the connection has ended.
    socket: Mutex<Option<Socket>>,
    /// Whose it is, as a number; 0 before somebody has vouched.
    user: AtomicU64,
    n_requests: AtomicU32,
    /// When something last began or ended on it, by the monotonic clock.
    active_at: AtomicU64,
    places: std::sync::Weak<Places>,
}

impl Places {
    pub(crate) fn new(max: usize, shared: bool) -> Arc<Places> {
        Arc::new(Places { taken: Mutex::default(), max: max.max(1), shared })
    }

    /// A place for a connection that was just accepted; another one's, if need be.
    pub(crate) fn take(self: &Arc<Self>, socket: &Socket, address: Option<IpAddr>) -> Arc<Place> {
        let place = Arc::new(Place {
            address: address.map(network),
            socket: Mutex::new(Some(socket.clone())),
            user: AtomicU64::new(0),
            n_requests: AtomicU32::new(0),
            active_at: AtomicU64::new(rt::now().mono.0),
            places: Arc::downgrade(self),
        });
        self.lock().push(Arc::clone(&place));
        self.keep_bounds();
        place
    }

    /// Closes connections until every bound holds.
    fn keep_bounds(&self) {
        let mut taken = self.lock();
        if !self.shared {
            return self.keep_bound(&mut taken);
        }
        while let Some(idx) = self.surplus(&taken) {
            let place = taken.swap_remove(idx);
            log::debug!("connection of {:?} ends: its place is needed", place.address);
            place.close();
        }
    }

    /// Where all are alike, a few of those go at once that did nothing for longest, idle ones first: looking
    /// for them costs a look at all.
    fn keep_bound(&self, taken: &mut Vec<Arc<Place>>) {
        if taken.len() <= self.max {
            return;
        }
        let n_gone = taken.len() - self.max + self.max / GONE_AT_ONCE_PARTS;
        taken.arrange_by_key(|place| place.worth());
        log::debug!("{n_gone} connections end: their places are needed");
        for place in taken.drain(..n_gone) {
            place.close();
        }
    }

    /// The place to be given up next, if there are too many.
    fn surplus(&self, taken: &[Arc<Place>]) -> Option<usize> {
        let n_vouched = taken.iter().filter(|place| place.is_vouched()).count();
        let n_strangers = taken.len() - n_vouched;
        let part = |eighths: usize| (self.max * eighths / 8).max(1);
        let strangers_max = part(STRANGERS_EIGHTHS).min(STRANGERS_MAX);
        if n_vouched > part(VOUCHED_EIGHTHS) {
            return first_to_go(taken, true, 0);
        }
        if n_strangers > strangers_max || (taken.len() > self.max && n_strangers > 1) {
            return first_to_go(taken, false, 0);
        }
        if taken.len() > self.max {
            return first_to_go(taken, true, 0);
        }
        let share = (strangers_max / ADDRESS_PARTS).max(1);
        first_to_go(taken, false, share)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Among the vouched or the strangers, the place that counts least of the one who has most, if that
/// is more than `share`: idle ones before busy ones, then the one that did nothing for longest.
fn first_to_go(taken: &[Arc<Place>], vouched: bool, share: usize) -> Option<usize> {
    let mut holders: OrdMap<Holder, usize> = OrdMap::new();
    let of_kind = || taken.iter().enumerate().filter(|(_, place)| place.is_vouched() == vouched);
    for (_, place) in of_kind() {
        *holders.entry(place.holder()).or_default() += 1;
    }
    let most = holders.values().copied().max().filter(|n| *n > share)?;
    of_kind()
        .filter(|(_, place)| holders.get(&place.holder()) == Some(&most))
        .min_by_key(|(_, place)| place.worth())
        .map(|(idx, _)| idx)
}

/// By what places are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Address(Option<IpAddr>),
    User(u64),
}

/// The address as far as it tells one machine from another: a host has a /64 of IPv6 for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

impl Place {
    /// Says whose connection this is: it has shown a certificate or a token that is good.
    pub fn vouch(&self, user: &[u8]) {
        let mut hasher = std::hash::DefaultHasher::new();
        user.hash(&mut hasher);
        let known = self.user.swap(hasher.finish().max(1), Ordering::Relaxed);
        if known == 0
            && let Some(places) = self.places.upgrade()
        {
            places.keep_bounds();
        }
    }

    /// Busy ones count more than idle ones, and those more that did something since.
    fn worth(&self) -> (bool, u64) {
        let busy = self.n_requests.load(Ordering::Relaxed) > 0;
        (busy, self.active_at.load(Ordering::Relaxed))
    }

    fn is_vouched(&self) -> bool {
        self.user.load(Ordering::Relaxed) != 0
    }

    fn holder(&self) -> Holder {
        match self.user.load(Ordering::Relaxed) {
            0 => Holder::Address(self.address),
            user => Holder::User(user),
        }
    }

    /// A request begins; it ends with what is returned.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.n_requests.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Busy(Arc::clone(self))
    }

    fn touch(&self) {
        self.active_at.store(rt::now().mono.0, Ordering::Relaxed);
    }

    /// Ends the connection: whoever reads from it or writes to it sees that at once.
    fn close(&self) {
        if let Some(socket) = self.take_socket() {
            socket.shutdown();
        }
    }

    /// The connection has ended.
    pub(crate) fn leave(&self) {
        drop(self.take_socket());
        if let Some(places) = self.places.upgrade() {
            places.lock().retain(|place| !std::ptr::eq(&raw const **place, self));
        }
    }

    fn take_socket(&self) -> Option<Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({:?})", self.holder())
    }
}

/// A request in flight.
pub(crate) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.n_requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Socket {
    fn shutdown(&self) {
        // A connection that its client has ended already needs no end.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places with sockets of their own, by address; the sockets' other ends keep them open.
    struct Hall {
        places: Arc<Places>,
        peers: Vec<rt::net::UnixStream>,
    }

    impl Hall {
        fn new(max: usize) -> Hall {
            Hall { places: Places::new(max, true), peers: Vec::new() }
        }

        fn alike(max: usize) -> Hall {
            Hall { places: Places::new(max, false), peers: Vec::new() }
        }

        fn enter(&mut self, address: &str) -> Arc<Place> {
            let (ours, theirs) = rt::net::UnixStream::pair().unwrap();
            self.peers.push(theirs);
            let place = self.places.take(&Socket::Unix(ours), Some(address.parse().unwrap()));
            // Each is younger than the one before, however coarse the clock.
            place.active_at.store(self.peers.len() as u64, Ordering::Relaxed);
            place
        }

        fn enter_many(&mut self, n: usize, address: &str) -> Vec<Arc<Place>> {
            (0..n).map(|_| self.enter(address)).collect()
        }
    }

    fn is_open(place: &Place) -> bool {
        place.socket.lock().unwrap().is_some()
    }

    fn n_open(places: &[Arc<Place>]) -> usize {
        places.iter().filter(|place| is_open(place)).count()
    }

    #[test]
    fn who_says_who_it_is_always_finds_a_place() {
        let mut hall = Hall::new(16);
        let flood = hall.enter_many(100, "192.0.2.1");
        assert_eq!(n_open(&flood), 6, "the share of an address");
        let others: Vec<_> = (0..50).map(|n| hall.enter(&format!("192.0.3.{n}"))).collect();
        assert_eq!(n_open(&flood) + n_open(&others), 12, "all strangers");
        for name in ["admin", "node", "pod"] {
            let place = hall.enter("192.0.2.1");
            assert!(is_open(&place));
            place.vouch(name.as_bytes());
            hall.enter_many(50, "192.0.2.1");
            assert!(is_open(&place), "{name}");
        }
    }

    #[test]
    fn many_places_are_for_those_who_say_who_they_are() {
        let mut hall = Hall::new(8 * STRANGERS_MAX);
        let flood = hall.enter_many(STRANGERS_MAX / 2 + 9, "192.0.2.1");
        assert_eq!(n_open(&flood), STRANGERS_MAX / 2, "the share of an address");
        let nodes: Vec<_> = (0..1500)
            .map(|n: u32| {
                let place = hall.enter(&format!("198.18.{}.{}", n / 250, n % 250));
                place.vouch(&n.to_be_bytes());
                place
            })
            .collect();
        assert_eq!(n_open(&nodes), nodes.len());
    }

    #[test]
    fn the_oldest_idle_one_of_who_has_most_goes_first() {
        let mut hall = Hall::new(16);
        let quiet = hall.enter("192.0.2.9");
        let first = hall.enter("192.0.2.1");
        let busy = first.busy();
        first.active_at.store(2, Ordering::Relaxed);
        let more = hall.enter_many(6, "192.0.2.1");
        assert!(is_open(&quiet) && is_open(&first) && !is_open(&more[0]) && is_open(&more[5]));
        drop(busy);
        first.active_at.store(2, Ordering::Relaxed);
        hall.enter("192.0.2.1");
        assert!(!is_open(&first) && is_open(&quiet));
        // The same host under another address of its network, and as IPv4 in IPv6.
        let v6 = hall.enter_many(3, "2001:db8::1");
        hall.enter_many(4, "2001:db8::2");
        assert!(!is_open(&v6[0]));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1");
    }

    #[test]
    fn one_user_does_not_push_out_another_nor_all_newcomers() {
        let mut hall = Hall::new(16);
        let admin = hall.enter("192.0.2.2");
        admin.vouch(b"admin");
        let hog: Vec<_> = (0..40)
            .map(|_| {
                let place = hall.enter("192.0.2.1");
                place.vouch(b"hog");
                // An open stream, as watches are.
                std::mem::forget(place.busy());
                place
            })
            .collect();
        assert!(is_open(&admin));
        assert_eq!(n_open(&hog), 13);
        let newcomer = hall.enter("192.0.2.3");
        let another = hall.enter("192.0.2.4");
        assert!(is_open(&newcomer) && is_open(&another));
        another.vouch(b"other");
        assert!(is_open(&another) && is_open(&admin));
        another.leave();
        assert!(!is_open(&another));
        assert!(hall.places.lock().iter().all(|place| !Arc::ptr_eq(place, &another)));
    }

    #[test]
    fn where_all_are_alike_one_address_may_have_every_place() {
        let mut hall = Hall::alike(128);
        let first = hall.enter("192.0.2.1");
        let busy = first.busy();
        first.active_at.store(0, Ordering::Relaxed);
        let others = hall.enter_many(127, "192.0.2.1");
        assert!(is_open(&first) && n_open(&others) == 127);
        // One too many: that, and the part that goes at once.
        let newest = hall.enter("192.0.2.2");
        assert!(is_open(&first) && is_open(&newest));
        assert!(others[..3].iter().all(|place| !is_open(place)));
        assert_eq!(n_open(&others), 124);
        drop(busy);
    }
}
