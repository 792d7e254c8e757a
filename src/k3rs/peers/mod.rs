//! How the other machines of a cluster are found and reached: joining, choosing a server, the tunnel to agents.

pub(crate) mod balancer;
pub(crate) mod join;
pub(crate) mod tunnel;
pub(crate) mod whom;
