//! An HTTP/1 request head, judged: what the service gets, and what its connection must do for it.

use wire::http1::{self as codec, BodyDecoder, Framing, Http1Error};

use super::Shared;
use crate::body::{Body, Sender};
use crate::io::Io;
use crate::message::{Method, Peer, Request, Version};
use crate::upgrade::Upgrade;

/// Bytes of a request body that wait for the service to read them.
const BODY_BUFFERED_MAX_BYTES: usize = 32 * 1024;

/// Why the HTTP layer itself refuses a request.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
}

impl From<Http1Error> for Refused {
    fn from(error: Http1Error) -> Refused {
        let status = match error {
            Http1Error::Malformed(_) => 400,
            Http1Error::TooLarge => 431,
            Http1Error::Unsupported(_) => 501,
        };
        Refused { status, message: error.to_string() }
    }
}

/// A request as its head tells, and what its connection must do for it.
pub(super) struct Incoming {
    pub(super) request: Request,
    pub(super) decoder: BodyDecoder,
    pub(super) sender: Sender,
    pub(super) upgrade: Option<rt::channel::Sender<Io>>,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) body_max_bytes: u64,
}

impl Incoming {
    pub(super) fn new(
        head: codec::RequestHead,
        shared: &Shared,
        peer: &Peer,
    ) -> Result<Incoming, Refused> {
        let framing = codec::request_framing(&head.headers, head.minor)?;
        let is_http10 = head.minor == 0;
        let mut headers = head.headers;
        let method = Method::from(&*head.method);
        let hosts = headers.get_all("host").count();
        if hosts > 1 || (hosts == 0 && !is_http10) {
            return Err(Http1Error::Malformed("not exactly one host").into());
        }
        let mut authority = headers.get("host").unwrap_or("").to_owned();
        if !authority.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Http1Error::Malformed("host").into());
        }
        let target = match origin_form(&head.target, &method) {
            Some((target, None)) => target,
            Some((target, Some(host))) => {
                authority = host;
                target
            }
            None => return Err(Http1Error::Malformed("request target").into()),
        };
        let body_max_bytes = shared.service.body_max_bytes(&method, &target, &shared.limits);
        if matches!(framing, Framing::Length(n) if n > body_max_bytes) {
            let message = format!("the request's body is larger than {body_max_bytes} bytes");
            return Err(Refused { status: 413, message });
        }
        let keep_alive = match is_http10 {
            true => headers.has_token("connection", "keep-alive"),
            false => !headers.has_token("connection", "close"),
        };
        let expects_continue = !is_http10
            && framing != Framing::Length(0)
            && headers.has_token("expect", "100-continue");
        let upgrades = !is_http10
            && ((headers.has_token("connection", "upgrade") && headers.contains("upgrade"))
                || method == Method::Connect);
        let upgrade = upgrades.then(Upgrade::new);
        for name in ["host", "expect", "transfer-encoding", "content-length", "keep-alive"] {
            if headers.contains(name) {
                headers.remove(name);
            }
        }
        let (sender, body) = Body::incoming(BODY_BUFFERED_MAX_BYTES);
        let length = match framing {
            Framing::Length(n) => Some(n),
            _ => None,
        };
        let body = if length == Some(0) { Body::empty() } else { body.with_length(length) };
        let upgrade_sender = upgrade.as_ref().map(|upgrade| upgrade.sender.clone());
        let version = if is_http10 { Version::Http10 } else { Version::Http11 };
        let peer = peer.clone();
        Ok(Incoming {
            request: Request { method, target, authority, headers, body, version, peer, upgrade },
            decoder: BodyDecoder::new(framing),
            sender,
            upgrade: upgrade_sender,
            keep_alive,
            expects_continue,
            body_max_bytes,
        })
    }
}

/// The path and query of a request target, and the authority if it holds one.
fn origin_form(target: &str, method: &Method) -> Option<(String, Option<String>)> {
    if *method == Method::Connect {
        return Some((target.to_owned(), Some(target.to_owned())));
    }
    if target.starts_with('/') || target == "*" {
        return Some((target.to_owned(), None));
    }
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let path = match &rest[end..] {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    Some((path, Some(rest[..end].to_owned())))
}
