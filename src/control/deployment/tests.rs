//! Whole rollouts, stepped.

use api::kinds::{DEPLOYMENT, POD, REPLICA_SET};
use api::{Action, Lens, LensMut, Status, Value, json};

use crate::support::conditions;
use crate::world::World;

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "d", "name": "web", "annotations": {"note": "kept"}},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}},
        },
    })
}

fn world(tree: Value) -> World {
    World::new(
        &["deployment-controller", "replicaset-controller", "generic-garbage-collector"],
        [tree],
    )
}

fn condition(world: &World, kind: &str) -> String {
    let tree = world.get(&DEPLOYMENT, "d", "web").unwrap();
    conditions::find(&tree, kind).map_or(String::new(), |c| {
        format!("{} {}: {}", c.str("status"), c.str("reason"), c.str("message"))
    })
}

fn image(world: &mut World, image: &str) {
    world.edit(&DEPLOYMENT, "d", "web", |tree| {
        tree.set("spec.template.spec.containers.0.image", image);
    });
}

/// Sizes of the sets in order of revision.
fn sizes(world: &World) -> Vec<(i64, i64)> {
    let mut sets: Vec<(i64, i64)> = world
        .list(&REPLICA_SET)
        .iter()
        .map(|set| {
            let revision = set.entry("metadata.annotations", "deployment.kubernetes.io/revision");
            (revision.unwrap().parse().unwrap(), set.int("spec.replicas").unwrap())
        })
        .collect();
    sets.sort();
    sets
}

#[test]
fn first_rollout() {
    let mut world = world(deployment(3));
    world.settle();
    let set = &world.list(&REPLICA_SET)[0];
    let hash = set.entry("metadata.labels", "pod-template-hash").unwrap().to_owned();
    assert_eq!(set.str("metadata.name"), format!("web-{hash}"));
    assert_eq!(set.entry("spec.selector.matchLabels", "pod-template-hash"), Some(&*hash));
    let annotations: Vec<_> = set.pairs("metadata.annotations").collect();
    assert_eq!(
        annotations,
        [
            ("deployment.kubernetes.io/desired-replicas", "3"),
            ("deployment.kubernetes.io/max-replicas", "4"),
            ("deployment.kubernetes.io/revision", "1"),
            ("note", "kept"),
        ]
    );
    assert_eq!(
        condition(&world, "Available"),
        "False MinimumReplicasUnavailable: Deployment does not have minimum availability."
    );
    assert_eq!(
        condition(&world, "Progressing"),
        format!("True ReplicaSetUpdated: ReplicaSet \"web-{hash}\" is progressing.")
    );
    world.converge();
    assert_eq!(
        condition(&world, "Progressing"),
        format!(
            "True NewReplicaSetAvailable: ReplicaSet \"web-{hash}\" has successfully progressed."
        )
    );
    let tree = world.get(&DEPLOYMENT, "d", "web").unwrap();
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(tree.at("status").int(field), Some(3), "{field}");
    }
    assert_eq!(tree.at("status").int("unavailableReplicas"), None);
    assert_eq!(tree.entry("metadata.annotations", "deployment.kubernetes.io/revision"), Some("1"));
    assert_eq!(
        world.events[0],
        format!(
            "Deployment d/web Normal ScalingReplicaSet: Scaled up replica set web-{hash} from 0 to 3"
        )
    );
    world.assert_fixpoint();
}

#[test]
fn rolling_update_keeps_within_its_bounds() {
    let mut world = world(deployment(4));
    world.converge();
    image(&mut world, "v2");
    for _ in 0..40 {
        world.settle();
        let pods = world.list(&POD);
        let ready = pods.iter().filter(|pod| conditions::is_true(pod, "Ready")).count();
        let live = pods.iter().filter(|pod| !pod.has("metadata.deletionTimestamp")).count();
        assert!(ready >= 3 && live <= 5, "{ready} ready of {live}");
        // One pod becomes ready at a time.
        let next = pods.iter().find(|p| !conditions::is_true(p, "Ready"));
        let next = next.map(|pod| pod.str("metadata.name").to_owned());
        world.kubelet_if(|pod| Some(pod.str("metadata.name")) == next.as_deref());
    }
    assert_eq!(sizes(&world), [(1, 0), (2, 4)]);
    assert!(condition(&world, "Progressing").starts_with("True NewReplicaSetAvailable"));
    // Back to the old template: its set gets a new revision and remembers the old one.
    image(&mut world, "v1");
    world.converge();
    assert_eq!(sizes(&world), [(2, 0), (3, 4)]);
    let sets = world.list(&REPLICA_SET);
    let history = "deployment.kubernetes.io/revision-history";
    assert!(sets.iter().any(|set| set.entry("metadata.annotations", history) == Some("1")));
    world.assert_fixpoint();
}

