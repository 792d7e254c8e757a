//! Pod: a group of containers that run together on one node and share its network and volumes.

use api::address;
use api::kinds::POD;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::{Value, json};

use super::Rules;
use crate::keep::keep;

pub(super) static RULES: Rules = Rules {
    kind: &POD,
    validate: crate::pod::validate::pod,
    validate_status,
    prepare_status,
    columns: crate::pod::columns::COLUMNS,
    default: crate::pod::defaults::pod,
    prepare,
    on_update: "UCV",
    ..Rules::BASE
};

/// Others connect to a pod where its status says that it is.
fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    for path in ["status.podIPs", "status.hostIPs"] {
        address::ips_of_families(new.list(path), path, causes);
    }
}

/// Old kubelets corrupted owners in a way that broke garbage collection.
fn prepare_status(new: &mut Value, old: &Value) {
    keep(new, old, "metadata.ownerReferences");
    if new.str("status.qosClass").is_empty() {
        keep(new, old, "status.qosClass");
    }
}

/// A new pod is pending; what waits at a gate says so at once.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_some() {
        return;
    }
    let class = api::pod::qos_class(new.at("spec"));
    new.set("status", json!({"phase": "Pending", "qosClass": class}));
    if !new.list("spec.schedulingGates").is_empty() {
        new.list_mut("status.conditions").push(json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }));
    }
}
