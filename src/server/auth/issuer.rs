//! One issuer of tokens elsewhere: what it says of itself, its keys, and whose a token is.
//!
//! Nothing is fetched before a token of the issuer is shown. Keys are fetched again when a token has none of those that
//! are known, at bounded intervals, and after an hour while they go on being used.
//!
//! Source: github.com/coreos/go-oidc, k8s.io/apiserver/plugin/pkg/authenticator/token/oidc.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{Lens, Value};
use http::Method;
use http::client::{Endpoint, Url};
use rt::lock::Semaphore;
use stdx::time::{Mono, Wall};
use stdx::{Error, Result};

use super::claims::Mapping;
use super::jwt::{self, Token};
use super::keys::PublicKey;
use crate::user::User;

/// Of a discovery document, and of a set of keys.
const DOCUMENT_MAX_BYTES: usize = 256 << 10;
/// Keys of one issuer: each may have to be tried for a token that names none.
const KEYS_MAX: usize = 64;
const REDIRECTS_MAX: usize = 5;
/// Both documents together.
const FETCH_MAX: Duration = Duration::from_secs(10);
/// Between two fetches that tokens cause: anybody may show any.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// How old keys may be before they are looked at again: an issuer may have withdrawn one.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3600);
/// Tokens that wait for keys; more are refused.
const WAITING_MAX: usize = 64;
/// As go-oidc's, of `nbf`.
const LEEWAY_SECS: i64 = 60;

#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) url: String,
    /// Where it says what it is.
    pub(super) discovery_url: String,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<&'static str>,
    pub(super) mapping: Mapping,
    tls: Arc<http::tls::ClientConfig>,
    http: http::client::Client,
    known: Mutex<Known>,
    fetching: rt::lock::Mutex<()>,
    waiting: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<[PublicKey]>,
    fetched: Option<Mono>,
    /// When it was last tried, and why it failed.
    tried: Option<Mono>,
    why: String,
}

impl Issuer {
    pub(super) fn new(
        (url, discovery_url): (String, String),
        audiences: Vec<String>,
        algorithms: Vec<&'static str>,
        mapping: Mapping,
        tls: Arc<http::tls::ClientConfig>,
    ) -> Issuer {
        Issuer {
            url,
            discovery_url,
            audiences,
            algorithms,
            mapping,
            tls,
            http: http::client::Client::new(http::client::Options::default()),
            known: Mutex::default(),
            fetching: rt::lock::Mutex::new(()),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Who a token of this issuer belongs to.
    ///
    /// # Errors
    /// Why it is nobody's, in upstream's words.
    pub(super) async fn authenticate(
        self: &Arc<Issuer>,
        token: &str,
    ) -> std::result::Result<User, String> {
        let claims =
            self.verified(token).await.map_err(|why| format!("oidc: verify token: {why}"))?;
        self.mapping.user(&claims)
    }

    async fn verified(self: &Arc<Issuer>, token: &str) -> std::result::Result<Value, String> {
        let token = Token::parse(token).ok_or("oidc: malformed jwt")?;
        let claims = token.claims().ok_or("oidc: malformed jwt: its claims are no object")?;
        self.check(&claims, rt::now().wall)?;
        if !self.algorithms.contains(&token.algorithm.as_str()) {
            return Err(format!(
                "oidc: id token signed with unsupported algorithm, expected {:?} got {:?}",
                self.algorithms, token.algorithm
            ));
        }
        let (keys, fetched) = {
            let known = self.known();
            (Arc::clone(&known.keys), known.fetched)
        };
        let signed = |keys: &[PublicKey]| keys.iter().any(|key| token.is_by(key));
        if signed(&keys) {
            let age = fetched.map(|at| rt::now().mono.since(at));
            if age.is_some_and(|age| age > KEYS_AGE_MAX) {
                let own = Arc::clone(self);
                let again = async move { drop(own.fetch_keys(fetched).await) };
                rt::spawn_named("keys of an issuer", again).detach();
            }
            return Ok(claims);
        }
        let keys = self.fetch_keys(fetched).await?;
        match signed(&keys) {
            true => Ok(claims),
            false => Err("failed to verify signature: failed to verify id token signature".into()),
        }
    }

    /// What holds of claims whoever signed them: the issuer, the audience, the time.
    fn check(&self, claims: &Value, now: Wall) -> std::result::Result<(), String> {
        let given: Vec<&str> = match claims.at("aud") {
            Value::String(one) => vec![one],
            list => list.list("").iter().filter_map(Value::as_str).collect(),
        };
        if !self.audiences.iter().any(|own| given.contains(&own.as_str())) {
            return Err(format!("oidc: expected audience in {:?} got {given:?}", self.audiences));
        }
        let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|secs| secs as i64);
        let ends = time("exp").unwrap_or(0);
        if ends < now.secs() {
            let ends = api::time::format(Wall::from_secs(ends));
            return Err(format!("oidc: token is expired (Token Expiry: {ends})"));
        }
        if let Some(begins) = time("nbf").filter(|at| now.secs() + LEEWAY_SECS < *at) {
            let (now, begins) =
                (api::time::format(now), api::time::format(Wall::from_secs(begins)));
            return Err(format!(
                "oidc: current time {now} before the nbf (not before) time: {begins}"
            ));
        }
        Ok(())
    }

    /// The keys, fetched anew unless somebody did since `seen`, or it was tried just now.
    async fn fetch_keys(
        &self,
        seen: Option<Mono>,
    ) -> std::result::Result<Arc<[PublicKey]>, String> {
        let _waits = self.waiting.try_acquire().ok_or("too many tokens wait for its keys")?;
        let _turn = self.fetching.lock().await;
        {
            let known = self.known();
            let is_new = known.fetched != seen;
            let is_soon = known.tried.is_some_and(|at| rt::now().mono.since(at) < FETCH_EVERY);
            if is_new || is_soon {
                return known.keys_or_why();
            }
        }
        let fetched = match rt::timeout(FETCH_MAX, self.fetch()).await {
            Ok(fetched) => fetched,
            Err(rt::Elapsed) => Err(Error::new("context deadline exceeded")),
        };
        let now = rt::now().mono;
        let mut known = self.known();
        known.tried = Some(now);
        match fetched {
            Ok(keys) => {
                known.keys = keys.into();
                known.fetched = Some(now);
                known.why.clear();
            }
            // The keys of before go on to count.
            Err(why) => {
                log::error!("oidc authenticator: fetch the keys of {:?}: {why}", self.url);
                known.why = why.to_string();
            }
        }
        known.keys_or_why()
    }

    async fn fetch(&self) -> Result<Vec<PublicKey>> {
        let document = self.document(&self.discovery_url).await?;
        let issuer = document.str("issuer");
        if issuer != self.url {
            return Err(Error::new(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {issuer:?}",
                self.url
            )));
        }
        let set = self.document(document.str("jwks_uri")).await?;
        let keys = set.list("keys").iter().filter_map(PublicKey::from_jwk);
        Ok(keys.take(KEYS_MAX).collect())
    }

