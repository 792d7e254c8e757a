//! All controllers at once: an application from creation to the end of its namespace, then the
//! same under faults, with views that lag, answers that are lost and events that come twice.

use api::kinds::*;
use api::{Kind, Lens, LensMut, Value, json};

use crate::world::World;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "main", "image": "v1"}]}})
}

fn application() -> Vec<Value> {
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    vec![
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "k3rs-settings"}, "data": {"cluster-cidr": "10.42.0.0/16"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "kube-root-ca.crt"}, "data": {"ca.crt": "pem"}}),
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local-path"}, "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}, "spec": {"finalizers": ["kubernetes"]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "d", "name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}], "clusterIP": "10.43.0.1"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "d", "name": "web"}, "spec": {"replicas": 3, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600, "selector": selector("web"), "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, "template": template("web")}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"namespace": "d", "name": "db"}, "spec": {"replicas": 2, "serviceName": "db", "selector": selector("db"), "template": template("db"), "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "resources": {"requests": {"storage": "1Gi"}}}}]}}),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"namespace": "d", "name": "log"}, "spec": {"selector": selector("log"), "template": template("log")}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "d", "name": "sum", "uid": "job-1"}, "spec": {"completions": 2, "parallelism": 2, "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "job-1"}}, "template": {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": "job-1"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}}}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "d", "name": "web"}, "spec": {"maxUnavailable": 1, "selector": selector("web")}}),
    ]
}

/// The pretended scheduler: chooses the node for claims, then binds pods whose claims are bound.
fn schedule(world: &mut World) {
    for pod in world.list(&POD) {
        if !pod.str("spec.nodeName").is_empty() || pod.has("metadata.deletionTimestamp") {
            continue;
        }
        let mut waits = false;
        for volume in pod.list("spec.volumes") {
            let name = volume.str("persistentVolumeClaim.claimName");
            let Some(claim) = world.get(&PERSISTENT_VOLUME_CLAIM, "d", name) else {
                waits |= !name.is_empty();
                continue;
            };
            waits |= claim.str("status.phase") != "Bound";
            if claim.entry("metadata.annotations", SELECTED_NODE).is_none() {
                world.edit(&PERSISTENT_VOLUME_CLAIM, "d", name, |claim| {
                    claim.map_mut("metadata.annotations").insert(SELECTED_NODE.into(), "n".into());
                });
            }
        }
        if !waits {
            let (ns, name) = (pod.str("metadata.namespace"), pod.str("metadata.name"));
            world.edit(&POD, ns, name, |pod| pod.set("spec.nodeName", "n"));
        }
    }
}

/// The pretended node: runs what is bound to it, ends jobs' pods, clears volumes, and is alive.
fn node(world: &mut World) {
    let bound = |pod: &Value| !pod.str("spec.nodeName").is_empty();
    world.kubelet_if(bound);
    for pod in world.list(&POD) {
        let of_job = pod.entry("metadata.labels", "job-name").is_some();
        if of_job && pod.str("status.phase") == "Running" && !pod.has("metadata.deletionTimestamp")
        {
            world.finish(pod.str("metadata.name"), "Succeeded", 0);
        }
    }
    for volume in world.list(&PERSISTENT_VOLUME) {
        if volume.has("metadata.deletionTimestamp") {
            world.edit(&PERSISTENT_VOLUME, "", volume.str("metadata.name"), |volume| {
                volume.list_mut("metadata.finalizers").retain(|f| f != "k3rs.io/local-path");
            });
        }
    }
    let time = api::time::format_micro(world.now().wall);
    match world.get(&LEASE, "kube-node-lease", "n").is_some() {
        true => world.edit(&LEASE, "kube-node-lease", "n", |l| l.set("spec.renewTime", time)),
        false => world.create(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "kube-node-lease", "name": "n"}, "spec": {"renewTime": time}})),
    }
}

fn live(world: &mut World, rounds: usize) {
    for _ in 0..rounds {
        world.settle();
        schedule(world);
        node(world);
        world.advance(5);
    }
    world.settle();
}

fn field(world: &World, kind: &'static Kind, name: &str, path: &str) -> Value {
    world.get(kind, "d", name).unwrap().at(path).clone()
}

/// What must be true of the application once all is quiet.
fn check(world: &World, image: &str) {
    settled(world, image);
    assert_eq!(world.list(&PERSISTENT_VOLUME).len(), 2);
}

