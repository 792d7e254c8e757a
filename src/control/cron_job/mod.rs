//! CronJob: makes a Job at each time of a schedule.

mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use api::kinds::{CRON_JOB, JOB};
use api::{
    Action, Actions, Controller, Key, Lens, LensMut, Next, Object, OnFailure, Status, Value, View,
    Wakes, Watch, json,
};
use stdx::Arrange;
use stdx::time::{Now, Wall};

use crate::job::is_finished;
use crate::support::{conditions, controller_reference, created, seconds, time_at, write_status};
use schedule::{Schedule, Zone};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times beyond this are worth a warning.
const MISSED_MAX: i64 = 100;
/// Times in objects are whole seconds; a little later is surely not too early.
const SLACK: Duration = Duration::from_millis(100);
/// Clocks of different machines may differ by as much.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Times of day for whoever else does something again and again: a CronJob's schedule, in UTC.
#[derive(Debug, Clone)]
pub struct Cron(Schedule);

impl Cron {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Cron, String> {
        Schedule::parse(text).map(Cron)
    }

    /// The first moment after `after`, if there ever is one.
    pub fn next(&self, after: Wall) -> Option<Wall> {
        self.0.next(after, &Zone::UTC)
    }
}

pub(crate) struct CronJobs;

impl Controller for CronJobs {
    const NAME: &'static str = "cronjob-controller";
    const WATCHES: &'static [Watch] =
        &[Watch::new(&CRON_JOB, Wakes::Itself), Watch::new(&JOB, Wakes::Controller(&CRON_JOB))];

    fn reconcile(view: &View<'_>, key: &Key, actions: &mut Actions) -> Next {
        let Some(object) = view.at(key) else { return Next::Done };
        let tree = object.tree();
        let jobs = view.owned(&JOB, object.namespace(), object.uid());
        let jobs = jobs.iter().filter(|job| crate::support::controls(&object, job));
        let jobs = jobs.map(|job| (job.clone(), job.tree())).collect();
        let status = tree.at("status").clone();
        actions.on_failure = Some(OnFailure { about: object.clone(), then: refused });
        let mut run = Run { view, object: &object, tree: &tree, jobs, status, actions };
        run.follow_jobs();
        let next = run.start();
        run.clean_up();
        let status = run.status;
        write_status(actions, &object, &tree, status);
        next
    }
}

/// One reconcile of one CronJob.
struct Run<'a> {
    view: &'a View<'a>,
    object: &'a Object,
    tree: &'a Value,
    jobs: Vec<(Object, Value)>,
    /// The status as it shall be.
    status: Value,
    actions: &'a mut Actions,
}

