//! PodDisruptionBudget.

use crate::kind::*;

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    version: "v1",
    name: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short: &["pdb"],
    subresources: &[Sub::Status],
    ..Kind::BASE
};
