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
    schema: SCHEMA,
    default: super::role_binding::default,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
ClusterRoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject
   3 roleRef* RoleRef
";
