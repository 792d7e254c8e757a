//! Role.

use crate::kind::*;

pub static ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    name: "Role",
    plural: "roles",
    generation: false,
    name_rule: NameRule::PathSegment,
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
Role kind
   1 metadata ObjectMeta
   2 rules!   []PolicyRule
";
