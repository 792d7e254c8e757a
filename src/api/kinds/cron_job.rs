//! CronJob: makes a job at times that repeat.

use serde_json::Value;

use super::workload;
use crate::complain::Complain;
use crate::kind::*;
use crate::lens::{Lens, LensMut};
use crate::print::{joined, label_selector, or_none, since_or};
use crate::status::Cause;

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    name: "CronJob",
    plural: "cronjobs",
    short: &["cj"],
    categories: &["all"],
    subresources: &[Sub::Status],
    schema: SCHEMA,
    validate,
    columns: COLUMNS,
    default,
    doc: "Makes a job at times that repeat.",
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

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const NAME_MAX: usize = 52;
    let spec = new.at("spec");
    if old.is_none() && new.str("metadata.name").len() > NAME_MAX {
        causes.invalid(
            "metadata.name",
            new.at("metadata.name"),
            "must be no more than 52 characters",
        );
    }
    let schedule = spec.str("schedule");
    if !schedule.is_empty() {
        if schedule.contains("TZ") && old.is_none_or(|old| old.str("spec.schedule") != schedule) {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            causes.invalid("spec.schedule", &schedule.into(), detail);
        } else if let Err(why) = check_schedule(schedule) {
            causes.invalid("spec.schedule", &schedule.into(), &why);
        }
    }
    workload::not_negative(
        spec,
        &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
        causes,
    );
    if spec.at("timeZone") == "" {
        causes.invalid("spec.timeZone", &"".into(), "timeZone must be nil or non-empty string");
    }
    if spec.has("jobTemplate.spec.selector") && !spec.flag("jobTemplate.spec.manualSelector") {
        let path = "spec.jobTemplate.spec.selector";
        causes.invalid(
            path,
            spec.at("jobTemplate.spec.selector"),
            "`selector` will be auto-generated",
        );
    }
    if spec.flag("jobTemplate.spec.manualSelector") {
        causes.not_supported("spec.jobTemplate.spec.manualSelector", "true", &["nil", "false"]);
    }
    super::job::spec(spec.at("jobTemplate.spec"), "spec.jobTemplate.spec", causes);
}

/// Five fields, or one of the words that stand for them. What it means is the controller's.
fn check_schedule(schedule: &str) -> Result<(), String> {
    const NAMES: [&str; 19] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "sun",
        "mon", "tue", "wed", "thu", "fri", "sat",
    ];
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return match known.contains(&word) || word.starts_with("every ") {
            true => Ok(()),
            false => Err(format!("unrecognized descriptor: @{word}")),
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
    }
    for (field, (low, high)) in fields.iter().zip([(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]) {
        for part in field.split(',') {
            let (range, step) =
                part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            if step.is_some_and(|step| !step.parse::<u32>().is_ok_and(|step| step > 0)) {
                return Err(format!("step of range should be a positive number: {part}"));
            }
            if matches!(range, "*" | "?") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| -> Result<u32, String> {
                let lower = text.to_ascii_lowercase();
                match NAMES.iter().position(|name| *name == lower) {
                    Some(idx) if idx < 12 && high == 12 => Ok(u32::try_from(idx).unwrap_or(0) + 1),
                    Some(idx) if idx >= 12 && high == 6 => Ok(u32::try_from(idx).unwrap_or(0) - 12),
                    _ => text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
                }
            };
            let (from, to) = (number(from)?, number(to)?);
            if from < low {
                return Err(format!("beginning of range ({from}) below minimum ({low}): {part}"));
            }
            if to > high {
                return Err(format!("end of range ({to}) above maximum ({high}): {part}"));
            }
            if from > to {
                return Err(format!(
                    "beginning of range ({from}) beyond end of range ({to}): {part}"
                ));
            }
        }
    }
    Ok(())
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
