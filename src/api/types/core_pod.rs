//! Pod templates: what a pod is to be.

/// Schema text; see `schema` for its form.
pub(super) const SCHEMA: &str = "
package io.k8s.api.core.v1
TypedObjectReference
   1 apiGroup! str?
   2 kind~     str
   3 name~     str
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
   1 key~      str
   2 operator~ str enum DoesNotExist|Exists|Gt|In|Lt|NotIn
   3 values    []str
Affinity -- Rules on where a pod may or should run.
   1 nodeAffinity    NodeAffinity? -- By the nodes' labels.
   2 podAffinity     PodAffinity? -- Near other pods.
   3 podAntiAffinity PodAntiAffinity? -- Away from other pods.
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
Toleration -- A taint that a pod bears.
   1 key               str -- The taint's key; empty with Exists bears all.
   2 operator          str  in Equal|Exists
   3 value             str
   4 effect            str  in NoSchedule|PreferNoSchedule|NoExecute -- The taint's effect; empty for any.
   5 tolerationSeconds i64? -- How long a NoExecute taint is borne.
PodReadinessGate
   1 conditionType~ str
PodSpec -- What a pod is to be.
   1 volumes                      []Volume                   map(name) merge+retain(name) -- Volumes that containers can mount.
   2 containers*                  []Container                map(name) merge(name) -- The containers, which start together.
   3 restartPolicy                str                        in Always|OnFailure|Never = Always -- When ended containers are started again.
   4 terminationGracePeriodSeconds i64?                       = 30 -- How long containers may take to end after they were asked to, before they are killed.
   5 activeDeadlineSeconds        i64? -- How long the pod may be active before it is failed.
   6 dnsPolicy                    str                        in ClusterFirstWithHostNet|ClusterFirst|Default|None = ClusterFirst -- How names are resolved in the containers.
   7 nodeSelector                 {}str                      atomic -- Labels that a node must have for the pod to run there.
   8 serviceAccountName           str -- The service account that the pod acts as.
   9 serviceAccount               str -- The former name of serviceAccountName.
  10 nodeName                     str -- The node that runs the pod; set by the scheduler.
  11 hostNetwork                  bool -- Use the node's network instead of an own one.
  12 hostPID                      bool -- See the node's processes.
  13 hostIPC                      bool -- Share the node's IPC.
  14 securityContext              PodSecurityContext?        = {} -- Users, groups and privileges for all containers.
  15 imagePullSecrets             []LocalObjectReference     map(name) merge(name) -- Secrets with credentials for image registries.
  16 hostname                     str -- The pod's host name, if other than its name.
  17 subdomain                    str -- With it the pod is found as hostname.subdomain.namespace.svc.
  18 affinity                     Affinity? -- Rules on where the pod may or should run.
  19 schedulerName                str                        = default-scheduler -- The scheduler that chooses the node.
  20 initContainers               []Container                map(name) merge(name) -- Containers that run one after the other, each to its end, before the others start; with restartPolicy Always they keep running beside them.
  21 automountServiceAccountToken bool? -- Whether containers get a token of the service account.
  22 tolerations                  []Toleration -- Taints of nodes that the pod bears.
  23 hostAliases                  []HostAlias                map(ip) merge(ip) -- Lines added to the containers' hosts file.
  24 priorityClassName            str -- The class that gives the pod its priority.
  25 priority                     i32? -- The priority; higher ones may push lower ones off a node.
  26 dnsConfig                    PodDNSConfig? -- Name servers, search domains and options beside those of the DNS policy.
  27 shareProcessNamespace        bool? -- All containers see each other's processes.
  28 readinessGates               []PodReadinessGate -- Conditions that must be true, beside the containers', for the pod to be ready.
  29 runtimeClassName             str? -- The runtime that runs the pod.
  30 enableServiceLinks           bool? -- Whether services appear as environment variables.
  31 preemptionPolicy             str?                       in PreemptLowerPriority|Never -- Whether the pod may push others off a node.
  32 overhead                     {}quantity -- Resources that the pod takes beside its containers.
  33 topologySpreadConstraints    []TopologySpreadConstraint map(topologyKey,whenUnsatisfiable) merge(topologyKey) -- How pods are spread over nodes or zones.
  34 ephemeralContainers          []EphemeralContainer       map(name) merge(name) -- Containers added to a running pod to look into it.
  35 setHostnameAsFQDN            bool? -- Use the full name as the host name.
  36 os                           PodOS? -- The operating system that the containers are made for.
  37 hostUsers                    bool? -- Use the node's user ids; false gives the pod its own.
  38 schedulingGates              []PodSchedulingGate        map(name) merge(name) -- The pod is not scheduled while any gate is here.
  39 resourceClaims               []PodResourceClaim         map(name) merge+retain(name)
  40 resources                    ResourceRequirements?
PodResourceClaim
   1 name*                     str
   3 resourceClaimName         str?
   4 resourceClaimTemplateName str?
PodOS
   1 name~ str
PodSchedulingGate
   1 name~ str
TopologySpreadConstraint
   1 maxSkew*           i32
   2 topologyKey*       str
   3 whenUnsatisfiable* str            in DoNotSchedule|ScheduleAnyway
   4 labelSelector      LabelSelector?
   5 minDomains         i32?
   6 nodeAffinityPolicy str?           in Honor|Ignore
   7 nodeTaintsPolicy   str?           in Honor|Ignore
   8 matchLabelKeys     []str
HostAlias
   1 ip~       str
   2 hostnames []str
PodSecurityContext -- Users and privileges of all containers of a pod.
   1 seLinuxOptions           SELinuxOptions?
   2 runAsUser                i64? -- The user to run as.
   3 runAsNonRoot             bool? -- Refuse to run as root.
   4 supplementalGroups       []i64 -- Groups of the processes beside their first.
   5 fsGroup                  i64? -- The group that owns volumes.
   6 runAsGroup               i64? -- The group to run as.
   7 sysctls                  []Sysctl -- Kernel settings of the pod.
   8 windowsOptions           WindowsSecurityContextOptions?
   9 fsGroupChangePolicy      str?                         in Always|OnRootMismatch
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
PodTemplateSpec -- What pods made from it look like.
   1 metadata ObjectMeta
   2 spec     PodSpec -- What the pods are to be.
TypedLocalObjectReference atomic
   1 apiGroup! str?
   2 kind~     str
   3 name~     str
Sysctl
   1 name*  str
   2 value~ str
";
