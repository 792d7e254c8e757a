//! Generic verbs over ConfigMaps and Pods.

use api::kinds::{CONFIG_MAP, HORIZONTAL_POD_AUTOSCALER, PERSISTENT_VOLUME_CLAIM, POD, SECRET};
use api::{Lens, LensMut, Value, json};
use client::{DeleteOptions, ListOptions, PatchType, WatchEvent};

use super::start;

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": {"n": name}}, "data": {"a": "b"}})
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn create_get_update_delete() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let made = client.create(&CONFIG_MAP, config_map("a")).await.unwrap();
        assert_eq!(made.name(), "a");
        assert_eq!(made.uid().len(), 36);
        assert_ne!(made.revision(), 0);
        let again = client.create(&CONFIG_MAP, config_map("a")).await.unwrap_err();
        assert_eq!(again.message(), "configmaps \"a\" already exists");

        let mut tree = made.tree();
        tree.set("data.a", "c");
        let updated = client.update(&CONFIG_MAP, tree.clone()).await.unwrap();
        assert!(updated.revision() > made.revision());
        let stale = client.update(&CONFIG_MAP, tree).await.unwrap_err();
        assert!(stale.is_conflict(), "{stale}");
        let same = client.update(&CONFIG_MAP, updated.tree()).await.unwrap();
        assert_eq!(
            same.revision(),
            updated.revision(),
            "an update that changes nothing writes nothing"
        );

        let patch = json!({"data": {"b": "x"}});
        let patched =
            client.patch(&CONFIG_MAP, "default", "a", "", PatchType::Merge, patch).await.unwrap();
        assert_eq!(patched.tree().str("data.b"), "x");

        client.delete(&CONFIG_MAP, "default", "a", DeleteOptions::default()).await.unwrap();
        let gone = client.get(&CONFIG_MAP, "default", "a").await.unwrap_err();
        assert_eq!(gone.message(), "configmaps \"a\" not found");
    });
}

#[test]
fn who_creates_manages_what_was_sent_and_defaulted() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "",
                "dataSource": {"kind": "PersistentVolumeClaim", "name": "p"}}});
        let made = client.create(&PERSISTENT_VOLUME_CLAIM, claim).await.unwrap().whole_tree();
        assert!(made.has("spec.dataSourceRef") && made.has("metadata.finalizers"));
        let entries = made.list("metadata.managedFields");
        let own = entries.iter().find(|entry| entry.str("operation") == "Update").unwrap();
        // Not what admission and the strategy of the kind add.
        assert_eq!(
            *own.at("fieldsV1"),
            json!({"f:spec": {"f:accessModes": {}, "f:dataSource": {}, "f:resources": {"f:requests": {".": {}, "f:storage": {}}},
                "f:storageClassName": {}, "f:volumeMode": {}}})
        );
    });
}

#[test]
fn who_writes_another_version_manages_its_fields() {
    rt::block_on(async {
        let (_server, client) = start().await;
        let tree = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "default"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
        let patch = json!({"spec": {"targetCPUUtilizationPercentage": 60}});
        for (verb, body) in [
            (client::Verb::Create, client::Body::Tree(tree)),
            (client::Verb::Patch, client::Body::Patch(PatchType::Merge, patch)),
        ] {
            let mut request = super::request(verb, &HORIZONTAL_POD_AUTOSCALER, "h", Value::Null);
            request.group_version = "autoscaling/v1".into();
            request.body = body;
            client.call(request).await.unwrap();
        }
        let made = client.get(&HORIZONTAL_POD_AUTOSCALER, "default", "h").await.unwrap();
        let entries = made.whole_tree().list("metadata.managedFields").to_vec();
        let [entry] = &entries[..] else { panic!("{entries:#?}") };
        assert_eq!(entry.str("apiVersion"), "autoscaling/v1");
        assert_eq!(
            *entry.at("fieldsV1").at("f:spec"),
            json!({"f:maxReplicas": {}, "f:minReplicas": {}, "f:scaleTargetRef": {}, "f:targetCPUUtilizationPercentage": {}})
        );
    });
}

