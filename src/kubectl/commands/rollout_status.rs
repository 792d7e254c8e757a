//! `kubectl rollout status`

use api::{Lens, Value};

use super::rollout::infos;
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, int, switched_on};
use crate::select::Info;
use crate::{options, out, wait};

pub(super) static STATUS: Command = Command {
    name: "status",
    about: "Show the status of the rollout.",
    usage: "(TYPE NAME | TYPE/NAME) [flags]",
    flags: &[
        options::FILES,
        options::SELECTOR,
        &[
            int("revision", "0", "The revision that is meant; 0 for the newest"),
            duration("timeout", "0s", "How long to watch; 0 for as long as it takes"),
            switched_on("watch", "Watch until it is done").short('w'),
        ],
    ],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if call.int("revision") < 0 {
        return failed(format!("revision must be a positive integer: {}", call.int("revision")));
    }
    let (infos, missing) = infos(call)?;
    if infos.is_empty() && missing.is_empty() {
        out::tell(&format!("No resources found in {} namespace.", call.namespace()?.0));
        return Ok(());
    }
    let mut failures = Vec::new();
    for info in infos {
        failures.extend(one(call, &info).err());
    }
    failures.extend(missing);
    Failure::all(failures)
}

fn one(call: &Call<'_>, info: &Info) -> Outcome {
    let is_watched = call.is("watch");
    let timeout = call.duration("timeout").unwrap_or(wait::AGES);
    if !matches!(info.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return failed(format!("no status viewer has been implemented for {}", info.resource.kind));
    }
    let revision = call.int("revision");
    let mut last = String::new();
    let is_done = wait::follow(call, info, timeout, &mut |state| {
        let Some(object) = state else { return failed("object has been deleted") };
        let (text, is_done) = status(object, revision)?;
        // As upstream: what is the same is not told again.
        if text != last {
            out::print(&text);
            last.clone_from(&text);
        }
        Ok(is_done || !is_watched)
    })?;
    match is_done {
        true => Ok(()),
        false => failed("timed out waiting for the condition"),
    }
}

/// What to say of an object, and whether its rollout is done.
fn status(object: &Value, revision: i64) -> Outcome<(String, bool)> {
    let name = object.str("metadata.name");
    let status = object.at("status");
    let number = |field: &str| status.int(field).unwrap_or(0);
    let is_seen = number("observedGeneration") >= object.int("metadata.generation").unwrap_or(0);
    let replicas = object.int("spec.replicas").unwrap_or(1);
    let going = |text: String| Ok((text, false));
    match object.str("kind") {
        "Deployment" => {
            let own = object
                .entry("metadata.annotations", "deployment.kubernetes.io/revision")
                .unwrap_or("0");
            if revision > 0 && own.parse::<i64>().is_ok_and(|own| own != revision) {
                return failed(format!(
                    "desired revision ({revision}) is different from the running revision ({own})"
                ));
            }
            if !is_seen {
                return going("Waiting for deployment spec update to be observed...\n".to_owned());
            }
            let is_late = status.list("conditions").iter().any(|it| {
                it.str("type") == "Progressing" && it.str("reason") == "ProgressDeadlineExceeded"
            });
            if is_late {
                return failed(format!("deployment {name:?} exceeded its progress deadline"));
            }
            let (updated, total, available) =
                (number("updatedReplicas"), number("replicas"), number("availableReplicas"));
            let start = format!("Waiting for deployment {name:?} rollout to finish:");
            if updated < replicas {
                return going(format!(
                    "{start} {updated} out of {replicas} new replicas have been updated...\n"
                ));
            }
            if total > updated {
                return going(format!(
                    "{start} {} old replicas are pending termination...\n",
                    total - updated
                ));
            }
            if available < updated {
                return going(format!(
                    "{start} {available} of {updated} updated replicas are available...\n"
                ));
            }
            Ok((format!("deployment {name:?} successfully rolled out\n"), true))
        }
        "DaemonSet" => {
            if object.str("spec.updateStrategy.type") != "RollingUpdate" {
                return failed("rollout status is only available for RollingUpdate strategy type");
            }
            if !is_seen {
                return going("Waiting for daemon set spec update to be observed...\n".to_owned());
            }
            let desired = number("desiredNumberScheduled");
            let (updated, available) =
                (number("updatedNumberScheduled"), number("numberAvailable"));
            let start = format!("Waiting for daemon set {name:?} rollout to finish:");
            if updated < desired {
                return going(format!(
                    "{start} {updated} out of {desired} new pods have been updated...\n"
                ));
            }
            if available < desired {
                return going(format!(
                    "{start} {available} of {desired} updated pods are available...\n"
                ));
            }
            Ok((format!("daemon set {name:?} successfully rolled out\n"), true))
        }
        _ => stateful(object, replicas, is_seen),
    }
}

fn stateful(object: &Value, replicas: i64, is_seen: bool) -> Outcome<(String, bool)> {
    let status = object.at("status");
    let number = |field: &str| status.int(field).unwrap_or(0);
    if object.str("spec.updateStrategy.type") != "RollingUpdate" {
        return failed("rollout status is only available for RollingUpdate strategy type");
    }
    if number("observedGeneration") == 0 || !is_seen {
        return Ok(("Waiting for statefulset spec update to be observed...\n".to_owned(), false));
    }
    let (ready, updated) = (number("readyReplicas"), number("updatedReplicas"));
    if ready < replicas {
        return Ok((format!("Waiting for {} pods to be ready...\n", replicas - ready), false));
    }
    let partition = object.int("spec.updateStrategy.rollingUpdate.partition").unwrap_or(0);
    if partition > 0 {
        if updated < replicas - partition {
            return Ok((
                format!(
                    "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                    replicas - partition
                ),
                false,
            ));
        }
        return Ok((
            format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
            true,
        ));
    }
    if status.str("updateRevision") != status.str("currentRevision") {
        return Ok((
            format!(
                "waiting for statefulset rolling update to complete {updated} pods at revision {}...\n",
                status.str("updateRevision")
            ),
            false,
        ));
    }
    Ok((
        format!(
            "statefulset rolling update complete {} pods at revision {}...\n",
            number("currentReplicas"),
            status.str("currentRevision")
        ),
        true,
    ))
}
