//! Seats and queues: how many requests of a priority level are worked on at once, and which one is next.
//!
//! A level has its part of all seats. What it may lend of them is everybody's while it does not use it: a request
//! beyond what its level keeps for itself takes a seat of this pool, and a seat that becomes free goes to the level that
//! has the least of what it is promised, so that who lent comes before who borrowed. (Upstream lends in steps
//! of ten seconds; this is the same at every moment, and needs no timer.)
//!
//! Inside a level the flows are dealt to queues, each to a few of them (shuffle sharding), so that a flow that fills its
//! queues leaves others to everybody else. Queues take turns by the work that they were given: seats times seconds.
//!
//! Pure: it reads no clock and wakes nobody.
//! Source: KEP-1040; k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing and shufflesharding.

use std::collections::VecDeque;
use std::sync::Arc;

use stdx::OrdMap;

/// What a request is taken to last until it has ended, in microseconds (upstream's 3 ms).
const EXPECTED_US: i64 = 3000;

/// An answer that is sent for so long has a slow reader, and costs no work: its seat is others' when they want it.
const SENT_MAX_US: i64 = 2_000_000;

/// The largest part of its level's seats that one request takes: a seventh (upstream's 15 %).
const WIDTH_PARTS: u32 = 7;

/// The level that is always there.
pub(super) const CATCH_ALL: &str = "catch-all";

/// What a level is by its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LevelSpec {
    pub(crate) name: Arc<str>,
    pub(crate) uid: Arc<str>,
    pub(crate) exempt: bool,
    pub(crate) shares: u32,
    /// Per cent of its seats.
    pub(crate) lendable: u32,
    pub(crate) borrowing: Option<u32>,
    pub(crate) queuing: Option<Queuing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queuing {
    pub(crate) queues: u32,
    pub(crate) hand: u32,
    pub(crate) length_max: u32,
}

/// Why a request is not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
    Cancelled,
}

/// A request that waits or is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    Begins(Id),
    Waits(Id),
    Refused(Refused),
}

/// All levels.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    seats_max: u32,
    /// By name. One whose configuration is gone stays while a request of it is worked on.
    levels: OrdMap<Arc<str>, Level>,
    requests: OrdMap<Id, Request>,
    /// What levels lend, and what of it is taken.
    pool: u32,
    borrowed: u32,
    next_id: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Level {
    pub(crate) spec: LevelSpec,
    pub(crate) nominal: u32,
    /// What it keeps for itself, and what it may use at most.
    kept: u32,
    most: u32,
    pub(crate) n_executing: u32,
    pub(crate) seats: u32,
    pub(crate) n_waiting: u32,
    /// Those in which a request waits or is worked on.
    pub(crate) queues: OrdMap<u32, Queue>,
    /// The work that queues were given, where the last one began, in seat microseconds.
    work: i64,
    pub(crate) is_gone: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Id>,
    pub(crate) n_executing: u32,
    pub(crate) seats: u32,
    /// What it was given so far: the queue with the least is next.
    pub(crate) work: i64,
}

#[derive(Debug)]
struct Request {
    level: Arc<str>,
    queue: u32,
    width: u32,
    /// On the monotonic clock, in microseconds, once it is worked on.
    began_us: Option<i64>,
    /// Once its answer is sent.
    sends_us: Option<i64>,
}

impl Seats {
    pub(crate) fn new(seats_max: u32) -> Seats {
        Seats { seats_max, ..Seats::default() }
    }

    pub(crate) fn levels(&self) -> impl Iterator<Item = &Level> {
        self.levels.values()
    }

