//! StatefulSet: keeps pods with lasting names and storage running, one by one.

use serde_json::Value;

use super::workload;
use crate::complain::{Complain, NON_NEGATIVE};
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{CONTAINERS, IMAGES};
use crate::status::Cause;
use crate::validate;

pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    name: "StatefulSet",
    plural: "statefulsets",
    declared: &Declared {
        version: "v1",
        short: &["sts"],
        categories: &["all"],
        subresources: &[
            Sub::Status,
            Sub::Scale {
                spec: "spec.replicas",
                status: "status.replicas",
                selector: "spec.selector",
            },
        ],
        name_rule: NameRule::Label,
        schema: SCHEMA,
        validate,
        columns: COLUMNS,
        default,
        doc: "Keeps pods with lasting names and storage running, one by one.",
        unchecked: "spec.template.spec spec.volumeClaimTemplates",
        ..Declared::BASE
    },
    ..Kind::BASE
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
    let looks_on = validate::label_selector_as(
        spec.at("selector"),
        "spec.selector",
        spec.at("template.metadata.labels"),
        "spec.template.metadata.labels",
        "statefulset",
        causes,
    );
    if looks_on {
        validate::labels(spec.at("template.metadata.labels"), "spec.template.labels", causes);
        let annotations = spec.at("template.metadata.annotations");
        validate::annotations(annotations, "spec.template.annotations", causes);
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
        causes.invalid(
            "spec.updateStrategy.rollingUpdate",
            spec.at("updateStrategy.rollingUpdate"),
            "only allowed for updateStrategy 'RollingUpdate'",
        );
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

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.apps.v1
StatefulSet kind
   1 metadata ObjectMeta
   2 spec     StatefulSetSpec
   3 status   StatefulSetStatus
StatefulSetUpdateStrategy
   1 type          str                          enum RollingUpdate|OnDelete
   2 rollingUpdate RollingUpdateStatefulSetStrategy?
RollingUpdateStatefulSetStrategy
   1 partition      i32?
   2 maxUnavailable intorstr?
StatefulSetPersistentVolumeClaimRetentionPolicy
   1 whenDeleted str of Retain|Delete
   2 whenScaled  str of Retain|Delete
StatefulSetOrdinals
   1 start! i32
StatefulSetSpec
   1 replicas                     i32?                         = 1 -- How many pods to run.
   2 selector~                    LabelSelector?               -- Selects the pods; must match the template's labels and cannot change.
   3 template~                    PodTemplateSpec -- What the pods are to be.
   4 volumeClaimTemplates         []PersistentVolumeClaim typed -- Claims made for each pod, which outlive it.
   5 serviceName~                 str -- The headless service that gives the pods their names.
   6 podManagementPolicy          str                          enum OrderedReady|Parallel = OrderedReady -- OrderedReady starts and ends pods one by one, Parallel all at once.
   7 updateStrategy               StatefulSetUpdateStrategy -- How pods are replaced when the template changes.
   8 revisionHistoryLimit         i32?                         = 10
   9 minReadySeconds              i32
  10 persistentVolumeClaimRetentionPolicy StatefulSetPersistentVolumeClaimRetentionPolicy? -- What becomes of the claims.
  11 ordinals                     StatefulSetOrdinals?
StatefulSetStatus
   1 observedGeneration i64
   2 replicas~          i32
   3 readyReplicas      i32
   4 currentReplicas    i32
   5 updatedReplicas    i32
   6 currentRevision    str
   7 updateRevision     str
   9 collisionCount     i32?
  10 conditions         []StatefulSetCondition map(type) merge(type)
  11 availableReplicas! i32
StatefulSetCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
