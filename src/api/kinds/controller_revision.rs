//! ControllerRevision.

use crate::kind::*;

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "ControllerRevision",
    plural: "controllerrevisions",
    generation: false,
    ..Kind::BASE
};
