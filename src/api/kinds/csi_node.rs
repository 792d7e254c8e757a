//! CSINode: the storage drivers that run on a node.

use crate::kind::*;

pub static CSI_NODE: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSINode",
    plural: "csinodes",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        generation: false,
        doc: "The storage drivers that run on a node.",
        answers_deleted: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.storage.v1
CSINode kind
   1 metadata ObjectMeta
   2 spec~    CSINodeSpec
CSINodeSpec
   1 drivers~ []CSINodeDriver map(name) merge(name) -- The drivers, with what each calls the node.
CSINodeDriver
   1 name~         str
   2 nodeID~       str
   3 topologyKeys! []str
   4 allocatable   VolumeNodeResources?
VolumeNodeResources
   1 count i32?
";
