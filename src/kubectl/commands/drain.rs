//! `kubectl cordon`, `uncordon` and `drain`

use std::time::Duration;

use api::selector::Selector;
use api::{Lens, Value, json};
use http::Method;
use stdx::time::Mono;

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, duration, int, switch, text};
use crate::rest::Body;
use crate::select::{self, Info, Pick};
use crate::{options, out, write};

pub(crate) static CORDON: Command = Command {
    name: "cordon",
    about: "Mark node as unschedulable.",
    usage: "NODE",
    flags: &[options::DRY_RUN, options::SELECTOR],
    run: Some(|call| cordon(call, &nodes(call, "cordon NODE")?, true)),
    ..BLANK
};
pub(crate) static UNCORDON: Command = Command {
    name: "uncordon",
    about: "Mark node as schedulable.",
    usage: "NODE",
    flags: &[options::DRY_RUN, options::SELECTOR],
    run: Some(|call| cordon(call, &nodes(call, "uncordon NODE")?, false)),
    ..BLANK
};

const OWN: &[Flag] = &[
    switch(
        "delete-emptydir-data",
        "Continue even if there are pods using emptyDir (local data that will be deleted when the node is drained).",
    ),
    switch(
        "disable-eviction",
        "Force drain to use delete, even if eviction is supported. This will bypass checking PodDisruptionBudgets, use with caution.",
    ),
    switch("force", "Continue even if there are pods that do not declare a controller."),
    int(
        "grace-period",
        "-1",
        "Period of time in seconds given to each pod to terminate gracefully. If negative, the default value specified in the pod will be used.",
    ),
    switch("ignore-daemonsets", "Ignore DaemonSet-managed pods."),
    text("pod-selector", "", "Label selector to filter pods on the node"),
    int(
        "skip-wait-for-delete-timeout",
        "0",
        "If pod DeletionTimestamp older than N seconds, skip waiting for the pod.  Seconds must be greater than 0 to skip.",
    ),
    duration("timeout", "0s", "The length of time to wait before giving up, zero means infinite"),
];
pub(crate) static DRAIN: Command = Command {
    name: "drain",
    about: "Drain node in preparation for maintenance.",
    usage: "NODE",
    flags: &[OWN, options::CHUNKS, options::DRY_RUN, options::SELECTOR],
    run: Some(drain),
    ..BLANK
};

/// Between two looks at a pod that is ending.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a refusal for a disruption budget.
const RETRY_AFTER: Duration = Duration::from_secs(5);

fn nodes(call: &Call<'_>, usage: &str) -> Outcome<Vec<Info>> {
    let selector = call.text("selector");
    if call.args().is_empty() && !call.changed("selector") {
        return call.usage(&format!("USAGE: {usage} [flags]"));
    }
    if !call.args().is_empty() && !selector.is_empty() {
        return call.usage("error: cannot specify both a node name and a --selector option");
    }
    call.dry_run()?;
    if Selector::parse(call.text("pod-selector")).is_err() {
        return failed("--pod-selector=<pod_selector> must be a valid label selector");
    }
    let mut args = vec!["nodes".to_owned()];
    // `node/NAME` is a name, too.
    args.extend(call.args().iter().map(|arg| match arg.split_once('/') {
        Some(("node" | "nodes" | "no", name)) => name.to_owned(),
        _ => arg.clone(),
    }));
    let pick = Pick { selector: selector.to_owned(), all: true, ..Pick::of(call, &args) };
    select::all_infos(call, &pick)
}

fn cordon(call: &Call<'_>, nodes: &[Info], wanted: bool) -> Outcome {
    let dry_run = call.dry_run()?;
    let verb = if wanted { "cordon" } else { "uncordon" };
    for node in nodes {
        if node.object.flag("spec.unschedulable") == wanted {
            say(node, &format!("already {verb}ed"), dry_run);
            continue;
        }
        if dry_run != DryRun::Client {
            let value = if wanted { Value::Bool(true) } else { Value::Null };
            let patch = json!({"spec": {"unschedulable": value}});
            if let Err(failure) = write::patch(call, node, "", write::STRATEGIC, &patch, "") {
                out::tell(&format!(
                    "error: unable to {verb} node {:?}: {}",
                    node.name,
                    failure.text()
                ));
                continue;
            }
        }
        say(node, &format!("{verb}ed"), dry_run);
    }
    Ok(())
}

fn say(info: &Info, verb: &str, dry_run: DryRun) {
    out::line(&format!("{} {verb}{}", info.result_name(), dry_run.suffix()));
}

