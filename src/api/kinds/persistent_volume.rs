//! PersistentVolume.

use crate::kind::*;

pub static PERSISTENT_VOLUME: Kind = Kind {
    version: "v1",
    name: "PersistentVolume",
    plural: "persistentvolumes",
    short: &["pv"],
    scope: Scope::Cluster,
    generation: false,
    subresources: &[Sub::Status],
    ..Kind::BASE
};
