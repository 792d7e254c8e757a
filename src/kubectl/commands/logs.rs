//! `kubectl logs`

use api::{Lens, Value};
use http::Method;

use crate::call::{BLANK, Call, Command};
use crate::discovery::escape;
use crate::failure::{Failure, Outcome, failed};
use crate::flags::{duration, int, switch, text};
use crate::select::{self, Pick};
use crate::{options, out, pods};

/// A line of a log that gets a prefix; a longer one is divided.
const LINE_MAX_BYTES: usize = 1 << 20;
const USAGE: &str = "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command";

pub(crate) static COMMAND: Command = Command {
    name: "logs",
    about: "Print the logs for a container in a pod or specified resource.",
    short: "Print the logs for a container in a pod",
    usage: "[-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]",
    flags: &[
        options::SELECTOR,
        &[
            switch("all-containers", "Of all containers of the pods"),
            switch("all-pods", "Of all pods of the resource"),
            text("container", "", "Container name").short('c'),
            switch("follow", "Go on while the container does").short('f'),
            switch("ignore-errors", "Go on where one log cannot be had"),
            switch("insecure-skip-tls-verify-backend", "The kubelet's certificate is not checked"),
            int("limit-bytes", "0", "At most so many bytes"),
            int("max-log-requests", "5", "Logs that are followed at once"),
            duration("pod-running-timeout", "20s", "How long to wait for a pod that runs"),
            switch("prefix", "Name pod and container before each line"),
            switch("previous", "Of the container before").short('p'),
            duration("since", "0s", "Only what is newer than this"),
            text("since-time", "", "Only what is newer than this time, RFC 3339"),
            int("tail", "-1", "So many lines from the end"),
            switch("timestamps", "With the time of each line"),
        ],
    ],
    run: Some(run),
    ..BLANK
};

/// One log.
struct Log {
    namespace: String,
    pod: String,
    container: String,
}

fn run(call: &Call<'_>) -> Outcome {
    let selector = call.text("selector");
    let args = call.args();
    match (args.len(), selector.is_empty()) {
        (0, true) => return call.usage(USAGE),
        (0, false) | (1, true) => {}
        (1, false) => return call.usage("only a selector (-l) or a POD name is allowed"),
        (2, true) if call.text("container").is_empty() => {}
        (2, true) => return failed("only one of -c or an inline [CONTAINER] arg is allowed"),
        _ => return call.usage(USAGE),
    }
    let logs = logs(call).map_err(|failure| match (failure.reason(), call.namespace()) {
        ("NotFound", Ok((namespace, _))) => Failure::Message(format!(
            "error from server (NotFound): {} in namespace {namespace:?}",
            failure.text()
        )),
        _ => failure,
    })?;
    check(call)?;
    let limit = usize::try_from(call.int("max-log-requests")).unwrap_or(0);
    if call.is("follow") && logs.len() > 1 {
        if logs.len() > limit {
            return failed(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {limit}, use --max-log-requests to increase the limit",
                logs.len()
            ));
        }
        return together(call, &logs);
    }
    for log in &logs {
        let done = rt::block_on(copy(call, log));
        match done {
            Err(failure) if call.is("ignore-errors") => {
                out::tell(&format!("error: {}", failure.text()))
            }
            other => other?,
        }
    }
    Ok(())
}

