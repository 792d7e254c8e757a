//! The kinds that have a description of their own: one template each (`page.rs` says how to read them).

use crate::Sort;

/// A kind, the version in which it is described, and how.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) version: &'static str,
    pub(crate) template: &'static str,
}

/// `None` for kinds that the generic description is for.
pub(crate) fn find(sort: Sort<'_>) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == sort.kind && kind.group == sort.group)
}

const fn kind(
    group: &'static str,
    kind: &'static str,
    version: &'static str,
    template: &'static str,
) -> Kind {
    Kind { group, kind, version, template }
}

const KINDS: &[Kind] = &[
    kind("", "Pod", "v1", POD),
    kind("", "ReplicationController", "v1", REPLICATION_CONTROLLER),
    kind("", "Secret", "v1", SECRET),
    kind("", "Service", "v1", SERVICE),
    kind("", "ServiceAccount", "v1", SERVICE_ACCOUNT),
    kind("", "Node", "v1", NODE),
    kind("", "LimitRange", "v1", LIMIT_RANGE),
    kind("", "ResourceQuota", "v1", RESOURCE_QUOTA),
    kind("", "PersistentVolume", "v1", PERSISTENT_VOLUME),
    kind("", "PersistentVolumeClaim", "v1", PERSISTENT_VOLUME_CLAIM),
    kind("", "Namespace", "v1", NAMESPACE),
    kind("", "Endpoints", "v1", ENDPOINTS),
    kind("", "ConfigMap", "v1", CONFIG_MAP),
    kind("discovery.k8s.io", "EndpointSlice", "v1", ENDPOINT_SLICE),
    kind("autoscaling", "HorizontalPodAutoscaler", "v2", AUTOSCALER),
    kind("networking.k8s.io", "Ingress", "v1", INGRESS),
    kind("networking.k8s.io", "IngressClass", "v1", INGRESS_CLASS),
    kind("networking.k8s.io", "ServiceCIDR", "v1beta1", SERVICE_CIDR),
    kind("networking.k8s.io", "IPAddress", "v1beta1", IP_ADDRESS),
    kind("networking.k8s.io", "NetworkPolicy", "v1", NETWORK_POLICY),
    kind("batch", "Job", "v1", JOB),
    kind("batch", "CronJob", "v1", CRON_JOB),
    kind("apps", "StatefulSet", "v1", STATEFUL_SET),
    kind("apps", "Deployment", "v1", DEPLOYMENT),
    kind("apps", "DaemonSet", "v1", DAEMON_SET),
    kind("apps", "ReplicaSet", "v1", REPLICA_SET),
    kind("certificates.k8s.io", "CertificateSigningRequest", "v1", "%events"),
    kind("storage.k8s.io", "StorageClass", "v1", STORAGE_CLASS),
    kind("storage.k8s.io", "CSINode", "v1", CSI_NODE),
    kind("storage.k8s.io", "VolumeAttributesClass", "v1beta1", VOLUME_ATTRIBUTES_CLASS),
    kind("policy", "PodDisruptionBudget", "v1", POD_DISRUPTION_BUDGET),
    kind("rbac.authorization.k8s.io", "Role", "v1", ROLE),
    kind("rbac.authorization.k8s.io", "ClusterRole", "v1", ROLE),
    kind("rbac.authorization.k8s.io", "RoleBinding", "v1", ROLE_BINDING),
    kind("rbac.authorization.k8s.io", "ClusterRoleBinding", "v1", ROLE_BINDING),
    kind("scheduling.k8s.io", "PriorityClass", "v1", PRIORITY_CLASS),
];