    /// Takes these levels for all that there are. Requests that wait in others begin: who they are is told.
    pub(crate) fn configure(&mut self, specs: Vec<LevelSpec>, now_us: i64) -> Vec<Id> {
        let all_shares: u64 = specs.iter().map(|spec| u64::from(spec.shares)).sum();
        for level in self.levels.values_mut() {
            level.is_gone = true;
        }
        for spec in specs {
            let part = u64::from(self.seats_max) * u64::from(spec.shares);
            let nominal = clamped(part.div_ceil(all_shares.max(1)));
            let per_cent = |n: u32| clamped((u64::from(nominal) * u64::from(n) + 50) / 100);
            let level = self.levels.entry(Arc::clone(&spec.name)).or_default();
            level.is_gone = false;
            level.nominal = nominal;
            level.kept = nominal - per_cent(spec.lendable).min(nominal);
            let borrows = spec.borrowing.map_or(self.seats_max, per_cent);
            level.most = nominal.saturating_add(borrows);
            level.spec = spec;
        }
        let mut begun = Vec::new();
        for level in self.levels.values_mut() {
            // Nobody waits in a level without queues, or in one that is gone.
            if level.is_gone || level.spec.queuing.is_none() {
                for queue in level.queues.values_mut() {
                    begun.extend(queue.waiting.drain(..));
                }
            }
        }
        for id in &begun {
            self.begin(*id, now_us);
        }
        self.levels.retain(|_, level| !level.is_gone || level.n_executing > 0);
        let kept = |level: &Level| level.nominal - level.kept;
        self.pool = self.levels.values().filter(|level| !level.is_gone).map(kept).sum();
        self.borrowed = self.levels.values().map(Level::beyond).sum();
        self.dispatch(&mut begun, now_us);
        begun
    }

    /// A request of a flow comes: `hash` tells flows apart. Requests that begin before it are told.
    pub(crate) fn arrive(
        &mut self,
        level: &str,
        hash: u64,
        width: u32,
        now_us: i64,
    ) -> (Arrived, Vec<Id>) {
        let begun = match self.levels.get(level) {
            Some(level) if !level.is_gone && !self.has_room(level, 1) => self.reclaim(now_us),
            _ => Vec::new(),
        };
        (self.take(level, hash, width, now_us), begun)
    }

    /// What is left of a request is to send its answer.
    pub(crate) fn sends(&mut self, id: Id, now_us: i64) {
        if let Some(request) = self.requests.get_mut(&id) {
            request.sends_us = Some(now_us);
        }
    }

    /// Takes the seats of answers whose readers are slow.
    fn reclaim(&mut self, now_us: i64) -> Vec<Id> {
        let is_slow = |it: &Request| it.sends_us.is_some_and(|at| now_us - at > SENT_MAX_US);
        let slow = self.requests.iter().filter(|(_, request)| is_slow(request));
        let slow: Vec<Id> = slow.map(|(id, _)| *id).collect();
        slow.into_iter().flat_map(|id| self.end(id, now_us)).collect()
    }

    fn take(&mut self, level: &str, hash: u64, width: u32, now_us: i64) -> Arrived {
        let id = Id(self.next_id);
        self.next_id += 1;
        // Its configuration may have gone while the request was on its way.
        let known = |name: &str| self.levels.get_key_value(name).filter(|(_, it)| !it.is_gone);
        let Some((name, level)) = known(level).or_else(|| known(CATCH_ALL)) else {
            return Arrived::Refused(Refused::ConcurrencyLimit);
        };
        let name = Arc::clone(name);
        let width = width.clamp(1, (level.nominal / WIDTH_PARTS).max(1));
        let queue = match level.spec.queuing {
            Some(queuing) => level.shortest(queuing, hash),
            None => 0,
        };
        let free = level.spec.exempt || (level.n_waiting == 0 && self.has_room(level, width));
        let full = match level.spec.queuing {
            Some(queuing) => level
                .queues
                .get(&queue)
                .is_some_and(|queue| queue.waiting.len() >= queuing.length_max as usize)
                .then_some(Refused::QueueFull),
            None => Some(Refused::ConcurrencyLimit),
        };
        if let Some(refused) = full.filter(|_| !free) {
            return Arrived::Refused(refused);
        }
        self.requests.insert(
            id,
            Request { level: Arc::clone(&name), queue, width, began_us: None, sends_us: None },
        );
        let Some(level) = self.levels.get_mut(&name) else {
            return Arrived::Refused(Refused::ConcurrencyLimit);
        };
        let work = level.work;
        let queue = level.queues.entry(queue).or_insert(Queue { work, ..Queue::default() });
        if !free {
            queue.waiting.push_back(id);
            level.n_waiting += 1;
            return Arrived::Waits(id);
        }
        level.n_waiting += 1;
        self.begin(id, now_us);
        Arrived::Begins(id)
    }