fn drain(call: &Call<'_>) -> Outcome {
    let nodes = nodes(call, "drain NODE")?;
    cordon(call, &nodes, true)?;
    let (mut pending, mut failures) = (Vec::new(), Vec::new());
    for node in &nodes {
        match empty(call, &node.name) {
            Ok(()) => say(node, "drained", call.dry_run()?),
            Err(failure) => {
                let why = failure.text();
                out::tell(&format!(
                    "error: unable to drain node {:?} due to error: {why}, continuing command...",
                    node.name
                ));
                pending.push(node.name.as_str());
                failures.push(failure);
            }
        }
    }
    if !pending.is_empty() {
        out::tell("There are pending nodes to be drained:");
        pending.iter().for_each(|name| out::tell(&format!(" {name}")));
    }
    Failure::all(failures)
}

/// Ends the pods of a node, and waits until they are gone.
fn empty(call: &Call<'_>, node: &str) -> Outcome {
    let chosen = choose(call, node)?;
    let warnings: Vec<String> = grouped(&chosen, |verdict| match verdict {
        Verdict::Warn(_, why) => Some(why),
        _ => None,
    });
    if !warnings.is_empty() {
        out::tell(&format!("Warning: {}", warnings.join("; ")));
    }
    let pods: Vec<&Value> =
        chosen.iter().filter(|(_, verdict)| verdict.goes()).map(|(pod, _)| pod).collect();
    if call.dry_run()? == DryRun::Client {
        for pod in &pods {
            out::line(&format!("evicting pod {} (dry run)", named(pod)));
        }
        return Ok(());
    }
    let deadline = call.duration("timeout").map(|timeout| rt::now().mono + timeout);
    let ended = end_all(call, &pods, deadline);
    let Err(failure) = ended else { return Ok(()) };
    if let Ok(left) = choose(call, node) {
        let left: Vec<&(Value, Verdict)> =
            left.iter().filter(|(_, verdict)| verdict.goes()).collect();
        if !left.is_empty() {
            out::tell(&format!(
                "There are pending pods in node {node:?} when an error occurred: {}",
                failure.text()
            ));
            left.iter()
                .for_each(|(pod, _)| out::tell(&format!("pod/{}", pod.str("metadata.name"))));
        }
    }
    Err(failure)
}

fn named(pod: &Value) -> String {
    [pod.str("metadata.namespace"), "/", pod.str("metadata.name")].concat()
}

/// What becomes of a pod.
#[derive(PartialEq)]
enum Verdict {
    Goes,
    Stays,
    /// Whether it goes, and what is to be said of it.
    Warn(bool, String),
    /// Why nothing is done at all.
    Refused(String),
}

impl Verdict {
    fn goes(&self) -> bool {
        matches!(self, Verdict::Goes | Verdict::Warn(true, _))
    }
}

/// The pods of a node with what becomes of each.
fn choose(call: &Call<'_>, node: &str) -> Outcome<Vec<(Value, Verdict)>> {
    let pods = call.mapper()?.find(call.rest()?, "pods")?;
    let pick = Pick {
        selector: call.text("pod-selector").to_owned(),
        field_selector: format!("spec.nodeName={node}"),
        chunk: call.int("chunk-size"),
        ..Pick::default()
    };
    let list = select::items(&pods, select::list(call, &pods, "", &pick)?);
    let mut chosen = Vec::new();
    for pod in list {
        let verdict = judge(call, &pod)?;
        chosen.push((pod, verdict));
    }
    let refused = grouped(&chosen, |verdict| match verdict {
        Verdict::Refused(why) => Some(why),
        _ => None,
    });
    let refused = refused.into_iter().map(|why| Failure::Message(format!("cannot delete {why}")));
    match Failure::all(refused.collect()) {
        Ok(()) => Ok(chosen),
        // As one message, for it is told within another.
        Err(Failure::Many(all)) => {
            let texts: Vec<String> = all.iter().map(Failure::text).collect();
            failed(format!("[{}]", texts.join(", ")))
        }
        Err(failure) => Err(failure),
    }
}

/// `WHY: a/b, c/d` for each reason.
fn grouped<'a>(
    chosen: &'a [(Value, Verdict)],
    why: impl Fn(&'a Verdict) -> Option<&'a String>,
) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (pod, verdict) in chosen {
        let Some(why) = why(verdict) else { continue };
        match groups.iter_mut().find(|(known, _)| known == why) {
            Some((_, pods)) => pods.push(named(pod)),
            None => groups.push((why, vec![named(pod)])),
        }
    }
    groups.into_iter().map(|(why, pods)| format!("{why}: {}", pods.join(", "))).collect()
}

