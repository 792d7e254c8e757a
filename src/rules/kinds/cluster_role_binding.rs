//! ClusterRoleBinding: grants a cluster role to users, groups and service accounts everywhere.

use api::kinds::CLUSTER_ROLE_BINDING;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &CLUSTER_ROLE_BINDING,
    name_rule: NameRule::PathSegment,
    validate,
    columns: COLUMNS,
    default: super::role_binding::default,
    on_update: "CSCVU",
    ..Rules::BASE
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
