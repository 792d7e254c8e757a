//! ControllerRevision: a past state of an object, for going back to it.

use api::complain::{Complain, IMMUTABLE, NON_NEGATIVE};
use api::kinds::CONTROLLER_REVISION;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &CONTROLLER_REVISION,
    validate,
    columns: COLUMNS,
    on_update: "UCV",
    ..Rules::BASE
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
