//! RoleBinding.

use serde_json::Value;

use crate::kind::*;
use crate::lens::{Lens, LensMut};

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "RoleBinding",
    plural: "rolebindings",
    generation: false,
    name_rule: NameRule::PathSegment,
    schema: SCHEMA,
    columns: COLUMNS,
    default,
    ..Kind::BASE
};

pub(super) fn default(tree: &mut Value) {
    for subject in tree.at_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject.str("kind"), "User" | "Group") && subject.str("apiGroup").is_empty() {
            subject.set("apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

const COLUMNS: &[Column] = &[
    Column::with("Role", |tree, _| {
        format!("{}/{}", tree.str("roleRef.kind"), tree.str("roleRef.name")).into()
    }),
    Column::AGE,
    Column::with("Users", |tree, _| subjects(tree, "User")).wide(),
    Column::with("Groups", |tree, _| subjects(tree, "Group")).wide(),
    Column::with("ServiceAccounts", |tree, _| subjects(tree, "ServiceAccount")).wide(),
];

/// The names of the subjects of one kind; service accounts with their namespace.
pub(super) fn subjects(tree: &Value, kind: &str) -> Value {
    let named = tree.list("subjects").iter().filter(|subject| subject.str("kind") == kind);
    let names = named.map(|subject| match kind {
        "ServiceAccount" => format!("{}/{}", subject.str("namespace"), subject.str("name")),
        _ => subject.str("name").to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
RoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject
   3 roleRef* RoleRef
";
