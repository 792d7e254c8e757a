//! Job: runs pods until enough of them have succeeded.

use api::complain::{Complain, IMMUTABLE};
use api::custom::is_true;
use api::kinds::JOB;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::Cause;
use serde_json::{Map, Value};
use stdx::time::Wall;

use super::Rules;
use super::job_rules;
use crate::checks;
use crate::column::Column;
use crate::print::{CONTAINERS, IMAGES, SELECTOR};

pub(super) static RULES: Rules = Rules {
    kind: &JOB,
    validate,
    columns: COLUMNS,
    default,
    prepare,
    on_update: "CSUV",
    ..Rules::BASE
};

const PREFIXED_UID: &str = "batch.kubernetes.io/controller-uid";

const PREFIXED_NAME: &str = "batch.kubernetes.io/job-name";

fn default(tree: &mut Value) {
    if !tree.has("spec.completions") && !tree.has("spec.parallelism") {
        tree.set("spec.completions", 1);
    }
    tree.set_default("spec.parallelism", 1);
    let per_index = tree.has("spec.backoffLimitPerIndex");
    tree.set_default("spec.backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    tree.set_default("spec.completionMode", "NonIndexed");
    tree.set_default("spec.suspend", false);
    tree.set_default("spec.manualSelector", false);
    let replacement =
        if tree.has("spec.podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    tree.set_default("spec.podReplacementPolicy", replacement);
    crate::pod::defaults::template(tree);
}

/// A job without labels gets its template's.
fn label(tree: &mut Value) {
    if tree.at("metadata.labels").as_object().is_none_or(Map::is_empty)
        && tree.has("spec.template.metadata.labels")
    {
        let labels = tree.at("spec.template.metadata.labels").clone();
        tree.set("metadata.labels", labels);
    }
}

/// A new job that brings no selector of its own gets one by its uid, which the server has set.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() {
        select(new);
    }
    // After the template got its own: in upstream both are one map, or it is read back with them, so that generated labels are the job's, too.
    label(new);
}

fn select(new: &mut Value) {
    if new.flag("spec.manualSelector") {
        return;
    }
    let (uid, name) = (new.str("metadata.uid").to_owned(), new.str("metadata.name").to_owned());
    let labels = new.map_mut("spec.template.metadata.labels");
    for (key, value) in [
        ("controller-uid", &uid),
        (PREFIXED_UID, &uid),
        ("job-name", &name),
        (PREFIXED_NAME, &name),
    ] {
        labels.entry(key).or_insert_with(|| value.as_str().into());
    }
    let selector = new.map_mut("spec.selector.matchLabels");
    selector.entry(PREFIXED_UID).or_insert_with(|| uid.into());
}

const COLUMNS: &[Column<'static>] = &[
    Column::with("Status", |tree, _| status(tree).into()),
    Column::with("Completions", |tree, _| completions(tree).into()),
    Column::with("Duration", duration),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn status(tree: &Value) -> &'static str {
    if let Some(end) = ["Complete", "Failed"].into_iter().find(|end| is_true(tree, end)) {
        return end;
    }
    if tree.has("metadata.deletionTimestamp") {
        return "Terminating";
    }
    let states = ["Suspended", "FailureTarget"];
    states.into_iter().find(|state| is_true(tree, state)).unwrap_or("Running")
}

fn completions(tree: &Value) -> String {
    let succeeded = tree.int("status.succeeded").unwrap_or(0);
    match (tree.int("spec.completions"), tree.int("spec.parallelism").unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    }
}

