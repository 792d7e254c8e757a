//! Deployment: keeps a number of pods of one template running, replacing them gradually when the template changes.

use crate::kind::*;

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
        doc: "Keeps a number of pods of one template running, replacing them gradually when the template changes.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

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
