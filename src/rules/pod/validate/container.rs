//! Rules of containers: names, ports, environment, mounts, probes, resources, security contexts.

use api::complain::{Complain, NON_NEGATIVE, PORT_RANGE};
use api::lens::Lens;
use api::names;
use api::pod::restartable;
use api::quantity::Quantity;
use api::status::Cause;
use serde_json::Value;
use stdx::OrdSet;

use super::source::inner_path;
use crate::checks;
use crate::gates;

/// What only containers have that go on running.
const HANDLED: [&str; 4] = ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// Checks every container of a pod spec at `path`.
pub(super) fn all(spec: &Value, path: &str, volumes: &OrdSet<&str>, causes: &mut Vec<Cause>) {
    let mut container_names = OrdSet::new();
    let mut host_ports = OrdSet::new();
    // Upstream's order: a name that two have is wrong in the later list.
    let lists = ["containers", "initContainers", "ephemeralContainers"].into_iter();
    let all = lists.flat_map(|field| {
        spec.list(field).iter().enumerate().map(move |(idx, container)| (field, idx, container))
    });
    for (field, idx, container) in all {
        let path = format!("{path}.{field}[{idx}]");
        let name = container.str("name");
        if !name.is_empty() {
            causes.check_name(&format!("{path}.name"), name, names::label);
        }
        let is_taken = container_names.contains(name);
        if !name.is_empty() || field != "initContainers" {
            container_names.insert(name);
        }
        if is_taken {
            causes.duplicate(&format!("{path}.name"), &name.into());
        }
        if container.str("image").is_empty() {
            causes.required(&format!("{path}.image"), "");
        }
        let sidecar = restartable(container);
        match field {
            "initContainers" if !sidecar => {
                if container.has("restartPolicy") {
                    let policy = container.str("restartPolicy");
                    causes.not_supported(&format!("{path}.restartPolicy"), policy, &["Always"]);
                }
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
                let target = container.str("targetContainerName");
                let exists = ["containers", "initContainers"]
                    .iter()
                    .any(|field| spec.list(field).iter().any(|other| other.str("name") == target));
                if !target.is_empty() && !exists {
                    causes.not_found(&format!("{path}.targetContainerName"), target);
                }
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
        let host_network = field == "containers" && spec.flag("hostNetwork");
        let mut own_ports = OrdSet::new();
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
                let grace = spec.int("terminationGracePeriodSeconds");
                self::probe(container.at(probe), probe, grace, &format!("{path}.{probe}"), causes);
            }
        }
        for hook in ["postStart", "preStop"] {
            let handler = container.at("lifecycle").at(hook);
            if !handler.is_null() {
                let (path, grace) =
                    (format!("{path}.lifecycle.{hook}"), spec.int("terminationGracePeriodSeconds"));
                self::handler(handler, grace, &path, causes);
            }
        }
    }
}

fn ports<'a>(
    container: &'a Value,
    path: &str,
    host_network: bool,
    host_ports: &mut OrdSet<(i64, &'a str, &'a str)>,
    causes: &mut Vec<Cause>,
) {
    let mut port_names = OrdSet::new();
    for (idx, port) in container.list("ports").iter().enumerate() {
        let path = format!("{path}.ports[{idx}]");
        let name = port.str("name");
        if !name.is_empty() {
            causes.check_name(&format!("{path}.name"), name, names::port);
            if names::port(name).is_ok() && !port_names.insert(name) {
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
                causes.invalid(&format!("{path}.hostPort"), &host_port.into(), detail);
            }
            if !host_ports.insert((host_port, port.str("protocol"), port.str("hostIP"))) {
                let text = format!("{}/{}/{host_port}", port.str("protocol"), port.str("hostIP"));
                causes.duplicate(&format!("{path}.hostPort"), &text.into());
            }
        }
    }
}

/// The check of names in the environment that is asked for.
fn variable_rule() -> fn(&str) -> Result<(), String> {
    if gates::is_on(gates::RELAXED_VARIABLES) { names::variable } else { names::strict_variable }
}

