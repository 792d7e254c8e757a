//! Rules of what only one operating system has: Windows' options, AppArmor, and fields that the other lacks.
//!
//! Source: `validateWindowsSecurityContextOptions`, `validateWindowsHostProcessPod`, `validateLinux`, `validateWindows`
//! and `ValidateAppArmorProfileField`.

use api::complain::Complain;
use api::lens::Lens;
use api::names;
use api::pod::all_containers;
use api::status::Cause;
use serde_json::Value;

const SPEC_KIB_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 256;
const USER_BYTES_MAX: usize = 104;
const NETBIOS_CHARS_MAX: usize = 15;
const PROFILE_BYTES_MAX: usize = 4095;

/// What a pod's or a container's security context at `path` says to one operating system alone.
pub(super) fn context(context: &Value, path: &str, causes: &mut Vec<Cause>) {
    app_armor(context.at("appArmorProfile"), &format!("{path}.appArmorProfile"), causes);
    windows_options(context.at("windowsOptions"), &format!("{path}.windowsOptions"), causes);
}

fn app_armor(profile: &Value, path: &str, causes: &mut Vec<Cause>) {
    if profile.is_null() {
        return;
    }
    let (at, name) = (format!("{path}.localhostProfile"), profile.at("localhostProfile").as_str());
    match (profile.str("type"), name) {
        ("Localhost", None) => {
            causes.required(&at, "must be set when AppArmor type is Localhost");
        }
        ("Localhost", Some(name)) => {
            if name.trim() != name {
                causes.invalid(&at, &name.into(), "must not be padded with whitespace");
            } else if name.is_empty() {
                causes.required(&at, "must be set when AppArmor type is Localhost");
            }
            if name.len() > PROFILE_BYTES_MAX {
                causes.too_long(&at, PROFILE_BYTES_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            causes.invalid(&at, &name.into(), "can only be set when AppArmor type is Localhost");
        }
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            causes.required(&format!("{path}.type"), detail);
        }
        (other, _) => {
            const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
            causes.not_supported_in_order(&format!("{path}.type"), other, &TYPES);
        }
    }
}

fn windows_options(options: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(name) = options.at("gmsaCredentialSpecName").as_str() {
        causes.check_name(&format!("{path}.gmsaCredentialSpecName"), name, names::subdomain);
    }
    if let Some(spec) = options.at("gmsaCredentialSpec").as_str() {
        let at = format!("{path}.gmsaCredentialSpec");
        if spec.is_empty() {
            causes.invalid(&at, &"".into(), "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > SPEC_KIB_MAX * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {SPEC_KIB_MAX} KiB");
            causes.invalid(&at, &spec.into(), &detail);
        }
    }
    if let Some(name) = options.at("runAsUserName").as_str() {
        for why in user_name(name) {
            let detail = format!("runAsUserName{why}");
            causes.invalid(&format!("{path}.runAsUserName"), &name.into(), &detail);
        }
    }
}

/// What is wrong with `DOMAIN\USER`, of which the domain may be left out.
fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec![" cannot be an empty string".into()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec![" cannot contain control characters".into()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return vec![" cannot contain more than one backslash".into()];
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_BYTES_MAX) {
        wrong.push(format!("'s Domain length must be under {DOMAIN_BYTES_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_netbios(domain) && !is_dns(domain)) {
        wrong.push("'s Domain doesn't match the NetBios nor the DNS format".into());
    }
    if user.is_empty() {
        wrong.push("'s User cannot be empty".into());
    } else if user.len() > USER_BYTES_MAX {
        wrong.push(format!("'s User length must not be longer than {USER_BYTES_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("'s User cannot contain only periods or spaces".into());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let what = r#"'s User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        wrong.push(what.into());
    }
    wrong
}

fn is_netbios(domain: &str) -> bool {
    (1..=NETBIOS_CHARS_MAX).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| names::label(&label.to_ascii_lowercase()).is_ok())
}

/// Rules of a pod spec at `path`: what its operating system does not have, and processes of Windows hosts.
pub(super) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    const OF_LINUX: &str = "securityContext.appArmorProfile securityContext.seLinuxOptions hostUsers hostPID hostIPC \
        securityContext.seccompProfile securityContext.fsGroup securityContext.fsGroupChangePolicy securityContext.sysctls \
        shareProcessNamespace securityContext.runAsUser securityContext.runAsGroup securityContext.supplementalGroups \
        securityContext.supplementalGroupsPolicy securityContext.seLinuxChangePolicy";
    const OF_LINUX_CONTAINERS: &str = "appArmorProfile seLinuxOptions seccompProfile capabilities readOnlyRootFilesystem \
        privileged allowPrivilegeEscalation procMount runAsUser runAsGroup";
    let name = spec.str("os.name");
    if spec.has("os") {
        match name {
            "linux" | "windows" => {}
            "" => causes.required(&format!("{path}.os.name"), "cannot be empty"),
            name => causes.not_supported(&format!("{path}.os"), name, &["linux", "windows"]),
        }
    }
    let (pod, container, detail) = match name {
        "windows" => (OF_LINUX, OF_LINUX_CONTAINERS, "cannot be set for a windows pod"),
        "linux" => (
            "securityContext.windowsOptions",
            "windowsOptions",
            "windows options cannot be set for a linux pod",
        ),
        _ => ("", "", ""),
    };
    let mut forbid = |owner: &Value, fields: &str, path: &str| {
        for field in fields.split_ascii_whitespace() {
            let is_set = owner.has(field) && owner.at(field) != &Value::Bool(false)
                || owner.at(field) == &Value::Bool(false) && !field.starts_with("host");
            if is_set {
                causes.forbidden(&format!("{path}.{field}"), detail);
            }
        }
    };
    forbid(spec, pod, path);
    for (field, idx, one) in all_containers(spec) {
        let path = format!("{path}.{field}[{idx}].securityContext");
        forbid(one.at("securityContext"), container, &path);
    }
    host_processes(spec, path, causes);
}

fn host_processes(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    const FIELD: &str = "securityContext.windowsOptions.hostProcess";
    let of_pod = spec.at(FIELD).as_bool();
    let (mut n_containers, mut n_of_host) = (0, 0);
    for (field, idx, container) in all_containers(spec) {
        let own = container.at(FIELD).as_bool();
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let detail = format!(
                "pod hostProcess value must be identical if both are specified, was {of_pod}"
            );
            causes.invalid(&format!("{path}.{field}[{idx}].{FIELD}"), &own.into(), &detail);
        }
        n_containers += 1;
        n_of_host += usize::from(own.or(of_pod).unwrap_or(false));
    }
    if n_of_host == 0 {
        return;
    }
    if n_of_host != n_containers {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        causes.invalid(path, &"".into(), detail);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        causes.invalid(&format!("{path}.hostNetwork"), &false.into(), detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_operating_system_lacks_is_refused() {
        let container = |windows: Value| json!([{"securityContext": {"windowsOptions": windows}}]);
        for (tree, fields) in [
            (json!({}), &[][..]),
            (
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
                &["spec.securityContext.windowsOptions"],
            ),
            (
                json!({"os": {"name": "windows"}, "hostPID": true, "hostUsers": false, "shareProcessNamespace": false,
                    "containers": [{"securityContext": {"privileged": false, "runAsUser": 0}}]}),
                &[
                    "spec.hostPID",
                    "spec.shareProcessNamespace",
                    "spec.containers[0].securityContext.privileged",
                    "spec.containers[0].securityContext.runAsUser",
                ],
            ),
            (json!({"containers": container(json!({"hostProcess": true}))}), &["spec.hostNetwork"]),
            (
                json!({"initContainers": [{}], "hostNetwork": true, "containers": container(json!({"hostProcess": true}))}),
                &["spec"],
            ),
            (
                json!({"securityContext": {"windowsOptions": {"hostProcess": true}}, "hostNetwork": true,
                    "containers": container(json!({"hostProcess": false}))}),
                &["spec.containers[0].securityContext.windowsOptions.hostProcess"],
            ),
        ] {
            let mut causes: Vec<Cause> = Vec::new();
            spec(&tree, "spec", &mut causes);
            let told: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
            assert_eq!(told, fields, "{tree}");
        }
    }

    #[test]
    fn windows_options_and_app_armor_are_told_in_upstreams_words() {
        for (tree, words) in [
            (json!({"windowsOptions": {"runAsUserName": "NT AUTHORITY\\SYSTEM"}}), &[][..]),
            (
                json!({"windowsOptions": {"runAsUserName": "a.example\\me", "gmsaCredentialSpecName": "a.b"}}),
                &[],
            ),
            (
                json!({"windowsOptions": {"runAsUserName": ""}}),
                &["runAsUserName cannot be an empty string"],
            ),
            (
                json!({"windowsOptions": {"runAsUserName": "a\\b\\c"}}),
                &["runAsUserName cannot contain more than one backslash"],
            ),
            (
                json!({"windowsOptions": {"runAsUserName": ".."}}),
                &["runAsUserName's User cannot contain only periods or spaces"],
            ),
            (
                json!({"windowsOptions": {"runAsUserName": "?\\a/b"}}),
                &[
                    "runAsUserName's Domain doesn't match the NetBios nor the DNS format",
                    "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
                ],
            ),
            (
                json!({"windowsOptions": {"gmsaCredentialSpec": ""}}),
                &["gmsaCredentialSpec cannot be an empty string"],
            ),
            (
                json!({"appArmorProfile": {"type": "Localhost"}}),
                &["must be set when AppArmor type is Localhost"],
            ),
            (
                json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}),
                &["must not be padded with whitespace"],
            ),
            (
                json!({"appArmorProfile": {"type": "Unconfined", "localhostProfile": "a"}}),
                &["can only be set when AppArmor type is Localhost"],
            ),
            (json!({"appArmorProfile": {}}), &["type is required when appArmorProfile is set"]),
            (
                json!({"appArmorProfile": {"type": "x"}}),
                &["\"Localhost\", \"RuntimeDefault\", \"Unconfined\""],
            ),
        ] {
            let mut causes: Vec<Cause> = Vec::new();
            context(&tree, "spec.securityContext", &mut causes);
            assert_eq!(causes.len(), words.len(), "{tree}: {causes:?}");
            for (cause, words) in causes.iter().zip(words) {
                assert!(cause.message.ends_with(words), "{tree}: {cause:?}");
            }
        }
    }
}
