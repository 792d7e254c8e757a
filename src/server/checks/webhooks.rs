//! Admission webhooks: an HTTPS server in the process is asked, changes and refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kinds::*;
use api::{Kind, Lens, LensMut, Value, json};
use client::{Body, Client, DeleteOptions, PatchType, Request, Verb};
use http::server::{Limits, Service};
use http::tls::{Identity, server_config};
use http::{BoxFuture, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rt::net::TcpListener;

use super::{request, start};
use crate::core::Call;
use crate::dispatch::perform;
use crate::door;
use crate::user::{Caller, User};

/// What it answers to a request: `response` without its uid.
type Answer = Box<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// A webhook server that keeps what it was asked.
pub(super) struct Hooks {
    answer: Answer,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Service for Hooks {
    fn call(&self, mut request: http::Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let body = request.body.read_all(1 << 20).await.unwrap();
            let review: Value = serde_json::from_slice(&body).unwrap();
            let path = request.path().to_owned();
            let asked = review.at("request");
            if path == "/slow" {
                rt::sleep(Duration::from_secs(5)).await;
            }
            if path == "/broken" {
                return Response::text(500, "out of order");
            }
            let mut response = (self.answer)(&path, asked);
            if !response.has("uid") {
                response.set("uid", asked.str("uid"));
            }
            self.asked.lock().unwrap().push((request.target.clone(), asked.clone()));
            let answer = json!({"apiVersion": review.at("apiVersion"), "kind": review.at("kind"), "response": response});
            Response::json(200, answer.to_string().into_bytes())
        })
    }
}

/// A running webhook server and how to reach it.
pub(super) struct Running {
    hooks: Arc<Hooks>,
    pub(super) port: u16,
    pub(super) ca: String,
    _serving: rt::Task<Option<stdx::Result<()>>>,
}

impl Running {
    pub(super) async fn start(
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> Running {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "hook.default.svc".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let pem = key.serialize_pem();
        let identity = Identity::from_pem(leaf.pem().as_bytes(), pem.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hooks = Arc::new(Hooks { answer: Box::new(answer), asked: Mutex::default() });
        let tls = server_config(identity, None).unwrap();
        let service = Arc::clone(&hooks) as Arc<dyn Service>;
        let serving = http::server::serve(listener, Some(tls), service, Limits::default());
        let ca = wire::base64::encode(authority.pem().as_bytes());
        Running { hooks, port, ca, _serving: rt::spawn_named("webhooks", serving) }
    }

    /// A webhook by URL, asked about config maps unless `change` says otherwise.
    pub(super) fn hook(&self, path: &str, change: Value) -> Value {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut hook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/').replace('/', ".")),
            "clientConfig": {"url": url, "caBundle": self.ca}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "rules": [{"operations": ["*"], "apiGroups": [""],
            "apiVersions": ["v1"], "resources": ["configmaps"]}]});
        for (key, value) in change.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        hook
    }

    pub(super) fn asked(&self) -> Vec<Value> {
        let mut asked = self.hooks.asked.lock().unwrap();
        std::mem::take(&mut *asked).into_iter().map(|(_, request)| request).collect()
    }
}

pub(super) async fn configure(client: &Client, kind: &'static Kind, hooks: Vec<Value>) {
    let tree = json!({"metadata": {"name": "hooks"}, "webhooks": hooks});
    client.create(kind, tree).await.unwrap();
}

async fn replace(client: &Client, kind: &'static Kind, hooks: Vec<Value>) {
    client.delete(kind, "", "hooks", DeleteOptions::default()).await.unwrap();
    configure(client, kind, hooks).await;
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"a": "b"}})
}

fn allow() -> Value {
    json!({"allowed": true})
}

/// Adds a key to the data of what it is asked about.
fn adds(key: &str) -> Value {
    let patch =
        json!([{"op": "add", "path": format!("/data/{key}"), "value": "added"}]).to_string();
    json!({"allowed": true, "patchType": "JSONPatch", "patch": wire::base64::encode(patch.as_bytes())})
}

