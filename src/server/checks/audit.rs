//! The audit log of a server: what is told of requests over HTTP and in process, and what is not.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::kinds::{CONFIG_MAP, SECRET};
use api::{Lens, Value, json};
use client::Verb;
use http::server::Service;
use http::{Method, Request, Response};

use super::config;
use crate::audit::Facts;
use crate::auth::Attributes;
use crate::{Audit, AuditMode, AuditOptions, Plugs, Server, User};

struct Log {
    path: PathBuf,
    service: Arc<dyn Service>,
    server: Server,
}

impl Log {
    async fn new(name: &str, policy: &str, mode: AuditMode) -> Log {
        Log::with(name, policy, |options, _| options.log.mode = mode).await
    }

    /// With what `change` makes of the options, which may lie beside the log.
    async fn with(
        name: &str,
        policy: &str,
        change: impl FnOnce(&mut AuditOptions, &std::path::Path),
    ) -> Log {
        let dir = std::env::temp_dir().join(format!("k3rs-audited-{name}-{}", std::process::id()));
        rt::fs::remove_dir_all(&dir).unwrap();
        rt::fs::create_dir_all(&dir, 0o700).unwrap();
        let policy_file = dir.join("policy.yaml");
        let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{policy}");
        rt::fs::write(&policy_file, policy.as_bytes(), 0o600).unwrap();
        let path = dir.join("audit.log");
        let mut options = AuditOptions {
            policy_file: Some(policy_file),
            path: Some(path.clone()),
            ..AuditOptions::default()
        };
        change(&mut options, &dir);
        let audit = Audit::open(&options).unwrap();
        assert!(audit.is_some());
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server =
            Server::start_with(config(), store.await.unwrap(), Plugs { audit, ..Plugs::default() })
                .await
                .unwrap();
        Log { path, service: server.service(None), server }
    }

    async fn ask(&self, request: Request) -> Response {
        self.service.call(request).await
    }

