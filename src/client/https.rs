//! The API over HTTPS: requests as upstream's clients send them, answers as objects at rest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::codec::{self, Received};
use api::status::Reason;
use api::{Kind, Lens, LensMut, Status, Value, json};
use http::{Method, Response};
use rt::BoxFuture;
use stdx::Result;
use stdx::backoff::Backoff;

use crate::access::{Access, Current};
use crate::figures::count_request;
use crate::options::target;
use crate::request::{
    Answer, Api, Body, Client, DeleteOptions, List, PatchType, Request, Verb, WatchStream,
};
use crate::watch::Stream;

/// How long one request may take, its answer included; a watch only until its head.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// The answer to a request that is no list: one object, a `Status`, a review.
const ANSWER_MAX_BYTES: usize = 16 << 20;
/// A page of a list; a larger one is asked for again in smaller pages.
const PAGE_MAX_BYTES: usize = 16 << 20;
/// Objects asked for in one page, as upstream's clients.
const PAGE_OBJECTS: u64 = 500;
/// A list that is not given in pages any more, and all pages of one list.
const LIST_MAX_BYTES: usize = 256 << 20;
/// Lists begun again because the history moved on between two pages, before one is asked for whole.
const PAGING_ATTEMPTS_MAX: u32 = 2;
/// Attempts of one request.
const ATTEMPTS_MAX: u32 = 4;
/// `Retry-After` is kept to as far as this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Between attempts where no server says how long.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// A refusal that is no `Status`: what of its text is shown.
const REFUSAL_MAX_BYTES: usize = 2 << 10;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The API of a server elsewhere, as one identity.
struct Remote {
    current: Current,
    http: http::client::Client,
    user_agent: String,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl Client {
    /// A client of the server that `access` leads to. `agent` is the program's name, which the server
    /// takes as field manager. Blocking: reads the files that `access` names.
    ///
    /// # Errors
    /// If a certificate, key or URL cannot be used.
    pub fn remote(access: Access, agent: &str) -> Result<Client> {
        let version = stdx::version::VERSION;
        Ok(Client::new(Arc::new(Remote {
            current: Current::new(access)?,
            http: http::client::Client::new(http::client::Options::default()),
            user_agent: format!("{agent}/{version} (linux/{}) k3rs", std::env::consts::ARCH),
        })))
    }
}

impl Api for Remote {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            match (request.verb, request.list.limit) {
                (Verb::Watch, _) => Err(Status::internal("a watch came as a call")),
                (Verb::List, 0) => self.whole_list(request).await.map(Answer::List),
                _ => self.bounded(&request, ANSWER_MAX_BYTES).await.map_err(Failed::into_status),
            }
        })
    }

    fn watch(&self, mut request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        Box::pin(async move {
            let kind = request.kind;
            let lasts = Stream::settle_timeout(&mut request.list);
            let response = match rt::timeout(REQUEST_MAX, self.exchange(&request)).await {
                Ok(response) => response?,
                Err(rt::Elapsed) => return Err(timed_out()),
            };
            Ok(Box::new(Stream::new(kind, response, lasts)) as Box<dyn WatchStream>)
        })
    }
}

/// Why a request has no answer.
enum Failed {
    Status(Status),
    /// It was larger than its bound.
    TooLarge(usize),
}

impl Failed {
    fn into_status(self) -> Status {
        match self {
            Failed::Status(status) => status,
            Failed::TooLarge(max) => {
                Status::internal(format!("the server's answer is larger than {max} bytes"))
            }
        }
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        Failed::Status(status)
    }
}

impl Remote {
    /// A list in pages, put together.
    async fn whole_list(&self, request: Request) -> Result<List, Status> {
        for _ in 0..PAGING_ATTEMPTS_MAX {
            match self.pages(request.clone()).await {
                // Between two pages the history moved on.
                Err(status) if matches!(status.reason(), Reason::Expired | Reason::Gone) => {}
                done => return done,
            }
        }
        match self.bounded(&request, LIST_MAX_BYTES).await.map_err(Failed::into_status)? {
            Answer::List(list) => Ok(list),
            _ => Err(no_list()),
        }
    }

