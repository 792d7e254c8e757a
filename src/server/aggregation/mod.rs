//! API aggregation: groups and versions that an APIService leaves to another server.
//!
//! [`follow`] keeps the table of them and asks each whether it is there; requests find it here and are
//! passed on with who asks. While there is none, one watch is all that there is.

mod condition;
pub(crate) mod follow;

use std::sync::{Arc, Mutex, PoisonError};

use api::status::Reason;
use api::{Lens, Status, Value};
use discovery::elsewhere::Elsewhere;
use http::client::Client;
use http::tls::Identity;
use http::{Headers, Request, Response};

use crate::pass;
use crate::resolve::{Backend, Trusted, Ways};
use crate::user::User;

/// What a connection to another server may become.
const UPGRADES: [&str; 2] = ["websocket", "SPDY/3.1"];

/// A Service as an APIService names it, and what is known of it.
pub(crate) struct Target {
    backend: Backend,
    trusted: Trusted,
    learned: Mutex<Learned>,
}

/// What the other server said when it was last asked.
#[derive(Debug, Clone, Default)]
struct Learned {
    /// Its resources in the form of aggregated discovery, as JSON.
    resources: Option<Arc<str>>,
    fresh: bool,
    /// Where its OpenAPI v3 document is, below this server's own root.
    openapi: Option<Arc<str>>,
}

/// A group and version that another server serves.
pub(crate) struct Remote {
    /// The APIService's.
    name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    group_priority: i64,
    version_priority: i64,
    /// Its APIService says so.
    available: bool,
    target: Arc<Target>,
}

/// All of them. What they are changes as a whole.
pub(crate) struct Aggregation {
    remotes: Mutex<Arc<[Arc<Remote>]>>,
    /// How the server shows itself to other servers.
    identity: Option<Arc<Identity>>,
    /// This process's name in `Via`: what comes back would go round for ever.
    pseudonym: String,
}

impl Target {
    fn of(spec: &Value) -> Target {
        Target {
            backend: Backend::of(spec.at("service")),
            trusted: Trusted::of(spec),
            learned: Mutex::default(),
        }
    }

    fn is_same(&self, other: &Target) -> bool {
        self.backend == other.backend && self.trusted.is_same(&other.trusted)
    }

