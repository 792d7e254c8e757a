//! Job.

use crate::kind::*;

pub static JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    name: "Job",
    plural: "jobs",
    categories: &["all"],
    subresources: &[Sub::Status],
    fields: &["status.successful"],
    schema: SCHEMA,
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
   1 parallelism             i32?
   2 completions             i32?
   3 activeDeadlineSeconds   i64?
   4 selector                LabelSelector?
   5 manualSelector          bool?
   6 template*               PodTemplateSpec
   7 backoffLimit            i32?
   8 ttlSecondsAfterFinished i32?
   9 completionMode          str?              in NonIndexed|Indexed
  10 suspend                 bool?
  11 podFailurePolicy        PodFailurePolicy?
  12 backoffLimitPerIndex    i32?
  13 maxFailedIndexes        i32?
  14 podReplacementPolicy    str?              in TerminatingOrFailed|Failed
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
   2 status~            str  in True|False|Unknown
   3 lastProbeTime      time
   4 lastTransitionTime time
   5 reason             str
   6 message            str
";
