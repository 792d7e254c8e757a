//! ControllerRevision.

use crate::kind::*;

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "ControllerRevision",
    plural: "controllerrevisions",
    generation: false,
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
ControllerRevision kind
   1 metadata  ObjectMeta
   2 data      raw
   3 revision* i64
";
