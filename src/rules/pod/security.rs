//! Pod security: what a namespace's `pod-security.kubernetes.io` labels say, and whether a pod keeps to it.

mod checks;
pub mod configuration;

pub use configuration::{Configuration, Exemptions};

use std::fmt;

use api::complain::Complain;
use api::kinds::NAMESPACE;
use api::lens::Lens;
use api::status::{Cause, Status};
use serde_json::Value;

/// How much a pod may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version of Kubernetes whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Minor(u32),
    Latest,
}

/// A level as of a version; written `baseline:v1.32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

/// What one namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

impl Default for Policy {
    /// Nothing is asked for.
    fn default() -> Policy {
        let none = Standard { level: Level::Privileged, version: Version::Latest };
        Policy { enforce: none, audit: none, warn: none }
    }
}

/// One check that a pod does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

const LEVELS: &str = "must be one of privileged, baseline, restricted";
const VERSIONS: &str = "must be \"latest\" or \"v1.x\"";
const LABELS: &str = "pod-security.kubernetes.io/";

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// The policy of a namespace, and what is wrong with its labels (upstream's `PolicyToEvaluate`). A level
/// to enforce that is not understood is the strictest; one to audit or to warn of is none.
pub fn policy(namespace: &Value, defaults: Policy) -> (Policy, Vec<Cause>) {
    let (mut policy, mut causes) = (defaults, Vec::new());
    let label = |name: &str| namespace.entry("metadata.labels", &format!("{LABELS}{name}"));
    let mut enforced = false;
    if let Some(text) = label("enforce") {
        let level = level(text);
        enforced = level.is_some();
        policy.enforce.level = level.unwrap_or(Level::Restricted);
        complain_level("enforce", text, level, &mut causes);
    }
    let version = |name: &str, default: &mut Version, causes: &mut Vec<Cause>| {
        if let Some(text) = label(name) {
            *default = version_label(name, text, causes);
        }
    };
    version("enforce-version", &mut policy.enforce.version, &mut causes);
    if let Some(text) = label("audit") {
        policy.audit.level = level(text).unwrap_or(Level::Privileged);
        complain_level("audit", text, level(text), &mut causes);
    }
    version("audit-version", &mut policy.audit.version, &mut causes);
    if let Some(text) = label("warn") {
        policy.warn.level = level(text).unwrap_or(Level::Privileged);
        complain_level("warn", text, level(text), &mut causes);
    }
    version("warn-version", &mut policy.warn.version, &mut causes);
    if label("warn").is_none() && enforced && policy.enforce.level > policy.warn.level {
        policy.warn.level = policy.enforce.level;
        if label("warn-version").is_none() {
            policy.warn.version = policy.enforce.version;
        }
    }
    (policy, causes)
}

/// What is said of labels on a namespace that is exempt (upstream's `exemptNamespaceWarning`).
pub fn exempt_warning(namespace: &Value, policy: Policy, defaults: Policy) -> Option<String> {
    let modes = |policy: Policy| [policy.enforce, policy.audit, policy.warn];
    let same = |(a, b): (Standard, Standard)| {
        a == b || a.level == Level::Privileged && b.level == Level::Privileged
    };
    let privileged = modes(policy).iter().all(|mode| mode.level == Level::Privileged);
    if privileged || modes(policy).into_iter().zip(modes(defaults)).all(same) {
        return None;
    }
    let label =
        |name: &str| namespace.entry("metadata.labels", &format!("{LABELS}{name}")).is_some();
    let told: Vec<String> = ["enforce", "audit", "warn"]
        .into_iter()
        .zip(modes(policy))
        .filter(|(name, mode)| {
            mode.level != Level::Privileged && (label(name) || label(&format!("{name}-version")))
        })
        .map(|(name, mode)| format!("{name}={mode}"))
        .collect();
    Some(format!(
        "namespace {:?} is exempt from Pod Security, and the policy ({}) will be ignored",
        namespace.str("metadata.name"),
        told.join(", ")
    ))
}

