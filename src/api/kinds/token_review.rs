//! TokenReview: asks whom a token belongs to.

use crate::kind::*;

pub static TOKEN_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    name: "TokenReview",
    plural: "tokenreviews",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks whom a token belongs to.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authentication.v1
TokenReview kind
   1 metadata ObjectMeta
   2 spec*    TokenReviewSpec
   3 status   TokenReviewStatus
TokenReviewSpec
   1 token     str
   2 audiences []str
TokenReviewStatus
   1 authenticated bool
   2 user          UserInfo
   3 error         str
   4 audiences     []str
";
