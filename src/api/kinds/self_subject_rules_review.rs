//! SelfSubjectRulesReview.

use crate::kind::*;

pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    version: "v1",
    name: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    scope: Scope::Cluster,
    durability: Durability::Virtual,
    generation: false,
    ..Kind::BASE
};
