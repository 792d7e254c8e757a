//! Event: something that happened to an object.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::{EVENT, event};
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::time::Wall;

use super::{Rules, Version};
use crate::ages::since;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &EVENT,
    validate,
    columns: COLUMNS,
    on_update: "V",
    versions: &[Version {
        group: "events.k8s.io",
        version: "v1",
        to_stored: event::to_stored,
        validate: Some(strictly),
    }],
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Last Seen", |tree, now| last_seen(tree, now).into()),
    Column::path("Type", "type"),
    Column::path("Reason", "reason"),
    Column::with("Object", |tree, _| object(tree).into()),
    Column::path("Subobject", "involvedObject.fieldPath").wide(),
    Column::with("Source", |tree, _| source(tree).into()).wide(),
    Column::with("Message", |tree, _| tree.str("message").trim().into()),
    Column::with("First Seen", |tree, now| first_seen(tree, now).into()).wide(),
    Column::with("Count", |tree, _| count(tree).into()).wide(),
    Column { format: "name", ..Column::path("Name", "metadata.name") }.wide(),
];

fn first_seen(tree: &Value, now: Wall) -> String {
    let timestamp = ["firstTimestamp", "eventTime"]
        .into_iter()
        .map(|path| tree.str(path))
        .find(|t| !t.is_empty());
    since(timestamp.unwrap_or(""), now)
}

fn last_seen(tree: &Value, now: Wall) -> String {
    let timestamp = match tree.str("series.lastObservedTime") {
        "" => tree.str("lastTimestamp"),
        observed => observed,
    };
    if timestamp.is_empty() { first_seen(tree, now) } else { since(timestamp, now) }
}

fn count(tree: &Value) -> i64 {
    tree.int("series.count").or(tree.int("count").filter(|count| *count != 0)).unwrap_or(1)
}

fn object(tree: &Value) -> String {
    let kind = tree.str("involvedObject.kind").to_ascii_lowercase();
    match tree.str("involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(tree: &Value) -> String {
    let either = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component = either(tree.str("source.component"), tree.str("reportingComponent"));
    match either(tree.str("source.host"), tree.str("reportingInstance")).as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    }
}

/// What events that say when they happened must say, and how long it may be.
const NEW: [(&str, usize); 4] =
    [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)];

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let (about, own) = (new.str("involvedObject.namespace"), new.str("metadata.namespace"));
    // Events about cluster-scoped objects stand in the default namespace.
    let is_new = new.has("eventTime");
    let fits = match (about, is_new) {
        ("", true) => matches!(own, "default" | "kube-system"),
        ("", false) => matches!(own, "" | "default"),
        (about, is_new) => is_new || about == own,
    };
    if !fits {
        causes.invalid("involvedObject.namespace", &about.into(), "does not match event.namespace");
    }
    if !is_new {
        return;
    }
    let reporter = new.str(REPORTER);
    if reporter.is_empty() {
        causes.required(REPORTER, "");
    }
    causes.check_name(REPORTER, reporter, names::qualified);
    for (field, bytes_max) in NEW {
        let text = new.str(field);
        if text.is_empty() && field != "message" {
            causes.required(field, "");
        }
        if text.len() > bytes_max {
            let detail = format!("can have at most {bytes_max} characters");
            causes.invalid(field, &"".into(), &detail);
        }
    }
}

const REPORTER: &str = "reportingComponent";

/// What events.k8s.io asks for beyond that: events in the new form alone, of which only the series changes.
fn strictly(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for cause in causes.iter_mut().filter(|cause| cause.field == REPORTER) {
        cause.field = "reportingController".into();
    }
    let empty = || Value::from("");
    if old.is_none_or(|old| old.at("series") != new.at("series")) && new.has("series") {
        if new.int("series.count").unwrap_or(0) < 2 {
            causes.invalid("series.count", &empty(), "should be at least 2");
        }
        if !new.has("series.lastObservedTime") {
            causes.required("series.lastObservedTime", "");
        }
    }
    if let Some(old) = old {
        const FIXED: [&str; 14] = [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "reason",
            "type",
            "eventTime",
            "action",
            "related",
            REPORTER,
            "reportingInstance",
        ];
        for field in FIXED.into_iter().filter(|field| new.at(field) != old.at(field)) {
            let path = if field == REPORTER { "reportingController" } else { field };
            causes.invalid(path, new.at(field), IMMUTABLE);
        }
        return;
    }
    if !new.has("eventTime") {
        causes.required("eventTime", "");
    }
    let kind = new.str("type");
    if !matches!(kind, "Normal" | "Warning") {
        causes.invalid("type", &empty(), &format!("has invalid value: {kind}"));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let is_set = match new.at(field) {
            Value::Null => false,
            Value::Object(map) => !map.is_empty(),
            Value::Number(number) => number.as_i64() != Some(0),
            _ => true,
        };
        if is_set {
            causes.invalid(field, &empty(), "needs to be unset");
        }
    }
}
