//! PersistentVolume.

use serde_json::{Value, json};

use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{access_modes, storage_class};

pub static PERSISTENT_VOLUME: Kind = Kind {
    version: "v1",
    name: "PersistentVolume",
    plural: "persistentvolumes",
    short: &["pv"],
    scope: Scope::Cluster,
    generation: false,
    subresources: &[Sub::Status],
    schema: SCHEMA,
    columns: COLUMNS,
    prepare,
    ..Kind::BASE
};

fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        new.set("status", json!({"phase": "Pending"}));
    }
}

const COLUMNS: &[Column] = &[
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
PersistentVolume kind
   1 metadata ObjectMeta
   2 spec     PersistentVolumeSpec
   3 status   PersistentVolumeStatus
PersistentVolumeSpec
   1 capacity                     {}quantity
   2 inline                       PersistentVolumeSource
   3 accessModes                  []str                  in ReadWriteOnce|ReadOnlyMany|ReadWriteMany|ReadWriteOncePod
   4 claimRef                     ObjectReference?
   5 persistentVolumeReclaimPolicy str                    in Recycle|Delete|Retain = Retain
   6 storageClassName             str
   7 mountOptions                 []str
   8 volumeMode                   str?                   in Block|Filesystem = Filesystem
   9 nodeAffinity                 VolumeNodeAffinity?
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