#[test]
fn a_validating_webhook_is_told_everything_and_may_refuse() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|_, request| match request.str("object.data.a") {
            "bad" => json!({"allowed": false, "status": {"reason": "it is bad", "code": 418}}),
            _ => json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}}),
        })
        .await;
        configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![running.hook("/v", json!({}))])
            .await;
        let made = client.create(&CONFIG_MAP, config_map("c")).await.unwrap();
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        let own = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
        let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
        for (field, wanted) in [
            ("kind", &own),
            ("requestKind", &own),
            ("resource", &resource),
            ("requestResource", &resource),
            ("operation", &json!("CREATE")),
            ("name", &json!("c")),
            ("namespace", &json!("default")),
            ("dryRun", &json!(false)),
            ("oldObject", &Value::Null),
            ("subResource", &Value::Null),
            ("options", &json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"})),
        ] {
            assert_eq!(asked.at(field), wanted, "{field}");
        }
        assert_eq!(asked.str("uid").len(), 36);
        assert_eq!(asked.str("userInfo.username"), "system:admin");
        assert_eq!(asked.str("object.metadata.uid"), made.uid());
        assert_eq!((asked.str("object.kind"), asked.str("object.apiVersion")), ("ConfigMap", "v1"));

        let mut tree = made.tree();
        tree.set("data.a", "bad");
        let refused = client.update(&CONFIG_MAP, tree).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (418, "admission webhook \"v.example.com\" denied the request: it is bad")
        );
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert_eq!((asked.str("operation"), asked.str("oldObject.data.a")), ("UPDATE", "b"));
        client.delete(&CONFIG_MAP, "default", "c", DeleteOptions::default()).await.unwrap();
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert_eq!((asked.str("operation"), asked.at("object")), ("DELETE", &Value::Null));
        assert_eq!(asked.str("oldObject.metadata.name"), "c");
    });
}

#[test]
fn warnings_reach_the_client_once() {
    rt::block_on(async {
        let (server, client) = start().await;
        let running =
            Running::start(|_, _| json!({"allowed": true, "warnings": ["careful"]})).await;
        let hooks = vec![running.hook("/a", json!({})), running.hook("/b", json!({}))];
        configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, hooks).await;
        let caller = Caller::new(User::admin(), "test");
        let create = request(Verb::Create, &CONFIG_MAP, "", config_map("c"));
        let made = perform(server.core(), &caller, create).await.unwrap();
        assert_eq!(made.warnings, ["careful"]);
        let delete = Request::new(Verb::Delete, &CONFIG_MAP, "default", "c");
        let gone = perform(server.core(), &caller, delete).await.unwrap();
        assert_eq!(gone.warnings, ["careful"]);
        assert_eq!(running.asked().len(), 4, "both, at once, each time");
    });
}

#[test]
fn mutating_webhooks_change_what_the_next_one_sees() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|path, request| match path {
            // What another one added after it is its to see, once.
            "/first" if request.has("object.data.second") && !request.has("object.data.seen") => {
                adds("seen")
            }
            "/first" if request.has("object.data.first") => allow(),
            "/first" => adds("first"),
            "/second" if request.has("object.data.second") => allow(),
            "/second" => adds("second"),
            _ => json!({"allowed": true, "patchType": "JSONPatch", "patch": wire::base64::encode(
                br#"[{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}]"#)}),
        })
        .await;
        let hooks = vec![
            running.hook("/first", json!({"reinvocationPolicy": "IfNeeded"})),
            running.hook("/second", json!({})),
        ];
        configure(&client, &MUTATING_WEBHOOK_CONFIGURATION, hooks).await;
        let made = client.create(&CONFIG_MAP, config_map("c")).await.unwrap().tree();
        let keys: Vec<&str> = made.pairs("data").map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "first", "second", "seen"]);
        let asked = running.asked();
        assert_eq!(asked.len(), 3, "the second one is not asked again");
        assert!(!asked[0].has("object.metadata.uid"), "it is given after they have spoken");
        let patch = json!({"data": {"a": "c"}});
        client.patch(&CONFIG_MAP, "default", "c", "", PatchType::Merge, patch).await.unwrap();
        assert_eq!(running.asked().len(), 2, "nothing changed, so nobody is asked twice");

        replace(&client, &MUTATING_WEBHOOK_CONFIGURATION, vec![running.hook("/move", json!({}))])
            .await;
        let refused = client.create(&CONFIG_MAP, config_map("d")).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "the namespace of the provided object does not match the namespace sent on the request"
        );
        let patch = json!({"data": {"a": "d"}});
        let moved = client.patch(&CONFIG_MAP, "default", "c", "", PatchType::Merge, patch).await;
        assert_eq!(moved.unwrap_err().code(), 400);
        let gone = client.delete(&CONFIG_MAP, "default", "c", DeleteOptions::default()).await;
        assert_eq!(
            gone.unwrap_err().message(),
            "Internal error occurred: admission webhook \"move.example.com\" attempted to modify the object, which is not supported for this operation"
        );
    });
}