    /// All events whose lines are whole.
    fn all(&self) -> Vec<Value> {
        let text = rt::fs::read_text(&self.path).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The events of requests with this ID.
    fn events(&self, id: &str) -> Vec<Value> {
        self.all().into_iter().filter(|event| event.str("auditID") == id).collect()
    }

    fn stages(&self, id: &str) -> Vec<String> {
        self.events(id).iter().map(|event| event.str("stage").to_owned()).collect()
    }

    async fn wait_for(&self, id: &str, stages: &[&str]) {
        let done = async {
            while self.stages(id) != stages {
                rt::sleep(Duration::from_millis(10)).await;
            }
        };
        let late = rt::timeout(Duration::from_secs(60), done).await.is_err();
        assert!(!late, "{id}: {:?}", self.stages(id));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = rt::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

fn request(method: &str, target: &str, id: &str, body: &Value) -> Request {
    let request = Request::new(Method::from(method), target)
        .header("authorization", "Bearer admin")
        .header("content-type", "application/json")
        .header("audit-id", id);
    if body.is_null() { request } else { request.body(body.to_string()) }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn account() -> Value {
    json!({"metadata": {"name": "default", "namespace": "default"}})
}

#[test]
fn a_policy_says_how_much_is_told() {
    rt::block_on(async {
        let log = Log::new(
            "levels",
            "omitStages: [RequestReceived]\nrules:\n- {level: None, users: ['system:apiserver']}\n- {level: Metadata, resources: [{resources: [secrets]}]}\n- {level: Request, verbs: [update], resources: [{resources: [configmaps]}]}\n- {level: RequestResponse, omitManagedFields: true, resources: [{resources: [configmaps]}]}\n- {level: Metadata, nonResourceURLs: [/version], omitStages: [ResponseComplete]}\n- {level: Metadata, nonResourceURLs: [/apis]}\n",
            AuditMode::Blocking,
        )
        .await;
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "hush-hush"}});
        let map = json!({"metadata": {"name": "m"}, "data": {"a": "loud"}});
        for (method, target, id, body, code) in [
            ("POST", SECRETS, "secret", &secret, 201),
            ("GET", &format!("{SECRETS}/s"), "seen", &Value::Null, 200),
            ("POST", MAPS, "create", &map, 201),
            ("PUT", &format!("{MAPS}/m"), "update", &map, 200),
            ("GET", &format!("{MAPS}/m"), "get", &Value::Null, 200),
            ("GET", MAPS, "list", &Value::Null, 200),
            (
                "DELETE",
                &format!("{MAPS}/m"),
                "delete",
                &json!({"propagationPolicy": "Foreground"}),
                200,
            ),
            ("GET", &format!("{MAPS}/none"), "missing", &Value::Null, 404),
            ("GET", "/version", "version", &Value::Null, 200),
            ("GET", "/apis", "apis", &Value::Null, 200),
            ("GET", "/api", "unmatched", &Value::Null, 200),
        ] {
            let answer = log.ask(request(method, target, id, body)).await;
            assert_eq!(answer.status, code, "{id}");
            assert_eq!(answer.headers.get("audit-id"), Some(id));
        }
        let text = rt::fs::read_text(&log.path).unwrap();
        assert!(!text.contains("hush-hush") && !text.contains(&wire::base64::encode(b"hush-hush")));
        assert!(!text.contains("managedFields") && !text.contains("system:apiserver"));
        let one = |id: &str| {
            let mut events = log.events(id);
            assert_eq!(events.len(), 1, "{id}: {events:?}");
            events.remove(0)
        };
        let create = one("create");
        assert_eq!(create.str("requestObject.data.a"), "loud");
        assert_eq!(create.str("responseObject.metadata.name"), "m");
        assert_eq!(create.at("responseStatus"), &json!({"metadata": {}, "code": 201}));
        assert_eq!(
            create.at("objectRef"),
            &json!({"resource": "configmaps", "namespace": "default", "name": "m", "apiVersion": "v1"})
        );
        assert_eq!(
            create.at("user"),
            &json!({"username": "system:admin", "groups": ["system:masters", "system:authenticated"]})
        );
        assert_eq!(
            create.at("annotations"),
            &json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""})
        );
        let update = one("update");
        assert!(update.has("requestObject") && !update.has("responseObject"));
        assert!(!one("get").has("requestObject") && one("get").has("responseObject.data"));
        let list = one("list");
        assert_eq!(list.str("responseObject.kind"), "ConfigMapList");
        assert!(list.list("responseObject.items").iter().any(|item| item.str("data.a") == "loud"));
        let delete = one("delete");
        assert_eq!(delete.str("requestObject.propagationPolicy"), "Foreground");
        let missing = one("missing");
        assert_eq!(missing.int("responseStatus.code"), Some(404));
        assert_eq!(missing.str("responseStatus.reason"), "NotFound");
        assert_eq!(missing.str("responseObject.kind"), "Status");
        let seen = one("seen");
        assert!(!seen.has("responseObject") && !seen.has("requestObject"));
        assert_eq!((seen.str("level"), seen.str("verb")), ("Metadata", "get"));
        assert!(!one("apis").has("objectRef"));
        for id in ["version", "unmatched"] {
            assert_eq!(log.events(id), Vec::<Value>::new());
        }
    });
}

