//! Event.

use crate::kind::*;

pub static EVENT: Kind = Kind {
    version: "v1",
    name: "Event",
    plural: "events",
    short: &["ev"],
    durability: Durability::Lazy,
    generation: false,
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    ..Kind::BASE
};
