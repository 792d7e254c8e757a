//! ControllerRevision: a past state of an object, for going back to it.

use crate::kind::*;

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    name: "ControllerRevision",
    plural: "controllerrevisions",
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        doc: "A past state of an object, for going back to it.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
ControllerRevision kind
   1 metadata  ObjectMeta
   2 data      raw?
   3 revision* i64
";
