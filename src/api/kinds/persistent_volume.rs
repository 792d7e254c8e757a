//! PersistentVolume: storage in the cluster that outlives pods.

use serde_json::{Value, json};

use crate::complain::{Complain, IMMUTABLE};
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{access_modes, storage_class};
use crate::status::Cause;
use crate::validate;

pub static PERSISTENT_VOLUME: Kind = Kind {
    name: "PersistentVolume",
    plural: "persistentvolumes",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["pv"],
        generation: false,
        subresources: &[Sub::Status],
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        prepare,
        doc: "Storage in the cluster that outlives pods.",
        answers_deleted: true,
        on_update: "CSCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new.set("status", json!({"phase": "Pending"}));
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("Capacity", "spec.capacity.storage"),
    Column::with("Access Modes", |tree, _| access_modes(tree.list("spec.accessModes")).into()),
    Column::path("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"),
    Column::with("Status", |tree, _| phase(tree)),
    Column::with("Claim", |tree, _| claim(tree).into()),
    Column::with("StorageClass", |tree, _| storage_class(tree).into()),
    Column::with("VolumeAttributesClass", |tree, _| {
        or_unset(tree.str("spec.volumeAttributesClassName"))
    }),
    Column::path("Reason", "status.reason"),
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

fn claim(tree: &Value) -> String {
    match tree.at("spec.claimRef") {
        Value::Null => String::new(),
        claim => format!("{}/{}", claim.str("namespace"), claim.str("name")),
    }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    if spec.list("accessModes").is_empty() {
        causes.required("spec.accessModes", "");
    }
    if spec.list("accessModes").len() > 1
        && spec.list("accessModes").iter().any(|mode| mode == "ReadWriteOncePod")
    {
        causes
            .forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes");
    }
    match spec.at("capacity").as_object().map_or(0, serde_json::Map::len) {
        0 => {
            causes.required("spec.capacity", "");
            let message = "Unsupported value: core.ResourceList{}: supported values: \"storage\"";
            causes.complain("FieldValueNotSupported", "spec.capacity", message.into());
        }
        1 if spec.has("capacity.storage") => {}
        _ => causes.not_supported("spec.capacity", "", &["storage"]),
    }
    if crate::Quantity::from_tree(spec.at("capacity.storage"))
        .is_some_and(|q| q.is_negative() || q.is_zero())
    {
        causes.invalid(
            "spec.capacity[storage]",
            spec.at("capacity.storage"),
            "must be greater than zero",
        );
    }
    let sources: Vec<&String> = spec
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .filter(|key| {
            let root =
                crate::schema::schema().qualified("io.k8s.api.core.v1.PersistentVolumeSource");
            root.is_some_and(|id| crate::schema::schema().by_json(id, key).is_some())
        })
        .collect();
    if sources.is_empty() {
        causes.required("spec", "must specify a volume type");
    }
    for extra in sources.iter().skip(1) {
        causes.forbidden(&format!("spec.{extra}"), "may not specify more than 1 volume type");
    }
    if spec.has("hostPath") {
        crate::pod::validate::host_path(spec.at("hostPath"), "spec.hostPath", causes);
        if spec.str("hostPath.path") == "/"
            && spec.str("persistentVolumeReclaimPolicy") == "Recycle"
        {
            causes.forbidden(
                "spec.persistentVolumeReclaimPolicy",
                "may not be 'recycle' for a hostPath mount of '/'",
            );
        }
    }
    if spec.has("local") && !spec.has("nodeAffinity") {
        causes.required("spec.nodeAffinity", "Local volume requires node affinity");
    }
    validate::node_selector(spec.at("nodeAffinity.required"), "spec.nodeAffinity.required", causes);
    let class = spec.str("storageClassName");
    if !class.is_empty() {
        causes.check_name("spec.storageClassName", class, crate::names::subdomain);
    }
    let Some(old) = old.map(|old| old.at("spec")) else { return };
    let changed = |key: &String| spec.at(key) != old.at(key);
    if sources.iter().any(|key| changed(key)) {
        causes.forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    if spec.at("volumeMode") != old.at("volumeMode") {
        causes.invalid("volumeMode", spec.at("volumeMode"), IMMUTABLE);
    }
    if old.has("nodeAffinity") && spec.at("nodeAffinity") != old.at("nodeAffinity") {
        causes.invalid("spec.nodeAffinity", spec.at("nodeAffinity"), IMMUTABLE);
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
PersistentVolume kind
   1 metadata ObjectMeta
   2 spec     PersistentVolumeSpec
   3 status   PersistentVolumeStatus
PersistentVolumeSpec
   1 capacity                     {}quantity -- How much it holds.
   2 inline                       PersistentVolumeSource
   3 accessModes                  []str                  in ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod -- How it can be mounted.
   4 claimRef                     ObjectReference? -- The claim it is bound to.
   5 persistentVolumeReclaimPolicy str                    in Recycle|Delete|Retain = Retain -- What becomes of it when its claim goes.
   6 storageClassName             str -- The class it belongs to.
   7 mountOptions                 []str
   8 volumeMode                   str?                   in Block|Filesystem = Filesystem
   9 nodeAffinity                 VolumeNodeAffinity? -- The nodes that can reach it.
  10 volumeAttributesClassName    str?
VolumeNodeAffinity
   1 required NodeSelector?
PersistentVolumeStatus
   1 phase                   str   = Pending
   2 message                 str
   3 reason                  str
   4 lastPhaseTransitionTime time?
SecretReference atomic
   1 name      str
   2 namespace str
";
