//! SelfSubjectRulesReview: asks what oneself may do in one namespace.

use crate::kind::*;

pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    name: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        durability: Durability::Virtual,
        generation: false,
        schema: SCHEMA,
        doc: "Asks what oneself may do in one namespace.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.authorization.v1
SelfSubjectRulesReview kind
   1 metadata ObjectMeta
   2 spec*    SelfSubjectRulesReviewSpec
   3 status   SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec
   1 namespace str
SubjectRulesReviewStatus
   1 resourceRules~    []ResourceRule
   2 nonResourceRules~ []NonResourceRule
   3 incomplete~       bool
   4 evaluationError   str
ResourceRule
   1 verbs*        []str
   2 apiGroups     []str
   3 resources     []str
   4 resourceNames []str
NonResourceRule
   1 verbs*          []str
   2 nonResourceURLs []str
";
