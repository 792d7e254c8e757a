//! `kubectl rollout`

use api::{Lens, LensMut, Value, json};
use stdx::Arrange;

use super::rollout_status::STATUS;
use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, int, text};
use crate::print::tabs::Tabs;
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, out, pods, write};

pub(crate) static COMMAND: Command = Command {
    name: "rollout",
    about: "Manage the rollout of one or many resources.\n        \n Valid resource types include:\n\n  *  deployments\n  *  daemonsets\n  *  statefulsets",
    examples: "  # Rollback to the previous deployment\n  kubectl rollout undo deployment/abc\n  \n  # Check the rollout status of a daemonset\n  kubectl rollout status daemonset/foo\n  \n  # Restart a deployment\n  kubectl rollout restart deployment/abc\n  \n  # Restart deployments with the 'app=nginx' label\n  kubectl rollout restart deployment --selector=app=nginx",
    short: "Manage the rollout of a resource",
    usage: "SUBCOMMAND",
    subs: &[&HISTORY, &PAUSE, &RESUME, &UNDO, &STATUS, &RESTART],
    ..BLANK
};

const CHANGE: &[&[Flag]] = &[
    options::FILES,
    options::PRINT,
    options::SELECTOR,
    &[text("field-manager", "kubectl-rollout", "Name of who manages the fields")],
];
static PAUSE: Command = Command {
    name: "pause",
    about: "Mark the provided resource as paused.",
    usage: "RESOURCE",
    flags: CHANGE,
    run: Some(|call| set_paused(call, true)),
    ..BLANK
};
static RESUME: Command = Command {
    name: "resume",
    about: "Resume a paused resource.",
    usage: "RESOURCE",
    flags: CHANGE,
    run: Some(|call| set_paused(call, false)),
    ..BLANK
};
static RESTART: Command = Command {
    name: "restart",
    about: "Restart a resource.",
    usage: "RESOURCE",
    flags: CHANGE,
    run: Some(restart),
    ..BLANK
};
static UNDO: Command = Command {
    name: "undo",
    about: "Roll back to a previous rollout.",
    short: "Undo a previous rollout",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SELECTOR,
        &[int("to-revision", "0", "The revision to go back to; 0 is the one before")],
    ],
    run: Some(undo),
    ..BLANK
};
static HISTORY: Command = Command {
    name: "history",
    about: "View previous rollout revisions and configurations.",
    short: "View rollout history",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        options::FILES,
        options::PRINT,
        options::SELECTOR,
        &[int("revision", "0", "Details of this revision")],
    ],
    run: Some(history),
    ..BLANK
};

/// What a rollout is asked of.
pub(super) fn infos(call: &Call<'_>) -> Outcome<(Vec<Info>, Vec<Failure>)> {
    if call.args().is_empty() && !call.has_files() {
        return failed("required resource not specified");
    }
    let pick = Pick { all: true, ..Pick::of(call, call.args()) };
    select::infos(call, &pick)
}

fn each(call: &Call<'_>, verb: &str, change: &dyn Fn(&mut Info) -> Outcome) -> Outcome {
    let printer = Printer::of(call, false)?;
    let (infos, missing) = infos(call)?;
    if infos.is_empty() && missing.is_empty() {
        out::tell(&format!("No resources found in {} namespace.", call.namespace()?.0));
    }
    let mut failures = Vec::new();
    for mut info in infos {
        let old = info.object.clone();
        let changed = change(&mut info).and_then(|()| {
            let patch = write::merge_patch(&old, &info.object);
            if verb == "restarted" && patch.as_object().is_none_or(api::Map::is_empty) {
                return failed(format!(
                    "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
                    info.name
                ));
            }
            let answer = write::patch(call, &info, "", write::MERGE, &patch, "kubectl-rollout");
            info.refresh(answer.map_err(|failure| failure.during("failed to patch"))?);
            done(call, printer.as_ref(), &info, verb)
        });
        failures.extend(changed.err());
    }
    failures.extend(missing);
    Failure::all(failures)
}

