//! Rules that the workload kinds share.

use api::complain::{Complain, NON_NEGATIVE};
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use crate::checks;

/// A workload's selector and the template whose pods it must select; pods restart always.
pub(super) fn selected_template(spec: &Value, whole: &str, causes: &mut Vec<Cause>) {
    let looks_on = checks::label_selector_as(
        spec.at("selector"),
        "spec.selector",
        spec.at("template.metadata.labels"),
        "spec.template.metadata.labels",
        whole,
        causes,
    );
    let kind = if whole == "daemonset" { "DaemonSet" } else { "ReplicaSet" };
    if looks_on {
        lasting_template(spec, kind, causes);
    }
}

/// A template whose pods restart always; `kind` is what complaints call the kind that makes them.
pub(super) fn lasting_template(spec: &Value, kind: &str, causes: &mut Vec<Cause>) {
    let template = spec.at("template");
    crate::pod::validate::template(template, "spec.template", &["Always"], causes);
    if template.has("spec.activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        causes.forbidden("spec.template.spec.activeDeadlineSeconds", &detail);
    }
}

/// The counts in the status of a ReplicaSet or ReplicationController.
pub(super) fn replica_counts(new: &Value, causes: &mut Vec<Cause>) {
    let fields = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let own = ["replicas", fields[0], fields[1], fields[2], "observedGeneration"];
    not_negative_counts(new, &own, causes);
    bounded_counts(new, &fields, "readyReplicas", causes);
}

/// Fields of the status that must not be negative.
pub(super) fn not_negative_counts(new: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    for field in fields {
        if let Some(number) = new.at("status").int(field).filter(|number| *number < 0) {
            causes.invalid(&format!("status.{field}"), &number.into(), NON_NEGATIVE);
        }
    }
}

/// Counts of pods of which there are no more than `status.replicas`, and none available that is not ready; `ready` is what
/// the complaint about that calls them.
pub(super) fn bounded_counts(new: &Value, fields: &[&str], ready: &str, causes: &mut Vec<Cause>) {
    let count = |field: &str| new.at("status").int(field).unwrap_or(0);
    let mut greater = |field: &str, than: &str, of: i64| {
        if count(field) > of {
            let detail = format!("cannot be greater than {than}");
            causes.invalid(&format!("status.{field}"), &count(field).into(), &detail);
        }
    };
    for field in fields {
        greater(field, "status.replicas", count("replicas"));
    }
    greater("availableReplicas", ready, count("readyReplicas"));
}

/// Fields of `spec` that must not be negative.
pub(super) fn not_negative(spec: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    for field in fields {
        if let Some(number) = spec.int(field).filter(|number| *number < 0) {
            causes.invalid(&format!("spec.{field}"), &number.into(), NON_NEGATIVE);
        }
    }
}

/// A number that is not negative, or a percentage.
pub(super) fn int_or_percent(bound: &Value, path: &str, causes: &mut Vec<Cause>) {
    match bound {
        Value::String(text) if percent(text).is_none() => causes.invalid_bound(
            path,
            bound,
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ),
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            causes.invalid(path, bound, NON_NEGATIVE);
        }
        _ => {}
    }
}

/// A percentage that is not more than all.
pub(super) fn at_most_all(bound: &Value, path: &str, causes: &mut Vec<Cause>) {
    if bound.as_str().and_then(percent).is_some_and(|n| n > 100) {
        causes.invalid_bound(path, bound, "must not be greater than 100%");
    }
}

/// `maxUnavailable` and `maxSurge` of a rolling update at `path`.
pub(super) fn rolling_bounds(bounds: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["maxUnavailable", "maxSurge"] {
        let bound = bounds.at(field);
        int_or_percent(bound, &format!("{path}.{field}"), causes);
        if field == "maxUnavailable" {
            at_most_all(bound, &format!("{path}.{field}"), causes);
        }
    }
}

/// Whether a rolling update may go neither above nor below what is wanted.
pub(super) fn stands_still(bounds: &Value) -> bool {
    ["maxUnavailable", "maxSurge"].iter().all(|field| is_zero(bounds.at(field)))
}

/// What is no number is told by its own rule, and counts as none.
pub(super) fn is_zero(bound: &Value) -> bool {
    match bound.as_str() {
        Some(text) => percent(text).or_else(|| text.parse().ok()).unwrap_or(0) == 0,
        None => bound.as_i64().unwrap_or(0) == 0,
    }
}

pub(super) fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Go's `%#v` of an update strategy; its type alone where it has a place in memory in it.
pub(super) fn update_strategy(strategy: &Value, name: &str, rolling: &str) -> String {
    let kind = strategy.str("type");
    match strategy.has("rollingUpdate") {
        true => format!("{kind:?}"),
        false => format!("apps.{name}{{Type:{kind:?}, RollingUpdate:(*apps.{rolling})(nil)}}"),
    }
}