#[test]
fn what_selectors_rules_and_exemptions_leave_out_is_not_asked_about() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|_, _| json!({"allowed": false})).await;
        let hidden = json!({"matchLabels": {"seen": "yes"}});
        let rule = |field: &str, value: Value| {
            let mut rule = json!({"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
            rule[field] = value;
            json!({"rules": [rule]})
        };
        for (change, asked) in [
            (json!({}), true),
            (json!({"objectSelector": hidden}), false),
            (json!({"namespaceSelector": hidden}), false),
            (
                json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}),
                true,
            ),
            (rule("operations", json!(["UPDATE"])), false),
            (rule("apiVersions", json!(["v2"])), false),
            (rule("scope", json!("Cluster")), false),
            (rule("scope", json!("Namespaced")), true),
        ] {
            let hook = running.hook("/v", change.clone());
            configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![hook]).await;
            let mut create = request(Verb::Create, &CONFIG_MAP, "", config_map("c"));
            create.dry_run = true;
            assert_eq!(client.call(create).await.is_err(), asked, "{change}");
            // Else nobody could take a bad one away.
            client
                .delete(&VALIDATING_WEBHOOK_CONFIGURATION, "", "hooks", DeleteOptions::default())
                .await
                .unwrap();
        }
    });
}

#[test]
fn a_webhook_is_asked_in_the_version_that_its_rules_name() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|_, request| match request.str("object.note") {
            "" => allow(),
            _ => json!({"allowed": true, "patchType": "JSONPatch", "patch": wire::base64::encode(
                br#"[{"op": "replace", "path": "/note", "value": "changed"}]"#)}),
        })
        .await;
        let rules = json!([{"operations": ["*"], "apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "resources": ["events"]}]);
        configure(
            &client,
            &MUTATING_WEBHOOK_CONFIGURATION,
            vec![running.hook("/e", json!({"rules": rules}))],
        )
        .await;
        let event = |name: &str| {
            json!({"metadata": {"name": name, "namespace": "default"}, "message": "said",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}})
        };
        let made = client.create(&EVENT, event("e")).await.unwrap().tree();
        assert_eq!(made.str("message"), "changed");
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert_eq!(asked.str("kind.group"), "events.k8s.io");
        assert_eq!(asked.str("requestKind.group"), "");
        assert_eq!(asked.str("object.apiVersion"), "events.k8s.io/v1");
        let exact = json!({"rules": rules, "matchPolicy": "Exact"});
        replace(&client, &MUTATING_WEBHOOK_CONFIGURATION, vec![running.hook("/e", exact)]).await;
        let made = client.create(&EVENT, event("f")).await.unwrap().tree();
        assert_eq!(made.str("message"), "said");
    });
}

#[test]
fn a_webhook_that_cannot_be_asked_fails_as_its_policy_says() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|path, _| match path {
            "/uid" => json!({"allowed": true, "uid": "x"}),
            "/patch" => json!({"allowed": true, "patch": "W10="}),
            _ => allow(),
        })
        .await;
        let other = Running::start(|_, _| allow()).await;
        let stranger = json!({"clientConfig": {"url": format!("https://127.0.0.1:{}/", running.port), "caBundle": other.ca}});
        let named = |service: &str| json!({"clientConfig": {"service": {"namespace": "default", "name": service}, "caBundle": running.ca}});
        for (path, change, wanted) in [
            (
                "/broken",
                json!({}),
                "failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding",
            ),
            ("/slow", json!({"timeoutSeconds": 1}), "context deadline exceeded"),
            ("/uid", json!({}), "received invalid webhook response: expected response.uid="),
            (
                "/patch",
                json!({}),
                "received invalid webhook response: validating webhook may not return response.patch",
            ),
            ("/ca", stranger, "invalid peer certificate"),
            (
                "/gone",
                json!({"clientConfig": {"url": "https://127.0.0.1:1/p"}}),
                "failed to call webhook: Post \"https://127.0.0.1:1/p?timeout=10s\": ",
            ),
            (
                "/service",
                named("none"),
                "failed to call webhook: Post \"https://none.default.svc:443?timeout=10s\": service \"none\" not found",
            ),
        ] {
            let mut hook = running.hook(path, change);
            configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![hook.clone()]).await;
            let refused = client.create(&CONFIG_MAP, config_map("c")).await.unwrap_err();
            let begins =
                format!("Internal error occurred: failed calling webhook {:?}: ", hook.str("name"));
            assert!(refused.message().starts_with(&begins), "{path}: {refused}");
            assert!(refused.message().contains(wanted), "{path}: {refused}");
            assert_eq!(refused.code(), 500);
            hook.set("failurePolicy", "Ignore");
            replace(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![hook]).await;
            let name = format!("c-{}", path.trim_start_matches('/'));
            client.create(&CONFIG_MAP, config_map(&name)).await.unwrap();
            client
                .delete(&VALIDATING_WEBHOOK_CONFIGURATION, "", "hooks", DeleteOptions::default())
                .await
                .unwrap();
        }
    });
}