    async fn pages(&self, mut request: Request) -> Result<List, Status> {
        let mut whole = List::default();
        let mut left_bytes = LIST_MAX_BYTES;
        request.list.limit = PAGE_OBJECTS;
        loop {
            let page = match self.bounded(&request, PAGE_MAX_BYTES).await {
                Ok(Answer::List(page)) => page,
                Ok(_) => return Err(no_list()),
                Err(Failed::TooLarge(_)) if request.list.limit > 1 => {
                    request.list.limit = request.list.limit.div_ceil(8);
                    continue;
                }
                Err(failed) => return Err(failed.into_status()),
            };
            let bytes: usize = page.items.iter().map(|object| object.bytes().len()).sum();
            let is_empty = page.items.is_empty();
            whole.items.extend(page.items);
            whole.revision = page.revision;
            left_bytes = left_bytes
                .checked_sub(bytes)
                .ok_or_else(|| Failed::TooLarge(LIST_MAX_BYTES).into_status())?;
            if page.continue_token.is_empty() {
                return Ok(whole);
            }
            if is_empty {
                return Err(Status::internal("the server continues a list with an empty page"));
            }
            request.list.continue_token = page.continue_token;
            // What the token says may not be said again.
            request.list.resource_version.clear();
            request.list.resource_version_match.clear();
        }
    }

    /// Sends a request and reads its whole answer.
    async fn bounded(&self, request: &Request, max_bytes: usize) -> Result<Answer, Failed> {
        let work = async {
            let mut response = self.exchange(request).await?;
            let bytes = match response.body.read_all(max_bytes).await {
                Ok(bytes) => bytes,
                Err(error) if http::body::is_too_large(&error) => {
                    return Err(Failed::TooLarge(max_bytes));
                }
                Err(error) => return Err(unreachable(&error).into()),
            };
            answer(request, &bytes).map_err(Failed::Status)
        };
        match rt::timeout(REQUEST_MAX, work).await {
            Ok(answer) => answer,
            Err(rt::Elapsed) => Err(timed_out().into()),
        }
    }

    /// Sends a request until it has an answer other than to come again later; a refusal is an error.
    async fn exchange(&self, request: &Request) -> Result<Response, Status> {
        let mut reached = self.current.reach().await;
        let mut attempt = 1;
        loop {
            let sent = encode(request, self.current.base(), &self.user_agent)?;
            let sent = match reached.authorization.as_str() {
                "" => sent,
                token => sent.header("authorization", token),
            };
            let rests = RETRY.delay(attempt);
            let is_last = attempt >= ATTEMPTS_MAX;
            attempt += 1;
            let method = sent.method.clone();
            let answered = self.http.send(&reached.endpoint, sent).await;
            let code = answered.as_ref().map_or(0, |response| response.status);
            count_request(&method, code, self.current.base());
            let response = match answered {
                Ok(response) if (200..300).contains(&response.status) => return Ok(response),
                Ok(response) => response,
                // What only reads may be asked twice; a write may have been done.
                Err(error) if !is_last && is_read(request.verb) => {
                    log::debug!("{error}");
                    rt::sleep(rests).await;
                    continue;
                }
                Err(error) => return Err(unreachable(&error)),
            };
            if response.status == 401 && !is_last {
                let (again, is_new) = self.current.reach_again().await;
                if is_new {
                    reached = again;
                    continue;
                }
            }
            // The server says that it did not do it.
            let later = retry_after(&response).filter(|_| matches!(response.status, 429 | 503));
            match later {
                Some(later) if !is_last => rt::sleep(later).await,
                _ => return Err(refusal(response).await),
            }
        }
    }
}

fn is_read(verb: Verb) -> bool {
    matches!(verb, Verb::Get | Verb::List | Verb::Watch)
}

fn no_list() -> Status {
    Status::internal("a list request was not answered with a list")
}

fn unreachable(error: &stdx::Error) -> Status {
    Status::unavailable(error.to_string())
}

fn timed_out() -> Status {
    let secs = REQUEST_MAX.as_secs();
    Status::unavailable(format!("the server did not answer within {secs} s"))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let secs = response.headers.get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(secs).min(RETRY_AFTER_MAX))
}

