//! CSINode: the storage drivers that run on a node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::csi_driver;
use crate::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::Lens;
use crate::names;
use crate::status::Cause;

pub static CSI_NODE: Kind = Kind {
    group: "storage.k8s.io",
    name: "CSINode",
    plural: "csinodes",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        schema: SCHEMA,
        columns: &[
            Column::with("Drivers", |tree, _| tree.list("spec.drivers").len().into()).integer(),
            Column::AGE,
        ],
        generation: false,
        validate,
        on_update: "CCV",
        doc: "The storage drivers that run on a node.",
        answers_deleted: true,
        conditional_updates: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let drivers = new.list("spec.drivers");
    // Upstream checks updates twice.
    for _ in 0..=usize::from(old.is_some()) {
        self::drivers(drivers, causes);
    }
    for before in old.map_or(&[][..], |old| old.list("spec.drivers")) {
        let same = |driver: &&Value| driver.str("name") == before.str("name");
        for driver in drivers.iter().filter(same).filter(|driver| *driver != before) {
            causes.invalid("CSINodeDriver", driver, IMMUTABLE);
        }
    }
}

fn drivers(drivers: &[Value], causes: &mut Vec<Cause>) {
    const NODE_ID_MAX: usize = 256;
    let mut seen = BTreeSet::new();
    for (idx, driver) in drivers.iter().enumerate() {
        let path = format!("spec.drivers[{idx}]");
        let (name, id) = (driver.str("name"), driver.str("nodeID"));
        csi_driver::name(name, &format!("{path}.name"), causes);
        let path_of_id = format!("{path}.nodeID");
        if id.is_empty() {
            causes.required(&path_of_id, "");
        }
        if id.len() > NODE_ID_MAX {
            let detail = format!("must be {NODE_ID_MAX} characters or less");
            causes.invalid(&path_of_id, &id.into(), &detail);
        }
        if let Some(count) = driver.int("allocatable.count").filter(|count| *count < 0) {
            causes.invalid(&format!("{path}.allocatable.count"), &count.into(), NON_NEGATIVE);
        }
        if !seen.insert(name) {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
        let mut keys = BTreeSet::new();
        for key in driver.list("topologyKeys").iter().filter_map(Value::as_str) {
            if key.is_empty() {
                causes.required(&path, "");
            }
            if !keys.insert(key) {
                causes.duplicate(&path, &key.into());
            }
            causes.check_name(&path, key, names::qualified);
        }
    }
}

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
