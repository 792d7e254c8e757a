//! SubjectAccessReview: asks whether somebody may do something.

use crate::kind::*;

pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    name: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks whether somebody may do something.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authorization.v1
SubjectAccessReview kind
   1 metadata ObjectMeta
   2 spec*    SubjectAccessReviewSpec
   3 status   SubjectAccessReviewStatus
SubjectAccessReviewSpec
   1 resourceAttributes    ResourceAttributes?
   2 nonResourceAttributes NonResourceAttributes?
   3 user                  str
   4 groups                []str
   5 extra                 {}strs
   6 uid                   str
SubjectAccessReviewStatus
   1 allowed~        bool
   2 reason          str
   3 evaluationError str
   4 denied          bool
";
