//! Node: a machine of the cluster that runs pods.

use api::complain::Complain;
use api::kinds::NODE;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::Cause;
use serde_json::{Value, json};
use stdx::{Arrange, OrdSet};

use super::Rules;
use crate::column::Column;
use crate::print::or_none;

pub(super) static RULES: Rules =
    Rules { kind: &NODE, validate, columns: COLUMNS, default, on_update: "CSUV", ..Rules::BASE };

/// `podCIDR` is the first of `podCIDRs`; where they differ, it counts.
fn one_pod_range(spec: Option<&mut Value>) {
    let Some(spec) = spec.filter(|spec| spec.is_object()) else { return };
    let first = spec.list("podCIDRs").first().and_then(Value::as_str).unwrap_or("").to_owned();
    match spec.str("podCIDR").to_owned() {
        own if own == first => {}
        own if own.is_empty() => spec.set("podCIDR", first),
        own => spec.set("podCIDRs", json!([own])),
    }
}

/// A node that does not say what may be used offers all it has.
fn default(tree: &mut Value) {
    one_pod_range(tree.at_mut("spec"));
    if !tree.has("status.allocatable") && tree.has("status.capacity") {
        let capacity = tree.at("status.capacity").clone();
        tree.set("status.allocatable", capacity);
    }
}

const COLUMNS: &[Column<'static>] = &[
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
    roles.arrange();
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
    let mut seen = OrdSet::new();
    for (idx, taint) in new.list("spec.taints").iter().enumerate() {
        let path = format!("metadata.taints[{idx}]");
        causes.check_name(&format!("{path}.key"), taint.str("key"), names::qualified);
        causes.check_name(&format!("{path}.value"), taint.str("value"), names::label_value);
        match taint.str("effect") {
            "" => causes.required(&format!("{path}.effect"), ""),
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            other => causes.not_supported_in_order(
                &format!("{path}.effect"),
                other,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ),
        }
        if !seen.insert((taint.str("key"), taint.str("effect"))) {
            let detail = "taints must be unique by key and effect pair";
            let (key, value, effect) = (taint.str("key"), taint.str("value"), taint.str("effect"));
            let message = format!(
                "Duplicate value: core.Taint{{Key:{key:?}, Value:{value:?}, Effect:{effect:?}, TimeAdded:<nil>}}: {detail}"
            );
            causes.complain("FieldValueDuplicate", &path, message);
        }
    }
    let Some(old) = old else {
        pod_ranges(new.list("spec.podCIDRs"), causes);
        return;
    };
    if new.at("spec.externalID") != old.at("spec.externalID") {
        causes.forbidden("spec.externalID", "may not be updated");
    }
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

/// At most one range for each family of addresses.
fn pod_ranges(ranges: &[Value], causes: &mut Vec<Cause>) {
    let mut families = Vec::new();
    for (idx, range) in ranges.iter().enumerate() {
        let path = format!("spec.podCIDRs[{idx}]");
        let found = api::address::cidr(range.as_str().unwrap_or(""), &path, causes);
        families.extend(found.map(|(address, _)| address.to_canonical().is_ipv4()));
        if found.is_none() && ranges.len() > 1 && families.len() == idx {
            let shown = range.as_str().unwrap_or("");
            let message = format!(
                "Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{idx}]: <nil> (invalid CIDR address: {shown})"
            );
            causes.complain("InternalError", "spec.podCIDRs", message);
        }
    }
    if ranges.len() > 1 && !matches!(families[..], [first, second] if first != second) {
        let detail = "may specify no more than one CIDR for each IP family";
        causes.invalid("spec.podCIDRs", &ranges.to_vec().into(), detail);
    }
    let mut seen = OrdSet::new();
    for (idx, range) in ranges.iter().enumerate() {
        if !seen.insert(range.as_str()) {
            causes.duplicate(&format!("spec.podCIDRs[{idx}]"), range);
        }
    }
}
