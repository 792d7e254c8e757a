//! The accepting side of exec and attach: streams of a command that runs here for somebody far away.

use std::fmt;
use std::pin::Pin;
use std::task::Poll;

use rt::BoxFuture;
use rt::channel;
use rt::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use stdx::{Context, Error, Result};

use super::channels::{Channels, Format};
use super::dial::Attached;
use super::{MESSAGE_MAX_BYTES, STREAMS_MAX_WAIT, accept_spdy, is_spdy_asked_for};
use crate::io::{BoxRead, BoxWrite, copy_to_end};
use crate::message::{Request, Response};
use crate::spdy::{ReadHalf, Session, Stream, WriteHalf};
use crate::upgrade::Upgrading;
use crate::websocket::{self, WebSocket};

/// Channels of the WebSocket protocols.
pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;

/// WebSocket subprotocols, and SPDY versions, best first.
pub(super) const WEBSOCKET_PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
pub(super) const SPDY_VERSIONS: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// Which streams the request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    /// Never with a terminal, where both outputs are one.
    pub stderr: bool,
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

/// A remote command's streams, as the side has them where the command runs.
pub struct RemoteCommand {
    /// Ends when the client says so; fails when it is lost.
    pub stdin: Option<BoxRead>,
    /// Writing fails once the client is gone.
    pub stdout: Option<BoxWrite>,
    pub stderr: Option<BoxWrite>,
    pub resize: Option<channel::Receiver<Size>>,
    /// Resolves when the client is gone, whatever else happens.
    pub hung_up: BoxFuture<'static, ()>,
    finisher: Finisher,
}

struct Finisher {
    /// `None` once the outcome is told.
    error: Option<BoxWrite>,
    /// v4 and v5 tell the outcome as JSON, older ones a failure as text.
    is_json: bool,
    /// Over SPDY: says goodbye when dropped.
    session: Option<Session>,
}

impl Finisher {
    fn text(&self, outcome: &Outcome) -> Vec<u8> {
        if self.is_json { outcome.to_json() } else { outcome.to_text() }
    }
}

impl Drop for Finisher {
    /// A command that is dropped without an outcome has failed; silence would mean success.
    fn drop(&mut self) {
        if let Some(error) = self.error.take() {
            let text = self.text(&Outcome::Failure("the command was lost".to_owned()));
            let session = self.session.take();
            rt::spawn(async move {
                // A client that is gone need not know.
                let _ = tell(error, &text).await;
                drop(session);
            })
            .detach();
        }
    }
}

async fn tell(mut error: BoxWrite, text: &[u8]) -> std::io::Result<()> {
    if !text.is_empty() {
        error.write_all(text).await?;
    }
    error.close().await
}

/// How a remote command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The command ran and exited with this code, which is not zero.
    ExitCode(i32),
    /// The command could not be run.
    Failure(String),
    /// A `Status` as JSON, handed on as it is.
    Json(Vec<u8>),
}

impl Outcome {
    /// As a `Status` object.
    pub fn to_json(&self) -> Vec<u8> {
        match self {
            Outcome::Success => br#"{"metadata":{},"status":"Success"}"#.to_vec(),
            Outcome::ExitCode(code) => format!(
                "{{\"metadata\":{{}},\"status\":\"Failure\",\"message\":\"command terminated with \
                 non-zero exit code: command terminated with exit code {code}\",\
                 \"reason\":\"NonZeroExitCode\",\"details\":{{\"causes\":[{{\"reason\":\"ExitCode\",\
                 \"message\":\"{code}\"}}]}}}}"
            )
            .into_bytes(),
            Outcome::Failure(message) => format!(
                "{{\"metadata\":{{}},\"status\":\"Failure\",\"message\":{},\
                 \"reason\":\"InternalError\",\"details\":{{\"causes\":[{{\"message\":{0}}}]}},\
                 \"code\":500}}",
                quote(message)
            )
            .into_bytes(),
            Outcome::Json(json) => json.clone(),
        }
    }

    /// As the older protocols tell it: nothing, or a message.
    fn to_text(&self) -> Vec<u8> {
        match self {
            Outcome::Success => Vec::new(),
            Outcome::ExitCode(code) => {
                format!("command terminated with exit code {code}").into_bytes()
            }
            Outcome::Failure(message) => message.clone().into_bytes(),
            Outcome::Json(json) => {
                let text = String::from_utf8_lossy(json);
                let is_success = text.contains("\"status\":\"Success\"");
                if is_success { Vec::new() } else { json.clone() }
            }
        }
    }
}

