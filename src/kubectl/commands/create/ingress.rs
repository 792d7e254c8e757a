//! `kubectl create ingress`

use api::{Lens, LensMut, Value, json};

use super::{GENERATOR, finish, name, object, pairs};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{array, text};

pub(super) static INGRESS: Command = Command {
    name: "ingress",
    aliases: &["ing"],
    about: "Create an ingress with the specified name.",
    usage: "NAME --rule=host/path=service:port[,tls[=secret]]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            array("annotation", "An annotation, as key=value"),
            text("class", "", "The ingress class"),
            text("default-backend", "", "The service for what no rule fits, as name:port"),
            array("rule", "A rule, as host/path=service:port[,tls=secret]"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    let rules = call.array("rule");
    let default = call.text("default-backend");
    if rules.is_empty() && default.is_empty() {
        return failed(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
        );
    }
    let mut tree = object("networking.k8s.io/v1", "Ingress", own);
    let annotations = pairs(&call.array("annotation"), "annotation");
    if let Some(bad) = call.array("annotation").into_iter().find(|text| !text.contains('=')) {
        return failed(format!("annotation {bad} is invalid and should be in format key=[value]"));
    }
    let annotations = annotations?;
    if !annotations.is_empty() {
        tree.set("metadata.annotations", Value::Object(annotations));
    }
    tree["spec"] = json!({});
    if !call.text("class").is_empty() {
        tree.set("spec.ingressClassName", call.text("class"));
    }
    if !default.is_empty() {
        let Some((service, port)) = default.split_once(':') else {
            return failed("default-backend should be in format servicename:serviceport");
        };
        tree.set("spec.defaultBackend", backend(service, port));
    }
    for text in &rules {
        rule(text, &mut tree)?;
    }
    tree["status"] = json!({"loadBalancer": {}});
    finish(call, tree)
}

fn backend(service: &str, port: &str) -> Value {
    let port = match port.parse::<i64>() {
        Ok(number) => json!({"number": number}),
        Err(_) => json!({"name": port}),
    };
    json!({"service": {"name": service, "port": port}})
}

/// `host/path*=service:port,tls=secret`
fn rule(text: &str, tree: &mut Value) -> Outcome {
    let bad = || {
        failed(format!(
            "rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
        ))
    };
    let (route, tls) = match text.split_once(',') {
        Some((route, tls)) => (route, Some(tls)),
        None => (text, None),
    };
    let Some((from, to)) = route.split_once('=') else { return bad() };
    let (Some((host, path)), Some((service, port))) = (from.split_once('/'), to.split_once(':'))
    else {
        return bad();
    };
    let (path, kind) = match path.strip_suffix('*') {
        Some(prefix) => (format!("/{prefix}"), "Prefix"),
        None => (format!("/{path}"), "Exact"),
    };
    let entry = json!({"path": path, "pathType": kind, "backend": backend(service, port)});
    let rules = tree.list_mut("spec.rules");
    match rules.iter_mut().find(|rule| rule.str("host") == host) {
        Some(rule) => rule.list_mut("http.paths").push(entry),
        None => {
            let mut rule = json!({"http": {"paths": [entry]}});
            if !host.is_empty() {
                rule["host"] = host.into();
            }
            rules.push(rule);
        }
    }
    let Some(tls) = tls else { return Ok(()) };
    let secret = match tls.split_once('=') {
        Some(("tls", secret)) => secret,
        None if tls == "tls" => "",
        _ => return bad(),
    };
    let entries = tree.list_mut("spec.tls");
    match entries.iter_mut().find(|entry| entry.str("secretName") == secret) {
        Some(entry) => {
            let hosts = entry.list_mut("hosts");
            if !host.is_empty() && !hosts.contains(&host.into()) {
                hosts.push(host.into());
            }
        }
        None => {
            let mut entry = json!({});
            if !host.is_empty() {
                entry["hosts"] = json!([host]);
            }
            if !secret.is_empty() {
                entry["secretName"] = secret.into();
            }
            entries.push(entry);
        }
    }
    Ok(())
}
