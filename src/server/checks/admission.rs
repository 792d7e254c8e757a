//! Admission plugins: which run, in which order, and what those do that are off by default.

use api::kinds::*;
use api::{Lens, Status, Value, json};
use client::{Client, PatchType, Verb};
use store::Store;

use super::{config, request};
use crate::admission::{Act, Notes, admit};
use crate::core::Call;
use crate::dispatch::perform;
use crate::user::Caller;
use crate::{Admission, Config, Server, User};

/// A server with these plugins on and off beside the defaults.
async fn with(enable: &[&str], disable: &[&str]) -> (Server, Client, Store) {
    let store =
        Store::open_memory(&store::Disk::default(), store::Limits::default()).await.unwrap();
    let (server, client) = over(&store, enable, disable).await;
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    client.create(&SERVICE_ACCOUNT, account).await.unwrap();
    (server, client, store)
}

async fn over(store: &Store, enable: &[&str], disable: &[&str]) -> (Server, Client) {
    let words = |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).into()).collect() };
    let admission = Admission::new(&words(enable), &words(disable), None).unwrap();
    let server = Server::start(Config { admission, ..config() }, store.clone()).await.unwrap();
    let client = server.client_as(User::admin());
    (server, client)
}

fn pod(name: &str, spec: Value) -> Value {
    let mut tree = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    if let Some(spec) = tree["spec"].as_object_mut() {
        spec.entry("containers").or_insert(json!([{"name": "c", "image": "i:1"}]));
    }
    tree
}

#[test]
fn the_names_of_plugins_are_checked() {
    let told = |enable: &[&str], disable: &[&str]| {
        let words = |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).into()).collect() };
        Admission::new(&words(enable), &words(disable), None)
            .map_or_else(|e| e.to_string(), |_| String::new())
    };
    for (enable, disable, wanted) in [
        (&["PodSecurity", "NodeRestriction"][..], &["Priority", "LimitRanger"][..], ""),
        (&["Foo"], &[], "enable-admission-plugins plugin \"Foo\" is unknown"),
        (
            &["EventRateLimit"],
            &[],
            "enable-admission-plugins plugin \"EventRateLimit\" is not in this version",
        ),
        (
            &["Foo", "PodSecurity"],
            &["Bar", "PodSecurity"],
            "[enable-admission-plugins plugin \"Foo\" is unknown, disable-admission-plugins plugin \"Bar\" is unknown, [PodSecurity] in enable-admission-plugins and disable-admission-plugins overlapped]",
        ),
    ] {
        assert_eq!(told(enable, disable), wanted, "{enable:?} {disable:?}");
    }
}

#[test]
fn plugins_are_turned_on_and_off() {
    rt::block_on(async {
        let off =
            ["DefaultTolerationSeconds", "StorageObjectInUseProtection", "TaintNodesByCondition"];
        let (_server, admin, _) = with(&["AlwaysPullImages", "DenyServiceExternalIPs"], &off).await;
        let image =
            json!({"containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "Never"}]});
        let made = admin.create(&POD, pod("p", image)).await.unwrap().tree();
        assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert!(made.list("spec.tolerations").is_empty(), "{made}");
        let claim = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        let made = admin.create(&PERSISTENT_VOLUME_CLAIM, claim).await.unwrap().tree();
        assert!(!made.has("metadata.finalizers"), "{made}");
        let node = json!({"metadata": {"name": "n"}});
        let made = admin.create(&NODE, node).await.unwrap().tree();
        assert!(!made.has("spec.taints"), "{made}");
        let service = |addresses: Value| {
            json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {
                "ports": [{"port": 80}], "externalIPs": addresses}})
        };
        let refused = admin.create(&SERVICE, service(json!(["192.0.2.1"]))).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "services \"s\" is forbidden: Use of external IPs is denied by admission control"
        );
        admin.create(&SERVICE, service(json!([]))).await.unwrap();
    });
}

