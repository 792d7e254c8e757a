//! Tokens of other issuers: what is fetched and how often, what is believed, and who waits for whom.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kinds::TOKEN_REVIEW;
use api::{Lens, Value, json};
use client::{Answer, Body, Verb};
use http::server::{Limits, Service};
use http::tls::{Identity, server_config};
use http::{BoxFuture, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rt::net::TcpListener;

use super::config;
use crate::auth::{TestSigner, test_key, test_sign};
use crate::{AuthenticationOptions, Authenticators, Plugs, Server, User};

/// Says what it is under `/realm`, and has keys.
struct Shown {
    port: u16,
    keys: Mutex<Vec<Value>>,
    fetched: Mutex<Vec<String>>,
    hangs: AtomicBool,
}

impl Service for Shown {
    fn call(&self, request: http::Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let path = request.path().to_owned();
            self.fetched.lock().unwrap().push(path.clone());
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let base = format!("https://127.0.0.1:{}", self.port);
            let document = |issuer: &str, keys: &str| {
                let tree = json!({"issuer": format!("{base}{issuer}"), "jwks_uri": format!("{base}{keys}")});
                Response::json(200, tree.to_string().into_bytes())
            };
            match path.as_str() {
                "/realm/.well-known/openid-configuration" => document("/realm", "/keys"),
                "/elsewhere" => document("/moved", "/far/keys"),
                "/liar/.well-known/openid-configuration" => document("/realm", "/keys"),
                "/loop/.well-known/openid-configuration" => {
                    Response::text(302, "").header("location", path)
                }
                "/far/keys" => Response::text(307, "").header("location", "../keys"),
                "/keys" => {
                    let keys = self.keys.lock().unwrap().clone();
                    Response::json(200, json!({"keys": keys}).to_string().into_bytes())
                }
                "/huge/.well-known/openid-configuration" => {
                    Response::text(200, "x".repeat(1 << 20))
                }
                _ => Response::text(404, "not here"),
            }
        })
    }
}

struct Running {
    shown: Arc<Shown>,
    server: Server,
    service: Arc<dyn Service>,
    authenticators: Arc<Authenticators>,
    signer: TestSigner,
    base: String,
    file: PathBuf,
    ca: String,
    _serving: rt::Task<Option<stdx::Result<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        rt::fs::remove_file(&self.file).unwrap();
    }
}

fn signer() -> TestSigner {
    TestSigner::from_pem(&test_key()).unwrap()
}

