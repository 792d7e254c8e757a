//! Gateway API's filters at work: what they do to a request, and to its answer.

use http::{Headers, Request, Response};
use routes::{Modify, Redirect, Rewrite};

use crate::forward::{is_framing, plain};
use crate::passage::{Passage, query_of, set_target};

/// Changes the fields of a request: what is set or taken away in what the endpoint gets, after what we add.
pub(crate) fn modify(modify: &Modify, request: &mut Request, passage: &mut Passage) {
    for name in &modify.remove {
        passage.fields.push((name.clone(), String::new()));
    }
    passage.fields.extend(modify.set.iter().cloned());
    for (name, value) in modify.add.iter().filter(|(name, _)| !is_framing(name)) {
        // What was set before takes the place of what is there.
        match passage.fields.iter_mut().rfind(|(known, _)| known == name) {
            Some((_, known)) if known.is_empty() => known.clone_from(value),
            Some((_, known)) => {
                known.push(',');
                known.push_str(value);
            }
            None => request.headers.append(name, value),
        }
    }
}

pub(crate) fn modify_response(modify: &Modify, headers: &mut Headers) {
    let free = |name: &str| !is_framing(name);
    for name in modify.remove.iter().filter(|name| free(name)) {
        headers.remove(name);
    }
    for (name, value) in modify.set.iter().filter(|(name, _)| free(name)) {
        headers.set(name, value);
    }
    for (name, value) in modify.add.iter().filter(|(name, _)| free(name)) {
        headers.append(name, value);
    }
}

pub(crate) fn redirect(to: &Redirect, request: &Request, passage: &Passage) -> Response {
    let own = if passage.secure { "https" } else { "http" };
    let scheme = to.scheme.as_deref().unwrap_or(own);
    let known = |scheme: &str| if scheme == "https" { 443 } else { 80 };
    let port = match (to.port, &to.scheme) {
        (Some(port), _) => port,
        (None, Some(scheme)) => known(scheme),
        (None, None) => to.listener_port,
    };
    let host = to.hostname.as_deref().unwrap_or(&passage.host);
    let host = http::client::authority(host, Some(port).filter(|port| *port != known(scheme)));
    let path = match &to.path {
        Some(change) => change.apply(request.path()),
        None => request.path().to_owned(),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let location = format!("{scheme}://{host}{slash}{path}{}", query_of(&request.target));
    plain(to.status, wire::http1::reason(to.status)).header("location", location)
}

pub(crate) fn rewrite(rewrite: &Rewrite, request: &mut Request, passage: &mut Passage) {
    if let Some(hostname) = &rewrite.hostname {
        passage.fields.push(("host".into(), hostname.clone()));
    }
    if let Some(change) = &rewrite.path {
        let target = change.apply(request.path()) + query_of(&request.target);
        set_target(request, target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routes::Change;

    fn request(target: &str) -> (Request, Passage) {
        let mut request = Request::get(target);
        request.authority = "x.test".into();
        let passage = Passage::new(&request, "x.test", false);
        (request, passage)
    }

    fn prefix(matched: &str, with: &str) -> Option<Change> {
        Some(Change::Prefix { matched: matched.into(), with: with.into() })
    }

    #[test]
    fn redirects_say_where_to() {
        let to = |scheme: Option<&str>, port, path, status| Redirect {
            scheme: scheme.map(Into::into),
            hostname: None,
            port,
            path,
            status,
            listener_port: 8081,
        };
        for (redirect, location) in [
            (to(None, None, None, 302), "http://x.test:8081/a/b?q"),
            (to(Some("https"), None, None, 301), "https://x.test/a/b?q"),
            (to(Some("https"), Some(8443), None, 301), "https://x.test:8443/a/b?q"),
            (to(None, Some(80), None, 301), "http://x.test/a/b?q"),
            (to(None, Some(80), prefix("/a", "/z/"), 301), "http://x.test/z/b?q"),
            (to(None, Some(80), prefix("/a/b", "/"), 301), "http://x.test/?q"),
            (to(None, Some(80), prefix("", "/z"), 301), "http://x.test/z/a/b?q"),
            (to(None, Some(80), Some(Change::Full("/f".into())), 301), "http://x.test/f?q"),
        ] {
            let (request, passage) = request("/a/b?q");
            let answer = super::redirect(&redirect, &request, &passage);
            assert_eq!(answer.headers.get("location"), Some(location), "{redirect:?}");
            assert_eq!(answer.status, redirect.status);
        }
    }

    #[test]
    fn fields_are_set_added_and_taken_away() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect::<Vec<_>>()
        };
        let first = Modify {
            set: pairs(&[("x-set", "1")]),
            add: pairs(&[("x-add", "1"), ("content-length", "9")]),
            remove: vec!["x-gone".into()],
        };
        let second = Modify { add: pairs(&[("x-set", "2"), ("x-gone", "3")]), ..Modify::default() };
        let (mut request, mut passage) = request("/");
        request.headers.append("x-add", "0");
        modify(&first, &mut request, &mut passage);
        modify(&second, &mut request, &mut passage);
        assert_eq!(request.headers.get_all("x-add").collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(passage.fields, pairs(&[("x-gone", "3"), ("x-set", "1,2")]));
        assert!(!request.headers.contains("content-length"));
        let mut headers = Headers::new().with("x-gone", "1").with("x-add", "0").with("x-set", "0");
        modify_response(&first, &mut headers);
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("x-add", &b"0"[..]), ("x-set", b"1"), ("x-add", b"1")]);
    }

    #[test]
    fn rewrites_keep_the_query() {
        let rewrite = |path| Rewrite { hostname: Some("in.test".into()), path };
        let (mut request, mut passage) = request("/a/b?q");
        super::rewrite(&rewrite(prefix("/a", "/")), &mut request, &mut passage);
        assert_eq!(request.target, "/b?q");
        assert_eq!(passage.fields, [("host".into(), "in.test".into())]);
    }
}
