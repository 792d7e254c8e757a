//! Rules of containers: names, ports, environment, mounts, probes, resources, security contexts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::inner_path;
use crate::complain::{Complain, NON_NEGATIVE, PORT_RANGE};
use crate::lens::Lens;
use crate::names;
use crate::pod::{all_containers, restartable};
use crate::quantity::Quantity;
use crate::status::Cause;

/// What only containers have that go on running.
const HANDLED: [&str; 4] = ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// Checks every container of a pod spec at `path`.
pub(super) fn all(spec: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut container_names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (field, idx, container) in all_containers(spec) {
        let path = format!("{path}.{field}[{idx}]");
        let name = container.str("name");
        if !name.is_empty() {
            causes.check_name(&format!("{path}.name"), name, names::label);
            if !container_names.insert(name) {
                causes.duplicate(&format!("{path}.name"), &name.into());
            }
        }
        match container.str("image") {
            "" => causes.required(&format!("{path}.image"), ""),
            image if image.trim() != image => {
                causes.invalid(
                    &format!("{path}.image"),
                    &image.into(),
                    "must not have leading or trailing whitespace",
                );
            }
            _ => {}
        }
        let sidecar = restartable(container);
        match field {
            "initContainers" if !sidecar => {
                for probe in HANDLED {
                    if container.has(probe) {
                        causes.forbidden(
                            &format!("{path}.{probe}"),
                            "may not be set for init containers without restartPolicy=Always",
                        );
                    }
                }
            }
            "containers" if container.has("restartPolicy") => {
                causes.forbidden(
                    &format!("{path}.restartPolicy"),
                    "may not be set for non-init containers",
                );
            }
            "ephemeralContainers" => {
                let detail = "cannot be set for an Ephemeral Container";
                for unwanted in ["ports", "resources", "restartPolicy"].into_iter().chain(HANDLED) {
                    let value = container.at(unwanted);
                    if !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()) {
                        causes.forbidden(&format!("{path}.{unwanted}"), detail);
                    }
                }
                for (idx, mount) in container.list("volumeMounts").iter().enumerate() {
                    for field in ["subPath", "subPathExpr"] {
                        if !mount.str(field).is_empty() {
                            let path = format!("{path}.volumeMounts[{idx}].{field}");
                            causes.forbidden(&path, detail);
                        }
                    }
                }
            }
            _ => {}
        }
        let host_network = spec.flag("hostNetwork");
        let mut own_ports = BTreeSet::new();
        // Init containers run one by one, so they may share host ports with others.
        let taken = if field == "containers" { &mut host_ports } else { &mut own_ports };
        ports(container, &path, host_network, taken, causes);
        environment(container, &path, causes);
        mounts(container, &path, volumes, causes);
        resources(container.at("resources"), &format!("{path}.resources"), causes);
        let context = container.at("securityContext");
        security(context, &format!("{path}.securityContext"), causes);
        if context.str("procMount") == "Unmasked" && spec.at("hostUsers").as_bool() != Some(false) {
            causes.invalid(
                &format!("{path}.securityContext.procMount"),
                context.at("procMount"),
                "`hostUsers` must be false to use `Unmasked`",
            );
        }
        // What may not be there at all is not looked into.
        if field == "ephemeralContainers" || field == "initContainers" && !sidecar {
            continue;
        }
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(probe) {
                self::probe(container.at(probe), probe, &format!("{path}.{probe}"), causes);
            }
        }
        for hook in ["postStart", "preStop"] {
            let handler = container.at("lifecycle").at(hook);
            if !handler.is_null() {
                self::handler(handler, &format!("{path}.lifecycle.{hook}"), causes);
            }
        }
    }
}

