//! The checks of the Pod Security Standards, version by version, with upstream's words.

use api::lens::Lens;
use api::pod::all_containers;
use serde_json::Value;
use stdx::{Arrange, OrdSet};

use super::Violation;

/// The pod and what the checks ask of it, worked out once.
struct Pod<'a> {
    tree: &'a Value,
    spec: &'a Value,
    containers: Vec<&'a Value>,
    windows: bool,
}

/// A check: the version it begins with, and what it finds.
type Check = (u32, fn(&Pod<'_>, u32) -> Option<Violation>);

const BASELINE: &[Check] = &[
    (0, app_armor),
    (0, host_namespaces),
    (0, host_ports),
    (0, privileged),
    (0, proc_mount),
    (0, selinux),
    (0, sysctls),
    (0, windows_host_process),
];

const RESTRICTED: &[Check] = &[
    (8, privilege_escalation),
    (22, capabilities_restricted),
    (0, restricted_volumes),
    (0, run_as_non_root),
    (23, run_as_user),
    (19, seccomp_restricted),
];

/// Everything that a pod violates: first of the baseline, then of the restricted level, each in the
/// order of upstream's names; a restricted check that holds stands for the baseline's of the same.
pub(super) fn all(restricted: bool, minor: u32, tree: &Value) -> Vec<Violation> {
    let spec = tree.at("spec");
    let pod = Pod {
        tree,
        spec,
        containers: all_containers(spec).map(|(_, _, container)| container).collect(),
        windows: minor >= 25 && spec.str("os.name") == "windows",
    };
    let mut found = Vec::new();
    let mut run = |checks: &[Check]| {
        let held = checks.iter().filter(|(since, _)| minor >= *since);
        found.extend(held.filter_map(|(_, check)| check(&pod, minor)));
    };
    run(&BASELINE[..1]);
    if !restricted || minor < 22 {
        run(&[(0, capabilities_baseline)]);
    }
    run(&BASELINE[1..2]);
    if !restricted {
        run(&[(0, host_path_volumes)]);
    }
    run(&BASELINE[2..6]);
    if !restricted || minor < 19 {
        run(&[(0, seccomp_baseline)]);
    }
    run(&BASELINE[6..]);
    if restricted {
        run(RESTRICTED);
    }
    found
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// `container "a"` or `containers "a", "b"`
fn named(word: &str, names: &[&str]) -> String {
    let end = if names.len() == 1 { "" } else { "s" };
    format!("{word}{end} {}", quoted(names.iter().copied()))
}

impl<'a> Pod<'a> {
    /// The names of the containers for which `bad` holds.
    fn those(&self, bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
        let bad = self.containers.iter().filter(|container| bad(container));
        bad.map(|container| container.str("name")).collect()
    }

    /// `pod and containers "a", "b"`: who set something themselves; "" for nobody.
    fn setters(&self, bad: impl Fn(&'a Value) -> bool) -> String {
        let mut setters = Vec::new();
        if bad(self.spec.at("securityContext")) {
            setters.push("pod".to_owned());
        }
        let containers = self.those(|container| bad(container.at("securityContext")));
        if !containers.is_empty() {
            setters.push(named("container", &containers));
        }
        setters.join(" and ")
    }

    /// The values that `get` finds in the pod's and the containers' security contexts.
    fn values(&self, get: impl Fn(&'a Value) -> Option<&'a str>) -> OrdSet<&'a str> {
        let contexts = self.containers.iter().map(|container| container.at("securityContext"));
        std::iter::once(self.spec.at("securityContext")).chain(contexts).filter_map(get).collect()
    }
}

fn app_armor(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    fn bad(context: &Value) -> Option<&str> {
        let profile = context.at("appArmorProfile");
        (!profile.is_null()).then(|| profile.str("type")).filter(|t| !is_confined(t))
    }
    let mut setters = pod.setters(|context| bad(context).is_some());
    let mut values: Vec<String> = pod.values(bad).into_iter().map(str::to_owned).collect();
    let mut annotations: Vec<String> = pod
        .tree
        .pairs("metadata.annotations")
        .filter(|(key, value)| {
            key.starts_with(PREFIX)
                && !value.is_empty()
                && *value != "runtime/default"
                && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if !annotations.is_empty() {
        annotations.arrange();
        let and = if setters.is_empty() { "" } else { " and " };
        let end = if annotations.len() == 1 { "" } else { "s" };
        setters.push_str(&format!("{and}annotation{end}"));
        values.append(&mut annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let end = if values.len() == 1 { "" } else { "s" };
    violation(
        &format!("forbidden AppArmor profile{end}"),
        format!(
            "{setters} must not set AppArmor profile type to {}",
            quoted(values.iter().map(String::as_str))
        ),
    )
}

/// A profile's type that confines.
fn is_confined(profile_type: &str) -> bool {
    matches!(profile_type, "RuntimeDefault" | "Localhost")
}

/// The capabilities that a container adds beyond those that `allowed` names.
fn added<'a>(
    container: &'a Value,
    allowed: &'static [&'static str],
) -> impl Iterator<Item = &'a str> {
    let add = container.list("securityContext.capabilities.add").iter();
    add.filter_map(Value::as_str).filter(move |name| !allowed.contains(name))
}

fn excess(pod: &Pod<'_>, allowed: &'static [&'static str]) -> Option<String> {
    let containers = pod.those(|container| added(container, allowed).next().is_some());
    let names: OrdSet<&str> =
        pod.containers.iter().flat_map(|container| added(container, allowed)).collect();
    (!containers.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named("container", &containers),
            quoted(names)
        )
    })
}

fn capabilities_baseline(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const DEFAULT: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    violation("non-default capabilities", excess(pod, DEFAULT)?)
}

fn capabilities_restricted(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    if pod.windows {
        return None;
    }
    let keeping = pod.those(|container| {
        let drop = container.list("securityContext.capabilities.drop");
        !drop.iter().any(|name| name == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = named("container", &keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(excess(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        None
    } else {
        violation("unrestricted capabilities", details.join("; "))
    }
}

fn host_namespaces(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec.flag(field))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

fn host_path_volumes(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let volumes = pod.spec.list("volumes").iter().filter(|volume| volume.has("hostPath"));
    let names: Vec<&str> = volumes.map(|volume| volume.str("name")).collect();
    if names.is_empty() { None } else { violation("hostPath volumes", named("volume", &names)) }
}

fn host_ports(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    fn ports(container: &Value) -> impl Iterator<Item = i64> {
        let ports = container.list("ports").iter();
        ports.filter_map(|port| port.int("hostPort")).filter(|port| *port != 0)
    }
    let containers = pod.those(|container| ports(container).next().is_some());
    let all: OrdSet<String> =
        pod.containers.iter().flat_map(|c| ports(c)).map(|port| port.to_string()).collect();
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        named("container", &containers),
        if containers.len() == 1 { "uses" } else { "use" },
        if all.len() == 1 { "hostPort" } else { "hostPorts" },
        all.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("hostPort", detail)
}

fn privileged(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let bad = pod.those(|container| container.flag("securityContext.privileged"));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation("privileged", format!("{who} must not set securityContext.privileged=true"))
}

fn proc_mount(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    fn bad(container: &Value) -> Option<&str> {
        let mount = container.str("securityContext.procMount");
        Some(mount).filter(|mount| !matches!(*mount, "" | "Default"))
    }
    let containers = pod.those(|container| bad(container).is_some());
    if containers.is_empty() {
        return None;
    }
    let types: OrdSet<&str> = pod.containers.iter().filter_map(|c| bad(c)).collect();
    let who = named("container", &containers);
    violation(
        "procMount",
        format!("{who} must not set securityContext.procMount to {}", quoted(types)),
    )
}

fn selinux(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let bad_type = |context: &Value| {
        let name = context.str("seLinuxOptions.type");
        !(matches!(name, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || minor >= 31 && name == "container_engine_t")
    };
    let has = |field: &'static str| {
        move |context: &Value| !context.at("seLinuxOptions").str(field).is_empty()
    };
    let setters =
        pod.setters(|context| bad_type(context) || has("user")(context) || has("role")(context));
    if setters.is_empty() {
        return None;
    }
    let mut details = Vec::new();
    let types = pod.values(|c| bad_type(c).then(|| c.str("seLinuxOptions.type")));
    if !types.is_empty() {
        details.push(named("type", &types.into_iter().collect::<Vec<_>>()));
    }
    for field in ["user", "role"] {
        if !pod.setters(has(field)).is_empty() {
            details.push(format!("{field} may not be set"));
        }
    }
    let what = details.join("; ");
    violation(
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

fn bad_seccomp(context: &Value) -> Option<&str> {
    let profile = context.at("seccompProfile");
    (!profile.is_null()).then(|| profile.str("type")).filter(|t| !is_confined(t))
}

/// Profiles that are set, and not allowed at either level.
fn seccomp_set(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| bad_seccomp(context).is_some());
    if setters.is_empty() {
        return None;
    }
    let values = quoted(pod.values(bad_seccomp));
    violation(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {values}"),
    )
}

fn seccomp_baseline(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 19 {
        return seccomp_set(pod);
    }
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let names = pod.those(|_| true);
    let about = |key: &str| {
        key == POD || key.strip_prefix(CONTAINER).is_some_and(|name| names.contains(&name))
    };
    let bad: OrdSet<String> = pod
        .tree
        .pairs("metadata.annotations")
        .filter(|(key, value)| {
            about(key)
                && !matches!(*value, "runtime/default" | "docker/default")
                && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let end = if bad.len() == 1 { "" } else { "s" };
    let all = bad.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden annotation{end} {all}"))
}

fn seccomp_restricted(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    if pod.windows {
        return None;
    }
    if let Some(found) = seccomp_set(pod) {
        return Some(found);
    }
    if pod.spec.has("securityContext.seccompProfile") {
        return None;
    }
    let bad = pod.those(|container| !container.has("securityContext.seccompProfile"));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}

fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let allowed = |name: &str| match name {
        "kernel.shm_rmid_forced"
        | "net.ipv4.ip_local_port_range"
        | "net.ipv4.tcp_syncookies"
        | "net.ipv4.ping_group_range"
        | "net.ipv4.ip_unprivileged_port_start" => true,
        "net.ipv4.ip_local_reserved_ports" => minor >= 27,
        "net.ipv4.tcp_keepalive_time"
        | "net.ipv4.tcp_fin_timeout"
        | "net.ipv4.tcp_keepalive_intvl"
        | "net.ipv4.tcp_keepalive_probes" => minor >= 29,
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => minor >= 32,
        _ => false,
    };
    let all = pod.spec.list("securityContext.sysctls").iter().map(|sysctl| sysctl.str("name"));
    let bad: Vec<&str> = all.filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let setters = pod.setters(|context| context.flag("windowsOptions.hostProcess"));
    if setters.is_empty() {
        return None;
    }
    violation(
        "hostProcess",
        format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}

fn privilege_escalation(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const FIELD: &str = "securityContext.allowPrivilegeEscalation";
    if pod.windows {
        return None;
    }
    let bad = pod.those(|container| container.at(FIELD) != &Value::Bool(false));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation("allowPrivilegeEscalation != false", format!("{who} must set {FIELD}=false"))
}

fn restricted_volumes(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut types) = (Vec::new(), OrdSet::new());
    for volume in pod.spec.list("volumes") {
        if ALLOWED.iter().any(|field| volume.has(field)) {
            continue;
        }
        names.push(volume.str("name"));
        let source = volume.as_object().into_iter().flatten();
        let mut set = source.filter(|(key, value)| *key != "name" && !value.is_null());
        types.insert(match set.next() {
            None => "unknown",
            Some((key, _)) if key == "image" => "unknown",
            Some((key, _)) => key.as_str(),
        });
    }
    if names.is_empty() {
        return None;
    }
    let types: Vec<&str> = types.into_iter().collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    violation(
        "restricted volume types",
        format!("{} {uses} {}", named("volume", &names), named("restricted volume type", &types)),
    )
}

fn run_as_non_root(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| context.at("runAsNonRoot") == &Value::Bool(false));
    if !setters.is_empty() {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return violation(REASON, detail);
    }
    if pod.spec.flag("securityContext.runAsNonRoot") {
        return None;
    }
    let bad = pod.those(|container| !container.flag("securityContext.runAsNonRoot"));
    if bad.is_empty() {
        return None;
    }
    let who = named("container", &bad);
    violation(REASON, format!("pod or {who} must set securityContext.runAsNonRoot=true"))
}

fn run_as_user(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let setters = pod.setters(|context| context.int("runAsUser") == Some(0));
    if setters.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}
