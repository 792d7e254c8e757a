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
    ..Kind::BASE
};