    fn learned(&self) -> Learned {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, change: impl FnOnce(&mut Learned)) {
        change(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Remote {
    /// The name of its APIService.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its APIService says so.
    pub(crate) fn is_available(&self) -> bool {
        self.available
    }

    /// Reads an APIService that passed validation; `None` if it leaves nothing to a Service. What is known of the
    /// target that it named before stays known.
    fn of(tree: &Value, before: Option<&Remote>) -> Option<Remote> {
        let spec = tree.at("spec");
        if !spec.has("service") || spec.str("group").is_empty() {
            return None;
        }
        let target = Target::of(spec);
        let target = match before.filter(|before| before.target.is_same(&target)) {
            Some(before) => Arc::clone(&before.target),
            None => Arc::new(target),
        };
        let available = condition::find(tree).is_some_and(|found| found.str("status") == "True");
        Some(Remote {
            name: tree.str("metadata.name").to_owned(),
            group: spec.str("group").to_owned(),
            version: spec.str("version").to_owned(),
            group_priority: spec.int("groupPriorityMinimum").unwrap_or(0),
            version_priority: spec.int("versionPriority").unwrap_or(0),
            available,
            target,
        })
    }

    /// What discovery says of it.
    pub(crate) fn elsewhere(&self) -> Elsewhere<'_> {
        let learned = self.target.learned();
        Elsewhere {
            group: &self.group,
            version: &self.version,
            group_priority: self.group_priority,
            version_priority: self.version_priority,
            resources: learned.resources,
            fresh: learned.fresh,
        }
    }

    /// The path of its OpenAPI v3 document with its hash, if it has one.
    pub(crate) fn openapi(&self) -> Option<Arc<str>> {
        self.target.learned().openapi
    }
}

impl Aggregation {
    pub(crate) fn new(identity: Option<Arc<Identity>>) -> Aggregation {
        let pseudonym = format!("k3rs-{:016x}", rt::random_u64());
        Aggregation { remotes: Mutex::new(Arc::from([])), identity, pseudonym }
    }

    /// All that there are now.
    pub(crate) fn all(&self) -> Arc<[Arc<Remote>]> {
        Arc::clone(&self.remotes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, remotes: Vec<Arc<Remote>>) {
        *self.remotes.lock().unwrap_or_else(PoisonError::into_inner) = remotes.into();
    }

    /// Who serves a group and version, if another server does.
    pub(crate) fn serving(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let all = self.all();
        all.iter().find(|one| one.group == group && one.version == version).cloned()
    }

    /// Passes on a request of `user`, who is authorized, with its path and query as they are.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn pass_on(
        &self,
        ways: Ways<'_>,
        client: &Client,
        remote: &Remote,
        user: &User,
        mut request: Request,
    ) -> Result<Response, Status> {
        if request.headers.get_all("via").any(|via| via.contains(&self.pseudonym)) {
            return Ok(plain(508, "the request came back to the server that passed it on"));
        }
        let unavailable = || Ok(plain(503, "service unavailable"));
        if !remote.available {
            return unavailable();
        }
        let tls = remote.target.trusted.tls(self.identity.as_ref()).map_err(Status::internal)?;
        let endpoint = match remote.target.backend.endpoint(ways, tls).await {
            Ok(endpoint) => endpoint,
            Err(why) => {
                log::debug!("resolve the Service of {}: {why}", remote.name);
                return unavailable();
            }
        };
        let uri = request.path().to_owned();
        pass::forwarded(&mut request, &uri);
        let backend = &remote.target.backend;
        request.authority = format!("{}:{}", backend.host(), backend.port);
        // Before the server's own words are there: `Connection` may name them.
        let protocol = request.headers.get("upgrade").unwrap_or("").to_owned();
        pass::strip(&mut request.headers);
        if request.upgrade.is_some() {
            // Of other protocols (HTTP/2 in the clear) the caller could speak in the server's name.
            if !UPGRADES.iter().any(|known| known.eq_ignore_ascii_case(&protocol)) {
                let message = format!("unable to upgrade: unsupported protocol {protocol:?}");
                return Err(Status::bad_request(message));
            }
            request.headers.set("connection", "Upgrade");
            request.headers.set("upgrade", protocol);
        }
        introduce(&mut request.headers, user)?;
        request.headers.append("via", format!("1.1 {}", self.pseudonym));
        let response = match request.upgrade.is_some() {
            true => pass::upgrade(client, &endpoint, request).await?,
            false => pass::send(client, &endpoint, request).await?,
        };
        // It would lead clients, and their credentials, to where no administrator pointed.
        match (300..400).contains(&response.status) && response.headers.contains("location") {
            true => Ok(plain(
                502,
                "the backend attempted to redirect this request, which is not permitted",
            )),
            false => Ok(response),
        }
    }
}

fn plain(code: u16, text: &str) -> Response {
    Response::text(code, format!("{text}\n")).header("x-content-type-options", "nosniff")
}

/// Says who asks, in the fields that `extension-apiserver-authentication` tells other servers of.
///
/// # Errors
/// 400 for a name that a field of HTTP would change into another one.
fn introduce(headers: &mut Headers, user: &User) -> Result<(), Status> {
    // Some servers take an underscore for a hyphen.
    headers.retain(|name, _| !name.replace('_', "-").starts_with("x-remote-"));
    let mut say = |name: &str, value: &str| {
        if value.trim() != value || value.chars().any(char::is_control) {
            let message = format!("{value:?} of the user cannot be told to another server");
            return Err(Status::new(Reason::BadRequest, message));
        }
        headers.append(name, value);
        Ok(())
    };
    say("x-remote-user", &user.name)?;
    for group in &user.groups {
        say("x-remote-group", group)?;
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        for value in values {
            say(&name, value)?;
        }
    }
    Ok(())
}

/// A key as the name of a field can hold it: what it cannot hold is percent-encoded, as upstream.
fn escape(key: &str) -> String {
    wire::percent::escape(key, |byte| byte != b'%' && wire::headers::is_token_byte(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_as_upstream_tells_them() {
        let mut user = User::new("a b", &["g"]);
        user.extra.insert("example.com/k%".into(), vec!["v".into(), "w".into()]);
        let mut headers = Headers::new();
        headers.append("x-remote-user", "forged");
        headers.append("x-remote-extra-forged", "x");
        headers.append("x_remote_group", "system:masters");
        introduce(&mut headers, &user).unwrap();
        let all: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            all,
            [
                "x-remote-user=a b",
                "x-remote-group=g",
                "x-remote-group=system:authenticated",
                "x-remote-extra-example.com%2fk%25=v",
                "x-remote-extra-example.com%2fk%25=w",
            ]
        );
        for name in ["admin\n", " admin", "admin\u{0}", "a\r\nx-remote-group: system:masters"] {
            introduce(&mut Headers::new(), &User::new(name, &[])).unwrap_err();
        }
    }
}
