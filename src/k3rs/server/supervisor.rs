//! The supervisor over HTTP: the paths beside the Kubernetes API that nodes which join ask for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::Status;
use cluster::Paths;
use cluster::supervisor::{self, Answer, Asked, Supervisor};
use http::{Body, Headers, Method, Peer, Request, Response};
use server::{Server, User};
use stdx::time::Mono;

use crate::peers::tunnel::Tunnels;

/// One request, its body and its certificate included.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// One that takes a snapshot, which may have to be sent elsewhere.
const SNAPSHOT_MAX: Duration = Duration::from_secs(1800);
/// Refusals are logged this often: strangers decide how many there are.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What the listener asks for paths that are not the Kubernetes API's.
pub(crate) struct Face {
    paths: Paths,
    ca_pem: String,
    /// The API server beside it, and the tunnels that it uses, if there is one.
    api: Option<(Server, Arc<Tunnels>)>,
    supervisor: Supervisor,
    told: Mutex<Option<Mono>>,
}

/// A request without its body.
struct Head {
    posts: bool,
    puts: bool,
    forces: bool,
    path: String,
    headers: Headers,
    peer: Peer,
}

impl Face {
    pub(crate) fn new(
        paths: Paths,
        ca_pem: String,
        api: Option<(Server, Arc<Tunnels>)>,
        supervisor: Supervisor,
    ) -> Face {
        Face { paths, ca_pem, api, supervisor, told: Mutex::default() }
    }

    async fn answer(&self, head: &Head, mut body: Body) -> Result<Answer, Status> {
        let user = self.who(head).await?;
        head.peer.vouch(&user.name);
        let header = |name: &str| head.headers.get(name).unwrap_or("");
        let asked = Asked {
            posts: head.posts,
            puts: head.puts,
            forces: head.forces,
            path: &head.path,
            user: &user.name,
            groups: &user.groups,
            node_name: header("k3s-node-name"),
            node_password: header("k3s-node-password"),
            node_ip: header("k3s-node-ip"),
        };
        let _turn = self.supervisor.admit(&asked)?;
        let bytes_max = usize::try_from(bytes_max(&head.path)).unwrap_or(usize::MAX);
        let body = body.read_all(bytes_max).await;
        let body = body.map_err(|error| Status::bad_request(error.to_string()))?;
        Ok(self.supervisor.answer(&asked, &body).await)
    }

    /// Opens a node's tunnel.
    async fn connect(&self, tunnels: &Arc<Tunnels>, request: Request) -> Response {
        let head = Head {
            posts: false,
            puts: false,
            forces: false,
            path: supervisor::CONNECT.to_owned(),
            headers: request.headers.clone(),
            peer: request.peer.clone(),
        };
        let found = match rt::timeout(REQUEST_MAX, self.who(&head)).await {
            Ok(Ok(user)) => supervisor::tunnel_of(&user.name, &user.groups).map(|node| {
                head.peer.vouch(&user.name);
                node.to_owned()
            }),
            Ok(Err(status)) => Err(status),
            Err(rt::Elapsed) => Err(supervisor::too_slow()),
        };
        match found {
            Ok(node) => tunnels.accept(node, request),
            Err(status) => self.show(&head, status.into()),
        }
    }

    fn show(&self, head: &Head, answer: Answer) -> Response {
        if answer.code >= 400 {
            self.tell(head, &answer);
        }
        let mut response = Response::new(answer.code).header("content-type", answer.media_type);
        if let Some(secs) = answer.retry_after_secs {
            response = response.header("retry-after", secs.to_string());
        }
        response.body(answer.body)
    }

    /// Who asks: by a token's user and password, or as the API server knows them.
    async fn who(&self, head: &Head) -> Result<User, Status> {
        let authorization = head.headers.get("authorization");
        let basic = authorization.and_then(credentials);
        if let Some((name, password)) = basic
            && let Some(groups) = self.supervisor.groups_of(&name, &password)
        {
            return Ok(User { name, groups, ..User::default() });
        }
        let shows_something = authorization.is_some() || !head.peer.certificates.is_empty();
        let user = match &self.api {
            Some((server, _)) => server.authenticate(&head.peer, &head.headers).await.ok(),
            None => head.peer.certificates.first().and_then(|leaf| of_certificate(leaf)),
        };
        user.ok_or_else(|| supervisor::unknown(shows_something))
    }

