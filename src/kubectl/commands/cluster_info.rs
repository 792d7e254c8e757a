//! `kubectl cluster-info`

use api::Lens;

use crate::call::{BLANK, Call, Command};
use crate::failure::Outcome;
use crate::flags::{list, switch, text};
use crate::print::json;
use crate::select::{self, Pick};
use crate::{options, out};

pub(crate) static COMMAND: Command = Command {
    name: "cluster-info",
    about: "Display addresses of the control plane and services with label kubernetes.io/cluster-service=true.",
    short: "Display cluster information",
    subs: &[&DUMP],
    run: Some(run),
    ..BLANK
};

static DUMP: Command = Command {
    name: "dump",
    about: "Dump cluster information out suitable for debugging and diagnosing cluster problems.",
    short: "Dump relevant information for debugging and diagnosis",
    usage: "[flags]",
    flags: &[
        options::ALL_NAMESPACES,
        &[
            list("namespaces", "Namespaces to dump"),
            text("output-directory", "", "Directory to write to, or - for stdout"),
            text("output", "json", "json or yaml").short('o'),
            switch("show-managed-fields", "Keep the managedFields"),
        ],
    ],
    run: Some(dump),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let rest = call.rest()?;
    let services = rest.get("/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue");
    let services = services.inspect_err(|_| {
        out::line(
            "\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.",
        );
    })?;
    print_service("Kubernetes control plane", &rest.server);
    for service in services.list("items") {
        let meta = service.at("metadata");
        let name = meta.entry("labels", "kubernetes.io/name").unwrap_or(meta.str("name"));
        let ingress = service.at("status.loadBalancer.ingress.0");
        let link = match (ingress.str("ip"), ingress.str("hostname")) {
            ("", "") => {
                let port = service.at("spec.ports.0");
                let scheme = match (port.str("name"), port.int("port")) {
                    ("https", _) | (_, Some(443)) => "https:",
                    _ => "",
                };
                let port_name = port.str("name");
                let colon = if scheme.is_empty() && port_name.is_empty() { "" } else { ":" };
                format!(
                    "{}/api/v1/namespaces/{}/services/{scheme}{}{colon}{port_name}/proxy",
                    rest.server,
                    meta.str("namespace"),
                    meta.str("name")
                )
            }
            (ip, host) => {
                let whom = if ip.is_empty() { host } else { ip };
                let ports = service.list("spec.ports").iter();
                let links: Vec<String> = ports
                    .map(|port| format!("http://{whom}:{}", port.int("port").unwrap_or(0)))
                    .collect();
                links.join(" ")
            }
        };
        print_service(name, &link);
    }
    out::line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.");
    Ok(())
}

fn print_service(name: &str, link: &str) {
    use std::io::IsTerminal;
    match std::io::stdout().is_terminal() {
        true => out::line(&format!(
            "\u{1b}[0;32m{name}\u{1b}[0m is running at \u{1b}[0;33m{link}\u{1b}[0m"
        )),
        false => out::line(&format!("{name} is running at {link}")),
    }
}

fn dump(call: &Call<'_>) -> Outcome {
    let write = |name: &str, text: &str| -> Outcome {
        match call.text("output-directory") {
            "" | "-" => out::print(text),
            dir => {
                let path = std::path::Path::new(dir).join(name);
                if let Some(parent) = path.parent() {
                    rt::fs::create_dir_all(parent, 0o755)?;
                }
                rt::fs::write(&path, text.as_bytes(), 0o644)?;
            }
        }
        Ok(())
    };
    let shown = |mut tree: api::Value| {
        if !call.is("show-managed-fields") {
            crate::print::unmanaged(&mut tree);
        }
        match call.text("output") {
            "yaml" => wire::yaml_text::text(&tree),
            _ => format!("{}\n", json(&tree, 4)),
        }
    };
    let extension = if call.text("output") == "yaml" { "yaml" } else { "json" };
    let (rest, mapper) = (call.rest()?, call.mapper()?);
    let list = |word: &str, namespace: &str| -> Outcome<api::Value> {
        let resource = mapper.find(rest, word)?;
        select::list(call, &resource, namespace, &Pick::default())
    };
    write(&format!("nodes.{extension}"), &shown(list("nodes", "")?))?;
    let mut namespaces = call.list("namespaces");
    if call.is("all-namespaces") {
        let all = list("namespaces", "")?;
        namespaces =
            all.list("items").iter().map(|it| it.str("metadata.name").to_owned()).collect();
    } else if namespaces.is_empty() {
        namespaces = vec!["kube-system".to_owned(), call.namespace()?.0];
    }
    for namespace in namespaces {
        for (word, file) in [
            ("events", "events"),
            ("replicationcontrollers", "replication-controllers"),
            ("services", "services"),
            ("daemonsets.apps", "daemonsets"),
            ("deployments.apps", "deployments"),
            ("replicasets.apps", "replicasets"),
            ("pods", "pods"),
        ] {
            write(&format!("{namespace}/{file}.{extension}"), &shown(list(word, &namespace)?))?;
        }
        for pod in list("pods", &namespace)?.list("items") {
            let name = pod.str("metadata.name");
            let mut text = String::new();
            for container in pod.list("spec.containers") {
                let container = container.str("name");
                text.push_str(&format!(
                    "==== START logs for container {container} of pod {namespace}/{name} ====\n"
                ));
                let path =
                    format!("/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}");
                match rest.ask(http::Method::Get, &path, "application/json, */*", None) {
                    Ok((bytes, _)) => text.push_str(&String::from_utf8_lossy(&bytes)),
                    Err(failure) => {
                        text.push_str(&format!("Request log error: {}\n", failure.text()))
                    }
                }
                text.push_str(&format!(
                    "==== END logs for container {container} of pod {namespace}/{name} ====\n"
                ));
            }
            write(&format!("{namespace}/{name}/logs.txt"), &text)?;
        }
    }
    match call.text("output-directory") {
        "" | "-" => {}
        dir => out::line(&format!("Cluster info dumped to {dir}")),
    }
    Ok(())
}
