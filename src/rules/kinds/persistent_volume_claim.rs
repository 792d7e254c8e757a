//! PersistentVolumeClaim: a request for storage, bound to a volume that fits.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::PERSISTENT_VOLUME_CLAIM;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::{Value, json};

use super::Rules;
use crate::checks;
use crate::column::Column;
use crate::print::{access_modes, or_unset, storage_class, volume_phase};

pub(super) static RULES: Rules = Rules {
    kind: &PERSISTENT_VOLUME_CLAIM,
    validate,
    columns: COLUMNS,
    prepare,
    on_update: "CsUCV",
    ..Rules::BASE
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
    Column::with("Status", |tree, _| volume_phase(tree)),
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

fn if_bound(tree: &Value, text: &str) -> Value {
    if tree.str("spec.volumeName").is_empty() { "".into() } else { text.into() }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let had_group = |old: &Value| {
        ["dataSource", "dataSourceRef"].iter().any(|of| old.at("spec").at(of).has("apiGroup"))
    };
    checks::claim_spec(spec, "spec", old.is_some_and(had_group), causes);
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
    let amount = |tree: &Value, path: &str| api::Quantity::from_tree(tree.at(path));
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