/// Refuses a namespace whose labels are wrong, unless they were so before.
///
/// # Errors
/// 422
pub fn check_labels(new: &Value, old: Option<&Value>, defaults: Policy) -> Result<(), Status> {
    let causes = policy(new, defaults).1;
    let told = |causes: &[Cause]| -> Vec<String> {
        causes.iter().map(|cause| format!("{} {}", cause.field, cause.message)).collect()
    };
    if causes.is_empty() || old.is_some_and(|old| told(&policy(old, defaults).1) == told(&causes)) {
        return Ok(());
    }
    Err(Status::invalid(&NAMESPACE, new.str("metadata.name"), causes))
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let number = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    let plain = number && (minor == "0" || !minor.starts_with('0'));
    // A number beyond all that will ever be is the newest, too.
    plain.then(|| Version::Minor(minor.parse().unwrap_or(u32::MAX)))
}

fn complain_level(name: &str, text: &str, level: Option<Level>, causes: &mut Vec<Cause>) {
    if level.is_none() {
        let path = format!("metadata.labels[{LABELS}{name}]");
        causes.invalid(&path, &text.into(), LEVELS);
    }
}

fn version_label(name: &str, text: &str, causes: &mut Vec<Cause>) -> Version {
    version(text).unwrap_or_else(|| {
        let path = format!("metadata.labels[{LABELS}{name}]");
        causes.invalid(&path, &text.into(), VERSIONS);
        Version::Latest
    })
}

/// What a pod, or a pod template, does not keep to.
pub fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    let minor = match standard.version {
        Version::Minor(minor) => minor,
        Version::Latest => u32::MAX,
    };
    match standard.level {
        Level::Privileged => Vec::new(),
        level => checks::all(level == Level::Restricted, minor, pod),
    }
}

/// Violations with their details, as upstream joins them.
pub fn details(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The names of violations alone.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| &*violation.reason).collect::<Vec<_>>().join(", ")
}

/// Where a kind that makes pods has their template.
fn template_path(kind: &api::Kind) -> Option<&'static str> {
    crate::gates::pod_spec_path(kind).strip_suffix(".spec")
}

/// Whether a kind has a template of pods.
pub fn makes_pods(kind: &api::Kind) -> bool {
    template_path(kind).is_some()
}