    /// Fetches a JSON document.
    async fn document(&self, from: &str) -> Result<Value> {
        let mut url = Url::parse(from)?;
        for _ in 0..=REDIRECTS_MAX {
            if url.scheme != "https" {
                return Err(Error::new(format!("fetch {url}: URL scheme must be https")));
            }
            let endpoint = Endpoint::url(&url, &self.tls);
            let request = http::Request::new(Method::Get, url.target.as_str())
                .header("accept", "application/json")
                .header("user-agent", format!("kube-apiserver/{}", stdx::version::VERSION));
            let mut response = self.http.send(&endpoint, request).await?;
            match (response.status, response.headers.get("location")) {
                (200, _) => {
                    let text = response.body.read_all(DOCUMENT_MAX_BYTES).await?;
                    let parsed = serde_json::from_slice(&text);
                    return parsed.map_err(|why| Error::new(format!("read {url}: {why}")));
                }
                (301 | 302 | 303 | 307 | 308, Some(location)) => url = url.join(location)?,
                (code, _) => return Err(Error::new(format!("fetch {url}: it answered {code}"))),
            }
        }
        Err(Error::new(format!("fetch {from}: stopped after {REDIRECTS_MAX} redirects")))
    }

    #[cfg(test)]
    pub(super) fn forget_when(&self) {
        self.known().tried = None;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Replaced as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keys_or_why(&self) -> std::result::Result<Arc<[PublicKey]>, String> {
        match self.fetched {
            None => Err(format!("oidc: authenticator not initialized: {}", self.why)),
            Some(_) => Ok(Arc::clone(&self.keys)),
        }
    }
}

/// The issuer that a token says it is from; nothing of it is verified.
pub(super) fn untrusted(token: &str) -> Option<String> {
    let issuer = jwt::peek(token)?.get("iss")?.as_str()?.to_owned();
    // Its old name.
    Some(if issuer == "accounts.google.com" { format!("https://{issuer}") } else { issuer })
}