    /// A request ends, or is waited for no longer. Those that begin now are told.
    pub(crate) fn end(&mut self, id: Id, now_us: i64) -> Vec<Id> {
        let mut begun = Vec::new();
        let Some(request) = self.requests.remove(&id) else { return begun };
        let Some(level) = self.levels.get_mut(&request.level) else { return begun };
        let before = level.beyond();
        if let Some(queue) = level.queues.get_mut(&request.queue) {
            match request.began_us {
                Some(began) => {
                    level.n_executing -= 1;
                    level.seats -= request.width;
                    queue.n_executing -= 1;
                    queue.seats -= request.width;
                    // What it took, instead of what it was taken to take.
                    let took = now_us.saturating_sub(began);
                    queue.work += i64::from(request.width).saturating_mul(took - EXPECTED_US);
                }
                None => {
                    queue.waiting.retain(|waiting| *waiting != id);
                    level.n_waiting -= 1;
                }
            }
            if queue.waiting.is_empty() && queue.n_executing == 0 {
                level.queues.remove(&request.queue);
            }
        }
        self.borrowed -= before - level.beyond();
        if level.is_gone && level.n_executing == 0 {
            self.levels.remove(&request.level);
        }
        self.dispatch(&mut begun, now_us);
        begun
    }

    /// Whether a request of `width` seats may begin.
    fn has_room(&self, level: &Level, width: u32) -> bool {
        let seats = level.seats + width;
        let more = seats.saturating_sub(level.kept) - level.beyond();
        seats <= level.most && (more == 0 || self.borrowed + more <= self.pool)
    }

    /// Begins what there is room for, the level first that has the least of what it is promised.
    fn dispatch(&mut self, begun: &mut Vec<Id>, now_us: i64) {
        loop {
            let ready =
                self.levels.values().filter(|level| level.n_waiting > 0).filter_map(|level| {
                    let id = level.next()?;
                    let width = self.requests.get(&id)?.width;
                    self.has_room(level, width).then_some((level, id))
                });
            let used =
                |level: &Level| (u64::from(level.seats) << 20) / u64::from(level.nominal.max(1));
            let Some((_, id)) = ready.min_by_key(|(level, _)| used(level)) else { return };
            self.begin(id, now_us);
            begun.push(id);
        }
    }

    /// A request that waits is worked on from now.
    fn begin(&mut self, id: Id, now_us: i64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(level) = self.levels.get_mut(&request.level) else { return };
        request.began_us = Some(now_us);
        let before = level.beyond();
        level.n_waiting -= 1;
        level.n_executing += 1;
        level.seats += request.width;
        self.borrowed += level.beyond() - before;
        if let Some(queue) = level.queues.get_mut(&request.queue) {
            queue.waiting.retain(|waiting| *waiting != id);
            queue.n_executing += 1;
            queue.seats += request.width;
            level.work = level.work.max(queue.work);
            queue.work += i64::from(request.width) * EXPECTED_US;
        }
    }
}

impl Level {
    /// The seats of the pool that it has.
    fn beyond(&self) -> u32 {
        // What is exempt is not counted, and what is gone has nothing of its own.
        match (self.spec.exempt, self.is_gone) {
            (true, _) => 0,
            (_, true) => self.seats,
            _ => self.seats.saturating_sub(self.kept),
        }
    }

    /// Who waits longest in the queue that was given the least.
    fn next(&self) -> Option<Id> {
        let waiting = self.queues.values().filter(|queue| !queue.waiting.is_empty());
        waiting.min_by_key(|queue| queue.work)?.waiting.front().copied()
    }

    /// Of the queues that a flow is dealt, the one with the least before it.
    fn shortest(&self, queuing: Queuing, hash: u64) -> u32 {
        let before = |queue: &u32| {
            self.queues.get(queue).map_or((0, 0), |queue| (queue.waiting.len(), queue.seats))
        };
        deal(queuing, hash).into_iter().min_by_key(before).unwrap_or(0)
    }
}

