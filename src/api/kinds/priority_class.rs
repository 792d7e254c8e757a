//! PriorityClass.

use crate::kind::*;

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    name: "PriorityClass",
    plural: "priorityclasses",
    short: &["pc"],
    scope: Scope::Cluster,
    ..Kind::BASE
};
