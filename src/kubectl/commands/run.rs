//! `kubectl run`

use api::{Lens, LensMut, Value, json};

use super::attach;
use super::create::{finish_as, pairs};
use crate::call::{BLANK, Call, Command, DryRun};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{array, duration, int, list, switch, text};
use crate::select::Info;
use crate::{image, options, out, pods, wait, write};

pub(crate) static COMMAND: Command = Command {
    name: "run",
    about: "Create and run a particular image in a pod.",
    short: "Run a particular image on the cluster",
    usage: "NAME --image=image [--env=\"key=value\"] [--port=port] [--dry-run=server|client] [--overrides=inline-json] [--command] -- [COMMAND] [args...]",
    flags: &[
        options::DRY_RUN,
        options::PRINT,
        options::SAVE_CONFIG,
        &[
            array("annotations", "Annotations of the pod"),
            switch("attach", "Attach to the pod once it runs"),
            switch("command", "What stands behind -- is the command, not its arguments"),
            array("env", "Variables of the container"),
            switch("expose", "Create a service for the pod's port"),
            text("field-manager", "", "Name of who manages the fields"),
            text("image", "", "Image of the container"),
            text("image-pull-policy", "", "Always, IfNotPresent or Never"),
            text("labels", "", "Labels of the pod, between commas").short('l'),
            switch("leave-stdin-open", "Only the first attach ends stdin"),
            text("override-type", "merge", "json, merge or strategic"),
            text("overrides", "", "JSON that the pod is patched with"),
            duration("pod-running-timeout", "1m0s", "How long to wait for the pod to run"),
            text("port", "", "Port that the container serves"),
            switch("privileged", "Run the container privileged"),
            switch("quiet", "Only print output from the session").short('q'),
            text("restart", "Always", "Always, OnFailure or Never"),
            switch("rm", "Delete the pod after it exits"),
            switch("stdin", "Keep stdin open on the container").short('i'),
            switch("tty", "Allocate a TTY for the container").short('t'),
            text("cascade", "background", "background, orphan or foreground").bare("background"),
            list("filename", "Taken and not used: the flags say what is made").short('f'),
            text("kustomize", "", "Taken and not used: the flags say what is made").short('k'),
            switch("recursive", "Taken and not used: the flags say what is made").short('R'),
            // As upstream, --rm asks for the deletion and does not wait.
            switch("force", "Taken and not used: --rm ends the pod gracefully"),
            int("grace-period", "-1", "Taken and not used: --rm ends the pod gracefully"),
            duration("timeout", "0s", "Taken and not used: --rm does not wait"),
            switch("wait", "Taken and not used: --rm does not wait"),
        ],
    ],
    required: &["image"],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let n_args = call.given.dash.unwrap_or(call.args().len());
    if n_args == 0 || call.args().is_empty() {
        return call.usage("NAME is required for run");
    }
    check(call)?;
    let name = call.args()[0].clone();
    let rest = call.args()[1..].to_vec();
    let pod = pod(call, &name, &rest)?;
    let is_attached = call.is("attach") || call.is("stdin") && !call.changed("attach");
    if call.is("expose") {
        let service = service(call, &name, &pod);
        finish_as(call, service, "created", "kubectl-run")?;
        if call.text("output") == "yaml" {
            // As upstream, where both printers divide.
            out::print("---\n---\n");
        }
    }
    if !is_attached {
        return finish_as(call, pod, "created", "kubectl-run");
    }
    attached(call, &name, pod)
}

fn check(call: &Call<'_>) -> Outcome {
    let image = call.text("image");
    if image.is_empty() {
        return failed("--image is required");
    }
    if !image::is_reference(image) {
        return failed(format!("Invalid image name {image:?}: invalid reference format"));
    }
    let is_interactive = call.is("stdin") || call.is("attach");
    if call.is("tty") && !call.is("stdin") {
        return call.usage("-i/--stdin is required for containers with -t/--tty=true");
    }
    if call.is("expose") && call.text("port").is_empty() {
        return call.usage("--port must be set when exposing a service");
    }
    if call.dry_run()? != DryRun::None && is_interactive {
        return call.usage("--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)");
    }
    if call.is("rm") && !is_interactive {
        return call.usage("--rm should only be used for attached containers");
    }
    let policy = call.text("image-pull-policy");
    if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
        return call.usage(&format!("invalid image pull policy: {policy}"));
    }
    match call.text("restart") {
        "Always" | "OnFailure" | "Never" | "" => Ok(()),
        other => call.usage(&format!("invalid restart policy: {other}")),
    }
}

