//! Service: a name and address for a changing set of pods.

use api::address;
use api::complain::{Complain, IMMUTABLE, PORT_RANGE};
use api::kinds::SERVICE;
use api::labels;
use api::lens::{Lens, LensMut};
use api::names;
use api::status::{Cause, Status};
use serde_json::{Value, json};
use stdx::OrdSet;

use super::{NameRule, Rules};
use crate::column::Column;
use crate::print::{labels, or_none};

pub(super) static RULES: Rules = Rules {
    kind: &SERVICE,
    name_rule: NameRule::Label1035,
    validate,
    validate_status,
    columns: COLUMNS,
    default,
    on_update: "UCV",
    ..Rules::BASE
};

fn default(tree: &mut Value) {
    match tree.str("spec.sessionAffinity") {
        "ClientIP" => {
            tree.set_default("spec.sessionAffinityConfig.clientIP.timeoutSeconds", 10_800)
        }
        "None" => {
            tree.remove("spec.sessionAffinityConfig");
        }
        _ => {}
    }
    for port in tree.at_mut("spec.ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if matches!(port.at("targetPort"), Value::Null)
            || port.at("targetPort") == 0
            || port.at("targetPort") == ""
        {
            let number = port.at("port").clone();
            port.set("targetPort", number);
        }
    }
    let service_type = tree.str("spec.type").to_owned();
    let external = matches!(service_type.as_str(), "NodePort" | "LoadBalancer")
        || service_type == "ClusterIP" && !tree.list("spec.externalIPs").is_empty();
    if external {
        tree.set_default("spec.externalTrafficPolicy", "Cluster");
    }
    if matches!(service_type.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        tree.set_default("spec.internalTrafficPolicy", "Cluster");
    }
    if service_type == "LoadBalancer" {
        tree.set_default("spec.allocateLoadBalancerNodePorts", true);
        for ingress in tree
            .at_mut("status.loadBalancer.ingress")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if ingress.has("ip") {
                ingress.set_default("ipMode", "VIP");
            }
        }
    }
}

const COLUMNS: &[Column<'static>] = &[
    Column::path("Type", "spec.type"),
    Column::with("Cluster-IP", |tree, _| or_none(tree.str("spec.clusterIP"))),
    Column::with("External-IP", |tree, _| external_ip(tree).into()),
    Column::with("Port(s)", |tree, _| ports(tree).into()),
    Column::AGE,
    Column::with("Selector", |tree, _| labels(tree.at("spec.selector")).into()).wide(),
];

fn external_ip(tree: &Value) -> String {
    let mut addresses: Vec<&str> = Vec::new();
    match tree.str("spec.type") {
        "ExternalName" => return tree.str("spec.externalName").to_owned(),
        "LoadBalancer" => {
            for ingress in tree.list("status.loadBalancer.ingress") {
                addresses.extend(
                    [ingress.str("ip"), ingress.str("hostname")]
                        .into_iter()
                        .find(|a| !a.is_empty()),
                );
            }
            if addresses.is_empty() && tree.list("spec.externalIPs").is_empty() {
                return "<pending>".into();
            }
        }
        _ => {}
    }
    addresses.extend(tree.list("spec.externalIPs").iter().filter_map(Value::as_str));
    if addresses.is_empty() { "<none>".into() } else { addresses.join(",") }
}

