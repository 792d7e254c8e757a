//! Claims and volumes that find, keep and leave each other.

use api::kinds::{NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD};
use api::{Lens, LensMut, Value, json};

use crate::world::World;

const NAMES: &[&str] = &[
    "persistent-volume-binder",
    "local-path-provisioner-service-account",
    "pv-protection-controller",
    "pvc-protection-controller",
];

fn volume(name: &str, size: &str, changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "uid": name},
        "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"},
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn claim(name: &str, size: &str, changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"namespace": "d", "name": name, "uid": format!("uid-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": {"requests": {"storage": size}}},
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn local_path() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete",
    })
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
}

/// `phase volume` of a claim.
fn claimed(world: &World, name: &str) -> String {
    let tree = world.get(&PERSISTENT_VOLUME_CLAIM, "d", name).unwrap();
    format!("{} {}", tree.str("status.phase"), tree.str("spec.volumeName"))
}

fn phase(world: &World, name: &str) -> String {
    world.get(&PERSISTENT_VOLUME, "", name).unwrap().str("status.phase").to_owned()
}

#[test]
fn the_smallest_that_fits() {
    let other = |spec: Value| json!({"spec": spec});
    let volumes = [
        volume("a-big", "10Gi", json!({})),
        volume("b-fit", "2Gi", json!({})),
        volume("c-small", "1Gi", json!({})),
        volume("d-class", "2Gi", other(json!({"storageClassName": "fast"}))),
        volume("e-block", "2Gi", other(json!({"volumeMode": "Block"}))),
        volume("f-modes", "2Gi", other(json!({"accessModes": ["ReadOnlyMany"]}))),
        volume("g-label", "20Gi", json!({"metadata": {"labels": {"disk": "ssd"}}})),
        volume("h-promised", "2Gi", other(json!({"claimRef": {"namespace": "d", "name": "mine"}}))),
    ];
    #[rustfmt::skip]
    let cases = [
        ("size", claim("c", "1.5Gi", json!({})), "Bound b-fit"),
        ("too large", claim("c", "1Ti", json!({})), "Pending "),
        ("class", claim("c", "1Gi", other(json!({"storageClassName": "fast"}))), "Bound d-class"),
        ("mode", claim("c", "1Gi", other(json!({"volumeMode": "Block"}))), "Bound e-block"),
        ("access", claim("c", "1Gi", other(json!({"accessModes": ["ReadOnlyMany"]}))), "Bound f-modes"),
        ("selector", claim("c", "1Gi", other(json!({"selector": {"matchLabels": {"disk": "ssd"}}}))), "Bound g-label"),
        ("promised by the volume", claim("mine", "1Gi", json!({})), "Bound h-promised"),
        ("asked for by the claim", claim("c", "1Gi", other(json!({"volumeName": "a-big"}))), "Bound a-big"),
        ("asked for, too small", claim("c", "5Gi", other(json!({"volumeName": "b-fit"}))), "Pending b-fit"),
        ("asked for, promised to another", claim("c", "1Gi", other(json!({"volumeName": "h-promised"}))), "Pending h-promised"),
        ("asked for, not there", claim("c", "1Gi", other(json!({"volumeName": "zz"}))), "Pending zz"),
    ];
    for (name, claim, want) in cases {
        let mut world = World::new(NAMES, volumes.clone());
        world.settle();
        world.create(claim.clone());
        world.settle();
        assert_eq!(claimed(&world, claim.str("metadata.name")), want, "{name}");
        if let Some(volume) = want.strip_prefix("Bound ") {
            assert_eq!(phase(&world, volume), "Bound");
        }
        world.assert_fixpoint();
    }
}