/// The queues of a flow: a hand of different cards, by its hash.
fn deal(queuing: Queuing, mut hash: u64) -> Vec<u32> {
    let (queues, hand) = (queuing.queues.max(1), queuing.hand.clamp(1, queuing.queues.max(1)));
    let mut cards: Vec<u32> = Vec::with_capacity(hand as usize);
    for n in 0..hand {
        let left = u64::from(queues - n);
        let mut card = clamped(hash % left);
        hash /= left;
        // The card is one of those that are left: lower ones that were dealt move it up.
        let mut at = 0;
        while at < cards.len() && cards[at] <= card {
            card += 1;
            at += 1;
        }
        cards.insert(at, card);
    }
    cards
}

fn clamped(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str, shares: u32, lendable: u32, queuing: Option<[u32; 3]>) -> LevelSpec {
        let queuing =
            queuing.map(|[queues, hand, length_max]| Queuing { queues, hand, length_max });
        LevelSpec { name: name.into(), shares, lendable, queuing, ..LevelSpec::default() }
    }

    fn seats(specs: Vec<LevelSpec>) -> Seats {
        let mut seats = Seats::new(10);
        assert!(seats.configure(specs, 0).is_empty());
        seats
    }

    fn begins((arrived, begun): (Arrived, Vec<Id>)) -> Id {
        let Arrived::Begins(id) = arrived else { panic!("{arrived:?}") };
        assert_eq!(begun, []);
        id
    }

    fn waits((arrived, _): (Arrived, Vec<Id>)) -> Id {
        let Arrived::Waits(id) = arrived else { panic!("{arrived:?}") };
        id
    }

    #[test]
    fn a_level_has_its_part_and_borrows_what_others_lend() {
        let (a, b) = (level("a", 1, 50, Some([4, 1, 9])), level("b", 1, 20, Some([4, 1, 9])));
        let mut seats = seats(vec![a, b]);
        // Five are its own, one is lent by b.
        let own: Vec<Id> = (0..6).map(|n| begins(seats.arrive("a", n, 1, 0))).collect();
        let later = waits(seats.arrive("a", 7, 1, 0));
        // What b keeps is there at once; the one that it lent comes back before a borrows again.
        for n in 0..4 {
            begins(seats.arrive("b", n, 1, 0));
        }
        let lender = waits(seats.arrive("b", 7, 1, 0));
        assert_eq!(seats.end(own[0], 9), [lender]);
        assert_eq!(seats.end(own[1], 9), [later]);
        assert_eq!(seats.end(later, 10), []);
    }

    #[test]
    fn what_may_not_borrow_does_not() {
        let mut a = level("a", 1, 0, Some([4, 1, 9]));
        a.borrowing = Some(20);
        let mut seats = seats(vec![a, level("b", 1, 100, Some([1, 1, 9]))]);
        for n in 0..6 {
            begins(seats.arrive("a", n, 1, 0));
        }
        waits(seats.arrive("a", 9, 1, 0));
    }

    #[test]
    fn a_greedy_flow_fills_its_own_queues_and_others_take_turns_with_it() {
        let mut seats = seats(vec![level("a", 1, 0, Some([64, 2, 3]))]);
        let held: Vec<Id> = (0..10).map(|n| begins(seats.arrive("a", n, 1, 0))).collect();
        let greedy: Vec<Id> = (0..6).map(|_| waits(seats.arrive("a", 1000, 1, 0))).collect();
        let full = Arrived::Refused(Refused::QueueFull);
        assert_eq!(seats.arrive("a", 1000, 1, 0).0, full, "two queues of three");
        let modest = waits(seats.arrive("a", 777, 1, 0));
        let mut begun = Vec::new();
        for id in &held[..4] {
            begun.extend(seats.end(*id, 1000));
        }
        assert!(begun.contains(&modest), "{begun:?} of {greedy:?}, and {modest:?}");
        // Who went away takes no turn.
        let left: Vec<Id> = greedy.into_iter().filter(|id| !begun.contains(id)).collect();
        for id in &left {
            assert!(seats.end(*id, 1000).is_empty());
        }
        assert!(seats.end(held[4], 1000).is_empty());
    }

    #[test]
    fn work_is_what_was_taken_and_not_how_often() {
        let mut seats = Seats::new(1);
        seats.configure(vec![level("a", 1, 0, Some([64, 1, 50]))], 0);
        let mut at = begins(seats.arrive("a", 5, 1, 0));
        let mut of: OrdMap<Id, u64> = OrdMap::new();
        for _ in 0..40 {
            for flow in [1, 2] {
                of.insert(waits(seats.arrive("a", flow, 1, 0)), flow);
            }
        }
        // The first flow's take nine times as long.
        let (mut now, mut took) = (0, [0, 0]);
        for _ in 0..40 {
            at = seats.end(at, now)[0];
            let flow = of[&at];
            let us = if flow == 1 { 9000 } else { 1000 };
            took[usize::try_from(flow - 1).unwrap()] += us;
            now += us;
        }
        assert!(took[0] < 3 * took[1] && took[1] < 3 * took[0], "{took:?}");
    }

    #[test]
    fn levels_come_change_and_go() {
        let mut seats =
            seats(vec![level(CATCH_ALL, 1, 0, None), level("a", 9, 0, Some([1, 1, 50]))]);
        let held: Vec<Id> = (0..9).map(|_| begins(seats.arrive("a", 1, 1, 0))).collect();
        let waiting = waits(seats.arrive("a", 1, 1, 0));
        let other = begins(seats.arrive(CATCH_ALL, 1, 1, 0));
        let refused = Arrived::Refused(Refused::ConcurrencyLimit);
        assert_eq!(seats.arrive(CATCH_ALL, 1, 1, 0).0, refused);
        // Who waits in a level that goes is let in; who comes for it is of the other.
        assert_eq!(seats.configure(vec![level(CATCH_ALL, 1, 0, None)], 0), [waiting]);
        let found: Vec<u32> = seats.levels().map(|level| level.n_executing).collect();
        assert_eq!(found, [10, 1]);
        begins(seats.arrive("a", 1, 1, 0));
        held.into_iter().chain([waiting, other]).for_each(|id| drop(seats.end(id, 1)));
        assert_eq!(seats.levels().count(), 1);
        assert_eq!((seats.requests.len(), seats.borrowed), (1, 0));
    }

    #[test]
    fn a_wide_request_takes_a_part_of_its_level_and_the_exempt_take_none() {
        let mut exempt = level("exempt", 0, 0, None);
        exempt.exempt = true;
        let mut seats = Seats::new(70);
        seats.configure(vec![level("a", 1, 0, Some([1, 1, 50])), exempt], 0);
        for _ in 0..100 {
            begins(seats.arrive("exempt", 0, 10, 0));
        }
        let wide: Vec<Id> = (0..7).map(|_| begins(seats.arrive("a", 0, 99, 0))).collect();
        waits(seats.arrive("a", 0, 1, 0));
        assert_eq!(seats.end(wide[0], 1).len(), 1);
    }

    #[test]
    fn a_slow_reader_keeps_no_seat_from_others() {
        let mut seats = seats(vec![level("a", 1, 0, Some([1, 1, 50]))]);
        let held: Vec<Id> = (0..10).map(|_| begins(seats.arrive("a", 0, 1, 0))).collect();
        seats.sends(held[0], 5);
        let first = waits(seats.arrive("a", 0, 1, SENT_MAX_US));
        let (second, begun) = seats.arrive("a", 0, 1, 6 + SENT_MAX_US);
        assert_eq!(begun, [first]);
        waits((second, begun));
        assert_eq!(seats.end(held[0], 9 + SENT_MAX_US), [], "it was given back before");
    }

    #[test]
    fn hands_hold_different_queues_and_every_queue_is_dealt() {
        let mut dealt = stdx::OrdSet::new();
        for n in 0..2000_u64 {
            let hash = api::hash::fnv64a(api::hash::FNV64, &n.to_le_bytes());
            let hand = deal(Queuing { queues: 64, hand: 6, length_max: 1 }, hash);
            assert!(hand.windows(2).all(|two| two[0] < two[1]) && hand[5] < 64, "{hand:?}");
            dealt.extend(hand);
        }
        assert_eq!(dealt.len(), 64);
        for (queues, hand) in [(1, 1), (2, 2), (1, 9), (0, 0), (10_000_000, 2)] {
            deal(Queuing { queues, hand, length_max: 1 }, u64::MAX);
        }
    }
}
