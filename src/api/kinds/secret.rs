//! Secret.

use crate::kind::*;

pub static SECRET: Kind = Kind {
    version: "v1",
    name: "Secret",
    plural: "secrets",
    generation: false,
    fields: &["type"],
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Secret kind
   1 metadata   ObjectMeta
   2 data       {}bytes
   3 type       str        = Opaque immutable
   4 stringData {}str
   5 immutable  bool?
";
