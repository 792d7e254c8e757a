//! DaemonSet.

use crate::kind::*;

pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "DaemonSet",
    plural: "daemonsets",
    short: &["ds"],
    categories: &["all"],
    subresources: &[Sub::Status],
    ..Kind::BASE
};
