//! PriorityClass: a named priority for pods.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::PRIORITY_CLASS;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &PRIORITY_CLASS, validate, prepare, columns: COLUMNS, ..Rules::BASE };

const COLUMNS: &[Column<'static>] = &[
    Column::number("Value", "value"),
    Column {
        kind: "boolean",
        ..Column::with("Global-Default", |tree, _| tree.flag("globalDefault").into())
    },
    Column::AGE,
    Column::path("PreemptionPolicy", "preemptionPolicy"),
];

/// The generation is there and never grows, as upstream.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new.set("metadata.generation", 1);
    }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const USER_VALUE_MAX: i64 = 1_000_000_000;
    let (name, value) = (new.str("metadata.name"), new.int("value").unwrap_or(0));
    let system = matches!(
        (name, value),
        ("system-cluster-critical", 2_000_000_000) | ("system-node-critical", 2_000_001_000)
    );
    if old.is_some() {
        // The name stays, and so does the value.
    } else if name.starts_with("system-") {
        if !system {
            let detail =
                "priority class names with 'system-' prefix are reserved for system use only";
            causes.forbidden("metadata.name", detail);
        }
    } else if value > USER_VALUE_MAX {
        causes.forbidden("value", "maximum allowed value of a user defined priority is 1000000000");
    }
    let Some(old) = old else {
        let supported = ["PreemptLowerPriority", "Never"];
        match new.at("preemptionPolicy") {
            Value::String(policy) if policy.is_empty() => causes.required("preemptionPolicy", ""),
            Value::String(policy) if !supported.contains(&policy.as_str()) => {
                causes.not_supported_in_order("preemptionPolicy", policy, &supported);
            }
            _ => {}
        }
        return;
    };
    if new.at("value") != old.at("value") {
        causes.forbidden("value", "may not be changed in an update.");
    }
    if new.at("preemptionPolicy") != old.at("preemptionPolicy") {
        causes.invalid("preemptionPolicy", new.at("preemptionPolicy"), IMMUTABLE);
    }
}