#[test]
fn one_volume_two_claims_then_release() {
    let mut world = World::new(NAMES, [claim("a", "1Gi", json!({})), claim("b", "1Gi", json!({}))]);
    world.settle();
    assert_eq!([claimed(&world, "a"), claimed(&world, "b")], ["Pending ", "Pending "]);
    world.create(volume("v", "1Gi", json!({})));
    world.settle();
    assert_eq!([claimed(&world, "a"), claimed(&world, "b")], ["Bound v", "Pending "]);
    let tree = world.get(&PERSISTENT_VOLUME_CLAIM, "d", "a").unwrap();
    assert_eq!(tree.str("status.capacity.storage"), "1Gi");
    assert_eq!(tree.entry("metadata.annotations", "pv.kubernetes.io/bind-completed"), Some("yes"));
    // A pod uses it: the claim stays until the pod is gone.
    world.create(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": "p"},
        "spec": {"nodeName": "n", "volumes": [{"name": "x", "persistentVolumeClaim": {"claimName": "a"}}]},
    }));
    world.delete(&PERSISTENT_VOLUME_CLAIM, "d", "a", "Background");
    world.settle();
    assert_eq!(claimed(&world, "a"), "Bound v");
    world.delete(&POD, "d", "p", "Background");
    world.converge();
    assert_eq!(world.names(&PERSISTENT_VOLUME_CLAIM), ["b"]);
    assert_eq!(phase(&world, "v"), "Released");
    assert_eq!(claimed(&world, "b"), "Pending ", "its data is not for others");
    // Someone clears it by hand.
    world.edit(&PERSISTENT_VOLUME, "", "v", |volume| drop(volume.remove("spec.claimRef")));
    world.settle();
    assert_eq!(claimed(&world, "b"), "Bound v");
    // A bound volume cannot be deleted; without its volume a claim is lost.
    world.delete(&PERSISTENT_VOLUME, "", "v", "Background");
    world.settle();
    assert_eq!(phase(&world, "v"), "Bound");
    world.edit(&PERSISTENT_VOLUME, "", "v", |v| v.set("metadata.finalizers", json!([])));
    world.settle();
    assert_eq!(claimed(&world, "b"), "Lost v");
    world.assert_fixpoint();
}

#[test]
fn local_path_from_claim_to_clearing() {
    let plain = claim("c", "1Gi", json!({"spec": {"storageClassName": null}}));
    let mut world = World::new(NAMES, [node("n1"), plain]);
    world.settle();
    assert_eq!(claimed(&world, "c"), "Pending ");
    world.create(local_path());
    world.settle();
    let tree = world.get(&PERSISTENT_VOLUME_CLAIM, "d", "c").unwrap();
    assert_eq!(tree.str("spec.storageClassName"), "local-path", "the default reaches it later");
    assert!(world.events.iter().any(|e| e.ends_with(
        "WaitForFirstConsumer: waiting for first consumer to be created before binding"
    )));
    assert!(world.names(&PERSISTENT_VOLUME).is_empty());
    world.edit(&PERSISTENT_VOLUME_CLAIM, "d", "c", |claim| {
        claim.map_mut("metadata.annotations").insert(super::SELECTED_NODE.into(), "n1".into());
    });
    world.settle();
    assert_eq!(claimed(&world, "c"), "Bound pvc-uid-c");
    let volume = world.get(&PERSISTENT_VOLUME, "", "pvc-uid-c").unwrap();
    assert_eq!(volume.str("spec.hostPath.path"), "/var/lib/rancher/k3s/storage/pvc-uid-c_d_c");
    assert_eq!(volume.str("spec.persistentVolumeReclaimPolicy"), "Delete");
    assert_eq!(
        volume.entry("metadata.annotations", "local.path.provisioner/selected-node"),
        Some("n1")
    );
    world.assert_fixpoint();
    world.delete(&PERSISTENT_VOLUME_CLAIM, "d", "c", "Background");
    world.settle();
    let volume = world.get(&PERSISTENT_VOLUME, "", "pvc-uid-c").unwrap();
    assert!(volume.has("metadata.deletionTimestamp"));
    assert_eq!(volume.at("metadata.finalizers"), &json!(["k3rs.io/local-path"]), "the node's turn");
    // The node is gone, and with it the directory.
    world.delete(&NODE, "", "n1", "Background");
    world.settle();
    assert!(world.names(&PERSISTENT_VOLUME).is_empty());
}

