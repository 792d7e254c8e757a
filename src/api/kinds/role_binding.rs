//! RoleBinding.

use crate::kind::*;

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "RoleBinding",
    plural: "rolebindings",
    generation: false,
    name_rule: NameRule::PathSegment,
    ..Kind::BASE
};
