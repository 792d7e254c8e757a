//! ConfigMap: configuration for pods to read.

use api::complain::Complain;
use api::kinds::CONFIG_MAP;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;
use crate::print::count;

pub(super) static RULES: Rules =
    Rules { kind: &CONFIG_MAP, validate, columns: COLUMNS, on_update: "UCV", ..Rules::BASE };

const COLUMNS: &[Column<'static>] = &[
    Column::with("Data", |tree, _| (count(tree, "data") + count(tree, "binaryData")).into()),
    Column::AGE,
];

/// The keys' rules and bounds of config maps and secrets.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let mut n_bytes = 0;
    for field in ["data", "binaryData"] {
        n_bytes += data(new, field, causes);
    }
    for key in new.at("binaryData").as_object().into_iter().flat_map(|map| map.keys()) {
        if new.at("data").get(key).is_some() {
            let detail = format!("duplicate of key present in {}", "data");
            causes.invalid(&format!("binaryData[{key}]"), &key.as_str().into(), &detail);
        }
    }
    if n_bytes > DATA_BYTES_MAX {
        causes.too_long("", DATA_BYTES_MAX);
    }
    keep_immutable(new, old, &["data", "binaryData"], causes);
}

/// Checks the keys of one map and returns the bytes of keys and values.
pub(super) fn data(new: &Value, field: &str, causes: &mut Vec<Cause>) -> usize {
    let mut n_bytes = 0;
    for (key, value) in new.pairs(field) {
        causes.check_name(&format!("{field}[{key}]"), key, names::config_key);
        let text = field == "data" && new.str("kind") != "Secret";
        n_bytes += if text { value.len() } else { value.len() / 4 * 3 };
    }
    n_bytes
}

/// Once `immutable` is set, it and the data stay.
pub(super) fn keep_immutable(
    new: &Value,
    old: Option<&Value>,
    fields: &[&str],
    causes: &mut Vec<Cause>,
) {
    let Some(old) = old.filter(|old| old.flag("immutable")) else { return };
    const WHY: &str = "field is immutable when `immutable` is set";
    if !new.flag("immutable") {
        causes.forbidden("immutable", WHY);
    }
    for field in fields {
        if new.at(field) != old.at(field) {
            causes.forbidden(field, WHY);
        }
    }
}
