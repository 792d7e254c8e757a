//! ClusterRoleBinding.

use crate::kind::*;

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    scope: Scope::Cluster,
    generation: false,
    name_rule: NameRule::PathSegment,
    ..Kind::BASE
};
