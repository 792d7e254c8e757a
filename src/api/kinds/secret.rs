//! Secret.

use crate::kind::*;

pub static SECRET: Kind = Kind {
    version: "v1",
    name: "Secret",
    plural: "secrets",
    generation: false,
    fields: &["type"],
    ..Kind::BASE
};
