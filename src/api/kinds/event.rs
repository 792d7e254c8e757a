//! Event: something that happened to an object.

use serde_json::Value;

use crate::kind::*;
use crate::lens::LensMut;

pub static EVENT: Kind = Kind {
    name: "Event",
    plural: "events",
    declared: &Declared {
        version: "v1",
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
        also: &[Served {
            group: "events.k8s.io",
            version: "v1",
            root: "io.k8s.api.events.v1.Event",
            from_stored,
            fields: EVENTS_FIELDS,
        }],
        doc: "Something that happened to an object.",
        creates_on_update: true,
        ..Declared::BASE
    },
    ..Kind::BASE
};

/// What events.k8s.io selects by, and core's names of it.
const EVENTS_FIELDS: &[(&str, &str)] = &[
    ("reason", "reason"),
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];

/// The fields that the two versions call differently: core, then events.k8s.io.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn from_stored(tree: &mut Value) {
    for (core, events) in RENAMED {
        if let Some(value) = tree.remove(core) {
            tree.set(events, value);
        }
    }
}

/// The way back.
///
/// # Errors
/// None: whatever events.k8s.io says, core can say.
pub fn to_stored(tree: &mut Value) -> Result<(), String> {
    for (core, events) in RENAMED {
        if let Some(value) = tree.remove(events) {
            tree.set(core, value);
        }
    }
    tree.set("apiVersion", "v1");
    Ok(())
}

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
