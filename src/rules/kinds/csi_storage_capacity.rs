//! CSIStorageCapacity: how much room a storage class has for some nodes.

use api::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use api::kinds::CSI_STORAGE_CAPACITY;
use api::lens::Lens;
use api::names;
use api::quantity::Quantity;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &CSI_STORAGE_CAPACITY,
    columns: &[Column::CREATED_AT],
    validate,
    on_update: "CVU",
    ..Rules::BASE
};

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    crate::checks::label_selector(new.at("nodeTopology"), "nodeTopology", causes);
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