#[test]
fn who_asks_and_how_it_ends_is_told() {
    rt::block_on(async {
        let log = Log::new("ends", "rules: [{level: Metadata}]", AuditMode::Blocking).await;
        let both = ["RequestReceived", "ResponseComplete"];
        log.ask(request("GET", MAPS, "plain", &Value::Null)).await;
        assert_eq!(log.stages("plain"), both);

        let as_eve = request("GET", MAPS, "eve", &Value::Null).header("impersonate-user", "eve");
        assert_eq!(log.ask(as_eve).await.status, 403);
        let [received, complete] = &log.events("eve")[..] else {
            panic!("{:?}", log.events("eve"))
        };
        assert!(!received.has("impersonatedUser") && !received.has("responseStatus"));
        assert_eq!(complete.str("user.username"), "system:admin");
        assert_eq!(complete.str("impersonatedUser.username"), "eve");
        assert_eq!(complete.int("responseStatus.code"), Some(403));
        assert_eq!(
            complete.at("annotations"),
            &json!({"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""})
        );

        // Who does not show who it is.
        let wrong =
            Request::get(MAPS).header("authorization", "Bearer x").header("audit-id", "wrong");
        assert_eq!(log.ask(wrong).await.status, 401);
        let [refused] = &log.events("wrong")[..] else { panic!("{:?}", log.events("wrong")) };
        assert_eq!(refused.str("stage"), "ResponseStarted");
        assert_eq!(refused.at("user"), &json!({}));
        assert_eq!(
            refused.at("responseStatus"),
            &json!({"metadata": {}, "message": "Authentication failed, attempted: bearer", "code": 401})
        );

        // What lasts has a beginning, and its end when it ends.
        let watch = request("GET", &format!("{MAPS}?watch=true"), "watch", &Value::Null);
        let watching = log.ask(watch).await;
        assert_eq!(log.stages("watch"), ["RequestReceived", "ResponseStarted"]);
        drop(watching);
        log.wait_for("watch", &["RequestReceived", "ResponseStarted", "ResponseComplete"]).await;
        let last = log.events("watch").pop().unwrap();
        assert_eq!((last.str("verb"), last.int("responseStatus.code")), ("watch", Some(200)));

        // A client that goes away while it is asked for its body hides nothing.
        let (_sender, body) = http::Body::channel(1024);
        let mut slow = request("POST", MAPS, "gone", &Value::Null);
        slow.body = body;
        let asking = rt::timeout(Duration::from_millis(200), log.ask(slow)).await;
        assert!(asking.is_err(), "it was answered");
        log.wait_for("gone", &both).await;
        let gone = log.events("gone").pop().unwrap();
        assert_eq!(gone.str("responseStatus.message"), "Connection closed early");

        // Nor does a panic.
        let audit = log.server.core().audit.clone().unwrap();
        let facts = || Facts { id: "panic".into(), ..Facts::default() };
        let trail = audit.begin(None, &Attributes::path("get", "/x"), facts).unwrap();
        let planted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = trail;
            panic!("planted");
        }));
        assert!(planted.is_err());
        log.wait_for("panic", &["Panic"]).await;
        assert_eq!(log.events("panic")[0].int("responseStatus.code"), Some(500));
    });
}

