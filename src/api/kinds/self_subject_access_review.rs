//! SelfSubjectAccessReview: asks whether oneself may do something.

use crate::kind::*;

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    name: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks whether oneself may do something.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authorization.v1
SelfSubjectAccessReview kind
   1 metadata ObjectMeta
   2 spec*    SelfSubjectAccessReviewSpec
   3 status   SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec
   1 resourceAttributes    ResourceAttributes?
   2 nonResourceAttributes NonResourceAttributes?
";
