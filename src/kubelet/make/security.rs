//! Security contexts: the pod's and the container's merged, checked, and in the runtime's words.

use api::{Lens, Value};
use runtime::{Seccomp, User};

/// What an image says about its user, as far as the checks need it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageUser {
    /// `user[:group]`; "" is root.
    pub user: String,
}

impl ImageUser {
    /// The numeric uid, where the image gives one. A number that is no uid may be a name in the image's
    /// passwd file, which can say anything about it.
    fn uid(&self) -> Result<i32, &str> {
        let name = self.user.split(':').next().unwrap_or("");
        match name.parse() {
            _ if name.is_empty() => Ok(0),
            Ok(uid) if uid >= 0 => Ok(uid),
            _ => Err(name),
        }
    }
}

/// The container's field, else the pod's.
fn effective<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    match container.at("securityContext").get(field) {
        Some(value) if !value.is_null() => value,
        _ => pod.at("spec.securityContext").get(field).unwrap_or(&Value::Null),
    }
}

fn id(value: &Value) -> Option<u32> {
    value.as_i64().and_then(|n| u32::try_from(n).ok())
}

/// Who the process runs as.
pub(crate) fn user(pod: &Value, container: &Value, image: &ImageUser) -> User {
    let uid = id(effective(pod, container, "runAsUser"));
    let context = pod.at("spec.securityContext");
    let mut supplementary: Vec<u32> =
        context.list("supplementalGroups").iter().filter_map(id).collect();
    supplementary.extend(id(context.at("fsGroup")));
    User {
        uid,
        gid: id(effective(pod, container, "runAsGroup")),
        name: (uid.is_none() && !image.user.is_empty()).then(|| image.user.clone()),
        supplementary_gids: supplementary,
        strict_groups: context.str("supplementalGroupsPolicy") == "Strict",
    }
}

pub(crate) fn demands_non_root(pod: &Value, container: &Value) -> bool {
    effective(pod, container, "runAsNonRoot").as_bool() == Some(true)
}

/// The refusal of a container that was made for root, whatever its image said before.
pub(crate) fn is_root(container: &Value, long_name: &str) -> String {
    let name = container.str("name");
    format!(
        "container has runAsNonRoot and image will run as root (pod: \"{long_name}\", container: {name})"
    )
}

/// Refuses a root user where the pod says `runAsNonRoot`; upstream's messages.
pub(crate) fn verify_non_root(
    pod: &Value,
    container: &Value,
    image: &ImageUser,
    long_name: &str,
) -> Result<(), String> {
    if !demands_non_root(pod, container) {
        return Ok(());
    }
    let whom = format!("(pod: \"{long_name}\", container: {})", container.str("name"));
    match effective(pod, container, "runAsUser").as_i64() {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {whom}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match image.uid() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root {whom}")),
        Ok(_) => Ok(()),
        Err(name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {whom}"
        )),
    }
}

/// Capabilities, flags and profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    pub privileged: bool,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub unmasked: bool,
    pub seccomp: SeccompChoice,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SeccompChoice {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A file below the kubelet's `seccomp` directory.
    Localhost(String),
}

impl SeccompChoice {
    pub(crate) fn into_seccomp(
        self,
        profile: impl FnOnce(&str) -> Result<String, String>,
    ) -> Result<Seccomp, String> {
        Ok(match self {
            SeccompChoice::Unconfined => Seccomp::Unconfined,
            SeccompChoice::RuntimeDefault => Seccomp::RuntimeDefault,
            SeccompChoice::Localhost(name) => Seccomp::Profile(profile(&name)?),
        })
    }
}

/// # Errors
/// What this node cannot enforce is refused, not ignored.
pub(crate) fn confinement(
    pod: &Value,
    container: &Value,
    seccomp_default: bool,
) -> Result<Confinement, String> {
    let context = container.at("securityContext");
    let privileged = context.flag("privileged");
    if !privileged && context.str("procMount") == "Unmasked" {
        // Behind the masks is what the whole machine shares.
        return Err(
            "procMount Unmasked takes a user namespace (hostUsers: false), which this node cannot give"
                .into(),
        );
    }
    let names = |path: &str| -> Vec<String> {
        context.list(path).iter().filter_map(|c| c.as_str().map(str::to_owned)).collect()
    };
    let app_armor = effective(pod, container, "appArmorProfile");
    if !matches!(app_armor.str("type"), "" | "Unconfined" | "RuntimeDefault") {
        return Err("Cannot enforce AppArmor: AppArmor is not enabled on the host".into());
    }
    let profile = effective(pod, container, "seccompProfile");
    let seccomp = match profile.str("type") {
        _ if privileged => SeccompChoice::Unconfined,
        "RuntimeDefault" => SeccompChoice::RuntimeDefault,
        "" if seccomp_default => SeccompChoice::RuntimeDefault,
        "Localhost" => SeccompChoice::Localhost(profile.str("localhostProfile").to_owned()),
        _ => SeccompChoice::Unconfined,
    };
    Ok(Confinement {
        privileged,
        read_only_root: context.flag("readOnlyRootFilesystem"),
        no_new_privileges: context.at("allowPrivilegeEscalation").as_bool() == Some(false),
        add: names("capabilities.add"),
        drop: names("capabilities.drop"),
        unmasked: privileged,
        seccomp,
    })
}

