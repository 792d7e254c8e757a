//! Port-forward: pairs of a data and an error stream for each connection to a port of a pod.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rt::io::AsyncWriteExt;
use stdx::{Context, Error, Result};
use wire::headers::Headers;

use super::channels::{Channels, Format};
use super::{MESSAGE_MAX_BYTES, STREAMS_MAX_WAIT, accept_spdy, is_spdy_asked_for};
use crate::io::{BoxRead, BoxWrite};
use crate::message::{Request, Response};
use crate::spdy::{Session, Stream};
use crate::upgrade::Upgrading;
use crate::websocket;

pub(super) const PORT_FORWARD_VERSION: &str = "portforward.k8s.io";
pub(super) const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// The old protocols, where the ports are in the query and each has two channels.
const CHANNEL_PROTOCOLS: [&str; 2] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
/// Streams whose other half has not come yet.
const HALVES_MAX: usize = 64;

/// One connection to be made to a port.
pub struct Forward {
    pub port: u16,
    /// From the client to the port.
    pub reader: BoxRead,
    /// From the port to the client.
    pub writer: BoxWrite,
    /// For a message about what went wrong; dropped, it says that nothing did.
    pub error: BoxWrite,
    /// Over SPDY: keeps the session for as long as any of its connections is in use.
    _session: Option<Arc<Session>>,
}

impl Forward {
    /// Copies between the client and `target` until both directions have ended; over channels, where a client cannot say
    /// that it sends no more, until `target` has.
    pub async fn run(self, target: crate::io::Io) -> Result<()> {
        let (read, write) = rt::io::split(target);
        let Forward { reader, writer, mut error, _session, .. } = self;
        let sent = crate::io::copy_to_end(reader, write);
        let answered = crate::io::copy_to_end(read, writer);
        let copied = match _session {
            Some(_) => rt::future::try_zip(sent, answered).await.map(drop),
            None => {
                let sent = async {
                    sent.await?;
                    rt::future::pending().await
                };
                rt::future::or(sent, answered).await.map(drop)
            }
        };
        let _ = error.close().await;
        copied.context(|| "forward a port")
    }

    /// Tells the client why the connection could not be made.
    pub async fn fail(mut self, message: &str) -> Result<()> {
        let tell = async {
            self.error.write_all(message.as_bytes()).await?;
            self.error.close().await
        };
        tell.await.context(|| "tell a client about a failed port-forward")
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forward(port {})", self.port)
    }
}

/// An agreed upgrade; the connections follow once the response is written.
#[derive(Debug)]
pub struct AcceptedPortForward(Kind);

#[derive(Debug)]
enum Kind {
    Spdy(Upgrading),
    Tunnel(websocket::Accepted),
    Channels(websocket::Accepted, Vec<u16>),
}

/// Agrees to port-forward as the client asks: SPDY, SPDY inside a WebSocket, or the old channels, for
/// which `ports` are those of the query. `Err` refuses.
#[allow(clippy::result_large_err)] // the refusal is a response like any other
pub fn accept_port_forward(
    request: &mut Request,
    ports: &[u16],
) -> Result<(Response, AcceptedPortForward), Response> {
    if websocket::is_asked_for(request) {
        let offered = [PORT_FORWARD_TUNNEL, CHANNEL_PROTOCOLS[0], CHANNEL_PROTOCOLS[1]];
        let (response, accepted) = websocket::accept(request, &offered, MESSAGE_MAX_BYTES)?;
        if accepted.protocol.as_deref() == Some(PORT_FORWARD_TUNNEL) {
            return Ok((response, AcceptedPortForward(Kind::Tunnel(accepted))));
        }
        // Channel numbers are bytes, two a port.
        if ports.is_empty() || ports.len() > 100 || ports.contains(&0) {
            return Err(Response::text(400, "query parameter \"port\" is required\n"));
        }
        return Ok((response, AcceptedPortForward(Kind::Channels(accepted, ports.to_vec()))));
    }
    if is_spdy_asked_for(request) {
        let (response, _, upgrading) = accept_spdy(request, &[PORT_FORWARD_VERSION])?;
        return Ok((response, AcceptedPortForward(Kind::Spdy(upgrading))));
    }
    Err(Response::text(400, "unable to upgrade: missing upgrade headers in request\n"))
}

impl AcceptedPortForward {
    /// Waits for the upgraded stream.
    pub async fn connections(self) -> Result<PortForward> {
        let io = match self.0 {
            Kind::Spdy(upgrading) => upgrading.await?,
            Kind::Tunnel(accepted) => accepted.stream().await?.into_stream(),
            Kind::Channels(accepted, ports) => {
                let format = Format::of(accepted.protocol.as_deref().unwrap_or(""));
                let ready = over_channels(accepted.stream().await?, format, &ports).await?;
                return Ok(PortForward { session: None, halves: Vec::new(), ready });
            }
        };
        let session = Some(Arc::new(Session::server(io)));
        Ok(PortForward { session, halves: Vec::new(), ready: Vec::new() })
    }
}