fn pod(call: &Call<'_>, name: &str, rest: &[String]) -> Outcome<Value> {
    let labels = match call.text("labels") {
        "" => json!({"run": name}),
        text => {
            let texts: Vec<String> = text.split(',').map(str::to_owned).collect();
            let labels = pairs(&texts, "label")?;
            Value::Object(labels)
        }
    };
    let mut container = json!({"name": name, "image": call.text("image"), "resources": {}});
    if !rest.is_empty() {
        container[if call.is("command") { "command" } else { "args" }] = json!(rest);
    }
    let mut env = Vec::new();
    for pair in call.array("env") {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return failed(format!("invalid env: {pair}"));
        };
        env.push(json!({"name": key, "value": value}));
    }
    if !env.is_empty() {
        container.set("env", env);
    }
    if !call.text("port").is_empty() {
        let Ok(port) = call.text("port").parse::<i64>() else {
            return failed(format!(
                "strconv.Atoi: parsing {:?}: invalid syntax",
                call.text("port")
            ));
        };
        container["ports"] = json!([{"containerPort": port}]);
    }
    if !call.text("image-pull-policy").is_empty() {
        container["imagePullPolicy"] = call.text("image-pull-policy").into();
    }
    if call.is("stdin") {
        container["stdin"] = true.into();
        container["stdinOnce"] = (!call.is("leave-stdin-open")).into();
    }
    if call.is("tty") {
        container["tty"] = true.into();
    }
    if call.is("privileged") {
        container["securityContext"] = json!({"privileged": true});
    }
    let restart = match call.text("restart") {
        "" => "Always",
        named => named,
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "creationTimestamp": null, "labels": labels},
        "spec": {"containers": [container], "restartPolicy": restart, "dnsPolicy": "ClusterFirst"},
        "status": {},
    });
    let annotations = pairs(&call.array("annotations"), "annotation")?;
    if !annotations.is_empty() {
        pod.set("metadata.annotations", Value::Object(annotations));
    }
    override_with(call, &mut pod, "Pod")?;
    Ok(pod)
}

/// Patches what was made of the flags, a `v1` object of that kind, with `--overrides` as `--override-type` says.
pub(super) fn override_with(call: &Call<'_>, object: &mut Value, kind: &str) -> Outcome {
    let text = call.text("overrides");
    if text.is_empty() {
        return Ok(());
    }
    let patch: Value = serde_json::from_str(text)
        .map_err(|_| Failure::Message("Invalid JSON Patch".to_owned()))?;
    let refused = |status: api::Status| Failure::Message(status.message().to_owned());
    match call.text("override-type") {
        "json" => api::patch::json(object, &patch).map_err(refused),
        "strategic" => match crate::merge3::resource_of("v1", kind) {
            Some(resource) => {
                api::patch::strategic(resource.form(), object, &patch).map_err(refused)
            }
            None => Ok(()),
        },
        "merge" => {
            api::patch::merge(object, &patch);
            Ok(())
        }
        other => failed(format!("invalid override type: {other}")),
    }
}

fn service(call: &Call<'_>, name: &str, pod: &Value) -> Value {
    let port = call.int("port");
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "creationTimestamp": null},
        "spec": {
            "ports": [{"port": port, "protocol": "TCP", "targetPort": port}],
            "selector": pod.at("metadata.labels"),
        },
        "status": {"loadBalancer": {}},
    })
}

/// Runs the pod, attaches to it, and gives its exit code.
fn attached(call: &Call<'_>, name: &str, object: Value) -> Outcome {
    let (namespace, _) = call.namespace()?;
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let mut info =
        Info { resource, namespace, name: name.to_owned(), object, source: String::new() };
    let made = write::create(call, &info, "kubectl-run")?;
    info.refresh(made);
    let done = session(call, &info);
    let code = match (&done, call.text("restart")) {
        (Ok(()), "Never" | "OnFailure") => exit_code(call, &info)?,
        _ => 0,
    };
    if call.is("rm") {
        let propagation = super::delete::propagation(call)?;
        let how = super::delete::How { grace: None, propagation };
        super::delete::delete(call, &info, &how)?;
        if !call.is("quiet") {
            super::delete::say(call, &info, false)?;
        }
    }
    done?;
    match code {
        0 => Ok(()),
        code => {
            out::tell(&format!("pod {}/{name} terminated (Error)", call.namespace()?.0));
            Err(Failure::Exit(code))
        }
    }
}

fn session(call: &Call<'_>, info: &Info) -> Outcome {
    let timeout = call.duration("pod-running-timeout").unwrap_or(wait::AGES);
    let mut last = Value::Null;
    let is_up = wait::follow(call, info, timeout, &mut |state| {
        let Some(pod) = state else { return failed(format!("pod {:?} was deleted", info.name)) };
        last = pod.clone();
        Ok(matches!(pod.str("status.phase"), "Running" | "Succeeded" | "Failed"))
    })?;
    if !is_up {
        return failed("timed out waiting for the condition");
    }
    let container = pods::container(&last, "", true)?;
    match last.str("status.phase") {
        "Running" => attach::or_log(call, info, &last, &container),
        _ => attach::print_log(call, info, &container),
    }
}

/// Waits for the pod's end.
fn exit_code(call: &Call<'_>, info: &Info) -> Outcome<u8> {
    let mut code = 0;
    wait::follow(call, info, wait::AGES, &mut |state| {
        let Some(pod) = state else { return Ok(true) };
        let ended = pod.at("status.containerStatuses.0.state.terminated");
        code = ended.int("exitCode").and_then(|code| u8::try_from(code).ok()).unwrap_or(0);
        Ok(matches!(pod.str("status.phase"), "Succeeded" | "Failed"))
    })?;
    Ok(code)
}
