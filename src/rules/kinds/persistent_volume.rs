//! PersistentVolume: storage in the cluster that outlives pods.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::PERSISTENT_VOLUME;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::{Value, json};

use super::Rules;
use crate::checks;
use crate::column::Column;
use crate::print::{access_modes, or_unset, storage_class, volume_phase};

pub(super) static RULES: Rules = Rules {
    kind: &PERSISTENT_VOLUME,
    validate,
    columns: COLUMNS,
    default,
    prepare,
    on_update: "CSCV",
    ..Rules::BASE
};

/// Defaults that the specs of other objects do not have.
fn default(tree: &mut Value) {
    if tree.str("spec.persistentVolumeReclaimPolicy").is_empty() {
        tree.set("spec.persistentVolumeReclaimPolicy", "Retain");
    }
    tree.set_default("spec.volumeMode", "Filesystem");
}

fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new.set("status", json!({"phase": "Pending"}));
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("Capacity", "spec.capacity.storage"),
    Column::with("Access Modes", |tree, _| access_modes(tree.list("spec.accessModes")).into()),
    Column::path("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"),
    Column::with("Status", |tree, _| volume_phase(tree)),
    Column::with("Claim", |tree, _| claim(tree).into()),
    Column::with("StorageClass", |tree, _| storage_class(tree).into()),
    Column::with("VolumeAttributesClass", |tree, _| {
        or_unset(tree.str("spec.volumeAttributesClassName"))
    }),
    Column::path("Reason", "status.reason"),
    Column::AGE,
    Column::with("VolumeMode", |tree, _| or_unset(tree.str("spec.volumeMode"))).wide(),
];

fn claim(tree: &Value) -> String {
    match tree.at("spec.claimRef") {
        Value::Null => String::new(),
        claim => format!("{}/{}", claim.str("namespace"), claim.str("name")),
    }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    self::spec(spec, "spec", false, causes);
    let Some(old) = old.map(|old| old.at("spec")) else { return };
    let changed = |key: &&str| spec.at(key) != old.at(key);
    if sources(spec).iter().chain(&sources(old)).any(changed) {
        causes.forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    if spec.at("volumeMode") != old.at("volumeMode") {
        causes.invalid("volumeMode", spec.at("volumeMode"), IMMUTABLE);
    }
    if old.has("nodeAffinity") && spec.at("nodeAffinity") != old.at("nodeAffinity") {
        // Upstream's path; it shows where the value is, not what it is.
        let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
        causes.invalid("nodeAffinity", spec.at("nodeAffinity"), &detail);
    }
}

/// The kinds of volume that a spec names.
fn sources(spec: &Value) -> Vec<&str> {
    let schema = api::schema::schema();
    let root = schema.qualified("io.k8s.api.core.v1.PersistentVolumeSource");
    let is_source = |key: &&str| root.is_some_and(|id| schema.by_json(id, key).is_some());
    let keys = spec.as_object().into_iter().flat_map(|map| map.keys());
    keys.map(String::as_str).filter(is_source).collect()
}

/// A `PersistentVolumeSpec` at `path`. `inline` is what a VolumeAttachment says of a volume that has no
/// object: what only an object can have is refused.
pub(super) fn spec(spec: &Value, path: &str, inline: bool, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{path}.{field}");
    if inline {
        self::inline(spec, path, causes);
    }
    modes(spec, path, causes);
    if !inline {
        capacity(spec, path, causes);
    }
    if !inline && spec.has("nodeAffinity") {
        let (required, at) = (spec.at("nodeAffinity.required"), at("nodeAffinity.required"));
        match required.is_null() {
            true => causes.required(&at, "must specify required node constraints"),
            false => checks::node_selector(required, &at, causes),
        }
    }
    let source = crate::pod::validate::volume_source(spec, path, true, causes);
    if source == Some("local") && !inline && !spec.has("nodeAffinity") {
        causes.required(&at("nodeAffinity"), "Local volume requires node affinity");
    }
    if spec.str("hostPath.path").trim_start_matches('/').is_empty()
        && spec.str("hostPath.path").starts_with('/')
        && spec.str("persistentVolumeReclaimPolicy") == "Recycle"
    {
        causes.forbidden(
            &at("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    let class = spec.str("storageClassName");
    if !inline && !class.is_empty() {
        causes.check_name(&at("storageClassName"), class, api::names::subdomain);
    }
}

/// What a volume without an object cannot have, and what it must.
fn inline(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    const NOT_HERE: &str = "may not be specified in the context of inline volumes";
    for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
        let is_set = match spec.at(field) {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        };
        if is_set {
            causes.forbidden(&format!("{path}.{field}"), NOT_HERE);
        }
    }
    if !spec.has("csi") {
        let detail = "has to be specified in the context of inline volumes";
        causes.required(&format!("{path}.csi"), detail);
    }
    for (field, only, words) in [
        ("persistentVolumeReclaimPolicy", "Retain", "may only be"),
        ("volumeMode", "Filesystem", "may not specify volumeMode other than"),
    ] {
        if spec.at(field).as_str().is_some_and(|text| text != only) {
            let detail = format!("{words} {only} in the context of inline volumes");
            causes.forbidden(&format!("{path}.{field}"), &detail);
        }
    }
}

fn modes(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let (modes, path) = (spec.list("accessModes"), format!("{path}.accessModes"));
    if modes.is_empty() {
        causes.required(&path, "");
    }
    if checks::mixes_once_per_pod(modes) {
        causes.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// How many amounts of a capacity that is none a complaint shows.
const SHOWN_MAX: usize = 32;

fn capacity(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.capacity");
    let amounts = spec.at("capacity").as_object();
    if amounts.is_none_or(serde_json::Map::is_empty) {
        causes.required(&path, "");
        let is = if amounts.is_none() { "(nil)" } else { "{}" };
        let message =
            format!("Unsupported value: core.ResourceList{is}: supported values: \"storage\"");
        causes.complain("FieldValueNotSupported", &path, message);
    } else if amounts.is_some_and(|map| map.len() > 1 || !map.contains_key("storage")) {
        let amount = |(name, amount): (&String, &Value)| {
            let amount = api::Quantity::from_tree(amount).map(|q| q.go_syntax());
            format!("{name:?}:{}", amount.unwrap_or_default())
        };
        let all: Vec<String> = amounts.into_iter().flatten().take(SHOWN_MAX).map(amount).collect();
        let all = all.join(", ");
        let message =
            format!("Unsupported value: core.ResourceList{{{all}}}: supported values: \"storage\"");
        causes.complain("FieldValueNotSupported", &path, message);
    }
    for (name, amount) in amounts.into_iter().flatten() {
        let at = format!("{path}[{name}]");
        let quantity = api::Quantity::from_tree(amount);
        if quantity.is_some_and(api::Quantity::is_negative) {
            causes.invalid(&at, amount, "must be a valid resource quantity");
        }
        if quantity.is_some_and(|q| q.is_negative() || q.is_zero()) {
            causes.invalid(&at, amount, "must be greater than zero");
        }
    }
}
