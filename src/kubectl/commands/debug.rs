//! `kubectl debug`: a container beside those of a pod, a copy of a pod with something changed, or a pod on a node.

use api::{Lens, LensMut, Value, json};
use http::Method;

use super::attach;
use super::debug_profile::{self as profile, Style};
use crate::call::{BLANK, Call, Command};
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{list, pairs, switch, switched_on, text};
use crate::rest::Body;
use crate::select::{self, Info, Pick};
use crate::{image, merge3, out, wait, write};

pub(crate) static COMMAND: Command = Command {
    name: "debug",
    about: "Create debugging sessions for troubleshooting workloads and nodes.",
    usage: "(POD | TYPE[[.VERSION].GROUP]/NAME) [ -- COMMAND [args...] ]",
    flags: &[&[
        switch(
            "arguments-only",
            "If specified, everything after -- will be passed to the new container as Args instead of Command.",
        ),
        switch(
            "attach",
            "If true, wait for the container to start running, and then attach as if 'kubectl attach ...' were called.  Default false, unless '-i/--stdin' is set, in which case the default is true.",
        ),
        text("container", "", "Container name to use for debug container.").short('c'),
        text("copy-to", "", "Create a copy of the target Pod with this name."),
        text(
            "custom",
            "",
            "Path to a JSON or YAML file containing a partial container spec to customize built-in debug profiles.",
        ),
        pairs("env", "Environment variables to set in the container."),
        list("filename", "identifying the resource to debug").short('f'),
        text("image", "", "Container image to use for debug container."),
        text(
            "image-pull-policy",
            "",
            "The image pull policy for the container. If left empty, this value will not be specified by the client and defaulted by the server.",
        ),
        switch(
            "keep-annotations",
            "If true, keep the original pod annotations.(This flag only works when used with '--copy-to')",
        ),
        switched_on(
            "keep-init-containers",
            "Run the init containers for the pod. Defaults to true.(This flag only works when used with '--copy-to')",
        ),
        switch(
            "keep-labels",
            "If true, keep the original pod labels.(This flag only works when used with '--copy-to')",
        ),
        switch(
            "keep-liveness",
            "If true, keep the original pod liveness probes.(This flag only works when used with '--copy-to')",
        ),
        switch(
            "keep-readiness",
            "If true, keep the original pod readiness probes.(This flag only works when used with '--copy-to')",
        ),
        switch(
            "keep-startup",
            "If true, keep the original startup probes.(This flag only works when used with '--copy-to')",
        ),
        text(
            "profile",
            "legacy",
            "Options are \"legacy\", \"general\", \"baseline\", \"netadmin\", \"restricted\" or \"sysadmin\".",
        ),
        switch("quiet", "If true, suppress informational messages.").short('q'),
        switch("replace", "When used with '--copy-to', delete the original Pod."),
        switch(
            "same-node",
            "When used with '--copy-to', schedule the copy of target Pod on the same node.",
        ),
        pairs(
            "set-image",
            "When used with '--copy-to', a list of name=image pairs for changing container images, similar to how 'kubectl set image' works.",
        ),
        switched_on(
            "share-processes",
            "When used with '--copy-to', enable process namespace sharing in the copy.",
        ),
        switch(
            "stdin",
            "Keep stdin open on the container(s) in the pod, even if nothing is attached.",
        )
        .short('i'),
        text(
            "target",
            "",
            "When using an ephemeral container, target processes in this container name.",
        ),
        switch("tty", "Allocate a TTY for the debugging container.").short('t'),
    ]],
    run: Some(run),
    ..BLANK
};

const MANAGER: &str = "kubectl-debug";
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What the command line asks for.
struct Wanted {
    args: Vec<String>,
    env: Vec<Value>,
    images: Vec<(String, String)>,
    custom: Option<Value>,
}

