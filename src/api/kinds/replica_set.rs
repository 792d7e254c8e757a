//! ReplicaSet.

use crate::kind::*;

pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "ReplicaSet",
    plural: "replicasets",
    short: &["rs"],
    categories: &["all"],
    subresources: &[
        Sub::Status,
        Sub::Scale { spec: "spec.replicas", status: "status.replicas", selector: "spec.selector" },
    ],
    fields: &["status.replicas"],
    ..Kind::BASE
};