fn environment(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (idx, variable) in container.list("env").iter().enumerate() {
        let path = format!("{path}.env[{idx}]");
        let name = variable.str("name");
        causes.check_name(&format!("{path}.name"), name, variable_rule());
        let from = variable.at("valueFrom");
        let Some(sources) = from.as_object() else { continue };
        let path = format!("{path}.valueFrom");
        if from.has("fieldRef") {
            const FIELDS: &[&str] = &[
                "metadata.name",
                "metadata.namespace",
                "metadata.uid",
                "spec.nodeName",
                "spec.serviceAccountName",
                "status.hostIP",
                "status.hostIPs",
                "status.podIP",
                "status.podIPs",
            ];
            field_reference(from.at("fieldRef"), &format!("{path}.fieldRef"), FIELDS, causes);
        }
        if from.has("resourceFieldRef") {
            let of = from.at("resourceFieldRef");
            resource_reference(of, &format!("{path}.resourceFieldRef"), false, causes);
        }
        for kind in ["configMapKeyRef", "secretKeyRef"].into_iter().filter(|kind| from.has(kind)) {
            let (of, path) = (from.at(kind), format!("{path}.{kind}"));
            causes.check_name(&format!("{path}.name"), of.str("name"), names::subdomain);
            match of.str("key") {
                "" => causes.required(&format!("{path}.key"), ""),
                key => causes.check_name(&format!("{path}.key"), key, names::config_key),
            }
        }
        let detail = match sources.len() {
            0 => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            }
            _ if !variable.str("value").is_empty() => {
                "may not be specified when `value` is not empty"
            }
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        causes.invalid(&path, &"".into(), detail);
    }
    for (idx, source) in container.list("envFrom").iter().enumerate() {
        let (of_all, path) = (format!("{path}.envFrom"), format!("{path}.envFrom[{idx}]"));
        let prefix = source.str("prefix");
        causes.check_name(&format!("{path}.prefix"), prefix, variable_rule());
        let mut n_sources = 0;
        for kind in ["configMapRef", "secretRef"].into_iter().filter(|kind| source.has(kind)) {
            n_sources += 1;
            let at = format!("{path}.{kind}.name");
            match source.at(kind).str("name") {
                "" => causes.required(&at, ""),
                // Upstream takes it for a prefix, to which something may come yet.
                name => {
                    causes.check_name(&at, name.strip_suffix('-').unwrap_or(name), names::subdomain)
                }
            }
        }
        let detail = match n_sources {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        causes.invalid(&of_all, &"".into(), detail);
    }
}

/// A reference to a field of the pod (`ObjectFieldSelector`) at `path`: one of `supported`, or one label or annotation.
pub(super) fn field_reference(
    reference: &Value,
    path: &str,
    supported: &[&str],
    causes: &mut Vec<Cause>,
) {
    let (field, at) = (reference.str("fieldPath"), format!("{path}.fieldPath"));
    if field.is_empty() {
        return causes.required(&at, "");
    }
    let version = reference.str("apiVersion");
    if !matches!(version, "" | "v1") {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        return causes.invalid(&at, &field.into(), &detail);
    }
    if let Some((map, key)) = field.strip_suffix("']").and_then(|field| field.split_once("['")) {
        match map {
            "metadata.labels" => return causes.check_name(path, key, names::qualified),
            "metadata.annotations" => {
                let key = key.to_ascii_lowercase();
                return causes.check_name(path, &key, names::qualified);
            }
            _ => {
                let detail = format!(
                    "error converting fieldPath: field label does not support subscript: {field}"
                );
                return causes.invalid(&at, &field.into(), &detail);
            }
        }
    }
    if !supported.contains(&field) {
        // What no pod has is told otherwise than what is not for this place.
        let of_pods = [
            "metadata.annotations",
            "metadata.labels",
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.serviceAccountName",
            "spec.schedulerName",
            "status.phase",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        match of_pods.contains(&field) {
            true => causes.not_supported(&at, field, supported),
            false => {
                let detail =
                    format!("error converting fieldPath: field label not supported: {field}");
                causes.invalid(&at, &field.into(), &detail);
            }
        }
    }
}

/// A reference to a container's request or limit (`ResourceFieldSelector`) at `path`; of a volume it must name the container.
pub(super) fn resource_reference(
    reference: &Value,
    path: &str,
    of_volume: bool,
    causes: &mut Vec<Cause>,
) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = reference.str("resource");
    let huge =
        ["requests.hugepages-", "limits.hugepages-"].iter().any(|of| resource.starts_with(of));
    if of_volume && reference.str("containerName").is_empty() {
        causes.required(&format!("{path}.containerName"), "");
    } else if resource.is_empty() {
        causes.required(&format!("{path}.resource"), "");
    } else if !KNOWN.contains(&resource) && !huge {
        causes.not_supported(&format!("{path}.resource"), resource, &KNOWN);
    }
    let Some(divisor) = Quantity::from_tree(reference.at("divisor")).filter(|it| !it.is_zero())
    else {
        return;
    };
    let divisor = divisor.to_string();
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (supported, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&BYTES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&BYTES, "local ephemeral storage")
        }
        _ if huge => (&BYTES, "hugepages"),
        _ => return,
    };
    if !supported.contains(&divisor.as_str()) {
        let values = if what == "cpu" { "1m and 1".to_owned() } else { BYTES.join(", ") };
        let detail =
            format!("only divisor's values {values} are supported with the {what} resource");
        causes.invalid(&format!("{path}.divisor"), &resource.into(), &detail);
    }
}

