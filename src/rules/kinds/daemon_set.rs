//! DaemonSet: keeps a pod of one template running on every node that fits.

use api::complain::Complain;
use api::kinds::DAEMON_SET;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use super::workload;
use crate::column::Column;
use crate::print::{CONTAINERS, IMAGES, SELECTOR, labels};

pub(super) static RULES: Rules = Rules {
    kind: &DAEMON_SET,
    validate,
    validate_status,
    columns: COLUMNS,
    default,
    prepare,
    prepare_status: |new, old| prepare(new, Some(old)),
    on_update: "CSUV",
    ..Rules::BASE
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

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    let fields = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    workload::not_negative_counts(new, &fields, causes);
}

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
