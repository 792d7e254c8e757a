//! SelfSubjectAccessReview.

use crate::kind::*;

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    name: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    scope: Scope::Cluster,
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
