//! Role.

use crate::kind::*;

pub static ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "Role",
    plural: "roles",
    generation: false,
    name_rule: NameRule::PathSegment,
    ..Kind::BASE
};
