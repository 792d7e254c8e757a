//! Namespace: a scope for names; most objects live in one.

use serde_json::{Value, json};

use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::names;
use crate::status::Cause;

pub static NAMESPACE: Kind = Kind {
    name: "Namespace",
    plural: "namespaces",
    scope: Scope::Cluster,
    declared: &Declared {
        version: "v1",
        short: &["ns"],
        generation: false,
        name_rule: NameRule::Label,
        subresources: &[Sub::Status, Sub::Named("finalize")],
        fields: &["status.phase"],
        schema: SCHEMA,
        columns: COLUMNS,
        default,
        prepare,
        validate,
        doc: "A scope for names; most objects live in one.",
        deletes_collections: false,
        on_update: "CVU",
        ..Declared::BASE
    },
    ..Kind::BASE
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

const COLUMNS: &[Column<'static>] = &[Column::path("Status", "status.phase"), Column::AGE];

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
NamespaceSpec
   1 finalizers []str
NamespaceStatus
   1 phase      str                  = Active enum Active|Terminating
   2 conditions []NamespaceCondition map(type) merge(type)
NamespaceCondition
   1 type~              str
   2 status~            str
   4 lastTransitionTime time
   5 reason             str
   6 message            str
Namespace kind
   1 metadata ObjectMeta
   2 spec     NamespaceSpec
   3 status   NamespaceStatus
";
