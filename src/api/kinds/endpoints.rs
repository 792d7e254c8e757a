//! Endpoints.

use crate::kind::*;

pub static ENDPOINTS: Kind = Kind {
    version: "v1",
    name: "Endpoints",
    plural: "endpoints",
    short: &["ep"],
    storage: "services/endpoints",
    generation: false,
    ..Kind::BASE
};
