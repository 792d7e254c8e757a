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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
RoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject
   3 roleRef* RoleRef
";
