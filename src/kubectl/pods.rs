//! Which pod, and which of its containers, a command means.

use api::{Lens, Value};
use stdx::Arrange;

use crate::call::Call;
use crate::failure::{Outcome, failed};
use crate::select::{self, Info, Pick};
use crate::{out, wait};

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The label selector of an object that has pods.
///
/// # Errors
/// If it has none.
pub(crate) fn selector(info: &Info) -> Outcome<String> {
    let spec = info.object.at("spec");
    let map = match info.resource.kind.as_str() {
        "Service" | "ReplicationController" => spec.at("selector"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            spec.at("selector.matchLabels")
        }
        kind => return failed(format!("selector for *v1.{kind} not implemented")),
    };
    if map.as_object().is_none_or(api::Map::is_empty) {
        return match info.resource.kind.as_str() {
            "Service" => failed(format!(
                "invalid service '{}': Service is defined without a selector",
                info.name
            )),
            _ => failed(format!("{} {} has no selector", info.resource.kind, info.name)),
        };
    }
    let mut parts: Vec<String> =
        map.pairs("").map(|(key, value)| format!("{key}={value}")).collect();
    for requirement in spec.list("selector.matchExpressions") {
        let key = requirement.str("key");
        let values: Vec<&str> =
            requirement.list("values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match requirement.str("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    Ok(parts.join(","))
}

/// The pods of an object, the best to talk to first: those that run and are ready.
pub(crate) fn of(call: &Call<'_>, info: &Info) -> Outcome<Vec<Value>> {
    if info.resource.kind == "Pod" {
        return Ok(vec![info.object.clone()]);
    }
    let pick = Pick { selector: selector(info)?, ..Pick::default() };
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let mut pods = select::items(&resource, select::list(call, &resource, &info.namespace, &pick)?);
    let rank = |pod: &Value| {
        let is_ready = pod
            .list("status.conditions")
            .iter()
            .any(|it| it.str("type") == "Ready" && it.str("status") == "True");
        (pod.str("spec.nodeName").is_empty(), pod.str("status.phase") != "Running", !is_ready)
    };
    pods.arrange_by(|a, b| rank(a).cmp(&rank(b)));
    Ok(pods)
}

/// The one object that a command line means, whose pods are wanted.
pub(crate) fn target(call: &Call<'_>, args: &[String]) -> Outcome<Info> {
    let pick = Pick { default_type: "pods", ..Pick::of(call, args) };
    let mut infos = select::all_infos(call, &pick)?;
    match infos.len() {
        0 => failed("no resources found"),
        1 => Ok(infos.remove(0)),
        n => failed(format!("expected one resource, got {n}")),
    }
}

/// The one pod to talk to. Where there is none yet it is waited for, as long as `--pod-running-timeout` says.
pub(crate) fn first(call: &Call<'_>, args: &[String]) -> Outcome<Value> {
    let info = target(call, args)?;
    let mut pods = of(call, &info)?;
    if pods.is_empty() && info.resource.kind != "Pod" {
        await_any(call, &info.namespace, &selector(&info)?)?;
        pods = of(call, &info)?;
    }
    match pods.into_iter().next() {
        Some(pod) => Ok(pod),
        None => failed(format!("no pods found in {}", info.resource.plural)),
    }
}

/// Waits until there is a pod with these labels.
///
/// # Errors
/// If `--pod-running-timeout` is over before.
pub(crate) fn await_any(call: &Call<'_>, namespace: &str, selector: &str) -> Outcome {
    let Some(timeout) = call.duration("pod-running-timeout") else {
        return failed("--pod-running-timeout must be higher than zero");
    };
    let pick = Pick { selector: selector.to_owned(), ..Pick::default() };
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let until = &mut |pod: Option<&Value>| Ok(pod.is_some());
    match wait::picked(call, &resource, namespace, &pick, timeout, until)? {
        true => Ok(()),
        false => failed("timed out waiting for the condition"),
    }
}

/// The names of a pod's containers, each with what it is.
fn names(pod: &Value) -> Vec<(String, &'static str)> {
    let mut names = Vec::new();
    for (list, what) in
        [("containers", ""), ("initContainers", " (init)"), ("ephemeralContainers", " (ephem)")]
    {
        let all = pod.list(&format!("spec.{list}")).iter();
        names.extend(all.map(|it| (it.str("name").to_owned(), what)));
    }
    names
}

/// The container that a command asks the server about: whether there is one of a name is for the server to say.
///
/// # Errors
/// None where one is named.
pub(crate) fn asked(call: &Call<'_>, pod: &Value) -> Outcome<String> {
    match call.text("container") {
        "" => container(pod, "", call.is("quiet")),
        named => Ok(named.to_owned()),
    }
}

/// The container that is meant: the one that is named, or the pod's default one, which is told.
///
/// # Errors
/// If there is none of that name.
pub(crate) fn container(pod: &Value, named: &str, is_quiet: bool) -> Outcome<String> {
    let names = names(pod);
    if !named.is_empty() {
        return match names.iter().any(|(own, _)| own == named) {
            true => Ok(named.to_owned()),
            false => {
                failed(format!("container {named} not found in pod {}", pod.str("metadata.name")))
            }
        };
    }
    let default = pod.entry("metadata.annotations", DEFAULT_CONTAINER).unwrap_or("");
    if !default.is_empty() {
        if names.iter().any(|(own, _)| own == default) {
            return Ok(default.to_owned());
        }
        out::tell(&format!(
            "Default container name {default:?} not found in pod {}",
            pod.str("metadata.name")
        ));
    }
    let first = pod.str("spec.containers.0.name").to_owned();
    if names.len() > 1 && !is_quiet {
        let all: Vec<String> = names.iter().map(|(name, what)| format!("{name}{what}")).collect();
        out::tell(&format!("Defaulted container {first:?} out of: {}", all.join(", ")));
    }
    Ok(first)
}
