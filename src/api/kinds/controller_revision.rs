//! ControllerRevision: a past state of an object, for going back to it.

use serde_json::Value;

use crate::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::Lens;
use crate::status::Cause;

pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    name: "ControllerRevision",
    plural: "controllerrevisions",
    declared: &Declared {
        version: "v1",
        generation: false,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        doc: "A past state of an object, for going back to it.",
        on_update: "UCV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Controller", |tree, _| controller(tree).into()),
    Column::number_as_text("Revision", "revision"),
    Column::AGE,
];

fn controller(tree: &Value) -> String {
    let owner = tree.list("metadata.ownerReferences").iter().find(|owner| owner.flag("controller"));
    let Some(owner) = owner else { return "<none>".into() };
    let group = owner
        .str("apiVersion")
        .rsplit_once('/')
        .map_or(String::new(), |(group, _)| format!(".{group}"));
    format!("{}{group}/{}", owner.str("kind").to_ascii_lowercase(), owner.str("name"))
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    match new.at("data") {
        _ if old.is_some() => {}
        Value::Null => causes.required("data", "data is mandatory"),
        Value::Object(_) => {}
        _ => causes.required("data", "data must be a valid JSON object"),
    }
    if let Some(revision) = new.int("revision").filter(|revision| *revision < 0) {
        causes.invalid("revision", &revision.into(), NON_NEGATIVE);
    }
    if old.is_some_and(|old| old.at("data") != new.at("data")) {
        causes.invalid("data", new.at("data"), IMMUTABLE);
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
ControllerRevision kind
   1 metadata  ObjectMeta
   2 data      raw?
   3 revision* i64
";