/// Sysctls that are namespaced and safe for everyone, as upstream lists them.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The reason to refuse the pod's sysctls: `SysctlForbidden`.
pub(crate) fn forbidden_sysctl(pod: &Value, more: &[String]) -> Option<String> {
    let spec = pod.at("spec");
    spec.list("securityContext.sysctls").iter().find_map(|sysctl| {
        let name = api::pod::sysctl_name(sysctl.str("name"));
        let shared = api::pod::host_namespace_of_sysctl(spec, &name);
        let fits = |allowed: &String| match allowed.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *allowed,
        };
        if !SAFE_SYSCTLS.contains(&&*name) && !more.iter().any(fits) {
            return Some(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        }
        let (word, _) = shared?;
        Some(format!("forbidden sysctl: \"{name}\" not allowed with host {word} enabled"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::json;

    #[test]
    fn the_container_overrides_the_pod() {
        let pod = json!({"spec": {"securityContext": {
            "runAsUser": 1000, "runAsGroup": 100, "fsGroup": 2000, "supplementalGroups": [5]}}});
        let container = json!({"securityContext": {"runAsUser": 7}});
        let got = user(&pod, &container, &ImageUser { user: "www".into() });
        assert_eq!((got.uid, got.gid, got.name), (Some(7), Some(100), None));
        assert_eq!(got.supplementary_gids, [5, 2000]);
        let got = user(&json!({}), &json!({}), &ImageUser { user: "www".into() });
        assert_eq!((got.uid, got.name.as_deref()), (None, Some("www")));
    }

    #[test]
    fn non_root_is_verified_in_upstreams_words() {
        let check = |context: Value, image: &str| {
            let container = json!({"name": "c", "securityContext": context});
            let image = ImageUser { user: image.into() };
            verify_non_root(&json!({}), &container, &image, "p_n(u)").err().unwrap_or_default()
        };
        assert_eq!(check(json!({}), ""), "");
        assert_eq!(
            check(json!({"runAsNonRoot": true}), ""),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert_eq!(
            check(json!({"runAsNonRoot": true}), "www:x"),
            "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root (pod: \"p_n(u)\", container: c)"
        );
        assert_eq!(check(json!({"runAsNonRoot": true}), "1000"), "");
        for root in ["0", "00", "+0", "-0", "0:1000", ":1000"] {
            let said = check(json!({"runAsNonRoot": true}), root);
            assert!(said.contains("image will run as root"), "{root}: {said}");
        }
        for no_uid in ["4294967295", "2147483648", "-1", " 1000", "1000 ", "99999999999999999999"] {
            let said = check(json!({"runAsNonRoot": true}), no_uid);
            assert!(said.contains("non-numeric user"), "{no_uid}: {said}");
        }
        assert_eq!(
            check(json!({"runAsNonRoot": true, "runAsUser": 0}), "1000"),
            "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"
        );
    }

    #[test]
    fn confinement_merges() {
        let pod =
            json!({"spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}});
        let got = confinement(
            &pod,
            &json!({"securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}),
            false,
        )
        .unwrap();
        assert_eq!(got.seccomp, SeccompChoice::RuntimeDefault);
        let by_default = confinement(&json!({}), &json!({}), true).unwrap();
        assert_eq!(by_default.seccomp, SeccompChoice::RuntimeDefault);
        assert!(got.no_new_privileges && got.drop == ["ALL"] && got.add == ["NET_BIND_SERVICE"]);
        let got =
            confinement(&pod, &json!({"securityContext": {"privileged": true}}), false).unwrap();
        assert!(got.privileged && got.unmasked && got.seccomp == SeccompChoice::Unconfined);
        let armor = json!({"securityContext": {"appArmorProfile": {"type": "Localhost"}}});
        assert!(confinement(&pod, &armor, false).is_err());
        let sysctls = |name: &str| json!({"spec": {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}}});
        assert_eq!(forbidden_sysctl(&sysctls("net.ipv4.tcp_syncookies"), &[]), None);
        assert!(forbidden_sysctl(&sysctls("kernel.msgmax"), &[]).is_some());
        let allowed = ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned()];
        assert_eq!(forbidden_sysctl(&sysctls("kernel.msgmax"), &allowed), None);
        assert_eq!(forbidden_sysctl(&sysctls("net.core.somaxconn"), &allowed), None);
        assert!(forbidden_sysctl(&sysctls("kernel.sem"), &allowed).is_some());
        assert_eq!(forbidden_sysctl(&sysctls("net/ipv4/tcp_syncookies"), &[]), None);
        assert!(forbidden_sysctl(&sysctls("net.ipv4/tcp_syncookies"), &[]).is_some());
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let check = |name: &str, field: &str| {
            let pod = json!({"spec": {field: true,
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}});
            forbidden_sysctl(&pod, &[]).unwrap_or_default()
        };
        let (net, ipc) = ("net.ipv4.ip_local_port_range", "kernel.shm_rmid_forced");
        assert_eq!(
            check(net, "hostNetwork"),
            format!("forbidden sysctl: \"{net}\" not allowed with host net enabled")
        );
        assert_eq!(check("net/ipv4/ip_local_port_range", "hostNetwork"), check(net, "hostNetwork"));
        assert_eq!(
            check(ipc, "hostIPC"),
            format!("forbidden sysctl: \"{ipc}\" not allowed with host ipc enabled")
        );
        assert_eq!((check(net, "hostIPC"), check(ipc, "hostNetwork")), Default::default());
    }

    #[test]
    fn proc_stays_masked_without_a_user_namespace() {
        let context =
            |context: Value| confinement(&json!({}), &json!({"securityContext": context}), false);
        assert!(context(json!({"procMount": "Unmasked"})).is_err());
        assert!(!context(json!({"procMount": "Default"})).unwrap().unmasked);
        assert!(context(json!({"procMount": "Unmasked", "privileged": true})).unwrap().unmasked);
    }
}
