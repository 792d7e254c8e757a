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
    schema: SCHEMA,
    ..Kind::BASE
};

/// Schema text; see `schema` for its form.
const SCHEMA: &str = "
package io.k8s.api.core.v1
EventSource
   1 component str
   2 host      str
Event kind
   1 metadata*           ObjectMeta
   2 involvedObject*     ObjectReference
   3 reason              str
   4 message             str
   5 source              EventSource
   6 firstTimestamp      time
   7 lastTimestamp       time
   8 count               i32
   9 type                str
  10 eventTime           microtime
  11 series              EventSeries?
  12 action              str
  13 related             ObjectReference?
  14 reportingComponent! str
  15 reportingInstance!  str
EventSeries
   1 count            i32
   2 lastObservedTime microtime
";
