//! VolumeAttachment: a volume that is to be attached to a node.

use crate::kind::*;

pub static VOLUME_ATTACHMENT: Kind = Kind {
    group: "storage.k8s.io",
    name: "VolumeAttachment",
    plural: "volumeattachments",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        subresources: &[Sub::Status],
        schema: SCHEMA,
        generation: false,
        doc: "A volume that is to be attached to a node.",
        answers_deleted: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.storage.v1
VolumeAttachment kind
   1 metadata ObjectMeta
   2 spec~    VolumeAttachmentSpec
   3 status   VolumeAttachmentStatus
VolumeAttachmentSpec
   1 attacher~ str -- The driver that attaches it.
   2 source~   VolumeAttachmentSource -- The volume.
   3 nodeName~ str -- The node.
VolumeAttachmentSource
   1 persistentVolumeName str?
   2 inlineVolumeSpec     PersistentVolumeSpec?
VolumeAttachmentStatus
   1 attached~          bool
   2 attachmentMetadata {}str
   3 attachError        VolumeError?
   4 detachError        VolumeError?
VolumeError
   1 time    time
   2 message str
";