/// Each port has a data and an error channel, and each channel begins with the port's number.
async fn over_channels(
    socket: websocket::WebSocket,
    format: Format,
    ports: &[u16],
) -> Result<Vec<Forward>> {
    let mut channels = Channels::new(format);
    let mut forwards = Vec::new();
    for (port, channel) in ports.iter().copied().zip((0u8..).step_by(2)) {
        let reader = channels.read(channel);
        let writer = channels.write(channel, 0);
        let error = channels.write(channel + 1, 0);
        forwards.push(Forward { port, reader, writer, error, _session: None });
    }
    // Ends by itself when the client or all of the connections have.
    drop(channels.start(socket, None));
    for forward in &mut forwards {
        let number = forward.port.to_le_bytes();
        forward.writer.write_all(&number).await.context(|| "name a forwarded port")?;
        forward.error.write_all(&number).await.context(|| "name a forwarded port")?;
    }
    forwards.reverse();
    Ok(forwards)
}

/// The connections a client asks for, one after the other.
pub struct PortForward {
    session: Option<Arc<Session>>,
    /// Streams without their other half, by request: whether it is the error stream.
    halves: Vec<Half>,
    /// Connections that are there from the start, last first.
    ready: Vec<Forward>,
}

struct Half {
    request: String,
    port: u16,
    is_error: bool,
    stream: Stream,
    since: stdx::time::Mono,
}

impl PortForward {
    /// The next connection; `None` when the client asks for no more.
    pub async fn next(&mut self) -> Option<Forward> {
        if let Some(forward) = self.ready.pop() {
            return Some(forward);
        }
        let session = Arc::clone(self.session.as_ref()?);
        loop {
            let stream = session.accept().await?;
            let kind = stream.headers.get("streamtype").unwrap_or("");
            let port = stream.headers.get("port").and_then(|port| port.parse::<u16>().ok());
            let (Some(port), "data" | "error") = (port.filter(|port| *port != 0), kind) else {
                stream.reset();
                continue;
            };
            let is_error = kind == "error";
            // Clients from before request identifiers open one pair after the other.
            let request = stream.headers.get("requestid").unwrap_or("").to_owned();
            let now = rt::now().mono;
            self.halves.retain(|half| now.since(half.since) < STREAMS_MAX_WAIT);
            let other = self.halves.iter().position(|half| {
                half.request == request && half.port == port && half.is_error != is_error
            });
            let half = Half { request, port, is_error, stream, since: now };
            match other {
                Some(at) => return Some(pair(self.halves.swap_remove(at), half, &session)),
                None if self.halves.len() >= HALVES_MAX => half.stream.reset(),
                None => self.halves.push(half),
            }
        }
    }
}

fn pair(a: Half, b: Half, session: &Arc<Session>) -> Forward {
    let (error, data) = if a.is_error { (a, b) } else { (b, a) };
    Forward {
        port: data.port,
        reader: Box::new(data.stream.reader),
        writer: Box::new(data.stream.writer),
        error: Box::new(error.stream.writer),
        _session: Some(Arc::clone(session)),
    }
}

impl fmt::Debug for PortForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortForward")
    }
}

/// The asking side: opens connections to ports.
#[derive(Debug)]
pub struct PortForwarder {
    session: Session,
    next_request: AtomicU64,
}

impl PortForwarder {
    pub(super) fn new(session: Session) -> PortForwarder {
        PortForwarder { session, next_request: AtomicU64::new(0) }
    }

    /// Opens a connection: what to read from it, what to write to it, and where errors are told.
    pub async fn open(&self, port: u16) -> Result<(BoxRead, BoxWrite, BoxRead)> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let headers = |kind: &str| {
            Headers::new()
                .with("streamtype", kind)
                .with("port", port.to_string())
                .with("requestid", request.to_string())
        };
        let what = || format!("open a connection to port {port}");
        let mut error = self.session.open(&headers("error")).await.context(what)?;
        // Nothing is written to the error stream from here.
        error.writer.close().await.context(what)?;
        let data = self.session.open(&headers("data")).await.context(what)?;
        Ok((Box::new(data.reader), Box::new(data.writer), Box::new(error.reader)))
    }

    /// Fails when the session is over.
    pub async fn ended(&self) -> Error {
        self.session.watch().await;
        Error::new("the port-forward session is over")
    }
}