#[test]
fn components_of_the_process_are_told_as_others() {
    rt::block_on(async {
        let policy = "omitStages: [RequestReceived]\nrules: [{level: None, users: ['system:apiserver']}, {level: Metadata, resources: [{resources: [secrets]}]}, {level: Request}]";
        let log = Log::new("process", policy, AuditMode::Batch).await;
        let client = log.server.client_as(User::admin());
        client.create(&api::kinds::SERVICE_ACCOUNT, account()).await.unwrap();
        let object = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}});
        client.create(&CONFIG_MAP, object("a")).await.unwrap();
        client.create(&SECRET, object("b")).await.unwrap();
        let node = log.server.api_as(User::node("n"));
        let get = client::Request::new(Verb::Get, &SECRET, "default", "b");
        node.call(get).await.unwrap_err();
        let mut watch = client::Request::new(Verb::Watch, &CONFIG_MAP, "", "");
        watch.list.allow_bookmarks = true;
        drop(log.server.api_as(User::admin()).watch(watch).await.unwrap());

        let told = || -> Vec<String> {
            let one = |event: Value| {
                assert_eq!(event.at("sourceIPs"), &json!(["127.0.0.1"]));
                format!(
                    "{} {} {} {} {} {}",
                    event.str("stage"),
                    event.str("user.username"),
                    event.str("userAgent").split('/').next().unwrap(),
                    event.str("requestURI"),
                    event.int("responseStatus.code").unwrap(),
                    event.has("requestObject"),
                )
            };
            log.all().into_iter().map(one).collect()
        };
        let wanted = [
            "ResponseComplete system:admin k3rs /api/v1/namespaces/default/serviceaccounts 201 true",
            "ResponseComplete system:admin k3rs /api/v1/namespaces/default/configmaps 201 true",
            "ResponseComplete system:admin k3rs /api/v1/namespaces/default/secrets 201 false",
            "ResponseComplete system:node:n kubelet /api/v1/namespaces/default/secrets/b 403 false",
            "ResponseStarted system:admin k3rs /api/v1/configmaps?watch=true&allowWatchBookmarks=true 200 false",
            "ResponseComplete system:admin k3rs /api/v1/configmaps?watch=true&allowWatchBookmarks=true 200 false",
        ];
        // Also what is written by and by, before the program ends.
        log.server.core().audit.as_ref().unwrap().flush().await;
        assert_eq!(told(), wanted);
    });
}

#[test]
fn a_log_that_cannot_be_written_is_counted_and_only_strictness_refuses() {
    rt::block_on(async {
        for (mode, code) in [(AuditMode::Blocking, 200), (AuditMode::BlockingStrict, 500)] {
            let policy = "rules: [{level: Metadata, nonResourceURLs: ['/apis*']}]";
            let log = Log::new("strict", policy, mode).await;
            rt::fs::remove_file(&log.path).unwrap();
            rt::fs::create_dir_all(&log.path, 0o700).unwrap();
            let answer = log.ask(request("GET", "/apis", "x", &Value::Null)).await;
            assert_eq!(answer.status, code);
            let mut metrics = log.ask(request("GET", "/metrics", "y", &Value::Null)).await;
            let text = metrics.body.read_all(1 << 20).await.unwrap();
            let text = String::from_utf8(text).unwrap();
            let strict = mode == AuditMode::BlockingStrict;
            let (n_lost, n_rejected) = if strict { (1, 1) } else { (2, 0) };
            for line in [
                format!("apiserver_audit_error_total{{plugin=\"log\"}} {n_lost}\n"),
                format!("apiserver_audit_requests_rejected_total {n_rejected}\n"),
                "apiserver_audit_level_total{level=\"Metadata\"} 1\n".into(),
                format!("apiserver_audit_event_total {n_lost}\n"),
            ] {
                assert!(text.contains(&line), "{line} is not in {text}");
            }
            rt::fs::remove_dir_all(&log.path).unwrap();
        }
    });
}