fn check(call: &Call<'_>) -> Outcome {
    if call.changed("since") && !call.text("since-time").is_empty() {
        return failed("at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if call.changed("tail") && call.int("tail") < -1 {
        return failed("--tail must be greater than or equal to -1");
    }
    if call.int("limit-bytes") < 0 {
        return failed("--limit-bytes must be greater than 0");
    }
    if call.nanos("since") < 0 {
        return failed("--since must be greater than 0");
    }
    if call.is("all-containers") && !call.text("container").is_empty() {
        return failed("--all-containers=true should not be specified with container name");
    }
    Ok(())
}

/// Which logs are meant.
fn logs(call: &Call<'_>) -> Outcome<Vec<Log>> {
    let selector = call.text("selector");
    let pods = match selector {
        "" => {
            let args = &call.args()[..1];
            let info = pods::target(call, args)?;
            let mut all = pods::of(call, &info).map_err(|failure| match failure {
                Failure::Message(why) if why.starts_with("selector for") => Failure::Message(
                    format!("cannot get the logs from *v1.{}: {why}", info.resource.kind),
                ),
                other => other,
            })?;
            if all.is_empty() && !call.is("all-pods") {
                pods::await_any(call, &info.namespace, &pods::selector(&info)?)?;
                all = pods::of(call, &info)?;
            }
            let n_pods = all.len();
            let word = &args[0];
            match call.is("all-pods") {
                true => all,
                false => {
                    if n_pods > 1 {
                        let first = all[0].str("metadata.name");
                        out::tell(&format!("Found {n_pods} pods, using pod/{first}"));
                    }
                    if all.is_empty() {
                        return failed(format!("no pods found for {word}"));
                    }
                    all.into_iter().take(1).collect()
                }
            }
        }
        selector => {
            let (namespace, _) = call.namespace()?;
            let resource = call.mapper()?.find(call.rest()?, "pods")?;
            let pick = Pick { selector: selector.to_owned(), ..Pick::default() };
            let found = select::items(&resource, select::list(call, &resource, &namespace, &pick)?);
            if found.is_empty() {
                out::tell(&format!("No resources found in {namespace} namespace."));
            }
            found
        }
    };
    let mut logs = Vec::new();
    for pod in pods {
        if call.is("all-containers") {
            for list in ["initContainers", "containers", "ephemeralContainers"] {
                for container in pod.list(&format!("spec.{list}")) {
                    logs.push(log(&pod, container.str("name")));
                }
            }
            continue;
        }
        let inline = call.args().get(1).map_or("", String::as_str);
        let named = if inline.is_empty() { call.text("container") } else { inline };
        let container = match pods::container(&pod, named, false) {
            Err(_) => {
                return failed(format!(
                    "container {named} is not valid for pod {}",
                    pod.str("metadata.name")
                ));
            }
            Ok(container) => container,
        };
        logs.push(log(&pod, &container));
    }
    Ok(logs)
}

fn log(pod: &Value, container: &str) -> Log {
    Log {
        namespace: pod.str("metadata.namespace").to_owned(),
        pod: pod.str("metadata.name").to_owned(),
        container: container.to_owned(),
    }
}

fn target(call: &Call<'_>, log: &Log) -> String {
    let mut query = vec![format!("container={}", escape(&log.container))];
    for (flag, name) in [
        ("follow", "follow"),
        ("previous", "previous"),
        ("timestamps", "timestamps"),
        ("insecure-skip-tls-verify-backend", "insecureSkipTLSVerifyBackend"),
    ] {
        if call.is(flag) {
            query.push(format!("{name}=true"));
        }
    }
    if call.int("limit-bytes") > 0 {
        query.push(format!("limitBytes={}", call.int("limit-bytes")));
    }
    if call.nanos("since") > 0 {
        // Rounded up, as upstream.
        let secs = (call.nanos("since") + 999_999_999) / 1_000_000_000;
        query.push(format!("sinceSeconds={secs}"));
    }
    if !call.text("since-time").is_empty() {
        query.push(format!("sinceTime={}", escape(call.text("since-time"))));
    }
    let tail = match call.changed("tail") {
        true => call.int("tail"),
        // Of many logs only the end.
        false if !call.text("selector").is_empty() => 10,
        false => -1,
    };
    if tail >= 0 {
        query.push(format!("tailLines={tail}"));
    }
    format!("/api/v1/namespaces/{}/pods/{}/log?{}", log.namespace, log.pod, query.join("&"))
}

async fn copy(call: &Call<'_>, log: &Log) -> Outcome {
    let prefix = match call.is("prefix") || call.is("all-pods") {
        true => format!("[pod/{}/{}] ", log.pod, log.container),
        false => String::new(),
    };
    show(call, &target(call, log), &prefix).await
}

/// Prints the log that is at `target` as it comes, each of its lines after `prefix`.
///
/// # Errors
/// What the server says.
pub(super) async fn show(call: &Call<'_>, target: &str, prefix: &str) -> Outcome {
    let rest = call.rest()?;
    let mut response = rest.open(Method::Get, target, "application/json, */*", None).await?;
    let mut line: Vec<u8> = Vec::new();
    while let Some(chunk) = response.body.next().await {
        let chunk = chunk.map_err(|error| rest.unreachable(&error))?;
        if prefix.is_empty() {
            out::bytes(&chunk);
            continue;
        }
        line.extend_from_slice(&chunk);
        while let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            let rest_of = line.split_off(at + 1);
            out::bytes(&[prefix.as_bytes(), &line].concat());
            line = rest_of;
        }
        if line.len() > LINE_MAX_BYTES {
            out::bytes(&[prefix.as_bytes(), &line].concat());
            line.clear();
        }
    }
    if !line.is_empty() {
        out::bytes(&[prefix.as_bytes(), &line].concat());
    }
    Ok(())
}

/// Follows several logs at once.
fn together(call: &Call<'_>, logs: &[Log]) -> Outcome {
    // Made before they are shared.
    call.rest()?;
    let mut running: Vec<_> = logs.iter().map(|log| Some(Box::pin(copy(call, log)))).collect();
    rt::block_on(rt::future::poll_fn(|cx| {
        use std::future::Future;
        use std::task::Poll;
        let mut n_left = 0;
        for slot in &mut running {
            let Some(work) = slot else { continue };
            match work.as_mut().poll(cx) {
                Poll::Pending => n_left += 1,
                Poll::Ready(done) => {
                    *slot = None;
                    match done {
                        Err(failure) if !call.is("ignore-errors") => {
                            return Poll::Ready(Err(failure));
                        }
                        Err(failure) => out::tell(&format!("error: {}", failure.text())),
                        Ok(()) => {}
                    }
                }
            }
        }
        if n_left == 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }))
}
