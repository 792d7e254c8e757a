//! PersistentVolumeClaim.

use crate::kind::*;

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    version: "v1",
    name: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    short: &["pvc"],
    generation: false,
    subresources: &[Sub::Status],
    ..Kind::BASE
};
