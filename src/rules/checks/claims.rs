//! Rules of claims for storage, also of those that a pod's volume makes.

use api::complain::Complain;
use api::labels;
use api::lens::Lens;
use api::names;
use api::quantity::Quantity;
use api::status::Cause;
use serde_json::Value;

use super::{label_selector, part_at};

/// Whether a mode that lets one pod alone in is beside another that there is.
pub(crate) fn mixes_once_per_pod(modes: &[Value]) -> bool {
    let has = |known: &[&str]| modes.iter().any(|mode| known.iter().any(|it| mode == it));
    has(&["ReadWriteOncePod"]) && has(&["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce"])
}

/// The claim that a pod's volume makes (`PersistentVolumeClaimTemplate`) at `path`.
pub(crate) fn claim_template(template: &Value, path: &str, causes: &mut Vec<Cause>) {
    let metadata = template.at("metadata");
    let at = |field: &str| format!("{path}.metadata.{field}");
    labels::annotations(metadata.at("annotations"), &at("annotations"), causes);
    labels::labels(metadata.at("labels"), &at("labels"), causes);
    for (field, value) in metadata.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "annotations" | "labels") && !value.is_null() {
            // As Go would name it.
            let field = if field == "uid" { "uID" } else { field };
            causes.forbidden(&at(field), "cannot be set");
        }
    }
    let (spec, path) = (template.at("spec"), format!("{path}.spec"));
    for field in ["accessModes", "volumeMode"] {
        let at = format!("{path}.{field}");
        part_at("PersistentVolumeClaimSpec", field, spec.at(field), &at, causes);
    }
    claim_spec(spec, &path, false, causes);
}

/// A `PersistentVolumeClaimSpec` at `path`, which takes any group of a data source if it had one before.
pub(crate) fn claim_spec(spec: &Value, path: &str, any_group: bool, causes: &mut Vec<Cause>) {
    let modes = spec.list("accessModes");
    if modes.is_empty() {
        causes.required(&format!("{path}.accessModes"), "at least 1 access mode is required");
    }
    if mixes_once_per_pod(modes) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        causes.forbidden(&format!("{path}.accessModes"), detail);
    }
    label_selector(spec.at("selector"), &format!("{path}.selector"), causes);
    match Quantity::from_tree(spec.at("resources.requests.storage")) {
        None => causes.required(&format!("{path}.resources[storage]"), ""),
        Some(storage) if storage.is_zero() || storage.is_negative() => causes.invalid(
            &format!("{path}.resources[storage]"),
            spec.at("resources.requests.storage"),
            "must be greater than zero",
        ),
        Some(_) => {}
    }
    let class = spec.str("storageClassName");
    if !class.is_empty() {
        causes.check_name(&format!("{path}.storageClassName"), class, names::subdomain);
    }
    for field in ["dataSource", "dataSourceRef"] {
        data_source(spec.at(field), &format!("{path}.{field}"), any_group, causes);
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    // What is shown is a place in memory.
    if !source.is_null() && !reference.str("namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        causes.invalid_whole(path, detail);
    } else if !source.is_null() && !reference.is_null() {
        let same = |field: &str| source.at(field) == reference.at(field);
        if !(same("apiGroup") && same("kind") && same("name")) {
            causes.invalid_whole(path, "must match dataSourceRef");
        }
    }
}

fn data_source(source: &Value, path: &str, any_group: bool, causes: &mut Vec<Cause>) {
    if source.is_null() {
        return;
    }
    for field in ["name", "kind"] {
        if source.str(field).is_empty() {
            causes.required(&format!("{path}.{field}"), "");
        }
    }
    let (group, kind) = (source.str("apiGroup"), source.str("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        causes.invalid(path, &kind.into(), detail);
    }
    if !group.is_empty() && !any_group {
        causes.check_name(&format!("{path}.apiGroup"), group, names::subdomain);
    }
    let namespace = source.str("namespace");
    if !namespace.is_empty() {
        causes.check_name(&format!("{path}.namespace"), namespace, names::label);
    }
}