/// As kubectl's filters one after another: a pod that stays is not looked at further, and of several warnings the last counts.
fn judge(call: &Call<'_>, pod: &Value) -> Outcome<Verdict> {
    if is_overdue(call, pod) {
        return Ok(Verdict::Stays);
    }
    let has_ended = matches!(pod.str("status.phase"), "Succeeded" | "Failed");
    let owners = pod.list("metadata.ownerReferences");
    let owner = owners.iter().find(|owner| owner.flag("controller"));
    if let (Some(owner), false) =
        (owner.filter(|owner| owner.str("kind") == "DaemonSet"), has_ended)
    {
        let namespace = pod.str("metadata.namespace");
        let path =
            ["/apis/apps/v1/namespaces/", namespace, "/daemonsets/", owner.str("name")].concat();
        let is_forced = call.is("force");
        match call.rest()?.get(&path) {
            Ok(_) if call.is("ignore-daemonsets") => {
                return Ok(Verdict::Warn(false, "ignoring DaemonSet-managed Pods".into()));
            }
            Ok(_) => {
                let why = "DaemonSet-managed Pods (use --ignore-daemonsets to ignore)";
                return Ok(Verdict::Refused(why.into()));
            }
            Err(failure) if failure.is_not_found() && is_forced => {}
            Err(failure) => return Ok(Verdict::Refused(failure.text())),
        }
    }
    if pod.entry("metadata.annotations", "kubernetes.io/config.mirror").is_some() {
        return Ok(Verdict::Stays);
    }
    let is_local = pod.list("spec.volumes").iter().any(|volume| volume.has("emptyDir"));
    if is_local && !has_ended && !call.is("delete-emptydir-data") {
        return Ok(Verdict::Refused(
            "Pods with local storage (use --delete-emptydir-data to override)".into(),
        ));
    }
    Ok(match (has_ended || owner.is_some(), call.is("force")) {
        (true, _) => Verdict::Goes,
        (false, true) => Verdict::Warn(true, "deleting Pods that declare no controller".into()),
        (false, false) => Verdict::Refused(
            "cannot delete Pods that declare no controller (use --force to override)".into(),
        ),
    })
}

/// Whether a pod was to end so long ago that nobody waits for it.
fn is_overdue(call: &Call<'_>, pod: &Value) -> bool {
    let secs = call.int("skip-wait-for-delete-timeout");
    let deleted = api::time::parse(pod.str("metadata.deletionTimestamp"));
    secs > 0 && deleted.is_some_and(|deleted| rt::now().wall.secs() - deleted.secs() > secs)
}

/// Asks for the end of all, then waits for each. A budget that allows one after the other does not hold up the rest.
fn end_all(call: &Call<'_>, pods: &[&Value], deadline: Option<Mono>) -> Outcome {
    let evicts = !call.is("disable-eviction");
    let is_tried = call.dry_run()? == DryRun::Server;
    let (mut failures, mut waiting) = (Vec::new(), Vec::new());
    let mut asking: Vec<&Value> = pods.to_vec();
    let mut next_look = rt::now().mono;
    let mut next_try = rt::now().mono;
    while !asking.is_empty() || !waiting.is_empty() {
        let now = rt::now().mono;
        if now >= next_try {
            for pod in std::mem::take(&mut asking) {
                match ask(call, pod, evicts) {
                    Ok(true) if is_tried => {}
                    Ok(true) => waiting.push(pod),
                    Ok(false) => asking.push(pod),
                    Err(failure) => failures.push(failure),
                }
            }
            next_try = rt::now().mono + RETRY_AFTER;
        }
        if !evicts && !failures.is_empty() {
            break;
        }
        let mut left = Vec::new();
        for pod in waiting {
            match is_gone(call, pod, evicts) {
                Ok(true) => {}
                Ok(false) => left.push(pod),
                Err(failure) => failures.push(failure),
            }
        }
        waiting = left;
        if deadline.is_some_and(|deadline| rt::now().mono >= deadline)
            && !(asking.is_empty() && waiting.is_empty())
        {
            failures.extend(late(call, &asking, &waiting, evicts));
            break;
        }
        if !asking.is_empty() || !waiting.is_empty() {
            next_look = (next_look + LOOK_EVERY).max(rt::now().mono);
            let until = deadline.map_or(next_look, |deadline| deadline.min(next_look));
            rt::block_on(rt::sleep_until(until));
        }
    }
    // Told within another message, as Go tells an aggregate.
    let texts: Vec<String> = failures.iter().map(Failure::text).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => failed(one.clone()),
        _ => failed(format!("[{}]", texts.join(", "))),
    }
}

