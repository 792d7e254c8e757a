//! Sets that grow, shrink and are updated.

use api::kinds::{CONTROLLER_REVISION, PERSISTENT_VOLUME_CLAIM, POD, STATEFUL_SET};
use api::{Lens, LensMut, Value, json};

use crate::support::conditions;
use crate::world::World;

fn set(changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"namespace": "d", "name": "db"},
        "spec": {
            "replicas": 3, "serviceName": "db", "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
            "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn world(changes: Value) -> World {
    World::new(&["statefulset-controller", "generic-garbage-collector"], [set(changes)])
}

fn status(world: &World, field: &str) -> i64 {
    world.get(&STATEFUL_SET, "d", "db").unwrap().at("status").int(field).unwrap_or(0)
}

fn images(world: &World) -> Vec<String> {
    world.list(&POD).iter().map(|p| p.str("spec.containers.0.image").to_owned()).collect()
}

/// Lets one round of the kubelet pass and tells the pods there were before and are after it.
fn round(world: &mut World) -> Vec<String> {
    world.settle();
    let names = world.names(&POD);
    world.kubelet();
    world.settle();
    names
}

/// The name of a revision is that of its template, also after a status was written.
#[test]
fn a_lost_history_is_made_again_by_the_same_name() {
    let mut world = world(json!({}));
    world.converge();
    let (names, pods) = (world.names(&CONTROLLER_REVISION), world.list(&POD));
    world.delete(&CONTROLLER_REVISION, "d", &names[0], "Background");
    world.edit(&STATEFUL_SET, "d", "db", |set| set.set("metadata.annotations", json!({"a": "b"})));
    world.converge();
    assert_eq!(world.names(&CONTROLLER_REVISION), names);
    assert_eq!(world.list(&POD), pods, "nothing is rolled out");
}

#[test]
fn one_after_the_other() {
    let mut world = world(json!({}));
    assert_eq!(round(&mut world), ["db-0"]);
    assert_eq!(round(&mut world), ["db-0", "db-1"]);
    assert_eq!(round(&mut world), ["db-0", "db-1", "db-2"]);
    world.converge();
    assert_eq!(world.names(&PERSISTENT_VOLUME_CLAIM), ["data-db-0", "data-db-1", "data-db-2"]);
    let pod = world.get(&POD, "d", "db-1").unwrap();
    assert_eq!(pod.str("spec.hostname"), "db-1");
    assert_eq!(pod.str("spec.subdomain"), "db");
    assert_eq!(
        pod.at("spec.volumes"),
        &json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}])
    );
    let revision = world.names(&CONTROLLER_REVISION)[0].clone();
    let labels: Vec<_> = pod.pairs("metadata.labels").collect();
    assert_eq!(
        labels,
        [
            ("app", "db"),
            ("apps.kubernetes.io/pod-index", "1"),
            ("controller-revision-hash", &*revision),
            ("statefulset.kubernetes.io/pod-name", "db-1"),
        ]
    );
    let counts =
        ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"];
    assert_eq!(counts.map(|field| status(&world, field)), [3; 5]);
    assert_eq!(
        world.events[..2],
        [
            "StatefulSet d/db Normal SuccessfulCreate: create Claim data-db-0 Pod db-0 in StatefulSet db success",
            "StatefulSet d/db Normal SuccessfulCreate: create Pod db-0 in StatefulSet db successful",
        ]
    );
    // A lost pod comes back under its name, with its claim.
    world.delete(&POD, "d", "db-1", "Background");
    world.converge();
    assert_eq!(world.names(&POD).len(), 3);
    assert_eq!(world.names(&PERSISTENT_VOLUME_CLAIM).len(), 3);
    // Shrinking takes the highest first, and leaves the claims.
    world.edit(&STATEFUL_SET, "d", "db", |set| set.set("spec.replicas", 1));
    world.settle();
    let deleting = |world: &World| -> Vec<String> {
        let pods = world.list(&POD);
        let gone = pods.iter().filter(|p| p.has("metadata.deletionTimestamp"));
        gone.map(|p| p.str("metadata.name").to_owned()).collect()
    };
    assert_eq!(deleting(&world), ["db-2"]);
    world.converge();
    assert_eq!(world.names(&POD), ["db-0"]);
    assert_eq!(world.names(&PERSISTENT_VOLUME_CLAIM).len(), 3);
    world.assert_fixpoint();
}

#[test]
fn parallel_all_at_once() {
    let mut world =
        world(json!({"spec": {"podManagementPolicy": "Parallel", "ordinals": {"start": 5}}}));
    assert_eq!(round(&mut world), ["db-5", "db-6", "db-7"]);
    world.edit(&STATEFUL_SET, "d", "db", |set| set.set("spec.replicas", 0));
    world.settle();
    assert!(world.list(&POD).iter().all(|pod| pod.has("metadata.deletionTimestamp")));
    world.converge();
    assert!(world.names(&POD).is_empty());
    world.assert_fixpoint();
}

