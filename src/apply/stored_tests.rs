//! What is recorded of managers, and the forms in which it is stored and shown.

use api::codec::{self, FieldValidation};
use api::kinds::{EVENT, KINDS, POD};
use api::schema::schema;
use api::{Lens, LensMut, Object, Value, json};
use stdx::prng::Prng;
use stdx::time::Wall;

use crate::track;

fn owned(mut tree: Value) -> Value {
    let owner = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "7e1ffb3a-5e1b-4e6c-9a3c-1d5a6f0e9b11", "controller": true}]);
    tree.set("metadata.ownerReferences", owner);
    tree
}

/// As a controller and then a kubelet would write it.
fn tracked(kind: &'static api::Kind, mut tree: Value) -> Value {
    tree.set("apiVersion", kind.api_version());
    tree.set("kind", kind.name);
    tree.remove("metadata.managedFields");
    codec::check_fields(kind, &mut tree, FieldValidation::Ignore).unwrap();
    let at = |secs: i64| Wall::from_secs(1_700_000_000 + secs);
    let mut created = tree.clone();
    created.remove("status");
    track(kind, "kube-controller-manager", "", at(0), None, &mut created);
    tree.set("metadata.managedFields", created.at("metadata.managedFields").clone());
    codec::check_fields(kind, &mut created, FieldValidation::Ignore).unwrap();
    track(kind, "an-agent", "status", at(1), Some(&created), &mut tree);
    tree
}

fn shown_alike(kind: &'static api::Kind, object: &Object, wanted: &Value) {
    assert!(object.whole_tree() == *wanted, "{}", kind.name);
    let mut text = Vec::new();
    codec::write_json(object, kind, &mut text);
    assert!(serde_json::from_slice::<Value>(&text).unwrap() == *wanted, "{}", kind.name);
    let mut bytes = Vec::new();
    codec::write_protobuf(object, kind, &mut bytes);
    assert!(bytes == codec::tree_to_protobuf(wanted).unwrap(), "{}", kind.name);
    let mut text = Vec::new();
    codec::Shown::Metadata("meta.k8s.io/v1").write_json(object, &mut text);
    let metadata: Value = serde_json::from_slice(&text).unwrap();
    assert!(metadata.at("metadata") == wanted.at("metadata"), "{}", kind.name);
}

#[test]
fn every_kind_is_shown_as_upstream_shows_it() {
    let mut prng = Prng::new(3);
    for kind in KINDS.iter().copied().filter(|kind| kind.stored() && !kind.declared.json) {
        let full = codec::sample::full(schema().root(kind), &mut prng, 0);
        let mut tree = tracked(kind, owned(full));
        tree.set("metadata.resourceVersion", "9");
        let object = Object::from_tree(kind, &tree).unwrap();
        shown_alike(kind, &object, &tree);
        let mut content = tree.clone();
        content.remove("metadata.managedFields");
        assert_eq!(object.tree(), content);
        // Written again, it is the same.
        assert_eq!(Object::from_tree(kind, &object.whole_tree()).unwrap(), object);
    }
}

fn pod() -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"});
    let conditions =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions: Vec<Value> = conditions.into_iter().map(condition).collect();
    owned(json!({
        "metadata": {"name": "web-5d9c-x7k2p", "generateName": "web-5d9c-", "namespace": "default",
            "labels": {"app": "web", "pod-template-hash": "5d9c", "odd \\ \" key": "x"}},
        "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "s", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "enableServiceLinks": true, "containers": [{"name": "web", "image": "nginx",
            "imagePullPolicy": "Always", "resources": {}, "terminationMessagePath": "/l", "terminationMessagePolicy": "File", "ports": [{"containerPort": 80}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "configMap": {"name": "c"}}], "nodeSelector": {"a/b": "c"}},
        "status": {"phase": "Running", "podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}],
            "conditions": conditions,
            "containerStatuses": [{"name": "web", "image": "nginx", "imageID": "i"}]},
    }))
}

#[test]
fn what_programs_make_costs_a_sixth() {
    let tree = tracked(&POD, pod());
    let small = Object::from_tree(&POD, &tree).unwrap();
    shown_alike(&POD, &small, &tree);
    let mut free = tree.clone();
    free.set("metadata.ownerReferences.0.controller", false);
    let large = Object::from_tree(&POD, &free).unwrap();
    let none = Object::from_tree(&POD, &small.tree()).unwrap().bytes().len();
    let (small, large) = (small.bytes().len() - none, large.bytes().len() - none);
    assert!(small < 300 && small * 6 < large, "{small} bytes, {large} in upstream's form");
    let event = tracked(
        &EVENT,
        json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"kind": "Pod"}, "reason": "R"}),
    );
    let event = Object::from_tree(&EVENT, &event).unwrap();
    let none = Object::from_tree(&EVENT, &event.tree()).unwrap().bytes().len();
    assert!(event.bytes().len() - none < 80);
}
