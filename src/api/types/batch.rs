//! Types that jobs are made of.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.batch.v1
PodFailurePolicyOnExitCodesRequirement
   1 containerName str?
   2 operator~     str   in In|NotIn
   3 values~       []i32 set
PodFailurePolicyOnPodConditionsPattern
   1 type~   str
   2 status~ str of False|True|Unknown = True
PodFailurePolicyRule
   1 action~         str                          in Count|FailIndex|FailJob|Ignore
   2 onExitCodes     PodFailurePolicyOnExitCodesRequirement?
   3 onPodConditions []PodFailurePolicyOnPodConditionsPattern
PodFailurePolicy
   1 rules~ []PodFailurePolicyRule
SuccessPolicy
   1 rules~ []SuccessPolicyRule
SuccessPolicyRule
   1 succeededIndexes str?
   2 succeededCount   i32?
";
