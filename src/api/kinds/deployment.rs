//! Deployment.

use crate::kind::*;

pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    version: "v1",
    name: "Deployment",
    plural: "deployments",
    short: &["deploy"],
    categories: &["all"],
    subresources: &[
        Sub::Status,
        Sub::Scale { spec: "spec.replicas", status: "status.replicas", selector: "spec.selector" },
    ],
    ..Kind::BASE
};
