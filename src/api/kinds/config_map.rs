//! ConfigMap: configuration for pods to read.

use serde_json::Value;

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::Lens;
use crate::names;
use crate::print::count;
use crate::status::Cause;

pub static CONFIG_MAP: Kind = Kind {
    name: "ConfigMap",
    plural: "configmaps",
    declared: &Declared {
        version: "v1",
        short: &["cm"],
        generation: false,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        doc: "Configuration for pods to read.",
        on_update: "UCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ConfigMap kind
   1 metadata   ObjectMeta
   2 data       {}str -- The entries, as text.
   3 binaryData {}bytes -- Entries that are not text, in base64.
   4 immutable  bool? -- The entries cannot change any more.
";