const POD: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
?spec.priority|Priority:~{spec.priority}
+spec.priorityClassName|Priority Class Name:~{spec.priorityClassName}
+spec.runtimeClassName|Runtime Class Name:~{spec.runtimeClassName}
+spec.serviceAccountName|Service Account:~{spec.serviceAccountName}
!spec.nodeName|Node:~<none>
+spec.nodeName|Node:~{spec.nodeName}/{status.hostIP}
?status.startTime|Start Time:~{status.startTime@time}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
%status pod
+status.reason|Reason:~{status.reason}
+status.message|Message:~{status.message}
?spec.securityContext.seccompProfile|SeccompProfile:~{spec.securityContext.seccompProfile.type}
?spec.securityContext.seccompProfile.localhostProfile|LocalhostProfile:~{spec.securityContext.seccompProfile.localhostProfile}
IP:~{status.podIP}
!status.podIPs|IPs:~<none>
+status.podIPs|IPs:
*status.podIPs|  IP:~{ip}
%controller
+status.nominatedNodeName|NominatedNodeName:~{status.nominatedNodeName}
?spec.resources|Resources:
%resources   |spec.resources
%podcontainers
%gates
+status.conditions|Conditions:
+status.conditions|  Type~Status
*status.conditions|  {type} ~{status} {nothing}
%volumes |spec.volumes
%qos
%labels Node-Selectors|spec.nodeSelector
%tolerations Tolerations|spec.tolerations
%spread |spec.topologySpreadConstraints
%events";

const REPLICATION_CONTROLLER: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
Selector:~{spec.selector@labels}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Replicas:~{status.replicas=0} current / {spec.replicas=0} desired
%phases
%template |spec.template
%conditions
%events";

const REPLICA_SET: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
Selector:~{spec.selector@selector}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
%controller
Replicas:~{status.replicas=0} current / {spec.replicas=0} desired
%phases
%template |spec.template
%conditions
%events";

const DEPLOYMENT: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
CreationTimestamp:~{metadata.creationTimestamp@time}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Selector:~{spec.selector@text}
Replicas:~{spec.replicas=0} desired | {status.updatedReplicas=0} updated | {status.replicas=0} total | {status.availableReplicas=0} available | {status.unavailableReplicas=0} unavailable
StrategyType:~{spec.strategy.type}
MinReadySeconds:~{spec.minReadySeconds=0}
?spec.strategy.rollingUpdate|RollingUpdateStrategy:~{spec.strategy.rollingUpdate.maxUnavailable=<nil>} max unavailable, {spec.strategy.rollingUpdate.maxSurge=<nil>} max surge
%template |spec.template
%conditions
%replicasets
%events";

const STATEFUL_SET: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
CreationTimestamp:~{metadata.creationTimestamp@time}
Selector:~{spec.selector@text}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Replicas:~{spec.replicas=0} desired | {status.replicas=0} total
Update Strategy:~{spec.updateStrategy.type}
?spec.updateStrategy.rollingUpdate.partition|  Partition:~{spec.updateStrategy.rollingUpdate.partition}
?spec.updateStrategy.rollingUpdate.partition|?spec.updateStrategy.rollingUpdate.maxUnavailable|  MaxUnavailable:~{spec.updateStrategy.rollingUpdate.maxUnavailable}
%phases
%template |spec.template
%claims |spec.volumeClaimTemplates
%events";

const DAEMON_SET: &str = "\
Name:~{metadata.name}
Selector:~{spec.selector@text}
Node-Selector:~{spec.template.spec.nodeSelector@labels}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Desired Number of Nodes Scheduled: {status.desiredNumberScheduled=0}
Current Number of Nodes Scheduled: {status.currentNumberScheduled=0}
Number of Nodes Scheduled with Up-to-date Pods: {status.updatedNumberScheduled=0}
Number of Nodes Scheduled with Available Pods: {status.numberAvailable=0}
Number of Nodes Misscheduled: {status.numberMisscheduled=0}
%phases
%template |spec.template
%events";