fn ports<'a>(
    container: &'a Value,
    path: &str,
    host_network: bool,
    host_ports: &mut BTreeSet<(i64, &'a str, &'a str)>,
    causes: &mut Vec<Cause>,
) {
    let mut port_names = BTreeSet::new();
    for (idx, port) in container.list("ports").iter().enumerate() {
        let path = format!("{path}.ports[{idx}]");
        let name = port.str("name");
        if !name.is_empty() {
            if let Err(why) = port_name(name) {
                causes.invalid(&format!("{path}.name"), &name.into(), why);
            } else if !port_names.insert(name) {
                causes.duplicate(&format!("{path}.name"), &name.into());
            }
        }
        let number = port.int("containerPort").unwrap_or(0);
        match number {
            0 => causes.required(&format!("{path}.containerPort"), ""),
            1..=65_535 => {}
            _ => {
                causes.invalid(&format!("{path}.containerPort"), &number.into(), PORT_RANGE);
            }
        }
        let host_port = port.int("hostPort").unwrap_or(0);
        if host_port != 0 {
            if host_network && host_port != number {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                causes.invalid(&format!("{path}.hostPort"), &number.into(), detail);
            }
            if !host_ports.insert((host_port, port.str("protocol"), port.str("hostIP"))) {
                let text = format!("{}/{}/{host_port}", port.str("protocol"), port.str("hostIP"));
                causes.duplicate(&format!("{path}.hostPort"), &text.into());
            }
        }
    }
}

/// An `IANA_SVC_NAME` (RFC 6335).
pub(crate) fn port_name(name: &str) -> Result<(), &'static str> {
    if name.len() > 15 {
        return Err("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        return Err("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Err("must not begin or end with a hyphen");
    }
    Ok(())
}

fn environment(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, variable) in container.list("env").iter().enumerate() {
        let path = format!("{path}.env[{idx}]");
        let name = variable.str("name");
        // Since 1.30 any printable ASCII but '=' may be in a name.
        if !name.is_empty() && !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            causes.invalid(&format!("{path}.name"), &name.into(), detail);
        }
        let from = variable.at("valueFrom");
        let Some(sources) = from.as_object() else { continue };
        let path = format!("{path}.valueFrom");
        match sources.len() {
            0 => causes.invalid(
                &path,
                &"".into(),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            ),
            1 => {}
            _ => causes.invalid(&path, &"".into(), "may not have more than one field specified at a time"),
        }
        if !variable.str("value").is_empty() && !sources.is_empty() {
            causes.invalid(&path, &"".into(), "may not be specified when `value` is not empty");
        }
        if from.has("fieldRef") {
            field_reference(
                from.str("fieldRef.fieldPath"),
                &format!("{path}.fieldRef.fieldPath"),
                &[
                    "metadata.name",
                    "metadata.namespace",
                    "metadata.uid",
                    "spec.nodeName",
                    "spec.serviceAccountName",
                    "status.hostIP",
                    "status.hostIPs",
                    "status.podIP",
                    "status.podIPs",
                ],
                causes,
            );
        }
        for key_ref in ["configMapKeyRef", "secretKeyRef"] {
            if from.has(key_ref) && from.at(key_ref).str("name").is_empty() {
                causes.required(&format!("{path}.{key_ref}.name"), "");
            }
        }
    }
    for (idx, source) in container.list("envFrom").iter().enumerate() {
        let path = format!("{path}.envFrom[{idx}]");
        let kinds: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|kind| source.has(kind)).collect();
        match kinds[..] {
            [kind] => {
                if source.at(kind).str("name").is_empty() {
                    causes.required(&format!("{path}.{kind}.name"), "");
                }
            }
            [] => {
                causes.invalid(
                    &path,
                    &"".into(),
                    "must specify one of: `configMapRef` or `secretRef`",
                );
            }
            _ => {
                causes.invalid(
                    &path,
                    &"".into(),
                    "may not have more than one field specified at a time",
                );
            }
        }
    }
}

/// The path of a downward reference, one of `supported` or one label or annotation.
pub(super) fn field_reference(
    value: &str,
    path: &str,
    supported: &[&str],
    causes: &mut Vec<Cause>,
) {
    if value.is_empty() || supported.contains(&value) {
        return;
    }
    if let Some((map, key)) = value.split_once("['")
        && matches!(map, "metadata.labels" | "metadata.annotations")
        && let Some(key) = key.strip_suffix("']")
    {
        causes.check_name(path, key, names::qualified);
        return;
    }
    causes.not_supported(path, value, supported);
}

