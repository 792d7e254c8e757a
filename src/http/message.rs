//! Requests and responses, the same on both ends and for every version of HTTP.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use wire::headers::Headers;

use crate::body::{Body, Chunk};
use crate::upgrade::{Upgrade, Upgrading};

/// A request method; methods we do not know keep their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Other(Box<str>),
}

impl Method {
    pub fn as_str(&self) -> &str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
            Method::Connect => "CONNECT",
            Method::Other(name) => name,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "CONNECT" => Method::Connect,
            other => Method::Other(other.into()),
        }
    }
}

impl Method {
    /// Whether a request may be sent twice without harm.
    pub(crate) fn is_safe(&self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// Who is at the other end of a connection.
#[derive(Clone, Default)]
pub struct Peer {
    /// `None` on unix sockets and streams that are not sockets.
    pub address: Option<SocketAddr>,
    /// The local address the connection came in on.
    pub local: Option<SocketAddr>,
    /// The client's verified certificate chain in DER, leaf first; empty if it showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The name that the client's TLS asked for, where somebody looked at it.
    pub server_name: Option<Arc<str>>,
    /// The connection's place among those of its server; `None` where no server accepted it.
    pub place: Option<Arc<crate::places::Place>>,
}

impl Peer {
    /// Says that the peer has shown to be `user`: its connection no longer counts as a stranger's.
    pub fn vouch(&self, user: &str) {
        if let Some(place) = &self.place {
            place.vouch(user.as_bytes());
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({:?}, {} certificates)", self.address, self.certificates.len())
    }
}

/// A request, received or to be sent.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// The path and query as they are on the wire, `/a%20b?c=d`; `host:port` for CONNECT.
    pub target: String,
    /// The `Host` or `:authority`; a client may leave it empty to get the endpoint's.
    pub authority: String,
    /// Without `Host` and without the fields that frame the body, which the connection handles.
    pub headers: Headers,
    pub body: Body,
    pub version: Version,
    pub peer: Peer,
    /// How to turn the connection into a byte stream; `Some` if the client asked for that.
    pub upgrade: Option<Upgrade>,
}

impl Request {
    pub fn new(method: Method, target: impl Into<String>) -> Request {
        Request {
            method,
            target: target.into(),
            authority: String::new(),
            headers: Headers::new(),
            body: Body::empty(),
            version: Version::Http11,
            peer: Peer::default(),
            upgrade: None,
        }
    }

    pub fn get(target: impl Into<String>) -> Request {
        Request::new(Method::Get, target)
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.append(name, value);
        self
    }

    /// A body known as a whole.
    pub fn body(mut self, bytes: impl Into<Chunk>) -> Request {
        self.body = Body::whole(bytes);
        self
    }

    pub fn body_stream(mut self, body: Body) -> Request {
        self.body = body;
        self
    }

    /// The same request once more, if its body is known as a whole.
    pub fn try_clone(&self) -> Option<Request> {
        Some(Request {
            method: self.method.clone(),
            target: self.target.clone(),
            authority: self.authority.clone(),
            headers: self.headers.clone(),
            body: self.body.try_clone()?,
            version: self.version,
            peer: self.peer.clone(),
            upgrade: None,
        })
    }

    /// The path as it is on the wire, percent-encoding included.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// The query as it is on the wire, without the question mark; empty if there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// A response, received or to be sent.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Body,
}

impl Response {
    pub fn new(status: u16) -> Response {
        Response { status, headers: Headers::new(), body: Body::empty() }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Response {
        Response::new(status).header("content-type", "text/plain; charset=utf-8").body(text.into())
    }

    pub fn json(status: u16, bytes: impl Into<Chunk>) -> Response {
        Response::new(status).header("content-type", "application/json").body(bytes)
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response {
        self.headers.append(name, value);
        self
    }

    /// A body known as a whole.
    pub fn body(mut self, bytes: impl Into<Chunk>) -> Response {
        self.body = Body::whole(bytes);
        self
    }

    pub fn body_stream(mut self, body: Body) -> Response {
        self.body = body;
        self
    }
}

impl Upgrade {
    /// The 101 response to return (add headers to it as the protocol wants), and the stream to come.
    pub fn accept(self, protocol: &str) -> (Response, Upgrading) {
        let response =
            Response::new(101).header("connection", "Upgrade").header("upgrade", protocol);
        (response, self.into_stream())
    }
}

/// A Kubernetes `Status` for what the HTTP layer itself must refuse, before any API code is reached.
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> Response {
    let mut escaped = String::new();
    for c in message.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    Response::json(
        code,
        format!(
            "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\
             \"message\":\"{escaped}\",\"reason\":\"{reason}\",\"code\":{code}}}\n"
        ),
    )
}