/// A refusal as what the server says of it, or in upstream's words for its code.
async fn refusal(mut response: Response) -> Status {
    let code = response.status;
    let bytes = response.body.read_all(ANSWER_MAX_BYTES).await.unwrap_or_default();
    if let Some(status) = codec::received_status(&bytes, code) {
        return status;
    }
    let shown = &bytes[..bytes.len().min(REFUSAL_MAX_BYTES)];
    let text = String::from_utf8_lossy(shown).trim().to_owned();
    let (reason, message) = match code {
        400 => (Reason::BadRequest, text),
        401 => (
            Reason::Unauthorized,
            "the server has asked for the client to provide credentials".into(),
        ),
        403 => (Reason::Forbidden, text),
        404 => (Reason::NotFound, "the server could not find the requested resource".into()),
        405 => (
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource".into(),
        ),
        409 => (Reason::Conflict, "the server reported a conflict".into()),
        410 => (Reason::Gone, "the server reported that the resource is gone".into()),
        429 => (
            Reason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later".into(),
        ),
        503 => (
            Reason::ServiceUnavailable,
            "the server is currently unable to handle the request".into(),
        ),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted".into(),
        ),
        _ => (
            Reason::InternalError,
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
    };
    Status::new(reason, message).with_code(code)
}

/// A request as it goes out.
fn encode(request: &Request, base: &str, user_agent: &str) -> Result<http::Request, Status> {
    let method = match request.verb {
        Verb::Get | Verb::List | Verb::Watch => Method::Get,
        Verb::Create => Method::Post,
        Verb::Update => Method::Put,
        Verb::Patch => Method::Patch,
        Verb::Delete | Verb::DeleteCollection => Method::Delete,
    };
    let accept = match codec::has_protobuf(request.kind) {
        true => format!("{PROTOBUF},application/json"),
        false => "application/json".to_owned(),
    };
    let out = http::Request::new(method, format!("{base}{}", target(request)))
        .header("accept", accept)
        .header("user-agent", user_agent);
    let with = |media: &str, tree: &Value| {
        Ok(http::Request {
            body: http::Body::whole(tree.to_string()),
            ..out.try_clone().unwrap_or_else(|| http::Request::get(""))
        }
        .header("content-type", media))
    };
    match (request.verb, &request.body) {
        (Verb::Delete | Verb::DeleteCollection, _) => {
            with("application/json", &delete_options(&request.delete, request.dry_run))
        }
        (Verb::Create | Verb::Update, Body::Tree(tree)) => {
            with("application/json", &typed(request.kind, &request.subresource, tree))
        }
        (Verb::Patch, Body::Patch(patch, tree)) => {
            let media = match patch {
                PatchType::Json => "application/json-patch+json",
                PatchType::Merge => "application/merge-patch+json",
                PatchType::Strategic => "application/strategic-merge-patch+json",
                PatchType::Apply => "application/apply-patch+yaml",
            };
            with(media, tree)
        }
        (Verb::Create | Verb::Update | Verb::Patch, _) => {
            Err(Status::bad_request("the request has no body"))
        }
        _ => Ok(out),
    }
}

/// A body that says what it is, as callers in the server's process need not.
fn typed(kind: &'static Kind, subresource: &str, tree: &Value) -> Value {
    let mut tree = tree.clone();
    if tree.str("kind").is_empty() && matches!(subresource, "" | "status") {
        tree.set("apiVersion", kind.api_version());
        tree.set("kind", kind.name);
    }
    tree
}

fn delete_options(options: &DeleteOptions, dry_run: bool) -> Value {
    let mut tree = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
    if let Some(secs) = options.grace_secs {
        tree.set("gracePeriodSeconds", secs);
    }
    if let Some(uid) = &options.uid {
        tree.set("preconditions.uid", uid.as_str());
    }
    if let Some(version) = &options.resource_version {
        tree.set("preconditions.resourceVersion", version.as_str());
    }
    if !options.propagation.is_empty() {
        tree.set("propagationPolicy", options.propagation.as_str());
    }
    if dry_run {
        tree.set("dryRun", vec![Value::from("All")]);
    }
    tree
}

/// What came back, as in process: a stored object, a list, or a tree.
fn answer(request: &Request, bytes: &[u8]) -> Result<Answer, Status> {
    let received = codec::received(request.kind, bytes).map_err(Status::internal)?;
    Ok(match received {
        // A dry run stored nothing.
        Received::Object(object) if request.dry_run => Answer::Tree(object.whole_tree()),
        Received::Object(object) => Answer::Object(object),
        Received::List(items, meta) => Answer::List(List {
            items,
            revision: meta.revision,
            continue_token: meta.next,
            remaining: meta.remaining,
        }),
        Received::Tree(tree) => Answer::Tree(tree),
    })
}
