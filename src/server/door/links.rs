//! Links and redirects of what is behind a proxy: they stay below the proxy, as upstream's `proxy.Transport` has it.

use std::task::{Context, Poll};

use http::body::{Body, Source};
use http::{Chunk, Response};
use wire::html;

/// Where the far end's root is for the client, and the names by which the far end may call itself.
#[derive(Clone, Debug)]
pub(super) struct Base {
    path: String,
    hosts: [String; 2],
}

impl Base {
    /// `path` is what clients have before the far end's own paths; `hosts` are its address and what the client called it.
    pub(super) fn new(path: &str, hosts: [String; 2]) -> Base {
        Base { path: path.to_owned(), hosts }
    }

    /// What a link becomes; nothing if it leads elsewhere, is relative, or is below the proxy already.
    fn rewritten(&self, link: &str) -> Option<String> {
        let path = match link
            .strip_prefix("http://")
            .or(link.strip_prefix("https://"))
            .or(link.strip_prefix("//"))
        {
            Some(absolute) => {
                let host_end = absolute.find(['/', '?', '#']).unwrap_or(absolute.len());
                let (host, path) = absolute.split_at(host_end);
                self.hosts.iter().any(|own| own == host).then_some(path)?
            }
            None => link,
        };
        if !path.starts_with('/') {
            return None;
        }
        match path.starts_with(&self.path) {
            true => (path.len() < link.len()).then(|| path.to_owned()),
            false => Some(format!("{}{path}", self.path)),
        }
    }

    /// Makes a redirect, or the links of a document, lead below the proxy.
    pub(super) fn keep(self, response: &mut Response) {
        if let Some(location) = response.headers.get("location") {
            if let Some(location) = self.rewritten(location) {
                response.headers.set("location", location);
            }
            return;
        }
        let kind = response.headers.get("content-type").unwrap_or("");
        let is_html = kind.split(';').next().unwrap_or("").trim() == "text/html";
        let is_plain =
            matches!(response.headers.get("content-encoding"), None | Some("" | "identity"));
        // A quote or the like in the path could end an attribute.
        let is_safe = !self.path.contains(['"', '\'', '<', '>', '&', ' ']);
        if is_html && is_plain && is_safe && !response.body.is_ended() {
            response.headers.remove("content-length");
            let body = std::mem::replace(&mut response.body, Body::empty());
            let document =
                Document { body, links: html::Links::default(), base: self, ended: false };
            response.body = Body::from_source(document, None);
        }
    }
}

/// A document whose links are replaced as it passes.
struct Document {
    body: Body,
    links: html::Links,
    base: Base,
    ended: bool,
}

impl Source for Document {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<stdx::Result<Chunk>>> {
        let mut out = Vec::new();
        while out.is_empty() && !self.ended {
            match std::task::ready!(self.body.poll_chunk(cx)) {
                Some(Ok(piece)) => {
                    let base = &self.base;
                    self.links.push(&piece, &|link| base.rewritten(link), &mut out);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    out = self.links.finish();
                }
            }
        }
        Poll::Ready((!out.is_empty()).then(|| Ok(out.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        Base::new(
            "/api/v1/namespaces/n/pods/p/proxy",
            ["10.42.0.5:80".into(), "localhost:8001".into()],
        )
    }

    #[test]
    fn only_what_leads_to_the_far_end_changes() {
        let below = |path: &str| Some(format!("/api/v1/namespaces/n/pods/p/proxy{path}"));
        for (link, wanted) in [
            ("/x?a=b&amp;c#d", below("/x?a=b&amp;c#d")),
            ("/", below("/")),
            ("http://10.42.0.5:80/x/", below("/x/")),
            ("https://localhost:8001/x", below("/x")),
            ("//10.42.0.5:80/x", below("/x")),
            ("http://localhost:8001/api/v1/namespaces/n/pods/p/proxy/x", below("/x")),
            ("/api/v1/namespaces/n/pods/p/proxy/x", None),
            ("http://example.com/x", None),
            ("//example.com/x", None),
            ("http://10.42.0.5:80", None),
            ("x/y", None),
            ("../x", None),
            ("", None),
            ("#top", None),
            ("mailto:a@b", None),
        ] {
            assert_eq!(base().rewritten(link), wanted, "{link}");
        }
    }

    #[test]
    fn documents_and_redirects_are_kept_below() {
        rt::block_on(async {
            for (kind, encoding, text) in [
                (
                    "text/html; charset=utf-8",
                    "",
                    "<a href=\"/api/v1/namespaces/n/pods/p/proxy/x\">",
                ),
                ("text/plain", "", "<a href=\"/x\">"),
                ("text/html", "gzip", "<a href=\"/x\">"),
            ] {
                let mut response = Response::new(200)
                    .header("content-type", kind)
                    .header("content-encoding", encoding)
                    .header("content-length", "13")
                    .body("<a href=\"/x\">");
                base().keep(&mut response);
                assert_eq!(
                    response.body.read_all(1000).await.unwrap(),
                    text.as_bytes(),
                    "{kind} {encoding}"
                );
            }
            let mut response = Response::new(302).header("location", "/x");
            base().keep(&mut response);
            assert_eq!(
                response.headers.get("location"),
                Some("/api/v1/namespaces/n/pods/p/proxy/x")
            );
        });
    }
}
