//! Namespace.

use crate::kind::*;

pub static NAMESPACE: Kind = Kind {
    version: "v1",
    name: "Namespace",
    plural: "namespaces",
    short: &["ns"],
    scope: Scope::Cluster,
    generation: false,
    name_rule: NameRule::Label,
    subresources: &[Sub::Status, Sub::Named("finalize")],
    fields: &["status.phase"],
    ..Kind::BASE
};
