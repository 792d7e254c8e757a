//! LocalSubjectAccessReview.

use crate::kind::*;

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    name: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
