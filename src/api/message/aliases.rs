//! Texts to which Go gives types of their own, whose names stand in complaints about values that are no texts.

/// A type, and the fields that are of it: by name alone where all fields of the name are.
const ALIASES: &str = "\
AddressType addressType
AppArmorProfileType AppArmorProfile.type
AzureDataDiskCachingMode cachingMode
AzureDataDiskKind AzureDiskVolumeSource.kind
Capability add drop
CompletionMode completionMode
ConcurrencyPolicy concurrencyPolicy
ConditionStatus PodFailurePolicyOnPodConditionsPattern.status
ContainerRestartPolicy Container.restartPolicy EphemeralContainerCommon.restartPolicy
ConversionStrategyType CustomResourceConversion.strategy
CoordinatedLeaseStrategy LeaseSpec.strategy
DNSPolicy dnsPolicy
DaemonSetUpdateStrategyType DaemonSetUpdateStrategy.type
DeploymentStrategyType DeploymentStrategy.type
FSGroupPolicy fsGroupPolicy
FailurePolicyType failurePolicy
FieldSelectorOperator FieldSelectorRequirement.operator
FieldValueErrorReason ValidationRule.reason
FinalizerName NamespaceSpec.finalizers
FlowDistinguisherMethodType FlowDistinguisherMethod.type
v2.HPAScalingPolicyType HPAScalingPolicy.type
HostPathType HostPathVolumeSource.type
IPFamily ipFamilies
IPFamilyPolicy ipFamilyPolicy
KeyUsage usages
LabelSelectorOperator LabelSelectorRequirement.operator
LimitResponseType LimitResponse.type
LimitType LimitRangeItem.type
LoadBalancerIPMode ipMode
ManagedFieldsOperationType operation
MatchPolicyType matchPolicy
v2.MetricSourceType MetricSpec.type
v2.MetricTargetType MetricTarget.type
MountPropagationMode mountPropagation
NodeInclusionPolicy nodeAffinityPolicy nodeTaintsPolicy
NodeSelectorOperator NodeSelectorRequirement.operator
OSName PodOS.name
OperationType operations
ParameterNotFoundActionType parameterNotFoundAction
PathType pathType
PersistentVolumeAccessMode accessModes
PersistentVolumeClaimRetentionPolicyType whenDeleted whenScaled
PersistentVolumeMode volumeMode
PersistentVolumeReclaimPolicy persistentVolumeReclaimPolicy reclaimPolicy
PodConditionType conditionType PodFailurePolicyOnPodConditionsPattern.type
PodFSGroupChangePolicy fsGroupChangePolicy
PodFailurePolicyAction PodFailurePolicyRule.action
PodFailurePolicyOnExitCodesOperator PodFailurePolicyOnExitCodesRequirement.operator
PodManagementPolicyType podManagementPolicy
PodReplacementPolicy podReplacementPolicy
PodSELinuxChangePolicy seLinuxChangePolicy
PolicyType policyTypes
PreemptionPolicy preemptionPolicy
PriorityLevelEnablement PriorityLevelConfigurationSpec.type
ProcMountType procMount
Protocol protocol
PullPolicy imagePullPolicy pullPolicy
RecursiveReadOnlyMode recursiveReadOnly
ReinvocationPolicyType reinvocationPolicy
ResourceName ContainerResourceMetricSource.name ResourceMetricSource.name resourceName
ResourceQuotaScope scopeName scopes
ResourceResizeRestartPolicy ContainerResizePolicy.restartPolicy
ResourceScope CustomResourceDefinitionSpec.scope
RestartPolicy PodSpec.restartPolicy
v2.ScalingPolicySelect selectPolicy
ScopeSelectorOperator ScopedResourceSelectorRequirement.operator
ScopeType Rule.scope
SeccompProfileType SeccompProfile.type
SecretType Secret.type
ServiceAffinity sessionAffinity
ServiceExternalTrafficPolicy externalTrafficPolicy
ServiceInternalTrafficPolicy internalTrafficPolicy
ServiceType ServiceSpec.type
SideEffectClass sideEffects
StatefulSetUpdateStrategyType StatefulSetUpdateStrategy.type
StatusReason Validation.reason
StorageMedium medium
SupplementalGroupsPolicy supplementalGroupsPolicy
TaintEffect effect
TerminationMessagePolicy terminationMessagePolicy
TolerationOperator Toleration.operator
types.UID ObjectMeta.uid ObjectReference.uid OwnerReference.uid
URIScheme scheme
UnhealthyPodEvictionPolicyType unhealthyPodEvictionPolicy
UnsatisfiableConstraintAction whenUnsatisfiable
ValidationAction validationActions
VolumeBindingMode volumeBindingMode
VolumeLifecycleMode volumeLifecycleModes
";

/// The package of types that are written without theirs.
const PACKAGE: &str = "v1.";

/// The type of a field that holds a text, if it has a name of its own, as Go writes it.
pub fn of(holder: &str, field: &str) -> Option<String> {
    let is = |place: &str| match place.split_once('.') {
        Some(place) => place == (holder, field),
        None => place == field,
    };
    let line = ALIASES.lines().find(|line| line.split(' ').skip(1).any(is))?;
    let name = line.split(' ').next().unwrap_or("");
    let package = if name.contains('.') { "" } else { PACKAGE };
    Some(format!("{package}{name}"))
}

/// Whether this names such a type.
pub(crate) fn is_one(name: &str) -> bool {
    let bare = name.strip_prefix(PACKAGE).unwrap_or(name);
    ALIASES.lines().any(|line| line.split(' ').next() == Some(bare))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Scalar, schema};

    #[test]
    fn every_place_is_a_text() {
        let texts: Vec<(&str, &str)> = schema()
            .types()
            .flat_map(|id| schema().fields(id).iter().map(move |field| (id, field)))
            .filter(|(_, field)| field.scalar == Scalar::Str)
            .map(|(id, field)| (schema().of(id).name, field.name))
            .collect();
        for place in ALIASES.lines().flat_map(|line| line.split(' ').skip(1)) {
            let found = match place.split_once('.') {
                Some(place) => texts.contains(&place),
                None => texts.iter().any(|(_, field)| *field == place),
            };
            assert!(found, "{place}");
        }
        assert_eq!(of("Container", "imagePullPolicy").as_deref(), Some("v1.PullPolicy"));
        assert_eq!(of("Container", "restartPolicy").as_deref(), Some("v1.ContainerRestartPolicy"));
        assert_eq!(of("ObjectMeta", "uid").as_deref(), Some("types.UID"));
        assert_eq!(of("Container", "image"), None);
        assert!(
            is_one("v1.PullPolicy")
                && is_one("types.UID")
                && !is_one("v1.PodSpec")
                && !is_one("string")
        );
    }
}
