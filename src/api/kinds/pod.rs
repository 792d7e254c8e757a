//! Pod: a group of containers that run together on one node and share its network and volumes.

use crate::kind::*;

pub static POD: Kind = Kind {
    name: "Pod",
    plural: "pods",
    declared: &Declared {
        version: "v1",
        short: &["po"],
        categories: &["all"],
        graceful: true,
        generation: false,
        subresources: &[
            Sub::Status,
            Sub::Named("binding"),
            Sub::Named("eviction"),
            Sub::Named("log"),
            Sub::Named("exec"),
            Sub::Named("attach"),
            Sub::Named("portforward"),
            Sub::Named("proxy"),
            Sub::Named("ephemeralcontainers"),
            Sub::Named("resize"),
        ],
        fields: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        schema: SCHEMA,
        doc: "A group of containers that run together on one node and share its network and volumes.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ContainerStateWaiting
   1 reason  str
   2 message str
ContainerStateRunning
   1 startedAt time
ContainerStateTerminated
   1 exitCode~   i32
   2 signal      i32
   3 reason      str
   4 message     str
   5 startedAt   time
   6 finishedAt  time
   7 containerID str
ContainerState
   1 waiting    ContainerStateWaiting?
   2 running    ContainerStateRunning?
   3 terminated ContainerStateTerminated?
ContainerStatus
   1 name~                    str
   2 state                    ContainerState
   3 lastState                ContainerState
   4 ready~                   bool
   5 restartCount~            i32
   6 image~                   str
   7 imageID~                 str
   8 containerID              str
   9 started                  bool?
  10 allocatedResources       {}quantity
  11 resources                ResourceRequirements?
  12 volumeMounts             []VolumeMountStatus   map(mountPath) merge(mountPath)
  13 user                     ContainerUser?
  14 allocatedResourcesStatus []ResourceStatus      map(name) merge(name)
ResourceStatus
   1 name~     str
   2 resources []ResourceHealth map(resourceID)
ResourceHealth
   1 resourceID* str
   2 health      str
ContainerUser
   1 linux LinuxContainerUser?
LinuxContainerUser
   1 uid*               i64
   2 gid*               i64
   3 supplementalGroups []i64
PodCondition
   1 type~              str
   2 status~            str
   3 lastProbeTime      time
   4 lastTransitionTime time
   5 reason             str
   6 message            str
VolumeMountStatus
   1 name~             str
   2 mountPath~        str
   3 readOnly          bool
   4 recursiveReadOnly str? of Disabled|Enabled|IfPossible
PodResourceClaimStatus
   1 name~             str
   2 resourceClaimName str?
PodIP
   1 ip* str
HostIP
   1 ip* str
PodStatus
   1 phase                      str enum Failed|Pending|Running|Succeeded|Unknown -- Where the pod is in its life: Pending, Running, Succeeded, Failed or Unknown.
   2 conditions                 []PodCondition           map(type) merge(type) -- What is true of the pod, and since when.
   3 message                    str
   4 reason                     str
   5 hostIP                     str -- The node's address.
   6 podIP                      str -- The pod's address.
   7 startTime                  time?
   8 containerStatuses          []ContainerStatus -- How each container is doing.
   9 qosClass                   str enum BestEffort|Burstable|Guaranteed -- How the pod fares when its node runs short.
  10 initContainerStatuses      []ContainerStatus
  11 nominatedNodeName          str
  12 podIPs                     []PodIP                  map(ip) merge(ip)
  13 ephemeralContainerStatuses []ContainerStatus
  14 resize                     str
  15 resourceClaimStatuses      []PodResourceClaimStatus map(name) merge+retain(name)
  16 hostIPs                    []HostIP                 merge(ip)
Pod kind
   1 metadata ObjectMeta
   2 spec     PodSpec
   3 status   PodStatus
";