/// The same, with claims that may be left from when a set was larger.
fn settled(world: &World, image: &str) {
    assert_eq!(field(world, &DEPLOYMENT, "web", "status.availableReplicas"), 3);
    assert_eq!(field(world, &DEPLOYMENT, "web", "status.updatedReplicas"), 3);
    assert_eq!(field(world, &STATEFUL_SET, "db", "status.readyReplicas"), 2);
    assert_eq!(field(world, &DAEMON_SET, "log", "status.numberAvailable"), 1);
    assert_eq!(field(world, &JOB, "sum", "status.succeeded"), 2);
    assert_eq!(field(world, &JOB, "sum", "status.conditions.1.type"), "Complete");
    assert_eq!(field(world, &POD_DISRUPTION_BUDGET, "web", "status.disruptionsAllowed"), 1);
    let pods = world.list(&POD);
    let of = |app: &str| {
        // Failed pods of a ReplicaSet stay, for people to look at.
        let is = |pod: &&Value| {
            pod.entry("metadata.labels", "app") == Some(app) && pod.str("status.phase") != "Failed"
        };
        pods.iter().filter(is).collect::<Vec<_>>()
    };
    assert!(of("web").iter().all(|pod| pod.str("spec.containers.0.image") == image));
    assert_eq!([of("web").len(), of("db").len(), of("log").len()], [3, 2, 1]);
    let slices = world.list(&ENDPOINT_SLICE);
    let n: usize = slices.iter().map(|slice| slice.list("endpoints").len()).sum();
    assert_eq!(n, 3);
    assert_eq!(
        field(world, &CONFIG_MAP, "kube-root-ca.crt", "data").to_string(),
        "{\"ca.crt\":\"pem\"}"
    );
    assert!(world.get(&SERVICE_ACCOUNT, "d", "default").is_some());
}

fn update(world: &mut World, image: &str) {
    world.edit(&DEPLOYMENT, "d", "web", |tree| {
        tree.set("spec.template.spec.containers.0.image", image);
    });
}

fn end(world: &mut World) {
    world.delete(&NAMESPACE, "", "d", "Background");
    live(world, 20);
    let left: Vec<String> = world
        .fixture
        .objects
        .iter()
        .filter(|o| o.namespace() == "d" || *o.kind() == PERSISTENT_VOLUME)
        .map(|o| format!("{o:?}"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(world.get(&NAMESPACE, "", "d").is_none());
}

#[test]
fn an_application_from_start_to_end() {
    let mut world = World::new(&[], application());
    live(&mut world, 15);
    check(&world, "v1");
    world.assert_fixpoint();
    update(&mut world, "v2");
    live(&mut world, 25);
    check(&world, "v2");
    world.assert_fixpoint();
    end(&mut world);
}

/// What people and machines do while all this goes on.
fn meddle(world: &mut World, chance: &mut stdx::prng::Prng) {
    let image = format!("v{}", chance.below(4));
    let (kind, name): (&'static Kind, _) = match chance.chance(50) {
        true => (&DEPLOYMENT, "web"),
        false => (&STATEFUL_SET, "db"),
    };
    let replicas = i64::try_from(chance.below(5)).unwrap_or(0);
    let pods = world.list(&POD);
    match chance.below(4) {
        0 => world.edit(kind, "d", name, |tree| tree.set("spec.replicas", replicas)),
        1 => world.edit(kind, "d", name, |tree| {
            tree.set("spec.template.spec.containers.0.image", image);
        }),
        n if !pods.is_empty() => {
            let idx = usize::try_from(chance.below(pods.len() as u64)).unwrap_or(0);
            let name = pods[idx].str("metadata.name").to_owned();
            let job = pods[idx].entry("metadata.labels", "job-name").is_some();
            match n {
                2 if !job => world.finish(&name, "Failed", 1),
                _ => world.delete(&POD, "d", &name, "Background"),
            }
        }
        _ => {}
    }
}

#[test]
fn the_same_under_faults() {
    // A seed that fails is run alone by narrowing this range.
    for seed in 0..4 {
        let mut world = World::new(&[], application());
        world.faults(seed);
        let mut chance = stdx::prng::Prng::new(seed);
        for _ in 0..20 {
            live(&mut world, 2);
            meddle(&mut world, &mut chance);
        }
        for (kind, name, replicas) in [(&DEPLOYMENT, "web", 3), (&STATEFUL_SET, "db", 2)] {
            world.edit(kind, "d", name, |tree| {
                tree.set("spec.replicas", replicas);
                tree.set("spec.template.spec.containers.0.image", "v2");
            });
        }
        world.faultless();
        live(&mut world, 30);
        settled(&world, "v2");
        world.assert_fixpoint();
        world.faults(seed + 1000);
        world.delete(&NAMESPACE, "", "d", "Background");
        live(&mut world, 15);
        world.faultless();
        live(&mut world, 20);
        assert!(world.get(&NAMESPACE, "", "d").is_none(), "seed {seed}");
        let left = world.fixture.objects.iter().any(|o| o.namespace() == "d");
        assert!(!left, "seed {seed}");
    }
}

/// Every controller's watches name each kind once, and every name can act.
#[test]
fn the_table_is_sound() {
    for controller in crate::CONTROLLERS {
        let kinds = controller.kinds(&api::Kinds::built_in());
        assert!(!kinds.is_empty(), "{controller:?}");
        let legal = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(controller.name.chars().all(legal), "{controller:?}");
        for kind in kinds {
            let n = controller.watches_of(kind).count();
            let read = controller.reads.contains(&kind);
            assert_eq!(n + usize::from(read), 1, "{controller:?} looks at {} twice", kind.name);
        }
    }
}
