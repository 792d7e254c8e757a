//! TokenReview.

use crate::kind::*;

pub static TOKEN_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    name: "TokenReview",
    plural: "tokenreviews",
    scope: Scope::Cluster,
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
