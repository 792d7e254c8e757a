//! `kubectl attach`: to a process that runs in a container.

use api::{Lens, Value};
use http::streams::Wanted;

use crate::call::{BLANK, Call, Command};
use crate::discovery::escape;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{Flag, duration, switch, text};
use crate::select::Info;
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
    short: "Attach to a running container",
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
    let container = pods::container(&pod, call.text("container"), call.is("quiet"))
        .map_err(|failure| format!("cannot attach to the container: {}", failure.text()))?;
    session(call, &pod, &container)
}

/// Attaches to a container, until its process ends or the connection does. The command has `-i`, `-t` and `-q`.
fn session(call: &Call<'_>, pod: &Value, container: &str) -> Outcome {
    let phase = pod.str("status.phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return failed(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        ));
    }
    let (stdin, is_quiet) = (call.is("stdin"), call.is("quiet"));
    let tell = |text: &str| {
        if !is_quiet {
            out::tell(text);
        }
    };
    let has_tty = has_tty(pod, container);
    if call.is("tty") && !has_tty {
        tell(&format!("error: Unable to use a TTY - container {container} did not allocate one"));
    }
    // Of one that has a terminal nothing but a terminal comes.
    let tty = stdin && has_tty && streams::has_terminal();
    if stdin && has_tty && !tty {
        tell("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    tell("If you don't see a command prompt, try pressing enter.");
    let wanted = Wanted { stdin, stdout: true, stderr: !tty, tty };
    let name = pod.str("metadata.name");
    let path = format!(
        "/api/v1/namespaces/{}/pods/{name}/attach?container={}{}",
        pod.str("metadata.namespace"),
        escape(container),
        streams::query(wanted)
    );
    streams::run(call, &path, wanted)?;
    if tty {
        let mut ephemeral = pod.list("spec.ephemeralContainers").iter();
        let again = format!("'kubectl attach {name} -c {container} -i -t'");
        if ephemeral.any(|own| own.str("name") == container) {
            tell(&format!(
                "Session ended, the ephemeral container will not be restarted but may be reattached using {again} if it is still running"
            ));
        } else if pod.str("spec.restartPolicy") == "Always" {
            tell(&format!("Session ended, resume using {again} command when the pod is running"));
        }
    }
    Ok(())
}

/// The same; where that cannot be, what the container has written is printed.
pub(super) fn or_log(call: &Call<'_>, info: &Info, pod: &Value, container: &str) -> Outcome {
    match session(call, pod, container) {
        Err(failure) if !matches!(failure, Failure::Exit(_)) => {
            out::tell(&format!(
                "warning: couldn't attach to pod/{}, falling back to streaming logs: {}",
                info.name,
                failure.text()
            ));
            print_log(call, info, container)
        }
        other => other,
    }
}

/// Prints what a container has written so far.
pub(super) fn print_log(call: &Call<'_>, info: &Info, container: &str) -> Outcome {
    let path = format!("{}/log?container={}", info.path(), escape(container));
    rt::block_on(super::logs::show(call, &path, ""))
}

fn has_tty(pod: &Value, container: &str) -> bool {
    let mut all = api::pod::all_containers(pod.at("spec"));
    all.any(|(_, _, own)| own.str("name") == container && own.flag("tty"))
}
