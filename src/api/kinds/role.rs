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
    columns: COLUMNS,
    ..Kind::BASE
};

const COLUMNS: &[Column] =
    &[Column { format: "date", ..Column::path("Created At", "metadata.creationTimestamp") }];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
Role kind
   1 metadata ObjectMeta
   2 rules!   []PolicyRule
";
