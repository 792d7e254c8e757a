//! Ingress: which requests from outside go to which services, by host and path.

use api::address;
use api::complain::{Complain, PORT_RANGE};
use api::kinds::INGRESS;
use api::kinds::ingress::CLASS_ANNOTATION;
use api::lens::Lens;
use api::names;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::Rules;
use crate::column::Column;

pub(super) static RULES: Rules = Rules {
    kind: &INGRESS,
    columns: COLUMNS,
    validate,
    validate_status,
    on_update: "UCV",
    ..Rules::BASE
};

const COLUMNS: &[Column<'static>] = &[
    Column::with("Class", |tree, _| {
        tree.at("spec.ingressClassName").as_str().unwrap_or("<none>").into()
    }),
    Column::with("Hosts", |tree, _| hosts(tree.list("spec.rules")).into()),
    Column::with("Address", |tree, _| address(tree.list("status.loadBalancer.ingress")).into()),
    Column::with("Ports", |tree, _| {
        if tree.list("spec.tls").is_empty() { "80" } else { "80, 443" }.into()
    }),
    Column::AGE,
];

fn hosts(rules: &[Value]) -> String {
    const SHOWN_MAX: usize = 3;
    let named = rules.iter().enumerate().filter(|(_, rule)| !rule.str("host").is_empty());
    let named: Vec<(usize, &str)> =
        named.map(|(idx, rule)| (idx, rule.str("host"))).take(SHOWN_MAX).collect();
    let shown = named.iter().map(|(_, host)| *host).collect::<Vec<_>>().join(",");
    match named.last() {
        None => "*".into(),
        // Upstream counts every rule that follows the last one shown, with a host or without.
        Some((last, _)) if named.len() == SHOWN_MAX && last + 1 < rules.len() => {
            format!("{shown} + {} more...", rules.len() - SHOWN_MAX)
        }
        Some(_) => shown,
    }
}

fn address(ingress: &[Value]) -> String {
    let either = |one: &Value| match one.str("ip") {
        "" => one.str("hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let all: OrdSet<String> = ingress.iter().map(either).filter(|text| !text.is_empty()).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let message = format!("Invalid value: []networking.IngressRule(nil): {detail}");
        causes.complain("FieldValueInvalid", "spec", message);
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), "spec.defaultBackend", causes);
    }
    // What was stored in earlier times may stay as it is.
    let lenient = old.is_some_and(|old| {
        let rules = old.list("spec.rules").iter();
        rules.filter(|rule| rule.str("host").contains('*')).any(|rule| {
            let mut causes = Vec::new();
            self::rule(rule, "", &mut causes);
            !causes.is_empty()
        })
    });
    for (idx, rule) in spec.list("rules").iter().enumerate() {
        let path = format!("spec.rules[{idx}]");
        let host = rule.str("host");
        if !host.is_empty() {
            self::host(host, &format!("{path}.host"), causes);
        }
        if !(lenient && host.contains('*')) {
            self::rule(rule, &path, causes);
        }
    }
    tls(spec, old, causes);
    if let Some(class) = spec.at("ingressClassName").as_str() {
        causes.check_name("spec.ingressClassName", class, names::subdomain);
        let annotation = new.entry("metadata.annotations", CLASS_ANNOTATION);
        if let Some(other) = annotation.filter(|other| old.is_none() && *other != class) {
            let path = format!("annotations.{CLASS_ANNOTATION}");
            let detail = "must match `ingressClassName` when both are specified";
            causes.invalid(&path, &other.into(), detail);
        }
    }
}

fn tls(spec: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let legal = |name: &str| name.is_empty() || names::subdomain(name).is_ok();
    let lenient =
        old.is_some_and(|old| old.list("spec.tls").iter().any(|tls| !legal(tls.str("secretName"))));
    for (idx, tls) in spec.list("tls").iter().enumerate() {
        let path = format!("spec.tls[{idx}]");
        for (idx, host) in tls.list("hosts").iter().filter_map(Value::as_str).enumerate() {
            causes.check_name(&format!("{path}.hosts[{idx}]"), host, host_rule(host));
        }
        let secret = tls.str("secretName");
        if !secret.is_empty() && !lenient {
            causes.check_name(&format!("{path}.secretName"), secret, names::subdomain);
        }
    }
}

