//! Deployments, Jobs and CronJobs.

use api::{Lens, LensMut, Value, json};

use super::{GENERATOR, finish, name, object};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Outcome, failed};
use crate::flags::{array, int, text};

pub(super) static DEPLOYMENT: Command = Command {
    name: "deployment",
    aliases: &["deploy"],
    about: "Create a deployment with the specified name.",
    usage: "NAME --image=image -- [COMMAND] [args...]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            array("image", "Image of a container"),
            int("port", "-1", "Port that the container serves"),
            int("replicas", "1", "How many pods").short('r'),
        ],
    ],
    required: &["image"],
    run: Some(deployment),
    ..BLANK
};

pub(super) static JOB: Command = Command {
    name: "job",
    about: "Create a job with the specified name.",
    usage: "NAME --image=image [--from=cronjob/name] -- [COMMAND] [args...]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            text("from", "", "cronjob/name to take the pods from"),
            text("image", "", "Image of the container"),
        ],
    ],
    run: Some(job),
    ..BLANK
};

pub(super) static CRON_JOB: Command = Command {
    name: "cronjob",
    aliases: &["cj"],
    about: "Create a cron job with the specified name.",
    usage: "NAME --image=image --schedule='0/5 * * * ?' -- [COMMAND] [args...]",
    flags: &[
        GENERATOR[0],
        GENERATOR[1],
        GENERATOR[2],
        GENERATOR[3],
        GENERATOR[4],
        &[
            text("image", "", "Image of the container"),
            text("restart", "", "OnFailure or Never"),
            text("schedule", "", "When, in cron's form"),
        ],
    ],
    required: &["image", "schedule"],
    run: Some(cron_job),
    ..BLANK
};

/// What stands behind `--`.
fn command(call: &Call<'_>) -> Vec<String> {
    call.given.dash.map(|dash| call.args()[dash..].to_vec()).unwrap_or_default()
}

/// An image's name without registry, tag and digest, as a container may be called.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let bare = last.split(['@', ':']).next().unwrap_or(last);
    bare.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn deployment(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    let images: Vec<String> =
        call.array("image").iter().flat_map(|it| it.split(',')).map(str::to_owned).collect();
    let command = command(call);
    if images.len() > 1 && !command.is_empty() {
        return failed("cannot specify multiple --image options and command");
    }
    let labels = json!({"app": own});
    let mut containers = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for image in &images {
        let mut name = container_name(image);
        names.push(name.clone());
        let n = names.iter().filter(|own| **own == name).count();
        if n > 1 {
            name = format!("{name}-{n}");
        }
        let mut container = json!({"name": name, "image": image, "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        if call.int("port") >= 0 && containers.is_empty() {
            container["ports"] = json!([{"containerPort": call.int("port")}]);
        }
        containers.push(container);
    }
    let mut tree = object("apps/v1", "Deployment", own);
    tree.set("metadata.labels", labels.clone());
    tree["spec"] = json!({
        "replicas": call.int("replicas"),
        "selector": {"matchLabels": labels},
        "strategy": {},
        "template": {
            "metadata": {"creationTimestamp": null, "labels": labels},
            "spec": {"containers": containers},
        },
    });
    tree["status"] = json!({});
    finish(call, tree)
}

fn template(name: &str, image: &str, command: &[String], restart: &str) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = json!(command);
    }
    json!({
        "metadata": {"creationTimestamp": null},
        "spec": {"containers": [container], "restartPolicy": restart},
    })
}

fn job(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    let (image, from) = (call.text("image"), call.text("from"));
    let command = command(call);
    if image.is_empty() == from.is_empty() {
        return failed("either --image or --from must be specified");
    }
    if !from.is_empty() && !command.is_empty() {
        return failed("cannot specify --from and command");
    }
    let mut tree = object("batch/v1", "Job", own);
    if from.is_empty() {
        tree["spec"] = json!({"template": template(own, image, &command, "Never")});
    } else {
        let Some((kind, cron)) = from.split_once('/') else {
            call.mapper()?.find(call.rest()?, from)?;
            return failed(format!("from must be an existing cronjob: {from}"));
        };
        let resource = call.mapper()?.find(call.rest()?, kind)?;
        if resource.kind != "CronJob" {
            return failed(format!("unknown object type *v1.{}", resource.kind));
        }
        let (namespace, _) = call.namespace()?;
        let source = call.rest()?.get(&resource.path(&namespace, cron))?;
        let template = source.at("spec.jobTemplate");
        for field in ["labels", "annotations"] {
            let map = template.at(&format!("metadata.{field}"));
            if map.is_object() {
                tree["metadata"][field] = map.clone();
            }
        }
        tree.map_mut("metadata.annotations")
            .insert("cronjob.kubernetes.io/instantiate".to_owned(), "manual".into());
        tree["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "CronJob", "name": source.str("metadata.name"),
            "uid": source.str("metadata.uid"), "controller": true,
        }]);
        tree["spec"] = template.at("spec").clone();
    }
    tree["status"] = json!({});
    finish(call, tree)
}

fn cron_job(call: &Call<'_>) -> Outcome {
    let own = name(call)?;
    let restart = match call.text("restart") {
        "" => "OnFailure",
        own => own,
    };
    let template = template(own, call.text("image"), &command(call), restart);
    let mut tree = object("batch/v1", "CronJob", own);
    tree["spec"] = json!({
        "schedule": call.text("schedule"),
        "jobTemplate": {
            "metadata": {"creationTimestamp": null, "name": own},
            "spec": {"template": template},
        },
    });
    tree["status"] = json!({});
    finish(call, tree)
}
