//! `kubectl scale` and `kubectl autoscale`

use api::{Lens, LensMut, json};

use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, int, text};
use crate::print::{Printer, done};
use crate::select::{self, Info, Pick};
use crate::{options, wait, write};

pub(crate) static COMMAND: Command = Command {
    name: "scale",
    about: "Set a new size for a deployment, replica set, replication controller, or stateful set.",
    short: "Set a new size for a deployment, replica set, or replication controller",
    usage: "[--resource-version=version] [--current-replicas=count] --replicas=COUNT (-f FILENAME | TYPE NAME)",
    flags: &[
        options::ALL,
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SELECTOR,
        &[
            int("current-replicas", "-1", "Only if it has this size now"),
            int("replicas", "0", "The new size"),
            text("resource-version", "", "Only this version of the object"),
            duration("timeout", "0s", "How long to wait for the new size; 0 for not at all"),
        ],
    ],
    required: &["replicas"],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    if call.int("replicas") < 0 {
        return failed(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        );
    }
    if call.int("current-replicas") < -1 {
        return failed("The --current-replicas must specify an integer of -1 or greater");
    }
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let printer = Printer::of(call, false)?;
    let pick = Pick::of(call, call.args());
    let (infos, failures) = select::infos(call, &pick)?;
    if infos.is_empty() {
        let why: Vec<String> = failures.iter().map(Failure::text).collect();
        return failed(format!("no objects passed to scale {}", why.join(", ")).trim_end());
    }
    // What is there is scaled first.
    let mut done: Vec<Failure> = Vec::new();
    for info in infos {
        done.extend(one(call, info, printer.as_ref()).err());
    }
    done.extend(failures);
    Failure::all(done)
}

fn one(call: &Call<'_>, info: Info, printer: Option<&Printer>) -> Outcome {
    let replicas = call.int("replicas");
    let path = format!("{}/scale", info.path());
    if call.dry_run()? != DryRun::Client {
        let (size, version) = (call.int("current-replicas"), call.text("resource-version"));
        let mut patch = json!({"spec": {"replicas": replicas}});
        if size >= 0 || !version.is_empty() {
            let scale = call.rest()?.get(&path)?;
            let (now, own) =
                (scale.int("spec.replicas").unwrap_or(0), scale.str("metadata.resourceVersion"));
            if size >= 0 && now != size {
                return failed(format!("Expected replicas to be {size}, was {now}"));
            }
            if !version.is_empty() && own != version {
                return failed(format!("Expected resource version to be {version}, was {own}"));
            }
            patch.set("metadata.resourceVersion", own);
        }
        write::patch(call, &info, "scale", write::MERGE, &patch, "kubectl-scale")?;
        if let (Some(timeout), DryRun::None) = (call.duration("timeout"), call.dry_run()?) {
            let is_scaled = wait::follow(call, &info, timeout, &mut |state| {
                Ok(state.is_some_and(|object| {
                    object.int("status.replicas").unwrap_or(0) == replicas
                        && object.int("spec.replicas") == Some(replicas)
                }))
            })?;
            if !is_scaled {
                return failed("timed out waiting for the condition");
            }
        }
    }
    done(call, printer, &info, "scaled")
}

pub(crate) static AUTOSCALE: Command = Command {
    name: "autoscale",
    about: "Creates an autoscaler that automatically chooses and sets the number of pods that run in a Kubernetes cluster.",
    short: "Auto-scale a deployment, replica set, stateful set, or replication controller",
    usage: "(-f FILENAME | TYPE NAME | TYPE/NAME) [--min=MINPODS] --max=MAXPODS [--cpu-percent=CPU]",
    flags: &[
        options::DRY_RUN,
        options::FILES,
        options::PRINT,
        options::SAVE_CONFIG,
        &[
            int("cpu-percent", "-1", "The target of CPU use"),
            text("field-manager", "", "Name of who manages the fields"),
            int("max", "-1", "The upper limit of pods"),
            int("min", "-1", "The lower limit of pods"),
            text("name", "", "The name of the autoscaler"),
        ],
    ],
    required: &["max"],
    run: Some(autoscale),
    ..BLANK
};

fn autoscale(call: &Call<'_>) -> Outcome {
    let (min, max) = (call.int("min"), call.int("max"));
    if max < 1 {
        return failed(format!("--max=MAXPODS is required and must be at least 1, max: {max}"));
    }
    if max < min {
        return failed(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}"
        ));
    }
    if call.args().is_empty() && !call.has_files() {
        return failed(write::NO_RESOURCES);
    }
    let pick = Pick::of(call, call.args());
    for info in select::all_infos(call, &pick)? {
        if !info.resource.subresources.iter().any(|sub| sub == "scale") {
            return failed(format!(
                "cannot autoscale a {}: could not find scale subresource for {} in discovery information",
                info.resource.kind,
                select::shown(&info.resource)
            ));
        }
        let name = match call.text("name") {
            "" => info.name.as_str(),
            own => own,
        };
        let mut tree = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "creationTimestamp": null},
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": info.resource.api_version(), "kind": info.resource.kind, "name": info.name,
                },
                "maxReplicas": max,
            },
            "status": {"currentReplicas": 0, "desiredReplicas": 0},
        });
        if min > 0 {
            tree.set("spec.minReplicas", min);
        }
        if call.int("cpu-percent") >= 0 {
            tree.set("spec.targetCPUUtilizationPercentage", call.int("cpu-percent"));
        }
        // As upstream, whose client's dry run says another word.
        let verb = if call.dry_run()? == DryRun::Client { "created" } else { "autoscaled" };
        super::create::finish_as(call, tree, verb, "kubectl-autoscale")?;
    }
    Ok(())
}
