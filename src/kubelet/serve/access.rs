//! Who may ask over HTTPS: client certificates or reviewed tokens, then a subject access review.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{Lens, Status, Value, json, kinds, status::Reason};
use client::{Answer, Body, Request as ApiRequest, Verb};
use http::{Method, Request};
use stdx::{OrdMap, time::Mono};

use crate::shared::Shared;

/// Answers kept, and for how long, as upstream: yes five minutes, no half a minute, tokens two.
const ANSWERS_MAX: usize = 256;
const ALLOWED_KEPT: Duration = Duration::from_secs(300);
const DENIED_KEPT: Duration = Duration::from_secs(30);
const TOKENS_KEPT: Duration = Duration::from_secs(120);

/// Who asks for what, taken from a request.
#[derive(Debug)]
pub(super) struct Asked {
    credential: Credential,
    verb: &'static str,
    subresource: &'static str,
}

#[derive(Debug)]
enum Credential {
    None,
    Certified(User),
    Token(String),
}

impl Asked {
    pub(super) fn of(request: &Request) -> Asked {
        let certificate = request.peer.certificates.first();
        let bearer = || {
            let (scheme, token) = request.headers.get("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        };
        let credential = match (certificate.and_then(|c| certified(c.as_ref())), bearer()) {
            (Some(user), _) => Credential::Certified(user),
            (None, Some(token)) => Credential::Token(token),
            (None, None) => Credential::None,
        };
        Asked { credential, verb: verb(&request.method), subresource: subresource(request.path()) }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    name: String,
    groups: Vec<String>,
}

/// User, verb and subresource; the answer and until when it is kept.
type Answers = OrdMap<(User, &'static str, &'static str), (bool, Mono)>;

#[derive(Debug)]
pub(super) struct Access {
    shared: Arc<Shared>,
    answers: Mutex<Answers>,
    tokens: Mutex<OrdMap<String, (Option<User>, Mono)>>,
}

impl Access {
    pub(super) fn new(shared: Arc<Shared>) -> Access {
        Access { shared, answers: Mutex::default(), tokens: Mutex::default() }
    }

    /// Lets the request through and says whose it is, or says why not.
    pub(super) async fn check(&self, asked: Asked) -> Result<String, Status> {
        let Asked { credential, verb, subresource } = asked;
        let user = match credential {
            Credential::Certified(user) => Some(user),
            Credential::Token(token) => self.review(token).await?,
            Credential::None => None,
        };
        let user = user.ok_or_else(|| Status::new(Reason::Unauthorized, "Unauthorized"))?;
        if self.authorize(&user, verb, subresource).await? {
            return Ok(user.name);
        }
        let node = &self.shared.config.node_name;
        Err(Status::new(
            Reason::Forbidden,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource={subresource}) on node {node}",
                user.name
            ),
        ))
    }

    async fn review(&self, token: String) -> Result<Option<User>, Status> {
        let now = rt::now().mono;
        {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.retain(|_, (_, until)| *until > now);
            if let Some((user, _)) = tokens.get(&token) {
                return Ok(user.clone());
            }
        }
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = self.ask(&kinds::TOKEN_REVIEW, review).await?;
        let user = answer.flag("status.authenticated").then(|| User {
            name: answer.str("status.user.username").to_owned(),
            groups: texts(answer.list("status.user.groups")),
        });
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() < ANSWERS_MAX {
            tokens.insert(token, (user.clone(), now + TOKENS_KEPT));
        }
        Ok(user)
    }

    async fn authorize(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Status> {
        let now = rt::now().mono;
        let key = (user.clone(), verb, subresource);
        {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.retain(|_, (_, until)| *until > now);
            if let Some((allowed, _)) = answers.get(&key) {
                return Ok(*allowed);
            }
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user.name, "groups": user.groups, "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
                "name": self.shared.config.node_name}}});
        let answer = self.ask(&kinds::SUBJECT_ACCESS_REVIEW, review).await?;
        let allowed = answer.flag("status.allowed");
        let kept = if allowed { ALLOWED_KEPT } else { DENIED_KEPT };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < ANSWERS_MAX {
            answers.insert(key, (allowed, now + kept));
        }
        Ok(allowed)
    }

    async fn ask(&self, kind: &'static api::Kind, review: Value) -> Result<Value, Status> {
        let mut request = ApiRequest::new(Verb::Create, kind, "", "");
        request.body = Body::Tree(review);
        match self.shared.client.call(request).await? {
            Answer::Tree(tree) => Ok(tree),
            Answer::Object(object) => Ok(object.tree()),
            Answer::List(_) => Err(Status::internal("a review was answered with a list")),
        }
    }
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Common name as user, organizations as groups. Whether the chain is good, TLS has checked.
fn certified(der: &[u8]) -> Option<User> {
    let subject = wire::x509::read(der).ok()?.subject;
    let everybody = "system:authenticated".to_owned();
    let groups = [everybody].into_iter().chain(subject.organizations).collect();
    (!subject.common_name.is_empty()).then_some(User { name: subject.common_name, groups })
}

fn verb(method: &Method) -> &'static str {
    match method {
        Method::Post => "create",
        Method::Put => "update",
        Method::Patch => "patch",
        Method::Delete => "delete",
        _ => "get",
    }
}

/// Upstream's subresource of `nodes` for each path.
fn subresource(path: &str) -> &'static str {
    let below = |root: &str| path == root || path.starts_with(&format!("{root}/"));
    match () {
        () if below("/stats") => "stats",
        () if below("/metrics") => "metrics",
        () if below("/logs") => "log",
        () => "proxy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_name_what_is_asked() {
        for (path, want) in [
            ("/stats/summary", "stats"),
            ("/metrics/cadvisor", "metrics"),
            ("/metrics", "metrics"),
            ("/metricsx", "proxy"),
            ("/logs/", "log"),
            ("/containerLogs/a/b/c", "proxy"),
        ] {
            assert_eq!(subresource(path), want, "{path}");
        }
        assert_eq!((verb(&Method::Post), verb(&Method::Get)), ("create", "get"));
        assert_eq!(certified(b"no certificate"), None);
    }
}
