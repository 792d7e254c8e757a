//! Deployment: keeps a number of pods of one template running, replacing them gradually when the template changes.

use api::complain::{Complain, NON_NEGATIVE};
use api::kinds::DEPLOYMENT;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use super::workload;
use crate::column::Column;
use crate::keep;
use crate::print::{CONTAINERS, IMAGES, SELECTOR};

pub(super) static RULES: Rules = Rules {
    kind: &DEPLOYMENT,
    validate,
    validate_status,
    columns: COLUMNS,
    default,
    prepare_status: |new, old| keep::keep(new, old, "metadata.labels"),
    ..Rules::BASE
};

fn default(tree: &mut Value) {
    if tree.str("spec.strategy.type") == "RollingUpdate" {
        for bound in ["maxUnavailable", "maxSurge"] {
            tree.set_default(&format!("spec.strategy.rollingUpdate.{bound}"), "25%");
        }
    }
    crate::pod::defaults::template(tree);
}

const COLUMNS: &[Column<'static>] = &[
    Column::with("Ready", |tree, _| ready(tree)),
    Column::number_as_text("Up-to-date", "status.updatedReplicas"),
    Column::number_as_text("Available", "status.availableReplicas"),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn ready(tree: &Value) -> Value {
    let count = |path: &str| tree.int(path).unwrap_or(0);
    format!("{}/{}", count("status.readyReplicas"), count("spec.replicas")).into()
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "collisionCount",
    ];
    workload::not_negative_counts(new, &fields, causes);
    workload::bounded_counts(new, &fields[2..5], "readyReplicas", causes);
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    workload::selected_template(spec, "deployment", causes);
    workload::not_negative(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], causes);
    if let Some(deadline) = spec.int("progressDeadlineSeconds") {
        if deadline < 0 {
            causes.invalid("spec.progressDeadlineSeconds", &deadline.into(), NON_NEGATIVE);
        }
        if deadline <= spec.int("minReadySeconds").unwrap_or(0) {
            causes.invalid(
                "spec.progressDeadlineSeconds",
                &deadline.into(),
                "must be greater than minReadySeconds",
            );
        }
    }
    match spec.str("strategy.type") {
        "Recreate" if spec.has("strategy.rollingUpdate") => causes.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        "RollingUpdate" => {
            workload::rolling_bounds(
                spec.at("strategy.rollingUpdate"),
                "spec.strategy.rollingUpdate",
                causes,
            );
            if workload::stands_still(spec.at("strategy.rollingUpdate")) {
                causes.invalid_bound(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    spec.at("strategy.rollingUpdate.maxUnavailable"),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
        }
        "Recreate" => {}
        _ => {
            let strategy = spec.at("strategy");
            let shown = workload::update_strategy(
                strategy,
                "DeploymentStrategy",
                "RollingUpdateDeployment",
            );
            let message = format!(
                "Unsupported value: {shown}: supported values: \"Recreate\", \"RollingUpdate\""
            );
            causes.complain("FieldValueNotSupported", "spec.strategy", message);
        }
    }
}
