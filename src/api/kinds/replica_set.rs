//! ReplicaSet: keeps a number of pods of one template running.

use serde_json::Value;

use super::workload;
use crate::kind::*;
use crate::lens::Lens;
use crate::print::{CONTAINERS, IMAGES, SELECTOR};
use crate::status::Cause;

pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    name: "ReplicaSet",
    plural: "replicasets",
    declared: &Declared {
        version: "v1",
        short: &["rs"],
        categories: &["all"],
        subresources: &[
            Sub::Status,
            Sub::Scale {
                spec: "spec.replicas",
                status: "status.replicas",
                selector: "spec.selector",
            },
        ],
        schema: SCHEMA,
        validate,
        validate_status: workload::replica_counts,
        columns: COLUMNS,
        default: crate::pod::defaults::template,
        doc: "Keeps a number of pods of one template running.",
        on_update: "CSUV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::number("Desired", "spec.replicas"),
    Column::number("Current", "status.replicas"),
    Column::number("Ready", "status.readyReplicas"),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    workload::selected_template(spec, "deployment", causes);
    workload::not_negative(spec, &["replicas", "minReadySeconds"], causes);
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
ReplicaSet kind
   1 metadata ObjectMeta
   2 spec     ReplicaSetSpec
   3 status   ReplicaSetStatus
ReplicaSetSpec
   1 replicas        i32?            = 1 -- How many pods to run.
   2 selector*       LabelSelector?  immutable -- Selects the pods; must match the template's labels and cannot change.
   3 template        PodTemplateSpec -- What the pods are to be.
   4 minReadySeconds i32
ReplicaSetStatus
   1 replicas~            i32
   2 fullyLabeledReplicas i32
   3 observedGeneration   i64
   4 readyReplicas        i32
   5 availableReplicas    i32
   6 conditions           []ReplicaSetCondition map(type) merge(type)
ReplicaSetCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