fn mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut mount_paths = BTreeSet::new();
    for (idx, mount) in container.list("volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{idx}]");
        let (name, at) = (mount.str("name"), mount.str("mountPath"));
        if !name.is_empty() && !volumes.contains(name) {
            causes.not_found(&format!("{path}.name"), name);
        }
        if !at.is_empty() && !mount_paths.insert(at) {
            causes.invalid(&format!("{path}.mountPath"), &at.into(), "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            inner_path(mount.str(field), &format!("{path}.{field}"), causes);
        }
        if !mount.str("subPath").is_empty() && !mount.str("subPathExpr").is_empty() {
            causes.invalid(
                &format!("{path}.subPathExpr"),
                mount.at("subPathExpr"),
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if mount.str("mountPropagation") == "Bidirectional"
            && !container.flag("securityContext.privileged")
        {
            causes.forbidden(
                &format!("{path}.mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    for (idx, device) in container.list("volumeDevices").iter().enumerate() {
        let path = format!("{path}.volumeDevices[{idx}]");
        let name = device.str("name");
        if !name.is_empty() && !volumes.contains(name) {
            causes.not_found(&format!("{path}.name"), name);
        }
    }
}

fn probe(probe: &Value, kind: &str, path: &str, causes: &mut Vec<Cause>) {
    handler(probe, path, causes);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        if let Some(number) = probe.int(field).filter(|number| *number < 0) {
            causes.invalid(&format!("{path}.{field}"), &number.into(), NON_NEGATIVE);
        }
    }
    if kind != "readinessProbe" && probe.int("successThreshold").unwrap_or(1) != 1 {
        causes.invalid(
            &format!("{path}.successThreshold"),
            probe.at("successThreshold"),
            "must be 1",
        );
    }
    if let Some(secs) = probe.int("terminationGracePeriodSeconds") {
        if kind == "readinessProbe" {
            causes.invalid(
                &format!("{path}.terminationGracePeriodSeconds"),
                &secs.into(),
                "must not be set for readinessProbes",
            );
        } else if secs <= 0 {
            let detail = "must be greater than 0";
            causes.invalid(&format!("{path}.terminationGracePeriodSeconds"), &secs.into(), detail);
        }
    }
}

/// What a probe or hook does: exactly one thing.
fn handler(handler: &Value, path: &str, causes: &mut Vec<Cause>) {
    let kinds: Vec<&str> = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"]
        .into_iter()
        .filter(|kind| handler.has(kind))
        .collect();
    for extra in kinds.iter().skip(1) {
        causes.forbidden(&format!("{path}.{extra}"), "may not specify more than 1 handler type");
    }
    let Some(kind) = kinds.first() else {
        causes.required(path, "must specify a handler type");
        return;
    };
    let (action, path) = (handler.at(kind), format!("{path}.{kind}"));
    match *kind {
        "exec" => {
            if action.list("command").is_empty() {
                causes.required(&format!("{path}.command"), "");
            }
        }
        "httpGet" => {
            port(action.at("port"), &format!("{path}.port"), causes);
            for header in action.list("httpHeaders") {
                let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                let name = header.str("name");
                if !name.is_empty() && !name.bytes().all(legal) {
                    let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                    causes.invalid(&format!("{path}.httpHeaders"), &name.into(), detail);
                }
            }
        }
        "tcpSocket" => port(action.at("port"), &format!("{path}.port"), causes),
        "grpc" => {
            if !(1..=65_535).contains(&action.int("port").unwrap_or(0)) {
                causes.invalid(&format!("{path}.port"), action.at("port"), PORT_RANGE);
            }
        }
        _ => {
            if action.int("seconds").is_some_and(|secs| secs <= 0) {
                let detail = "must be greater than 0 and less than terminationGracePeriodSeconds (30). Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep.";
                causes.invalid(&path, action.at("seconds"), detail);
            }
        }
    }
}

/// A port by number or name.
pub(crate) fn port(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::String(name) => {
            if let Err(why) = port_name(name) {
                causes.invalid(path, value, why);
            }
        }
        number => {
            if !number.as_i64().is_some_and(|number| (1..=65_535).contains(&number)) {
                causes.invalid(path, number, PORT_RANGE);
            }
        }
    }
}

/// A map from the resources of containers to amounts, at `path`.
pub(crate) fn amounts(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let path = format!("{path}[{name}]");
        resource_name(name, &path, causes);
        let Some(quantity) = Quantity::from_tree(value) else { continue };
        if quantity.is_negative() {
            causes.invalid(&path, value, NON_NEGATIVE);
        } else if name.contains('/') && quantity.has_fraction() {
            causes.invalid(&path, value, "must be an integer");
        }
    }
}

/// What a container may have limits of (upstream's `ValidateContainerResourceName`).
pub(crate) fn resource_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];
    /// What is a standard resource elsewhere, in quotas.
    const ELSEWHERE: &[&str] = &[
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
    ];
    let value = Value::from(name);
    let is_standard = STANDARD.contains(&name) || name.starts_with("hugepages-");
    if let Err(why) = names::qualified(name) {
        for why in why.lines() {
            causes.invalid(path, &value, why);
        }
    } else if !is_standard && !name.contains('/') && !ELSEWHERE.contains(&name) {
        let detail = "must be a standard resource type or fully qualified";
        causes.invalid(path, &value, detail);
    }
    if is_standard {
        return;
    }
    if !name.contains('/') {
        causes.invalid(path, &value, "must be a standard resource for containers");
    } else if !name.contains("kubernetes.io/")
        && (name.starts_with("requests.") || names::qualified(&format!("requests.{name}")).is_err())
    {
        causes.invalid(path, &value, "doesn't follow extended resource name standard");
    }
}

