//! SelfSubjectReview: asks who one is.

use crate::kind::*;

pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    name: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks who one is.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authentication.v1
SelfSubjectReview kind
   1 metadata ObjectMeta
   2 status   SelfSubjectReviewStatus
SelfSubjectReviewStatus
   1 userInfo UserInfo
";
