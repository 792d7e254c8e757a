//! A webhook that knows bearer tokens: what it is asked, what of its answers is believed, and for how long.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kinds::TOKEN_REVIEW;
use api::{Lens, LensMut, Value, json};
use client::{Answer, Body, Client, Verb};
use http::server::{Limits, Service};
use http::{BoxFuture, Response};
use rt::net::TcpListener;

use super::config;
use crate::{Plugs, Server, TokenWebhook, TokenWebhookOptions, User};

/// A server that knows the users `NAME` of tokens `NAME-token`, and does what other tokens say.
#[derive(Default)]
struct Directory(Mutex<Vec<Value>>);

impl Service for Directory {
    fn call(&self, mut request: http::Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            assert_eq!(request.path(), "/authenticate");
            assert_eq!(request.headers.get("authorization"), Some("Bearer ours"));
            let body = request.body.read_all(1 << 20).await.unwrap();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let token = review.str("spec.token").to_owned();
            let first = {
                let mut asked = self.0.lock().unwrap();
                let first = !asked.iter().any(|asked| asked.str("spec.token") == token);
                asked.push(review.clone());
                first
            };
            let user = |name: &str| json!({"username": name, "uid": "7", "groups": ["g"], "extra": {"scopes": ["a", "b"]}});
            let status = match token.as_str() {
                "busy-token" if first => {
                    return Response::text(429, "later").header("retry-after", "0");
                }
                "broken" => return Response::text(503, "out of order"),
                "slow-token" => {
                    rt::sleep(Duration::from_millis(300)).await;
                    json!({"authenticated": true, "user": user("slow")})
                }
                "elsewhere-token" => {
                    json!({"authenticated": true, "user": user("elsewhere"), "audiences": ["else"]})
                }
                "nameless-token" => {
                    json!({"authenticated": true, "user": {"groups": ["system:masters"]}})
                }
                "other-version" => {
                    review.set("apiVersion", "authentication.k8s.io/v9");
                    json!({"authenticated": true, "user": user("other")})
                }
                token => match token.strip_suffix("-token") {
                    Some(name) => json!({"authenticated": true, "user": user(name)}),
                    None => json!({"authenticated": false, "error": "no such token"}),
                },
            };
            review.set("status", status);
            Response::json(200, review.to_string().into_bytes())
        })
    }
}

struct Running {
    directory: Arc<Directory>,
    server: Server,
    service: Arc<dyn Service>,
    _serving: rt::Task<Option<stdx::Result<()>>>,
}

impl Running {
    async fn start(name: &str, version: &str, cache_ttl: &str) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = Arc::new(Directory::default());
        let service = Arc::clone(&directory) as Arc<dyn Service>;
        let serving = http::server::serve(listener, None, service, Limits::default());
        let path = std::env::temp_dir().join(format!("k3rs-{name}-{}.yaml", std::process::id()));
        let kubeconfig = format!(
            "clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}/authenticate'}}}}]\nusers: [{{name: u, user: {{token: ours}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        );
        rt::fs::write(&path, kubeconfig.as_bytes(), 0o600).unwrap();
        let token_webhook = TokenWebhook::open(&TokenWebhookOptions {
            config_file: Some(path.clone()),
            version: version.into(),
            cache_ttl: cache_ttl.into(),
        });
        let plugs = Plugs { token_webhook: token_webhook.unwrap(), ..Plugs::default() };
        rt::fs::remove_file(&path).unwrap();
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server = Server::start_with(config(), store.await.unwrap(), plugs).await.unwrap();
        let _serving = rt::spawn_named("token webhook", serving);
        Running { directory, service: server.service(None), server, _serving }
    }

    /// Who somebody with a token is; its code if nobody.
    async fn who(&self, token: &str) -> Result<String, u16> {
        let request = http::Request::new(
            http::Method::Post,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        )
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#);
        let mut answer = self.service.call(request).await;
        let text = answer.body.read_all(1 << 20).await.unwrap();
        match answer.status {
            201 => Ok(serde_json::from_slice::<Value>(&text)
                .unwrap()
                .at("status.userInfo")
                .to_string()),
            code => Err(code),
        }
    }

    fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.directory.0.lock().unwrap())
    }
}

