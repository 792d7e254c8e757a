//! Service.

use crate::kind::*;

pub static SERVICE: Kind = Kind {
    version: "v1",
    name: "Service",
    plural: "services",
    short: &["svc"],
    categories: &["all"],
    storage: "services/specs",
    generation: false,
    name_rule: NameRule::Label1035,
    subresources: &[Sub::Status, Sub::Named("proxy")],
    fields: &["spec.clusterIP", "spec.type"],
    ..Kind::BASE
};