impl Run<'_> {
    /// Brings the list of active jobs in line with the jobs there are.
    fn follow_jobs(&mut self) {
        let listed: Vec<Value> = self.status.list("active").to_vec();
        let is_listed = |uid: &str| listed.iter().any(|reference| reference.str("uid") == uid);
        let mut active = Vec::new();
        let mut last_success = time_at(&self.status, "lastSuccessfulTime");
        for (job, tree) in &self.jobs {
            if !is_finished(tree) {
                active.push(json!({
                    "apiVersion": "batch/v1", "kind": "Job", "namespace": job.namespace(),
                    "name": job.name(), "uid": job.uid(),
                }));
                continue;
            }
            let complete = conditions::is_true(tree, "Complete");
            if is_listed(job.uid()) {
                let how = if complete { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {}, condition: {how}", job.name());
                self.actions.event(self.object, "SawCompletedJob", message);
            }
            if complete {
                last_success = last_success.max(time_at(tree, "status.completionTime"));
            }
        }
        for reference in &listed {
            if !self.jobs.iter().any(|(job, _)| job.uid() == reference.str("uid")) {
                let message = format!("Active job went missing: {}", reference.str("name"));
                self.actions.event(self.object, "MissingJob", message);
            }
        }
        self.status.set("active", active);
        if let Some(at) = last_success {
            self.status.set("lastSuccessfulTime", api::time::format(at));
        }
    }

    /// Starts the job that is due, and tells when the next one will be.
    fn start(&mut self) -> Next {
        if self.object.deleting() {
            return Next::Done;
        }
        let (schedule, zone) = match self.schedule() {
            Ok(found) => found,
            Err((reason, message)) => {
                self.actions.warning(self.object, reason, message);
                return Next::Done;
            }
        };
        if self.tree.flag("spec.suspend") {
            return Next::Done;
        }
        let now = self.view.now.wall;
        let last = time_at(&self.status, "lastScheduleTime").unwrap_or_else(|| created(self.tree));
        if last > now + SKEW_MAX {
            // The clock was set back: waiting for that time to come again could take years.
            self.status.set("lastScheduleTime", api::time::format(now));
        }
        let next = match schedule.next(now, &zone) {
            Some(at) => Next::After(at.since(now) + SLACK),
            None => Next::Done,
        };
        let Some(at) = self.due(&schedule, &zone) else { return next };
        let deadline = self.tree.int("spec.startingDeadlineSeconds");
        if deadline.is_some_and(|secs| at + seconds(secs) < now) {
            let message = format!("Missed scheduled time to start a job: {}", zone.format(at));
            self.actions.warning(self.object, "MissedSchedule", message);
            return next;
        }
        let name = format!("{}-{}", self.object.name(), at.secs() / 60);
        let made = self.view.get(&JOB, self.object.namespace(), &name);
        if made.is_none() && !self.make_room() {
            return next;
        }
        if made.is_none() {
            self.create(&name, at, &zone);
        }
        self.status.set("lastScheduleTime", api::time::format(at));
        next
    }

    fn schedule(&self) -> Result<(Schedule, Zone), (&'static str, String)> {
        let text = self.tree.str("spec.schedule");
        // A zone inside the schedule is from before there was a field for it.
        let (prefix, rest) = text
            .strip_prefix("TZ=")
            .or_else(|| text.strip_prefix("CRON_TZ="))
            .and_then(|rest| rest.split_once(' '))
            .map_or((None, text), |(zone, rest)| (Some(zone), rest));
        let named = Some(self.tree.str("spec.timeZone")).filter(|name| !name.is_empty());
        let zone = match named.or(prefix) {
            None => Zone::UTC,
            Some(name) => Zone::named(name).ok_or_else(|| {
                let why = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                ("UnknownTimeZone", why)
            })?,
        };
        let schedule = Schedule::parse(rest).map_err(|why| {
            ("UnparseableSchedule", format!("unparseable schedule: {text:?} : {why}"))
        })?;
        Ok((schedule, zone))
    }

    /// The latest scheduled time that has passed and was not started yet.
    fn due(&mut self, schedule: &Schedule, zone: &Zone) -> Option<Wall> {
        let now = self.view.now.wall;
        let mut from =
            time_at(&self.status, "lastScheduleTime").unwrap_or_else(|| created(self.tree));
        if let Some(secs) = self.tree.int("spec.startingDeadlineSeconds") {
            from = from.max(now - seconds(secs));
        }
        let first = schedule.next(from, zone).filter(|at| *at <= now)?;
        let Some(second) = schedule.next(first, zone).filter(|at| *at <= now) else {
            return Some(first);
        };
        // Skips to shortly before now, then walks: the distance between times may vary.
        let distance = (second.secs() - first.secs()).max(1);
        let missed = (now.secs() - first.secs()) / distance + 1;
        if missed > MISSED_MAX {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.actions.warning(self.object, "TooManyMissedTimes", message);
        }
        let mut last = second;
        let close = Wall::from_secs(first.secs() + (missed - 2).max(0) * distance);
        let mut at = schedule.next(close.max(first), zone);
        while let Some(time) = at.filter(|time| *time <= now) {
            last = last.max(time);
            at = schedule.next(time, zone);
        }
        Some(last)
    }

    /// Applies the concurrency policy; false if the new job may not start.
    fn make_room(&mut self) -> bool {
        let active = self.status.list("active").to_vec();
        match self.tree.str("spec.concurrencyPolicy") {
            "Forbid" if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.actions.event(self.object, "JobAlreadyActive", message);
                false
            }
            "Replace" => {
                for (job, tree) in &self.jobs {
                    if !is_finished(tree) && !job.deleting() {
                        delete(self.object, job, self.actions);
                    }
                }
                self.status.set("active", Vec::<Value>::new());
                true
            }
            _ => true,
        }
    }

    fn create(&mut self, name: &str, at: Wall, zone: &Zone) {
        let template = self.tree.at("spec.jobTemplate");
        let mut job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": self.object.namespace(),
                "annotations": {},
                "ownerReferences": [controller_reference(self.object)],
            },
            "spec": template.at("spec").clone(),
        });
        for field in ["labels", "annotations"] {
            let value = template.at("metadata").at(field);
            if !value.is_null() {
                job.slot("metadata").set(field, value.clone());
            }
        }
        job.map_mut("metadata.annotations").insert(SCHEDULED_AT.into(), zone.format(at).into());
        self.actions.create(&JOB, job);
        self.actions.event(self.object, "SuccessfulCreate", format!("Created job {name}"));
    }

    /// Deletes the oldest finished jobs beyond the history limits.
    fn clean_up(&mut self) {
        for (condition, field, default) in [
            ("Complete", "spec.successfulJobsHistoryLimit", 3),
            ("Failed", "spec.failedJobsHistoryLimit", 1),
        ] {
            let limit = self.tree.int(field).unwrap_or(default);
            let mut finished: Vec<&(Object, Value)> = self
                .jobs
                .iter()
                .filter(|(job, tree)| conditions::is_true(tree, condition) && !job.deleting())
                .collect();
            finished.arrange_by_key(|(job, tree)| {
                (time_at(tree, "status.startTime"), job.name().to_owned())
            });
            let excess = finished.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for (job, _) in finished.into_iter().take(excess) {
                delete(self.object, job, self.actions);
            }
        }
    }
}

fn delete(cron_job: &Object, job: &Object, actions: &mut Actions) {
    actions.delete(job);
    actions.event(cron_job, "SuccessfulDelete", format!("Deleted job {}", job.name()));
}

fn refused(cron_job: &Object, refused: &Action, why: &Status, _: Now, actions: &mut Actions) {
    let (reason, doing) = match refused {
        Action::Create { .. } => ("FailedCreate", "creating"),
        Action::Delete { .. } => ("FailedDelete", "deleting"),
        _ => return,
    };
    actions.warning(cron_job, reason, format!("Error {doing} job: {}", why.message()));
}