fn mounts(container: &Value, of: &str, volumes: &OrdSet<&str>, causes: &mut Vec<Cause>) {
    let all = |list: &str, field: &str| {
        let items = container.list(list).iter();
        items.map(|item| item.str(field).to_owned()).collect::<OrdSet<String>>()
    };
    let (devices, device_paths) =
        (all("volumeDevices", "name"), all("volumeDevices", "devicePath"));
    let (mounted, places) = (all("volumeMounts", "name"), all("volumeMounts", "mountPath"));
    let mut mount_paths = OrdSet::new();
    for (idx, mount) in container.list("volumeMounts").iter().enumerate() {
        let path = format!("{of}.volumeMounts[{idx}]");
        // Upstream says the rest of all of them.
        let of = format!("{of}.volumeMounts");
        let (name, at) = (mount.str("name"), mount.str("mountPath"));
        if !volumes.contains(name) {
            causes.not_found(&format!("{path}.name"), name);
        }
        if !mount_paths.insert(at) {
            causes.invalid(&format!("{path}.mountPath"), &at.into(), "must be unique");
        }
        if devices.contains(name) {
            let detail = "must not already exist in volumeDevices";
            causes.invalid(&format!("{path}.name"), &name.into(), detail);
        }
        if device_paths.contains(at) {
            let detail = "must not already exist as a path in volumeDevices";
            causes.invalid(&format!("{path}.mountPath"), &at.into(), detail);
        }
        for field in ["subPath", "subPathExpr"] {
            inner_path(mount.str(field), &format!("{of}.{field}"), causes);
        }
        if !mount.str("subPath").is_empty() && !mount.str("subPathExpr").is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            causes.invalid(&format!("{path}.subPathExpr"), mount.at("subPathExpr"), detail);
        }
        propagation(mount, &of, container.flag("securityContext.privileged"), causes);
    }
    let (mut names, mut paths) = (OrdSet::new(), OrdSet::new());
    for (idx, device) in container.list("volumeDevices").iter().enumerate() {
        let path = format!("{of}.volumeDevices[{idx}]");
        let (name, at) = (device.str("name"), device.str("devicePath"));
        let mut invalid = |wrong: bool, field: &str, value: &str, detail: &str| {
            if wrong {
                causes.invalid(&format!("{path}.{field}"), &value.into(), detail);
            }
        };
        invalid(!name.is_empty() && !names.insert(name), "name", name, "must be unique");
        let steps_back = at.split('/').any(|part| part == "..");
        invalid(paths.contains(at), "devicePath", at, "must be unique");
        invalid(steps_back, "devicePath", at, "can not contain backsteps ('..')");
        if !steps_back {
            paths.insert(at);
        }
        invalid(mounted.contains(name), "name", name, "must not already exist in volumeMounts");
        let detail = "must not already exist as a path in volumeMounts";
        invalid(places.contains(at), "devicePath", at, detail);
        if !volumes.contains(name) {
            causes.not_found(&format!("{path}.name"), name);
        }
    }
}

/// How a mount shows what is mounted below it; `of` is the path of all mounts.
fn propagation(mount: &Value, of: &str, privileged: bool, causes: &mut Vec<Cause>) {
    let at = |field: &str| format!("{of}.{field}");
    if mount.has("mountPropagation") {
        const KNOWN: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
        let mode = mount.str("mountPropagation");
        if !KNOWN.contains(&mode) {
            causes.not_supported(&at("mountPropagation"), mode, &KNOWN);
        }
        if mode == "Bidirectional" && !privileged {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            causes.forbidden(&at("mountPropagation"), detail);
        }
    }
    let recursive = at("recursiveReadOnly");
    match mount.at("recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                causes.forbidden(&recursive, "may only be specified when readOnly is true");
            }
            if !matches!(mount.at("mountPropagation").as_str(), None | Some("None")) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                causes.forbidden(&recursive, detail);
            }
        }
        Some(other) => {
            causes.not_supported(&recursive, other, &["Disabled", "Enabled", "IfPossible"]);
        }
    }
}

fn probe(probe: &Value, kind: &str, grace: Option<i64>, path: &str, causes: &mut Vec<Cause>) {
    handler(probe, grace, path, causes);
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
        let path = format!("{path}.terminationGracePeriodSeconds");
        if secs <= 0 {
            causes.invalid(&path, &secs.into(), "must be greater than 0");
        }
        if kind == "readinessProbe" {
            causes.invalid(&path, &secs.into(), "must not be set for readinessProbes");
        }
    }
}

