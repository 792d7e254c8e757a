//! Bytes that all clients together may have in memory: what they sent, and what they have not taken yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::grpc::Status;

use crate::refusal::TOO_MANY_REQUESTS;

/// Messages up to this are free: what bounds them is the number of streams.
pub(crate) const FREE_BYTES: usize = 16 << 10;
/// How long a message waits for others to go.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    taken: AtomicUsize,
    freed: rt::Event,
}

/// So many bytes of a budget, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, taken: AtomicUsize::new(0), freed: rt::Event::new() })
    }

    /// Room for a message at once; `None` if there is none now. What is larger than everything takes everything.
    pub(crate) fn try_take(self: &Arc<Budget>, bytes: usize) -> Option<Charge> {
        let bytes = if bytes <= FREE_BYTES { 0 } else { bytes.min(self.bytes_max) };
        let more = |taken: usize| Some(taken + bytes).filter(|taken| *taken <= self.bytes_max);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Charge { budget: Arc::clone(self), bytes })
    }

    /// The same, waiting a while.
    ///
    /// # Errors
    /// If others do not go.
    pub(crate) async fn take(self: &Arc<Budget>, bytes: usize) -> Result<Charge, Status> {
        let wait = async {
            loop {
                let freed = self.freed.listen();
                if let Some(charge) = self.try_take(bytes) {
                    return charge;
                }
                freed.await;
            }
        };
        rt::timeout(WAIT_MAX, wait).await.map_err(|rt::Elapsed| TOO_MANY_REQUESTS.status())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.taken.fetch_sub(self.bytes, Ordering::AcqRel);
            self.budget.freed.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::future::{poll_once, zip};

    #[test]
    fn what_is_taken_comes_back() {
        rt::block_on(async {
            let budget = Budget::new(100 << 10);
            let small = budget.try_take(FREE_BYTES).unwrap();
            let first = budget.try_take(60 << 10).unwrap();
            assert!(budget.try_take(60 << 10).is_none());
            assert!(poll_once(budget.take(60 << 10)).await.is_none());
            let free = async { drop((small, first)) };
            let (second, ()) = zip(budget.take(60 << 10), free).await;
            assert!(budget.try_take(1 << 30).is_none());
            drop(second.unwrap());
            let all = budget.try_take(1 << 30).unwrap();
            assert_eq!(all.bytes, 100 << 10);
            assert!(budget.try_take(FREE_BYTES + 1).is_none() && budget.try_take(1).is_some());
        });
    }
}
