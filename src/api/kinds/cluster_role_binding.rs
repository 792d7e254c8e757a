//! ClusterRoleBinding: grants a cluster role to users, groups and service accounts everywhere.

use serde_json::Value;

use crate::kind::*;
use crate::lens::Lens;
use crate::status::Cause;

pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        generation: false,
        name_rule: NameRule::PathSegment,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        default: super::role_binding::default,
        doc: "Grants a cluster role to users, groups and service accounts everywhere.",
        creates_on_update: true,
        on_update: "CSCVU",
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Role", |tree, _| {
        format!("{}/{}", tree.str("roleRef.kind"), tree.str("roleRef.name")).into()
    }),
    Column::AGE,
    Column::with("Users", |tree, _| super::role_binding::subjects(tree, "User")).wide(),
    Column::with("Groups", |tree, _| super::role_binding::subjects(tree, "Group")).wide(),
    Column::with("ServiceAccounts", |tree, _| {
        super::role_binding::subjects(tree, "ServiceAccount")
    })
    .wide(),
];

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    super::role_binding::binding(new, old, &["ClusterRole"], causes);
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
ClusterRoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject -- Who is granted it.
   3 roleRef* RoleRef -- The role that is granted; cannot change.
";
