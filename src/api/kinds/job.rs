//! Job: runs pods until enough of them have succeeded.

use crate::kind::*;

pub static JOB: Kind = Kind {
    group: "batch",
    name: "Job",
    plural: "jobs",
    declared: &Declared {
        version: "v1",
        categories: &["all"],
        subresources: &[Sub::Status],
        fields: &["status.successful"],
        schema: SCHEMA,
        doc: "Runs pods until enough of them have succeeded.",
        orphans_dependents: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.batch.v1
Job kind
   1 metadata ObjectMeta
   2 spec     JobSpec
   3 status   JobStatus
JobSpec
   1 parallelism             i32? -- How many pods may run at a time.
   2 completions             i32? -- How many pods must succeed.
   3 activeDeadlineSeconds   i64? -- How long the job may take.
   4 selector                LabelSelector? -- Selects the job's pods; made by the system.
   5 manualSelector          bool?
   6 template*               PodTemplateSpec -- What the pods are to be.
   7 backoffLimit            i32? -- How many failures are borne before the job fails.
   8 ttlSecondsAfterFinished i32? -- How long the job stays after it has finished.
   9 completionMode          str?              in NonIndexed|Indexed -- Indexed gives each pod a number of its own.
  10 suspend                 bool? -- No pods run while this is set.
  11 podFailurePolicy        PodFailurePolicy?
  12 backoffLimitPerIndex    i32?
  13 maxFailedIndexes        i32?
  14 podReplacementPolicy    str?              enum Failed|TerminatingOrFailed
  15 managedBy               str?
  16 successPolicy           SuccessPolicy?
JobStatus
   1 conditions              []JobCondition           merge(type)
   2 startTime               time?
   3 completionTime          time?
   4 active                  i32
   5 succeeded               i32
   6 failed                  i32
   7 completedIndexes        str
   8 uncountedTerminatedPods UncountedTerminatedPods?
   9 ready                   i32?
  10 failedIndexes           str?
  11 terminating             i32?
UncountedTerminatedPods
   1 succeeded []str set
   2 failed    []str set
JobCondition
   1 type~              str
   2 status~            str
   3 lastProbeTime      time
   4 lastTransitionTime time
   5 reason             str
   6 message            str
";