/// An entry of the file: an issuer under `path`, with `more` of it.
fn issuer(base: &str, ca: &str, path: &str, more: Value) -> Value {
    let mut jwt = json!({
        "issuer": {"url": format!("{base}{path}"), "certificateAuthority": ca, "audiences": ["us", "too"], "audienceMatchPolicy": "MatchAny"},
        "claimMappings": {"username": {"claim": "sub", "prefix": "o:"}, "groups": {"claim": "groups", "prefix": ""}},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        jwt["issuer"][name] = value.clone();
    }
    jwt
}

fn write(file: &PathBuf, jwt: &[Value], anonymous: Value) {
    let tree = json!({"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration", "jwt": jwt, "anonymous": anonymous});
    rt::fs::write_atomic(file, tree.to_string().as_bytes(), 0o600).unwrap();
}

impl Running {
    async fn start(name: &str) -> Running {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = names.signed_by(&key, &authority).unwrap();
        let pem = key.serialize_pem();
        let identity = Identity::from_pem(leaf.pem().as_bytes(), pem.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let signer = signer();
        let shown = Arc::new(Shown {
            port,
            keys: Mutex::new(vec![json!({"kty": "odd"}), signer.public().to_jwk()]),
            fetched: Mutex::default(),
            hangs: AtomicBool::new(false),
        });
        let tls = server_config(identity, None).unwrap();
        let service = Arc::clone(&shown) as Arc<dyn Service>;
        let serving = http::server::serve(listener, Some(tls), service, Limits::default());
        let base = format!("https://127.0.0.1:{port}");
        let file = std::env::temp_dir().join(format!("k3rs-{name}-{}.yaml", std::process::id()));
        let ca = authority.pem();
        let all = [
            issuer(&base, &ca, "/realm", json!({})),
            issuer(&base, &ca, "/moved", json!({"discoveryURL": format!("{base}/elsewhere")})),
            issuer(&base, &ca, "/liar", json!({})),
            issuer(&base, &ca, "/loop", json!({})),
            issuer(&base, &ca, "/huge", json!({})),
        ];
        write(&file, &all, json!({"enabled": true, "conditions": [{"path": "/apis"}]}));
        let options =
            AuthenticationOptions { config_file: Some(file.clone()), ..Default::default() };
        let authenticators = Authenticators::open(&options, &config().issuers).unwrap().unwrap();
        let plugs = Plugs { authenticators: Some(Arc::clone(&authenticators)), ..Plugs::default() };
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server = Server::start_with(config(), store.await.unwrap(), plugs).await.unwrap();
        let _serving = rt::spawn_named("issuer", serving);
        let service = server.service(None);
        Running { shown, server, service, authenticators, signer, base, file, ca, _serving }
    }

    fn claims(&self, path: &str) -> Value {
        let now = rt::now().wall.secs();
        json!({"iss": format!("{}{path}", self.base), "sub": "jane", "aud": ["us"], "exp": now + 600, "groups": ["devs"]})
    }

    fn token(&self, claims: &Value) -> String {
        test_sign(&self.signer, claims).unwrap()
    }

    /// What a review says of a token: a user's name, or why it is nobody's.
    async fn review(&self, token: &str, audiences: Value) -> String {
        let mut request = client::Request::new(Verb::Create, &TOKEN_REVIEW, "", "");
        request.body = Body::Tree(json!({"spec": {"token": token, "audiences": audiences}}));
        let admin = self.server.client_as(User::admin());
        let Answer::Tree(tree) = admin.call(request).await.unwrap() else { panic!("no tree") };
        match tree.flag("status.authenticated") {
            true => tree.str("status.user.username").to_owned(),
            false => tree.str("status.error").to_owned(),
        }
    }

    async fn code(&self, path: &str, token: Option<&str>) -> u16 {
        let mut request = http::Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.service.call(request).await.status
    }

    fn fetched(&self) -> usize {
        std::mem::take(&mut *self.shown.fetched.lock().unwrap()).len()
    }
}

#[test]
fn tokens_of_an_issuer_are_believed_within_their_bounds() {
    rt::block_on(async {
        let running = Running::start("issuers").await;
        assert_eq!(running.fetched(), 0);
        let whole = running.claims("/realm");
        let good = running.token(&whole);
        assert_eq!(running.review(&good, json!([])).await, "o:jane");
        assert_eq!(running.fetched(), 2);
        assert_eq!(running.code("/api", Some(&good)).await, 200);
        assert_eq!(running.review(&good, json!(["k3s"])).await, "o:jane");
        assert_eq!(running.review(&good, json!(["other"])).await, "invalid bearer token");
        let with = |name: &str, value: Value| {
            let mut claims = whole.clone();
            claims[name] = value;
            claims
        };
        let now = rt::now().wall.secs();
        for (claims, wanted) in [
            (with("aud", json!("them")), "oidc: verify token: oidc: expected audience in"),
            (with("aud", json!("too")), "o:jane"),
            (with("exp", json!(now - 1)), "oidc: token is expired (Token Expiry: "),
            (with("exp", Value::Null), "oidc: token is expired"),
            (with("nbf", json!(now + 300)), "before the nbf (not before) time: "),
            (with("nbf", json!(now + 30)), "o:jane"),
            (with("sub", json!(7)), "oidc: parse username claims"),
            (with("iss", json!("https://other")), "invalid bearer token"),
        ] {
            let said = running.review(&running.token(&claims), json!([])).await;
            assert!(said.contains(wanted), "{claims}: {said}");
        }
        let (head, rest) = good.split_once('.').unwrap();
        let none = wire::base64::encode_url(br#"{"alg":"none"}"#);
        let hmac = wire::base64::encode_url(br#"{"alg":"HS256"}"#);
        for bad in [format!("{none}.{rest}"), format!("{hmac}.{rest}")] {
            let said = running.review(&bad, json!([])).await;
            assert!(said.contains("unsupported algorithm"), "{said}");
            assert_eq!(running.code("/api", Some(&bad)).await, 401);
        }
        let changed = wire::base64::encode_url(with("sub", json!("root")).to_string().as_bytes());
        let signature = rest.split_once('.').unwrap().1;
        let said = running.review(&format!("{head}.{changed}.{signature}"), json!([])).await;
        assert!(said.contains("failed to verify id token signature"), "{said}");
        // Nobody else's tokens lead anywhere, and those that are not signed fetch nothing so soon.
        assert_eq!(running.fetched(), 0);
    });
}

#[test]
fn keys_are_fetched_again_for_those_that_are_not_known_but_not_for_each() {
    rt::block_on(async {
        let running = Running::start("rotates").await;
        let claims = running.claims("/realm");
        assert_eq!(running.review(&running.token(&claims), json!([])).await, "o:jane");
        assert_eq!(running.fetched(), 2);
        let next = signer();
        let token = test_sign(&next, &claims).unwrap();
        for _ in 0..20 {
            let said = running.review(&token, json!([])).await;
            assert!(said.contains("failed to verify id token signature"), "{said}");
        }
        assert_eq!(running.fetched(), 0);
        *running.shown.keys.lock().unwrap() = vec![next.public().to_jwk()];
        running.authenticators.forget_when();
        let (one, other) =
            rt::future::zip(running.review(&token, json!([])), running.review(&token, json!([])))
                .await;
        assert_eq!((one.as_str(), other.as_str()), ("o:jane", "o:jane"));
        assert_eq!(running.fetched(), 2);
        // What the issuer withdrew is not believed any more.
        let said = running.review(&running.token(&claims), json!([])).await;
        assert!(said.contains("failed to verify id token signature"), "{said}");
        // A redirect leads to the keys, another document to their place.
        let moved = running.claims("/moved");
        assert_eq!(running.review(&test_sign(&next, &moved).unwrap(), json!([])).await, "o:jane");
        for (path, wanted) in [
            ("/liar", "issuer did not match the issuer returned by provider"),
            ("/loop", "stopped after 5 redirects"),
            ("/huge", "oidc: authenticator not initialized: "),
        ] {
            running.fetched();
            for _ in 0..3 {
                let token = test_sign(&next, &running.claims(path)).unwrap();
                let said = running.review(&token, json!([])).await;
                assert!(said.contains(wanted), "{path}: {said}");
            }
            let n_fetched = running.fetched();
            assert!(n_fetched <= 6, "{path}: fetched {n_fetched} times");
        }
    });
}

#[test]
fn whoever_waits_for_an_issuer_keeps_nobody_else_waiting() {
    rt::block_on(async {
        let running = Arc::new(Running::start("hangs").await);
        running.shown.hangs.store(true, Ordering::SeqCst);
        let token = running.token(&running.claims("/realm"));
        let mut waiting = Vec::new();
        for _ in 0..70 {
            let (running, token) = (Arc::clone(&running), token.clone());
            let ask = async move { running.review(&token, json!([])).await };
            waiting.push(rt::spawn_named("waits", ask));
        }
        while running.shown.fetched.lock().unwrap().is_empty() {
            rt::sleep(Duration::from_millis(5)).await;
        }
        // Others are answered at once; so are those for whom there is no room to wait.
        let others = async {
            assert_eq!(running.code("/api", Some("admin")).await, 200);
            running.code("/version", None).await
        };
        assert_eq!(rt::timeout(Duration::from_secs(5), others).await.unwrap(), 200);
        let mut n_refused = 0;
        for task in waiting {
            let said = task.await.unwrap();
            assert!(said.contains("too many tokens") || said.contains("not initialized"), "{said}");
            n_refused += usize::from(said.contains("too many tokens"));
        }
        assert!((1..=6).contains(&n_refused), "{n_refused}");
        assert!(running.fetched() <= 2);
    });
}

#[test]
fn nobody_is_let_in_where_the_file_says_so_and_the_file_may_change() {
    rt::block_on(async {
        let running = Running::start("reads").await;
        // Who says nothing may ask for this path, and roles say that it may not see it.
        assert_eq!(running.code("/apis", None).await, 403);
        assert_eq!(running.code("/api", None).await, 401);
        assert_eq!(running.code("/apis/", None).await, 401);
        assert_eq!(running.code("/apis", Some("nonsense")).await, 401);
        assert_eq!(running.code("/version", None).await, 200);
        let token = running.token(&running.claims("/realm"));
        assert_eq!(running.review(&token, json!([])).await, "o:jane");
        let _following = rt::spawn_named("file", Arc::clone(&running.authenticators).follow());
        let anonymous = json!({"enabled": true, "conditions": [{"path": "/apis"}]});
        let mut changed = issuer(&running.base, &running.ca, "/realm", json!({}));
        changed["claimMappings"]["username"]["prefix"] = "p:".into();
        write(&running.file, &[changed.clone()], anonymous.clone());
        let same = async {
            while running.review(&token, json!([])).await != "p:jane" {
                rt::sleep(Duration::from_millis(20)).await;
            }
        };
        rt::timeout(Duration::from_secs(60), same).await.expect("it is read again");
        write(&running.file, &[changed.clone()], json!({"enabled": true}));
        let why = running.authenticators.reload(&running.file).unwrap_err().to_string();
        assert_eq!(why, "anonymous: Forbidden: changed from initial configuration file");
        changed["issuer"]["url"] = config().issuers[0].as_str().into();
        write(&running.file, &[changed], anonymous);
        let why = running.authenticators.reload(&running.file).unwrap_err().to_string();
        assert_eq!(
            why,
            "jwt[0].issuer.url: Invalid value: \"https://kubernetes.default.svc.cluster.local\": URL must not overlap with disallowed issuers: [https://kubernetes.default.svc.cluster.local]"
        );
        assert_eq!(running.review(&token, json!([])).await, "p:jane");
    });
}