const JOB: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
Selector:~{spec.selector@text}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
%controller
?spec.parallelism|Parallelism:~{spec.parallelism}
Completions:~{spec.completions=<unset>}
?spec.completionMode|Completion Mode:~{spec.completionMode}
?spec.suspend|Suspend:~{spec.suspend}
?spec.backoffLimit|Backoff Limit:~{spec.backoffLimit}
?spec.ttlSecondsAfterFinished|TTL Seconds After Finished:~{spec.ttlSecondsAfterFinished}
?status.startTime|Start Time:~{status.startTime@time}
?status.completionTime|Completed At:~{status.completionTime@time}
%duration
?spec.activeDeadlineSeconds|Active Deadline Seconds:~{spec.activeDeadlineSeconds}s
-status.ready|Pods Statuses:~{status.active=0} Active / {status.succeeded=0} Succeeded / {status.failed=0} Failed
?status.ready|Pods Statuses:~{status.active=0} Active ({status.ready} Ready) / {status.succeeded=0} Succeeded / {status.failed=0} Failed
%indexes
%template |spec.template
%events";

const CRON_JOB: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Schedule:~{spec.schedule}
Concurrency Policy:~{spec.concurrencyPolicy}
Suspend:~{spec.suspend@bool}
Successful Job History Limit:~{spec.successfulJobsHistoryLimit=<unset>}
Failed Job History Limit:~{spec.failedJobsHistoryLimit=<unset>}
?spec.startingDeadlineSeconds|Starting Deadline Seconds:~{spec.startingDeadlineSeconds}s
-spec.startingDeadlineSeconds|Starting Deadline Seconds:~<unset>
Selector:~{spec.jobTemplate.spec.selector@text=<unset>}
Parallelism:~{spec.jobTemplate.spec.parallelism=<unset>}
Completions:~{spec.jobTemplate.spec.completions=<unset>}
?spec.jobTemplate.spec.activeDeadlineSeconds|Active Deadline Seconds:~{spec.jobTemplate.spec.activeDeadlineSeconds}s
%template |spec.jobTemplate.spec.template
?status.lastScheduleTime|Last Schedule Time:~{status.lastScheduleTime@time}
-status.lastScheduleTime|Last Schedule Time:~<unset>
%active
%events";

const SECRET: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations

Type:~{type}

Data
====
%secret";

const CONFIG_MAP: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations

Data
====
%data

BinaryData
====
%binary

%events";

const SERVICE: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Selector:~{spec.selector@labels}
Type:~{spec.type}
?spec.ipFamilyPolicy|IP Family Policy:~{spec.ipFamilyPolicy}
IP Families:~{spec.ipFamilies@join=<none>}
IP:~{spec.clusterIP}
IPs:~{spec.clusterIPs@join=<none>}
+spec.externalIPs|External IPs:~{spec.externalIPs@join}
+spec.loadBalancerIP|Desired LoadBalancer IP:~{spec.loadBalancerIP}
+spec.externalName|External Name:~{spec.externalName}
%balancers
%ports
Session Affinity:~{spec.sessionAffinity}
+spec.externalTrafficPolicy|External Traffic Policy:~{spec.externalTrafficPolicy}
?spec.internalTrafficPolicy|Internal Traffic Policy:~{spec.internalTrafficPolicy}
+spec.healthCheckNodePort|HealthCheck NodePort:~{spec.healthCheckNodePort}
+spec.loadBalancerSourceRanges|LoadBalancer Source Ranges:~{spec.loadBalancerSourceRanges@join}
%events";

const SERVICE_ACCOUNT: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
%accountsecrets
%events";