#[test]
fn an_unready_pod_stops_the_line() {
    let mut world = world(json!({}));
    world.settle();
    world.kubelet_if(|_| false);
    world.settle();
    assert_eq!(world.names(&POD), ["db-0"]);
    // A failed pod is made anew.
    world.kubelet();
    world.settle();
    world.finish("db-0", "Failed", 1);
    world.settle();
    assert!(world.events.iter().any(|e| e == "StatefulSet d/db Warning RecreatingFailedPod: StatefulSet d/db is recreating failed Pod db-0"));
    world.converge();
    assert_eq!(status(&world, "readyReplicas"), 3);
    world.assert_fixpoint();
}

#[test]
fn rolling_update_from_the_end() {
    let mut world = world(json!({}));
    world.converge();
    world.edit(&STATEFUL_SET, "d", "db", |set| {
        set.set("spec.template.spec.containers.0.image", "v2");
        set.set("spec.updateStrategy.rollingUpdate.partition", 2);
    });
    world.settle();
    let ready = world.list(&POD).iter().filter(|p| !p.has("metadata.deletionTimestamp")).count();
    assert_eq!(ready, 2, "one at a time");
    world.converge();
    assert_eq!(images(&world), ["v1", "v1", "v2"]);
    assert_eq!([status(&world, "currentReplicas"), status(&world, "updatedReplicas")], [2, 1]);
    // A pod below the partition that is lost comes back as it was.
    world.delete(&POD, "d", "db-0", "Background");
    world.converge();
    assert_eq!(images(&world), ["v1", "v1", "v2"]);
    world.edit(&STATEFUL_SET, "d", "db", |set| {
        set.set("spec.updateStrategy.rollingUpdate.partition", 0);
    });
    world.converge();
    assert_eq!(images(&world), ["v2"; 3]);
    let tree = world.get(&STATEFUL_SET, "d", "db").unwrap();
    assert_eq!(tree.str("status.currentRevision"), tree.str("status.updateRevision"));
    // Back again: the old revision is used, with a new number.
    world.edit(&STATEFUL_SET, "d", "db", |set| {
        set.set("spec.template.spec.containers.0.image", "v1");
    });
    world.converge();
    assert_eq!(images(&world), ["v1"; 3]);
    let mut numbers: Vec<_> =
        world.list(&CONTROLLER_REVISION).iter().map(|r| r.int("revision").unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    world.assert_fixpoint();
}

#[test]
fn on_delete_and_history() {
    let mut world = world(
        json!({"spec": {"replicas": 1, "revisionHistoryLimit": 1, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}),
    );
    world.converge();
    for n in 2..6 {
        world.edit(&STATEFUL_SET, "d", "db", |set| {
            set.set("spec.template.spec.containers.0.image", format!("v{n}"));
        });
        world.converge();
    }
    assert_eq!(images(&world), ["v1"], "nothing happens by itself");
    assert_eq!(world.names(&CONTROLLER_REVISION).len(), 3, "used, newest and one more");
    world.delete(&POD, "d", "db-0", "Background");
    world.converge();
    assert_eq!(images(&world), ["v5"]);
    world.assert_fixpoint();
}

#[test]
fn min_ready_seconds() {
    let mut world = world(json!({"spec": {"minReadySeconds": 10}}));
    world.converge();
    assert_eq!(world.names(&POD), ["db-0"]);
    world.advance(11);
    world.converge();
    assert_eq!(world.names(&POD), ["db-0", "db-1"]);
    assert_eq!(status(&world, "availableReplicas"), 1);
    assert!(conditions::is_true(&world.list(&POD)[1], "Ready"));
}

#[test]
fn claims_go_where_the_policy_says() {
    let policy = |deleted: &str, scaled: &str| json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}});
    for (deleted, scaled, after_scale, after_delete) in [
        ("Retain", "Retain", 3, 3),
        ("Retain", "Delete", 1, 1),
        ("Delete", "Retain", 3, 0),
        ("Delete", "Delete", 1, 0),
    ] {
        let mut world = world(policy(deleted, scaled));
        world.converge();
        let owner = world.list(&PERSISTENT_VOLUME_CLAIM)[0].clone();
        assert_eq!(owner.flag("metadata.ownerReferences.0.controller"), deleted == "Delete");
        world.edit(&STATEFUL_SET, "d", "db", |set| set.set("spec.replicas", 1));
        world.converge();
        let n = world.names(&PERSISTENT_VOLUME_CLAIM).len();
        assert_eq!(n, after_scale, "{deleted} {scaled}");
        world.assert_fixpoint();
        world.delete(&STATEFUL_SET, "d", "db", "Background");
        world.converge();
        let n = world.names(&PERSISTENT_VOLUME_CLAIM).len();
        assert_eq!(n, after_delete, "{deleted} {scaled}");
        assert!(world.names(&POD).is_empty());
    }
}
