//! Standard input, output and error of a command in a container.

use std::io::{IsTerminal, Read, Write};

use api::{Lens, Value};
use http::Method;
use http::streams::{Attached, Dialed, Size, Transport, Wanted, dial_remote_command};
use rt::io::{AsyncReadExt, AsyncWriteExt};

use crate::call::Call;
use crate::failure::{Failure, Outcome, failed};
use crate::out;
use crate::rest::Rest;

const BUFFER_BYTES: usize = 32 << 10;
/// What a server says that does not open streams.
const REFUSAL_MAX_BYTES: usize = 64 << 10;

/// Opens the streams of `target`, a subresource of a pod with its query, and copies until the command ends.
///
/// # Errors
/// What the server says; a command that ended with a code gives that as the exit code.
pub(crate) fn run(call: &Call<'_>, target: &str, wanted: Wanted) -> Outcome {
    rt::block_on(async { copy(open(call, target, wanted).await?, wanted).await })
}

/// Opens the streams of `target`.
///
/// # Errors
/// What the server says.
pub(crate) async fn open(call: &Call<'_>, target: &str, wanted: Wanted) -> Outcome<Attached> {
    let rest = call.rest()?;
    let is_websocket = call.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS") != "false";
    if let Some(attached) = dial(rest, target, wanted, is_websocket).await? {
        return Ok(attached);
    }
    match dial(rest, target, wanted, false).await? {
        Some(attached) => Ok(attached),
        None => failed("unable to upgrade connection: the server refused it"),
    }
}

/// Dials once; `None` where the server does not know WebSockets for this.
async fn dial(
    rest: &Rest,
    target: &str,
    wanted: Wanted,
    is_websocket: bool,
) -> Outcome<Option<Attached>> {
    let (method, transport) = match is_websocket {
        true => (Method::Get, Transport::WebSocket),
        false => (Method::Post, Transport::Spdy),
    };
    let request = rest.request(method, target, "application/json, */*", None);
    let (endpoint, request) = rest.raw.prepared(request).await;
    let dialed = dial_remote_command(rest.raw.http(), &endpoint, request, wanted, transport).await;
    match dialed.map_err(|error| rest.unreachable(&error))? {
        Dialed::Stream(attached) => Ok(Some(attached)),
        Dialed::Refused(response)
            if is_websocket && !matches!(response.status, 401 | 403 | 404) =>
        {
            // An older server has POST only.
            match response.status {
                400 => Err(refused(response).await),
                _ => Ok(None),
            }
        }
        Dialed::Refused(response) => Err(refused(response).await),
    }
}

async fn refused(mut response: http::Response) -> Failure {
    let code = response.status;
    let bytes = response.body.read_all(REFUSAL_MAX_BYTES).await.unwrap_or_default();
    if let Ok(tree) = serde_json::from_slice::<Value>(&bytes)
        && tree.str("kind") == "Status"
    {
        return Failure::Status(tree);
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Failure::Message(match text.is_empty() {
        true => format!("unable to upgrade connection: the server answered {code}"),
        false => format!("unable to upgrade connection: {text}"),
    })
}

async fn copy(mut attached: Attached, wanted: Wanted) -> Outcome {
    let raw = if wanted.tty { rt::terminal::Raw::begin() } else { None };
    if let Some(stdin) = attached.stdin.take() {
        rt::spawn(copy_input(stdin)).detach();
    }
    if let Some(resize) = attached.resize.take() {
        rt::spawn(async move {
            if let Some((width, height)) = rt::terminal::size() {
                let _ = resize.send(Size { width, height }).await;
            }
            loop {
                rt::terminal::resized().await;
                let Some((width, height)) = rt::terminal::size() else { continue };
                if resize.send(Size { width, height }).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
    let stdout = attached.stdout.take().map(|reader| rt::spawn(copy_output(reader, false)));
    let stderr = attached.stderr.take().map(|reader| rt::spawn(copy_output(reader, true)));
    let status = attached.status.await;
    for task in [stdout, stderr].into_iter().flatten() {
        task.await;
    }
    drop(raw);
    outcome(&status.map_err(|error| Failure::Message(error.to_string()))?)
}

/// Standard input, read by a thread for it may wait for ever.
async fn copy_input(mut stdin: http::io::BoxWrite) {
    loop {
        let read = rt::unblock(|| {
            let mut buffer = vec![0; BUFFER_BYTES];
            let n = std::io::stdin().lock().read(&mut buffer).unwrap_or(0);
            buffer.truncate(n);
            buffer
        })
        .await;
        if read.is_empty() || stdin.write_all(&read).await.is_err() || stdin.flush().await.is_err()
        {
            let _ = stdin.close().await;
            return;
        }
    }
}

async fn copy_output(mut reader: http::io::BoxRead, is_error: bool) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        match is_error {
            true => drop(std::io::stderr().lock().write_all(&buffer[..n])),
            false => out::bytes(&buffer[..n]),
        }
    }
}

/// What a command's end means.
pub(crate) fn outcome(status: &[u8]) -> Outcome {
    let Ok(tree) = serde_json::from_slice::<Value>(status) else {
        return match String::from_utf8_lossy(status).trim() {
            "" => Ok(()),
            text => failed(text),
        };
    };
    if tree.str("status") == "Success" {
        return Ok(());
    }
    if tree.str("reason") == "NonZeroExitCode" {
        let code =
            tree.list("details.causes").iter().find(|cause| cause.str("reason") == "ExitCode");
        let code = code.and_then(|cause| cause.str("message").parse::<u8>().ok()).unwrap_or(1);
        out::tell(&format!("command terminated with exit code {code}"));
        return Err(Failure::Exit(code));
    }
    match tree.str("message") {
        "" => failed("the remote command failed"),
        // As upstream, that does not tell who says it.
        message => failed(message),
    }
}

/// Whether a terminal can be had: both ends must be one.
pub(crate) fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// What the query of an attach says of the streams.
pub(crate) fn query(wanted: Wanted) -> String {
    let all = [
        (wanted.stderr, "stderr"),
        (wanted.stdin, "stdin"),
        (wanted.stdout, "stdout"),
        (wanted.tty, "tty"),
    ];
    all.iter().filter(|(is_on, _)| *is_on).map(|(_, name)| format!("&{name}=true")).collect()
}