const NODE: &str = "\
Name:~{metadata.name}
%roles
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
CreationTimestamp:~{metadata.creationTimestamp@time}
%taints
Unschedulable:~{spec.unschedulable=false}
%lease
+status.conditions|Conditions:
+status.conditions|  Type~Status~LastHeartbeatTime~LastTransitionTime~Reason~Message
+status.conditions|  ----~------~-----------------~------------------~------~-------
*status.conditions|  {type} ~{status} ~{lastHeartbeatTime@time} ~{lastTransitionTime@time} ~{reason} ~{message}
Addresses:
*status.addresses|  {type}:~{address}
+status.capacity|Capacity:
%amounts   |status.capacity
+status.allocatable|Allocatable:
%amounts   |status.allocatable
System Info:
  Machine ID:~{status.nodeInfo.machineID}
  System UUID:~{status.nodeInfo.systemUUID}
  Boot ID:~{status.nodeInfo.bootID}
  Kernel Version:~{status.nodeInfo.kernelVersion}
  OS Image:~{status.nodeInfo.osImage}
  Operating System:~{status.nodeInfo.operatingSystem}
  Architecture:~{status.nodeInfo.architecture}
  Container Runtime Version:~{status.nodeInfo.containerRuntimeVersion}
  Kubelet Version:~{status.nodeInfo.kubeletVersion}
  Kube-Proxy Version:~{status.nodeInfo.kubeProxyVersion}
+spec.podCIDR|PodCIDR:~{spec.podCIDR}
+spec.podCIDRs|PodCIDRs:~{spec.podCIDRs@join}
+spec.providerID|ProviderID:~{spec.providerID}
%nodepods
%events";

const LIMIT_RANGE: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
Type~Resource~Min~Max~Default Request~Default Limit~Max Limit/Request Ratio
----~--------~---~---~---------------~-------------~-----------------------
%limits";

const RESOURCE_QUOTA: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%quota";

const NAMESPACE: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Status:~{status.phase}
+status.conditions|Conditions:
+status.conditions|  Type~Status~LastTransitionTime~Reason~Message
+status.conditions|  ----~------~------------------~------~-------
*status.conditions|  {type}~{status}~{lastTransitionTime@time}~{reason}~{message}
%quotas";

const PERSISTENT_VOLUME: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Finalizers:~{metadata.finalizers@go}
%class
%status
?spec.claimRef|Claim:~{spec.claimRef.namespace}/{spec.claimRef.name}
-spec.claimRef|Claim:~
Reclaim Policy:~{spec.persistentVolumeReclaimPolicy}
%modes |spec.accessModes
?spec.volumeMode|VolumeMode:~{spec.volumeMode}
Capacity:~{spec.capacity.storage=0}
%affinity
Message:~{status.message}
Source:
%source
%events";

const PERSISTENT_VOLUME_CLAIM: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%claim full
%users
+status.conditions|Conditions:
+status.conditions|  Type~Status~LastProbeTime~LastTransitionTime~Reason~Message
+status.conditions|  ----~------~-----------------~------------------~------~-------
*status.conditions|  {type} ~{status} ~{lastProbeTime@time} ~{lastTransitionTime@time} ~{reason} ~{message}
%events";

const ENDPOINTS: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Subsets:
%subsets
%events";

const ENDPOINT_SLICE: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
AddressType:~{addressType}
!ports|Ports: <unset>
+ports|Ports:
+ports|  Name~Port~Protocol
+ports|  ----~----~--------
*ports|  {name@or=<unset>}~{port=<unset>}~{protocol}
!endpoints|Endpoints: <none>
+endpoints|Endpoints:
%sliceendpoints
%events";

const AUTOSCALER: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
CreationTimestamp:~{metadata.creationTimestamp@time}
Reference:~{spec.scaleTargetRef.kind}/{spec.scaleTargetRef.name}
Metrics:~( current / target )
%metrics
Min replicas:~{spec.minReplicas=<unset>}
Max replicas:~{spec.maxReplicas=0}
%behavior
{spec.scaleTargetRef.kind} pods:~{status.currentReplicas=0} current / {status.desiredReplicas=0} desired
+status.conditions|Conditions:
+status.conditions|  Type~Status~Reason~Message
+status.conditions|  ----~------~------~-------
*status.conditions|  {type}~{status}~{reason}~{message}
%events";