/// What a plugin adds has its defaults: the next one, and whoever reads the object, misses none.
#[test]
fn what_plugins_add_gets_its_defaults() {
    rt::block_on(async {
        let (_server, admin, _) = with(&[], &[]).await;
        let made = admin.create(&POD, pod("p", json!({}))).await.unwrap().tree();
        let source = &made["spec"]["volumes"][0]["projected"]["sources"][2]["downwardAPI"];
        assert_eq!(source["items"][0]["fieldRef"]["apiVersion"], "v1", "{made}");
        assert_eq!(made["spec"]["containers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(made.list("spec.tolerations").len(), 2);
    });
}

#[test]
fn deletions_connections_and_subresources_are_admitted_too() {
    rt::block_on(async {
        let (_first, admin, store) = with(&[], &[]).await;
        admin.create(&POD, pod("p", json!({}))).await.unwrap();
        // Everything that the start makes is there already.
        let (server, denied) = over(&store, &["AlwaysDeny"], &[]).await;
        let denying = "is forbidden: admission control is denying all modifications";
        let said = |result: Result<(), Status>| result.unwrap_err().message().to_owned();
        assert!(
            said(denied.delete(&POD, "default", "p", Default::default()).await.map(drop))
                .contains(denying)
        );
        let patch = json!({"metadata": {"labels": {"a": "b"}}});
        let patched = denied.patch(&POD, "default", "p", "", PatchType::Merge, patch).await;
        assert!(said(patched.map(drop)).contains(denying));
        let core = server.core();
        let caller = Caller::new(User::admin(), "test");
        for (kind, subresource, body) in [
            (&POD, "eviction", json!({"metadata": {"name": "p"}})),
            (&POD, "binding", json!({"metadata": {"name": "p"}, "target": {"name": "n"}})),
            (&SERVICE_ACCOUNT, "token", json!({"spec": {}})),
            (&SELF_SUBJECT_REVIEW, "", json!({})),
        ] {
            let name = if kind == &POD { "p" } else { "default" };
            let mut request = request(Verb::Create, kind, name, body);
            request.subresource = subresource.into();
            let done = perform(core, &caller, request).await;
            assert!(said(done.map(drop)).contains(denying), "{subresource}");
        }
        let query = api::query::Query::parse("").unwrap();
        for subresource in ["exec", "attach", "portforward", "proxy"] {
            let mut request = request(Verb::Create, &POD, "p", Value::Null);
            request.subresource = subresource.into();
            let refused =
                crate::door::admit(&Call::new(core, &caller, (&POD).into(), &request), &query, "")
                    .await;
            assert!(said(refused).contains(denying), "{subresource}");
        }
        // Read, not changed.
        let mut log = request(Verb::Get, &POD, "p", Value::Null);
        log.subresource = "log".into();
        crate::door::admit(&Call::new(core, &caller, (&POD).into(), &log), &query, "")
            .await
            .unwrap();
        // Upstream's NamespaceLifecycle, for whatever is created: evictions, too.
        admin.delete(&NAMESPACE, "", "default", Default::default()).await.unwrap_err();
        let namespace = json!({"metadata": {"name": "going", "finalizers": ["example.com/wait"]}});
        admin.create(&NAMESPACE, namespace).await.unwrap();
        admin.delete(&NAMESPACE, "", "going", Default::default()).await.unwrap();
        let mut evict = request(Verb::Create, &POD, "p", json!({"metadata": {"name": "p"}}));
        (evict.namespace, evict.subresource) = ("going".into(), "eviction".into());
        let core = _first.core();
        let act = Act::create(&Call::new(core, &caller, (&POD).into(), &evict));
        let body = json!({"metadata": {"name": "p"}});
        let refused = admit(&act, body, &mut Notes::default()).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "pods \"p\" is forbidden: unable to create new content in namespace going because it is being terminated"
        );
    });
}

#[test]
fn an_account_lends_no_secret_that_it_does_not_list() {
    rt::block_on(async {
        let (_server, admin, _) = with(&[], &[]).await;
        let account = json!({"metadata": {"name": "strict", "namespace": "default",
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
            "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]});
        admin.create(&SERVICE_ACCOUNT, account).await.unwrap();
        let env = |secret: &str| json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
        let from = |secret: &str| json!([{"secretRef": {"name": secret}}]);
        let container = |name: &str, more: Value| {
            let mut tree = json!({"name": name, "image": "i"});
            let map = tree.as_object_mut().unwrap();
            map.extend(more.as_object().unwrap().clone());
            tree
        };
        let none = "service account strict does not reference that";
        for (spec, wanted) in [
            (
                json!({"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
                format!(
                    "volume with secret.secretName=\"other\" is not allowed because {none} secret"
                ),
            ),
            (
                json!({"initContainers": [container("i", json!({"env": env("other")}))]}),
                format!(
                    "init container i with envVar E referencing secret.secretName=\"other\" is not allowed because {none} secret"
                ),
            ),
            (
                json!({"containers": [container("c", json!({"envFrom": from("other")}))]}),
                format!(
                    "container c with envFrom referencing secret.secretName=\"other\" is not allowed because {none} secret"
                ),
            ),
            (
                json!({"imagePullSecrets": [{"name": "pull"}, {"name": "other"}]}),
                format!(
                    "imagePullSecrets[1].name=\"other\" is not allowed because {none} imagePullSecret"
                ),
            ),
        ] {
            let mut tree = pod("p", spec);
            tree["spec"]["serviceAccountName"] = json!("strict");
            let refused = admin.create(&POD, tree.clone()).await.unwrap_err();
            assert_eq!(refused.message(), format!("pods \"p\" is forbidden: {wanted}"));
            tree["metadata"]["name"] = json!("lenient");
            tree["spec"]["serviceAccountName"] = json!("default");
            admin.create(&POD, tree).await.unwrap();
            admin.delete(&POD, "default", "lenient", Default::default()).await.unwrap();
        }
        let mut fine = pod(
            "fine",
            json!({"volumes": [{"name": "v", "secret": {"secretName": "mine"}}],
            "containers": [container("c", json!({"env": env("mine"), "envFrom": from("mine")}))]}),
        );
        fine["spec"]["serviceAccountName"] = json!("strict");
        admin.create(&POD, fine).await.unwrap();
        let debug = json!({"spec": {"ephemeralContainers": [container("d", json!({"env": env("other")}))]}});
        let patched = admin
            .patch(&POD, "default", "fine", "ephemeralcontainers", PatchType::Strategic, debug)
            .await;
        assert!(patched.unwrap_err().message().contains("ephemeral container d with envVar E"));
    });
}
