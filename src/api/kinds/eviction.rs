//! Eviction.

use crate::kind::*;

pub static EVICTION: Kind = Kind {
    group: "policy",
    version: "v1",
    name: "Eviction",
    plural: "evictions",
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