fn host_rule(host: &str) -> fn(&str) -> Result<(), String> {
    if host.contains('*') { names::wildcard_subdomain } else { names::subdomain }
}

fn host(host: &str, path: &str, causes: &mut Vec<Cause>) {
    if address::parse(host).is_some() {
        causes.invalid(path, &host.into(), "must be a DNS name, not an IP address");
    }
    causes.check_name(path, host, host_rule(host));
}

/// What a rule says about paths.
fn rule(rule: &Value, path: &str, causes: &mut Vec<Cause>) {
    if !rule.has("http") {
        return;
    }
    let path = format!("{path}.http.paths");
    if rule.list("http.paths").is_empty() {
        causes.required(&path, "");
    }
    for (idx, one) in rule.list("http.paths").iter().enumerate() {
        http_path(one, &format!("{path}[{idx}]"), causes);
    }
}

fn http_path(one: &Value, path: &str, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    const ILLEGAL: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
    const ILLEGAL_ENDS: &[&str] = &["/..", "/."];
    let Some(kind) = one.at("pathType").as_str() else {
        return causes.required(&format!("{path}.pathType"), "pathType must be specified");
    };
    let value = one.str("path");
    let strict = matches!(kind, "Exact" | "Prefix");
    let mut complain = |detail: String| {
        causes.invalid(&format!("{path}.path"), &value.into(), &detail);
    };
    if TYPES.contains(&kind) && !value.starts_with('/') && (strict || !value.is_empty()) {
        complain("must be an absolute path".into());
    }
    if strict {
        for illegal in ILLEGAL.iter().filter(|illegal| value.contains(**illegal)) {
            complain(format!("must not contain '{illegal}'"));
        }
        for illegal in ILLEGAL_ENDS.iter().filter(|illegal| value.ends_with(**illegal)) {
            complain(format!("cannot end with '{illegal}'"));
        }
    }
    if !TYPES.contains(&kind) {
        causes.not_supported(&format!("{path}.pathType"), kind, TYPES);
    }
    backend(one.at("backend"), &format!("{path}.backend"), causes);
}

fn backend(backend: &Value, path: &str, causes: &mut Vec<Cause>) {
    match (backend.has("resource"), backend.has("service")) {
        (true, true) => {
            causes.invalid(path, &"".into(), "cannot set both resource and service backends");
        }
        (true, false) => {
            super::ingress_class::reference(
                backend.at("resource"),
                &format!("{path}.resource"),
                causes,
            );
        }
        (false, true) => service(backend.at("service"), path, causes),
        (false, false) => {
            causes.invalid(path, &"".into(), "resource or service backend is required");
        }
    }
}

fn service(service: &Value, path: &str, causes: &mut Vec<Cause>) {
    let path_of_name = format!("{path}.service.name");
    match service.str("name") {
        "" => causes.required(&path_of_name, ""),
        name => causes.check_name(&path_of_name, name, names::label_1035),
    }
    let (name, number) = (service.at("port.name"), service.int("port.number").unwrap_or(0));
    match (name.as_str().unwrap_or(""), number) {
        ("", 0) => causes.required(path, "port name or number is required"),
        ("", number) if (1..=65_535).contains(&number) => {}
        ("", number) => {
            causes.invalid(&format!("{path}.service.port.number"), &number.into(), PORT_RANGE);
        }
        (_, 0) => {
            crate::pod::validate::port(name, &format!("{path}.service.port.name"), causes);
        }
        _ => causes.invalid(path, &"".into(), "cannot set both port name & port number"),
    }
}

fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "status.loadBalancer.ingress";
    for (idx, one) in new.list(PATH).iter().enumerate() {
        let (ip, hostname) = (one.str("ip"), one.str("hostname"));
        if !ip.is_empty() {
            address::ip(ip, &format!("{PATH}[{idx}].ip"), causes);
        }
        if !hostname.is_empty() {
            let path = format!("{PATH}[{idx}].hostname");
            causes.check_name(&path, hostname, names::subdomain);
            if address::parse(hostname).is_some() {
                let detail = "must be a DNS name, not an IP address";
                causes.invalid(&path, &hostname.into(), detail);
            }
        }
    }
}
