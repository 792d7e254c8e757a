//! CSINode: the storage drivers that run on a node.

use api::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use api::kinds::CSI_NODE;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::checks;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &CSI_NODE,
    columns: &[
        Column::with("Drivers", |tree, _| tree.list("spec.drivers").len().into()).integer(),
        Column::AGE,
    ],
    validate,
    on_update: "CCV",
    ..Rules::BASE
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
    let mut seen = OrdSet::new();
    for (idx, driver) in drivers.iter().enumerate() {
        let path = format!("spec.drivers[{idx}]");
        let (name, id) = (driver.str("name"), driver.str("nodeID"));
        checks::driver_name(name, &format!("{path}.name"), causes);
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
        let mut keys = OrdSet::new();
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
