//! Node: a machine of the cluster that runs pods.

use serde_json::Value;

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::names;
use crate::print::or_none;
use crate::status::Cause;

pub static NODE: Kind = Kind {
    version: "v1",
    name: "Node",
    plural: "nodes",
    short: &["no"],
    scope: Scope::Cluster,
    storage: "minions",
    generation: false,
    subresources: &[Sub::Status, Sub::Named("proxy")],
    fields: &["spec.unschedulable"],
    schema: SCHEMA,
    validate,
    columns: COLUMNS,
    default,
    doc: "A machine of the cluster that runs pods.",
    ..Kind::BASE
};

/// A node that does not say what may be used offers all it has.
fn default(tree: &mut Value) {
    if !tree.has("status.allocatable") && tree.has("status.capacity") {
        let capacity = tree.at("status.capacity").clone();
        tree.set("status.allocatable", capacity);
    }
}

const COLUMNS: &[Column] = &[
    Column::with("Status", |tree, _| status(tree).into()),
    Column::with("Roles", |tree, _| roles(tree).into()),
    Column::AGE,
    Column::path("Version", "status.nodeInfo.kubeletVersion"),
    Column::with("Internal-IP", |tree, _| address(tree, "InternalIP")).wide(),
    Column::with("External-IP", |tree, _| address(tree, "ExternalIP")).wide(),
    Column::with("OS-Image", |tree, _| or_unknown(tree.str("status.nodeInfo.osImage"))).wide(),
    Column::with("Kernel-Version", |tree, _| or_unknown(tree.str("status.nodeInfo.kernelVersion")))
        .wide(),
    Column::with("Container-Runtime", |tree, _| {
        or_unknown(tree.str("status.nodeInfo.containerRuntimeVersion"))
    })
    .wide(),
];

fn status(tree: &Value) -> String {
    let ready = tree.list("status.conditions").iter().find(|c| c.str("type") == "Ready");
    let status = match ready.map(|c| c.str("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if tree.flag("spec.unschedulable") { ",SchedulingDisabled" } else { "" };
    format!("{status}{cordoned}")
}

fn roles(tree: &Value) -> String {
    let mut roles: Vec<&str> = tree
        .pairs("metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" && !value.is_empty() => Some(value),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}

fn address(tree: &Value, kind: &str) -> Value {
    let found = tree.list("status.addresses").iter().find(|address| address.str("type") == kind);
    or_none(found.map_or("", |address| address.str("address")))
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut seen = std::collections::BTreeSet::new();
    for (idx, taint) in new.list("spec.taints").iter().enumerate() {
        let path = format!("metadata.taints[{idx}]");
        causes.check_name(&format!("{path}.key"), taint.str("key"), names::qualified);
        causes.check_name(&format!("{path}.value"), taint.str("value"), names::label_value);
        if !seen.insert((taint.str("key"), taint.str("effect"))) {
            let detail = "taints must be unique by key and effect pair";
            causes.invalid(&path, taint, detail);
        }
    }
    let Some(old) = old else { return };
    for field in ["podCIDRs", "providerID"] {
        let before = old.at("spec").at(field);
        let was_set = !before.is_null()
            && before != ""
            && before.as_array().is_none_or(|list| !list.is_empty());
        if was_set && before != new.at("spec").at(field) {
            let detail = if field == "providerID" {
                "node updates may not change providerID except from \"\" to valid"
            } else {
                "node updates may not change podCIDR except from \"\" to valid"
            };
            causes.forbidden(&format!("spec.{field}"), detail);
        }
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
Taint
   1 key~      str
   2 value     str
   3 effect*   str   in NoSchedule|PreferNoSchedule|NoExecute
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
   1 namespace*        str
   2 name*             str
   3 uid               str
   4 resourceVersion   str
   5 kubeletConfigKey* str
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
   3 phase           str
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
   2 status~            str  in True|False|Unknown
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
