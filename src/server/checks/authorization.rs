//! RBAC, the Node authorizer, NodeRestriction, evictions and bindings.

use api::kinds::*;
use api::{Kind, Lens, Value, json};
use client::{Client, ListOptions, PatchType, Verb};

use super::{request, start};
use crate::User;

async fn make(client: &Client, kind: &'static Kind, tree: Value) {
    client.create(kind, tree).await.unwrap_or_else(|status| panic!("{status}"));
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut tree = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "a"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        tree["spec"][key] = value.clone();
    }
    tree
}

#[test]
fn roles_grant_at_once_and_only_what_their_author_has() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let jane = server.client_as(User::new("jane", &["devs"]));
        let list = || jane.list(&POD, "default", ListOptions::default());
        assert_eq!(list().await.unwrap_err().code(), 403);
        let role = json!({
            "metadata": {"name": "r", "namespace": "default"},
            "rules": [
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
                {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]},
            ],
        });
        make(&admin, &ROLE, role).await;
        let binding = |name: &str, role: &str| {
            json!({
                "metadata": {"name": name, "namespace": "default"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [{"kind": "Group", "name": "devs", "apiGroup": "rbac.authorization.k8s.io"}],
            })
        };
        make(&admin, &ROLE_BINDING, binding("b", "r")).await;
        list().await.unwrap();
        assert_eq!(jane.list(&POD, "", ListOptions::default()).await.unwrap_err().code(), 403);

        // "*" on roles covers "escalate" and "bind" too, as upstream; take those away.
        let narrow = json!([{"op": "replace", "path": "/rules/1/verbs", "value": ["get", "create", "update", "patch"]}]);
        admin.patch(&ROLE, "default", "r", "", PatchType::Json, narrow).await.unwrap();
        let rule = |resource: &str| {
            json!({
                "metadata": {"name": format!("own-{resource}"), "namespace": "default"},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}],
            })
        };
        make(&jane, &ROLE, rule("pods")).await;
        let refused = jane.create(&ROLE, rule("secrets")).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "roles.rbac.authorization.k8s.io \"own-secrets\" is forbidden: user \"jane\" (groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        );
        make(&admin, &ROLE, rule("secrets")).await;
        assert_eq!(
            jane.create(&ROLE_BINDING, binding("c", "own-secrets")).await.unwrap_err().code(),
            403
        );
        make(&jane, &ROLE_BINDING, binding("c", "own-pods")).await;

        admin.delete(&ROLE_BINDING, "default", "b", Default::default()).await.unwrap();
        admin.delete(&ROLE_BINDING, "default", "c", Default::default()).await.unwrap();
        assert_eq!(list().await.unwrap_err().code(), 403);
    });
}

#[test]
fn kubelets_see_what_their_pods_use() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let node = server.client_as(User::node("n1"));
        for name in ["used", "unused"] {
            make(&admin, &SECRET, json!({"metadata": {"name": name, "namespace": "default"}}))
                .await;
        }
        let volumes = json!({"volumes": [{"name": "v", "secret": {"secretName": "used"}}]});
        make(&admin, &POD, pod("mine", "n1", volumes)).await;
        make(&admin, &POD, pod("other", "n2", json!({}))).await;
        node.get(&SECRET, "default", "used").await.unwrap();
        let refused = node.get(&SECRET, "default", "unused").await.unwrap_err();
        assert!(
            refused.message().ends_with("no relationship found between node 'n1' and this object"),
            "{refused}"
        );
        assert_eq!(
            node.list(&SECRET, "default", ListOptions::default()).await.unwrap_err().code(),
            403
        );
        node.get(&POD, "default", "mine").await.unwrap();
        assert_eq!(node.get(&POD, "default", "other").await.unwrap_err().code(), 403);
        let own =
            ListOptions { field_selector: "spec.nodeName=n1".into(), ..ListOptions::default() };
        assert_eq!(node.list(&POD, "", own).await.unwrap().items.len(), 1);
        assert_eq!(node.list(&POD, "", ListOptions::default()).await.unwrap_err().code(), 403);

        let tree = |name: &str| json!({"metadata": {"name": name}, "status": {}});
        make(&node, &NODE, tree("n1")).await;
        assert_eq!(node.create(&NODE, tree("n2")).await.unwrap_err().code(), 403);
        let made = node.get(&NODE, "", "n1").await.unwrap().tree();
        assert_eq!(made.str("spec.taints.0.key"), "node.kubernetes.io/not-ready");
        let taints = json!({"spec": {"taints": []}});
        let refused = node.patch(&NODE, "", "n1", "", PatchType::Merge, taints).await.unwrap_err();
        assert_eq!(
            refused.message(),
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints"
        );
        let status = json!({"status": {"phase": "Running"}});
        node.patch(&POD, "default", "mine", "status", PatchType::Merge, status.clone())
            .await
            .unwrap();
        let other = node.patch(&POD, "default", "other", "status", PatchType::Merge, status).await;
        assert_eq!(other.unwrap_err().code(), 403);
        assert_eq!(node.create(&POD, pod("made", "n1", json!({}))).await.unwrap_err().code(), 403);
    });
}

