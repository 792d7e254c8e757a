//! ReplicationController: keeps a number of pods of one template running, as ReplicaSets do, with a plain map as selector.

use crate::kind::*;

pub static REPLICATION_CONTROLLER: Kind = Kind {
    name: "ReplicationController",
    plural: "replicationcontrollers",
    storage: "controllers",
    declared: &Declared {
        version: "v1",
        short: &["rc"],
        categories: &["all"],
        subresources: &[
            Sub::Status,
            Sub::Scale {
                spec: "spec.replicas",
                status: "status.replicas",
                selector: "spec.selector",
            },
        ],
        fields: &["status.replicas"],
        schema: SCHEMA,
        doc: "Keeps a number of pods of one template running.",
        orphans_dependents: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
ReplicationController kind
   1 metadata ObjectMeta
   2 spec     ReplicationControllerSpec
   3 status   ReplicationControllerStatus
ReplicationControllerSpec
   1 replicas        i32?             = 1 -- How many pods to run.
   2 selector        {}str            atomic -- Labels that the pods have; those of the template where nothing is said.
   3 template        PodTemplateSpec? -- What the pods are to be.
   4 minReadySeconds i32
ReplicationControllerStatus
   1 replicas~            i32
   2 fullyLabeledReplicas i32
   3 observedGeneration   i64
   4 readyReplicas        i32
   5 availableReplicas    i32
   6 conditions           []ReplicationControllerCondition map(type) merge(type)
ReplicationControllerCondition
   1 type~              str
   2 status~            str
   3 lastTransitionTime time
   4 reason             str
   5 message            str
";
