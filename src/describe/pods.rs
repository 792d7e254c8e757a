//! Pods and templates of pods: containers, what they are given, where they may run.

use api::quantity::Quantity;
use api::selector::Selector;
use api::{Lens, Value};
use stdx::Arrange;

use crate::needs::Part;
use crate::page::Page;
use crate::{controller, volumes, words};

/// The three lists of containers of a pod.
pub(crate) fn pod_containers(page: &mut Page<'_>, pod: &Value) {
    for (title, field, statuses) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        let list = pod.at("spec").list(field);
        if field == "containers" || !list.is_empty() {
            containers(page, title, list, pod.at("status").list(statuses), Some(pod));
        }
    }
}

/// A template; `null` only of a controller that may lack one.
pub(crate) fn template(page: &mut Page<'_>, template: &Value) {
    page.line(&["Pod Template:"]);
    if template.is_null() {
        return page.put(&["  <unset>"]);
    }
    page.labels("  Labels", template.at("metadata.labels"));
    if template.at("metadata.annotations").as_object().is_some_and(|map| !map.is_empty()) {
        page.annotations("  Annotations", template.at("metadata.annotations"));
    }
    let spec = template.at("spec");
    page.render("+serviceAccountName|  Service Account:~{serviceAccountName}", spec);
    let init = spec.list("initContainers");
    if !init.is_empty() {
        containers(page, "Init Containers", init, &[], None);
    }
    containers(page, "Containers", spec.list("containers"), &[], None);
    volumes::volumes(page, "  ", spec.list("volumes"));
    spread(page, "  ", spec.list("topologySpreadConstraints"));
    page.render("+priorityClassName|  Priority Class Name:~{priorityClassName}", spec);
    page.labels("  Node-Selectors", spec.at("nodeSelector"));
    tolerations(page, "  Tolerations", spec.list("tolerations"));
}

/// Containers with their statuses; without a pod they are a template's.
fn containers(
    page: &mut Page<'_>,
    title: &str,
    list: &[Value],
    statuses: &[Value],
    pod: Option<&Value>,
) {
    let space = if pod.is_some() { "" } else { "  " };
    page.line(&[space, title, ":", if list.is_empty() { " <none>" } else { "" }]);
    for container in list {
        let name = container.str("name");
        page.line(&["  ", &space[..space.len() / 2], name, ":"]);
        let status = statuses.iter().find(|status| status.str("name") == name);
        if let Some(status) = status {
            page.render("    Container ID:~{containerID}", status);
        }
        page.render("    Image:~{image}", container);
        if let Some(status) = status {
            page.render("    Image ID:~{imageID}", status);
        }
        ports(page, "Port", "containerPort", container);
        ports(page, "Host Port", "hostPort", container);
        page.render(SECCOMP, container);
        words_below(page, "Command:", container.list("command"));
        words_below(page, "Args:", container.list("args"));
        if let Some(status) = status {
            state(page, "State", status.at("state"));
            if status.has("lastState.terminated") {
                state(page, "Last State", status.at("lastState"));
            }
            let ready = if status.flag("ready") { "True" } else { "False" };
            page.line(&["    Ready:\t", ready]);
            page.render("    Restart Count:~{restartCount=0}", status);
        }
        resources(page, "    ", container.at("resources"));
        for (field, title) in [
            ("livenessProbe", "Liveness"),
            ("readinessProbe", "Readiness"),
            ("startupProbe", "Startup"),
        ] {
            if container.has(field) {
                page.line(&["    ", title, ":\t", &probe(container.at(field))]);
            }
        }
        env_from(page, container);
        env(page, container, pod);
        mounts(page, container);
    }
}

const SECCOMP: &str = "\
?securityContext.seccompProfile|    SeccompProfile:~{securityContext.seccompProfile.type}
?securityContext.seccompProfile.localhostProfile|      LocalhostProfile:~{securityContext.seccompProfile.localhostProfile}";

