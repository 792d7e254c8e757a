//! PodDisruptionBudget: how many pods of a group may be missing when pods are evicted.

use crate::kind::*;

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    name: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    declared: &Declared {
        version: "v1",
        short: &["pdb"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "How many pods of a group may be missing when pods are evicted.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.policy.v1
PodDisruptionBudgetSpec
   1 minAvailable               intorstr? -- How many pods must stay, as number or percentage.
   2 selector                   LabelSelector? replace -- Selects the pods.
   3 maxUnavailable             intorstr? -- How many pods may be missing, as number or percentage.
   4 unhealthyPodEvictionPolicy str?           in AlwaysAllow|IfHealthyBudget
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
