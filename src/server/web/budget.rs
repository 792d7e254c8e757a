//! What requests may take of the machine's memory: all together, and each user for himself.
//!
//! Everything that lives as long as a request, a watch or a stream is charged before it is made: the
//! body while it is read, the tree before it is decoded, the answer while it is sent. Callers inside
//! the process are not charged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::Status;
use api::status::Reason;

use crate::user::{MASTERS, Meter, User};

/// What any request takes: its head, its place on the heap, an answer of usual size.
pub(super) const REQUEST_BYTES: usize = 8 << 10;
/// A watch, with what waits in it for a slow reader.
pub(super) const WATCH_BYTES: usize = 64 << 10;
/// Logs, exec, attach, port-forward and proxies: buffers both ways.
pub(super) const STREAM_BYTES: usize = 128 << 10;
/// One user's part of all.
const USER_PARTS: usize = 2;
/// The part of all that only administrators get.
const MASTERS_PARTS: usize = 8;

/// Bytes for all requests together.
#[derive(Clone)]
pub(super) struct Budget(Arc<Inner>);

struct Inner {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    users: HashMap<String, usize>,
}

/// What one request holds of the budget; it goes back when this is dropped.
pub(super) struct Charge {
    budget: Budget,
    user: String,
    is_master: bool,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Budget {
        Budget(Arc::new(Inner { bytes_max, held: Mutex::default() }))
    }

    /// A charge for something that a user asks for.
    ///
    /// # Errors
    /// 429 when the user, or all together, have too much in flight.
    pub(super) fn charge(&self, user: &User, bytes: usize) -> Result<Charge, Status> {
        let (is_master, user) = (user.in_group(MASTERS), user.name.clone());
        let mut charge = Charge { budget: self.clone(), user, is_master, bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Charge {
    /// Takes more, but no more than a user may have in all: for what was let in before.
    ///
    /// # Errors
    /// 429 if it is too much now.
    pub(super) fn grow_within(&mut self, bytes: usize) -> Result<(), Status> {
        let share = self.budget.0.bytes_max / USER_PARTS;
        self.grow(bytes.min(share.saturating_sub(self.bytes)))
    }

    /// Takes more.
    ///
    /// # Errors
    /// 413 if no user may have so much, 429 if it is too much now.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let all = self.budget.0.bytes_max;
        let share = all / USER_PARTS;
        if self.bytes.saturating_add(bytes) > share {
            return Err(Status::new(
                Reason::RequestEntityTooLarge,
                format!(
                    "Request entity too large: it takes {} bytes of memory to work on, and one client may have {share}",
                    self.bytes.saturating_add(bytes)
                ),
            ));
        }
        let common = if self.is_master { all } else { all - all / MASTERS_PARTS };
        let mut held = self.budget.lock();
        let own = held.users.get(&self.user).copied().unwrap_or(0);
        if own + bytes > share {
            let message = format!(
                "too many requests of {:?} are in flight, please try again later",
                self.user
            );
            return Err(Status::too_many_requests(message, 1));
        }
        if held.bytes + bytes > common {
            let message =
                "too many requests, please try again later: no memory is left for this one";
            return Err(Status::too_many_requests(message, 1));
        }
        held.bytes += bytes;
        match held.users.get_mut(&self.user) {
            Some(own) => *own += bytes,
            None => drop(held.users.insert(self.user.clone(), bytes)),
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let mut held = self.budget.lock();
        held.bytes -= self.bytes;
        let left = held.users.get_mut(&self.user).map(|own| {
            *own -= self.bytes;
            *own
        });
        if left == Some(0) {
            held.users.remove(&self.user);
        }
    }
}

impl Meter for Mutex<Charge> {
    fn hold(&self, bytes: usize) -> Result<(), Status> {
        let mut charge = self.lock().unwrap_or_else(PoisonError::into_inner);
        let more = bytes.saturating_sub(charge.bytes);
        charge.grow_within(more)
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Charge({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_given_back() {
        let budget = Budget::new(1600);
        let (a, b, admin) = (User::new("a", &[]), User::new("b", &[]), User::admin());
        let mut first = budget.charge(&a, 500).unwrap();
        let code = |charged: Result<Charge, Status>| charged.map(|_| ()).unwrap_err().code();
        assert_eq!(code(budget.charge(&a, 400)), 429, "the share of a user");
        assert_eq!(code(budget.charge(&b, 801)), 413, "never");
        assert_eq!(first.grow(400).unwrap_err().code(), 413);
        first.grow(200).unwrap();
        let second = budget.charge(&b, 700).unwrap();
        assert_eq!(code(budget.charge(&b, 1)), 429, "an eighth is the administrators'");
        let third = budget.charge(&admin, 200).unwrap();
        assert_eq!(code(budget.charge(&admin, 1)), 429);
        drop(first);
        let mut large = budget.charge(&a, 1).unwrap();
        large.grow_within(5000).unwrap_err();
        drop(second);
        large.grow_within(5000).unwrap();
        assert_eq!(large.bytes, 800);
        drop(large);
        // What a request holds in all is told at several places; the most counts.
        let metered = Mutex::new(budget.charge(&a, 100).unwrap());
        for (told, held) in [(50, 100), (300, 300), (200, 300), (5000, 800)] {
            metered.hold(told).unwrap();
            assert_eq!(metered.lock().unwrap().bytes, held);
        }
        drop(metered);
        assert!(budget.charge(&a, 700).is_ok());
        drop(third);
        assert!(budget.lock().users.is_empty() && budget.lock().bytes == 0);
    }
}
