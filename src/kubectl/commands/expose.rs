//! `kubectl expose`

use api::{Lens, LensMut, Value, json};

use super::create::{finish_as, pairs};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::text;
use crate::select::{self, Info, Pick};
use crate::{options, write};

/// A service's name is a label of DNS.
const NAME_MAX_CHARS: usize = 63;

pub(crate) static COMMAND: Command = Command {
    name: "expose",
    about: "Expose a resource as a new Kubernetes service.",
    short: "Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service",
    usage: "(-f FILENAME | TYPE NAME) [--port=port] [--protocol=TCP|UDP|SCTP] [--target-port=number-or-name] [--name=name] [--external-ip=external-ip-of-service] [--type=type]",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SAVE_CONFIG,
        &[
            text("cluster-ip", "", "The address, or None"),
            text("external-ip", "", "Another address of the service"),
            text("field-manager", "", "Name of who manages the fields"),
            text("labels", "", "Labels of the service, between commas").short('l'),
            text("load-balancer-ip", "", "Address of the load balancer"),
            text("name", "", "The name of the service"),
            text("override-type", "merge", "json, merge or strategic"),
            text("overrides", "", "JSON that the service is patched with"),
            text("port", "", "The port of the service"),
            text("protocol", "", "TCP, UDP or SCTP"),
            text("selector", "", "Labels of the pods"),
            text("session-affinity", "", "None or ClientIP"),
            text("target-port", "", "Port of the containers, or its name"),
            text("type", "", "ClusterIP, NodePort, LoadBalancer or ExternalName"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let pick = Pick { selector: String::new(), ..Pick::of(call, call.args()) };
    let mut failures = Vec::new();
    for info in select::all_infos(call, &pick)? {
        let service = service(call, &info)?;
        failures.extend(finish_as(call, service, "exposed", "kubectl-expose").err());
    }
    Failure::all(failures)
}

fn service(call: &Call<'_>, info: &Info) -> Outcome<Value> {
    let kind = info.resource.kind.as_str();
    if !matches!(kind, "Service" | "ReplicationController" | "Pod" | "Deployment" | "ReplicaSet") {
        return failed(format!(
            "cannot expose a {}",
            match info.resource.group.as_str() {
                "" => kind.to_owned(),
                group => format!("{kind}.{group}"),
            }
        ));
    }
    let name = match call.text("name") {
        "" => info.name.chars().take(NAME_MAX_CHARS).collect::<String>(),
        own => own.to_owned(),
    };
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "creationTimestamp": null},
        "spec": {"selector": selector(call, info)?},
        "status": {"loadBalancer": {}},
    });
    let ports = ports(call, info)?;
    if !ports.is_empty() {
        service.set("spec.ports", ports);
    }
    let labels = match call.text("labels") {
        "" => info.object.at("metadata.labels").clone(),
        text => {
            let texts: Vec<String> = text.split(',').map(str::to_owned).collect();
            Value::Object(pairs(&texts, "label")?)
        }
    };
    if labels.as_object().is_some_and(|map| !map.is_empty()) {
        service.set("metadata.labels", labels);
    }
    for (flag, path) in [
        ("type", "spec.type"),
        ("load-balancer-ip", "spec.loadBalancerIP"),
        ("session-affinity", "spec.sessionAffinity"),
        ("cluster-ip", "spec.clusterIP"),
    ] {
        if !call.text(flag).is_empty() {
            service.set(path, call.text(flag));
        }
    }
    if !call.text("external-ip").is_empty() {
        service["spec"]["externalIPs"] = json!([call.text("external-ip")]);
    }
    super::run::override_with(call, &mut service, "Service")?;
    Ok(service)
}

fn selector(call: &Call<'_>, info: &Info) -> Outcome<Value> {
    if !call.text("selector").is_empty() {
        let texts: Vec<String> = call.text("selector").split(',').map(str::to_owned).collect();
        return Ok(Value::Object(pairs(&texts, "selector")?));
    }
    let object = &info.object;
    let (map, missing) = match info.resource.kind.as_str() {
        "Pod" => (object.at("metadata.labels"), "the pod has no labels and cannot be exposed"),
        "Service" => (object.at("spec.selector"), "the service has no pod selector set"),
        "ReplicationController" => (object.at("spec.selector"), "it has no selector"),
        _ => {
            if !object.list("spec.selector.matchExpressions").is_empty() {
                return failed(format!(
                    "couldn't convert expressions - \"{}\" to map-based selector format",
                    object.at("spec.selector.matchExpressions")
                ));
            }
            (object.at("spec.selector.matchLabels"), "it has no selector")
        }
    };
    match map.as_object().is_none_or(api::Map::is_empty) {
        true => failed(format!(
            "couldn't retrieve selectors via --selector flag or introspection: {missing}"
        )),
        false => Ok(map.clone()),
    }
}

/// The ports: those that are named, or all that the object's containers have.
fn ports(call: &Call<'_>, info: &Info) -> Outcome<Vec<Value>> {
    let object = &info.object;
    let mut found: Vec<(i64, String)> = Vec::new();
    match info.resource.kind.as_str() {
        "Service" => {
            for port in object.list("spec.ports") {
                found.push((port.int("port").unwrap_or(0), port.str("protocol").to_owned()));
            }
        }
        kind => {
            let spec =
                if kind == "Pod" { object.at("spec") } else { object.at("spec.template.spec") };
            for container in spec.list("containers") {
                for port in container.list("ports") {
                    found.push((
                        port.int("containerPort").unwrap_or(0),
                        port.str("protocol").to_owned(),
                    ));
                }
            }
        }
    }
    let named = call.text("port");
    let numbers: Vec<i64> = match named {
        "" => found.iter().map(|(port, _)| *port).collect(),
        text => {
            let parsed: Result<Vec<i64>, _> = text.split(',').map(str::parse).collect();
            parsed.map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?
        }
    };
    if numbers.is_empty() && call.text("cluster-ip") != "None" {
        return failed("couldn't find port via --port flag or introspection");
    }
    let is_many = numbers.len() > 1;
    let mut ports = Vec::new();
    for (idx, number) in numbers.into_iter().enumerate() {
        let own = found
            .iter()
            .find(|(port, _)| *port == number)
            .map_or("", |(_, protocol)| protocol.as_str());
        let protocol = match (call.text("protocol"), own) {
            ("", "") => "TCP",
            ("", own) => own,
            (given, _) => given,
        };
        let target: Value = match call.text("target-port") {
            "" => number.into(),
            text => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        };
        let mut port = json!({"port": number, "protocol": protocol, "targetPort": target});
        if is_many {
            port["name"] = format!("port-{}", idx + 1).into();
        }
        ports.push(port);
    }
    Ok(ports)
}