#[test]
fn admission_annotates() {
    rt::block_on(async {
        let policy = "rules: [{level: Metadata, verbs: [create], resources: [{resources: [configmaps, pods]}]}]";
        let log = Log::new("admission", policy, AuditMode::Blocking).await;
        let client = log.server.client_as(User::admin());
        client.create(&api::kinds::SERVICE_ACCOUNT, account()).await.unwrap();
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
        let spec = json!({
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object.metadata.name != 'm'"}],
            "auditAnnotations": [{"key": "who", "valueExpression": "'name ' + object.metadata.name"}],
        });
        let policy = json!({"metadata": {"name": "p.example.com"}, "spec": spec});
        client.create(&api::kinds::VALIDATING_ADMISSION_POLICY, policy).await.unwrap();
        let spec = json!({"policyName": "p.example.com", "validationActions": ["Audit"]});
        let binding = json!({"metadata": {"name": "b"}, "spec": spec});
        client.create(&api::kinds::VALIDATING_ADMISSION_POLICY_BINDING, binding).await.unwrap();
        let labels = json!({"pod-security.kubernetes.io/audit": "restricted", "pod-security.kubernetes.io/enforce": "baseline"});
        let namespace = json!({"metadata": {"name": "default", "labels": labels}});
        client.update(&api::kinds::NAMESPACE, namespace).await.unwrap();

        let map = json!({"metadata": {"name": "m"}});
        assert_eq!(log.ask(request("POST", MAPS, "policy", &map)).await.status, 201);
        let told = log.events("policy").pop().unwrap();
        let own = |event: &Value, key: &str| {
            event.entry("annotations", key).unwrap_or_default().to_owned()
        };
        assert_eq!(own(&told, "p.example.com/who"), "name m");
        let failure = own(&told, "validation.policy.admission.k8s.io/validation_failure");
        assert!(failure.contains("failed expression: object.metadata.name != 'm'"), "{failure}");

        let container = json!({"name": "c", "image": "i", "securityContext": {"privileged": true}});
        let pods = "/api/v1/namespaces/default/pods";
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}});
        assert_eq!(log.ask(request("POST", pods, "refused", &pod)).await.status, 403);
        pod["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
        assert_eq!(log.ask(request("POST", pods, "let", &pod)).await.status, 201);
        for id in ["refused", "let"] {
            let told = log.events(id).pop().unwrap();
            let enforced = own(&told, "pod-security.kubernetes.io/enforce-policy");
            assert_eq!(enforced, "baseline:latest", "{id}");
            let would = own(&told, "pod-security.kubernetes.io/audit-violations");
            assert!(
                would.starts_with("would violate PodSecurity \"restricted:latest\": "),
                "{would}"
            );
        }
    });
}

/// Keeps the lists of events that it is sent, and fails as often as it is told to.
#[derive(Default)]
struct Collector {
    lists: Mutex<Vec<Value>>,
    n_fails: AtomicUsize,
    got: rt::Event,
}

impl Service for Collector {
    fn call(&self, mut request: Request) -> http::BoxFuture<'_, Response> {
        Box::pin(async move {
            let text = request.body.read_all(32 << 20).await.unwrap();
            let failing = |n: usize| n.checked_sub(1);
            if self.n_fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, failing).is_ok() {
                return Response::text(400, "not now");
            }
            self.lists.lock().unwrap().push(serde_json::from_slice(&text).unwrap());
            self.got.notify(usize::MAX);
            Response::text(200, "")
        })
    }
}

