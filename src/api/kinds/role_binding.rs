//! RoleBinding.

use crate::kind::*;

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "RoleBinding",
    plural: "rolebindings",
    generation: false,
    name_rule: NameRule::PathSegment,
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
RoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject
   3 roleRef* RoleRef
";
