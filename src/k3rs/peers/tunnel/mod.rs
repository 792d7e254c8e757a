//! The tunnel between servers and agents: an agent opens it, and a server reaches the agent's kubelet through it.

mod agent;
mod server;

pub(crate) use agent::keep;
pub(crate) use server::Tunnels;