#[test]
fn nobody_deletes_what_nobody_made() {
    let delete = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let mut world = World::new(NAMES, [volume("v", "1Gi", delete), claim("a", "1Gi", json!({}))]);
    world.settle();
    world.delete(&PERSISTENT_VOLUME_CLAIM, "d", "a", "Background");
    world.settle();
    assert_eq!(phase(&world, "v"), "Failed");
    world.assert_fixpoint();
}

#[test]
fn local_path_refusals_and_configuration() {
    let chosen = |mut tree: Value| {
        tree.set("spec.storageClassName", "local-path");
        tree.map_mut("metadata.annotations").insert(super::SELECTED_NODE.into(), "n1".into());
        tree
    };
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "local-path-config"},
        "data": {"config.json": "{\"nodePathMap\":[{\"node\":\"DEFAULT_PATH_FOR_NON_LISTED_NODES\",\"paths\":[\"/d\"]},{\"node\":\"n1\",\"paths\":[\"/fast/\",\"/other\"]}]}"},
    });
    let mut world = World::new(
        NAMES,
        [
            node("n1"),
            local_path(),
            config,
            chosen(claim("many", "1Gi", json!({"spec": {"accessModes": ["ReadWriteMany"]}}))),
            chosen(claim(
                "copy",
                "1Gi",
                json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "good"}}}),
            )),
            chosen(claim(
                "raw",
                "1Gi",
                json!({"spec": {"volumeMode": "Block", "accessModes": ["ReadWriteMany"]}}),
            )),
            chosen(claim("good", "1Gi", json!({}))),
        ],
    );
    world.settle();
    assert_eq!(claimed(&world, "many"), "Pending ");
    let failed: Vec<_> = world.events.iter().filter(|e| e.contains("ProvisioningFailed")).collect();
    let many = failed.iter().find(|event| event.contains(" d/many "));
    assert_eq!(
        **many.unwrap(),
        "PersistentVolumeClaim d/many Warning ProvisioningFailed: failed to provision volume with StorageClass \"local-path\": NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+) access modes"
    );
    assert_eq!(claimed(&world, "copy"), "Pending ");
    let copy = "PersistentVolumeClaim d/copy Warning ProvisioningFailed: failed to provision volume with StorageClass \"local-path\": a claim with a data source cannot be provisioned";
    assert!(failed.iter().any(|event| *event == copy), "{failed:?}");
    assert_eq!(claimed(&world, "raw"), "Pending ");
    let raw = "PersistentVolumeClaim d/raw Warning ProvisioningFailed: rancher.io/local-path does not support block volume provisioning";
    assert!(failed.iter().any(|event| *event == raw), "{failed:?}");
    let volume = world.get(&PERSISTENT_VOLUME, "", "pvc-uid-good").unwrap();
    assert_eq!(volume.str("spec.hostPath.path"), "/fast/pvc-uid-good_d_good");
    world.assert_fixpoint();
}

#[test]
fn a_claim_that_asks_for_more_is_told_who_gives_it() {
    let mut world =
        World::new(NAMES, [volume("v", "1Gi", json!({})), claim("a", "1Gi", json!({}))]);
    world.settle();
    assert_eq!(claimed(&world, "a"), "Bound v");
    let told = |world: &World| world.events.iter().any(|it| it.contains("ExternalExpanding"));
    assert!(!told(&world));
    world.edit(&PERSISTENT_VOLUME_CLAIM, "d", "a", |claim| {
        claim.set("spec.resources.requests.storage", "2Gi");
    });
    world.settle();
    assert!(told(&world), "{:?}", world.events);
    assert_eq!(
        world.get(&PERSISTENT_VOLUME_CLAIM, "d", "a").unwrap().str("status.capacity.storage"),
        "1Gi"
    );
    world.assert_fixpoint();
}