/// What is said of pods for which there was no more time.
fn late(call: &Call<'_>, asking: &[&Value], waiting: &[&Value], evicts: bool) -> Vec<Failure> {
    let timeout = go_duration(call.nanos("timeout"));
    let place = |pod: &Value| {
        (pod.str("metadata.name").to_owned(), pod.str("metadata.namespace").to_owned())
    };
    let mut failures = Vec::new();
    for pod in asking {
        let (name, namespace) = place(pod);
        failures.push(Failure::Message(format!(
            "error when evicting pods/{name:?} -n {namespace:?}: global timeout reached: {timeout}"
        )));
    }
    for pod in waiting {
        let (name, namespace) = place(pod);
        failures.push(Failure::Message(match evicts {
            true => format!(
                "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: global timeout reached: {timeout}"
            ),
            false => "context deadline exceeded".to_owned(),
        }));
    }
    failures
}

/// A duration as Go prints one: `1m30s`.
pub(crate) fn go_duration(nanos: i64) -> String {
    let secs = nanos / 1_000_000_000;
    let (hours, minutes) = (secs / 3600, secs / 60 % 60);
    let rest = format!("{}", (nanos % 60_000_000_000) as f64 / 1e9);
    match secs {
        0 if nanos > 0 => format!("{}ms", nanos / 1_000_000),
        ..60 => format!("{rest}s"),
        60..3600 => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// Asks for a pod's end. False if that is to be tried again.
fn ask(call: &Call<'_>, pod: &Value, evicts: bool) -> Outcome<bool> {
    let dry_run = call.dry_run()?;
    let (name, namespace) = (pod.str("metadata.name"), pod.str("metadata.namespace"));
    let path = ["/api/v1/namespaces/", namespace, "/pods/", name].concat();
    let mut how = json!({});
    if call.int("grace-period") >= 0 {
        how["gracePeriodSeconds"] = call.int("grace-period").into();
    }
    if dry_run == DryRun::Server {
        how["dryRun"] = json!(["All"]);
    }
    if evicts {
        let suffix = if dry_run == DryRun::Server { dry_run.suffix() } else { "" };
        out::line(&format!("evicting pod {namespace}/{name}{suffix}"));
    }
    let (method, path, body) = match evicts {
        true => {
            let metadata = json!({"name": name, "namespace": namespace});
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": how,
            });
            (Method::Post, path + "/eviction", eviction)
        }
        false => {
            how["apiVersion"] = "v1".into();
            how["kind"] = "DeleteOptions".into();
            (Method::Delete, path, how)
        }
    };
    let Err(failure) = call.rest()?.tree(method, &path, Body::json(&body)) else { return Ok(true) };
    let is_ending_namespace = match &failure {
        Failure::Status(status) => status
            .list("details.causes")
            .iter()
            .any(|cause| cause.str("reason") == "NamespaceTerminating"),
        _ => false,
    };
    let why = failure.text();
    match failure.reason() {
        "NotFound" => Ok(true),
        _ if !evicts => Err(failure),
        "TooManyRequests" => {
            out::tell(&format!(
                "error when evicting pods/{name:?} -n {namespace:?} (will retry after 5s): {why}"
            ));
            Ok(false)
        }
        "Forbidden" if is_ending_namespace && pod.has("metadata.deletionTimestamp") => Ok(true),
        "Forbidden" if is_ending_namespace => {
            out::tell(&format!(
                "error when evicting pod {name:?} from terminating namespace {namespace:?} (will retry after 5s): {why}"
            ));
            Ok(false)
        }
        _ => failed(format!("error when evicting pods/{name:?} -n {namespace:?}: {why}")),
    }
}

/// Whether a pod has ended, which is said, or nobody waits for it any more.
fn is_gone(call: &Call<'_>, pod: &Value, evicts: bool) -> Outcome<bool> {
    let (name, namespace) = (pod.str("metadata.name"), pod.str("metadata.namespace"));
    let path = ["/api/v1/namespaces/", namespace, "/pods/", name].concat();
    let verb = if evicts { "evicted" } else { "deleted" };
    match call.rest()?.get(&path) {
        Ok(now) if now.str("metadata.uid") == pod.str("metadata.uid") => {
            let is_overdue = is_overdue(call, &now);
            if is_overdue {
                let secs = call.int("skip-wait-for-delete-timeout");
                out::line(&format!(
                    "pod {name:?} has DeletionTimestamp older than {secs} seconds, skipping"
                ));
            }
            Ok(is_overdue)
        }
        Err(failure) if !failure.is_not_found() => {
            out::line(&format!(
                "pod/{name} {}",
                if evicts { "eviction failed" } else { "deletion failed" }
            ));
            match evicts {
                true => failed(format!(
                    "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: {}",
                    failure.text()
                )),
                false => Err(failure),
            }
        }
        _ => {
            out::line(&format!("pod/{name} {verb}"));
            Ok(true)
        }
    }
}
