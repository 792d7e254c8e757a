//! An entry point: each request finds its route, and what has none is told so in Traefik's words.

use std::sync::Arc;

use http::server::Service;
use http::{Headers, Method, Request, Response, Version};
use routes::{Ask, Entry};
use rt::BoxFuture;

use crate::access_log::Line;
use crate::figures::{Kind, Tally, Traffic, method_name, protocol_name};
use crate::forward::{self, Passed, plain};
use crate::guard::{Guard, Passage};
use crate::live::Shared;
use crate::upstream::Upstream;

#[derive(Debug)]
pub(crate) struct Front {
    entry: Entry,
    traffic: Arc<Traffic>,
    shared: Arc<Shared>,
}

impl Front {
    pub(crate) fn new(entry: Entry, shared: Arc<Shared>) -> Front {
        let figures = &shared.figures;
        let traffic = match entry {
            Entry::Web => &figures.web,
            Entry::WebSecure => &figures.websecure,
        };
        Front { entry, traffic: Arc::clone(traffic), shared }
    }
}

/// Header fields as rules look at them.
#[derive(Debug)]
struct Fields<'a>(&'a Headers);

impl routes::Fields for Fields<'_> {
    fn any(&self, name: &str, is: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.get_all(name).any(is)
    }
}

impl Service for Front {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let mut tally = self.tally(&request);
            let response = self.answer(request, &mut tally).await;
            tally.kind.code = response.status;
            forward::counted(response, tally)
        })
    }

    fn refusal(&self, code: u16, _: &str, _: &str) -> Response {
        plain(code, wire::http1::reason(code))
    }
}

impl Front {
    fn tally(&self, request: &Request) -> Tally {
        let text = |name: &str| request.headers.get(name).unwrap_or("").to_owned();
        let line = self.shared.options.access_log.map(|format| {
            Box::new(Line {
                format,
                at: rt::now().wall,
                client: request
                    .peer
                    .address
                    .map_or_else(|| "-".into(), |a| a.ip().to_canonical().to_string()),
                method: request.method.to_string(),
                target: request.target.clone(),
                protocol: match request.version {
                    Version::Http10 => "HTTP/1.0",
                    Version::Http11 => "HTTP/1.1",
                    Version::Http2 => "HTTP/2.0",
                },
                host: request.authority.clone(),
                referer: text("referer"),
                agent: text("user-agent"),
                entry: self.entry.name(),
                router: String::new(),
                url: String::new(),
            })
        });
        Tally {
            // The code of who leaves before the answer.
            kind: Kind {
                code: 499,
                method: method_name(&request.method),
                protocol: protocol_name(request.version, request.upgrade.is_some()),
            },
            tls: request.peer.tls,
            started: rt::now().mono,
            entry: Arc::clone(&self.traffic),
            service: None,
            request_bytes: request.body.length().unwrap_or(0),
            response_bytes: 0,
            line,
        }
    }

    async fn answer(&self, mut request: Request, tally: &mut Tally) -> Response {
        let entry = self.shared.options.entry(self.entry);
        if request.method == Method::Connect {
            return plain(405, "Method Not Allowed");
        }
        let Some(host) = host_of(&request.authority) else { return plain(400, "Bad Request") };
        if let Some((scheme, permanent)) = &entry.redirect {
            return redirect(&request, scheme, &host, *permanent);
        }
        let (upstream, guards) = match self.route(&mut request, &host, tally) {
            Ok(route) => route,
            Err(refused) => return refused,
        };
        tally.service = Some(Arc::clone(&upstream.traffic));
        let trusted = entry.trusts(request.peer.address.map(|address| address.ip()));
        let mut passage = Passage::new(&request, &host, trusted);
        let mut n_passed = 0;
        let mut answer = None;
        for guard in &guards {
            answer = guard.before(&mut request, &mut passage);
            if answer.is_some() {
                break;
            }
            n_passed += 1;
        }
        let hostname = &self.shared.options.hostname;
        let mut response = match answer {
            Some(answer) => answer,
            None => {
                let passed = Passed { entry, hostname, fields: &passage.fields };
                forward::forward(&upstream, request, &passed, tally).await
            }
        };
        for guard in guards[..n_passed].iter().rev() {
            guard.after(&passage, &mut response);
        }
        if !passage.flights.is_empty() {
            let body = std::mem::take(&mut response.body);
            response.body = body.holding(passage.flights);
        }
        response
    }

    /// The service of a request, whose path is cleaned for it.
    #[expect(clippy::result_large_err, reason = "the error is the answer")]
    fn route(
        &self,
        request: &mut Request,
        host: &str,
        tally: &mut Tally,
    ) -> Result<(Arc<Upstream>, Vec<Arc<Guard>>), Response> {
        let clean = routes::clean(&request.target).ok_or_else(|| plain(400, "Bad Request"))?;
        let live = self.shared.live();
        let ask = Ask {
            host,
            path: &clean.path,
            query: clean.query.strip_prefix('?').unwrap_or(""),
            method: request.method.as_str(),
            peer: request.peer.address.map(|address| address.ip()),
            headers: &Fields(&request.headers),
        };
        let router = live.table.find(self.entry, &ask);
        let router = router.ok_or_else(|| plain(404, "404 page not found\n"))?;
        if let Some(line) = &mut tally.line {
            line.router.clone_from(&router.name);
        }
        let upstream = live.service(router.target);
        let upstream = Arc::clone(upstream.ok_or_else(|| plain(503, "no available server\n"))?);
        let guards = router.middlewares.iter().filter_map(|number| live.guards.get(*number));
        let guards = guards.map(Arc::clone).collect();
        // One spelling for the rules and for the endpoint.
        if let std::borrow::Cow::Owned(path) = &clean.path {
            request.target = [path, clean.query].concat();
        }
        Ok((upstream, guards))
    }
}

/// The host that rules are about; `None` if it is none.
fn host_of(authority: &str) -> Option<String> {
    if authority.is_empty() {
        return Some(String::new());
    }
    let (host, _) = http::client::split_host_port(authority, 0)?;
    Some(host.trim_end_matches('.').to_ascii_lowercase())
}

/// To the other entry point, under the same name.
fn redirect(request: &Request, scheme: &str, host: &str, permanent: bool) -> Response {
    let get = matches!(request.method, Method::Get | Method::Head);
    let code = match (permanent, get) {
        (true, true) => 301,
        (true, false) => 308,
        (false, true) => 302,
        (false, false) => 307,
    };
    let host = http::client::authority(host, None);
    plain(code, wire::http1::reason(code))
        .header("location", format!("{scheme}://{host}{}", request.target))
}