#[test]
fn dry_runs_reach_only_webhooks_without_effects() {
    rt::block_on(async {
        let (server, client) = start().await;
        let running = Running::start(|_, _| allow()).await;
        configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![running.hook("/v", json!({}))])
            .await;
        let mut create = request(Verb::Create, &CONFIG_MAP, "", config_map("c"));
        create.dry_run = true;
        client.call(create.clone()).await.unwrap();
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert!(asked.flag("dryRun"));
        assert_eq!(asked.at("options.dryRun"), &json!(["All"]));
        // One that came from elsewhere, before it was refused to say so.
        let key = crate::storage::key(&VALIDATING_WEBHOOK_CONFIGURATION, "", "hooks");
        let store = &server.core().store;
        let mut tree = json!({"metadata": {"name": "hooks"}, "webhooks": [running.hook("/v", json!({"sideEffects": "Some"}))]});
        tree.set("apiVersion", "admissionregistration.k8s.io/v1");
        tree.set("kind", "ValidatingWebhookConfiguration");
        let object = api::Object::from_tree(&VALIDATING_WEBHOOK_CONFIGURATION, &tree).unwrap();
        let bytes = object.bytes().clone();
        let op = store::Op::Put {
            key: key.into_bytes().into(),
            value: bytes,
            expect: store::Expect::Any,
            lease: 0,
        };
        store.txn(vec![op].into(), store::Class::Durable, store::Room::Whole).await.unwrap();
        let refused = client.call(create).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (400, "admission webhook \"v.example.com\" does not support dry run")
        );
        assert!(running.asked().is_empty());
    });
}