impl Collector {
    async fn start() -> (Arc<Collector>, String, rt::Task<Option<stdx::Result<()>>>) {
        let listener = rt::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = Arc::new(Collector::default());
        let service = Arc::clone(&collector) as Arc<dyn Service>;
        let serving = http::server::serve(listener, None, service, http::server::Limits::default());
        let kubeconfig = format!(
            "clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}/audit'}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        );
        (collector, kubeconfig, rt::spawn_named("collector", serving))
    }

    /// The ids of the events of each list, once there are so many lists.
    async fn ids(&self, n_lists: usize) -> Vec<Vec<String>> {
        let there = async {
            loop {
                let got = self.got.listen();
                if self.lists.lock().unwrap().len() >= n_lists {
                    return;
                }
                got.await;
            }
        };
        rt::timeout(Duration::from_secs(60), there).await.expect("events are sent");
        let lists = self.lists.lock().unwrap();
        let of = |list: &Value| {
            list.list("items").iter().map(|item| item.str("auditID").to_owned()).collect()
        };
        lists.iter().map(of).collect()
    }
}

fn write_kubeconfig(options: &mut AuditOptions, dir: &std::path::Path, text: &str) {
    let file = dir.join("kubeconfig");
    rt::fs::write(&file, text.as_bytes(), 0o600).unwrap();
    options.webhook_file = Some(file);
    options.webhook_pause = Duration::from_millis(1);
}

const ONLY_APIS: &str = "omitStages: [RequestReceived]\nrules: [{level: None, users: ['system:apiserver']}, {level: RequestResponse, resources: [{resources: [configmaps]}]}, {level: Metadata, nonResourceURLs: ['/apis']}]";

#[test]
fn a_webhook_is_sent_batches_beside_the_log() {
    rt::block_on(async {
        let (collector, kubeconfig, _serving) = Collector::start().await;
        let log = Log::with("batches", ONLY_APIS, |options, dir| {
            write_kubeconfig(options, dir, &kubeconfig);
            options.webhook.batch_max = 3;
            options.webhook.batch_wait = Duration::from_secs(3600);
            options.webhook.event_max_bytes = Some(4096);
        })
        .await;
        let ask = async |id: &str| {
            assert_eq!(log.ask(request("GET", "/apis", id, &Value::Null)).await.status, 200)
        };
        for id in ["a", "b", "c", "d"] {
            ask(id).await;
        }
        assert_eq!(collector.ids(1).await, [["a", "b", "c"]]);
        let list = collector.lists.lock().unwrap()[0].clone();
        assert_eq!((list.str("kind"), list.str("apiVersion")), ("EventList", "audit.k8s.io/v1"));
        let item = &list.list("items")[0];
        assert!(!item.has("kind") && item.str("stage") == "ResponseComplete", "{item}");
        // Of what is too long for the webhook the log has all.
        let map = json!({"metadata": {"name": "m"}, "data": {"a": "x".repeat(8000)}});
        let made = log.ask(request("POST", MAPS, "e", &map)).await;
        assert_eq!(made.status, 201);
        // The end of the program waits for no batch.
        log.server.core().audit.as_ref().unwrap().flush().await;
        assert_eq!(collector.ids(2).await[1], ["d", "e"]);
        let cut = collector.lists.lock().unwrap()[1].list("items")[1].clone();
        assert!(!cut.has("requestObject") && !cut.has("responseObject"));
        assert_eq!(cut.at("annotations").get("audit.k8s.io/truncated"), Some(&json!("true")));
        let whole = log.events("e").pop().unwrap();
        assert_eq!(whole.str("requestObject.data.a").len(), 8000);
        assert!(whole.at("annotations").get("audit.k8s.io/truncated").is_none(), "{whole}");
    });
}

#[test]
fn a_webhook_that_fails_is_asked_again_and_only_strictness_refuses() {
    rt::block_on(async {
        let (collector, kubeconfig, _serving) = Collector::start().await;
        for (mode, code) in [(AuditMode::Blocking, 200), (AuditMode::BlockingStrict, 500)] {
            let policy = "rules: [{level: Metadata, nonResourceURLs: ['/apis']}]";
            let log = Log::with("again", policy, |options, dir| {
                write_kubeconfig(options, dir, &kubeconfig);
                options.path = None;
                options.webhook.mode = mode;
            })
            .await;
            // Any failure is worth another try, but not for ever.
            collector.n_fails.store(4, Ordering::SeqCst);
            assert_eq!(log.ask(request("GET", "/apis", "x", &Value::Null)).await.status, 200);
            assert_eq!(collector.ids(2).await, [["x"], ["x"]]);
            collector.lists.lock().unwrap().clear();
            collector.n_fails.store(5, Ordering::SeqCst);
            assert_eq!(log.ask(request("GET", "/apis", "y", &Value::Null)).await.status, code);
            let n_told = collector.lists.lock().unwrap().drain(..).count();
            assert_eq!(n_told, usize::from(mode == AuditMode::Blocking));
            let mut metrics = log.ask(request("GET", "/metrics", "z", &Value::Null)).await;
            let text = String::from_utf8(metrics.body.read_all(1 << 20).await.unwrap()).unwrap();
            assert!(text.contains("apiserver_audit_error_total{plugin=\"webhook\"} 1\n"), "{text}");
        }
    });
}
