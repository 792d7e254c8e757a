//! ReplicaSet: keeps a number of pods of one template running.

use api::kinds::REPLICA_SET;
use api::lens::Lens;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use super::workload;
use crate::column::Column;
use crate::print::{CONTAINERS, IMAGES, SELECTOR};

pub(super) static RULES: Rules = Rules {
    kind: &REPLICA_SET,
    validate,
    validate_status: workload::replica_counts,
    columns: COLUMNS,
    default: crate::pod::defaults::template,
    on_update: "CSUV",
    ..Rules::BASE
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
