//! A whole cluster in one thread under a seed: production brains, API, store and driver, with faults.
//!
//! The simulated parts are the world around them: disk, network between components, kubelets and
//! their containers, users, clocks, crashes. Checkers look at every change of the store and at
//! every decision of a controller. Then the faults stop and the cluster must come to rest where
//! its specs say. A seed is a history: `make sim SEED=n` replays it.

mod check;
mod controllers;
mod decide;
mod door;
mod faults;
mod kubelet;
mod machine;
mod plant;
mod run;
mod user;
mod wire;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use plant::Plant;
pub use run::{Outcome, heard, run};

/// A simulation that panicked has failed; what it held is still looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
