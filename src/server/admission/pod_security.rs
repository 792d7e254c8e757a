//! PodSecurity: a namespace's labels say how much its pods may do.

use api::kinds::{NAMESPACE, POD};
use api::pod::security::{self, Level, Standard};
use api::{Lens, LensMut, Object, Status, Value};
use client::{ListOptions, Verb};

use super::Act;
use crate::registry::{list, storage};

/// Pods looked at when a namespace begins to enforce a level, as upstream.
const EXISTING_MAX: usize = 3000;

/// Subresources that change nothing that counts here.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub(super) async fn check(
    act: &Act<'_>,
    tree: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if !matches!(act.verb, Verb::Create | Verb::Update) {
        return Ok(());
    }
    if *act.kind == NAMESPACE && act.subresource().is_empty() {
        return namespace(act, tree, warnings).await;
    }
    if *act.kind == POD && !IGNORED.contains(&act.subresource()) {
        if act.old.is_some_and(|old| !significant(tree, old)) {
            return Ok(());
        }
        return pod(act, tree, tree, true, warnings).await;
    }
    match security::template(act.kind, tree) {
        Some(template) if act.subresource().is_empty() => {
            pod(act, tree, template, false, warnings).await
        }
        _ => Ok(()),
    }
}

/// Labels must be right; that pods which run already do not keep to the new level is told.
async fn namespace(act: &Act<'_>, tree: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    security::check_labels(tree, act.old)?;
    let Some(old) = act.old else { return Ok(()) };
    let (new, old) = (security::policy(tree).0.enforce, security::policy(old).0.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new != old && new.level != Level::Privileged && !relaxed {
        warnings.extend(existing(act, tree.str("metadata.name"), new).await);
    }
    Ok(())
}

async fn existing(act: &Act<'_>, namespace: &str, enforce: Standard) -> Vec<String> {
    let found = list::list(act.core, &POD, namespace, &ListOptions::default()).await;
    let Ok(found) = found else {
        return vec!["failed to list pods while checking new PodSecurity enforce level".into()];
    };
    let mut violating: Vec<(String, String, usize)> = Vec::new();
    for object in found.items.iter().take(EXISTING_MAX) {
        let reasons = security::reasons(&security::violations(enforce, &Object::tree(object)));
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
    let n_pods = found.items.len();
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
    lines.sort();
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
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let namespace = storage::find(&act.core.store, &NAMESPACE, "", &act.request.namespace).await?;
    // What is created has one (NamespaceLifecycle); what is left without one is going.
    let Some(namespace) = namespace.map(|namespace| namespace.tree()) else { return Ok(()) };
    let policy = security::policy(&namespace).0;
    if enforce {
        let violations = security::violations(policy.enforce, pod);
        if !violations.is_empty() {
            return Err(act.forbidden(
                tree,
                format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    security::details(&violations)
                ),
            ));
        }
    }
    let violations = security::violations(policy.warn, pod);
    if !violations.is_empty() {
        warnings.push(format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            security::details(&violations)
        ));
    }
    Ok(())
}