fn set_paused(call: &Call<'_>, is_paused: bool) -> Outcome {
    let (verb, already) = match is_paused {
        true => ("paused", "is already paused"),
        false => ("resumed", "is not paused"),
    };
    each(call, verb, &|info| {
        if info.resource.kind != "Deployment" {
            return failed(format!(
                "{} {:?} {} is not supported",
                info.resource.qualified(),
                info.name,
                if is_paused { "pausing" } else { "resuming" }
            ));
        }
        if info.object.flag("spec.paused") == is_paused {
            return failed(format!("{} {:?} {already}", info.resource.qualified(), info.name));
        }
        match is_paused {
            true => info.object.set("spec.paused", true),
            false => drop(info.object.remove("spec.paused")),
        }
        Ok(())
    })
}

fn restart(call: &Call<'_>) -> Outcome {
    let now = api::time::format(rt::now().wall);
    each(call, "restarted", &|info| {
        if !matches!(info.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
            return failed(format!(
                "{} {:?} restarting is not supported",
                info.resource.qualified(),
                info.name
            ));
        }
        if info.object.flag("spec.paused") {
            return failed(format!(
                "{} {:?} can't restart paused deployment (run rollout resume first)",
                info.resource.qualified(),
                info.name
            ));
        }
        let map = info.object.map_mut("spec.template.metadata.annotations");
        map.insert("kubectl.kubernetes.io/restartedAt".to_owned(), now.as_str().into());
        Ok(())
    })
}

/// One revision of an object: its number, why it was made, and its pods' template.
struct Revision {
    number: i64,
    cause: String,
    template: Value,
    /// What keeps it.
    object: Value,
}

const CAUSE: &str = "kubernetes.io/change-cause";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The revisions of a workload, the oldest first.
fn revisions(call: &Call<'_>, info: &Info) -> Outcome<Vec<Revision>> {
    let word = match info.resource.kind.as_str() {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        _ => {
            return failed(unvisited("history for", &info.resource.kind));
        }
    };
    let resource = call.mapper()?.find(call.rest()?, word)?;
    let pick = Pick { selector: pods::selector(info)?, ..Pick::default() };
    let owned = select::items(&resource, select::list(call, &resource, &info.namespace, &pick)?);
    let uid = info.object.str("metadata.uid");
    let mut found = Vec::new();
    for object in owned {
        if !object.list("metadata.ownerReferences").iter().any(|owner| owner.str("uid") == uid) {
            continue;
        }
        let annotations = object.at("metadata.annotations");
        let cause = annotations.get(CAUSE).and_then(Value::as_str).unwrap_or("").to_owned();
        let (number, template) = match word {
            "replicasets.apps" => {
                let number = annotations
                    .get(REVISION)
                    .and_then(Value::as_str)
                    .and_then(|it| it.parse().ok());
                (number.unwrap_or(0), object.at("spec.template").clone())
            }
            _ => (object.int("revision").unwrap_or(0), object.at("data.spec.template").clone()),
        };
        found.push(Revision { number, cause, template, object });
    }
    found.arrange_by(|a, b| a.number.cmp(&b.number));
    Ok(found)
}

/// In upstream's words, that something is not for objects of this kind.
fn unvisited(what: &str, kind: &str) -> String {
    match kind {
        "Pod" | "ReplicaSet" | "ReplicationController" | "Job" | "CronJob" => {
            let what = if what.starts_with("history") { "history viewer" } else { "rollbacker" };
            format!("no {what} has been implemented for {kind:?}")
        }
        _ => format!("error retrieving {what} {kind:?}, no visitor method exists for {{ {kind}}}"),
    }
}

fn history(call: &Call<'_>) -> Outcome {
    if call.int("revision") < 0 {
        return failed(format!("revision must be a positive integer: {}", call.int("revision")));
    }
    let mut failures = Vec::new();
    let (infos, missing) = infos(call)?;
    for info in infos {
        failures.extend(history_of(call, &info).err());
    }
    failures.extend(missing);
    Failure::all(failures)
}