fn ports(tree: &Value) -> String {
    let ports = tree.list("spec.ports").iter().map(|port| {
        let (number, protocol) = (port.int("port").unwrap_or(0), port.str("protocol"));
        match port.int("nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    if ports.is_empty() { "<none>".into() } else { ports.join(",") }
}

fn validate(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = new.at("spec");
    let service_type = spec.str("type");
    let headless = spec.str("clusterIP") == "None";
    if spec.list("ports").is_empty() && !headless && service_type != "ExternalName" {
        causes.required("spec.ports", "");
    }
    match service_type {
        "LoadBalancer" if headless => {
            causes.invalid(
                "spec.clusterIPs[0]",
                &"None".into(),
                "may not be set to 'None' for LoadBalancer services",
            );
        }
        "NodePort" if headless => {
            causes.invalid(
                "spec.clusterIPs[0]",
                &"None".into(),
                "may not be set to 'None' for NodePort services",
            );
        }
        "ExternalName" => external_name(spec, causes),
        _ => {}
    }
    check_ports(spec, causes);
    traffic(spec, causes);
    labels::labels(spec.at("selector"), "spec.selector", causes);
    for (idx, ip) in spec.list("externalIPs").iter().enumerate() {
        address::ordinary_ip(
            ip.as_str().unwrap_or(""),
            &format!("spec.externalIPs[{idx}]"),
            causes,
        );
    }
    cluster_ips(spec, causes);
    source_ranges(new, causes);
    if let Some(secs) = spec.int("sessionAffinityConfig.clientIP.timeoutSeconds")
        && !(1..=86_400).contains(&secs)
    {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        causes.invalid(path, &secs.into(), "must be greater than 0 and less than 86400");
    }
    let external = matches!(service_type, "NodePort" | "LoadBalancer")
        || service_type == "ClusterIP" && !spec.list("externalIPs").is_empty();
    if !spec.str("externalTrafficPolicy").is_empty() && !external {
        let detail = "may only be set for externally-accessible services";
        causes.invalid("spec.externalTrafficPolicy", spec.at("externalTrafficPolicy"), detail);
    }
    if !is_balancer(spec) && spec.has("allocateLoadBalancerNodePorts") {
        causes.forbidden("spec.allocateLoadBalancerNodePorts", OF_BALANCERS);
    }
    balancer_class(spec, causes);
    let Some(old) = old.map(|old| old.at("spec")) else { return };
    let both = |check: fn(&Value) -> bool| check(old) && check(spec);
    let class = spec.at("loadBalancerClass");
    if both(is_balancer) && class != old.at("loadBalancerClass") {
        causes.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
    // Upstream looks at it twice at an update.
    balancer_class(spec, causes);
    if both(needs_health_check) && spec.int("healthCheckNodePort") != old.int("healthCheckNodePort")
    {
        causes.forbidden("spec.healthCheckNodePort", IMMUTABLE);
    }
    if old.str("type") != "ExternalName" && service_type != "ExternalName" {
        changed_addresses(old, spec, causes);
    }
}

/// The first address and family of a Service stay; the second may come, and go if the policy says so.
fn changed_addresses(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    const STAYS: &str = "may not change once set";
    let (was_headless, headless) = (old.str("clusterIP") == "None", new.str("clusterIP") == "None");
    if was_headless && headless {
        return;
    }
    let single = new.str("ipFamilyPolicy") == "SingleStack";
    let mut compare = |field: &str, whole: bool, one: &str| {
        let (before, now, path) = (old.list(field), new.list(field), format!("spec.{field}"));
        let n_same = if before.len() == now.len() { before.len() } else { before.len().min(1) };
        if now.is_empty() && !before.is_empty() {
            let detail = format!("primary {one} can not be unset");
            causes.invalid(&format!("{path}[0]"), new.at(field), &detail);
        }
        for (idx, _) in before.iter().zip(now).enumerate().take(n_same).filter(|(_, (a, b))| a != b)
        {
            let idx = if whole { idx } else { 0 };
            causes.invalid(&format!("{path}[{idx}]"), new.at(field), STAYS);
        }
        if before.len() == 2 && now.len() == 1 && !single {
            let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
            causes.invalid("spec.ipFamilyPolicy", new.at("ipFamilyPolicy"), &detail);
        }
    };
    if old.list("clusterIPs").is_empty() {
        // Written by somebody who knew one address only.
        if !old.str("clusterIP").is_empty() && old.str("clusterIP") != new.str("clusterIP") {
            causes.invalid("spec.clusterIPs[0]", new.at("clusterIPs"), STAYS);
        }
        return;
    }
    compare("clusterIPs", true, "clusterIP");
    if was_headless == headless {
        compare("ipFamilies", false, "ipFamily");
    }
}

const OF_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

fn is_balancer(spec: &Value) -> bool {
    spec.str("type") == "LoadBalancer"
}

fn needs_health_check(spec: &Value) -> bool {
    is_balancer(spec) && spec.str("externalTrafficPolicy") == "Local"
}

fn balancer_class(spec: &Value, causes: &mut Vec<Cause>) {
    let path = "spec.loadBalancerClass";
    match spec.at("loadBalancerClass").as_str() {
        None => {}
        Some(class) if is_balancer(spec) => causes.check_name(path, class, names::qualified),
        Some(_) => causes.forbidden(path, OF_BALANCERS),
    }
}

/// What can be said of a Service's addresses and families before any is allocated.
///
/// # Errors
/// 422 with one cause per complaint.
pub fn check_addresses(service: &Value) -> Result<(), Status> {
    let (mut causes, spec) = (Vec::new(), service.at("spec"));
    let mut seen = OrdSet::new();
    let (all, first) = (spec.list("clusterIPs"), spec.str("clusterIP"));
    if first.is_empty() && !all.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        causes.invalid("spec.clusterIPs", spec.at("clusterIPs"), detail);
    } else if !first.is_empty() && all.is_empty() {
        causes.required("spec.clusterIPs", "");
    } else if all.first().is_some_and(|it| it != first) {
        let detail = "first value must match `clusterIP`";
        causes.invalid("spec.clusterIPs", spec.at("clusterIPs"), detail);
    }
    for (idx, family) in spec.list("ipFamilies").iter().enumerate() {
        let (path, name) = (format!("spec.ipFamilies[{idx}]"), family.as_str().unwrap_or(""));
        if !matches!(name, "IPv4" | "IPv6") {
            causes.not_supported(&path, name, &["IPv4", "IPv6"]);
        }
        if !seen.insert(name) {
            causes.duplicate(&path, family);
        }
    }
    if let Some(policy) = spec.at("ipFamilyPolicy").as_str() {
        const KNOWN: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        if !KNOWN.contains(&policy) {
            causes.not_supported("spec.ipFamilyPolicy", policy, &KNOWN);
        }
    }
    cluster_ips(spec, &mut causes);
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&SERVICE, service.str("metadata.name"), causes)),
    }
}

