//! CSIDriver: what Kubernetes must know of a storage driver.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::complain::{Complain, IMMUTABLE};
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::names;
use crate::status::Cause;

pub static CSI_DRIVER: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSIDriver",
    plural: "csidrivers",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        columns: COLUMNS,
        generation: false,
        default,
        prepare,
        validate,
        doc: "What Kubernetes must know of a storage driver.",
        answers_deleted: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    flag("AttachRequired", |tree, _| (tree.at("spec.attachRequired") != &json!(false)).into()),
    flag("PodInfoOnMount", |tree, _| tree.flag("spec.podInfoOnMount").into()),
    flag("StorageCapacity", |tree, _| tree.flag("spec.storageCapacity").into()),
    Column::with("TokenRequests", |tree, _| match tree.at("spec.tokenRequests") {
        Value::Array(requests) => crate::print::joined(requests, "audience"),
        _ => "<unset>".into(),
    }),
    flag("RequiresRepublish", |tree, _| tree.flag("spec.requiresRepublish").into()),
    Column::with("Modes", |tree, _| {
        let modes: Vec<&str> =
            tree.list("spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
        crate::print::or_none(&modes.join(","))
    }),
    Column::AGE,
];

const fn flag(name: &'static str, make: fn(&Value, stdx::time::Wall) -> Value) -> Column<'static> {
    Column { kind: "boolean", ..Column::with(name, make) }
}

fn default(tree: &mut Value) {
    if tree.list("spec.volumeLifecycleModes").is_empty() {
        tree.set("spec.volumeLifecycleModes", json!(["Persistent"]));
    }
}

/// Upstream counts changes, from nothing.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if let Some(old) = old.filter(|old| old.at("spec") != new.at("spec")) {
        new.set("metadata.generation", old.int("metadata.generation").unwrap_or(0) + 1);
    }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const MODES: &[&str] = &["Persistent", "Ephemeral"];
    let spec = new.at("spec");
    token_requests(spec.list("tokenRequests"), causes);
    for mode in spec.list("volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !MODES.contains(&mode) {
            causes.not_supported_in_order("spec.volumeLifecycleModes", mode, MODES);
        }
    }
    let Some(old) = old.map(|old| old.at("spec")) else { return };
    // Upstream's path is not its field.
    for (field, path) in [
        ("attachRequired", "spec.attachedRequired"),
        ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
    ] {
        if spec.at(field) != old.at(field) {
            causes.invalid(path, spec.at(field), IMMUTABLE);
        }
    }
}

fn token_requests(requests: &[Value], causes: &mut Vec<Cause>) {
    const MIN_SECS: i64 = 600;
    const MAX_SECS: i64 = 1 << 32;
    let mut audiences = BTreeSet::new();
    for (idx, request) in requests.iter().enumerate() {
        let path = format!("spec.tokenRequests[{idx}]");
        if !audiences.insert(request.str("audience")) {
            causes.duplicate(&format!("{path}.audience"), request.at("audience"));
            continue;
        }
        let Some(secs) = request.int("expirationSeconds") else { continue };
        let detail = match secs {
            ..MIN_SECS => "may not specify a duration less than 10 minutes",
            MIN_SECS..=MAX_SECS => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        causes.invalid(&format!("{path}.expirationSeconds"), &secs.into(), detail);
    }
}

/// A driver's name where an object refers to it (upstream's `ValidateCSIDriverName`).
pub(crate) fn name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    const BYTES_MAX: usize = 63;
    if name.is_empty() {
        causes.required(path, "");
    }
    if name.len() > BYTES_MAX {
        causes.too_long(path, BYTES_MAX);
    }
    let why = names::subdomain(&name.to_ascii_lowercase()).err().unwrap_or_default();
    for why in why.lines() {
        causes.invalid(path, &name.into(), why);
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.storage.v1
CSIDriver kind
   1 metadata ObjectMeta
   2 spec~    CSIDriverSpec
CSIDriverSpec
   1 attachRequired       bool? = true -- Whether volumes must be attached to a node before they are mounted.
   2 podInfoOnMount       bool? = false -- Whether the driver is told for which pod it mounts.
   3 volumeLifecycleModes []str set -- Persistent, Ephemeral or both.
   4 storageCapacity      bool? = false -- Whether the driver tells where there is room.
   5 fsGroupPolicy        str?  = ReadWriteOnceWithFSType of File|None|ReadWriteOnceWithFSType -- When files are given to the pod's group.
   6 tokenRequests        []TokenRequest
   7 requiresRepublish    bool? = false
   8 seLinuxMount         bool? = false
TokenRequest
   1 audience~         str
   2 expirationSeconds i64?
";
