//! The scheduler: where each pending pod goes, and for every node that refused it, why.
//!
//! A brain: it reads a view and asks for bindings, conditions and evictions. One key stands for the
//! whole queue, so that every decision sees the ones before it. Upstream's default profile of
//! kube-scheduler v1.32 is the specification; plug-ins are files in `filter/` and `score/`.

mod affinity;
mod filter;
mod node;
mod pod;
mod preempt;
mod scheduler;
mod score;
mod volume;

pub use scheduler::Scheduler;

/// The scheduler's line for the driver of controllers.
pub static SCHEDULER: &[api::Registered] = &[api::Registered::of::<Scheduler>()];
