//! LocalSubjectAccessReview: asks whether somebody may do something in one namespace.

use crate::kind::*;

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    name: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks whether somebody may do something in one namespace.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authorization.v1
LocalSubjectAccessReview kind
   1 metadata ObjectMeta
   2 spec*    SubjectAccessReviewSpec
   3 status   SubjectAccessReviewStatus
";