fn ports(page: &mut Page<'_>, title: &str, field: &str, container: &Value) {
    let ports = container.list("ports").iter();
    let ports =
        ports.map(|port| format!("{}/{}", port.int(field).unwrap_or(0), port.str("protocol")));
    let ports = ports.collect::<Vec<_>>().join(", ");
    let plural = if ports.contains(',') { "s" } else { "" };
    page.line(&["    ", title, plural, ":\t", &words::or(ports, "<none>")]);
}

/// A command line: each word, and each line of it, on a line.
fn words_below(page: &mut Page<'_>, title: &str, list: &[Value]) {
    if list.is_empty() {
        return;
    }
    page.line(&["    ", title]);
    for line in list.iter().filter_map(Value::as_str).flat_map(|word| word.split('\n')) {
        page.line(&["      ", line]);
    }
}

fn state(page: &mut Page<'_>, title: &str, state: &Value) {
    let is_known = ["running", "waiting", "terminated"].iter().any(|name| state.has(name));
    let name = match () {
        () if state.has("running") => "Running",
        () if is_known && !state.has("waiting") => "Terminated",
        () => "Waiting",
    };
    page.line(&["    ", title, ":\t", name]);
    page.render(STATE, state);
}

const STATE: &str = "\
?running|      Started:~{running.startedAt@time}
+waiting.reason|      Reason:~{waiting.reason}
+terminated.reason|      Reason:~{terminated.reason}
+terminated.message|      Message:~{terminated.message}
?terminated|      Exit Code:~{terminated.exitCode=0}
+terminated.signal|      Signal:~{terminated.signal}
?terminated|      Started:~{terminated.startedAt@time}
?terminated|      Finished:~{terminated.finishedAt@time}";

/// Limits and requests, in the order of their names.
pub(crate) fn resources(page: &mut Page<'_>, space: &str, resources: &Value) {
    for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let amounts = resources.at(field);
        if amounts.as_object().is_some_and(|map| !map.is_empty()) {
            page.line(&[space, title, ":"]);
            crate::nodes::amounts(page, &[space, "  "].concat(), amounts);
        }
    }
}

/// A probe in a line.
fn probe(probe: &Value) -> String {
    let number = |path: &str| probe.int(path).unwrap_or(0).to_string();
    let port = |path: &str| match probe.at(path) {
        Value::Null => String::new(),
        port => words::plain(port),
    };
    let what = if probe.has("exec") {
        format!("exec {}", words::plain(&Value::Array(probe.list("exec.command").to_vec())))
    } else if probe.has("httpGet") {
        let http = probe.at("httpGet");
        let (host, path) = (http.str("host"), escaped(http.str("path")));
        let host = if host.contains(':') { ["[", host, "]"].concat() } else { host.to_owned() };
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        let scheme = http.str("scheme").to_lowercase();
        format!("http-get {scheme}://{host}:{}{slash}{path}", port("httpGet.port"))
    } else if probe.has("tcpSocket") {
        format!("tcp-socket {}:{}", probe.str("tcpSocket.host"), port("tcpSocket.port"))
    } else if probe.has("grpc") {
        format!("grpc <pod>:{} {}", number("grpc.port"), probe.str("grpc.service"))
    } else {
        "unknown".to_owned()
    };
    [
        &what,
        " delay=",
        &number("initialDelaySeconds"),
        "s timeout=",
        &number("timeoutSeconds"),
        "s period=",
        &number("periodSeconds"),
        "s #success=",
        &number("successThreshold"),
        " #failure=",
        &number("failureThreshold"),
    ]
    .concat()
}

/// A path as Go's `url.URL` writes it.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn env_from(page: &mut Page<'_>, container: &Value) {
    let sources = container.list("envFrom");
    if sources.is_empty() {
        return;
    }
    page.line(&["    Environment Variables from:"]);
    for source in sources {
        let (kind, from) = match source.at("configMapRef") {
            Value::Null => ("Secret", source.at("secretRef")),
            from => ("ConfigMap", from),
        };
        let optional = if from.flag("optional") { "true" } else { "false" };
        let prefix = source.str("prefix");
        let (with, end) = if prefix.is_empty() { ("", "") } else { (" with prefix '", "'") };
        page.line(&[
            "      ",
            from.str("name"),
            "\t",
            kind,
            with,
            prefix,
            end,
            "\tOptional: ",
            optional,
        ]);
    }
}

