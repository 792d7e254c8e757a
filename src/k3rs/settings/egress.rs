//! What a server reaches through the tunnels of its agents.

use stdx::{Error, Result};

/// `--egress-selector-mode`: what a server reaches through tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing; nodes are reached at their addresses.
    Disabled,
    /// Kubelets.
    Agent,
    /// Pods, too, by k3s's two names: there the one takes the node from ranges and the other from pods, here an endpoint says it.
    Pod,
    Cluster,
}

impl Mode {
    /// Reads k3s's names.
    ///
    /// # Errors
    /// If it is none of them.
    pub(crate) fn parse(name: &str) -> Result<Mode> {
        match name {
            "disabled" => Ok(Mode::Disabled),
            "agent" => Ok(Mode::Agent),
            "pod" => Ok(Mode::Pod),
            "cluster" => Ok(Mode::Cluster),
            other => Err(Error::new(format!("invalid egress-selector-mode {other}"))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Disabled => "disabled",
            Mode::Agent => "agent",
            Mode::Pod => "pod",
            Mode::Cluster => "cluster",
        }
    }

    /// Whether pods are reached through tunnels, and not only kubelets.
    pub(crate) fn has_pods(self) -> bool {
        matches!(self, Mode::Pod | Mode::Cluster)
    }
}
