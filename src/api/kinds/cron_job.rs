//! CronJob: makes a job at times that repeat.

use crate::kind::*;

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    name: "CronJob",
    plural: "cronjobs",
    declared: &Declared {
        version: "v1",
        short: &["cj"],
        categories: &["all"],
        subresources: &[Sub::Status],
        schema: SCHEMA,
        doc: "Makes a job at times that repeat.",
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.batch.v1
JobTemplateSpec
   1 metadata ObjectMeta
   2 spec     JobSpec
CronJob kind
   1 metadata ObjectMeta
   2 spec     CronJobSpec
   3 status   CronJobStatus
CronJobSpec
   1 schedule*                  str -- When to run: minute, hour, day of month, month, day of week.
   2 startingDeadlineSeconds    i64? -- How late a run may still start.
   3 concurrencyPolicy          str             in Allow|Forbid|Replace = Allow -- What to do when the last run still goes on: Allow, Forbid or Replace.
   4 suspend                    bool?           = false -- No new runs start while this is set.
   5 jobTemplate*               JobTemplateSpec -- What the jobs are to be.
   6 successfulJobsHistoryLimit i32?            = 3 -- How many jobs that succeeded to keep.
   7 failedJobsHistoryLimit     i32?            = 1 -- How many jobs that failed to keep.
   8 timeZone                   str? -- The time zone of the schedule.
CronJobStatus
   1 active             []ObjectReference
   4 lastScheduleTime   time?
   5 lastSuccessfulTime time?
";