#[test]
fn a_patch_that_makes_no_object_is_told_with_what_it_made() {
    rt::block_on(async {
        let (_server, client) = start().await;
        client.create(&CONFIG_MAP, config_map("c")).await.unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "data": {"key": "aGlkZGVu"}});
        client.create(&SECRET, secret).await.unwrap();
        for (patch_type, kind, name, patch, message) in [
            (
                PatchType::Merge,
                &CONFIG_MAP,
                "c",
                json!({"metadata": "x"}),
                r#" "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"b\"},\"kind\":\"ConfigMap\",\"metadata\":\"x\"}": json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta"#,
            ),
            (
                PatchType::Json,
                &CONFIG_MAP,
                "c",
                json!([{"op": "replace", "path": "/metadata", "value": {"z": 1}}]),
                r#" "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"b\"},\"kind\":\"ConfigMap\",\"metadata\":{\"z\":1}}": strict decoding error: unknown field "metadata.z""#,
            ),
            // Errors go into logs.
            (
                PatchType::Merge,
                &SECRET,
                "s",
                json!({"metadata": "x"}),
                r#" "" is invalid: patch: Invalid value: "{\"metadata\":\"x\"}": json: cannot unmarshal string into Go struct field Secret.metadata of type v1.ObjectMeta"#,
            ),
        ] {
            let mut request = super::request(client::Verb::Patch, kind, name, Value::Null);
            request.field_validation = "Strict".into();
            request.body = client::Body::Patch(patch_type, patch);
            let refused = client.call(request).await.unwrap_err();
            assert_eq!(refused.message(), message);
        }
    });
}

#[test]
fn generated_names_and_selectors() {
    rt::block_on(async {
        let (_server, client) = start().await;
        for name in ["a", "b", "c"] {
            client.create(&CONFIG_MAP, config_map(name)).await.unwrap();
        }
        let mut tree = config_map("");
        tree.remove("metadata.name");
        tree.set("metadata.generateName", "x-");
        let made = client.create(&CONFIG_MAP, tree).await.unwrap();
        assert!(made.name().starts_with("x-") && made.name().len() == 7);

        let list = |labels: &str, fields: &str, limit| {
            let options = ListOptions {
                label_selector: labels.into(),
                field_selector: fields.into(),
                limit,
                ..ListOptions::default()
            };
            client.list(&CONFIG_MAP, "default", options)
        };
        assert_eq!(list("n in (a,b)", "", 0).await.unwrap().items.len(), 2);
        assert_eq!(list("", "metadata.name=c", 0).await.unwrap().items.len(), 1);
        assert_eq!(list("", "metadata.name!=c", 0).await.unwrap().items.len(), 3);
        assert_eq!(list("", "data.a=b", 0).await.unwrap_err().code(), 400);
        let page = list("", "", 3).await.unwrap();
        assert_eq!((page.items.len(), page.remaining), (3, Some(1)));
        client.create(&CONFIG_MAP, config_map("zz")).await.unwrap();
        let options =
            ListOptions { continue_token: page.continue_token, limit: 3, ..ListOptions::default() };
        let rest = client.list(&CONFIG_MAP, "default", options).await.unwrap();
        assert_eq!(rest.items.len(), 1, "later pages are at the first page's revision");
        assert_eq!(rest.revision, page.revision);
        assert!(rest.continue_token.is_empty());
    });
}

