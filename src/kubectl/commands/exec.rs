//! `kubectl exec`

use api::Lens;
use http::streams::Wanted;

use crate::call::{BLANK, Call, Command};
use crate::discovery::escape;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, list, switch, text};
use crate::{out, pods, streams};

pub(crate) static COMMAND: Command = Command {
    name: "exec",
    about: "Execute a command in a container.",
    usage: "(POD | TYPE/NAME) [-c CONTAINER] [flags] -- COMMAND [args...]",
    flags: &[&[
        text("container", "", "Container name").short('c'),
        list("filename", "Files that name the resource").short('f'),
        duration("pod-running-timeout", "1m0s", "How long to wait for a pod that runs"),
        switch("quiet", "Only print output from the remote session").short('q'),
        switch("stdin", "Pass stdin to the container").short('i'),
        switch("tty", "Stdin is a TTY").short('t'),
    ]],
    run: Some(run),
    ..BLANK
};

fn run(call: &Call<'_>) -> Outcome {
    let has_files = !call.list("filename").is_empty();
    let (args, command) = match call.given.dash {
        Some(dash) => call.args().split_at(dash),
        None => call.args().split_at(call.args().len().min(1)),
    };
    if args.is_empty() && !has_files {
        return failed("pod, type/name or --filename must be specified");
    }
    if call.given.dash.is_none() && !command.is_empty() {
        return call.usage(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead",
        );
    }
    if command.is_empty() {
        return failed("you must specify at least one command for the container");
    }
    if call.nanos("pod-running-timeout") <= 0 {
        return call.usage("--pod-running-timeout must be higher than zero");
    }
    let pod = pods::first(call, &args[..args.len().min(1)]).map_err(|failure| {
        // Where the namespace is missing, that is told.
        let within = call.namespace().ok().filter(|_| failure.is_not_found());
        let asked = within.and_then(|(namespace, _)| {
            call.rest().ok()?.get(&format!("/api/v1/namespaces/{}", escape(&namespace))).err()
        });
        asked.filter(Failure::is_not_found).unwrap_or(failure)
    })?;
    let phase = pod.str("status.phase");
    if matches!(phase, "Succeeded" | "Failed") {
        return failed(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        ));
    }
    let container = pods::asked(call, &pod)?;
    let stdin = call.is("stdin");
    let mut tty = call.is("tty");
    if tty && !stdin {
        tty = false;
    }
    if tty && !streams::has_terminal() {
        out::tell("Unable to use a TTY - input is not a terminal or the right kind of file");
        tty = false;
    }
    let mut query: Vec<String> =
        command.iter().map(|word| format!("command={}", escape(word))).collect();
    query.push(format!("container={}", escape(&container)));
    let wanted = Wanted { stdin, stdout: true, stderr: !tty, tty };
    for (is_on, name) in
        [(wanted.stderr, "stderr"), (stdin, "stdin"), (true, "stdout"), (tty, "tty")]
    {
        if is_on {
            query.push(format!("{name}=true"));
        }
    }
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/exec?{}",
        pod.str("metadata.namespace"),
        pod.str("metadata.name"),
        query.join("&")
    );
    streams::run(call, &path, wanted)
}
