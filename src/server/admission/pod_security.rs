//! PodSecurity: a namespace's labels say how much its pods may do.

use api::kinds::{NAMESPACE, POD};
use api::{Lens, LensMut, Status, Value};
use client::ListOptions;
use rules::pod::security::{self, Configuration, Level, Standard};
use stdx::Arrange;

use super::{Act, Notes, Operation};
use crate::storage::{self, list};

/// Pods looked at when a namespace begins to enforce a level, as upstream.
const EXISTING_MAX: usize = 3000;

/// Keys of what an audit log is told.
const EXEMPT: &str = "pod-security.kubernetes.io/exempt";
const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const AUDITED: &str = "pod-security.kubernetes.io/audit-violations";
const ERROR: &str = "pod-security.kubernetes.io/error";

/// Subresources that change nothing that counts here.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Whether labels or pods are in what is attempted.
pub(super) fn handles(act: &Act<'_>) -> bool {
    let writes = matches!(act.operation, Operation::Create | Operation::Update);
    let pods = *act.kind == POD && !IGNORED.contains(&act.subresource());
    writes
        && (pods
            || act.writes(&NAMESPACE)
            || security::makes_pods(act.kind) && act.writes(act.kind))
}

pub(super) async fn check(act: &Act<'_>, tree: &Value, notes: &mut Notes) -> Result<(), Status> {
    if *act.kind == NAMESPACE {
        return namespace(act, tree, notes).await;
    }
    let exemptions = &configuration(act).exemptions;
    if exemptions.namespaces.contains(&act.request.namespace) {
        notes.annotations.push((EXEMPT.into(), "namespace".into()));
        return Ok(());
    }
    if exemptions.usernames.contains(&act.caller.user.name) {
        notes.annotations.push((EXEMPT.into(), "user".into()));
        return Ok(());
    }
    if *act.kind == POD {
        if act.old.is_some_and(|old| !significant(tree, old)) {
            return Ok(());
        }
        return pod(act, tree, tree, true, notes).await;
    }
    match security::template(act.kind, tree) {
        Some(template) => pod(act, tree, template, false, notes).await,
        None => Ok(()),
    }
}

fn configuration<'a>(act: &'a Act<'_>) -> &'a Configuration {
    act.core.config.admission.pod_security()
}

/// Labels must be right; that pods which run already do not keep to the new level is told.
async fn namespace(act: &Act<'_>, tree: &Value, notes: &mut Notes) -> Result<(), Status> {
    let configuration = configuration(act);
    let defaults = configuration.defaults;
    security::check_labels(tree, act.old, defaults)?;
    let (new, name) = (security::policy(tree, defaults).0, tree.str("metadata.name"));
    let exempt = configuration.exemptions.namespaces.iter().any(|exempt| exempt == name);
    let old = act.old.map(|old| security::policy(old, defaults).0);
    if let Some(old) = old {
        let (new, old) = (new.enforce, old.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(());
        }
    }
    if exempt {
        notes.warnings.extend(security::exempt_warning(tree, new, defaults));
    } else if old.is_some() {
        notes.warnings.extend(existing(act, name, new.enforce).await);
    }
    Ok(())
}

async fn existing(act: &Act<'_>, namespace: &str, enforce: Standard) -> Vec<String> {
    let found = list::list(&act.core.store, &POD, namespace, &ListOptions::default()).await;
    let Ok(found) = found else {
        return vec!["failed to list pods while checking new PodSecurity enforce level".into()];
    };
    let exempt = &configuration(act).exemptions.runtime_classes;
    let (mut violating, mut n_pods) = (Vec::<(String, String, usize)>::new(), 0);
    for object in &found.items {
        let pod = object.tree();
        if exempt.iter().any(|class| class == pod.str("spec.runtimeClassName")) {
            continue;
        }
        n_pods += 1;
        if n_pods > EXISTING_MAX {
            continue;
        }
        let reasons = security::reasons(&security::violations(enforce, &pod));
        if reasons.is_empty() {
            continue;
        }
        match violating.iter_mut().find(|(known, ..)| *known == reasons) {
            Some((_, first, n)) => {
                *n += 1;
                if object.name() < first.as_str() {
                    *first = object.name().to_owned();
                }
            }
            None => violating.push((reasons, object.name().to_owned(), 1)),
        }
    }
    let mut warnings = Vec::new();
    if n_pods > EXISTING_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {EXISTING_MAX} of {n_pods} existing pods"
        ));
    }
    if !violating.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = violating
        .into_iter()
        .map(|(reasons, name, n)| match n {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            n => format!("{name} (and {} other pods): {reasons}", n - 1),
        })
        .collect();
    lines.arrange();
    warnings.append(&mut lines);
    warnings
}

/// Whether an update of a pod changes anything that a check looks at. More counts than upstream's images
/// and containers: everything but what only places the pod or bounds its time.
fn significant(new: &Value, old: &Value) -> bool {
    let rest = |pod: &Value| {
        let mut spec = pod.at("spec").clone();
        for field in [
            "activeDeadlineSeconds",
            "affinity",
            "nodeName",
            "nodeSelector",
            "schedulingGates",
            "terminationGracePeriodSeconds",
            "tolerations",
        ] {
            spec.remove(field);
        }
        spec
    };
    let annotations = |pod: &Value| -> Vec<(String, String)> {
        let all = pod.pairs("metadata.annotations");
        let ours = all.filter(|(key, _)| {
            key.contains("seccomp.security.alpha.kubernetes.io/")
                || key.starts_with("container.apparmor.security.beta.kubernetes.io/")
        });
        ours.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    rest(new) != rest(old) || annotations(new) != annotations(old)
}

/// Checks a pod, or warns of the pods that a template would make.
async fn pod(
    act: &Act<'_>,
    tree: &Value,
    pod: &Value,
    enforce: bool,
    notes: &mut Notes,
) -> Result<(), Status> {
    let namespace = storage::find(&act.core.store, &NAMESPACE, "", &act.request.namespace).await?;
    // What is created has one (NamespaceLifecycle); what is left without one is going.
    let Some(namespace) = namespace.map(|namespace| namespace.tree()) else { return Ok(()) };
    let configuration = configuration(act);
    let (policy, wrong) = security::policy(&namespace, configuration.defaults);
    let class = pod.str("spec.runtimeClassName");
    if !class.is_empty() && configuration.exemptions.runtime_classes.iter().any(|e| e == class) {
        notes.annotations.push((EXEMPT.into(), "runtimeClass".into()));
        return Ok(());
    }
    if !wrong.is_empty() {
        let wrong: Vec<String> =
            wrong.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        notes
            .annotations
            .push((ERROR.into(), format!("Failed to parse policy: {}", wrong.join(", "))));
    }
    let mut refusal = Ok(());
    if enforce {
        notes.annotations.push((ENFORCED.into(), policy.enforce.to_string()));
        let violations = security::violations(policy.enforce, pod);
        if !violations.is_empty() {
            let details = security::details(&violations);
            let why = format!("violates PodSecurity \"{}\": {details}", policy.enforce);
            refusal = Err(act.forbidden(tree, why));
        }
    }
    let would = |standard: Standard| {
        let violations = security::violations(standard, pod);
        let details = security::details(&violations);
        (!violations.is_empty())
            .then(|| format!("would violate PodSecurity \"{standard}\": {details}"))
    };
    notes.annotations.extend(would(policy.audit).map(|text| (AUDITED.into(), text)));
    refusal?;
    notes.warnings.extend(would(policy.warn));
    Ok(())
}