/// The addresses by themselves: that they are in the service range, and free, is for who allocates them.
fn cluster_ips(spec: &Value, causes: &mut Vec<Cause>) {
    if spec.str("type") == "ExternalName" {
        return;
    }
    let all = spec.list("clusterIPs");
    let ips: Vec<&str> = all.iter().map(|ip| ip.as_str().unwrap_or("")).collect();
    let mut families = Vec::new();
    for (idx, ip) in ips.iter().enumerate() {
        let path = format!("spec.clusterIPs[{idx}]");
        match *ip {
            "None" if idx == 0 && ips.len() > 1 => {
                let detail = "'None' must be the first and only value";
                causes.invalid("spec.clusterIPs", spec.at("clusterIPs"), detail);
            }
            "None" if idx == 0 => {}
            ip => families.extend(address::ip(ip, &path, causes).map(|ip| ip.is_ipv4())),
        }
    }
    if ips.len() > 2 {
        causes.invalid("spec.clusterIPs", spec.at("clusterIPs"), "may only hold up to 2 values");
    }
    let wanted = spec.list("ipFamilies").iter().filter_map(Value::as_str);
    let given = if families.len() == ips.len() { &families[..] } else { &[] };
    for (idx, (is_v4, wanted)) in given.iter().zip(wanted).enumerate() {
        if matches!((wanted, is_v4), ("IPv4", false) | ("IPv6", true)) {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{idx}]`");
            causes.invalid(&format!("spec.clusterIPs[{idx}]"), &ips[idx].into(), &detail);
        }
    }
    if let [first, second] = families[..]
        && first == second
    {
        let detail = "may specify no more than one IP for each IP family";
        causes.invalid("spec.clusterIPs", spec.at("clusterIPs"), detail);
    }
}

/// What a load balancer says about itself.
fn validate_status(new: &Value, causes: &mut Vec<Cause>) {
    const PATH: &str = "status.loadBalancer.ingress";
    let ingress = new.list(PATH);
    if new.str("spec.type") != "LoadBalancer" && !ingress.is_empty() {
        causes.forbidden(PATH, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for (idx, one) in ingress.iter().enumerate() {
        let path = format!("{PATH}[{idx}]");
        let (ip, mode, hostname) = (one.str("ip"), one.str("ipMode"), one.str("hostname"));
        if !ip.is_empty() {
            address::ip(ip, &format!("{path}.ip"), causes);
        }
        let path_of_mode = format!("{path}.ipMode");
        match mode {
            "" if !ip.is_empty() => {
                causes.required(&path_of_mode, "must be specified when `ip` is set")
            }
            "" => {}
            _ if ip.is_empty() => {
                causes.forbidden(&path_of_mode, "may not be specified when `ip` is not set");
            }
            "VIP" | "Proxy" => {}
            other => causes.not_supported(&path_of_mode, other, &["Proxy", "VIP"]),
        }
        if !hostname.is_empty() {
            let path = format!("{path}.hostname");
            causes.check_name(&path, hostname, names::subdomain);
            if address::parse(hostname).is_some() {
                let detail = "must be a DNS name, not an IP address";
                causes.invalid(&path, &hostname.into(), detail);
            }
        }
    }
}

fn external_name(spec: &Value, causes: &mut Vec<Cause>) {
    if !spec.list("clusterIPs").is_empty() || !spec.str("clusterIP").is_empty() {
        causes.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        if spec.has(field) {
            let detail = "may not be set for ExternalName services";
            causes.forbidden(&format!("spec.{field}"), detail);
        }
    }
    match spec.str("externalName") {
        "" => causes.required("spec.externalName", ""),
        name => {
            causes.check_name(
                "spec.externalName",
                name.strip_suffix('.').unwrap_or(name),
                names::subdomain,
            );
        }
    }
}

fn check_ports(spec: &Value, causes: &mut Vec<Cause>) {
    let ports = spec.list("ports");
    let (mut seen_names, mut seen_ports) = (OrdSet::new(), OrdSet::new());
    for (idx, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{idx}]");
        let name = port.str("name");
        if name.is_empty() {
            if ports.len() > 1 {
                causes.required(&format!("{path}.name"), "");
            }
        } else {
            causes.check_name(&format!("{path}.name"), name, names::label);
            if !seen_names.insert(name) {
                causes.duplicate(&format!("{path}.name"), &name.into());
            }
        }
        let number = port.int("port").unwrap_or(0);
        if !(1..=65_535).contains(&number) {
            causes.invalid(&format!("{path}.port"), &number.into(), PORT_RANGE);
        }
        if !seen_ports.insert((number, port.str("protocol"))) {
            causes.duplicate(&path, &json!({"port": number, "protocol": port.str("protocol")}));
        }
        if port.has("targetPort") {
            crate::pod::validate::port(
                port.at("targetPort"),
                &format!("{path}.targetPort"),
                causes,
            );
        }
        let node_port = port.int("nodePort").unwrap_or(0);
        if node_port != 0 && spec.str("type") == "ClusterIP" {
            let detail = "may not be used when `type` is 'ClusterIP'";
            causes.forbidden(&format!("{path}.nodePort"), detail);
        }
    }
}

/// Rules between the type, the ports and how clients are held to one pod.
fn traffic(spec: &Value, causes: &mut Vec<Cause>) {
    const KUBELET_PORT: i64 = 10_250;
    let balanced = is_balancer(spec);
    let mut node_ports = OrdSet::new();
    for (idx, port) in spec.list("ports").iter().enumerate() {
        let path = format!("spec.ports[{idx}]");
        if balanced && port.int("port") == Some(KUBELET_PORT) {
            let detail = format!(
                "may not expose port {KUBELET_PORT} externally since it is used by kubelet"
            );
            causes.invalid(&path, &KUBELET_PORT.into(), &detail);
        }
        let node_port = port.int("nodePort").unwrap_or(0);
        if node_port != 0 && !node_ports.insert((port.str("protocol"), node_port)) {
            causes.duplicate(&format!("{path}.nodePort"), &node_port.into());
        }
        if let Some(protocol) = port.at("appProtocol").as_str() {
            causes.check_name(&format!("{path}.appProtocol"), protocol, names::qualified);
        }
    }
    if spec.str("sessionAffinity") == "None" && spec.has("sessionAffinityConfig") {
        let detail = "must not be set when session affinity is None";
        causes.forbidden("spec.sessionAffinityConfig", detail);
    }
    let port = spec.int("healthCheckNodePort").unwrap_or(0);
    let detail = match needs_health_check(spec) {
        true if !(1..=65_535).contains(&port) => PORT_RANGE,
        false if port != 0 => {
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        }
        _ => return,
    };
    causes.invalid("spec.healthCheckNodePort", &port.into(), detail);
}

/// Who may use a load balancer: a field, or the annotation that it was once, with spaces around.
fn source_ranges(new: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "spec.LoadBalancerSourceRanges";
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let check = |text: &str, path: &str, causes: &mut Vec<Cause>| {
        address::cidr(text.trim(), path, causes);
    };
    let ranges = new.list("spec.loadBalancerSourceRanges");
    let annotation = new.entry("metadata.annotations", ANNOTATION).filter(|_| ranges.is_empty());
    let path = match annotation {
        _ if !ranges.is_empty() => FIELD.to_owned(),
        Some(_) => format!("metadata.annotations[{ANNOTATION}]"),
        None => return,
    };
    if new.str("spec.type") != "LoadBalancer" {
        causes.forbidden(&path, "may only be used when `type` is 'LoadBalancer'");
    }
    for (idx, range) in ranges.iter().enumerate() {
        check(range.as_str().unwrap_or(""), &format!("{path}[{idx}]"), causes);
    }
    let texts = annotation.map(str::trim).filter(|text| !text.is_empty());
    for text in texts.into_iter().flat_map(|text| text.split(',')) {
        check(text, &path, causes);
    }
}