/// A JSON string of any text.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl RemoteCommand {
    /// Tells the outcome and ends the connection, after everything written has been sent. Writers
    /// that were taken out of here must be dropped (or closed) for that.
    pub async fn finish(self, outcome: Outcome) -> Result<()> {
        let RemoteCommand { stdin, stdout, stderr, resize, mut finisher, hung_up: _ } = self;
        for mut writer in [stdout, stderr].into_iter().flatten() {
            // A client that is gone needs no end.
            let _ = writer.close().await;
        }
        let text = finisher.text(&outcome);
        let told = match finisher.error.take() {
            Some(error) => tell(error, &text).await,
            None => Ok(()),
        };
        drop((stdin, resize, finisher));
        told.context(|| "tell the outcome of a remote command")
    }
}

impl fmt::Debug for RemoteCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteCommand")
    }
}

/// An agreed upgrade; the streams follow once the response is written.
#[derive(Debug)]
pub struct AcceptedCommand {
    kind: Kind,
    wanted: Wanted,
}

#[derive(Debug)]
enum Kind {
    WebSocket(websocket::Accepted),
    Spdy(Upgrading, &'static str),
}

/// Agrees to a remote command over WebSocket or SPDY, as the client asks. `Err` refuses.
#[allow(clippy::result_large_err)] // the refusal is a response like any other
pub fn accept_remote_command(
    request: &mut Request,
    wanted: Wanted,
) -> Result<(Response, AcceptedCommand), Response> {
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        let message = "you must specify at least 1 of stdin, stdout, stderr\n";
        return Err(Response::text(400, message));
    }
    let wanted = Wanted { stderr: wanted.stderr && !wanted.tty, ..wanted };
    if websocket::is_asked_for(request) {
        let (response, accepted) =
            websocket::accept(request, &WEBSOCKET_PROTOCOLS, MESSAGE_MAX_BYTES)?;
        return Ok((response, AcceptedCommand { kind: Kind::WebSocket(accepted), wanted }));
    }
    if is_spdy_asked_for(request) {
        let (response, version, upgrading) = accept_spdy(request, SPDY_VERSIONS)?;
        return Ok((response, AcceptedCommand { kind: Kind::Spdy(upgrading, version), wanted }));
    }
    Err(Response::text(400, "unable to upgrade: missing upgrade headers in request\n"))
}

impl AcceptedCommand {
    /// Waits until every stream is there.
    pub async fn streams(self) -> Result<RemoteCommand> {
        match self.kind {
            Kind::WebSocket(accepted) => {
                let protocol = accepted.protocol.clone().unwrap_or_default();
                Ok(over_websocket(accepted.stream().await?, &protocol, self.wanted))
            }
            Kind::Spdy(upgrading, version) => {
                let session = Session::server(upgrading.await?);
                let streams = over_spdy(session, version, self.wanted);
                rt::timeout(STREAMS_MAX_WAIT, streams)
                    .await
                    .context(|| "wait for the streams of a remote command")?
            }
        }
    }
}

fn over_websocket(socket: WebSocket, protocol: &str, wanted: Wanted) -> RemoteCommand {
    let mut channels = Channels::new(Format::of(protocol));
    let stdin = wanted.stdin.then(|| channels.read(STDIN));
    let stdout = wanted.stdout.then(|| channels.write(STDOUT, 0));
    let stderr = wanted.stderr.then(|| channels.write(STDERR, 0));
    // The outcome is told after all output.
    let error = channels.write(ERROR, 1);
    let resize = wanted.tty.then(|| sizes(channels.read(RESIZE)));
    let hello = match (wanted.stdout, wanted.stderr) {
        (true, _) => STDOUT,
        (_, true) => STDERR,
        _ => ERROR,
    };
    let hung_up = channels.start(socket, Some(hello));
    let is_json = protocol.starts_with("v4.") || protocol.starts_with("v5.");
    let finisher = Finisher { error: Some(error), is_json, session: None };
    RemoteCommand { stdin, stdout, stderr, resize, hung_up, finisher }
}