fn run(call: &Call<'_>) -> Outcome {
    let dash = call.given.dash.unwrap_or(call.args().len());
    let (names, args) = call.args().split_at(dash);
    let env =
        call.pairs("env").into_iter().map(|(name, value)| json!({"name": name, "value": value}));
    profile::check(call.text("profile"))?;
    let wanted = Wanted {
        args: args.to_vec(),
        env: env.collect(),
        images: call.pairs("set-image"),
        custom: profile::custom(call)?,
    };
    check(call, names, &wanted)?;
    let is_attached = call.is("attach") || call.is("stdin") && !call.changed("attach");
    let pick = Pick { default_type: "pods", ..Pick::of(call, names) };
    for info in select::all_infos(call, &pick)? {
        let (pod, container) = match info.resource.kind.as_str() {
            "Node" if info.resource.group.is_empty() => of_node(call, &info, &wanted)?,
            "Pod" if info.resource.group.is_empty() => match call.text("copy-to") {
                "" => beside(call, &info, &wanted)?,
                _ => copy(call, &info, &wanted)?,
            },
            kind => {
                let kind = format!("{}, Kind={kind}", info.resource.api_version());
                let slash = if info.resource.group.is_empty() { "/" } else { "" };
                return failed(format!("{:?} not supported by debug", format!("{slash}{kind}")));
            }
        };
        if is_attached && !container.is_empty() {
            session(call, &pod, &container)?;
        }
    }
    Ok(())
}

fn check(call: &Call<'_>, names: &[String], wanted: &Wanted) -> Outcome {
    let has = |flag: &str| !call.text(flag).is_empty();
    let refused = if call.is("attach") && !has("image") && !has("container") {
        "you must specify --container or create a new container using --image in order to attach."
    } else if has("copy-to") {
        match wanted.args.is_empty() {
            true if !has("image") && wanted.images.is_empty() => {
                "you must specify --image, --set-image or command arguments."
            }
            false if !has("container") && !has("image") => {
                "you must specify an existing container or a new image when specifying args."
            }
            _ => "",
        }
    } else if call.is("replace") {
        "--replace may only be used with --copy-to."
    } else if call.is("same-node") {
        "--same-node may only be used with --copy-to."
    } else if !wanted.images.is_empty() {
        "--set-image may only be used with --copy-to."
    } else if !has("image") {
        "you must specify --image when not using --copy-to."
    } else {
        ""
    };
    if !refused.is_empty() {
        return failed(refused);
    }
    let image = call.text("image");
    if has("image") && !image::is_reference(image) {
        return failed(format!("invalid image name {image:?}: invalid reference format"));
    }
    if names.is_empty() && call.list("filename").is_empty() {
        return failed("NAME or filename is required for debug");
    }
    let policy = call.text("image-pull-policy");
    if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
        return failed(format!("invalid image pull policy: {policy}"));
    }
    for (name, image) in &wanted.images {
        if !image::is_reference(image) {
            return failed(format!(
                "invalid image name {image:?} for container {name:?}: invalid reference format"
            ));
        }
    }
    let target = call.text("target");
    if !target.is_empty() {
        if has("copy-to") {
            return failed(
                "--target is incompatible with --copy-to. Use --share-processes instead.",
            );
        }
        if !call.is("quiet") {
            out::line(&format!(
                "Targeting container {target:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature."
            ));
        }
    }
    if call.is("tty") && !call.is("stdin") {
        return failed("-i/--stdin is required for containers with -t/--tty=true");
    }
    wanted.custom.as_ref().map_or(Ok(()), profile::check_custom)?;
    if call.text("profile") == "legacy" {
        out::tell(
            "--profile=legacy is deprecated and will be removed in the future. It is recommended to explicitly specify a profile, for example \"--profile=general\".",
        );
    }
    Ok(())
}

/// As names of pods that a controller makes end.
fn suffix() -> String {
    let mut number = rt::random_u64();
    let mut letter = || {
        let idx = usize::try_from(number % LETTERS.len() as u64).unwrap_or(0);
        number /= LETTERS.len() as u64;
        char::from(LETTERS[idx])
    };
    (0..5).map(|_| letter()).collect()
}

/// The name of a new container of a pod.
fn container_name(call: &Call<'_>, pod: &Value) -> String {
    if !call.text("container").is_empty() {
        return call.text("container").to_owned();
    }
    loop {
        let name = format!("debugger-{}", suffix());
        let mut all = api::pod::all_containers(pod.at("spec"));
        if all.any(|(_, _, own)| own.str("name") == name) {
            continue;
        }
        if !call.is("quiet") {
            out::line(&format!("Defaulting debug container name to {name}."));
        }
        return name;
    }
}