async fn review(client: &Client, token: &str, audiences: Value) -> Value {
    let tree = json!({"spec": {"token": token, "audiences": audiences}});
    let mut request = client::Request::new(Verb::Create, &TOKEN_REVIEW, "", "");
    request.body = Body::Tree(tree);
    let Answer::Tree(tree) = client.call(request).await.unwrap() else { panic!("no tree") };
    tree.at("status").clone()
}

#[test]
fn what_the_webhook_says_is_believed_and_kept() {
    rt::block_on(async {
        let running = Running::start("tokens", "v1", "2m0s").await;
        let alice = r#"{"extra":{"scopes":["a","b"]},"groups":["g","system:authenticated"],"uid":"7","username":"alice"}"#;
        for _ in 0..3 {
            assert_eq!(running.who("alice-token").await, Ok(alice.to_owned()));
        }
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert_eq!(asked.str("apiVersion"), "authentication.k8s.io/v1");
        assert_eq!(
            asked.at("spec.audiences"),
            &json!(["https://kubernetes.default.svc.cluster.local", "k3s"])
        );
        for (token, n_asked) in [
            // Refusals are kept, what went wrong is not.
            ("nobody", 1),
            ("elsewhere-token", 1),
            ("nameless-token", 2),
            ("other-version", 2),
            ("broken", 2),
        ] {
            for _ in 0..2 {
                assert_eq!(running.who(token).await, Err(401), "{token}");
            }
            assert_eq!(running.asked().len(), n_asked, "{token}");
        }
        // Asked again, as the server wants.
        assert!(running.who("busy-token").await.unwrap().contains("\"busy\""));
        assert_eq!(running.asked().len(), 2);
        // Whom the server itself knows, nobody is asked about.
        assert!(running.who("admin").await.is_ok());
        assert_eq!(running.asked().len(), 0);
        // Several at once are one question.
        let (one, other) =
            rt::future::zip(running.who("slow-token"), running.who("slow-token")).await;
        assert!(one.is_ok() && one == other, "{one:?} {other:?}");
        assert_eq!(running.asked().len(), 1);
    });
}

#[test]
fn reviews_ask_for_the_audiences_that_they_name() {
    rt::block_on(async {
        let running = Running::start("reviews", "v1beta1", "0s").await;
        let client = running.server.client_as(User::admin());
        let own = json!(["https://kubernetes.default.svc.cluster.local", "k3s"]);
        let known = review(&client, "alice-token", json!([])).await;
        assert_eq!((known.at("authenticated"), known.at("audiences")), (&json!(true), &own));
        assert_eq!(known.str("user.username"), "alice");
        let known = review(&client, "alice-token", json!(["k3s", "x"])).await;
        assert_eq!(known.at("audiences"), &json!(["k3s"]));
        let known = review(&client, "alice-token", json!(["x"])).await;
        assert_eq!(known.at("authenticated"), &json!(false));
        let known = review(&client, "elsewhere-token", json!(["else", "k3s"])).await;
        assert_eq!(known.at("audiences"), &json!(["else"]));
        let asked = running.asked();
        assert_eq!(asked.len(), 4);
        assert_eq!(asked[0].at("spec.audiences"), &own);
        assert_eq!(asked[2].at("spec.audiences"), &json!(["x"]));
        assert_eq!(asked[0].str("apiVersion"), "authentication.k8s.io/v1beta1");
        // Nothing is kept for no time.
        for _ in 0..2 {
            assert!(running.who("bob-token").await.is_ok());
        }
        assert_eq!(running.asked().len(), 2);
    });
}

#[test]
fn options_that_cannot_be_used_are_refused() {
    let open = |version: &str, cache_ttl: &str| {
        let options = TokenWebhookOptions {
            config_file: Some("/nowhere/at/all".into()),
            version: version.into(),
            cache_ttl: cache_ttl.into(),
        };
        TokenWebhook::open(&options).map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        open("v2", "2m0s"),
        "unsupported authentication webhook version \"v2\", supported versions are \"v1\", \"v1beta1\""
    );
    assert!(
        open("v1", "soon").starts_with(
            "invalid argument \"soon\" for \"--authentication-token-webhook-cache-ttl\""
        )
    );
    assert!(open("v1", "-1s").starts_with("invalid argument \"-1s\""));
    let missing = open("v1", "1h2m");
    assert!(
        missing.starts_with("use --authentication-token-webhook-config-file: open /nowhere/at/all"),
        "{missing}"
    );
    assert!(TokenWebhook::open(&TokenWebhookOptions::default()).unwrap().is_none());
}
