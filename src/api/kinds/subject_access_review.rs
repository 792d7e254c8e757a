//! SubjectAccessReview.

use crate::kind::*;

pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    name: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    scope: Scope::Cluster,
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