/// Writes into a container what the flags say of it.
fn describe(call: &Call<'_>, wanted: &Wanted, container: &mut Value) {
    if !wanted.args.is_empty() {
        match call.is("arguments-only") {
            true => container["args"] = json!(wanted.args),
            false => {
                container["command"] = json!(wanted.args);
                container.remove("args");
            }
        }
    }
    if !wanted.env.is_empty() {
        container["env"] = Value::Array(wanted.env.clone());
    }
    for (flag, field) in [("image", "image"), ("image-pull-policy", "imagePullPolicy")] {
        if !call.text(flag).is_empty() {
            container[field] = call.text(flag).into();
        }
    }
    for field in ["stdin", "tty"] {
        match call.is(field) {
            true => container[field] = true.into(),
            false => drop(container.remove(field)),
        }
    }
}

fn fresh(name: &str) -> Value {
    json!({"name": name, "resources": {}, "terminationMessagePolicy": "File"})
}

/// An ephemeral container in the pod.
fn beside(call: &Call<'_>, info: &Info, wanted: &Wanted) -> Outcome<(Value, String)> {
    const LIST: &str = "ephemeralContainers";
    let mut pod = info.object.clone();
    let name = container_name(call, &pod);
    let mut container = fresh(&name);
    describe(call, wanted, &mut container);
    if !call.text("target").is_empty() {
        container["targetContainerName"] = call.text("target").into();
    }
    pod.list_mut(&format!("spec.{LIST}")).push(container);
    profile::apply(call, Style::Ephemeral, &mut pod, LIST, &name, wanted.custom.as_ref())?;
    let own = pod.list(&format!("spec.{LIST}")).iter().rfind(|own| own.str("name") == name);
    warn(own.unwrap_or(&Value::Null), &pod);
    let before = &info.object;
    let patch = merge3::patch(before, before, &pod, merge3::type_of("v1", "Pod"));
    let answer = write::patch(call, info, "ephemeralcontainers", write::STRATEGIC, &patch, MANAGER)
        .map_err(|failure| match &failure {
            // A pod that is missing would be named.
            Failure::Status(status)
                if failure.is_not_found() && status.str("details.name").is_empty() =>
            {
                Failure::Message(format!(
                    "ephemeral containers are disabled for this cluster (error from server: {:?})",
                    failure.text()
                ))
            }
            _ => failure,
        })?;
    Ok((answer, name))
}

/// A copy of the pod, with a container more or something changed.
fn copy(call: &Call<'_>, info: &Info, wanted: &Wanted) -> Outcome<(Value, String)> {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": call.text("copy-to"), "namespace": info.namespace},
        "spec": info.object.at("spec"),
    });
    for field in ["annotations", "labels"] {
        let own = info.object.at("metadata").at(field);
        if !own.is_null() {
            pod["metadata"][field] = own.clone();
        }
    }
    pod.remove("spec.ephemeralContainers");
    if call.changed("share-processes") {
        pod["spec"]["shareProcessNamespace"] = call.is("share-processes").into();
    }
    if !call.is("same-node") {
        pod.remove("spec.nodeName");
    }
    for container in pod.list_mut("spec.containers") {
        let of = |name: &str| wanted.images.iter().rfind(|(own, _)| own == name);
        if let Some((_, image)) = of(container.str("name")).or_else(|| of("*")) {
            let image = image.as_str();
            container.set("image", image);
        }
    }
    let named = call.text("container");
    let is_in =
        |list: &str| !named.is_empty() && pod.list(list).iter().any(|own| own.str("name") == named);
    let list = if is_in("spec.initContainers") { "initContainers" } else { "containers" };
    let is_there = is_in("spec.initContainers") || is_in("spec.containers");
    let mut name = named.to_owned();
    if !is_there {
        if call.text("image").is_empty() {
            return match wanted.images.is_empty() {
                true => failed("you must specify image when creating new container"),
                false => created(call, info, &pod).map(|pod| (pod, String::new())),
            };
        }
        name = container_name(call, &pod);
        pod.list_mut("spec.containers").push(fresh(&name));
    }
    for container in pod.list_mut(&format!("spec.{list}")) {
        if container.str("name") == name {
            describe(call, wanted, container);
        }
    }
    profile::apply(call, Style::Copy, &mut pod, list, &name, wanted.custom.as_ref())?;
    let own = pod.list(&format!("spec.{list}")).iter().find(|own| own.str("name") == name);
    warn(own.unwrap_or(&Value::Null), &pod);
    created(call, info, &pod).map(|pod| (pod, name))
}

