//! ClusterRole.

use crate::kind::*;

pub static CLUSTER_ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "ClusterRole",
    plural: "clusterroles",
    scope: Scope::Cluster,
    generation: false,
    name_rule: NameRule::PathSegment,
    ..Kind::BASE
};
