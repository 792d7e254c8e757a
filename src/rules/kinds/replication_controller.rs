//! ReplicationController: keeps a number of pods of one template running, as ReplicaSets do, with a plain map as selector.

use api::complain::Complain;
use api::kinds::REPLICATION_CONTROLLER;
use api::lens::{Lens, LensMut};
use api::selector::Selector;
use api::status::Cause;
use serde_json::{Map, Value};

use super::Rules;
use super::workload;
use crate::column::Column;
use crate::print::{CONTAINERS, IMAGES, labels};

pub(super) static RULES: Rules = Rules {
    kind: &REPLICATION_CONTROLLER,
    validate,
    validate_status: workload::replica_counts,
    columns: COLUMNS,
    default,
    on_update: "CSUV",
    ..Rules::BASE
};

/// The template's labels are the selector and the labels of what brings none of its own.
fn default(tree: &mut Value) {
    let labels = tree.at("spec.template.metadata.labels").clone();
    if labels.is_object() {
        for path in ["spec.selector", "metadata.labels"] {
            if tree.at(path).as_object().is_none_or(Map::is_empty) {
                tree.set(path, labels.clone());
            }
        }
    }
    crate::pod::defaults::template(tree);
}

const COLUMNS: &[Column<'static>] = &[
    Column::number("Desired", "spec.replicas"),
    Column::number("Current", "status.replicas"),
    Column::number("Ready", "status.readyReplicas"),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    Column::with("Selector", |tree, _| labels(tree.at("spec.selector")).into()).wide(),
];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    workload::not_negative(spec, &["replicas", "minReadySeconds"], causes);
    let selector = Selector::from_map(spec.at("selector"));
    if selector.is_everything() {
        causes.required("spec.selector", "");
    }
    if !spec.has("template") {
        causes.required("spec.template", "");
        return;
    }
    let labels = spec.at("template.metadata.labels");
    if !selector.matches_map(labels) {
        let detail = "`selector` does not match template `labels`";
        causes.invalid_labels("spec.template.metadata.labels", labels, detail);
    }
    workload::lasting_template(spec, "ReplicationController", causes);
}
