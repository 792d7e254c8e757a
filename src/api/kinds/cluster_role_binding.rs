//! ClusterRoleBinding: grants a cluster role to users, groups and service accounts everywhere.

use crate::kind::*;

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        doc: "Grants a cluster role to users, groups and service accounts everywhere.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
ClusterRoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject -- Who is granted it.
   3 roleRef* RoleRef -- The role that is granted; cannot change.
";
