//! SelfSubjectReview.

use crate::kind::*;

pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    version: "v1",
    name: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    scope: Scope::Cluster,
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