/// What is posted to a subresource, and what a connection is asked for with.
#[test]
fn subresources_and_connections_are_asked_about_by_their_own_kinds() {
    rt::block_on(async {
        let (server, client) = start().await;
        let running = Running::start(|_, request| match request.str("operation") {
            "CONNECT" => json!({"allowed": false, "status": {"message": "attaching is denied"}}),
            _ => allow(),
        })
        .await;
        let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        client.create(&POD, pod).await.unwrap();
        let scaled = json!({"metadata": {"name": "d", "namespace": "default"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        client.create(&DEPLOYMENT, scaled).await.unwrap();
        let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
        configure(
            &client,
            &VALIDATING_WEBHOOK_CONFIGURATION,
            vec![running.hook("/v", json!({"rules": rules}))],
        )
        .await;
        let caller = Caller::new(User::admin(), "test");
        let core = server.core();
        for (verb, kind, name, sub, body, wanted) in [
            (
                Verb::Create,
                &POD,
                "p",
                "binding",
                json!({"metadata": {"name": "p"}, "target": {"name": "n"}}),
                "/v1 Binding",
            ),
            (
                Verb::Update,
                &DEPLOYMENT,
                "d",
                "scale",
                json!({"metadata": {"name": "d"}, "spec": {"replicas": 3}}),
                "autoscaling/v1 Scale",
            ),
            (
                Verb::Create,
                &POD,
                "p",
                "eviction",
                json!({"metadata": {"name": "p"}}),
                "policy/v1 Eviction",
            ),
        ] {
            let mut request = request(verb, kind, name, body);
            request.subresource = sub.into();
            perform(core, &caller, request).await.unwrap();
            let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
            let own = format!(
                "{}/{} {}",
                asked.str("kind.group"),
                asked.str("kind.version"),
                asked.str("kind.kind")
            );
            assert_eq!(own, wanted);
            assert_eq!(asked.str("resource.resource"), kind.plural);
            assert_eq!(asked.str("subResource"), sub);
        }
        let patch = json!({"spec": {"replicas": 5}});
        let mut scale = Request::new(Verb::Patch, &DEPLOYMENT, "default", "d");
        (scale.subresource, scale.body) = ("scale".into(), Body::Patch(PatchType::Merge, patch));
        perform(core, &caller, scale).await.unwrap();
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        assert_eq!(
            (asked.at("oldObject.spec.replicas"), asked.at("object.spec.replicas")),
            (&json!(3), &json!(5))
        );

        let mut attach = Request::new(Verb::Create, &POD, "default", "p");
        attach.subresource = "attach".into();
        let query = api::query::Query::parse("stdin=true&container=c").unwrap();
        let call = Call::new(core, &caller, (&POD).into(), &attach);
        let refused = door::admit(&call, &query, "").await.unwrap_err();
        assert_eq!(
            refused.message(),
            "admission webhook \"v.example.com\" denied the request: attaching is denied"
        );
        let [asked] = <[Value; 1]>::try_from(running.asked()).unwrap();
        let object = json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "container": "c"});
        assert_eq!(asked.at("object"), &object);
        assert_eq!(asked.str("kind.kind"), "PodAttachOptions");
    });
}

#[test]
fn conditions_decide_whether_a_webhook_is_asked() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let running = Running::start(|_, _| json!({"allowed": false})).await;
        let wrong = running
            .hook("/v", json!({"matchConditions": [{"name": "a", "expression": "object.x +"}]}));
        let tree = json!({"metadata": {"name": "hooks"}, "webhooks": [wrong]});
        let refused = client.create(&VALIDATING_WEBHOOK_CONFIGURATION, tree).await.unwrap_err();
        let why = "webhooks[0].matchConditions[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11: Syntax error";
        assert!(refused.message().contains(why), "{}", refused.message());
        let mut asked = Vec::new();
        for (nth, (expressions, policy)) in [
            (&["request.operation == 'CREATE'", "object.data.a == 'b' && oldObject == null"][..], "Fail"),
            (&["object.data.a == 'x'", "object.data.none == 'x'"], "Fail"),
            (&["object.data.none == 'x'"], "Ignore"),
            (&["request.userInfo.username.startsWith('system:') && request.name == 'c3'"], "Fail"),
            (&["authorizer.group('').resource('pods').namespace('x').check('create').allowed()"], "Fail"),
            (&["authorizer.serviceAccount('a', 'b').group('').resource('pods').check('create').allowed()"], "Fail"),
            (&["authorizer.requestResource.check('explode').allowed() && namespaceObject == null"], "Fail"),
        ]
        .into_iter()
        .enumerate()
        {
            let conditions: Vec<Value> = expressions
                .iter()
                .enumerate()
                .map(|(nth, text)| json!({"name": format!("c{nth}"), "expression": text}))
                .collect();
            let hook = running.hook("/v", json!({"matchConditions": conditions, "failurePolicy": policy}));
            let tree = json!({"metadata": {"name": format!("h{nth}")}, "webhooks": [hook]});
            client.create(&VALIDATING_WEBHOOK_CONFIGURATION, tree).await.unwrap();
            let made = client.create(&CONFIG_MAP, config_map(&format!("c{nth}"))).await;
            asked.push(made.is_err());
            assert_eq!(running.asked().len(), usize::from(made.is_err()));
            let name = format!("h{nth}");
            let options = DeleteOptions::default();
            client.delete(&VALIDATING_WEBHOOK_CONFIGURATION, "", &name, options).await.unwrap();
        }
        assert_eq!(asked, [true, false, false, true, true, false, true]);
        // What cannot be evaluated refuses where the policy is Fail.
        let broken =
            json!({"matchConditions": [{"name": "a", "expression": "object.data.none == 'x'"}]});
        configure(&client, &VALIDATING_WEBHOOK_CONFIGURATION, vec![running.hook("/v", broken)])
            .await;
        let refused = client.create(&CONFIG_MAP, config_map("d")).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "configmaps \"d\" is forbidden: expression 'object.data.none == 'x'' resulted in error: no such key: none"
        );
        assert_eq!(running.asked().len(), 0);
    });
}