/// What a probe or hook does: exactly one thing.
fn handler(handler: &Value, grace: Option<i64>, path: &str, causes: &mut Vec<Cause>) {
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
            for field in ["path", "scheme"] {
                let at = format!("{path}.{field}");
                checks::part_at("HTTPGetAction", field, action.at(field), &at, causes);
            }
            for header in action.list("httpHeaders") {
                let at = format!("{path}.httpHeaders");
                causes.check_name(&at, header.str("name"), names::http_header);
            }
        }
        "tcpSocket" => port(action.at("port"), &format!("{path}.port"), causes),
        "grpc" => {
            if !(1..=65_535).contains(&action.int("port").unwrap_or(0)) {
                causes.invalid(&format!("{path}.port"), action.at("port"), PORT_RANGE);
            }
        }
        _ => {
            let (secs, Some(grace)) = (action.int("seconds").unwrap_or(0), grace) else { return };
            if !(1..=grace).contains(&secs) {
                let detail = format!(
                    "must be greater than 0 and less than terminationGracePeriodSeconds ({grace}). Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep."
                );
                causes.invalid(&path, &secs.into(), &detail);
            }
        }
    }
}

/// A port by number or name.
pub(crate) fn port(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::String(name) => causes.check_name(path, name, names::port),
        number => {
            // What is absent is Go's zero.
            let number = number.as_i64().unwrap_or(0);
            if !(1..=65_535).contains(&number) {
                causes.invalid(path, &number.into(), PORT_RANGE);
            }
        }
    }
}

/// A map from the resources of containers to amounts, at `path`.
pub(crate) fn amounts(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let path = format!("{path}[{name}]");
        checks::limited_name(true, name, &path, causes);
        let Some(quantity) = Quantity::from_tree(value) else { continue };
        if quantity.is_negative() {
            causes.invalid(&path, value, NON_NEGATIVE);
        }
        if api::quota::is_extended(name) && quantity.has_fraction() {
            causes.invalid_quantity(&path, value, "must be an integer");
        }
    }
}

/// `ResourceRequirements` at `path`.
pub(crate) fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    let amount =
        |what: &str, name: &str| resources.at(what).get(name).and_then(Quantity::from_tree);
    for what in ["limits", "requests"] {
        amounts(resources.at(what), &format!("{path}.{what}"), causes);
    }
    let mut has = (false, false);
    for what in ["limits", "requests"] {
        for (name, value) in resources.at(what).as_object().into_iter().flatten() {
            has.0 |= matches!(name.as_str(), "cpu" | "memory");
            let Some(size) = name.strip_prefix("hugepages-") else { continue };
            has.1 = true;
            let (size, value) = (size.parse::<Quantity>().ok(), Quantity::from_tree(value));
            let (Some(size), Some(value)) = (size.map(Quantity::units), value) else { continue };
            if size <= 0 || value.units() % size != 0 {
                let detail = format!("{value} is not positive integer multiple of {name}");
                let shown = value.to_string().into();
                causes.invalid(&format!("{path}.{what}[{name}]"), &shown, &detail);
            }
        }
    }
    for (name, value) in resources.at("requests").as_object().into_iter().flatten() {
        let Some(request) = Quantity::from_tree(value) else { continue };
        let extended = name.contains('/') && !name.contains("kubernetes.io/")
            || name.starts_with("hugepages-");
        let Some(limit) = amount("limits", name) else {
            if extended {
                let detail = "Limit must be set for non overcommitable resources";
                causes.required(&format!("{path}.limits"), detail);
            }
            continue;
        };
        let how = match () {
            () if extended && request != limit => "equal",
            () if request > limit => "less than or equal",
            () => continue,
        };
        let detail = format!("must be {how} to {name} limit of {limit}");
        causes.invalid(&format!("{path}.requests"), value, &detail);
    }
    if has == (false, true) {
        causes.forbidden(path, "HugePages require cpu or memory");
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
    super::platform::context(context, path, causes);
}

/// A user or group at `path`.
pub(super) fn user_id(id: i64, path: &str, causes: &mut Vec<Cause>) {
    if !(0..=i64::from(i32::MAX)).contains(&id) {
        causes.invalid(path, &id.into(), "must be between 0 and 2147483647, inclusive");
    }
}

/// A `SeccompProfile` at `path`.
pub(super) fn seccomp(profile: &Value, path: &str, causes: &mut Vec<Cause>) {
    if profile.is_null() {
        return;
    }
    let kind = profile.str("type");
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => {
            let detail = "type is required when seccompProfile is set";
            causes.required(&format!("{path}.type"), detail);
        }
        other => {
            const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
            causes.not_supported_in_order(&format!("{path}.type"), other, &TYPES);
        }
    }
    let path = format!("{path}.localhostProfile");
    match profile.at("localhostProfile").as_str() {
        None if kind == "Localhost" => {
            causes.required(&path, "must be set when seccomp type is Localhost");
        }
        None => {}
        Some(name) if kind == "Localhost" => inner_path(name, &path, causes),
        Some(name) => {
            causes.invalid(&path, &name.into(), "can only be set when seccomp type is Localhost");
        }
    }
}
