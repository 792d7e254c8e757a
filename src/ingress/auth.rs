//! `forwardAuth`: another service is asked whether a request may pass.

use std::time::Duration;

use http::client::{Client, Endpoint, Options, Url, authority};
use http::{Headers, Method, Request, Response};
use routes::{ForwardAuth, Transport};
use stdx::Result;

use crate::forward::plain;
use crate::forwarded;
use crate::passage::Passage;
use crate::upstream::Transports;

/// As Traefik: who says nothing in this time lets nobody pass.
const TAKES_MAX: Duration = Duration::from_secs(30);

/// Where a service is that is asked.
#[derive(Debug)]
pub(crate) struct Door {
    client: Client,
    endpoint: Endpoint,
    url: Url,
}

impl Door {
    pub(crate) fn new(auth: &ForwardAuth, transports: &Transports) -> Result<Door> {
        let url = Url::parse(&auth.address)?;
        let mut endpoint = Endpoint::tcp(url.host.as_str(), url.port);
        if url.is_tls() {
            let own = Transport { insecure: true, ..Transport::default() };
            endpoint = endpoint.tls(transports.find(auth.insecure.then_some(&own)));
        }
        let options = Options { idle_per_endpoint_max: 32, ..Options::default() };
        Ok(Door { client: Client::new(options), endpoint, url })
    }
}

/// Asks; the answer to give if the request may not pass.
pub(crate) async fn ask(
    auth: &ForwardAuth,
    door: &Door,
    request: &mut Request,
    passage: &mut Passage,
) -> Option<Response> {
    let question = question(auth, door, request, passage);
    let answered = rt::timeout(TAKES_MAX, door.client.send(&door.endpoint, question)).await;
    let mut answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            log::debug!("forwardAuth {}: {error}", auth.address);
            return Some(plain(500, "Internal Server Error"));
        }
        Err(_) => return Some(plain(500, "Internal Server Error")),
    };
    if !(200..300).contains(&answer.status) {
        return Some(refused(auth, door, answer).await);
    }
    let told = |name: &str| {
        auth.told.iter().any(|own| own == name)
            || auth.told_like.as_ref().is_some_and(|regex| regex.is_match(name))
    };
    // What the client says of such a field is not believed, whatever is answered.
    passage.fields.extend(auth.told.iter().map(|name| (name.clone(), String::new())));
    let names: Vec<String> = request.headers.iter().map(|(name, _)| name.to_owned()).collect();
    names.iter().filter(|name| told(name)).for_each(|name| request.headers.remove(name));
    for (name, _) in answer.headers.iter().filter(|(name, _)| told(name)) {
        let value: Vec<&str> = answer.headers.get_all(name).collect();
        let known = passage.fields.iter_mut().rfind(|(own, _)| own == name);
        let value = value.join(", ");
        match known {
            Some((_, known)) => *known = value,
            None => passage.fields.push((name.to_owned(), value)),
        }
    }
    for cookie in answer.headers.get_all("set-cookie") {
        let name = cookie.split('=').next().unwrap_or("").trim();
        if auth.cookies.iter().any(|own| own == name) {
            passage.cookies.push(cookie.to_owned());
        }
    }
    // What is left of it is read, so that the connection can be used again.
    let _ = rt::timeout(TAKES_MAX, answer.body.read_all(auth.body_max_bytes)).await;
    None
}

fn question(auth: &ForwardAuth, door: &Door, request: &Request, passage: &Passage) -> Request {
    let method = match auth.preserve_method {
        true => request.method.clone(),
        false => Method::Get,
    };
    let mut own = Request::new(method, door.url.target.clone());
    own.authority = authority(
        &door.url.host,
        (door.url.port != if door.url.is_tls() { 443 } else { 80 }).then_some(door.url.port),
    );
    let wanted = |name: &str| auth.asked.is_empty() || auth.asked.iter().any(|own| own == name);
    let mut headers = Headers::new();
    let passed = forwarded::response(request.headers.clone());
    for (name, value) in passed.iter() {
        let kept = !forwarded::is_forwarded(name) && !matches!(name, "content-length" | "expect");
        if kept && wanted(name) {
            headers.append(name, value);
        }
    }
    let believed = |name: &str| request.headers.get(name).filter(|_| auth.trust);
    let mut set = |name: &str, own: &str| headers.set(name, believed(name).unwrap_or(own));
    set("x-forwarded-method", request.method.as_str());
    set("x-forwarded-proto", if passage.secure { "https" } else { "http" });
    set("x-forwarded-host", &request.authority);
    set("x-forwarded-uri", &request.target);
    let peer = passage.peer.map(|peer| peer.to_string()).unwrap_or_default();
    let before = believed("x-forwarded-for").map(|before| format!("{before}, {peer}"));
    headers.set("x-forwarded-for", before.as_deref().unwrap_or(&peer));
    own.headers = headers;
    own
}

/// The answer of who does not let a request pass.
async fn refused(auth: &ForwardAuth, door: &Door, mut answer: Response) -> Response {
    let body = rt::timeout(TAKES_MAX, answer.body.read_all(auth.body_max_bytes)).await;
    let Ok(Ok(body)) = body else { return plain(500, "Internal Server Error") };
    let mut response = Response::new(answer.status).body(body);
    response.headers = forwarded::response(answer.headers);
    response.headers.remove("content-length");
    let location = response.headers.get("location").map(str::to_owned);
    if let Some(location) = location.filter(|_| !auth.preserve_location)
        && let Ok(whole) = door.url.join(&location)
    {
        response.headers.set("location", whole.to_string());
    }
    response
}
