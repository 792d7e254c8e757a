//! The fields of a request as its endpoint sees them, and of an answer as its client does.

use http::{Headers, Peer};

use crate::flags::EntryPoint;

/// Fields that belong to one connection.
fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields in which proxies tell whose request they pass on. Some programs read underscores as dashes.
pub(crate) fn is_forwarded(name: &str) -> bool {
    let is = |name: &str| {
        name == "x-real-ip"
            || name == "x-scheme"
            || name == "forwarded"
            || name.strip_prefix("x-forwarded-").is_some_and(|rest| {
                matches!(
                    rest,
                    "for"
                        | "proto"
                        | "host"
                        | "port"
                        | "server"
                        | "uri"
                        | "method"
                        | "prefix"
                        | "scheme"
                ) || rest.starts_with("tls-client-cert")
            })
    };
    is(name) || (name.contains('_') && is(&name.replace('_', "-")))
}

/// Where a request came in, for the fields that tell it.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) entry: &'a EntryPoint,
    pub(crate) peer: &'a Peer,
    /// As the client sent it.
    pub(crate) authority: &'a str,
    /// The protocol that the connection is to change to; "" for none.
    pub(crate) upgrade: &'a str,
    pub(crate) hostname: &'a str,
}

/// The fields to send on.
pub(crate) fn request(headers: &Headers, origin: &Origin<'_>) -> Headers {
    let peer = origin.peer.address.map(|address| address.ip().to_canonical());
    let trusted = origin.entry.trusts(peer);
    let named = named_hops(headers);
    let mut out = Headers::new();
    let mut forwarded_for = String::new();
    for (name, value) in headers.iter() {
        if is_hop(name) {
            if name == "te" && headers.has_token("te", "trailers") {
                out.set("te", "trailers");
            }
            continue;
        }
        if is_forwarded(name) {
            if !trusted {
                continue;
            }
            if name == "x-forwarded-for" {
                join(&mut forwarded_for, &String::from_utf8_lossy(value));
                continue;
            }
        } else if named.iter().any(|hop| hop == name) {
            continue;
        }
        out.append(name, value);
    }
    let websocket = origin.upgrade.eq_ignore_ascii_case("websocket");
    let proto = match (origin.peer.tls, websocket) {
        (false, false) => "http",
        (true, false) => "https",
        (false, true) => "ws",
        (true, true) => "wss",
    };
    let absent = |out: &mut Headers, name: &str, value: &str| {
        if !out.contains(name) {
            out.append(name, value);
        }
    };
    absent(&mut out, "x-forwarded-proto", proto);
    absent(&mut out, "x-forwarded-port", port(origin.authority, origin.peer.tls));
    absent(&mut out, "x-forwarded-host", origin.authority);
    if let Some(peer) = peer.map(|peer| peer.to_string()) {
        absent(&mut out, "x-real-ip", &peer);
        join(&mut forwarded_for, &peer);
    }
    if !forwarded_for.is_empty() {
        out.append("x-forwarded-for", &forwarded_for);
    }
    out.set("x-forwarded-server", origin.hostname);
    if !origin.upgrade.is_empty() {
        out.append("connection", "Upgrade");
        out.append("upgrade", origin.upgrade);
    }
    out
}

/// The fields of an answer to pass back.
pub(crate) fn response(headers: Headers) -> Headers {
    let named = named_hops(&headers);
    // Most answers have none.
    if named.is_empty() && !headers.iter().any(|(name, _)| is_hop(name)) {
        return headers;
    }
    let mut headers = headers;
    headers.retain(|name, _| !is_hop(name) && !named.iter().any(|hop| hop == name));
    headers
}

/// The fields that `Connection` names.
fn named_hops(headers: &Headers) -> Vec<String> {
    let names = headers.get_all("connection").flat_map(|value| value.split(','));
    names.map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn join(list: &mut String, item: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(item);
}

fn port(authority: &str, tls: bool) -> &str {
    let after_address = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    match after_address.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => port,
        _ if tls => "443",
        _ => "80",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Options;

    fn sent_on(headers: &Headers, trusted: &str, tls: bool, upgrade: &str) -> Headers {
        let flag = format!("--entrypoints.web.forwardedheaders.trustedips={trusted}");
        let options = Options::parse(&[flag]).unwrap();
        let peer = Peer { address: "[::ffff:192.0.2.7]:99".parse().ok(), tls, ..Peer::default() };
        let origin = Origin {
            entry: &options.web,
            peer: &peer,
            authority: "x.org:8080",
            upgrade,
            hostname: "pod",
        };
        request(headers, &origin)
    }

    #[test]
    fn nobody_is_believed_but_who_is_trusted() {
        let claims = Headers::new()
            .with("x-forwarded-for", "1.1.1.1")
            .with("x_forwarded_for", "2.2.2.2")
            .with("x-forwarded-proto", "https")
            .with("x-real-ip", "3.3.3.3")
            .with("accept", "a");
        let sent = sent_on(&claims, "", false, "");
        let get = |name: &str| sent.get(name).unwrap_or("").to_owned();
        assert_eq!(get("x-forwarded-for"), "192.0.2.7");
        assert_eq!(get("x_forwarded_for"), "");
        assert_eq!(
            (get("x-forwarded-proto"), get("x-real-ip")),
            ("http".into(), "192.0.2.7".into())
        );
        assert_eq!(
            (get("x-forwarded-host"), get("x-forwarded-port")),
            ("x.org:8080".into(), "8080".into())
        );
        assert_eq!((get("x-forwarded-server"), get("accept")), ("pod".into(), "a".into()));
        let sent = sent_on(&claims, "192.0.2.0/24", false, "");
        assert_eq!(sent.get("x-forwarded-for"), Some("1.1.1.1, 192.0.2.7"));
        assert_eq!(sent.get("x-forwarded-proto"), Some("https"));
        assert_eq!(sent.get("x-real-ip"), Some("3.3.3.3"));
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let headers = Headers::new()
            .with("connection", "keep-alive, X-Secret, x-forwarded-for")
            .with("keep-alive", "timeout=5")
            .with("x-secret", "1")
            .with("te", "gzip, trailers")
            .with("upgrade", "h2c")
            .with("proxy-connection", "close");
        let sent = sent_on(&headers, "", true, "");
        for gone in ["connection", "keep-alive", "x-secret", "upgrade", "proxy-connection"] {
            assert!(!sent.contains(gone), "{gone}");
        }
        assert_eq!(sent.get("te"), Some("trailers"));
        assert_eq!(sent.get("x-forwarded-for"), Some("192.0.2.7"), "it cannot be asked away");
        let sent = sent_on(&headers, "", true, "websocket");
        assert_eq!(sent.get("x-forwarded-proto"), Some("wss"));
        assert_eq!(
            (sent.get("connection"), sent.get("upgrade")),
            (Some("Upgrade"), Some("websocket"))
        );
        let back =
            response(Headers::new().with("connection", "x-y").with("x-y", "1").with("z", "2"));
        assert_eq!(back.iter().collect::<Vec<_>>(), [("z", &b"2"[..])]);
    }
}
