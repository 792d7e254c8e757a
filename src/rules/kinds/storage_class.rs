//! StorageClass: a way to provide volumes.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::STORAGE_CLASS;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules =
    Rules { kind: &STORAGE_CLASS, validate, columns: COLUMNS, on_update: "CVU", ..Rules::BASE };

const COLUMNS: &[Column<'static>] = &[
    Column { format: "name", ..Column::with("Name", |tree, _| name(tree).into()) },
    Column::path("Provisioner", "provisioner"),
    Column::path("ReclaimPolicy", "reclaimPolicy"),
    Column::path("VolumeBindingMode", "volumeBindingMode"),
    Column::with("AllowVolumeExpansion", |tree, _| tree.flag("allowVolumeExpansion").into()),
    Column::AGE,
];

/// The class that claims without one get is marked.
fn name(tree: &Value) -> String {
    let marks = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ];
    let default = marks.iter().any(|mark| tree.entry("metadata.annotations", mark) == Some("true"));
    format!("{}{}", tree.str("metadata.name"), if default { " (default)" } else { "" })
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let provisioner = new.str("provisioner");
    if !provisioner.is_empty() {
        causes.check_name("provisioner", &provisioner.to_ascii_lowercase(), api::names::qualified);
    }
    if !matches!(new.str("reclaimPolicy"), "" | "Delete" | "Retain") {
        causes.not_supported("reclaimPolicy", new.str("reclaimPolicy"), &["Delete", "Retain"]);
    }
    topologies(new, causes);
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.at(field) != old.at(field) {
            causes.forbidden(field, &format!("updates to {field} are forbidden."));
        }
    }
    if new.at("volumeBindingMode") != old.at("volumeBindingMode") {
        causes.invalid("volumeBindingMode", new.at("volumeBindingMode"), IMMUTABLE);
    }
}

/// Which nodes a volume may be made for: each key once a term, with values.
fn topologies(new: &Value, causes: &mut Vec<Cause>) {
    let mut terms = stdx::OrdSet::new();
    for (idx, term) in new.list("allowedTopologies").iter().enumerate() {
        let path = format!("allowedTopologies[{idx}].matchLabelExpressions");
        let mut whole = stdx::OrdMap::new();
        for (idx, expression) in term.list("matchLabelExpressions").iter().enumerate() {
            let path = format!("{path}[{idx}]");
            let (key, values) = (expression.str("key"), expression.list("values"));
            if values.is_empty() {
                causes.required(&format!("{path}.values"), "");
            }
            let mut seen = stdx::OrdSet::new();
            for (idx, value) in values.iter().filter_map(Value::as_str).enumerate() {
                if !seen.insert(value) {
                    causes.duplicate(&format!("{path}.values[{idx}]"), &value.into());
                }
            }
            causes.check_name(&format!("{path}.key"), key, api::names::qualified);
            if whole.insert(key, seen).is_some() {
                causes.duplicate(&format!("{path}.key"), &key.into());
            }
        }
        // Upstream takes an empty term for one it has seen.
        if whole.is_empty() || !terms.insert(whole) {
            causes.duplicate(&path, &"".into());
        }
    }
}
