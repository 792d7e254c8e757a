//! PodSecurity: what a namespace's labels refuse and warn of.

use api::kinds::*;
use api::{Lens, Value, json};
use client::{Answer, PatchType, Verb};

use super::{request, start};
use crate::User;
use crate::dispatch::perform;
use crate::user::Caller;

fn pod(name: &str, context: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
        "containers": [{"name": "c", "image": "i", "securityContext": context}]}})
}

#[test]
fn labels_of_a_namespace_bind_its_pods() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let label = |labels: Value| {
            let tree = json!({"metadata": {"labels": labels}});
            admin.patch(&NAMESPACE, "", "default", "", PatchType::Merge, tree)
        };
        let privileged = json!({"privileged": true});
        admin.create(&POD, pod("before", privileged.clone())).await.unwrap();
        label(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await.unwrap();
        let refused = admin.create(&POD, pod("p", privileged.clone())).await.unwrap_err();
        assert_eq!(refused.code(), 403);
        assert_eq!(
            refused.message(),
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)"
        );
        admin.create(&POD, pod("good", json!({}))).await.unwrap();
        // What runs already may be labelled, and gets no other image.
        let patch = |name: &'static str, sub: &'static str, tree: Value| {
            admin.patch(&POD, "default", name, sub, PatchType::Strategic, tree)
        };
        patch("before", "", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
        patch("before", "status", json!({"status": {"phase": "Running"}})).await.unwrap();
        let image = json!({"spec": {"containers": [{"name": "c", "image": "j"}]}});
        assert_eq!(patch("before", "", image.clone()).await.unwrap_err().code(), 403);
        patch("good", "", image).await.unwrap();
        let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i", "securityContext": {"privileged": true}}]}});
        let refused = patch("good", "ephemeralcontainers", debug).await.unwrap_err();
        assert!(refused.message().contains("violates PodSecurity"), "{refused}");

        for (labels, message) in [
            (
                json!({"pod-security.kubernetes.io/enforce": "strict"}),
                "must be one of privileged, baseline, restricted",
            ),
            (
                json!({"pod-security.kubernetes.io/audit-version": "1.32"}),
                "must be \"latest\" or \"v1.x\"",
            ),
        ] {
            let refused = label(labels.clone()).await.unwrap_err();
            assert_eq!(refused.code(), 422, "{labels}");
            assert!(refused.message().contains(message), "{labels}: {refused}");
            let tree = json!({"metadata": {"name": "other", "labels": labels}});
            assert_eq!(admin.create(&NAMESPACE, tree).await.unwrap_err().code(), 422);
        }

        // Warnings: of what runs already, and of what a template would make.
        let core = server.core();
        let caller = Caller::new(User::admin(), "test");
        let mut relabel = request(Verb::Patch, &NAMESPACE, "default", Value::Null);
        relabel.namespace = String::new();
        relabel.body = client::Body::Patch(
            PatchType::Merge,
            json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "v1.0"}}}),
        );
        let outcome = perform(core, &caller, relabel).await.unwrap();
        assert_eq!(
            outcome.warnings,
            [
                "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:v1.0\"",
                "before: privileged, runAsNonRoot != true",
                "good: runAsNonRoot != true",
            ]
        );
        let deployment = json!({"metadata": {"name": "d", "namespace": "default"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"hostNetwork": true, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c", "image": "i"}]}}}});
        let create = request(Verb::Create, &DEPLOYMENT, "d", deployment);
        let made = perform(core, &caller, create).await.unwrap();
        assert_eq!(
            made.warnings,
            ["would violate PodSecurity \"restricted:v1.0\": host namespaces (hostNetwork=true)"]
        );
        let Answer::Object(object) = made.answer else { panic!() };
        assert_eq!(object.tree().str("metadata.name"), "d");
    });
}
