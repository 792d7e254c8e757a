//! Pod.

use crate::kind::*;

pub static POD: Kind = Kind {
    version: "v1",
    name: "Pod",
    plural: "pods",
    short: &["po"],
    categories: &["all"],
    graceful: true,
    generation: false,
    subresources: &[
        Sub::Status,
        Sub::Named("binding"),
        Sub::Named("eviction"),
        Sub::Named("log"),
        Sub::Named("exec"),
        Sub::Named("attach"),
        Sub::Named("portforward"),
        Sub::Named("proxy"),
        Sub::Named("ephemeralcontainers"),
        Sub::Named("resize"),
    ],
    fields: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    ..Kind::BASE
};
