//! Pod templates: what a pod is to be.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
TypedObjectReference
   1 apiGroup! str?
   2 kind*     str
   3 name*     str
   4 namespace str?
VolumeResourceRequirements
   1 limits   {}quantity
   2 requests {}quantity
NodeSelector atomic
   1 nodeSelectorTerms* []NodeSelectorTerm
NodeSelectorTerm atomic
   1 matchExpressions []NodeSelectorRequirement
   2 matchFields      []NodeSelectorRequirement
NodeSelectorRequirement
   1 key*      str
   2 operator* str   in In|NotIn|Exists|DoesNotExist|Gt|Lt
   3 values    []str
Affinity
   1 nodeAffinity    NodeAffinity?
   2 podAffinity     PodAffinity?
   3 podAntiAffinity PodAntiAffinity?
PodAffinity
   1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm
   2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm
PodAntiAffinity
   1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm
   2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm
WeightedPodAffinityTerm
   1 weight*          i32
   2 podAffinityTerm* PodAffinityTerm
PodAffinityTerm
   1 labelSelector     LabelSelector?
   2 namespaces        []str
   3 topologyKey*      str
   4 namespaceSelector LabelSelector?
   5 matchLabelKeys    []str
   6 mismatchLabelKeys []str
NodeAffinity
   1 requiredDuringSchedulingIgnoredDuringExecution NodeSelector?
   2 preferredDuringSchedulingIgnoredDuringExecution []PreferredSchedulingTerm
PreferredSchedulingTerm
   1 weight*     i32
   2 preference* NodeSelectorTerm
Toleration
   1 key               str
   2 operator          str  in Exists|Equal
   3 value             str
   4 effect            str  in NoSchedule|PreferNoSchedule|NoExecute
   5 tolerationSeconds i64?
PodReadinessGate
   1 conditionType* str
PodSpec
   1 volumes                      []Volume                   map(name) merge+retain(name)
   2 containers*                  []Container                map(name) merge(name)
   3 restartPolicy                str                        in Always|OnFailure|Never = Always
   4 terminationGracePeriodSeconds i64?                       = 30
   5 activeDeadlineSeconds        i64?
   6 dnsPolicy                    str                        in ClusterFirstWithHostNet|ClusterFirst|Default|None = ClusterFirst
   7 nodeSelector                 {}str                      atomic
   8 serviceAccountName           str
   9 serviceAccount               str
  10 nodeName                     str
  11 hostNetwork                  bool
  12 hostPID                      bool
  13 hostIPC                      bool
  14 securityContext              PodSecurityContext?        = {}
  15 imagePullSecrets             []LocalObjectReference     map(name) merge(name)
  16 hostname                     str
  17 subdomain                    str
  18 affinity                     Affinity?
  19 schedulerName                str                        = default-scheduler
  20 initContainers               []Container                map(name) merge(name)
  21 automountServiceAccountToken bool?
  22 tolerations                  []Toleration
  23 hostAliases                  []HostAlias                map(ip) merge(ip)
  24 priorityClassName            str
  25 priority                     i32?
  26 dnsConfig                    PodDNSConfig?
  27 shareProcessNamespace        bool?
  28 readinessGates               []PodReadinessGate
  29 runtimeClassName             str?
  30 enableServiceLinks           bool?
  31 preemptionPolicy             str?                       in PreemptLowerPriority|Never
  32 overhead                     {}quantity
  33 topologySpreadConstraints    []TopologySpreadConstraint map(topologyKey,whenUnsatisfiable) merge(topologyKey)
  34 ephemeralContainers          []EphemeralContainer       map(name) merge(name)
  35 setHostnameAsFQDN            bool?
  36 os                           PodOS?
  37 hostUsers                    bool?
  38 schedulingGates              []PodSchedulingGate        map(name) merge(name)
  39 resourceClaims               []PodResourceClaim         map(name) merge+retain(name)
  40 resources                    ResourceRequirements?
PodResourceClaim
   1 name*                     str
   3 resourceClaimName         str?
   4 resourceClaimTemplateName str?
PodOS
   1 name* str in linux|windows
PodSchedulingGate
   1 name* str
TopologySpreadConstraint
   1 maxSkew*           i32
   2 topologyKey*       str
   3 whenUnsatisfiable* str            in DoNotSchedule|ScheduleAnyway
   4 labelSelector      LabelSelector?
   5 minDomains         i32?
   6 nodeAffinityPolicy str?           in Ignore|Honor
   7 nodeTaintsPolicy   str?           in Ignore|Honor
   8 matchLabelKeys     []str
HostAlias
   1 ip*       str
   2 hostnames []str
PodSecurityContext
   1 seLinuxOptions           SELinuxOptions?
   2 runAsUser                i64?
   3 runAsNonRoot             bool?
   4 supplementalGroups       []i64
   5 fsGroup                  i64?
   6 runAsGroup               i64?
   7 sysctls                  []Sysctl
   8 windowsOptions           WindowsSecurityContextOptions?
   9 fsGroupChangePolicy      str?                         in OnRootMismatch|Always
  10 seccompProfile           SeccompProfile?
  11 appArmorProfile          AppArmorProfile?
  12 supplementalGroupsPolicy str?                         in Merge|Strict
  13 seLinuxChangePolicy      str?
PodDNSConfig
   1 nameservers []str
   2 searches    []str
   3 options     []PodDNSConfigOption
PodDNSConfigOption
   1 name  str
   2 value str?
PodTemplateSpec
   1 metadata ObjectMeta
   2 spec     PodSpec
TypedLocalObjectReference atomic
   1 apiGroup! str?
   2 kind*     str
   3 name*     str
Sysctl
   1 name*  str
   2 value~ str
";
