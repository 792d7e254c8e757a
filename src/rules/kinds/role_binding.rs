//! RoleBinding: grants a role to users, groups and service accounts in one namespace.

use api::complain::Complain;
use api::kinds::ROLE_BINDING;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &ROLE_BINDING,
    name_rule: NameRule::PathSegment,
    validate,
    columns: COLUMNS,
    default,
    on_update: "CSCVU",
    ..Rules::BASE
};

pub(super) fn default(tree: &mut Value) {
    for subject in tree.at_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(subject.str("kind"), "User" | "Group") && subject.str("apiGroup").is_empty() {
            subject.set("apiGroup", "rbac.authorization.k8s.io");
        }
    }
}

const COLUMNS: &[Column<'static>] = &[
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

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    binding(new, old, &["Role", "ClusterRole"], causes);
}

/// What role bindings and cluster role bindings must say.
pub(super) fn binding(new: &Value, old: Option<&Value>, kinds: &[&str], causes: &mut Vec<Cause>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let role = new.at("roleRef");
    if role.str("apiGroup") != GROUP {
        causes.not_supported("roleRef.apiGroup", role.str("apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&role.str("kind")) {
        causes.not_supported_in_order("roleRef.kind", role.str("kind"), kinds);
    }
    causes.check_name("roleRef.name", role.str("name"), api::names::path_segment);
    for (idx, subject) in new.list("subjects").iter().enumerate() {
        let path = format!("subjects[{idx}]");
        let group = subject.str("apiGroup");
        match subject.str("kind") {
            "ServiceAccount" => {
                if !group.is_empty() {
                    causes.not_supported(&format!("{path}.apiGroup"), group, &[""]);
                }
                if subject.str("namespace").is_empty() {
                    causes.required(&format!("{path}.namespace"), "");
                }
                if !subject.str("name").is_empty() {
                    causes.check_name(
                        &format!("{path}.name"),
                        subject.str("name"),
                        api::names::subdomain,
                    );
                }
            }
            "User" | "Group" if group != GROUP => {
                causes.not_supported(&format!("{path}.apiGroup"), group, &[GROUP]);
            }
            "User" | "Group" => {}
            other => {
                causes.not_supported_in_order(
                    &format!("{path}.kind"),
                    other,
                    &["ServiceAccount", "User", "Group"],
                );
            }
        }
    }
    if old.is_some_and(|old| old.at("roleRef") != role) {
        let (group, kind, name) = (role.str("apiGroup"), role.str("kind"), role.str("name"));
        let shown = format!("rbac.RoleRef{{APIGroup:{group:?}, Kind:{kind:?}, Name:{name:?}}}");
        let message = format!("Invalid value: {shown}: cannot change roleRef");
        causes.complain("FieldValueInvalid", "roleRef", message);
    }
}
