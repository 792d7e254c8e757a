//! Namespace: a scope for names; most objects live in one.

use api::complain::Complain;
use api::kinds::NAMESPACE;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::Cause;
use serde_json::{Value, json};

use super::{NameRule, Rules};
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &NAMESPACE,
    name_rule: NameRule::Label,
    columns: COLUMNS,
    default,
    prepare,
    validate,
    validate_status,
    on_update: "CVU",
    ..Rules::BASE
};

fn default(tree: &mut Value) {
    // A name made from `generateName` comes later; `prepare` labels it then.
    let name = tree.str("metadata.name").to_owned();
    if !name.is_empty() {
        tree.map_mut("metadata.labels").insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

/// New namespaces are active and end only through the namespace controller.
fn prepare(new: &mut Value, old: Option<&Value>) {
    default(new);
    match old {
        None => {
            new.set("status", json!({"phase": "Active"}));
            let finalizers = new.list_mut("spec.finalizers");
            if !finalizers.iter().any(|name| name == "kubernetes") {
                finalizers.push("kubernetes".into());
            }
        }
        Some(old) => new.set("spec", old.at("spec").clone()),
    }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let path = "spec.finalizers";
    for name in new.list(path).iter().filter_map(Value::as_str) {
        causes.check_name(path, name, names::qualified);
        let is_standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
        if !name.contains('/') && !is_standard {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.invalid(path, &name.into(), detail);
        }
    }
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    let (wanted, when) = match new.has("metadata.deletionTimestamp") {
        false => ("Active", "empty"),
        true => ("Terminating", "not empty"),
    };
    if new.str("status.phase") != wanted {
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        causes.invalid("status.Phase", &new.str("status.phase").into(), &detail);
    }
}

const COLUMNS: &[Column<'static>] = &[Column::path("Status", "status.phase"), Column::AGE];
