//! DaemonSet: keeps a pod of one template running on every node that fits.

use serde_json::Value;

use super::workload;
use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{CONTAINERS, IMAGES, SELECTOR, labels};
use crate::status::Cause;

pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    name: "DaemonSet",
    plural: "daemonsets",
    declared: &Declared {
        version: "v1",
        short: &["ds"],
        categories: &["all"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        default,
        prepare,
        doc: "Keeps a pod of one template running on every node that fits.",
        on_update: "CSUV",
        ..Declared::BASE
    },
    ..Kind::BASE
};

fn default(tree: &mut Value) {
    if tree.str("spec.updateStrategy.type") == "RollingUpdate" {
        tree.set_default("spec.updateStrategy.rollingUpdate.maxUnavailable", 1);
        tree.set_default("spec.updateStrategy.rollingUpdate.maxSurge", 0);
    } else if tree.has("spec.updateStrategy.rollingUpdate") {
        // Upstream's inner form has both always.
        for bound in ["maxUnavailable", "maxSurge"] {
            tree.set_default(&format!("spec.updateStrategy.rollingUpdate.{bound}"), 0);
        }
    }
    crate::pod::defaults::template(tree);
}

/// Counts the changes of the template, as `apps/v1` shows a field that it no longer has.
fn prepare(new: &mut Value, old: Option<&Value>) {
    const COUNT: &str = "deprecated.daemonset.template.generation";
    let count = |tree: &Value| {
        let text = tree.entry("metadata.annotations", COUNT);
        text.and_then(|text| text.parse::<i64>().ok()).unwrap_or(0)
    };
    let next = match old {
        None => count(new).max(1),
        Some(old) if old.at("spec.template") == new.at("spec.template") => count(old),
        Some(old) => count(old).saturating_add(1),
    };
    if next > 0 {
        new.map_mut("metadata.annotations").insert(COUNT.into(), next.to_string().into());
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::number("Desired", "status.desiredNumberScheduled"),
    Column::number("Current", "status.currentNumberScheduled"),
    Column::number("Ready", "status.numberReady"),
    Column::number("Up-to-date", "status.updatedNumberScheduled"),
    Column::number("Available", "status.numberAvailable"),
    Column::with("Node Selector", |tree, _| {
        labels(tree.at("spec.template.spec.nodeSelector")).into()
    }),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    workload::selected_template(spec, "daemonset", causes);
    workload::not_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], causes);
    let strategy = spec.str("updateStrategy.type");
    if !matches!(strategy, "RollingUpdate" | "OnDelete") {
        let shown = workload::update_strategy(
            spec.at("updateStrategy"),
            "DaemonSetUpdateStrategy",
            "RollingUpdateDaemonSet",
        );
        let message = format!(
            "Unsupported value: {shown}: supported values: \"RollingUpdate\", \"OnDelete\""
        );
        causes.complain("FieldValueNotSupported", "spec.updateStrategy", message);
    }
    if strategy == "RollingUpdate" {
        workload::rolling_bounds(
            spec.at("updateStrategy.rollingUpdate"),
            "spec.updateStrategy.rollingUpdate",
            causes,
        );
        let bounds = spec.at("updateStrategy.rollingUpdate");
        let surge = "spec.updateStrategy.rollingUpdate.maxSurge";
        workload::at_most_all(bounds.at("maxSurge"), surge, causes);
        let zero = workload::is_zero;
        if workload::stands_still(bounds) {
            let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
            causes.required(path, "cannot be 0 when maxSurge is 0");
        } else if !zero(bounds.at("maxSurge")) && !zero(bounds.at("maxUnavailable")) {
            causes.invalid_bound(
                surge,
                bounds.at("maxSurge"),
                "may not be set when maxUnavailable is non-zero",
            );
        }
    }
}

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
DaemonSetUpdateStrategy
   1 type          str                     enum RollingUpdate|OnDelete = RollingUpdate
   2 rollingUpdate RollingUpdateDaemonSet?
RollingUpdateDaemonSet
   1 maxUnavailable intorstr?
   2 maxSurge       intorstr?
DaemonSetSpec
   1 selector~            LabelSelector?          immutable -- Selects the pods; must match the template's labels and cannot change.
   2 template*            PodTemplateSpec -- What the pods are to be.
   3 updateStrategy       DaemonSetUpdateStrategy -- How pods are replaced when the template changes.
   4 minReadySeconds      i32
   6 revisionHistoryLimit i32?                    = 10
DaemonSetStatus
   1 currentNumberScheduled~ i32
   2 numberMisscheduled~     i32
   3 desiredNumberScheduled~ i32
   4 numberReady~            i32
   5 observedGeneration      i64
   6 updatedNumberScheduled  i32
   7 numberAvailable         i32
   8 numberUnavailable       i32
   9 collisionCount          i32?
  10 conditions              []DaemonSetCondition map(type) merge(type)
DaemonSetCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
DaemonSet kind
   1 metadata ObjectMeta
   2 spec     DaemonSetSpec
   3 status   DaemonSetStatus
";
