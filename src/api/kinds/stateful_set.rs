//! StatefulSet: keeps pods with lasting names and storage running, one by one.

use crate::kind::*;

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
        schema: SCHEMA,
        doc: "Keeps pods with lasting names and storage running, one by one.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