fn env(page: &mut Page<'_>, container: &Value, pod: Option<&Value>) {
    let list = container.list("env");
    page.line(&["    Environment:", if list.is_empty() { "\t<none>" } else { "" }]);
    for variable in list {
        let name = variable.str("name");
        let from = variable.at("valueFrom");
        if from.is_null() {
            for (idx, line) in variable.str("value").split('\n').enumerate() {
                let (name, colon) = if idx == 0 { (name, ":") } else { ("", "") };
                page.line(&["      ", name, colon, "\t", line]);
            }
        } else if from.has("fieldRef") {
            let (version, path) = (from.str("fieldRef.apiVersion"), from.str("fieldRef.fieldPath"));
            let value = pod.map_or("", |pod| field(pod, path));
            page.line(&["      ", name, ":\t", value, " (", version, ":", path, ")"]);
        } else if from.has("resourceFieldRef") {
            let resource = from.str("resourceFieldRef.resource");
            let mut value = amount(container, resource, from.at("resourceFieldRef.divisor"));
            if value == "0" && matches!(resource, "limits.cpu" | "limits.memory") {
                "node allocatable".clone_into(&mut value);
            }
            page.line(&["      ", name, ":\t", &value, " (", resource, ")"]);
        } else {
            for (source, of, kind) in
                [("secretKeyRef", "in", "secret"), ("configMapKeyRef", "of", "config map")]
            {
                let source = from.at(source);
                if !source.is_null() {
                    let optional = if source.flag("optional") { "true" } else { "false" };
                    let (key, of_name) = (source.str("key"), source.str("name"));
                    page.line(&[
                        "      ",
                        name,
                        ":\t<set to the key '",
                        key,
                        "' ",
                        of,
                        " ",
                        kind,
                        " '",
                        of_name,
                        "'>\tOptional: ",
                        optional,
                    ]);
                }
            }
        }
    }
}

/// What the downward API would tell, as far as kubectl knows it.
fn field<'a>(pod: &'a Value, path: &str) -> &'a str {
    match path {
        "metadata.name" | "metadata.namespace" => pod.str(path),
        _ => "",
    }
}

/// A container's limit or request in units of the divisor, rounded up.
fn amount(container: &Value, resource: &str, divisor: &Value) -> String {
    let Some((list, name)) = resource.split_once('.') else { return String::new() };
    let is_known = matches!(list, "limits" | "requests")
        && (matches!(name, "cpu" | "memory" | "ephemeral-storage")
            || name.starts_with("hugepages-"));
    if !is_known {
        return String::new();
    }
    let read = |value: Option<&Value>| value.and_then(Quantity::from_tree).filter(|q| !q.is_zero());
    let amount = read(container.at("resources").at(list).get(name)).unwrap_or_default();
    let divisor = read(Some(divisor)).unwrap_or(Quantity::from_units(1));
    let in_units =
        |quantity: Quantity| if name == "cpu" { quantity.milli() } else { quantity.units() };
    let (amount, divisor) = (in_units(amount), in_units(divisor).max(1));
    let whole = amount / divisor + i64::from(amount % divisor > 0);
    whole.to_string()
}

fn mounts(page: &mut Page<'_>, container: &Value) {
    let mut list: Vec<&Value> = container.list("volumeMounts").iter().collect();
    list.arrange_by_key(|mount| mount.str("mountPath").to_owned());
    let none = if list.is_empty() { "\t<none>" } else { "" };
    page.line(&["    Mounts:", none]);
    for mount in list {
        let mode = if mount.flag("readOnly") { "ro" } else { "rw" };
        let sub = mount.str("subPath");
        let sub = if sub.is_empty() { String::new() } else { format!(",path={sub:?}") };
        page.line(&[
            "      ",
            mount.str("mountPath"),
            " from ",
            mount.str("name"),
            " (",
            mode,
            &sub,
            ")",
        ]);
    }
    let mut list: Vec<&Value> = container.list("volumeDevices").iter().collect();
    if list.is_empty() {
        return;
    }
    list.arrange_by_key(|device| device.str("devicePath").to_owned());
    page.line(&["    Devices:", none]);
    for device in list {
        page.line(&["      ", device.str("devicePath"), " from ", device.str("name")]);
    }
}

