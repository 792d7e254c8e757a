//! CSIStorageCapacity: how much room a storage class has for some nodes.

use crate::kind::*;

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        generation: false,
        doc: "How much room a storage class has for some nodes.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.storage.v1
CSIStorageCapacity kind
   1 metadata          ObjectMeta
   2 nodeTopology      LabelSelector? -- The nodes that it is about.
   3 storageClassName~ str -- The class that it is about.
   4 capacity          quantity? -- How much room there is in all.
   5 maximumVolumeSize quantity? -- The largest volume that there is room for.
";