#[test]
fn recreate_never_runs_both() {
    let mut tree = deployment(2);
    tree.set("spec.strategy", json!({"type": "Recreate"}));
    let mut world = world(tree);
    world.converge();
    image(&mut world, "v2");
    world.settle();
    assert_eq!(sizes(&world), [(1, 0)], "waits for the old pods to end");
    world.kubelet();
    world.settle();
    assert_eq!(sizes(&world), [(1, 0), (2, 2)]);
    world.converge();
    assert!(condition(&world, "Available").starts_with("True"));
    world.assert_fixpoint();
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut tree = deployment(10);
    tree.set("spec.strategy.rollingUpdate", json!({"maxSurge": 3, "maxUnavailable": 2}));
    let mut world = world(tree);
    world.converge();
    image(&mut world, "bad");
    world.settle();
    assert_eq!(sizes(&world), [(1, 8), (2, 5)]);
    world.edit(&DEPLOYMENT, "d", "web", |tree| tree.set("spec.replicas", 15));
    world.settle();
    assert_eq!(sizes(&world), [(1, 11), (2, 7)]);
}

#[test]
fn pause_resume_and_deadline() {
    let mut world = world(deployment(1));
    world.converge();
    world.edit(&DEPLOYMENT, "d", "web", |tree| tree.set("spec.paused", true));
    image(&mut world, "v2");
    world.settle();
    assert_eq!(condition(&world, "Progressing"), "Unknown DeploymentPaused: Deployment is paused");
    assert_eq!(sizes(&world), [(1, 1)], "no rollout while paused");
    world.edit(&DEPLOYMENT, "d", "web", |tree| tree.set("spec.replicas", 2));
    world.settle();
    assert_eq!(sizes(&world), [(1, 2)], "but scaling");
    world.converge();
    world.edit(&DEPLOYMENT, "d", "web", |tree| {
        tree.remove("spec.paused");
    });
    world.settle();
    assert_eq!(sizes(&world), [(1, 2), (2, 1)]);
    world.advance(602);
    let progressing = condition(&world, "Progressing");
    assert!(progressing.starts_with("False ProgressDeadlineExceeded"), "{progressing}");
    assert!(progressing.ends_with("has timed out progressing."), "{progressing}");
    world.converge();
    assert!(condition(&world, "Progressing").starts_with("True NewReplicaSetAvailable"));
    world.assert_fixpoint();
}

#[test]
fn history_is_cut() {
    let mut tree = deployment(1);
    tree.set("spec.revisionHistoryLimit", 2);
    let mut world = world(tree);
    for n in 0..6 {
        image(&mut world, &format!("v{n}"));
        world.converge();
    }
    assert_eq!(sizes(&world), [(4, 0), (5, 0), (6, 1)]);
    world.assert_fixpoint();
}

#[test]
fn adopts_and_dodges_taken_names() {
    let mut world = world(deployment(1));
    world.converge();
    // The set is orphaned: taken back, not made anew.
    let name = world.names(&REPLICA_SET)[0].clone();
    world.edit(&REPLICA_SET, "d", &name, |set| set.set("metadata.ownerReferences", json!([])));
    world.converge();
    assert_eq!(world.names(&REPLICA_SET), [name.as_str()]);
    let set = world.get(&REPLICA_SET, "d", &name).unwrap();
    assert_eq!(set.str("metadata.ownerReferences.0.kind"), "Deployment");
    // Someone else's set has the name that the next template would get.
    let template = {
        let mut tree = world.get(&DEPLOYMENT, "d", "web").unwrap();
        tree.set("spec.template.spec.containers.0.image", "v2");
        tree.at("spec.template").clone()
    };
    let taken = format!("web-{}", api::hash::template_hash(&template, None));
    world.create(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"namespace": "d", "name": taken},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}},
    }));
    image(&mut world, "v2");
    world.converge();
    let tree = world.get(&DEPLOYMENT, "d", "web").unwrap();
    assert_eq!(tree.int("status.collisionCount"), Some(1));
    assert_eq!(tree.int("status.updatedReplicas"), Some(1));
    world.assert_fixpoint();
}

#[test]
fn refused_creates_are_told() {
    let mut world = world(deployment(1));
    world.refuse = |action| {
        matches!(action, Action::Create { kind, .. } if **kind == REPLICA_SET)
            .then(|| Status::forbidden(&REPLICA_SET, "x", "no"))
    };
    world.settle();
    let progressing = condition(&world, "Progressing");
    assert!(
        progressing
            .starts_with("False ReplicaSetCreateError: Failed to create new replica set \"web-")
    );
    world.refuse = |action| {
        matches!(action, Action::Create { kind, .. } if **kind == POD)
            .then(|| Status::forbidden(&POD, "x", "exceeded quota"))
    };
    world.advance(3);
    assert_eq!(
        condition(&world, "ReplicaFailure"),
        "True FailedCreate: pods \"x\" is forbidden: exceeded quota"
    );
    world.refuse = |_| None;
    world.advance(3);
    world.converge();
    assert_eq!(condition(&world, "ReplicaFailure"), "");
    world.assert_fixpoint();
}