/// Makes the copy, and takes away the pod if it is replaced.
fn created(call: &Call<'_>, info: &Info, pod: &Value) -> Outcome<Value> {
    let made = create(call, info, pod)?;
    if call.is("replace") {
        let now = super::delete::How { grace: Some(0), propagation: "Background" };
        super::delete::delete(call, info, &now)?;
    }
    Ok(made)
}

/// A pod on the node, in its namespaces.
fn of_node(call: &Call<'_>, info: &Info, wanted: &Wanted) -> Outcome<(Value, String)> {
    let container = match call.text("container") {
        "" => "debugger",
        named => named,
    };
    let node = &info.name;
    let name = format!("node-debugger-{node}-{}", suffix());
    if !call.is("quiet") {
        out::line(&format!(
            "Creating debugging pod {name} with container {container} on node {node}."
        ));
    }
    let mut inner = fresh(container);
    describe(call, wanted, &mut inner);
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [inner], "nodeName": node, "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
        },
    });
    profile::apply(call, Style::Node, &mut pod, "containers", container, wanted.custom.as_ref())?;
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let (namespace, _) = call.namespace()?;
    let own = Info { resource, namespace, name, object: Value::Null, source: String::new() };
    create(call, &own, &pod).map(|pod| (pod, container.to_owned()))
}

fn create(call: &Call<'_>, info: &Info, pod: &Value) -> Outcome<Value> {
    let target =
        format!("{}{}", info.resource.path(&info.namespace, ""), write::query(call, MANAGER, &[])?);
    call.rest()?.tree(Method::Post, &target, Body::json(pod))
}

/// Says so where a profile gives what the pod's user cannot use.
fn warn(container: &Value, pod: &Value) {
    let is_user = |own: &Value| own.int("securityContext.runAsUser").is_some_and(|user| user != 0);
    let gives = container.flag("securityContext.privileged")
        || !container.list("securityContext.capabilities.add").is_empty();
    let is_root = container.int("securityContext.runAsUser") == Some(0);
    if is_user(pod.at("spec")) && !is_root && gives {
        out::tell(
            "Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug profile may not work. Please consider using \"--custom\" with a custom profile that specifies \"securityContext.runAsUser: 0\".",
        );
    }
}

/// The status of a pod's container, of whatever kind.
fn status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    ["init", "", "ephemeral"].iter().find_map(|kind| {
        let list = match *kind {
            "" => "status.containerStatuses".to_owned(),
            kind => format!("status.{kind}ContainerStatuses"),
        };
        pod.list(&list).iter().find(|own| own.str("name") == container)
    })
}

/// Waits for the container and attaches to it.
fn session(call: &Call<'_>, pod: &Value, container: &str) -> Outcome {
    let resource = call.mapper()?.find(call.rest()?, "pods")?;
    let mut info = Info {
        resource,
        namespace: String::new(),
        name: String::new(),
        object: Value::Null,
        source: String::new(),
    };
    info.refresh(pod.clone());
    let mut last = Value::Null;
    let mut warned = String::new();
    wait::follow(call, &info, wait::AGES, &mut |state| {
        let Some(pod) = state else { return failed("pods \"\" not found") };
        last = pod.clone();
        let Some(status) = status(pod, container) else { return Ok(false) };
        if status.has("state.running") || status.has("state.terminated") {
            return Ok(true);
        }
        let message = status.str("state.waiting.message");
        if !call.is("quiet") && !message.is_empty() && warned != message {
            message.clone_into(&mut warned);
            out::tell(&format!("Warning: container {container}: {message}"));
        }
        Ok(false)
    })?;
    if status(&last, container).is_some_and(|status| status.has("state.terminated")) {
        return attach::print_log(call, &info, container);
    }
    attach::or_log(call, &info, &last, container)
}
