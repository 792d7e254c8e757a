//! CronJob.

use serde_json::Value;

use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{joined, label_selector, or_none, since_or};

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    name: "CronJob",
    plural: "cronjobs",
    short: &["cj"],
    categories: &["all"],
    subresources: &[Sub::Status],
    schema: SCHEMA,
    columns: COLUMNS,
    default,
    ..Kind::BASE
};

fn default(tree: &mut Value) {
    if let Some(spec) = tree.at_mut("spec.jobTemplate.spec.template.spec") {
        crate::pod::defaults::spec(spec);
    }
}

const COLUMNS: &[Column] = &[
    Column::path("Schedule", "spec.schedule"),
    Column::with("Timezone", |tree, _| or_none(tree.str("spec.timeZone"))),
    Column::with("Suspend", |tree, _| {
        if tree.flag("spec.suspend") { "True" } else { "False" }.into()
    }),
    Column::with("Active", |tree, _| tree.list("status.active").len().into()).integer(),
    Column::with("Last Schedule", |tree, now| {
        since_or(tree, "status.lastScheduleTime", now, "<none>").into()
    }),
    Column::AGE,
    Column::with("Containers", |tree, _| {
        joined(tree.list("spec.jobTemplate.spec.template.spec.containers"), "name")
    })
    .wide(),
    Column::with("Images", |tree, _| {
        joined(tree.list("spec.jobTemplate.spec.template.spec.containers"), "image")
    })
    .wide(),
    Column::with("Selector", |tree, _| {
        label_selector(tree.at("spec.jobTemplate.spec.selector")).into()
    })
    .wide(),
];

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