#[test]
fn pods_are_bound_once_and_evicted_within_budgets() {
    rt::block_on(async {
        let (_server, client) = start().await;
        make(&client, &POD, pod("a", "", json!({}))).await;
        let bind = |node: &str| {
            let mut bind = request(
                Verb::Create,
                &POD,
                "a",
                json!({
                    "metadata": {"name": "a", "namespace": "default"}, "target": {"kind": "Node", "name": node},
                }),
            );
            bind.subresource = "binding".into();
            client.call(bind)
        };
        bind("n1").await.unwrap();
        let bound = client.get(&POD, "default", "a").await.unwrap().tree();
        assert_eq!(bound.str("spec.nodeName"), "n1");
        assert_eq!(bound.str("status.conditions.0.type"), "PodScheduled");
        let twice = bind("n2").await.unwrap_err();
        assert_eq!(
            twice.message(),
            "Operation cannot be fulfilled on bindings \"a\": pod a is already assigned to node \"n1\""
        );

        make(
            &client,
            &POD_DISRUPTION_BUDGET,
            json!({
                "metadata": {"name": "b", "namespace": "default"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
            }),
        )
        .await;
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        client.patch(&POD, "default", "a", "status", PatchType::Merge, running).await.unwrap();
        let evict = || {
            let mut evict = request(Verb::Create, &POD, "a", json!({"metadata": {"name": "a"}}));
            evict.subresource = "eviction".into();
            client.call(evict)
        };
        let waiting = evict().await.unwrap_err();
        assert_eq!(waiting.code(), 429);
        assert_eq!(
            waiting.details()["causes"][0]["message"],
            "The disruption budget b is still being processed by the server."
        );
        let status = |allowed: i64| {
            json!({"status": {
                "observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
            }})
        };
        let set = |allowed| {
            client.patch(
                &POD_DISRUPTION_BUDGET,
                "default",
                "b",
                "status",
                PatchType::Merge,
                status(allowed),
            )
        };
        set(0).await.unwrap();
        let refused = evict().await.unwrap_err();
        assert_eq!(
            refused.message(),
            "Cannot evict pod as it would violate the pod's disruption budget."
        );
        assert_eq!(
            refused.details()["causes"][0]["message"],
            "The disruption budget b needs 1 healthy pods and has 1 currently"
        );
        set(1).await.unwrap();
        evict().await.unwrap();
        assert!(client.get(&POD, "default", "a").await.unwrap().deleting());
        let budget = client.get(&POD_DISRUPTION_BUDGET, "default", "b").await.unwrap().tree();
        assert_eq!(budget.int("status.disruptionsAllowed").unwrap_or(0), 0);
        assert!(budget.at("status.disruptedPods").get("a").is_some());
    });
}

#[test]
fn scale_is_a_view_of_the_object() {
    rt::block_on(async {
        let (_server, client) = start().await;
        make(&client, &DEPLOYMENT, json!({
            "metadata": {"name": "d", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]},
            }},
        }))
        .await;
        let scale = |verb, body: Value| {
            let mut scale = request(verb, &DEPLOYMENT, "d", body);
            scale.subresource = "scale".into();
            client.call(scale)
        };
        let client::Answer::Tree(seen) = scale(Verb::Get, Value::Null).await.unwrap() else {
            panic!()
        };
        assert_eq!((seen.int("spec.replicas"), seen.str("status.selector")), (Some(2), "a=b"));
        scale(Verb::Update, json!({"spec": {"replicas": 5}})).await.unwrap();
        let scaled = client.get(&DEPLOYMENT, "default", "d").await.unwrap().tree();
        assert_eq!(
            (scaled.int("spec.replicas"), scaled.int("metadata.generation")),
            (Some(5), Some(2))
        );
        assert_eq!(
            scale(Verb::Update, json!({"spec": {"replicas": -1}})).await.unwrap_err().code(),
            422
        );
    });
}

#[test]
fn namespaces_end_when_their_finalizers_are_gone() {
    rt::block_on(async {
        let (_server, client) = start().await;
        make(&client, &NAMESPACE, json!({"metadata": {"name": "x"}})).await;
        client.delete(&NAMESPACE, "", "x", Default::default()).await.unwrap();
        let ending = client.get(&NAMESPACE, "", "x").await.unwrap().tree();
        assert_eq!(ending.str("status.phase"), "Terminating");
        let refused = client
            .create(&CONFIG_MAP, json!({"metadata": {"name": "a", "namespace": "x"}}))
            .await
            .unwrap_err();
        assert_eq!(
            refused.message(),
            "configmaps \"a\" is forbidden: unable to create new content in namespace x because it is being terminated"
        );
        assert_eq!(refused.details()["causes"][0]["reason"], "NamespaceTerminating");
        let mut finalize = request(
            Verb::Update,
            &NAMESPACE,
            "x",
            json!({
                "metadata": {"name": "x"}, "spec": {"finalizers": []},
            }),
        );
        finalize.namespace = String::new();
        finalize.subresource = "finalize".into();
        client.call(finalize).await.unwrap();
        assert!(client.get(&NAMESPACE, "", "x").await.unwrap_err().is_not_found());
        assert_eq!(
            client.delete(&NAMESPACE, "", "default", Default::default()).await.unwrap_err().code(),
            403
        );
    });
}
