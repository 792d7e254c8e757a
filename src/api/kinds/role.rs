//! Role: what may be done in one namespace.

use crate::kind::*;

pub static ROLE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "Role",
    plural: "roles",
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        doc: "What may be done in one namespace.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
Role kind
   1 metadata ObjectMeta
   2 rules!   []PolicyRule -- What the role allows.
";
