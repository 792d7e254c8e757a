//! What the scheduler did and what waits, as Prometheus reads it, under kube-scheduler's names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use stdx::metrics::{Text, number};

/// Where a pod waits, in upstream's words. Nothing waits in a back-off here: what changes wakes the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Queue {
    /// For its turn.
    Active,
    /// For something to change.
    Unschedulable,
    Gated,
}

const QUEUES: [&str; 3] = ["active", "unschedulable", "gated"];

/// Of the pass that is made, or was made last.
static WAITING: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
/// Decisions by profile and result; there are as many profiles as an administrator wrote.
static ATTEMPTS: Mutex<Vec<(String, &'static str, u64)>> = Mutex::new(Vec::new());

/// A pass begins with so many pods.
pub(crate) fn begin(n_pending: usize) {
    let n_pending = u64::try_from(n_pending).unwrap_or(0);
    for (queue, n) in WAITING.iter().zip([n_pending, 0, 0]) {
        queue.store(n, Ordering::Relaxed);
    }
}

/// A pod had its turn: it waits elsewhere now, or no longer.
pub(crate) fn turned(to: Option<Queue>) {
    let less = |n: u64| n.checked_sub(1);
    let _ =
        WAITING[Queue::Active as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    if let Some(queue) = to {
        WAITING[queue as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// `result` is `scheduled`, `unschedulable` or `error`.
pub(crate) fn decided(profile: &str, result: &'static str) {
    let mut attempts = ATTEMPTS.lock().unwrap_or_else(PoisonError::into_inner);
    match attempts.iter_mut().find(|(of, is, _)| of == profile && *is == result) {
        Some((_, _, n)) => *n += 1,
        None => attempts.push((profile.to_owned(), result, 1)),
    }
    drop(attempts);
    turned((result != "scheduled").then_some(Queue::Unschedulable));
}

/// Appends all of it.
pub fn write_figures(text: &mut Text) {
    text.family("scheduler_pending_pods", "gauge", "Number of pending pods, by the queue type.");
    for (name, n) in QUEUES.iter().zip(&WAITING) {
        let n = number(n.load(Ordering::Relaxed));
        text.sample("scheduler_pending_pods", &[("queue", name)], n, None);
    }
    let name = "scheduler_schedule_attempts_total";
    text.family(
        name,
        "counter",
        "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
    );
    for (profile, result, n) in ATTEMPTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        text.sample(name, &[("profile", profile), ("result", result)], number(*n), None);
    }
}
