//! What users and nodes must not become: roles that grow by what looks unchanged, mirror pods that
//! open Secrets, claims that a kubelet changes.

use api::kinds::*;
use api::{Kind, Lens, Value, json};
use client::{Client, PatchType, Verb};

use super::{request, start};
use crate::User;

async fn make(client: &Client, kind: &'static Kind, tree: Value) {
    client.create(kind, tree).await.unwrap_or_else(|status| panic!("{status}"));
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    })
}

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

#[test]
fn a_role_grows_by_no_update_that_looks_harmless() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let rules = json!([{
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["clusterroles", "clusterrolebindings", "roles", "rolebindings"],
            "verbs": ["get", "list", "create", "update", "patch", "delete"],
        }]);
        make(&admin, &CLUSTER_ROLE, cluster_role("writer", rules.clone())).await;
        make(&admin, &CLUSTER_ROLE_BINDING, binding("writer", "writer", "eve")).await;
        make(&admin, &CLUSTER_ROLE_BINDING, binding("eve-admin", "cluster-admin", "mallory")).await;
        let eve = server.client_as(User::new("eve", &[]));

        let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
        let annotation = json!({"metadata": {"annotations": {"a": "b"}}});
        let owners = json!({"metadata": {"finalizers": ["example.com/x"], "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]}});
        let aggregation =
            json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        for (name, patch, why) in [
            (
                "cluster-admin",
                &label,
                Some("is attempting to grant RBAC permissions not currently held"),
            ),
            (
                "cluster-admin",
                &annotation,
                Some("is attempting to grant RBAC permissions not currently held"),
            ),
            // What the collector changes.
            ("cluster-admin", &owners, None),
            // Its rules are no more than eve's: labels are hers to set, gathering is not.
            ("writer", &label, None),
            (
                "writer",
                &aggregation,
                Some("must have cluster-admin privileges to use the aggregationRule"),
            ),
        ] {
            for patch_type in [PatchType::Merge, PatchType::Strategic] {
                let done = eve.patch(&CLUSTER_ROLE, "", name, "", patch_type, patch.clone()).await;
                match (done, why) {
                    (Ok(_), None) => {}
                    (Err(status), Some(why)) => {
                        assert_eq!(status.code(), 403, "{name} {patch}: {status}");
                        assert!(status.message().contains(why), "{name} {patch}: {status}");
                    }
                    (done, _) => panic!("{name} {patch}: {done:?}"),
                }
            }
        }
        // By server-side apply and by replacement, too.
        let mut whole = admin.get(&CLUSTER_ROLE, "", "cluster-admin").await.unwrap().tree();
        whole["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = json!("true");
        let mut replace = request(Verb::Update, &CLUSTER_ROLE, "cluster-admin", whole);
        replace.namespace = String::new();
        assert_eq!(eve.call(replace).await.unwrap_err().code(), 403);
        let mut applied = label.clone();
        applied["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        applied["kind"] = json!("ClusterRole");
        applied["metadata"]["name"] = json!("cluster-admin");
        let done =
            eve.patch(&CLUSTER_ROLE, "", "cluster-admin", "", PatchType::Apply, applied).await;
        assert_eq!(done.unwrap_err().code(), 403);

        // Taking away what gathers needs as much as setting it: `view` keeps what it has gathered.
        let stop = json!({"aggregationRule": null, "rules": []});
        let refused = eve.patch(&CLUSTER_ROLE, "", "view", "", PatchType::Merge, stop).await;
        assert!(refused.unwrap_err().message().contains("must have cluster-admin privileges"));

        // A binding to more than one has is not changed, not even its labels; subjects least of all.
        let subjects = json!({"subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]});
        for patch in [label.clone(), subjects] {
            let done = eve
                .patch(&CLUSTER_ROLE_BINDING, "", "eve-admin", "", PatchType::Merge, patch)
                .await;
            assert_eq!(done.unwrap_err().code(), 403);
        }
        // `escalate` for a name does not hold for what has no name yet.
        let named = json!([{
            "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
            "resourceNames": ["mine"], "verbs": ["escalate"],
        }]);
        make(&admin, &CLUSTER_ROLE, cluster_role("escalate-mine", named)).await;
        make(&admin, &CLUSTER_ROLE_BINDING, binding("escalate-mine", "escalate-mine", "eve")).await;
        let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        let mine = cluster_role("mine", everything);
        assert_eq!(eve.create(&CLUSTER_ROLE, mine.clone()).await.unwrap_err().code(), 403);
        make(&admin, &CLUSTER_ROLE, cluster_role("mine", json!([]))).await;
        eve.patch(&CLUSTER_ROLE, "", "mine", "", PatchType::Merge, mine).await.unwrap();
    });
}

#[test]
fn missing_rights_are_told_as_upstream_tells_them() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let rules = json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        ]);
        make(&admin, &CLUSTER_ROLE, cluster_role("writer", rules)).await;
        make(&admin, &CLUSTER_ROLE_BINDING, binding("writer", "writer", "eve")).await;
        let eve = server.client_as(User::new("eve", &[]));
        let wanted = json!([{"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["get", "list"]}]);
        let refused = eve.create(&CLUSTER_ROLE, cluster_role("r", wanted)).await.unwrap_err();
        assert!(
            refused.message().ends_with(
                "not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
            ),
            "{refused}"
        );
        // Words multiply: a rule of three lists is more than can be compared.
        let many: Vec<String> = (0..150).map(|n| format!("r{n}")).collect();
        let wanted = json!([{"apiGroups": many, "resources": many, "verbs": many}]);
        let refused = eve.create(&CLUSTER_ROLE, cluster_role("r", wanted)).await.unwrap_err();
        assert!(refused.message().contains("the rules combine 3375000 verbs"), "{refused}");
        let wanted = json!([{"apiGroups": ["a"], "resources": many, "verbs": many}]);
        let refused = eve.create(&CLUSTER_ROLE, cluster_role("r", wanted)).await.unwrap_err();
        assert!(refused.message().len() < 32 << 10, "{} bytes", refused.message().len());
    });
}

async fn node_uid(node: &Client, name: &str) -> String {
    make(node, &NODE, json!({"metadata": {"name": name}})).await;
    node.get(&NODE, "", name).await.unwrap().uid().to_owned()
}

fn mirror(uid: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {
            "name": "m", "namespace": "default",
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

#[test]
fn mirror_pods_refer_to_nothing() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let node = server.client_as(User::node("n1"));
        let uid = node_uid(&node, "n1").await;
        let container = |container: Value| {
            let mut whole = json!({"name": "c", "image": "i"});
            whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
            json!({"containers": [whole]})
        };
        let volume = |source: Value| {
            let mut volume = json!({"name": "v"});
            volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
            json!({"volumes": [volume]})
        };
        let reference = json!({"name": "s"});
        for (spec, what) in [
            (container(json!({"envFrom": [{"secretRef": reference}]})), "secrets"),
            (
                container(
                    json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
                ),
                "secrets",
            ),
            (container(json!({"envFrom": [{"configMapRef": reference}]})), "configmaps"),
            (
                json!({"initContainers": [{"name": "i", "image": "i", "envFrom": [{"secretRef": reference}]}]}),
                "secrets",
            ),
            (json!({"imagePullSecrets": [reference]}), "secrets"),
            (volume(json!({"secret": {"secretName": "s"}})), "secrets"),
            (volume(json!({"projected": {"sources": [{"secret": reference}]}})), "secrets"),
            (volume(json!({"projected": {"sources": [{"configMap": reference}]}})), "configmaps"),
            (volume(json!({"azureFile": {"secretName": "s", "shareName": "x"}})), "secrets"),
            (volume(json!({"cephfs": {"monitors": ["m"], "secretRef": reference}})), "secrets"),
            (volume(json!({"cinder": {"volumeID": "x", "secretRef": reference}})), "secrets"),
            (volume(json!({"flexVolume": {"driver": "a/b", "secretRef": reference}})), "secrets"),
            (
                volume(
                    json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:x", "lun": 0, "secretRef": reference}}),
                ),
                "secrets",
            ),
            (
                volume(json!({"rbd": {"monitors": ["m"], "image": "x", "secretRef": reference}})),
                "secrets",
            ),
            (
                volume(
                    json!({"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": reference}}),
                ),
                "secrets",
            ),
            (volume(json!({"storageos": {"volumeName": "v", "secretRef": reference}})), "secrets"),
            (volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": reference}})), "secrets"),
            (
                volume(json!({"persistentVolumeClaim": {"claimName": "s"}})),
                "persistentvolumeclaims",
            ),
            (
                volume(
                    json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}}}),
                ),
                "persistentvolumeclaims",
            ),
        ] {
            let refused = node.create(&POD, mirror(&uid, spec.clone())).await;
            let refused = refused.err().unwrap_or_else(|| panic!("{spec}"));
            assert_eq!(refused.code(), 403, "{spec}: {refused}");
            let wanted = [
                format!("node \"n1\" can not create pods that reference {what}"),
                format!("a mirror pod may not reference {what}"),
            ];
            assert!(wanted.iter().any(|why| refused.message().ends_with(why)), "{spec}: {refused}");
        }
        for (path, value, why) in [
            ("/spec/serviceAccountName", json!("default"), "service account"),
            ("/spec/nodeName", json!("n2"), "spec.nodeName set to itself"),
            ("/metadata/ownerReferences", json!([]), "an owner reference set to itself"),
            ("/metadata/ownerReferences/0/uid", json!("x"), "UID mismatch"),
            ("/metadata/ownerReferences/0/controller", json!(false), "controller owner reference"),
            (
                "/metadata/ownerReferences/0/blockOwnerDeletion",
                json!(true),
                "must not set blockOwnerDeletion",
            ),
            (
                "/metadata/annotations",
                json!({}),
                "annotation, node \"n1\" can only create mirror pods",
            ),
        ] {
            let mut pod = mirror(&uid, json!({}));
            let change = json!([{"op": "add", "path": path, "value": value}]);
            api::patch::json(&mut pod, &change).unwrap();
            let refused = node.create(&POD, pod).await.unwrap_err();
            assert!(refused.message().contains(why), "{path}: {refused}");
        }
        node.create(&POD, mirror(&uid, json!({}))).await.unwrap();

        // Should one be there all the same, it opens nothing.
        make(&admin, &CONFIG_MAP, json!({"metadata": {"name": "s", "namespace": "default"}})).await;
        let mut pod =
            mirror(&uid, container(json!({"envFrom": [{"configMapRef": {"name": "s"}}]})));
        pod["metadata"]["name"] = json!("m2");
        make(&admin, &POD, pod).await;
        assert_eq!(node.get(&CONFIG_MAP, "default", "s").await.unwrap_err().code(), 403);
    });
}

