//! CronJob: makes a job at times that repeat.

use api::complain::Complain;
use api::kinds::CRON_JOB;
use api::lens::{Lens, LensMut};
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use super::{cron_schedule, job_rules, workload};
use crate::column::Column;
use crate::print::{joined, label_selector, or_none, since_or};

pub(super) static RULES: Rules =
    Rules { kind: &CRON_JOB, validate, columns: COLUMNS, default, ..Rules::BASE };

fn default(tree: &mut Value) {
    if let Some(spec) = tree.at_mut("spec.jobTemplate.spec.template.spec") {
        crate::pod::defaults::spec(spec);
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("Schedule", "spec.schedule"),
    Column::with("Timezone", |tree, _| or_none(tree.str("spec.timeZone"))),
    Column {
        kind: "boolean",
        ..Column::with("Suspend", |tree, _| {
            if tree.flag("spec.suspend") { "True" } else { "False" }.into()
        })
    },
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
        if let Err(why) = cron_schedule::check(schedule) {
            causes.invalid("spec.schedule", &schedule.into(), &why);
        }
        // A schedule that named its zone before this was refused may go on doing so.
        let named = schedule.contains("TZ");
        let grandfathered = old.is_some_and(|old| old.str("spec.schedule").contains("TZ"));
        if named && !grandfathered {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            causes.invalid("spec.schedule", &schedule.into(), detail);
        } else if named && spec.has("timeZone") {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            causes.invalid("spec.schedule", &schedule.into(), detail);
        }
    }
    workload::not_negative(
        spec,
        &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
        causes,
    );
    if let Some(zone) = spec.at("timeZone").as_str()
        && old.is_none_or(|old| old.at("spec.timeZone") != zone)
    {
        time_zone(zone, "spec.timeZone", causes);
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
        // Upstream's words for a value that is no text.
        let message = "Unsupported value: true: supported values: \"nil\", \"false\"";
        let path = "spec.jobTemplate.spec.manualSelector";
        causes.complain("FieldValueNotSupported", path, message.into());
    }
    job_rules::spec(spec.at("jobTemplate.spec"), "spec.jobTemplate.spec", causes);
}

/// A zone of the IANA database, by its name.
fn time_zone(zone: &str, path: &str, causes: &mut Vec<Cause>) {
    const PART_MAX: usize = 14;
    if zone.is_empty() {
        let detail = "timeZone must be nil or non-empty string";
        return causes.invalid(path, &"".into(), detail);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let sound = |part: &str| {
        (1..=PART_MAX).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(legal)
    };
    let unknown = format!("unknown time zone {zone}");
    if !zone.split('/').all(sound) {
        return causes.invalid(path, &zone.into(), &unknown);
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        causes.invalid(path, &zone.into(), detail);
    }
    if zone != "Local" && !cron_schedule::is_zone(zone) {
        causes.invalid(path, &zone.into(), &unknown);
    }
}
