//! ReplicationController: keeps a number of pods of one template running, as ReplicaSets do, with a plain map as selector.

use serde_json::{Map, Value};

use super::workload;
use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{CONTAINERS, IMAGES, labels};
use crate::selector::Selector;
use crate::status::Cause;

pub static REPLICATION_CONTROLLER: Kind = Kind {
    name: "ReplicationController",
    plural: "replicationcontrollers",
    storage: "controllers",
    declared: &Declared {
        version: "v1",
        short: &["rc"],
        categories: &["all"],
        subresources: &[
            Sub::Status,
            Sub::Scale {
                spec: "spec.replicas",
                status: "status.replicas",
                selector: "spec.selector",
            },
        ],
        fields: &["status.replicas"],
        schema: SCHEMA,
        validate,
        validate_status: workload::replica_counts,
        columns: COLUMNS,
        default,
        doc: "Keeps a number of pods of one template running.",
        orphans_dependents: true,
        on_update: "CSUV",
        ..Declared::BASE
    },
    ..Kind::BASE
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ReplicationController kind
   1 metadata ObjectMeta
   2 spec     ReplicationControllerSpec
   3 status   ReplicationControllerStatus
ReplicationControllerSpec
   1 replicas        i32?             = 1 -- How many pods to run.
   2 selector        {}str            atomic -- Labels that the pods have; those of the template where nothing is said.
   3 template        PodTemplateSpec? -- What the pods are to be.
   4 minReadySeconds i32
ReplicationControllerStatus
   1 replicas~            i32
   2 fullyLabeledReplicas i32
   3 observedGeneration   i64
   4 readyReplicas        i32
   5 availableReplicas    i32
   6 conditions           []ReplicationControllerCondition map(type) merge(type)
ReplicationControllerCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