#[test]
fn a_node_reads_claims_and_changes_none() {
    rt::block_on(async {
        let (server, admin) = start().await;
        let node = server.client_as(User::node("n1"));
        let claim = |name: &str| {
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}})
        };
        for name in ["c", "p-scratch", "other"] {
            make(&admin, &PERSISTENT_VOLUME_CLAIM, claim(name)).await;
        }
        make(&admin, &POD, json!({
            "metadata": {"name": "p", "namespace": "default", "labels": {"a": "b"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], "volumes": [
                {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}}},
            ]},
        })).await;
        for (name, code) in [("c", 200), ("p-scratch", 200), ("other", 403)] {
            let got = node.get(&PERSISTENT_VOLUME_CLAIM, "default", name).await;
            assert_eq!(got.map_or_else(|status| status.code(), |_| 200), code, "{name}");
        }
        let label = json!({"metadata": {"labels": {"x": "y"}}});
        let patch = |sub: &'static str, tree: Value| {
            node.patch(&PERSISTENT_VOLUME_CLAIM, "default", "c", sub, PatchType::Merge, tree)
        };
        assert_eq!(patch("", label.clone()).await.unwrap_err().code(), 403);
        let deleted = node.delete(&PERSISTENT_VOLUME_CLAIM, "default", "c", Default::default());
        assert_eq!(deleted.await.unwrap_err().code(), 403);
        let refused = patch("status", label).await.unwrap_err();
        assert!(
            refused.message().contains("is not allowed to update fields other than status"),
            "{refused}"
        );
        assert_eq!(
            patch("status", json!({"status": {"phase": "Lost"}})).await.unwrap_err().code(),
            403
        );
        patch("status", json!({"status": {"capacity": {"storage": "2Mi"}}})).await.unwrap();

        // A volume is the node's through the claim that the volume itself names.
        let volume = |name: &str, claim: &str| {
            json!({"metadata": {"name": name}, "spec": {
                "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"},
                "claimRef": {"namespace": "default", "name": claim}}})
        };
        make(&admin, &PERSISTENT_VOLUME, volume("mine", "c")).await;
        make(&admin, &PERSISTENT_VOLUME, volume("others", "other")).await;
        node.get(&PERSISTENT_VOLUME, "", "mine").await.unwrap();
        assert_eq!(node.get(&PERSISTENT_VOLUME, "", "others").await.unwrap_err().code(), 403);
    });
}

