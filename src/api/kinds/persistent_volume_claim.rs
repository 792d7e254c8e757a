//! PersistentVolumeClaim: a request for storage, bound to a volume that fits.

use serde_json::{Value, json};

use crate::complain::{Complain, IMMUTABLE};
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{access_modes, storage_class};
use crate::status::Cause;
use crate::validate;

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    name: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    declared: &Declared {
        version: "v1",
        short: &["pvc"],
        generation: false,
        subresources: &[Sub::Status],
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        prepare,
        doc: "A request for storage, bound to a volume that fits.",
        answers_deleted: true,
        on_update: "CSUCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new.set("status", json!({"phase": "Pending"}));
    }
    let had = |field: &str| old.is_some_and(|old| old.has(field));
    // A source in another namespace is a feature that is off.
    if !new.str("spec.dataSourceRef.namespace").is_empty() && !had("spec.dataSourceRef") {
        new.remove("spec.dataSourceRef");
    }
    // What the old way to name a source never could is dropped.
    let named_before = had("spec.dataSource") || had("spec.dataSourceRef");
    if !named_before
        && !new.has("spec.dataSourceRef")
        && !is_known_source(new.at("spec.dataSource"))
    {
        new.remove("spec.dataSource");
    }
    // The two ways to name a source say the same, where both can.
    let (source, source_ref) =
        (new.at("spec.dataSource").clone(), new.at("spec.dataSourceRef").clone());
    if source_ref.is_null() && !source.is_null() {
        new.set("spec.dataSourceRef", source);
    } else if source.is_null() && !source_ref.is_null() && !source_ref.has("namespace") {
        new.set("spec.dataSource", source_ref);
    }
}