async fn over_spdy(session: Session, version: &str, wanted: Wanted) -> Result<RemoteCommand> {
    let has_resize = wanted.tty && !matches!(version, "channel.k8s.io" | "v2.channel.k8s.io");
    let mut missing = vec!["error"];
    let optional = [
        (wanted.stdin, "stdin"),
        (wanted.stdout, "stdout"),
        (wanted.stderr, "stderr"),
        (has_resize, "resize"),
    ];
    missing.extend(optional.into_iter().filter_map(|(is_wanted, kind)| is_wanted.then_some(kind)));
    let (mut stdin, mut stdout, mut stderr, mut resize, mut error) = (None, None, None, None, None);
    while !missing.is_empty() {
        let stream = session.accept().await;
        let stream = stream.ok_or_else(|| Error::new("the client left before its streams came"))?;
        let kind = stream.headers.get("streamtype").unwrap_or("").to_owned();
        let Some(at) = missing.iter().position(|missing| *missing == kind) else {
            stream.reset();
            continue;
        };
        missing.swap_remove(at);
        let Stream { reader, writer, .. } = stream;
        match &*kind {
            "stdin" => stdin = Some(Box::new(Input { reader, _writer: writer }) as BoxRead),
            "stdout" => stdout = Some(Box::new(writer) as BoxWrite),
            "stderr" => stderr = Some(Box::new(writer) as BoxWrite),
            "resize" => resize = Some(sizes(Box::new(Input { reader, _writer: writer }))),
            _ => error = Some(writer),
        }
    }
    let error = error.ok_or_else(|| Error::new("no error stream"))?;
    let is_json = version == "v4.channel.k8s.io";
    let hung_up = session.watch();
    let finisher = Finisher { error: Some(Box::new(error)), is_json, session: Some(session) };
    Ok(RemoteCommand { stdin, stdout, stderr, resize, hung_up, finisher })
}

/// A stream that only the client writes. Our half stays open as long as the other is read: clients
/// take its end for the end of the command's interest in input.
struct Input {
    reader: ReadHalf,
    _writer: WriteHalf,
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

/// Terminal sizes out of a stream of `{"Width":80,"Height":24}`. A size nobody took yet is replaced.
fn sizes(mut reader: BoxRead) -> channel::Receiver<Size> {
    let (sender, receiver) = channel::bounded(1);
    let old = receiver.clone();
    rt::spawn(async move {
        let (mut text, mut buffer) = (Vec::new(), [0u8; 256]);
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            text.extend_from_slice(&buffer[..n]);
            while let Some(end) = text.iter().position(|&b| b == b'}') {
                if let Some(size) = parse_size(&text[..end]) {
                    let _ = old.try_recv();
                    if sender.try_send(size).is_err() {
                        return;
                    }
                }
                text.drain(..=end);
            }
            if text.len() > 1024 {
                return;
            }
            // Two receivers are ours and the user's: without the user's nobody listens.
            if sender.receiver_count() < 2 {
                return;
            }
        }
    })
    .detach();
    receiver
}

fn parse_size(text: &[u8]) -> Option<Size> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let number = |key: &str| {
        let rest = text.split_once(key)?.1.trim_start().strip_prefix(':')?.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Size { width: number("\"width\"")?, height: number("\"height\"")? })
}

/// Joins an accepted command with one that was dialled: an API server between client and kubelet.
/// Returns when the command has ended on the far side or either side is gone.
pub async fn proxy(mut near: RemoteCommand, mut far: Attached) -> Result<()> {
    let outputs = async {
        let copy = |from: Option<BoxRead>, to: Option<BoxWrite>| async move {
            if let (Some(from), Some(to)) = (from, to) {
                let _ = copy_to_end(from, to).await;
            }
        };
        rt::future::zip(
            copy(far.stdout.take(), near.stdout.take()),
            copy(far.stderr.take(), near.stderr.take()),
        )
        .await;
        far.status.await
    };
    let (stdin, far_stdin) = (near.stdin.take(), far.stdin.take());
    let (resize, far_resize) = (near.resize.take(), far.resize.take());
    let inputs = async {
        let copy_stdin = async {
            if let (Some(from), Some(to)) = (stdin, far_stdin) {
                let _ = copy_to_end(from, to).await;
            }
        };
        let copy_sizes = async {
            if let (Some(from), Some(to)) = (resize, far_resize) {
                while let Ok(size) = from.recv().await {
                    let _ = to.send(size).await;
                }
            }
        };
        rt::future::zip(copy_stdin, copy_sizes).await;
        rt::future::pending().await
    };
    let hung_up = async {
        (&mut near.hung_up).await;
        Err(Error::new("the client is gone"))
    };
    let outcome = match rt::future::or(rt::future::or(outputs, inputs), hung_up).await {
        Ok(json) if json.is_empty() => Outcome::Success,
        Ok(json) => Outcome::Json(json),
        Err(error) => Outcome::Failure(error.to_string()),
    };
    near.finish(outcome).await
}