/// The pod template of a kind that makes pods.
pub fn template<'a>(kind: &api::Kind, tree: &'a Value) -> Option<&'a Value> {
    Some(tree.at(template_path(kind)?)).filter(|template| !template.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(level: Level, minor: u32, spec: Value) -> String {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        details(&violations(Standard { level, version: Version::Minor(minor) }, &pod))
    }

    #[test]
    fn restricted_says_what_it_wants_in_upstreams_words() {
        let bare = json!({"containers": [{"name": "c", "image": "i"}]});
        assert_eq!(
            told(Level::Restricted, 32, bare.clone()),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert_eq!(told(Level::Baseline, 32, bare.clone()), "");
        assert_eq!(
            told(Level::Restricted, 0, bare),
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
        );
        let good = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        });
        assert_eq!(told(Level::Restricted, 32, good), "");
    }

    #[test]
    fn every_check_finds_what_it_is_for() {
        let container =
            |context: Value| json!({"containers": [{"name": "c", "securityContext": context}]});
        for (minor, spec, wanted) in [
            (
                32,
                json!({"hostNetwork": true, "hostPID": true, "hostIPC": true}),
                "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
            ),
            (
                32,
                json!({"volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "hostPath": {}}]}),
                "hostPath volumes (volumes \"a\", \"b\")",
            ),
            (
                32,
                json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}),
                "hostPort (container \"c\" uses hostPorts 443, 80)",
            ),
            (
                32,
                container(json!({"privileged": true})),
                "privileged (container \"c\" must not set securityContext.privileged=true)",
            ),
            (
                32,
                json!({"initContainers": [{"name": "i", "securityContext": {"privileged": true}}], "ephemeralContainers": [{"name": "e", "securityContext": {"privileged": true}}]}),
                "privileged (containers \"i\", \"e\" must not set securityContext.privileged=true)",
            ),
            (
                32,
                container(json!({"procMount": "Unmasked"})),
                "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                32,
                container(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}})),
                "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            ),
            (
                32,
                container(json!({"seccompProfile": {"type": "Unconfined"}})),
                "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (18, container(json!({"seccompProfile": {"type": "Unconfined"}})), ""),
            (
                32,
                container(json!({"appArmorProfile": {"type": "Unconfined"}})),
                "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
            ),
            (
                32,
                container(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
                "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
            ),
            (
                30,
                container(json!({"seLinuxOptions": {"type": "container_engine_t"}})),
                "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")",
            ),
            (31, container(json!({"seLinuxOptions": {"type": "container_engine_t"}})), ""),
            (
                32,
                json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
                "forbidden sysctls (kernel.msgmax)",
            ),
            (
                31,
                json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}),
                "forbidden sysctls (net.ipv4.tcp_rmem)",
            ),
            (
                26,
                json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}}),
                "forbidden sysctls (net.ipv4.ip_local_reserved_ports)",
            ),
            (
                32,
                json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
        ] {
            assert_eq!(told(Level::Baseline, minor, spec.clone()), wanted, "v1.{minor} {spec}");
        }
        for (minor, spec, wanted) in [
            (
                32,
                json!({"volumes": [{"name": "v", "nfs": {}}]}),
                "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
            ),
            // Said once, by the stricter check.
            (
                32,
                json!({"volumes": [{"name": "v", "hostPath": {}}]}),
                "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
            ),
            (
                32,
                json!({"securityContext": {"runAsUser": 0}}),
                "runAsUser=0 (pod must not set runAsUser=0)",
            ),
            (22, json!({"securityContext": {"runAsUser": 0}}), ""),
            (
                32,
                json!({"securityContext": {"runAsNonRoot": false}}),
                "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
            ),
        ] {
            assert_eq!(told(Level::Restricted, minor, spec.clone()), wanted, "v1.{minor} {spec}");
        }
        let annotated = json!({"metadata": {"annotations": {
            "container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}, "spec": {}});
        let latest = Standard { level: Level::Baseline, version: Version::Latest };
        assert_eq!(reasons(&violations(latest, &annotated)), "forbidden AppArmor profile");
    }

    #[test]
    fn labels_are_read_as_upstream_reads_them() {
        let namespace = |labels: &[(&str, &str)]| {
            let labels: serde_json::Map<String, Value> =
                labels.iter().map(|(k, v)| (format!("{LABELS}{k}"), json!(v))).collect();
            json!({"metadata": {"name": "n", "labels": labels}})
        };
        for (labels, enforce, warn, wrong) in [
            (&[][..], "privileged:latest", "privileged:latest", 0),
            (&[("enforce", "baseline")], "baseline:latest", "baseline:latest", 0),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.20")],
                "baseline:v1.20",
                "baseline:v1.20",
                0,
            ),
            (
                &[("enforce", "baseline"), ("warn", "privileged")],
                "baseline:latest",
                "privileged:latest",
                0,
            ),
            (
                &[("warn", "restricted"), ("warn-version", "v1.0")],
                "privileged:latest",
                "restricted:v1.0",
                0,
            ),
            (&[("enforce", "Baseline")], "restricted:latest", "privileged:latest", 1),
            (&[("enforce", "")], "restricted:latest", "privileged:latest", 1),
            (&[("enforce-version", "1.20")], "privileged:latest", "privileged:latest", 1),
            (
                &[("enforce-version", "v1.01"), ("audit", "x"), ("warn", "x")],
                "privileged:latest",
                "privileged:latest",
                3,
            ),
        ] {
            let (policy, causes) = policy(&namespace(labels), Policy::default());
            assert_eq!(policy.enforce.to_string(), enforce, "{labels:?}");
            assert_eq!(policy.warn.to_string(), warn, "{labels:?}");
            assert_eq!(causes.len(), wrong, "{labels:?}: {causes:?}");
        }
        let bad = namespace(&[("enforce", "bad")]);
        assert_eq!(
            check_labels(&bad, None, Policy::default()).unwrap_err().message(),
            "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"bad\": must be one of privileged, baseline, restricted"
        );
        assert!(check_labels(&bad, Some(&bad), Policy::default()).is_ok());
    }
}
