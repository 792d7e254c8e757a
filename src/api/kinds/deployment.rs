//! Deployment: keeps a number of pods of one template running, replacing them gradually when the template changes.

use serde_json::Value;

use super::workload;
use crate::complain::{Complain, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{CONTAINERS, IMAGES, SELECTOR};
use crate::status::Cause;

pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    name: "Deployment",
    plural: "deployments",
    declared: &Declared {
        version: "v1",
        short: &["deploy"],
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
        columns: COLUMNS,
        default,
        doc: "Keeps a number of pods of one template running, replacing them gradually when the template changes.",
        prepare_status: |new, old| crate::strategy::keep(new, old, "metadata.labels"),
        ..Declared::BASE
    },
    ..Kind::BASE
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
Deployment kind
   1 metadata ObjectMeta
   2 spec     DeploymentSpec
   3 status   DeploymentStatus
DeploymentSpec -- What a deployment is to be.
   1 replicas                i32?               = 1 -- How many pods to run.
   2 selector*               LabelSelector?     immutable -- Selects the deployment's pods; must match the template's labels and cannot change.
   3 template*               PodTemplateSpec -- What the pods are to be.
   4 strategy                DeploymentStrategy retain -- How old pods are replaced by new ones.
   5 minReadySeconds         i32 -- How long a new pod must be ready to count as available.
   6 revisionHistoryLimit    i32?               = 10 -- How many old replica sets to keep for going back.
   7 paused                  bool -- Changes of the template wait while this is set.
   9 progressDeadlineSeconds i32?               = 600 -- How long a rollout may stand still before it counts as failed.
DeploymentStrategy -- How old pods are replaced by new ones.
   1 type          str                      enum Recreate|RollingUpdate = RollingUpdate -- RollingUpdate replaces pods step by step, Recreate ends all old ones first.
   2 rollingUpdate RollingUpdateDeployment? -- The steps of a rolling update.
RollingUpdateDeployment
   1 maxUnavailable intorstr? -- How many pods may be missing meanwhile, as number or percentage.
   2 maxSurge       intorstr? -- How many pods there may be too many meanwhile, as number or percentage.
DeploymentStatus
   1 observedGeneration  i64
   2 replicas            i32 -- Pods there are.
   3 updatedReplicas     i32 -- Pods of the current template.
   4 availableReplicas   i32 -- Pods that have been ready long enough.
   5 unavailableReplicas i32
   6 conditions          []DeploymentCondition map(type) merge(type) -- What is true of the rollout, and since when.
   7 readyReplicas       i32 -- Pods that are ready.
   8 collisionCount      i32?
DeploymentCondition
   1 type~              str
   2 status~            str
   4 reason             str
   5 message            str
   6 lastUpdateTime     time
   7 lastTransitionTime time
";
