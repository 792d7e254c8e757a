//! What evaluations cost: upstream's units, and what those do not count, memory and comparisons.

use super::{Fail, Out};

/// What one call of an expression may cost, in upstream's units.
pub const CALL_MAX: u64 = 1_000_000;
/// What all expressions about one object may cost together.
pub const OBJECT_MAX: u64 = 10_000_000;
/// What all match conditions about one object may cost together.
pub const CONDITIONS_MAX: u64 = 2_500_000;
/// How many bytes one evaluation may make of its own.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many elements one evaluation may compare.
const WORK_MAX: usize = 100_000_000;

/// What an element of a list takes, in bytes.
pub(crate) const ELEMENT: usize = 48;

/// What one evaluation cost so far.
#[derive(Debug)]
pub struct Spent {
    pub cost: u64,
    limit: u64,
    bytes: usize,
    work: usize,
    pub(crate) regexes: crate::pattern::Kept,
}

impl Spent {
    /// Nothing yet, of at most `limit` units.
    pub fn up_to(limit: u64) -> Spent {
        Spent { cost: 0, limit, bytes: 0, work: 0, regexes: Default::default() }
    }

    /// Nothing yet of at most `limit` units, but what was made and compared before counts on: for the next of
    /// several expressions whose values are kept.
    #[must_use]
    pub fn next(&self, limit: u64) -> Spent {
        let (bytes, work, regexes) = (self.bytes, self.work, self.regexes.clone());
        Spent { cost: 0, limit, bytes, work, regexes }
    }

    fn cancelled<T>() -> Out<T> {
        let message = "operation cancelled: actual cost limit exceeded".into();
        Err(Box::new(Fail { message, cancelled: true }))
    }

    /// Adds to the cost.
    ///
    /// # Errors
    ///
    /// If it is more than allowed.
    pub fn pay(&mut self, units: u64) -> Out<()> {
        self.cost = self.cost.saturating_add(units);
        if self.cost > self.limit { Spent::cancelled() } else { Ok(()) }
    }

    pub(crate) fn bytes(&mut self, bytes: usize) -> Out<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BYTES_MAX { Spent::cancelled() } else { Ok(()) }
    }

    pub(crate) fn work(&mut self, elements: usize) -> Out<()> {
        self.work = self.work.saturating_add(elements);
        if self.work > WORK_MAX { Spent::cancelled() } else { Ok(()) }
    }
}