const INGRESS: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
Namespace:~{metadata.namespace}
%addresses
Ingress Class:~{spec.ingressClassName=<none>}
%rules
%annotations Annotations|metadata.annotations
%events";

const INGRESS_CLASS: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Controller:~{spec.controller}
?spec.parameters|Parameters:
?spec.parameters.apiGroup|  APIGroup:~{spec.parameters.apiGroup}
?spec.parameters|  Kind:~{spec.parameters.kind}
?spec.parameters|  Name:~{spec.parameters.name}
%events";

const SERVICE_CIDR: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
CIDRs:~{spec.cidrs@list}
+status.conditions|Status:
+status.conditions|Conditions:
+status.conditions|  Type~Status~LastTransitionTime~Reason~Message
+status.conditions|  ----~------~------------------~------~-------
*status.conditions|  {type}~{status}~{lastTransitionTime@time}~{reason}~{message}
%events";

const IP_ADDRESS: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
?spec.parentRef|Parent Reference:
?spec.parentRef|  Group:~{spec.parentRef.group}
?spec.parentRef|  Resource:~{spec.parentRef.resource}
?spec.parentRef|  Namespace:~{spec.parentRef.namespace}
?spec.parentRef|  Name:~{spec.parentRef.name}
%events";

const NETWORK_POLICY: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
Created on:~{metadata.creationTimestamp@gotime}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Spec:
%policy
  Policy Types: {spec.policyTypes@list=<none>}";

const STORAGE_CLASS: &str = "\
Name:~{metadata.name}
%default
Annotations:~{metadata.annotations@labels}
Provisioner:~{provisioner}
Parameters:~{parameters@labels}
AllowVolumeExpansion:~{allowVolumeExpansion@bool}
!mountOptions|MountOptions:~<none>
+mountOptions|MountOptions:
*mountOptions|  {}
?reclaimPolicy|ReclaimPolicy:~{reclaimPolicy}
?volumeBindingMode|VolumeBindingMode:~{volumeBindingMode}
%topologies
%events";

const CSI_NODE: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
CreationTimestamp:~{metadata.creationTimestamp@time}
Spec:
?spec.drivers|  Drivers:
%drivers
%events";

const VOLUME_ATTRIBUTES_CLASS: &str = "\
Name:~{metadata.name}
Annotations:~{metadata.annotations@labels}
DriverName:~{driverName}
Parameters:~{parameters@labels}
%events";

const POD_DISRUPTION_BUDGET: &str = "\
Name:~{metadata.name}
Namespace:~{metadata.namespace}
?spec.minAvailable|Min available:~{spec.minAvailable}
-spec.minAvailable|?spec.maxUnavailable|Max unavailable:~{spec.maxUnavailable}
?spec.selector|Selector:~{spec.selector@selector}
-spec.selector|Selector:~<unset>
Status:
    Allowed disruptions:~{status.disruptionsAllowed=0}
    Current:~{status.currentHealthy=0}
    Desired:~{status.desiredHealthy=0}
    Total:~{status.expectedPods=0}
%events";

const ROLE: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
PolicyRule:
  Resources~Non-Resource URLs~Resource Names~Verbs
  ---------~-----------------~--------------~-----
%policyrules";

const ROLE_BINDING: &str = "\
Name:~{metadata.name}
%labels Labels|metadata.labels
%annotations Annotations|metadata.annotations
Role:
  Kind:~{roleRef.kind}
  Name:~{roleRef.name}
Subjects:
  Kind~Name~Namespace
  ----~----~---------
*subjects|  {kind}~{name}~{namespace}";

const PRIORITY_CLASS: &str = "\
Name:~{metadata.name}
Value:~{value=0}
GlobalDefault:~{globalDefault=false}
PreemptionPolicy:~{preemptionPolicy}
Description:~{description}
Annotations:~{metadata.annotations@labels}
%events";
