//! ConfigMap.

use crate::kind::*;

pub static CONFIG_MAP: Kind = Kind {
    version: "v1",
    name: "ConfigMap",
    plural: "configmaps",
    short: &["cm"],
    generation: false,
    ..Kind::BASE
};
