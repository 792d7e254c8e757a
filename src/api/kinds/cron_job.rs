//! CronJob.

use serde_json::Value;

use crate::kind::*;
use crate::lens::LensMut;

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    name: "CronJob",
    plural: "cronjobs",
    short: &["cj"],
    categories: &["all"],
    subresources: &[Sub::Status],
    schema: SCHEMA,
    default,
    ..Kind::BASE
};

fn default(tree: &mut Value) {
    if let Some(spec) = tree.at_mut("spec.jobTemplate.spec.template.spec") {
        crate::pod::defaults::spec(spec);
    }
}

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
   1 schedule*                  str
   2 startingDeadlineSeconds    i64?
   3 concurrencyPolicy          str             in Allow|Forbid|Replace = Allow
   4 suspend                    bool?           = false
   5 jobTemplate*               JobTemplateSpec
   6 successfulJobsHistoryLimit i32?            = 3
   7 failedJobsHistoryLimit     i32?            = 1
   8 timeZone                   str?
CronJobStatus
   1 active             []ObjectReference
   4 lastScheduleTime   time?
   5 lastSuccessfulTime time?
";
