//! `kubectl create service`

use api::{LensMut, Value, json};

use super::{GENERATOR, finish, name, object};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{Flag, int, list, text};

const TCP: &[Flag] = &[list("tcp", "Ports, as port or port:targetPort")];

pub(super) static SERVICE: Command = Command {
    name: "service",
    aliases: &["svc"],
    about: "Create a service using a specified subcommand.",
    usage: "",
    subs: &[&CLUSTER_IP, &EXTERNAL_NAME, &LOAD_BALANCER, &NODE_PORT],
    ..BLANK
};

static CLUSTER_IP: Command = Command {
    name: "clusterip",
    about: "Create a ClusterIP service with the specified name.",
    short: "Create a ClusterIP service",
    usage: "NAME [--tcp=<port>:<targetPort>] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        TCP,
        &[text("clusterip", "", "The address, or None")],
    ],
    run: Some(|call| service(call, "ClusterIP")),
    ..BLANK
};

static NODE_PORT: Command = Command {
    name: "nodeport",
    about: "Create a NodePort service with the specified name.",
    short: "Create a NodePort service",
    usage: "NAME [--tcp=port:targetPort] [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        TCP,
        &[int("node-port", "0", "The nodes' port")],
    ],
    run: Some(|call| service(call, "NodePort")),
    ..BLANK
};

static LOAD_BALANCER: Command = Command {
    name: "loadbalancer",
    about: "Create a LoadBalancer service with the specified name.",
    short: "Create a LoadBalancer service",
    usage: "NAME [--tcp=port:targetPort] [--dry-run=server|client|none]",
    flags: &[GENERATOR[0], GENERATOR[1], GENERATOR[2], GENERATOR[3], GENERATOR[4], TCP],
    run: Some(|call| service(call, "LoadBalancer")),
    ..BLANK
};

static EXTERNAL_NAME: Command = Command {
    name: "externalname",
    about: "Create an ExternalName service with the specified name.",
    short: "Create an ExternalName service",
    usage: "NAME --external-name external.name [--dry-run=server|client|none]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        TCP,
        &[text("external-name", "", "The name that the service stands for")],
    ],
    required: &["external-name"],
    run: Some(|call| service(call, "ExternalName")),
    ..BLANK
};

fn service(call: &Call<'_>, kind: &str) -> Outcome {
    let own = name(call)?;
    let cluster_ip = call.text("clusterip");
    let tcp = call.list("tcp");
    let needs_ports = match kind {
        "ClusterIP" => cluster_ip != "None",
        kind => kind != "ExternalName",
    };
    if tcp.is_empty() && needs_ports {
        return failed("at least one tcp port specifier must be provided");
    }
    let mut ports: Vec<Value> = Vec::new();
    for text in &tcp {
        ports.push(port(text, call.int("node-port"))?);
    }
    let mut tree = object("v1", "Service", own);
    tree.set("metadata.labels", json!({"app": own}));
    tree["spec"] = json!({"type": kind, "selector": {"app": own}});
    if !ports.is_empty() {
        tree.set("spec.ports", ports);
    }
    if !cluster_ip.is_empty() {
        tree.set("spec.clusterIP", cluster_ip);
    }
    if kind == "ExternalName" {
        tree.set("spec.externalName", call.text("external-name"));
    }
    tree["status"] = json!({"loadBalancer": {}});
    finish(call, tree)
}

/// `80`, or `80:8080`, or `80:name`.
fn port(text: &str, node_port: i64) -> Outcome<Value> {
    let (outer, inner) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..=65535).contains(n));
    let Some(outer_number) = number(outer) else {
        let is_number = !outer.is_empty() && outer.bytes().all(|b| b.is_ascii_digit());
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        return failed(format!("strconv.ParseUint: parsing {outer:?}: {why}"));
    };
    let name = match text.contains(':') {
        true => format!("{outer}-{inner}"),
        false => outer.to_owned(),
    };
    let target = match number(inner) {
        Some(number) => Value::from(number),
        None => Value::from(inner),
    };
    let mut port =
        json!({"name": name, "port": outer_number, "protocol": "TCP", "targetPort": target});
    if node_port > 0 {
        port["nodePort"] = node_port.into();
    }
    Ok(port)
}
