//! StatefulSet.

use crate::kind::*;

pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "StatefulSet",
    plural: "statefulsets",
    short: &["sts"],
    categories: &["all"],
    subresources: &[
        Sub::Status,
        Sub::Scale { spec: "spec.replicas", status: "status.replicas", selector: "spec.selector" },
    ],
    ..Kind::BASE
};
