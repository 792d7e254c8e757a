//! CronJob.

use crate::kind::*;

pub static CRON_JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    name: "CronJob",
    plural: "cronjobs",
    short: &["cj"],
    categories: &["all"],
    subresources: &[Sub::Status],
    ..Kind::BASE
};
