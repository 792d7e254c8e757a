//! IngressClass: which controller serves the ingresses that name it.

use api::complain::{Complain, IMMUTABLE};
use api::kinds::INGRESS_CLASS;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &INGRESS_CLASS,
    columns: &[
        Column::path("Controller", "spec.controller"),
        Column::with("Parameters", |tree, _| parameters(tree.at("spec.parameters")).into()),
        Column::AGE,
    ],
    validate,
    on_update: "UCV",
    ..Rules::BASE
};

fn parameters(parameters: &Value) -> String {
    if parameters.is_null() {
        return "<none>".into();
    }
    let group = parameters.at("apiGroup").as_str().map_or(String::new(), |it| format!(".{it}"));
    format!("{}{group}/{}", parameters.str("kind"), parameters.str("name"))
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const CONTROLLER_BYTES_MAX: usize = 250;
    let controller = new.str("spec.controller");
    if old.is_some_and(|old| old.str("spec.controller") != controller) {
        causes.invalid("spec.controller", &controller.into(), IMMUTABLE);
    }
    if controller.len() > CONTROLLER_BYTES_MAX {
        causes.too_long("spec.controller", CONTROLLER_BYTES_MAX);
    }
    prefixed_path(controller, "spec.controller", causes);
    let parameters = new.at("spec.parameters");
    if parameters.is_null() {
        return;
    }
    reference(parameters, "spec.parameters", causes);
    let (namespace, path) = (parameters.at("namespace"), "spec.parameters.namespace");
    match parameters.at("scope").as_str() {
        None => causes.required("spec.parameters.scope", ""),
        Some("Namespace") => match namespace.as_str() {
            None => causes.required(path, "`parameters.scope` is set to 'Namespace'"),
            Some(namespace) => causes.check_name(path, namespace, names::label),
        },
        Some("Cluster") if !namespace.is_null() => {
            causes.forbidden(path, "`parameters.scope` is set to 'Cluster'");
        }
        Some("Cluster") => {}
        Some(other) => {
            causes.not_supported("spec.parameters.scope", other, &["Cluster", "Namespace"]);
        }
    }
}

/// `example.com/path`.
fn prefixed_path(text: &str, path: &str, causes: &mut Vec<Cause>) {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    match text.split_once('/') {
        _ if text.is_empty() => causes.required(path, ""),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            causes.check_name(path, host, names::subdomain);
            if !rest.bytes().all(legal) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                causes.invalid(path, &rest.into(), detail);
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            causes.invalid(path, &text.into(), detail);
        }
    }
}

/// A `TypedLocalObjectReference` at `path`.
pub(super) fn reference(reference: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(group) = reference.at("apiGroup").as_str() {
        causes.check_name(&format!("{path}.apiGroup"), group, names::subdomain);
    }
    for field in ["kind", "name"] {
        let path = format!("{path}.{field}");
        match reference.str(field) {
            "" => causes.required(&path, &format!("{field} is required")),
            name => causes.check_name(&path, name, names::path_segment),
        }
    }
}