/// `ResourceRequirements` at `path`.
pub(crate) fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    let amount =
        |what: &str, name: &str| resources.at(what).get(name).and_then(Quantity::from_tree);
    for what in ["limits", "requests"] {
        amounts(resources.at(what), &format!("{path}.{what}"), causes);
    }
    for (name, value) in resources.at("requests").as_object().into_iter().flatten() {
        let (Some(request), Some(limit)) = (Quantity::from_tree(value), amount("limits", name))
        else {
            continue;
        };
        let extended = name.contains('/') || name.starts_with("hugepages-");
        if request > limit {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            causes.invalid(&format!("{path}.requests"), value, &detail);
        } else if extended && request != limit {
            let detail = format!("must be equal to {name} limit of {limit}");
            causes.invalid(&format!("{path}.requests"), value, &detail);
        }
    }
}

fn security(context: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) = context.int(field) {
            user_id(id, &format!("{path}.{field}"), causes);
        }
    }
    if context.at("allowPrivilegeEscalation") == false {
        if context.flag("privileged") {
            causes.invalid(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if context
            .list("capabilities.add")
            .iter()
            .any(|cap| cap == "CAP_SYS_ADMIN" || cap == "SYS_ADMIN")
        {
            causes.invalid(
                path,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    seccomp(context.at("seccompProfile"), &format!("{path}.seccompProfile"), causes);
}

/// A user or group at `path`.
pub(super) fn user_id(id: i64, path: &str, causes: &mut Vec<Cause>) {
    if !(0..=i64::from(i32::MAX)).contains(&id) {
        causes.invalid(path, &id.into(), "must be between 0 and 2147483647, inclusive");
    }
}

/// A `SeccompProfile` at `path`.
pub(super) fn seccomp(profile: &Value, path: &str, causes: &mut Vec<Cause>) {
    match (profile.str("type"), profile.has("localhostProfile")) {
        ("Localhost", false) => {
            causes.required(
                &format!("{path}.localhostProfile"),
                "must be set when seccomp type is Localhost",
            );
        }
        ("Localhost", true) => {
            inner_path(
                profile.str("localhostProfile"),
                &format!("{path}.localhostProfile"),
                causes,
            );
        }
        (kind, true) if !kind.is_empty() => causes.invalid(
            &format!("{path}.localhostProfile"),
            profile.at("localhostProfile"),
            "can only be set when seccomp type is Localhost",
        ),
        _ => {}
    }
}
