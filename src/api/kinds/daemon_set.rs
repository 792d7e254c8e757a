//! DaemonSet: keeps a pod of one template running on every node that fits.

use crate::kind::*;

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
        doc: "Keeps a pod of one template running on every node that fits.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
