//! PodDisruptionBudget.

use crate::kind::*;

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    version: "v1",
    name: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short: &["pdb"],
    subresources: &[Sub::Status],
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.policy.v1
PodDisruptionBudgetSpec
   1 minAvailable               intorstr?
   2 selector                   LabelSelector? replace
   3 maxUnavailable             intorstr?
   4 unhealthyPodEvictionPolicy str?           in IfHealthyBudget|AlwaysAllow
PodDisruptionBudgetStatus
   1 observedGeneration  i64
   2 disruptedPods       {}time
   3 disruptionsAllowed~ i32
   4 currentHealthy~     i32
   5 desiredHealthy~     i32
   6 expectedPods~       i32
   7 conditions          []Condition map(type) merge(type)
PodDisruptionBudget kind
   1 metadata ObjectMeta
   2 spec     PodDisruptionBudgetSpec
   3 status   PodDisruptionBudgetStatus
";
