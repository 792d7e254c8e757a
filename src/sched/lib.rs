//! The scheduler: where each pending pod goes, and for every node that refused it, why.
//!
//! A brain: it reads a view and asks for bindings, conditions and evictions. One key stands for the
//! whole queue, so that every decision sees the ones before it. Upstream's default profile of
//! kube-scheduler v1.32 is the specification; [`read`] makes others of a `KubeSchedulerConfiguration`.

mod affinity;
mod config;
mod extend;
mod extender;
mod figures;
mod filter;
mod limits;
mod node;
mod place;
mod pod;
mod preempt;
mod profile;
mod scheduler;
mod score;
mod spread;
mod volume;

use api::Registered;

pub use config::{Read, read};
pub use extender::Extender;
pub use figures::write_figures;
pub use profile::{Profile, Profiles};
pub use scheduler::Scheduler;

/// The scheduler's line for the driver of controllers.
pub static SCHEDULER: &[Registered] = &[Registered::of::<Scheduler>()];

/// The same for profiles with constraints of their own, which are about pods that something selects.
static SPREADING: &[Registered] = &[Registered { reads: spread::READS, ..SCHEDULER[0] }];

/// The scheduler's line for what it was given.
pub fn registered(profiles: Option<&Profiles>) -> &'static [Registered] {
    match profiles.is_some_and(Profiles::spreads) {
        true => SPREADING,
        false => SCHEDULER,
    }
}
