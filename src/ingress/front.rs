//! An entry point: each request finds its route, and what has none is told so in Traefik's words.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::server::Service;
use http::{Body, Headers, Method, Request, Response, Version};
use routes::{Ask, Entry, Middleware, Retry};
use rt::BoxFuture;

use crate::access_log::Line;
use crate::figures::{Kind, Tally, Traffic, method_name, protocol_name};
use crate::forward::{self, Passed, plain};
use crate::gate::may_ask;
use crate::guard::Guard;
use crate::live::{Live, Shared};
use crate::passage::Passage;
use crate::upstream::{Server, Upstream};
use crate::{mirror, pages};

#[derive(Debug)]
pub(crate) struct Front {
    entry: Entry,
    traffic: Arc<Traffic>,
    shared: Arc<Shared>,
}

impl Front {
    pub(crate) fn new(entry: Entry, shared: Arc<Shared>) -> Front {
        let traffic = shared.figures.entry(&shared.options.entry(entry).name);
        Front { entry, traffic, shared }
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
                entry: self.shared.options.entry(self.entry).name.clone(),
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
        let found = match self.route(&mut request, &host, tally) {
            Ok(found) => found,
            Err(refused) => return refused,
        };
        let guards = &found.guards;
        tally.service = found.upstream.as_ref().ok().map(|it| Arc::clone(&it.traffic));
        let trusted = entry.trusts(request.peer.address.map(|address| address.ip()));
        let mut passage = Passage::new(&request, &host, trusted);
        let scheme = if passage.secure { "https" } else { "http" };
        let has_pages =
            guards.iter().any(|guard| matches!(&*guard.middleware, Middleware::Errors(_)));
        let url = match has_pages {
            true => format!("{scheme}://{}{}", request.authority, request.target),
            false => String::new(),
        };
        let mut n_passed = 0;
        let mut answer = None;
        for guard in guards {
            answer = match &*guard.middleware {
                Middleware::ForwardAuth(_) => {
                    guard.ask(&mut request, &mut passage, &self.shared.transports).await
                }
                _ => guard.before(&mut request, &mut passage),
            };
            if answer.is_some() {
                break;
            }
            n_passed += 1;
        }
        let hostname = &self.shared.options.hostname;
        let retry = passage.retry.unwrap_or(Retry { attempts: 1, interval_ms: 0 });
        if retry.attempts > 1 {
            keep(&mut request).await;
        }
        let Retry { attempts, interval_ms } = retry;
        let passed = Passed { entry, hostname, fields: &passage.fields, attempts, interval_ms };
        let mut response = match (answer, &found.upstream) {
            (Some(answer), _) => answer,
            (None, Err(503)) => plain(503, "no available server\n"),
            (None, Err(code)) => plain(*code, wire::http1::reason(*code)),
            (None, Ok(upstream)) => {
                let (live, mirrors) = (&found.live, &passage.mirrors);
                if !mirrors.is_empty() {
                    mirror::send(live, mirrors, &mut request, &passed, &self.shared.n_mirrored);
                }
                let mut told = |server: &Server| {
                    if let Some(line) = &mut tally.line {
                        line.url.clone_from(&server.url);
                    }
                };
                let forwarded = forward::forward(upstream, request, &passed, &mut told);
                match found.timeout_ms {
                    0 => forwarded.await,
                    ms => match rt::timeout(Duration::from_millis(ms), forwarded).await {
                        Ok(response) => response,
                        Err(_) => plain(504, "Gateway Timeout"),
                    },
                }
            }
        };
        if passage.too_large.load(Ordering::Acquire) {
            response = plain(413, wire::http1::reason(413));
        }
        for guard in guards[..n_passed].iter().rev() {
            match &*guard.middleware {
                Middleware::Errors(errors) => {
                    let (live, url) = (&found.live, &url);
                    response = pages::replace(errors, live, url, &host, &passed, response).await;
                }
                _ => guard.after(&passage, &mut response),
            }
        }
        for cookie in &passage.cookies {
            response.headers.append("set-cookie", cookie);
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
    ) -> Result<Found, Response> {
        let clean = routes::clean(&request.target).ok_or_else(|| plain(400, "Bad Request"))?;
        let live = self.shared.live();
        if !may_ask(&live.table, &request.peer, host) {
            return Err(plain(421, "Misdirected Request"));
        }
        let ask = Ask {
            host,
            path: &clean.path,
            query: clean.query.strip_prefix('?').unwrap_or(""),
            method: request.method.as_str(),
            peer: request.peer.address.map(|address| address.ip()),
            headers: &Fields(&request.headers),
        };
        let router = live.table.find(self.entry, request.peer.tls, &ask);
        let router = router.ok_or_else(|| plain(404, "404 page not found\n"))?;
        if let Some(line) = &mut tally.line {
            line.router.clone_from(&router.name);
        }
        let service = live.service(router.target);
        let own = service.map_or(&[][..], |(_, middlewares)| middlewares);
        let numbers = router.middlewares.iter().chain(own);
        let guards = numbers.filter_map(|number| live.guards.get(*number)).map(Arc::clone);
        let (guards, timeout_ms) = (guards.collect(), router.timeout_ms);
        let upstream = service.map(|(upstream, _)| Arc::clone(upstream));
        // One spelling for the rules and for the endpoint.
        if let std::borrow::Cow::Owned(path) = &clean.path {
            request.target = [path, clean.query].concat();
        }
        Ok(Found { upstream, guards, timeout_ms, live })
    }
}

/// Of bodies that stream by, those are kept for another attempt that are not larger.
const KEPT_MAX_BYTES: u64 = 256 << 10;

/// Keeps a body so that it can be sent again.
async fn keep(request: &mut Request) {
    let small = request.body.length().is_some_and(|length| length <= KEPT_MAX_BYTES);
    if !small || request.upgrade.is_some() || request.try_clone().is_some() {
        return;
    }
    // One that breaks off is sent to nobody: it has an error in place of its end.
    let mut body = std::mem::take(&mut request.body);
    request.body = match body.read_all(KEPT_MAX_BYTES as usize).await {
        Ok(bytes) => Body::whole(bytes),
        Err(error) => {
            let (sender, body) = Body::channel(1);
            sender.fail(error);
            body
        }
    };
}

/// Where a request goes.
struct Found {
    /// The service, or the code of the answer.
    upstream: Result<Arc<Upstream>, u16>,
    guards: Vec<Arc<Guard>>,
    timeout_ms: u64,
    live: Arc<Live>,
}

/// The longest name of a host (RFC 1035, with a dot at its end).
const HOST_MAX_BYTES: usize = 254;

/// The host that rules are about; `None` if it is none.
fn host_of(authority: &str) -> Option<String> {
    if authority.is_empty() {
        return Some(String::new());
    }
    let (host, _) = http::client::split_host_port(authority, 0)?;
    (host.len() <= HOST_MAX_BYTES).then(|| host.trim_end_matches('.').to_ascii_lowercase())
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
