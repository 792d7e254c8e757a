//! CSIDriver: what Kubernetes must know of a storage driver.

use crate::kind::*;

pub static CSI_DRIVER: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSIDriver",
    plural: "csidrivers",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        generation: false,
        doc: "What Kubernetes must know of a storage driver.",
        answers_deleted: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.storage.v1
CSIDriver kind
   1 metadata ObjectMeta
   2 spec~    CSIDriverSpec
CSIDriverSpec
   1 attachRequired       bool? = true -- Whether volumes must be attached to a node before they are mounted.
   2 podInfoOnMount       bool? = false -- Whether the driver is told for which pod it mounts.
   3 volumeLifecycleModes []str set -- Persistent, Ephemeral or both.
   4 storageCapacity      bool? = false -- Whether the driver tells where there is room.
   5 fsGroupPolicy        str?  = ReadWriteOnceWithFSType of File|None|ReadWriteOnceWithFSType -- When files are given to the pod's group.
   6 tokenRequests        []TokenRequest
   7 requiresRepublish    bool? = false
   8 seLinuxMount         bool? = false
TokenRequest
   1 audience~         str
   2 expirationSeconds i64?
";