fn is_known_source(source: &Value) -> bool {
    matches!(
        (source.str("apiGroup"), source.str("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

const COLUMNS: &[Column<'static>] = &[
    Column::with("Status", |tree, _| phase(tree)),
    Column::path("Volume", "spec.volumeName"),
    Column::with("Capacity", |tree, _| if_bound(tree, tree.str("status.capacity.storage"))),
    Column::with("Access Modes", |tree, _| {
        if_bound(tree, &access_modes(tree.list("status.accessModes")))
    }),
    Column::with("StorageClass", |tree, _| storage_class(tree).into()),
    Column::with("VolumeAttributesClass", |tree, _| {
        or_unset(tree.str("spec.volumeAttributesClassName"))
    }),
    Column::AGE,
    Column::with("VolumeMode", |tree, _| or_unset(tree.str("spec.volumeMode"))).wide(),
];

fn phase(tree: &Value) -> Value {
    if tree.has("metadata.deletionTimestamp") {
        "Terminating".into()
    } else {
        tree.at("status.phase").clone()
    }
}

fn or_unset(text: &str) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

fn if_bound(tree: &Value, text: &str) -> Value {
    if tree.str("spec.volumeName").is_empty() { "".into() } else { text.into() }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let had_group = |old: &Value| {
        ["dataSource", "dataSourceRef"].iter().any(|of| old.at("spec").at(of).has("apiGroup"))
    };
    claim_spec(spec, "spec", old.is_some_and(had_group), causes);
    let Some(old) = old else { return };
    // What the object says of itself, as upstream.
    let bound = new.str("status.phase") == "Bound";
    let mut wanted = spec.clone();
    let before = old.at("spec");
    // The binder names the volume once; a default class may be filled in later.
    for field in ["volumeName", "storageClassName"] {
        if before.str(field).is_empty() && (field == "volumeName" || !before.has(field)) {
            match before.at(field) {
                Value::Null => drop(wanted.remove(field)),
                value => wanted.set(field, value.clone()),
            }
        }
    }
    for field in ["resources.requests.storage", "volumeAttributesClassName"] {
        let parent = field.strip_suffix(".storage").unwrap_or(field);
        if bound && wanted.has(parent) {
            match before.at(field) {
                Value::Null => drop(wanted.remove(field)),
                value => wanted.set(field, value.clone()),
            }
        }
    }
    if wanted != *before {
        causes.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let amount = |tree: &Value, path: &str| crate::Quantity::from_tree(tree.at(path));
    let (now, was) =
        (amount(spec, "resources.requests.storage"), amount(before, "resources.requests.storage"));
    if now < was && now <= amount(old, "status.capacity.storage") {
        causes.forbidden(
            "spec.resources.requests.storage",
            "field can not be less than status.capacity",
        );
    }
    if spec.at("volumeMode") != before.at("volumeMode") {
        causes.invalid("volumeMode", spec.at("volumeMode"), IMMUTABLE);
    }
    if spec.at("volumeAttributesClassName") != before.at("volumeAttributesClassName") {
        let detail = "update is forbidden when the VolumeAttributesClass feature gate is disabled";
        causes.forbidden("spec.volumeAttributesClassName", detail);
    }
}

/// The claim that a pod's volume makes (`PersistentVolumeClaimTemplate`) at `path`.
pub(crate) fn template(template: &Value, path: &str, causes: &mut Vec<Cause>) {
    let metadata = template.at("metadata");
    let at = |field: &str| format!("{path}.metadata.{field}");
    validate::annotations(metadata.at("annotations"), &at("annotations"), causes);
    validate::labels(metadata.at("labels"), &at("labels"), causes);
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
        validate::part_at("PersistentVolumeClaimSpec", field, spec.at(field), &at, causes);
    }
    claim_spec(spec, &path, false, causes);
}

/// A `PersistentVolumeClaimSpec` at `path`, which takes any group of a data source if it had one before.
fn claim_spec(spec: &Value, path: &str, any_group: bool, causes: &mut Vec<Cause>) {
    let modes = spec.list("accessModes");
    if modes.is_empty() {
        causes.required(&format!("{path}.accessModes"), "at least 1 access mode is required");
    }
    if super::mixes_once_per_pod(modes) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        causes.forbidden(&format!("{path}.accessModes"), detail);
    }
    validate::label_selector(spec.at("selector"), &format!("{path}.selector"), causes);
    match crate::Quantity::from_tree(spec.at("resources.requests.storage")) {
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
        causes.check_name(&format!("{path}.storageClassName"), class, crate::names::subdomain);
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
        causes.check_name(&format!("{path}.apiGroup"), group, crate::names::subdomain);
    }
    let namespace = source.str("namespace");
    if !namespace.is_empty() {
        causes.check_name(&format!("{path}.namespace"), namespace, crate::names::label);
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
PersistentVolumeClaim kind
   1 metadata ObjectMeta
   2 spec     PersistentVolumeClaimSpec
   3 status   PersistentVolumeClaimStatus
PersistentVolumeClaimSpec
   1 accessModes               []str                      in ReadOnlyMany|ReadWriteMany|ReadWriteOnce|ReadWriteOncePod -- How the volume will be mounted.
   2 resources                 VolumeResourceRequirements -- How much room is asked for.
   3 volumeName                str -- The volume that the claim is bound to.
   4 selector                  LabelSelector? -- Labels of volumes to choose among.
   5 storageClassName          str? -- The class of the volume; empty for none, absent for the default.
   6 volumeMode                str?                       in Block|Filesystem = Filesystem -- A file system or a block device.
   7 dataSource                TypedLocalObjectReference?
   8 dataSourceRef             TypedObjectReference?
   9 volumeAttributesClassName str?
PersistentVolumeClaimCondition
   1 type~              str
   2 status~            str
   3 lastProbeTime      time
   4 lastTransitionTime time
   5 reason             str
   6 message            str
PersistentVolumeClaimStatus
   1 phase                        str                          = Pending enum Bound|Lost|Pending
   2 accessModes                  []str                        in ReadOnlyMany|ReadWriteMany|ReadWriteOnce|ReadWriteOncePod
   3 capacity                     {}quantity
   4 conditions                   []PersistentVolumeClaimCondition map(type) merge(type)
   5 allocatedResources           {}quantity
   7 allocatedResourceStatuses    {}str granular
   8 currentVolumeAttributesClassName str?
   9 modifyVolumeStatus           ModifyVolumeStatus?
";
