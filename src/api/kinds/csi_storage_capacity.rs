//! CSIStorageCapacity: how much room a storage class has for some nodes.

use serde_json::Value;

use crate::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::Lens;
use crate::names;
use crate::quantity::Quantity;
use crate::status::Cause;

pub static CSI_STORAGE_CAPACITY: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        columns: &[Column::CREATED_AT],
        generation: false,
        validate,
        on_update: "CVU",
        doc: "How much room a storage class has for some nodes.",
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    crate::validate::label_selector(new.at("nodeTopology"), "nodeTopology", causes);
    causes.check_name("storageClassName", new.str("storageClassName"), names::subdomain);
    if Quantity::from_tree(new.at("capacity")).is_some_and(Quantity::is_negative) {
        causes.invalid("capacity", new.at("capacity"), NON_NEGATIVE);
    }
    for field in ["nodeTopology", "storageClassName"] {
        if old.is_some_and(|old| old.at(field) != new.at(field)) {
            causes.invalid(field, new.at(field), IMMUTABLE);
        }
    }
}

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
