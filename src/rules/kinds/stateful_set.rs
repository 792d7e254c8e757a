//! StatefulSet: keeps pods with lasting names and storage running, one by one.

use api::complain::{Complain, NON_NEGATIVE};
use api::kinds::STATEFUL_SET;
use api::labels;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::workload;
use super::{NameRule, Rules};
use crate::checks;
use crate::column::Column;
use crate::print::{CONTAINERS, IMAGES};

pub(super) static RULES: Rules = Rules {
    kind: &STATEFUL_SET,
    name_rule: NameRule::Label,
    validate,
    validate_status,
    columns: COLUMNS,
    default,
    unchecked: "spec.template.spec spec.volumeClaimTemplates",
    ..Rules::BASE
};

fn default(tree: &mut Value) {
    // Who names the type gets no more of it than that.
    let strategy = tree.slot("spec.updateStrategy");
    let is_named = !strategy.str("type").is_empty();
    if !is_named {
        strategy.set("type", "RollingUpdate");
    }
    if strategy.str("type") == "RollingUpdate" && (!is_named || strategy.has("rollingUpdate")) {
        strategy.set_default("rollingUpdate.partition", 0);
    }
    for when in ["whenDeleted", "whenScaled"] {
        tree.set_default(&format!("spec.persistentVolumeClaimRetentionPolicy.{when}"), "Retain");
    }
    for claim in
        tree.at_mut("spec.volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
    {
        claim.set("apiVersion", "v1");
        claim.set("kind", "PersistentVolumeClaim");
    }
    crate::pod::defaults::template(tree);
}

const COLUMNS: &[Column<'static>] =
    &[Column::with("Ready", |tree, _| ready(tree)), Column::AGE, CONTAINERS, IMAGES];

fn ready(tree: &Value) -> Value {
    let count = |path: &str| tree.int(path).unwrap_or(0);
    format!("{}/{}", count("status.readyReplicas"), count("spec.replicas")).into()
}

/// Selector and template. What the template's pods are made of is checked when they are made:
/// upstream leaves it out here, because mounts may name volumes that only claims will bring.
fn template(spec: &Value, causes: &mut Vec<Cause>) {
    if !spec.has("selector") {
        causes.required("spec.selector", "");
    }
    let looks_on = checks::label_selector_as(
        spec.at("selector"),
        "spec.selector",
        spec.at("template.metadata.labels"),
        "spec.template.metadata.labels",
        "statefulset",
        causes,
    );
    if looks_on {
        labels::labels(spec.at("template.metadata.labels"), "spec.template.labels", causes);
        let annotations = spec.at("template.metadata.annotations");
        labels::annotations(annotations, "spec.template.annotations", causes);
    }
    let policy = spec.str("template.spec.restartPolicy");
    if !matches!(policy, "" | "Always") {
        causes.not_supported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
    if spec.has("template.spec.activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in StatefulSet is not Supported";
        causes.forbidden("spec.template.spec.activeDeadlineSeconds", detail);
    }
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    workload::not_negative_counts(new, &fields, causes);
    workload::bounded_counts(new, &fields[1..5], "status.readyReplicas", causes);
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    template(spec, causes);
    workload::not_negative(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], causes);
    let policy = spec.str("podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        causes.invalid("spec.podManagementPolicy", &policy.into(), detail);
    }
    if !matches!(spec.str("updateStrategy.type"), "RollingUpdate" | "OnDelete") {
        let shown = workload::update_strategy(
            spec.at("updateStrategy"),
            "StatefulSetUpdateStrategy",
            "RollingUpdateStatefulSetStrategy",
        );
        let message = format!("Invalid value: {shown}: must be 'RollingUpdate' or 'OnDelete'");
        causes.complain("FieldValueInvalid", "spec.updateStrategy", message);
    }
    if spec.str("updateStrategy.type") == "OnDelete" && spec.has("updateStrategy.rollingUpdate") {
        let partition = spec.int("updateStrategy.rollingUpdate.partition").unwrap_or(0);
        let message = format!(
            "Invalid value: apps.RollingUpdateStatefulSetStrategy{{Partition:{partition}, MaxUnavailable:(*intstr.IntOrString)(nil)}}: only allowed for updateStrategy 'RollingUpdate'"
        );
        causes.complain("FieldValueInvalid", "spec.updateStrategy.rollingUpdate", message);
    }
    if let Some(partition) = spec.int("updateStrategy.rollingUpdate.partition").filter(|n| *n < 0) {
        causes.invalid(
            "spec.updateStrategy.rollingUpdate.partition",
            &partition.into(),
            NON_NEGATIVE,
        );
    }
    if let Some(start) = spec.int("ordinals.start").filter(|n| *n < 0) {
        causes.invalid("spec.ordinals.start", &start.into(), NON_NEGATIVE);
    }
    let Some(old) = old else { return };
    // What may not change must be equal once what may is made so.
    let fixed = |tree: &Value| {
        let mut spec = tree.at("spec").clone();
        for field in [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ] {
            spec.remove(field);
        }
        spec
    };
    if fixed(new) != fixed(old) {
        causes.forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}
