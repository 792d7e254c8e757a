//! Node.

use crate::kind::*;

pub static NODE: Kind = Kind {
    version: "v1",
    name: "Node",
    plural: "nodes",
    short: &["no"],
    scope: Scope::Cluster,
    storage: "minions",
    generation: false,
    subresources: &[Sub::Status, Sub::Named("proxy")],
    fields: &["spec.unschedulable"],
    ..Kind::BASE
};
