//! The asking side of exec, attach and port-forward: an API server that dials a kubelet, or a command line.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use rt::BoxFuture;
use rt::channel;
use rt::io::{AsyncReadExt, AsyncWriteExt};
use stdx::{Context, Result};
use wire::headers::Headers;

use super::channels::{Channels, Format};
use super::port_forward::{PORT_FORWARD_TUNNEL, PORT_FORWARD_VERSION, PortForwarder};
use super::remote_command::{
    ERROR, RESIZE, SPDY_VERSIONS, STDERR, STDIN, STDOUT, Size, WEBSOCKET_PROTOCOLS, Wanted,
};
use super::{MESSAGE_MAX_BYTES, spdy_headers};
use crate::client::{Client, Endpoint, Upgraded};
use crate::io::{BoxRead, BoxWrite};
use crate::message::{Request, Response};
use crate::spdy::Session;
use crate::websocket::{self, Connected};

/// A `Status` is short; a longer one is cut.
const STATUS_MAX_BYTES: u64 = 64 * 1024;

/// What the streams go over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    WebSocket,
    Spdy,
}

/// The server's answer: what was asked for, or a response that says why not.
#[derive(Debug)]
pub enum Dialed<T> {
    Stream(T),
    Refused(Response),
}

/// A remote command's streams, as the side has them that asked for it.
pub struct Attached {
    /// Closing or dropping it ends the command's input.
    pub stdin: Option<BoxWrite>,
    pub stdout: Option<BoxRead>,
    pub stderr: Option<BoxRead>,
    pub resize: Option<channel::Sender<Size>>,
    pub status: StatusReader,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attached")
    }
}

/// Resolves to the outcome when the command has ended: a `Status` as JSON, or nothing for success in
/// the oldest protocols. Dropping it ends the connection.
pub struct StatusReader {
    status: BoxFuture<'static, Result<Vec<u8>>>,
    _session: Option<Session>,
}

impl StatusReader {
    fn new(error: BoxRead, session: Option<Session>) -> StatusReader {
        let status = Box::pin(async move {
            let mut text = Vec::new();
            let mut error = error.take(STATUS_MAX_BYTES);
            let read = error.read_to_end(&mut text).await;
            read.context(|| "read the outcome of a remote command")?;
            Ok(text)
        });
        StatusReader { status, _session: session }
    }
}

impl Future for StatusReader {
    type Output = Result<Vec<u8>>;
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.status.as_mut().poll(cx)
    }
}

impl fmt::Debug for StatusReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StatusReader")
    }
}

/// Asks for a remote command. `request` has the method, target and credentials; the upgrade's
/// headers are added here.
pub async fn dial_remote_command(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
    wanted: Wanted,
    transport: Transport,
) -> Result<Dialed<Attached>> {
    let wanted = Wanted { stderr: wanted.stderr && !wanted.tty, ..wanted };
    match transport {
        Transport::WebSocket => {
            let offered = &WEBSOCKET_PROTOCOLS[..2];
            let connected =
                websocket::connect(client, endpoint, request, offered, MESSAGE_MAX_BYTES).await?;
            Ok(match connected {
                Connected::Refused(response) => Dialed::Refused(response),
                Connected::Stream { socket, protocol } => {
                    let protocol = protocol.unwrap_or_default();
                    Dialed::Stream(over_websocket(socket, &protocol, wanted))
                }
            })
        }
        Transport::Spdy => {
            spdy_headers(&mut request.headers, SPDY_VERSIONS);
            match client.upgrade(endpoint, request).await? {
                Upgraded::Refused(response) => Ok(Dialed::Refused(response)),
                Upgraded::Stream(_, io) => {
                    Ok(Dialed::Stream(over_spdy(Session::client(io), wanted).await?))
                }
            }
        }
    }
}

fn over_websocket(socket: websocket::WebSocket, protocol: &str, wanted: Wanted) -> Attached {
    let mut channels = Channels::new(Format::of(protocol));
    let stdout = wanted.stdout.then(|| channels.read(STDOUT));
    let stderr = wanted.stderr.then(|| channels.read(STDERR));
    let error = channels.read(ERROR);
    let stdin = wanted.stdin.then(|| channels.write(STDIN, 0));
    let resize = wanted.tty.then(|| sizes(channels.write(RESIZE, 0)));
    // Our side must not close when stdin ends: the outcome is still to come.
    let open = channels.hold();
    drop(channels.start(socket, None));
    let inner = StatusReader::new(error, None).status;
    let status = Box::pin(async move {
        let status = inner.await;
        drop(open);
        status
    });
    let status = StatusReader { status, _session: None };
    Attached { stdin, stdout, stderr, resize, status }
}

async fn over_spdy(session: Session, wanted: Wanted) -> Result<Attached> {
    let open = |kind: &'static str| {
        let headers = Headers::new().with("streamtype", kind);
        let session = &session;
        async move { session.open(&headers).await.context(|| format!("open stream {kind}")) }
    };
    let error = open("error").await?;
    let (mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None);
    if wanted.stdin {
        stdin = Some(Box::new(open("stdin").await?.writer) as BoxWrite);
    }
    if wanted.stdout {
        stdout = Some(Box::new(open("stdout").await?.reader) as BoxRead);
    }
    if wanted.stderr {
        stderr = Some(Box::new(open("stderr").await?.reader) as BoxRead);
    }
    if wanted.tty {
        resize = Some(sizes(Box::new(open("resize").await?.writer)));
    }
    let status = StatusReader::new(Box::new(error.reader), Some(session));
    Ok(Attached { stdin, stdout, stderr, resize, status })
}

/// Writes terminal sizes as JSON.
fn sizes(mut writer: BoxWrite) -> channel::Sender<Size> {
    let (sender, receiver) = channel::bounded::<Size>(1);
    rt::spawn(async move {
        while let Ok(Size { width, height }) = receiver.recv().await {
            let text = format!("{{\"Width\":{width},\"Height\":{height}}}\n");
            if writer.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .detach();
    sender
}

/// Asks for port-forward. The request's target names the pod.
pub async fn dial_port_forward(
    client: &Client,
    endpoint: &Endpoint,
    mut request: Request,
    transport: Transport,
) -> Result<Dialed<PortForwarder>> {
    let io = match transport {
        Transport::Spdy => {
            spdy_headers(&mut request.headers, &[PORT_FORWARD_VERSION]);
            match client.upgrade(endpoint, request).await? {
                Upgraded::Refused(response) => return Ok(Dialed::Refused(response)),
                Upgraded::Stream(_, io) => io,
            }
        }
        Transport::WebSocket => {
            let offered = [PORT_FORWARD_TUNNEL];
            match websocket::connect(client, endpoint, request, &offered, MESSAGE_MAX_BYTES).await?
            {
                Connected::Refused(response) => return Ok(Dialed::Refused(response)),
                Connected::Stream { socket, .. } => socket.into_stream(),
            }
        }
    };
    Ok(Dialed::Stream(PortForwarder::new(Session::client(io))))
}
