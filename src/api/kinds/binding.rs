//! Binding.

use crate::kind::*;

pub static BINDING: Kind = Kind {
    version: "v1",
    name: "Binding",
    plural: "bindings",
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
