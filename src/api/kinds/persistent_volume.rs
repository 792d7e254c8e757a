//! PersistentVolume: storage in the cluster that outlives pods.

use crate::kind::*;

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
        doc: "Storage in the cluster that outlives pods.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
   3 accessModes                  []str                  in ReadOnlyMany|ReadWriteMany|ReadWriteOnce|ReadWriteOncePod -- How it can be mounted.
   4 claimRef                     ObjectReference? granular -- The claim it is bound to.
   5 persistentVolumeReclaimPolicy str                    in Delete|Recycle|Retain -- What becomes of it when its claim goes.
   6 storageClassName             str -- The class it belongs to.
   7 mountOptions                 []str
   8 volumeMode                   str?                   in Block|Filesystem
   9 nodeAffinity                 VolumeNodeAffinity? -- The nodes that can reach it.
  10 volumeAttributesClassName    str?
VolumeNodeAffinity
   1 required NodeSelector?
PersistentVolumeStatus
   1 phase                   str   = Pending enum Available|Bound|Failed|Pending|Released
   2 message                 str
   3 reason                  str
   4 lastPhaseTransitionTime time?
SecretReference atomic
   1 name      str
   2 namespace str
";
