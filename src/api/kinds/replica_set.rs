//! ReplicaSet: keeps a number of pods of one template running.

use crate::kind::*;

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
        doc: "Keeps a number of pods of one template running.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
