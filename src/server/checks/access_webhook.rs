//! Webhooks that decide who may do what: who is asked, in which order, what of the answers counts, and for how long.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api::kinds::{CONFIG_MAP, SELF_SUBJECT_RULES_REVIEW, SUBJECT_ACCESS_REVIEW};
use api::{Kind, Lens, LensMut, Value, json};
use client::{Answer, Body, Client, ListOptions, Verb};
use http::server::{Limits, Service};
use http::{BoxFuture, Response};
use rt::net::TcpListener;

use super::config;
use crate::{AuthorizationOptions, Authorizers, Plugs, Server, User};

/// Decides by names: `yes` may do everything, `never` nothing, of `broken` it says nothing at all.
#[derive(Default)]
struct Judge(Mutex<Vec<Value>>);

impl Service for Judge {
    fn call(&self, mut request: http::Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let body = request.body.read_all(1 << 20).await.unwrap();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            self.0.lock().unwrap().push(review.clone());
            let status = match review.str("spec.user") {
                "yes" => json!({"allowed": true, "reason": "the judge likes it"}),
                "never" => {
                    json!({"allowed": false, "denied": true, "reason": "the judge hates it"})
                }
                "both" => json!({"allowed": true, "denied": true}),
                "broken" => return Response::text(503, "out of order"),
                _ => json!({"allowed": false, "reason": "the judge does not care"}),
            };
            review.set("status", status);
            Response::json(200, review.to_string().into_bytes())
        })
    }
}

struct Running {
    judge: Arc<Judge>,
    server: Server,
    authorizers: Arc<Authorizers>,
    file: PathBuf,
    kubeconfig: PathBuf,
    _serving: rt::Task<Option<stdx::Result<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        rt::fs::remove_file(&self.file).unwrap();
        rt::fs::remove_file(&self.kubeconfig).unwrap();
    }
}

/// A webhook in a file, with `more` of it.
fn webhook(name: &str, kubeconfig: &Path, more: &str) -> String {
    format!(
        "- {{type: Webhook, name: {name}, webhook: {{timeout: 20s, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}, {more}}}}}\n",
        kubeconfig.display()
    )
}

fn write(file: &Path, authorizers: &str) {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthorizationConfiguration\nauthorizers:\n{authorizers}"
    );
    rt::fs::write_atomic(file, text.as_bytes(), 0o600).unwrap();
}

impl Running {
    async fn start(name: &str, authorizers: impl Fn(&Path) -> String) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let judge = Arc::new(Judge::default());
        let service = Arc::clone(&judge) as Arc<dyn Service>;
        let serving = http::server::serve(listener, None, service, Limits::default());
        let dir = std::env::temp_dir();
        let kubeconfig = dir.join(format!("k3rs-judge-{name}-{}.kubeconfig", std::process::id()));
        let text = format!(
            "clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}/'}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        );
        rt::fs::write(&kubeconfig, text.as_bytes(), 0o600).unwrap();
        let file = dir.join(format!("k3rs-judge-{name}-{}.yaml", std::process::id()));
        write(&file, &authorizers(&kubeconfig));
        let options =
            AuthorizationOptions { config_file: Some(file.clone()), ..Default::default() };
        let authorizers = Authorizers::open(&options).unwrap().unwrap();
        let plugs = Plugs { authorizers: Some(Arc::clone(&authorizers)), ..Plugs::default() };
        let disk = store::Disk::default();
        let store = store::Store::open_memory(&disk, store::Limits::default());
        let server = Server::start_with(config(), store.await.unwrap(), plugs).await.unwrap();
        let _serving = rt::spawn_named("judge", serving);
        judge.0.lock().unwrap().clear();
        Running { judge, server, authorizers, file, kubeconfig, _serving }
    }

    /// What somebody is told who lists config maps; its code and message, or "".
    async fn list(&self, user: &str) -> (u16, String) {
        let client = self.server.client_as(User::new(user, &[]));
        match client.list(&CONFIG_MAP, "default", ListOptions::default()).await {
            Ok(_) => (200, String::new()),
            Err(status) => (status.code(), status.message().to_owned()),
        }
    }

    async fn review(&self, user: &str) -> Value {
        let resource = json!({"verb": "list", "version": "v1", "resource": "configmaps", "namespace": "default"});
        let spec = json!({"user": user, "groups": ["system:authenticated"], "resourceAttributes": resource});
        review(&self.server.client_as(User::admin()), &SUBJECT_ACCESS_REVIEW, spec).await
    }

    fn n_asked(&self) -> usize {
        std::mem::take(&mut *self.judge.0.lock().unwrap()).len()
    }
}

async fn review(client: &Client, kind: &'static Kind, spec: Value) -> Value {
    let mut request = client::Request::new(Verb::Create, kind, "", "");
    request.body = Body::Tree(json!({"spec": spec}));
    let Answer::Tree(tree) = client.call(request).await.unwrap() else { panic!("no tree") };
    tree.at("status").clone()
}

const RBAC: &str = "- {type: Node, name: node}\n- {type: RBAC, name: rbac}\n";

