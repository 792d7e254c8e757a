//! Node: a machine of the cluster that runs pods.

use crate::kind::*;

pub static NODE: Kind = Kind {
    name: "Node",
    plural: "nodes",
    scope: Scope::Cluster,
    storage: "minions",
    declared: &Declared {
        version: "v1",
        short: &["no"],
        generation: false,
        subresources: &[Sub::Status, Sub::Named("proxy")],
        fields: &["spec.unschedulable"],
        schema: SCHEMA,
        doc: "A machine of the cluster that runs pods.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Taint
   1 key~      str
   2 value     str
   3 effect~   str enum NoExecute|NoSchedule|PreferNoSchedule
   4 timeAdded time?
NodeSpec
   1 podCIDR       str
   2 externalID    str
   3 providerID    str
   4 unschedulable bool -- No new pods come to the node.
   5 taints        []Taint -- What keeps pods away that do not tolerate it.
   6 configSource  NodeConfigSource?
   7 podCIDRs      []str             set merge
NodeConfigSource
   2 configMap ConfigMapNodeConfigSource?
ConfigMapNodeConfigSource
   1 namespace~        str
   2 name~             str
   3 uid               str
   4 resourceVersion   str
   5 kubeletConfigKey~ str
DaemonEndpoint
   1 Port~ i32
NodeDaemonEndpoints
   1 kubeletEndpoint DaemonEndpoint
NodeRuntimeHandlerFeatures
   1 recursiveReadOnlyMounts bool?
   2 userNamespaces          bool?
NodeRuntimeHandler
   1 name!    str
   2 features NodeRuntimeHandlerFeatures?
NodeFeatures
   1 supplementalGroupsPolicy bool?
NodeSystemInfo
   1 machineID*               str
   2 systemUUID*              str
   3 bootID*                  str
   4 kernelVersion*           str
   5 osImage*                 str
   6 containerRuntimeVersion* str
   7 kubeletVersion*          str
   8 kubeProxyVersion*        str
   9 operatingSystem*         str
  10 architecture*            str
NodeConfigStatus
   1 assigned      NodeConfigSource?
   2 active        NodeConfigSource?
   3 lastKnownGood NodeConfigSource?
   4 error         str
NodeStatus
   1 capacity        {}quantity -- What the node has.
   2 allocatable     {}quantity -- What pods may use of it.
   3 phase           str enum Pending|Running|Terminated
   4 conditions      []NodeCondition      map(type) merge(type) -- How the node is doing.
   5 addresses       []NodeAddress        map(type) merge(type) -- The node's addresses and names.
   6 daemonEndpoints NodeDaemonEndpoints
   7 nodeInfo        NodeSystemInfo -- The node's system and versions.
   8 images          []ContainerImage
   9 volumesInUse    []str
  10 volumesAttached []AttachedVolume
  11 config          NodeConfigStatus?
  12 runtimeHandlers []NodeRuntimeHandler
  13 features        NodeFeatures?
AttachedVolume
   1 name*       str
   2 devicePath* str
ContainerImage
   1 names!    []str
   2 sizeBytes i64
NodeCondition
   1 type~              str
   2 status~            str
   3 lastHeartbeatTime  time
   4 lastTransitionTime time
   5 reason             str
   6 message            str
NodeAddress
   1 type*    str
   2 address* str
Node kind
   1 metadata ObjectMeta
   2 spec     NodeSpec
   3 status   NodeStatus
";
