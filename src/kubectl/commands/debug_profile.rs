//! What `kubectl debug --profile` makes of a container, and of the pod around it.

use api::{Lens, LensMut, Value, json};

use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};

/// What is debugged, and so how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Node,
    Copy,
    Ephemeral,
}

/// Fields that may not be set by `--custom`.
const FIXED: [&str; 5] = ["name", "command", "image", "lifecycle", "volumeDevices"];
/// A part of a container.
const CUSTOM_MAX_BYTES: u64 = 1 << 20;
const HOST_ROOT: &str = "host-root";

/// Refuses a profile that there is not.
///
/// # Errors
/// That.
pub(super) fn check(name: &str) -> Outcome {
    match name {
        "legacy" | "general" | "baseline" | "restricted" | "netadmin" | "sysadmin" => Ok(()),
        other => failed(format!("unknown profile: {other}")),
    }
}

/// The part of a container that `--custom` names.
///
/// # Errors
/// If it cannot be read, or sets what is not to be set.
pub(super) fn custom(call: &Call<'_>) -> Outcome<Option<Value>> {
    let path = call.text("custom");
    if path.is_empty() {
        return Ok(None);
    }
    let bytes = rt::fs::read_within(path, CUSTOM_MAX_BYTES).map_err(|error| {
        let why = match error.io_kind() {
            Some(std::io::ErrorKind::NotFound) => {
                format!("open {path}: no such file or directory")
            }
            _ => error.to_string(),
        };
        Failure::Message(format!("must pass a container spec json file for custom profile: {why}"))
    })?;
    let text = String::from_utf8_lossy(&bytes);
    match wire::yaml::parse_one(&text) {
        Ok(tree) if tree.is_object() => Ok(Some(tree)),
        Ok(_) => failed(format!("{path} does not contain a valid container spec")),
        Err(why) => failed(format!("{path} does not contain a valid container spec: {why}")),
    }
}

/// Refuses a custom part that sets what is not to be set.
///
/// # Errors
/// That.
pub(super) fn check_custom(custom: &Value) -> Outcome {
    let is_set = |field: &&str| match custom.at(field) {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    match FIXED.iter().any(is_set) {
        true => failed(
            "name, command, image, lifecycle and volume devices are not modifiable via custom profile",
        ),
        false => Ok(()),
    }
}

/// Applies a profile to the container called `name`, which is in `list` of the pod's spec.
///
/// # Errors
/// If what is custom does not fit.
pub(super) fn apply(
    call: &Call<'_>,
    style: Style,
    pod: &mut Value,
    list: &str,
    name: &str,
    custom: Option<&Value>,
) -> Outcome {
    let profile = call.text("profile");
    if style == Style::Copy {
        of_copy(call, profile, pod);
    }
    if style == Style::Node && !matches!(profile, "baseline" | "restricted") {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            pod["spec"][field] = true.into();
        }
        if profile != "netadmin" {
            let root = json!({"name": HOST_ROOT, "hostPath": {"path": "/"}});
            pod.list_mut("spec.volumes").push(root);
        }
    }
    let mounts_root = style == Style::Node && matches!(profile, "legacy" | "general" | "sysadmin");
    let containers = pod.list_mut(&format!("spec.{list}"));
    let Some(container) = containers.iter_mut().find(|own| own.str("name") == name) else {
        return failed(format!("unable to find the {name} container in the pod"));
    };
    if mounts_root {
        let mount = json!({"name": HOST_ROOT, "mountPath": "/host"});
        container.list_mut("volumeMounts").push(mount);
    }
    match (profile, style) {
        ("general", Style::Node) | ("baseline", _) => drop(container.remove("securityContext")),
        ("general", _) => add(container, &["SYS_PTRACE"]),
        ("netadmin", _) => add(container, &["NET_ADMIN", "NET_RAW"]),
        ("sysadmin", _) => container.set("securityContext.privileged", true),
        ("restricted", _) => {
            container["securityContext"] = json!({
                "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false,
                "seccompProfile": {"type": "RuntimeDefault"},
            });
        }
        _ => {}
    }
    let Some(custom) = custom else { return Ok(()) };
    customize(pod, list, name, custom)
}

/// What a copy does not take over.
fn of_copy(call: &Call<'_>, profile: &str, pod: &mut Value) {
    if profile == "legacy" {
        pod.remove("metadata.labels");
        return;
    }
    for (flag, path) in [
        ("keep-labels", "metadata.labels"),
        ("keep-annotations", "metadata.annotations"),
        ("keep-init-containers", "spec.initContainers"),
    ] {
        if !call.is(flag) {
            pod.remove(path);
        }
    }
    for container in pod.list_mut("spec.containers") {
        for (flag, probe) in [
            ("keep-liveness", "livenessProbe"),
            ("keep-readiness", "readinessProbe"),
            ("keep-startup", "startupProbe"),
        ] {
            if !call.is(flag) {
                container.remove(probe);
            }
        }
    }
    if pod.at("spec.shareProcessNamespace").is_null() {
        pod["spec"]["shareProcessNamespace"] = true.into();
    }
}

fn add(container: &mut Value, capabilities: &[&str]) {
    let own = container.list_mut("securityContext.capabilities.add");
    own.extend(capabilities.iter().map(|it| Value::from(*it)));
}

/// Merges the custom part into the container, as a pod with this one container is patched.
fn customize(pod: &mut Value, list: &str, name: &str, custom: &Value) -> Outcome {
    let Some(resource) = crate::merge3::resource_of("v1", "Pod") else { return Ok(()) };
    let mut part = custom.clone();
    part.set("name", name);
    let mut patch = json!({"spec": {}});
    patch["spec"][list] = json!([part]);
    api::patch::strategic(resource.form(), pod, &patch)
        .map_err(|status| Failure::Message(status.message().to_owned()))
}
