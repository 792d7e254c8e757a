//! TokenRequest.

use crate::kind::*;

pub static TOKEN_REQUEST: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    name: "TokenRequest",
    plural: "tokenrequests",
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