fn history_of(call: &Call<'_>, info: &Info) -> Outcome {
    let revisions = revisions(call, info)?;
    let wanted = call.int("revision");
    let name = info.result_name();
    if let Some(printer) = Printer::of(call, false)? {
        let found = revisions.iter().find(|it| it.number == wanted).or(revisions.last());
        return match found {
            Some(found) if wanted == 0 || found.number == wanted => printer.print(&found.object),
            _ => failed("unable to find the specified revision"),
        };
    }
    if wanted > 0 {
        let Some(found) = revisions.iter().find(|it| it.number == wanted) else {
            return failed("unable to find the specified revision");
        };
        out::line(&format!("{name} with revision #{wanted}"));
        out::print(&shown(&found.template, &found.cause));
        return Ok(());
    }
    out::line(&format!("{name} "));
    let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".to_owned()]];
    for revision in &revisions {
        let cause = if revision.cause.is_empty() { "<none>" } else { &revision.cause };
        rows.push(vec![revision.number.to_string(), cause.to_owned()]);
    }
    out::print(&Tabs::with(0, 2).format(&rows));
    out::line("");
    Ok(())
}

/// A template as `describe` tells it, with why its revision was made.
fn shown(template: &Value, cause: &str) -> String {
    let mut template = template.clone();
    if !cause.is_empty() {
        template.map_mut("metadata.annotations").insert(CAUSE.to_owned(), cause.into());
    }
    describe::pod_template(&template, rt::now().wall, &|_| (0, "UTC".to_owned()))
}

fn undo(call: &Call<'_>) -> Outcome {
    let mut failures = Vec::new();
    let (infos, missing) = infos(call)?;
    for info in infos {
        failures.extend(undo_one(call, info).err());
    }
    failures.extend(missing);
    Failure::all(failures)
}

fn undo_one(call: &Call<'_>, mut info: Info) -> Outcome {
    let wanted = call.int("to-revision");
    let printer = Printer::of(call, false)?;
    let kind = info.resource.kind.clone();
    if !matches!(kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return failed(unvisited("rollbacker for", &kind));
    }
    if info.object.flag("spec.paused") {
        return failed(
            "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again",
        );
    }
    let revisions = revisions(call, &info)?;
    let found = match wanted {
        0 if revisions.len() < 2 => {
            return failed(format!(
                "no rollout history found for {} {:?}",
                kind.to_lowercase(),
                info.name
            ));
        }
        0 => &revisions[revisions.len() - 2],
        wanted => match revisions.iter().find(|it| it.number == wanted) {
            Some(found) => found,
            None => {
                return failed(format!("unable to find specified revision {wanted} in history"));
            }
        },
    };
    let mut template = found.template.clone();
    if let Some(labels) = template.at_mut("metadata.labels").and_then(Value::as_object_mut) {
        labels.remove("pod-template-hash");
    }
    if call.dry_run()? == DryRun::Client {
        out::line(&format!("{} Pod Template:", info.result_name()));
        out::print(&shown(&found.template, "").replacen(
            "Pod Template:
",
            "",
            1,
        ));
        out::line(DryRun::Client.suffix());
        return Ok(());
    }
    let mut own = info.object.at("spec.template").clone();
    own.remove("metadata.creationTimestamp");
    let mut bare = template.clone();
    bare.remove("metadata.creationTimestamp");
    if own == bare {
        out::line(&format!(
            "{} skipped rollback (current template already matches revision {})",
            info.result_name(),
            found.number
        ));
        return Ok(());
    }
    let mut patch = vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
    if kind == "Deployment" {
        let mut annotations = info.object.at("metadata.annotations").clone();
        if let Some(map) = annotations.as_object_mut() {
            match found.cause.as_str() {
                "" => drop(map.remove(CAUSE)),
                cause => drop(map.insert(CAUSE.to_owned(), cause.into())),
            }
            patch.push(
                json!({"op": "replace", "path": "/metadata/annotations", "value": annotations}),
            );
        }
    }
    let answer =
        write::patch(call, &info, "", write::JSON_PATCH, &Value::Array(patch), "kubectl-rollout")
            .map_err(|failure| {
            failure.during(&format!("failed restoring revision {}", found.number))
        })?;
    info.refresh(answer);
    done(call, printer.as_ref(), &info, "rolled back")
}
