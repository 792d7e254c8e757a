//! RoleBinding: grants a role to users, groups and service accounts in one namespace.

use crate::kind::*;

pub static ROLE_BINDING: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: "RoleBinding",
    plural: "rolebindings",
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        doc: "Grants a role to users, groups and service accounts in one namespace.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.rbac.v1
RoleBinding kind
   1 metadata ObjectMeta
   2 subjects []Subject -- Who is granted it.
   3 roleRef* RoleRef -- The role that is granted; cannot change.
";
