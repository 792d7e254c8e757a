//! `kubectl attach`: to a process that runs in a container.

use api::{Lens, Value};
use http::streams::Wanted;

use crate::call::{BLANK, Call, Command};
use crate::discovery::escape;
use crate::failure::{Outcome, failed};
use crate::flags::{Flag, duration, switch, text};
use crate::{out, pods, streams};

const OWN: &[Flag] = &[
    text("container", "", "Container name. If omitted, use the kubectl.kubernetes.io/default-container annotation for selecting the container to be attached or the first container in the pod will be chosen").short('c'),
    duration("pod-running-timeout", "1m0s", "The length of time (like 5s, 2m, or 3h, higher than zero) to wait until at least one pod is running"),
    switch("quiet", "Only print output from the remote session").short('q'),
    switch("stdin", "Pass stdin to the container").short('i'),
    switch("tty", "Stdin is a TTY").short('t'),
];

pub(crate) static COMMAND: Command = Command {
    name: "attach",
    about: "Attach to a process that is already running inside an existing container.",
    usage: "(POD | TYPE/NAME) -c CONTAINER",
    flags: &[OWN],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let args = call.args();
    if args.is_empty() {
        return failed("at least 1 argument is required for attach");
    }
    if args.len() > 2 {
        return failed(format!(
            "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: [{}]",
            args.len(),
            args.join(" ")
        ));
    }
    if call.nanos("pod-running-timeout") <= 0 {
        return call.usage("--pod-running-timeout must be higher than zero");
    }
    let pod = pods::first(call, args)?;
    let phase = pod.str("status.phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return failed(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        ));
    }
    let container = pods::container(&pod, call.text("container"), call.is("quiet"))?;
    let stdin = call.is("stdin");
    let wants_tty = call.is("tty");
    let mut tty = wants_tty && stdin && streams::has_terminal();
    if wants_tty && !tty {
        out::tell("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    if tty && !has_tty(&pod, &container) {
        out::tell(&format!(
            "error: Unable to use a TTY - container {container} did not allocate one"
        ));
        tty = false;
    }
    if stdin && tty && !call.is("quiet") {
        out::tell("If you don't see a command prompt, try pressing enter.");
    }
    to(call, &pod, &container, stdin, tty)
}

/// Attaches to a container, until its process ends or the connection does.
pub(crate) fn to(call: &Call<'_>, pod: &Value, container: &str, stdin: bool, tty: bool) -> Outcome {
    let wanted = Wanted { stdin, stdout: true, stderr: !tty, tty };
    let mut path = format!(
        "/api/v1/namespaces/{}/pods/{}/attach?container={}",
        pod.str("metadata.namespace"),
        pod.str("metadata.name"),
        escape(container)
    );
    for (is_on, name) in
        [(wanted.stderr, "stderr"), (stdin, "stdin"), (true, "stdout"), (tty, "tty")]
    {
        if is_on {
            path.push_str(&format!("&{name}=true"));
        }
    }
    streams::run(call, &path, wanted)
}

fn has_tty(pod: &Value, container: &str) -> bool {
    let mut all = api::pod::all_containers(pod.at("spec"));
    all.any(|(_, _, own)| own.str("name") == container && own.flag("tty"))
}