    fn tell(&self, head: &Head, answer: &Answer) {
        let now = rt::now().mono;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| now.since(told) < TELL_EVERY) {
            return;
        }
        *told = Some(now);
        let from = head.peer.address.map(|address| address.to_string()).unwrap_or_default();
        let why = String::from_utf8_lossy(&answer.body);
        let (code, path) = (answer.code, &head.path);
        log::warn!("Sending HTTP {code} response to {from}, who asked for {path:?}: {why}");
    }
}

/// Whose a client certificate is that the listener believed, where clients have one CA.
fn of_certificate(leaf: &[u8]) -> Option<User> {
    let subject = wire::x509::read(leaf).ok()?.subject;
    let user = User { name: subject.common_name, groups: subject.organizations, ..User::default() };
    (!user.name.is_empty()).then_some(user)
}

/// User and password of `Authorization: Basic`.
fn credentials(value: &str) -> Option<(String, String)> {
    let (scheme, text) = value.trim().split_once(' ')?;
    let text =
        wire::base64::decode(text.trim()).filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl http::server::Service for Face {
    fn call(&self, request: Request) -> rt::BoxFuture<'_, Response> {
        Box::pin(async move {
            let path = request.path();
            if let Some((kind, bytes)) = supervisor::public(path, &self.ca_pem) {
                return Response::new(200).header("content-type", kind).body(bytes);
            }
            if !path.starts_with(supervisor::PREFIX) && !supervisor::is_of_etcd(path) {
                return match supervisor::static_file(&self.paths, path) {
                    Some(bytes) => Response::new(200)
                        .header("content-type", "application/octet-stream")
                        .body(bytes),
                    None if self.api.is_none() => without_api(),
                    None => Response::text(404, "404 page not found\n"),
                };
            }
            if path == supervisor::CONNECT {
                return match &self.api {
                    Some((_, tunnels)) => self.connect(tunnels, request).await,
                    None => without_api(),
                };
            }
            let head = Head {
                posts: request.method == Method::Post,
                puts: request.method == Method::Put,
                forces: forces(&request.target),
                path: path.to_owned(),
                headers: request.headers,
                peer: request.peer,
            };
            let max = match head.path == supervisor::SNAPSHOT {
                true => SNAPSHOT_MAX,
                false => REQUEST_MAX,
            };
            let answer = match rt::timeout(max, self.answer(&head, request.body)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(status)) => status.into(),
                Err(rt::Elapsed) => supervisor::too_slow().into(),
            };
            self.show(&head, answer)
        })
    }

    fn body_max_bytes(&self, _: &Method, target: &str, _: &http::server::Limits) -> u64 {
        bytes_max(target.split('?').next().unwrap_or(target))
    }
}

fn without_api() -> Response {
    let answer = Answer::from(supervisor::without_api());
    Response::new(answer.code).header("content-type", answer.media_type).body(answer.body)
}

/// Bodies are read once somebody was let in.
fn bytes_max(path: &str) -> u64 {
    match path.strip_prefix(supervisor::PREFIX) == Some(supervisor::AUTHORITIES) {
        true => supervisor::AUTHORITIES_MAX_BYTES,
        false => supervisor::BODY_MAX_BYTES,
    }
}

fn forces(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|part| part == "force=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials() {
        let encoded = wire::base64::encode(b"node:a:b");
        let found = Some(("node".to_owned(), "a:b".to_owned()));
        for (value, wanted) in [
            (format!("Basic {encoded}"), &found),
            (format!("basic  {encoded}"), &found),
            (format!("Bearer {encoded}"), &None),
            (encoded.clone(), &None),
            ("Basic !".to_owned(), &None),
            ("Basic eA==".to_owned(), &None),
        ] {
            assert_eq!(&credentials(&value), wanted, "{value}");
        }
    }
}
