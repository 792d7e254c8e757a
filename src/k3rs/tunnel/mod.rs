//! The tunnel between servers and agents: an agent opens it, and a server reaches the agent's kubelet through it.

mod agent;
mod server;

use stdx::{Error, Result};

pub(crate) use agent::keep;
pub(crate) use server::Tunnels;

/// `--egress-selector-mode`: what a server reaches through tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing; nodes are reached at their addresses.
    Disabled,
    /// Kubelets.
    Agent,
}

impl Mode {
    /// Reads k3s's names.
    ///
    /// # Errors
    /// If it is none of them, or one that is not here yet.
    pub(crate) fn parse(name: &str) -> Result<Mode> {
        match name {
            "disabled" => Ok(Mode::Disabled),
            "agent" => Ok(Mode::Agent),
            "cluster" | "pod" => Err(Error::new(format!(
                "--egress-selector-mode={name} is not supported by this version of k3rs yet (agent or disabled)"
            ))),
            other => Err(Error::new(format!("invalid egress-selector-mode {other}"))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Disabled => "disabled",
            Mode::Agent => "agent",
        }
    }
}