pub(crate) fn readiness_gates(page: &mut Page<'_>, pod: &Value) {
    let gates = pod.list("spec.readinessGates");
    if gates.is_empty() {
        return;
    }
    page.line(&["Readiness Gates:\n  Type\tStatus"]);
    for gate in gates {
        let kind = gate.str("conditionType");
        let condition =
            pod.list("status.conditions").iter().find(|condition| condition.str("type") == kind);
        let status = condition.map_or("<none>", |condition| condition.str("status"));
        page.line(&["  ", kind, " \t", status, " "]);
    }
}

pub(crate) fn tolerations(page: &mut Page<'_>, title: &str, list: &[Value]) {
    page.put(&[title, ":\t"]);
    let mut list: Vec<&Value> = list.iter().collect();
    list.arrange_by_key(|toleration| toleration.str("key").to_owned());
    let mut is_first = true;
    for toleration in &list {
        page.next(&mut is_first);
        let [key, value, effect] = ["key", "value", "effect"].map(|path| toleration.str(path));
        let exists = match (toleration.str("operator"), value) {
            ("Exists", "") if key.is_empty() && effect.is_empty() => "op=Exists",
            ("Exists", "") => " op=Exists",
            _ => "",
        };
        let secs = toleration.int("tolerationSeconds");
        let secs = secs.map_or_else(String::new, |secs| format!(" for {secs}s"));
        let equals = if value.is_empty() { "" } else { "=" };
        let colon = if effect.is_empty() { "" } else { ":" };
        page.line(&[key, equals, value, colon, effect, exists, &secs]);
    }
    page.none(is_first);
}

pub(crate) fn spread(page: &mut Page<'_>, space: &str, list: &[Value]) {
    if list.is_empty() {
        return;
    }
    let mut list: Vec<&Value> = list.iter().collect();
    list.arrange_by_key(|constraint| constraint.str("topologyKey").to_owned());
    page.put(&[space, "Topology Spread Constraints:\t"]);
    for (idx, constraint) in list.iter().enumerate() {
        if idx > 0 {
            page.put(&[space, "\t"]);
        }
        let skew = constraint.int("maxSkew").unwrap_or(0).to_string();
        let selector = constraint.at("labelSelector");
        let (of, selector) = match selector {
            Value::Null => ("", String::new()),
            selector => (" for selector ", words::or(Selector::text(selector), "<none>")),
        };
        let when = constraint.str("whenUnsatisfiable");
        page.line(&[
            constraint.str("topologyKey"),
            ":",
            when,
            " when max skew ",
            &skew,
            " is exceeded",
            of,
            &selector,
        ]);
    }
}

/// How many of the pods that an object controls are in which phase.
pub(crate) fn phases(page: &mut Page<'_>, object: &Value) {
    let related = page.related;
    let answer = related.iter().find(|(part, _)| *part == Part::Pods).map(|(_, answer)| answer);
    let pods = match answer {
        Some(Err(failure)) => {
            return page.line(&["Pods Status:\terror in fetching pods: ", &failure.message]);
        }
        Some(Ok(pods)) => pods.list(""),
        None => &[],
    };
    let uid = object.str("metadata.uid");
    let own =
        pods.iter().filter(|pod| controller(pod).is_some_and(|owner| owner.str("uid") == uid));
    let mut counts = [0usize; 4];
    let phases = ["Running", "Pending", "Succeeded", "Failed"];
    for pod in own {
        let phase = pod.str("status.phase");
        if let Some(at) = phases.iter().position(|known| *known == phase) {
            counts[at] += 1;
        }
    }
    let [running, waiting, succeeded, failed] = counts;
    let text =
        format!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed");
    page.line(&["Pods Status:\t", &text]);
}
