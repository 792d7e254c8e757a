//! The parts of descriptions that code writes, by the names that templates call them.

use api::{Lens, Value};
use wire::base64;

use crate::page::Page;
use crate::words;
use crate::{
    access, claims, controller, endpoints, events, network, nodes, pods, scaling, volumes,
};

/// Writes a section: its name, the title or the indentation that the template gives, and a path within the object.
pub(crate) fn write(page: &mut Page<'_>, name: &str, title: &str, path: &str, root: &Value) {
    let value = root.at(path);
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    match name {
        "labels" => page.labels(title, value),
        "annotations" => page.annotations(title, value),
        "events" => events::write(page),
        "status" => claims::status(page, title == "pod", root),
        "controller" => {
            if let Some(owner) = controller(root) {
                page.line(&["Controlled By:\t", owner.str("kind"), "/", owner.str("name")]);
            }
        }
        "resources" => pods::resources(page, title, value),
        "podcontainers" => pods::pod_containers(page, root),
        "gates" => pods::readiness_gates(page, root),
        "volumes" => volumes::volumes(page, title, list),
        "attributes" => volumes::attributes(page, title, value),
        "projected" => volumes::projected(page, root),
        "ephemeral" => {
            page.nest += 4;
            claims::claim(page, false, value);
            page.nest -= 4;
        }
        "source" => volumes::persistent(page, root),
        "qos" => {
            let class = root.str("status.qosClass");
            let class = if class.is_empty() { api::pod::qos_class(root.at("spec")) } else { class };
            page.line(&["QoS Class:\t", class]);
        }
        "tolerations" => pods::tolerations(page, title, list),
        "spread" => pods::spread(page, title, list),
        "template" => pods::template(page, value),
        "phases" => pods::phases(page, root),
        "conditions" => page.render(CONDITIONS, root),
        "replicasets" => scaling::replica_sets(page, root),
        "claims" => claims::claims(page, list),
        "duration" => duration(page, root),
        "indexes" => indexes(page, root),
        "active" => active(page, root),
        "secret" => secret(page, root),
        "data" => {
            for (key, text) in root.pairs("data") {
                page.line(&[key, ":\n----\n", text, "\n"]);
            }
        }
        "binary" => {
            for (key, text) in root.pairs("binaryData") {
                page.line(&[key, ": ", &decoded_len(text).to_string(), " bytes"]);
            }
        }
        "accountsecrets" => access::account_secrets(page, root),
        "policyrules" => access::rules(page, root),
        "balancers" => endpoints::balancers(page, root),
        "ports" => endpoints::service_ports(page, root),
        "subsets" => endpoints::subsets(page, root),
        "sliceendpoints" => endpoints::slice_endpoints(page, root),
        "addresses" => endpoints::ingress_addresses(page, root),
        "rules" => endpoints::ingress_rules(page, root),
        "policy" => network::policy(page, root),
        "metrics" => scaling::metrics(page, root),
        "behavior" => scaling::behavior(page, root),
        _ => nodes::write(page, name, title, value, root),
    }
}

const CONDITIONS: &str = "\
+status.conditions|Conditions:
+status.conditions|  Type~Status~Reason
+status.conditions|  ----~------~------
*status.conditions|  {type} ~{status}~{reason}";

fn duration(page: &mut Page<'_>, job: &Value) {
    let time = |path: &str| api::time::parse(job.str(path));
    if let (Some(start), Some(end)) = (time("status.startTime"), time("status.completionTime")) {
        page.line(&["Duration:\t", &words::human(end.0.saturating_sub(start.0))]);
    }
}

/// Which indexes of an indexed Job are done: the first fifty bytes, up to the next comma.
fn indexes(page: &mut Page<'_>, job: &Value) {
    if job.str("spec.completionMode") != "Indexed" {
        return;
    }
    let done = job.str("status.completedIndexes");
    let done = if done.is_empty() { "<none>" } else { done };
    let end = done.get(50..).and_then(|rest| rest.find(',')).map(|at| 50 + at + 1);
    let (shown, more) = end.map_or((done, ""), |end| (&done[..end], "..."));
    page.line(&["Completed Indexes:\t", shown, more]);
}

fn active(page: &mut Page<'_>, cron_job: &Value) {
    let names: Vec<&str> =
        cron_job.list("status.active").iter().map(|job| job.str("name")).collect();
    page.line(&["Active Jobs:\t", &words::or(names.join(", "), "<none>")]);
}

/// What a Secret holds: how much of each, and the tokens of service accounts.
fn secret(page: &mut Page<'_>, secret: &Value) {
    let has_token = secret.str("type") == "kubernetes.io/service-account-token";
    for (key, text) in secret.pairs("data") {
        if key == "token" && has_token {
            let token = base64::decode(text).unwrap_or_default();
            page.line(&[key, ":\t", &String::from_utf8_lossy(&token)]);
        } else {
            page.line(&[key, ":\t", &decoded_len(text).to_string(), " bytes"]);
        }
    }
}

/// Bytes of what a text of base64 stands for.
fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}