#[test]
fn watches_follow_selectors() {
    rt::block_on(async {
        let (_server, client) = start().await;
        client.create(&POD, pod("a", "")).await.unwrap();
        let options = ListOptions {
            field_selector: "spec.nodeName=n".into(),
            resource_version: "0".into(),
            ..ListOptions::default()
        };
        let mut watch = client.watch(&POD, "default", options).await.unwrap();
        client.create(&POD, pod("b", "n")).await.unwrap();
        let patch = json!({"metadata": {"labels": {"x": "y"}}});
        client.patch(&POD, "default", "b", "", PatchType::Merge, patch).await.unwrap();
        let now = DeleteOptions { grace_secs: Some(0), ..DeleteOptions::default() };
        client.delete(&POD, "default", "b", now).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(match watch.next().await.unwrap().unwrap() {
                WatchEvent::Added(o) => format!("added {}", o.name()),
                WatchEvent::Modified(o) => format!("modified {}", o.name()),
                WatchEvent::Deleted(o) => format!("deleted {}", o.name()),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(seen, ["added b", "modified b", "deleted b"]);
    });
}

#[test]
fn deletion_waits_for_grace_and_finalizers() {
    rt::block_on(async {
        let (_server, client) = start().await;
        client.create(&POD, pod("a", "n")).await.unwrap();
        client.delete(&POD, "default", "a", DeleteOptions::default()).await.unwrap();
        let marked = client.get(&POD, "default", "a").await.unwrap();
        assert!(marked.deleting());
        let now = DeleteOptions { grace_secs: Some(0), ..DeleteOptions::default() };
        client.delete(&POD, "default", "a", now).await.unwrap();
        assert!(client.get(&POD, "default", "a").await.unwrap_err().is_not_found());

        client.create(&POD, pod("unscheduled", "")).await.unwrap();
        client.delete(&POD, "default", "unscheduled", DeleteOptions::default()).await.unwrap();
        assert!(client.get(&POD, "default", "unscheduled").await.unwrap_err().is_not_found());

        let mut tree = config_map("f");
        tree.set("metadata.finalizers", json!(["example.com/x"]));
        client.create(&CONFIG_MAP, tree).await.unwrap();
        client.delete(&CONFIG_MAP, "default", "f", DeleteOptions::default()).await.unwrap();
        let mut marked = client.get(&CONFIG_MAP, "default", "f").await.unwrap().tree();
        assert!(marked.has("metadata.deletionTimestamp"));
        marked.remove("metadata.finalizers");
        client.update(&CONFIG_MAP, marked).await.unwrap();
        assert!(client.get(&CONFIG_MAP, "default", "f").await.unwrap_err().is_not_found());
    });
}

#[test]
fn what_history_has_lost_is_told() {
    rt::block_on(async {
        let (server, client) = start().await;
        for name in ["a", "b", "c"] {
            client.create(&CONFIG_MAP, config_map(name)).await.unwrap();
        }
        let page = ListOptions { limit: 1, ..ListOptions::default() };
        let first = client.list(&CONFIG_MAP, "default", page.clone()).await.unwrap();
        let old = first.revision;
        client.create(&CONFIG_MAP, config_map("d")).await.unwrap();
        let now = client.create(&CONFIG_MAP, config_map("e")).await.unwrap().revision();
        // What the watch cache has not handed out yet is not lost to it, so it has to have seen all of this.
        let from = ListOptions { resource_version: old.to_string(), ..ListOptions::default() };
        let mut watch = client.watch(&CONFIG_MAP, "default", from.clone()).await.unwrap();
        for _ in ["d", "e"] {
            watch.next().await.unwrap().unwrap();
        }
        server.core().store.compact(now).await.unwrap();

        let next = ListOptions { continue_token: first.continue_token, ..page.clone() };
        let expired = client.list(&CONFIG_MAP, "default", next).await.unwrap_err();
        assert_eq!((expired.code(), expired.reason().as_str()), (410, "Expired"));
        let token = expired.to_tree().str("metadata.continue").to_owned();
        let next = ListOptions { continue_token: token, limit: 10, ..ListOptions::default() };
        let rest = client.list(&CONFIG_MAP, "default", next).await.unwrap();
        let names: Vec<&str> = rest.items.iter().map(|item| item.name()).collect();
        assert_eq!(names, ["b", "c", "d", "e"], "it goes on at the newest state");

        let exact = ListOptions {
            resource_version: old.to_string(),
            resource_version_match: "Exact".into(),
            ..ListOptions::default()
        };
        assert_eq!(client.list(&CONFIG_MAP, "default", exact).await.unwrap_err().code(), 410);
        let mut watch = client.watch(&CONFIG_MAP, "default", from).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap_err().code(), 410);
        assert!(watch.next().await.is_none());
    });
}
