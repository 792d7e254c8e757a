//! PersistentVolumeClaim: a request for storage, bound to a volume that fits.

use crate::kind::*;

pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    name: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    declared: &Declared {
        version: "v1",
        short: &["pvc"],
        generation: false,
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "A request for storage, bound to a volume that fits.",
        answers_deleted: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
