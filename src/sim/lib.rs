//! A whole cluster in one thread under a seed: production brains, API, store and driver, with faults.
//!
//! The simulated parts are the world around them: disk, network between components, kubelets and
//! their containers, users, clocks, crashes. Checkers look at every change of the store and at
//! every decision of a controller. Then the faults stop and the cluster must come to rest where
//! its specs say. A seed is a history: `make sim SEED=n` replays it.

mod check;
mod decide;
mod door;
mod faults;
mod kubelet;
mod plant;
mod run;
mod user;
mod wire;
mod world;

pub use plant::Plant;
pub use run::{Outcome, heard, run};
