//! APIService: who serves a group and version of the API: this server, or a Service.

use api::complain::Complain;
use api::kinds::API_SERVICE;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::Cause;
use serde_json::{Value, json};

use super::{NameRule, Rules};
use crate::column::Column;
use crate::keep;

pub(super) static RULES: Rules = Rules {
    kind: &API_SERVICE,
    columns: &[
        Column::with("Service", |tree, _| match tree.at("spec.service") {
            Value::Null => "Local".into(),
            service => format!("{}/{}", service.str("namespace"), service.str("name")).into(),
        }),
        Column::with("Available", |tree, _| available(tree).into()),
        Column::AGE,
    ],
    name_rule: NameRule::PathSegment,
    prepare,
    prepare_status: keep::keep_metadata,
    validate,
    validate_status,
    on_update: "UCV",
    ..Rules::BASE
};

fn available(tree: &Value) -> String {
    let conditions = tree.list("status.conditions");
    let condition = conditions.iter().find(|condition| condition.str("type") == "Available");
    match condition.map(|condition| (condition.str("status"), condition.str("reason"))) {
        None => "Unknown".into(),
        Some(("True", _)) => "True".into(),
        Some((status, "")) => status.into(),
        Some((status, reason)) => format!("{status} ({reason})"),
    }
}

/// What this server serves is available.
fn prepare(new: &mut Value, old: Option<&Value>) {
    if old.is_none() && !new.has("spec.service") {
        let now = new.at("metadata.creationTimestamp").clone();
        new.set(
            "status.conditions",
            json!([{
                "type": "Available", "status": "True", "lastTransitionTime": now,
                "reason": "Local", "message": "Local APIServices are always available",
            }]),
        );
    }
}

fn validate(new: &Value, _: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let (group, version) = (spec.str("group"), spec.str("version"));
    let (name, required) = (new.str("metadata.name"), format!("{version}.{group}"));
    let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
    for (path, name) in
        [("metadata.generateName", new.str("metadata.generateName")), ("metadata.name", name)]
    {
        if !name.is_empty() && name != required && names::path_segment(name).is_ok() {
            causes.invalid(path, &name.into(), &detail);
        }
    }
    match group {
        "" if version != "v1" => {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            causes.required("spec.group", detail);
        }
        "" => {}
        group => causes.check_name("spec.group", group, names::subdomain),
    }
    causes.check_name("spec.version", version, names::label_1035);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = spec.int(field).unwrap_or(0);
        if !(1..=max).contains(&number) {
            let detail = format!("must be positive and less than {max}");
            causes.invalid(&format!("spec.{field}"), &number.into(), &detail);
        }
    }
    service(spec, causes);
}

fn service(spec: &Value, causes: &mut Vec<Cause>) {
    let (bundle, insecure) = (spec.str("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let complain = |causes: &mut Vec<Cause>, detail: &str| {
        causes.invalid("spec.insecureSkipTLSVerify", &true.into(), detail);
    };
    let service = spec.at("service");
    if service.is_null() {
        if !bundle.is_empty() {
            let n_bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            let shown = format!("{n_bytes} bytes").into();
            causes.invalid("spec.caBundle", &shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            complain(causes, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for field in ["namespace", "name"] {
        if service.str(field).is_empty() {
            causes.required(&format!("spec.service.{field}"), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        let detail = format!("port is not valid: {}", api::complain::PORT_RANGE);
        causes.invalid("spec.service.port", &port.into(), &detail);
    }
    if insecure && !bundle.is_empty() {
        complain(causes, "may not be true if caBundle is present");
    }
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    const STATUSES: &[&str] = &["True", "False", "Unknown"];
    for (idx, condition) in new.list("status.conditions").iter().enumerate() {
        let status = condition.str("status");
        if !STATUSES.contains(&status) {
            let path = format!("status.conditions[{idx}].status");
            causes.not_supported_in_order(&path, status, STATUSES);
        }
    }
}
