//! Request and response heads of HTTP/2: pseudo fields, and the rules a head must obey.

use stdx::Error;
use wire::headers::{Headers, is_token_byte};

/// A request's head.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
}

/// Takes the pseudo fields out of a request's fields.
pub(super) fn request(fields: &Headers) -> Result<RequestHead, &'static str> {
    let (mut method, mut scheme, mut authority, mut path) = (None, None, None, None);
    let headers = split(fields, |name, value| {
        let slot = match name {
            ":method" => &mut method,
            ":scheme" => &mut scheme,
            ":authority" => &mut authority,
            ":path" => &mut path,
            _ => return Err("unknown pseudo field"),
        };
        match slot.replace(value.to_owned()) {
            Some(_) => Err("pseudo field given twice"),
            None => Ok(()),
        }
    })?;
    let is_token = |text: &String| !text.is_empty() && text.bytes().all(is_token_byte);
    let method = method.filter(is_token).ok_or("no proper :method")?;
    let authority = authority.or_else(|| headers.get("host").map(str::to_owned));
    if authority.as_ref().is_some_and(|authority| !authority.bytes().all(|b| b.is_ascii_graphic()))
    {
        return Err("space or control in :authority");
    }
    let target = if method == "CONNECT" {
        if scheme.is_some() || path.is_some() {
            return Err("CONNECT with :scheme or :path");
        }
        authority.clone().ok_or("CONNECT without :authority")?
    } else {
        scheme.ok_or("no :scheme")?;
        path.filter(|path| path.starts_with('/') || path == "*").ok_or("no proper :path")?
    };
    if target.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err("space or control in :path");
    }
    let mut headers = headers;
    if headers.contains("host") {
        headers.remove("host");
    }
    Ok(RequestHead { method, authority: authority.unwrap_or_default(), target, headers })
}

/// Takes the status out of a response's fields.
pub(super) fn response(fields: &Headers) -> Result<(u16, Headers), &'static str> {
    let mut status = None;
    let headers = split(fields, |name, value| match (name, value.parse::<u16>()) {
        (":status", Ok(code)) if status.is_none() && (100..1000).contains(&code) => {
            status = Some(code);
            Ok(())
        }
        _ => Err("bad pseudo field in a response"),
    })?;
    Ok((status.ok_or("no :status")?, headers))
}

/// Trailers hold no pseudo fields.
pub(super) fn trailers(fields: &Headers) -> Result<Headers, &'static str> {
    split(fields, |_, _| Err("pseudo field in trailers"))
}

/// Gives pseudo fields to `pseudo` and returns the others.
fn split(
    fields: &Headers,
    mut pseudo: impl FnMut(&str, &str) -> Result<(), &'static str>,
) -> Result<Headers, &'static str> {
    let mut headers = Headers::new();
    for (name, value) in fields.iter() {
        if name.starts_with(':') {
            if !headers.is_empty() {
                return Err("pseudo field after a regular one");
            }
            pseudo(name, std::str::from_utf8(value).map_err(|_| "pseudo field is not text")?)?;
            continue;
        }
        match name {
            "connection" | "transfer-encoding" | "keep-alive" | "proxy-connection" | "upgrade" => {
                return Err("field that only HTTP/1 has");
            }
            "te" if value != b"trailers" => return Err("te is not trailers"),
            _ => headers.append(name, value),
        }
    }
    Ok(headers)
}

/// The fields of a request to send.
pub(crate) fn request_fields(
    method: &str,
    scheme: &str,
    authority: &str,
    target: &str,
    headers: &Headers,
    length: Option<u64>,
) -> Result<Headers, Error> {
    if target.bytes().any(|b| b <= b' ' || b == 0x7f) || method.is_empty() {
        return Err(Error::new("a request's method or target holds what it must not"));
    }
    let mut fields = Headers::new().with(":method", method);
    if method != "CONNECT" {
        fields.append(":scheme", scheme);
        fields.append(":path", target);
    }
    fields.append(":authority", authority);
    append_regular(&mut fields, headers);
    if let Some(length) = length {
        fields.append("content-length", length.to_string());
    }
    Ok(fields)
}

/// The fields of a response to send.
pub(crate) fn response_fields(status: u16, headers: &Headers) -> Headers {
    let mut fields = Headers::new().with(":status", status.to_string());
    append_regular(&mut fields, headers);
    fields
}

/// Everything but pseudo fields and what HTTP/2 does not have.
pub(super) fn append_regular(fields: &mut Headers, headers: &Headers) {
    for (name, value) in headers.iter() {
        let is_foreign = matches!(
            name,
            "connection"
                | "transfer-encoding"
                | "keep-alive"
                | "proxy-connection"
                | "upgrade"
                | "host"
                | "content-length"
        );
        let is_proper_te = name != "te" || value == b"trailers";
        if !is_foreign && is_proper_te && !name.starts_with(':') {
            fields.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        list.iter().for_each(|(name, value)| headers.append(name, value));
        headers
    }

    #[test]
    fn proper_requests_pass_and_others_do_not() {
        let get =
            [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "h:1")];
        let head = request(&fields(&get)).unwrap();
        assert_eq!((&*head.method, &*head.target, &*head.authority), ("GET", "/a?b", "h:1"));
        let connect = [(":method", "CONNECT"), (":authority", "h:1")];
        assert_eq!(request(&fields(&connect)).unwrap().target, "h:1");
        let cases: [&[(&str, &str)]; 9] = [
            &[(":scheme", "https"), (":path", "/")],
            &[(":method", "G ET"), (":scheme", "https"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "a")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "/ HTTP/1.1")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a b")],
            &[(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/")],
            &[(":method", "GET"), ("a", "b"), (":scheme", "https"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("connection", "close")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("te", "gzip")],
        ];
        for case in cases {
            assert!(request(&fields(case)).is_err(), "{case:?}");
        }
    }

    #[test]
    fn responses_and_trailers() {
        assert_eq!(response(&fields(&[(":status", "204")])).unwrap().0, 204);
        for bad in [&[("a", "b")][..], &[(":status", "x")], &[(":status", "20")], &[(":path", "/")]]
        {
            assert!(response(&fields(bad)).is_err(), "{bad:?}");
        }
        assert!(trailers(&fields(&[("grpc-status", "0")])).is_ok());
        assert!(trailers(&fields(&[(":status", "200")])).is_err());
    }
}