#[test]
fn a_node_evicts_only_its_own_pods_and_spends_no_budget_of_others() {
    rt::block_on(async {
        let (server, admin) = start().await;
        make(
            &admin,
            &POD,
            json!({
                "metadata": {"name": "p", "namespace": "default", "labels": {"a": "b"}},
                "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]},
            }),
        )
        .await;
        make(
            &admin,
            &POD_DISRUPTION_BUDGET,
            json!({
                "metadata": {"name": "b", "namespace": "default"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
            }),
        )
        .await;
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        admin.patch(&POD, "default", "p", "status", PatchType::Merge, running).await.unwrap();
        let allowed = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
        admin
            .patch(&POD_DISRUPTION_BUDGET, "default", "b", "status", PatchType::Merge, allowed)
            .await
            .unwrap();
        let mut evict = request(Verb::Create, &POD, "p", json!({"metadata": {"name": "p"}}));
        evict.subresource = "eviction".into();
        let refused = server.client_as(User::node("n1")).call(evict).await.unwrap_err();
        assert!(
            refused
                .message()
                .ends_with("node n1 can only evict pods with spec.nodeName set to itself"),
            "{refused}"
        );
        let budget = admin.get(&POD_DISRUPTION_BUDGET, "default", "b").await.unwrap().tree();
        assert_eq!(budget.int("status.disruptionsAllowed"), Some(1));
        // Who has the group and no name is no node, least of all that of pods without one.
        assert_eq!(User::node("").node_name(), None);
    });
}

#[test]
fn service_addresses_that_would_reach_the_node_are_refused() {
    rt::block_on(async {
        let (_server, admin) = start().await;
        let service = |ip: &str| {
            json!({
                "metadata": {"name": "s", "namespace": "default"},
                "spec": {"ports": [{"port": 80}], "externalIPs": [ip]},
            })
        };
        for ip in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
            "127.000.000.001",
            "x",
        ] {
            let refused = admin.create(&SERVICE, service(ip)).await.unwrap_err();
            assert_eq!(refused.code(), 422, "{ip}: {refused}");
            assert!(refused.message().contains("spec.externalIPs[0]"), "{ip}: {refused}");
        }
        admin.create(&SERVICE, service("198.51.100.7")).await.unwrap();
        let ingress = |ip: &str| json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let put = |tree| admin.patch(&SERVICE, "default", "s", "status", PatchType::Merge, tree);
        let refused = put(ingress("10.0.0.1")).await.unwrap_err();
        assert!(
            refused.message().contains("may only be used when `spec.type` is 'LoadBalancer'"),
            "{refused}"
        );
        let typed = json!({"spec": {"type": "LoadBalancer"}});
        admin.patch(&SERVICE, "default", "s", "", PatchType::Merge, typed).await.unwrap();
        put(ingress("10.0.0.1")).await.unwrap();
        assert_eq!(put(ingress("no.address")).await.unwrap_err().code(), 422);
        let name = json!({"status": {"loadBalancer": {"ingress": [{"hostname": "127.0.0.1"}]}}});
        assert_eq!(put(name).await.unwrap_err().code(), 422);

        let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        make(&admin, &POD, pod).await;
        let ips = json!({"status": {"podIPs": [{"ip": "x"}]}});
        let refused = admin.patch(&POD, "default", "p", "status", PatchType::Merge, ips).await;
        assert_eq!(refused.unwrap_err().code(), 422);
        for (kind, tree) in [
            (
                &ENDPOINTS,
                json!({"metadata": {"name": "e", "namespace": "default"}, "subsets": [{"addresses": [{"ip": "::ffff:127.0.0.1"}], "ports": [{"port": 1}]}]}),
            ),
            (
                &ENDPOINTS,
                json!({"metadata": {"name": "e", "namespace": "default"}, "subsets": [{"notReadyAddresses": [{"ip": "169.254.1.1"}], "ports": [{"port": 1}]}]}),
            ),
            (
                &ENDPOINT_SLICE,
                json!({"metadata": {"name": "e", "namespace": "default"}, "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}),
            ),
            (
                &ENDPOINT_SLICE,
                json!({"metadata": {"name": "e", "namespace": "default"}, "addressType": "IPv6", "endpoints": [{"addresses": ["::ffff:10.0.0.1"]}]}),
            ),
            (
                &ENDPOINT_SLICE,
                json!({"metadata": {"name": "e", "namespace": "default"}, "addressType": "IPv4", "endpoints": [{"addresses": []}]}),
            ),
        ] {
            let refused = admin.create(kind, tree.clone()).await.map(|_| ()).unwrap_err();
            assert_eq!(refused.code(), 422, "{tree}: {refused}");
        }
    });
}
