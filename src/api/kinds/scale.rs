//! Scale.

use crate::kind::*;

pub static SCALE: Kind = Kind {
    group: "autoscaling",
    version: "v1",
    name: "Scale",
    plural: "scales",
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
