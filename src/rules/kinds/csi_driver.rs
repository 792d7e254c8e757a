//! CSIDriver: what Kubernetes must know of a storage driver.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::CSI_DRIVER;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::{Value, json};
use stdx::OrdSet;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &CSI_DRIVER, columns: COLUMNS, default, prepare, validate, ..Rules::BASE };

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
    let mut audiences = OrdSet::new();
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