fn duration(tree: &Value, now: Wall) -> Value {
    let Some(start) = api::time::parse(tree.str("status.startTime")) else { return "".into() };
    let end = api::time::parse(tree.str("status.completionTime")).unwrap_or(now);
    crate::ages::human_duration(end.since(start)).into()
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    job_rules::spec(spec, "spec", causes);
    selector(new, old, causes);
    if spec.str("completionMode") == "Indexed"
        && let Some(completions) = spec.int("completions").filter(|completions| *completions > 0)
    {
        // The host names of its pods end in their indexes.
        let last = format!("{}-{}", new.str("metadata.name"), completions - 1);
        if names::label(&last).is_err() {
            let detail = format!("will not able to create pod with invalid DNS label: {last}");
            causes.invalid("metadata.name", &new.str("metadata.name").into(), &detail);
        }
    }
    if let Some(old) = old {
        update(new, old, causes);
    }
}

/// The selector, which the server makes unless `manualSelector` is set, selects the template's pods.
fn selector(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let labels = spec.at("template.metadata.labels");
    let selector = api::selector::Selector::from_label_selector(spec.at("selector"));
    let before = causes.len();
    if spec.has("selector") {
        checks::label_selector(spec.at("selector"), "spec.selector", causes);
    }
    // What cannot be read is compared with nothing.
    let is_readable = causes.len() == before;
    if !spec.has("selector") {
        causes.required("spec.selector", "");
    }
    if is_readable && !selector.matches_map(labels) {
        let detail = "`selector` does not match template `labels`";
        causes.invalid_labels("spec.template.metadata.labels", labels, detail);
    }
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let (uid, name) = (new.str("metadata.uid"), new.str("metadata.name"));
    // Jobs of long ago lack the labels with a prefix.
    let had = |label: &str| {
        old.is_none_or(|old| old.at("spec.template.metadata.labels").get(label).is_some())
    };
    let prefixed = had(PREFIXED_UID) && had(PREFIXED_NAME);
    let mut expected = Map::new();
    for (label, value, counts) in [
        ("controller-uid", uid, true),
        ("job-name", name, true),
        (PREFIXED_UID, uid, prefixed),
        (PREFIXED_NAME, name, prefixed),
    ] {
        if !counts {
            continue;
        }
        expected.insert(label.into(), value.into());
        let path = "spec.template.metadata.labels";
        match labels.get(label).and_then(Value::as_str) {
            None => {
                causes.required(&format!("{path}[{label}]"), &format!("must be '{value}'"));
            }
            Some(other) if other != value => {
                let path = format!("{path}[{label}]");
                causes.invalid(&path, labels, &format!("must be '{value}'"));
            }
            Some(_) => {}
        }
    }
    if is_readable && !selector.matches_map(&Value::Object(expected)) {
        causes.invalid("spec.selector", spec.at("selector"), "`selector` not auto-generated");
    }
}

/// What may change in a job that exists.
fn update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (spec, before) = (new.at("spec"), old.at("spec"));
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        if spec.at(field) != before.at(field) {
            causes.invalid(&format!("spec.{field}"), spec.at(field), IMMUTABLE);
        }
    }
    if spec.at("completions") != before.at("completions") {
        if spec.str("completionMode") != "Indexed" {
            causes.invalid("spec.completions", spec.at("completions"), IMMUTABLE);
        } else if spec.has("completions") && spec.at("completions") != spec.at("parallelism") {
            let detail = "can only be modified in tandem with spec.parallelism";
            causes.invalid("spec.completions", spec.at("completions"), detail);
        }
    }
    // A suspended job that never ran may still be told where to.
    let movable = old.flag("spec.suspend") && !old.has("status.startTime");
    let fixed = |tree: &Value| {
        let mut template = tree.at("spec.template").clone();
        if !movable {
            return template;
        }
        for path in [
            "spec.nodeSelector",
            "spec.affinity.nodeAffinity",
            "spec.tolerations",
            "spec.schedulingGates",
            "metadata.annotations",
            "metadata.labels",
        ] {
            template.remove(path);
        }
        if template.at("spec.affinity").as_object().is_some_and(Map::is_empty) {
            template.remove("spec.affinity");
        }
        template
    };
    if fixed(new) != fixed(old) {
        causes.invalid("spec.template", spec.at("template"), IMMUTABLE);
    }
}