#[test]
fn webhooks_decide_before_roles_and_are_asked_once() {
    rt::block_on(async {
        let running = Running::start("decides", |kubeconfig| {
            webhook("w", kubeconfig, "failurePolicy: NoOpinion") + RBAC
        })
        .await;
        for _ in 0..3 {
            assert_eq!(running.list("yes").await.0, 200);
        }
        // The review is the same question.
        let told = running.review("yes").await;
        assert_eq!(told, json!({"allowed": true, "reason": "the judge likes it"}));
        assert_eq!(running.n_asked(), 1);
        let (code, why) = running.list("nobody").await;
        assert_eq!(code, 403);
        assert!(why.ends_with(": the judge does not care"), "{why}");
        let told = running.review("never").await;
        assert_eq!(told, json!({"allowed": false, "denied": true, "reason": "the judge hates it"}));
        let told = running.review("both").await;
        let error = "webhook subject access review returned both allow and deny response";
        assert_eq!(told, json!({"allowed": false, "denied": true, "evaluationError": error}));
        assert_eq!(running.list("both").await, (500, format!("Internal Server Error: {error}")));
        running.n_asked();
        // Those who may do everything are asked about by nobody.
        assert!(
            running
                .server
                .client_as(User::admin())
                .list(&CONFIG_MAP, "", ListOptions::default())
                .await
                .is_ok()
        );
        assert_eq!(running.n_asked(), 0);
        // Where it fails, roles count, and without one the failure is told.
        let error = "it answered 503: \"out of order\"";
        assert_eq!(running.list("broken").await, (500, format!("Internal Server Error: {error}")));
        let told = running.review("broken").await;
        assert_eq!(told, json!({"allowed": false, "evaluationError": error}));
        let admin = running.server.client_as(User::admin());
        let binding = json!({
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": "broken", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "User", "name": "never", "apiGroup": "rbac.authorization.k8s.io"}],
        });
        admin.create(&api::kinds::CLUSTER_ROLE_BINDING, binding).await.unwrap();
        assert_eq!(running.list("broken").await.0, 200);
        let (code, why) = running.list("never").await;
        assert_eq!(code, 403);
        assert!(why.ends_with(": the judge hates it"), "{why}");
        let rules = review(
            &running.server.client_as(User::new("yes", &[])),
            &SELF_SUBJECT_RULES_REVIEW,
            json!({"namespace": "default"}),
        )
        .await;
        assert!(rules.flag("incomplete"));
        assert_eq!(
            rules.str("evaluationError"),
            "webhook authorizer does not support user rule resolution"
        );
    });
}

#[test]
fn conditions_say_who_is_asked_about_and_failures_may_refuse() {
    rt::block_on(async {
        let running = Running::start("conditions", |kubeconfig| {
            let own = "failurePolicy: Deny, matchConditions: [{expression: \"request.user != 'skipped'\"}, {expression: \"request.resourceAttributes.resource != 'x'\"}]";
            webhook("w", kubeconfig, own) + "- {type: AlwaysAllow, name: alwaysallow}\n"
        })
        .await;
        assert_eq!(running.list("skipped").await.0, 200);
        assert_eq!(running.n_asked(), 0);
        assert_eq!(running.list("somebody").await.0, 200);
        assert_eq!(running.n_asked(), 1);
        assert_eq!(running.list("never").await.0, 403);
        let error = "it answered 503: \"out of order\"";
        assert_eq!(running.list("broken").await, (500, format!("Internal Server Error: {error}")));
        let told = running.review("broken").await;
        assert_eq!(told, json!({"allowed": false, "denied": true, "evaluationError": error}));
        // A path has no resource: one condition fails, and none is false.
        let admin = running.server.client_as(User::admin());
        let spec = |user: &str| json!({"user": user, "nonResourceAttributes": {"path": "/x", "verb": "get"}});
        running.n_asked();
        let told = review(&admin, &SUBJECT_ACCESS_REVIEW, spec("somebody")).await;
        assert!(told.flag("denied"), "{told}");
        assert_eq!(
            told.str("evaluationError"),
            "cel evaluation error: expression 'request.resourceAttributes.resource != 'x'' resulted in error: no such key: resourceAttributes"
        );
        let told = review(&admin, &SUBJECT_ACCESS_REVIEW, spec("skipped")).await;
        assert_eq!(told, json!({"allowed": true}));
        assert_eq!(running.n_asked(), 0);
    });
}

#[test]
fn a_file_that_changes_is_read_again_and_keeps_what_it_must() {
    rt::block_on(async {
        let running = Running::start("reloads", |_| RBAC.to_owned()).await;
        let _following = rt::spawn_named("file", Arc::clone(&running.authorizers).follow());
        assert_eq!(running.list("yes").await.0, 403);
        let first = webhook("w", &running.kubeconfig, "failurePolicy: NoOpinion");
        let becomes = async |code: u16| {
            let same = async {
                while running.list("yes").await.0 != code {
                    rt::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            rt::timeout(std::time::Duration::from_secs(60), same).await.expect("it is read again");
        };
        write(&running.file, &format!("{first}{RBAC}"));
        becomes(200).await;
        for (text, wanted) in [
            (format!("{first}- {{type: Node, name: node}}\n"), "missing required types: [RBAC]"),
            (
                " []".into(),
                "authorizers: Required value: at least one authorization mode must be defined",
            ),
        ] {
            write(&running.file, &text);
            assert_eq!(running.authorizers.reload(&running.file).unwrap_err().to_string(), wanted);
            assert_eq!(running.list("yes").await.0, 200);
        }
        write(&running.file, &format!("{RBAC}{first}- {{type: AlwaysDeny, name: alwaysdeny}}\n"));
        running.authorizers.reload(&running.file).unwrap();
        let (code, why) = running.list("x").await;
        assert_eq!(code, 403);
        assert!(why.ends_with(": the judge does not care\nEverything is forbidden."), "{why}");
        write(&running.file, RBAC);
        becomes(403).await;
    });
}
