//! Tables of worlds: what the scheduler says about them.

use api::controller::{Controller, Fixture};
use api::{Action, Actions, Lens, LensMut, Value, json};
use stdx::time::{Mono, Now, Wall};

use super::{Scheduler, queue};

fn node(name: &str, cpu: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name, "zone": &name[..1]}},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}},
    })
}

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if !spec.has("containers") {
        spec.set(
            "containers",
            json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]),
        );
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "5", "labels": {"app": "a"}, "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": spec,
    })
}

/// What is done, one line an action.
fn run(trees: Vec<Value>) -> String {
    run_with(trees, None)
}

/// The same with profiles.
fn run_with(trees: Vec<Value>, profiles: Option<&crate::Profiles>) -> String {
    run_asking(trees, profiles, &|_, _| panic!("nobody is to be asked"))
}

/// The same with somebody who answers what is asked of others.
fn run_asking(
    trees: Vec<Value>,
    profiles: Option<&crate::Profiles>,
    answer: &dyn Fn(usize, &Value) -> Result<Value, api::Status>,
) -> String {
    let fixture = Fixture::new(trees);
    let now = Now { wall: Wall::from_secs(1_704_067_200), mono: Mono(1), ..Now::default() };
    let mut actions = Actions::default();
    let settings = profiles.map(|profiles| profiles as &(dyn std::any::Any + Send + Sync));
    let view = api::View { settings, ..fixture.view(now) };
    Scheduler::reconcile(&view, &queue()[0], &mut actions);
    while let Some(mut ask) = actions.ask.take() {
        let answers =
            std::mem::take(&mut ask.questions).into_iter().map(|question| match question {
                api::controller::Question::Outside { whom, body } => answer(whom, &body),
                other => panic!("{other:?}"),
            });
        let answers = answers.collect();
        ask.answer(&view, &mut None, answers, &mut actions);
    }
    let lines = actions.list.iter().map(|action| match action {
        Action::Bind { pod, node, .. } => format!("bind {pod} {node}"),
        Action::Patch { key, patch, .. } => format!(
            "patch {} {} {}",
            key.kind.name,
            key.name,
            match patch.has("status") {
                true => format!(
                    "{} {}",
                    patch.str("status.conditions.0.reason"),
                    patch.str("status.nominatedNodeName")
                )
                .trim()
                .to_owned(),
                false => patch
                    .entry("metadata.annotations", "volume.kubernetes.io/selected-node")
                    .unwrap_or("")
                    .to_owned(),
            }
        ),
        Action::Delete { key, .. } => format!("delete {}", key.name),
        Action::Event { about, reason, message, .. } => {
            format!("event {} {reason}: {message}", about.name())
        }
        other => format!("{other:?}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(trees: Vec<Value>, want: &[&str]) {
    assert_eq!(run(trees), want.join("\n"));
}

/// Pods that no node takes cost those behind them nothing, and no pass after the first one that told them so.
#[test]
fn many_that_wait_stop_nobody() {
    let refused = |n: usize| {
        let mut pod = pod(&format!("a{n:03}"), json!({"nodeSelector": {"no": "where"}}));
        let told = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        pod.set("status", json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": told}]}));
        pod
    };
    let mut trees = vec![node("n1", "1")];
    trees.extend((0..250).map(refused));
    trees.push(pod("z", json!({})));
    assert_eq!(run(trees), "bind z n1\nevent z Scheduled: Successfully assigned d/z to n1");
}

#[test]
fn the_emptier_node_wins_and_the_batch_sees_itself() {
    check(
        vec![
            node("n1", "1"),
            node("n2", "1"),
            pod("p1", json!({})),
            pod("p2", json!({})),
            pod("p0", json!({"nodeName": "n1"})),
        ],
        &[
            "bind p1 n2",
            "event p1 Scheduled: Successfully assigned d/p1 to n2",
            "bind p2 n1",
            "event p2 Scheduled: Successfully assigned d/p2 to n1",
        ],
    );
}

#[test]
fn a_pod_that_fits_nowhere_says_why_for_each_node() {
    let mut cordoned = node("n2", "4");
    cordoned.set("spec.unschedulable", true);
    let mut tainted = node("n3", "4");
    tainted.set("spec.taints", json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]));
    let big = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "2Gi"}}}]});
    check(
        vec![node("n1", "1"), cordoned, tainted, pod("p1", big)],
        &[
            "patch Pod p1 Unschedulable",
            "event p1 FailedScheduling: 0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        ],
    );
    check(
        vec![pod("p1", json!({}))],
        &[
            "patch Pod p1 Unschedulable",
            "event p1 FailedScheduling: no nodes available to schedule pods",
        ],
    );
}

#[test]
fn what_was_said_is_not_said_again() {
    let mut waiting = pod("p1", json!({"nodeSelector": {"disk": "ssd"}}));
    let text = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    check(
        vec![node("n1", "1"), waiting.clone()],
        &["patch Pod p1 Unschedulable", &format!("event p1 FailedScheduling: {text}")],
    );
    waiting.set("status.conditions", json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}]));
    check(vec![node("n1", "1"), waiting], &[]);
}

#[test]
fn host_ports_affinity_and_spread() {
    let port = |node: &str| json!({"nodeName": node, "containers": [{"name": "c", "ports": [{"hostPort": 80, "containerPort": 80}]}]});
    let mut wants = port("");
    wants.remove("nodeName");
    check(
        vec![node("n1", "1"), node("n2", "1"), pod("p0", port("n1")), pod("p1", wants)],
        &["bind p1 n2", "event p1 Scheduled: Successfully assigned d/p1 to n2"],
    );

    let term = json!([{"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}]);
    let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    check(
        vec![node("n1", "1"), pod("p0", json!({"nodeName": "n1"})), pod("p1", anti)],
        &[
            "patch Pod p1 Unschedulable",
            "event p1 FailedScheduling: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ],
    );
    let with = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    check(
        vec![
            node("n1", "1"),
            node("n2", "9"),
            pod("p0", json!({"nodeName": "n1"})),
            pod("p1", with),
        ],
        &["bind p1 n1", "event p1 Scheduled: Successfully assigned d/p1 to n1"],
    );

    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]});
    check(
        vec![
            node("n1", "9"),
            node("n2", "1"),
            pod("p0", json!({"nodeName": "n1"})),
            pod("p1", spread),
        ],
        &["bind p1 n2", "event p1 Scheduled: Successfully assigned d/p1 to n2"],
    );
}

#[test]
fn a_higher_priority_pod_makes_room_and_waits_for_it() {
    let cpu = |amount: &str, extra: Value| {
        let mut spec = extra;
        spec.set("containers", json!([{"name": "c", "resources": {"requests": {"cpu": amount}}}]));
        spec
    };
    let low = |name: &str, priority: i64| {
        pod(name, cpu("400m", json!({"nodeName": "n1", "priority": priority})))
    };
    let mut high = pod("p9", cpu("500m", json!({"priority": 100})));
    check(
        vec![node("n1", "1"), low("p1", 1), low("p2", 2), high.clone()],
        &[
            "patch Pod p9 Unschedulable n1",
            "event p9 FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu.",
            "patch Pod p1 PreemptionByScheduler",
            "delete p1",
            "event p1 Preempted: Preempted by pod p9 on node n1",
        ],
    );
    // The victim is leaving; nobody else is sent away, and its room is kept.
    high.set("status", json!({"nominatedNodeName": "n1", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."}]}));
    let mut leaving = low("p1", 1);
    leaving.set("metadata.deletionTimestamp", "2024-01-01T00:00:00Z");
    check(vec![node("n1", "1"), leaving, low("p2", 2), high], &[]);
}

#[test]
fn claims_hear_of_the_node_before_the_pod_is_bound() {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local-path", "uid": "s"}, "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer"});
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "d", "uid": "c"}, "spec": {"storageClassName": "local-path", "resources": {"requests": {"storage": "1Gi"}}}});
    let user =
        pod("p1", json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}));
    check(
        vec![node("n1", "1"), user.clone()],
        &[
            "patch Pod p1 Unschedulable",
            "event p1 FailedScheduling: 0/1 nodes are available: persistentvolumeclaim \"c\" not found. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ],
    );
    check(
        vec![node("n1", "1"), class.clone(), claim.clone(), user.clone()],
        &["patch PersistentVolumeClaim c n1"],
    );
    claim.set("spec.volumeName", "v1");
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v1", "uid": "v1"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}}});
    check(
        vec![node("n1", "1"), node("n2", "9"), class, claim, volume, user],
        &["bind p1 n1", "event p1 Scheduled: Successfully assigned d/p1 to n1"],
    );
}

#[test]
fn a_claim_for_one_pod_is_used_by_one() {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "d", "uid": "c"}, "spec": {"accessModes": ["ReadWriteOncePod"], "volumeName": "v"}});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "uid": "v"}, "spec": {}});
    let user = |name: &str, more: Value| {
        let mut spec =
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
        for (key, value) in more.as_object().unwrap() {
            spec.set(key, value.clone());
        }
        pod(name, spec)
    };
    let nodes = || vec![node("n1", "4"), node("n2", "4"), claim.clone(), volume.clone()];
    let with = |pods: Vec<Value>| nodes().into_iter().chain(pods).collect::<Vec<_>>();
    let refused = "event p2 FailedScheduling: 0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    // Two that come together, and one that comes later, on whichever node.
    check(
        with(vec![user("p1", json!({})), user("p2", json!({}))]),
        &[
            "bind p1 n1",
            "event p1 Scheduled: Successfully assigned d/p1 to n1",
            "patch Pod p2 Unschedulable",
            refused,
        ],
    );
    let placed = || user("p1", json!({"nodeName": "n1"}));
    check(with(vec![placed(), user("p2", json!({}))]), &["patch Pod p2 Unschedulable", refused]);
    // Who is more important takes it over.
    let asked = run(with(vec![placed(), user("p2", json!({"priority": 5}))]));
    assert!(asked.contains("delete p1"), "{asked}");
    // Another namespace's claim of that name is another claim; who has finished uses nothing.
    let mut other = placed();
    other.set("metadata.namespace", "e");
    let mut done = placed();
    done.set("status", json!({"phase": "Succeeded"}));
    for free in [other, done] {
        let asked = run(with(vec![free, user("p2", json!({}))]));
        assert!(asked.contains("bind p2"), "{asked}");
    }
}

fn csi(kind: &str, name: &str, more: Value) -> Value {
    let mut tree = json!({"apiVersion": "storage.k8s.io/v1", "kind": kind, "metadata": {"name": name, "uid": name}});
    for (key, value) in more.as_object().unwrap() {
        tree.set(key, value.clone());
    }
    tree
}

#[test]
fn a_node_has_no_more_volumes_than_its_driver_can() {
    let driver = |count: i64| json!({"spec": {"drivers": [{"name": "x.io", "nodeID": "n", "allocatable": {"count": count}}]}});
    let claim = |name: &str| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"volumeName": name}});
    let volume = |name: &str, handle: &str| json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "uid": name}, "spec": {"csi": {"driver": "x.io", "volumeHandle": handle}}});
    let user = |name: &str, claim: &str, node: Value| {
        pod(
            name,
            json!({"nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}),
        )
    };
    let world = |count, claim_of_new: &str| {
        vec![
            node("n1", "4"),
            csi("CSINode", "n1", driver(count)),
            claim("a"),
            claim("b"),
            claim("same"),
            volume("a", "h1"),
            volume("b", "h2"),
            volume("same", "h1"),
            user("p1", "a", json!("n1")),
            user("p2", claim_of_new, Value::Null),
        ]
    };
    let refused = "event p2 FailedScheduling: 0/1 nodes are available: 1 node(s) exceed max volume count. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    check(world(1, "b"), &["patch Pod p2 Unschedulable", refused]);
    let bound = &["bind p2 n1", "event p2 Scheduled: Successfully assigned d/p2 to n1"];
    check(world(2, "b"), bound);
    // A volume that is there already is no new one.
    check(world(1, "same"), bound);
    check(world(1, "a"), bound);
    // One that is still attached counts, and so does one that is not made yet.
    let mut attached = world(2, "b");
    attached.push(claim("c"));
    attached.push(volume("c", "h3"));
    attached.push(csi("VolumeAttachment", "va", json!({"spec": {"attacher": "x.io", "nodeName": "n1", "source": {"persistentVolumeName": "c"}}})));
    check(attached, &["patch Pod p2 Unschedulable", refused]);
    let mut unmade = world(1, "later");
    unmade.push(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "later", "namespace": "d", "uid": "l"}, "spec": {"storageClassName": "late"}}));
    unmade.push(csi(
        "StorageClass",
        "late",
        json!({"provisioner": "x.io", "volumeBindingMode": "WaitForFirstConsumer"}),
    ));
    check(unmade.clone(), &["patch Pod p2 Unschedulable", refused]);
    unmade[1] = csi("CSINode", "n1", driver(2));
    check(unmade, &["patch PersistentVolumeClaim later n1"]);
}

#[test]
fn a_volume_is_made_where_its_driver_has_room() {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "d", "uid": "c"}, "spec": {"storageClassName": "s", "resources": {"requests": {"storage": "2Gi"}}}});
    let class = csi(
        "StorageClass",
        "s",
        json!({"provisioner": "x.io", "volumeBindingMode": "WaitForFirstConsumer"}),
    );
    let world = |says: bool, rooms: Vec<Value>| {
        let user = pod(
            "p1",
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
        );
        let driver = csi("CSIDriver", "x.io", json!({"spec": {"storageCapacity": says}}));
        let trees =
            vec![node("a1", "4"), node("b1", "4"), claim.clone(), class.clone(), driver, user];
        trees.into_iter().chain(rooms).collect::<Vec<_>>()
    };
    let room = |name: &str, zone: &str, more: Value| {
        let mut room = csi("CSIStorageCapacity", name, more);
        room.set("metadata.namespace", "d");
        room.set("storageClassName", "s");
        room.set("nodeTopology", json!({"matchLabels": {"zone": zone}}));
        room
    };
    check(world(false, vec![]), &["patch PersistentVolumeClaim c a1"]);
    let refused = "event p1 FailedScheduling: 0/2 nodes are available: 2 node(s) did not have enough free storage. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    check(world(true, vec![]), &["patch Pod p1 Unschedulable", refused]);
    let small = room("small", "a", json!({"capacity": "9Gi", "maximumVolumeSize": "1Gi"}));
    check(world(true, vec![small.clone()]), &["patch Pod p1 Unschedulable", refused]);
    let large = room("large", "b", json!({"capacity": "2Gi"}));
    check(world(true, vec![small, large]), &["patch PersistentVolumeClaim c b1"]);
}

#[test]
fn an_ephemeral_volume_takes_only_its_own_claim() {
    let claim = |owner: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "p1-s", "namespace": "d", "uid": "c",
            "ownerReferences": [{"kind": "Pod", "uid": owner, "controller": true}]}, "spec": {"volumeName": "v"}})
    };
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "uid": "v"}, "spec": {}});
    let user = || pod("p1", json!({"volumes": [{"name": "s", "ephemeral": {}}]}));
    let asked = run(vec![node("n1", "1"), claim("p1"), volume.clone(), user()]);
    assert!(asked.contains("bind p1 n1"), "{asked}");
    let asked = run(vec![node("n1", "1"), claim("p0"), volume, user()]);
    assert!(
        asked.contains("PVC d/p1-s was not created for pod d/p1 (pod is not owner)"),
        "{asked}"
    );
}

/// Profiles of a configuration.
fn profiles(profiles: Value) -> crate::Profiles {
    let tree = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "profiles": profiles});
    crate::read(&tree).unwrap().profiles
}

#[test]
fn each_profile_has_its_pods() {
    let all = profiles(json!([{"schedulerName": "other"}, {"schedulerName": "default-scheduler"}]));
    let trees = vec![
        node("a", "1"),
        pod("p", json!({"schedulerName": "other"})),
        pod("q", json!({})),
        pod("r", json!({"schedulerName": "nobodys"})),
    ];
    let said = run_with(trees.clone(), Some(&all));
    assert!(said.contains("bind p a") && said.contains("bind q a") && !said.contains("bind r"));
    let only = profiles(json!([{"schedulerName": "other"}]));
    assert!(!run_with(trees.clone(), Some(&only)).contains("bind q"));
    assert!(!run(trees).contains("bind p"), "nobody else's without");
}

#[test]
fn an_added_affinity_decides() {
    let wanted = |which: &str, term: Value| {
        let all = profiles(
            json!([{"pluginConfig": [{"name": "NodeAffinity", "args": {"addedAffinity": {which: term}}}]}]),
        );
        run_with(vec![node("a", "4"), node("b", "4"), pod("p", json!({}))], Some(&all))
    };
    let term = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    assert!(wanted(required, json!({"nodeSelectorTerms": [term("b")]})).starts_with("bind p b"));
    let said = wanted(required, json!({"nodeSelectorTerms": [term("c")]}));
    assert!(said.contains("2 node(s) didn't match scheduler-enforced node affinity"), "{said}");
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    assert!(
        wanted(preferred, json!([{"weight": 9, "preference": term("b")}])).starts_with("bind p b")
    );
    assert!(run(vec![node("a", "4"), node("b", "4"), pod("p", json!({}))]).starts_with("bind p a"));
}

#[test]
fn weights_and_strategies_decide() {
    let trees = vec![node("a", "4"), node("b", "1"), pod("p", json!({}))];
    let with = |profile: Value| run_with(trees.clone(), Some(&profiles(json!([profile]))));
    let fit = |strategy: &str| {
        json!({"plugins": {"score": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}},
            "pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {"type": strategy, "resources": [{"name": "cpu"}]}}}]})
    };
    assert!(with(fit("LeastAllocated")).starts_with("bind p a"));
    assert!(with(fit("MostAllocated")).starts_with("bind p b"));
    let ratio = json!({"pluginConfig": [{"name": "NodeResourcesFit", "args": {"scoringStrategy": {
        "type": "RequestedToCapacityRatio", "resources": [{"name": "cpu", "weight": 100}],
        "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}}}]});
    assert!(with(ratio).starts_with("bind p b"));
    // The label of a zone that another pod is in.
    let near = json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}}]}}});
    let trees =
        vec![node("a", "4"), node("b", "4"), pod("on", json!({"nodeName": "b"})), pod("p", near)];
    assert!(run(trees.clone()).starts_with("bind p b"), "it is drawn there");
    let off = profiles(
        json!([{"plugins": {"multiPoint": {"disabled": [{"name": "InterPodAffinity"}]}}}]),
    );
    assert!(run_with(trees, Some(&off)).starts_with("bind p a"), "only the load counts");
}

#[test]
fn filters_and_preemption_can_be_off() {
    let tainted = |mut node: Value| {
        node.set("spec.taints", json!([{"key": "k", "effect": "NoSchedule"}]));
        node
    };
    let off = |point: &str, name: &str| {
        profiles(json!([{"plugins": {point: {"disabled": [{"name": name}]}}}]))
    };
    let trees = vec![tainted(node("a", "1")), pod("p", json!({}))];
    assert!(!run(trees.clone()).contains("bind"));
    assert!(run_with(trees, Some(&off("filter", "TaintToleration"))).starts_with("bind p a"));
    let trees = vec![
        node("a", "100m"),
        pod("low", json!({"nodeName": "a", "priority": 1})),
        pod("high", json!({"priority": 5})),
    ];
    assert!(run(trees.clone()).contains("delete low"));
    let said = run_with(trees, Some(&off("postFilter", "*")));
    assert!(!said.contains("delete") && !said.contains("preemption"), "{said}");
    let gated = vec![node("a", "1"), pod("p", json!({"schedulingGates": [{"name": "g"}]}))];
    assert!(run_with(gated, Some(&off("preEnqueue", "*"))).starts_with("bind p a"));
}

#[test]
fn pods_that_a_service_selects_spread_by_default() {
    let all = profiles(
        json!([{"pluginConfig": [{"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}}]}]),
    );
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d", "uid": "s"},
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}});
    let mut trees = vec![
        node("a", "9"),
        node("b", "1"),
        pod("x", json!({"nodeName": "b"})),
        pod("y", json!({"nodeName": "a"})),
        pod("z", json!({"nodeName": "a"})),
        pod("p", json!({})),
    ];
    assert!(run_with(trees.clone(), Some(&all)).starts_with("bind p a"), "nothing selects it");
    trees.push(service);
    assert!(run_with(trees, Some(&all)).starts_with("bind p b"));
    assert!(all.spreads() && crate::registered(Some(&all))[0].reads.len() > 1);
}

#[test]
fn a_hard_affinity_of_others_draws() {
    let wants = json!({"nodeName": "b", "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}]}}});
    let trees = vec![node("a", "400m"), node("b", "400m"), pod("on", wants), pod("p", json!({}))];
    assert!(run(trees.clone()).starts_with("bind p a"));
    let all = profiles(
        json!([{"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 100}}]}]),
    );
    assert!(run_with(trees, Some(&all)).starts_with("bind p b"));
}

/// Extenders of a configuration.
fn extended(extenders: Value) -> crate::Profiles {
    let tree = json!({"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", "extenders": extenders});
    crate::read(&tree).unwrap().profiles
}

#[test]
fn extenders_filter_score_and_bind() {
    let trees = || {
        vec![
            node("a", "4"),
            node("b", "4"),
            node("c", "4"),
            pod("p", json!({})),
            pod("q", json!({})),
        ]
    };
    let all = extended(json!([
        {"urlPrefix": "http://x", "filterVerb": "f", "nodeCacheCapable": true},
        {"urlPrefix": "http://y", "filterVerb": "f", "prioritizeVerb": "s", "weight": 5, "bindVerb": "b"},
    ]));
    let asked = std::cell::RefCell::new(Vec::new());
    let answer = |whom: usize, body: &Value| {
        asked.borrow_mut().push(whom);
        Ok(match whom {
            0 => {
                assert_eq!(body["NodeNames"], json!(["a", "b", "c"]));
                json!({"NodeNames": ["b", "c"], "FailedNodes": {"a": "no"}})
            }
            3 => {
                assert_eq!(body["Nodes"]["items"].as_array().unwrap().len(), 2);
                json!({"nodes": {"items": body["Nodes"]["items"].clone()}})
            }
            4 => json!([{"Host": "c", "Score": 10}, {"host": "b", "score": 1}]),
            _ => {
                assert_eq!(body["Node"], json!("c"));
                json!({"Error": ""})
            }
        })
    };
    let said = run_asking(trees(), Some(&all), &answer);
    assert!(!said.contains("bind "), "the extender binds: {said}");
    assert!(said.contains("assigned d/p to c") && said.contains("assigned d/q to c"), "{said}");
    assert_eq!(*asked.borrow(), [0, 3, 4, 5, 0, 3, 4, 5], "one pod after the other");
    let none = |_: usize, body: &Value| {
        let names = body["NodeNames"].as_array().unwrap().iter();
        let failed: api::Map<String, Value> =
            names.map(|name| (name.as_str().unwrap().to_owned(), "no gpu".into())).collect();
        Ok(json!({"NodeNames": [], "FailedAndUnresolvableNodes": failed}))
    };
    let one =
        extended(json!([{"urlPrefix": "http://x", "filterVerb": "f", "nodeCacheCapable": true}]));
    let said = run_asking(trees(), Some(&one), &none);
    assert!(said.contains("0/3 nodes are available: 3 no gpu."), "{said}");
}

#[test]
fn an_extender_that_fails_is_ignored_where_it_may_be() {
    let trees = || vec![node("a", "4"), pod("p", json!({}))];
    let fails = |_: usize, _: &Value| Err(api::Status::internal("gone"));
    for verb in ["filterVerb", "bindVerb"] {
        let with = |ignorable: bool| {
            extended(json!([{"urlPrefix": "http://x", verb: "v", "ignorable": ignorable}]))
        };
        let said = run_asking(trees(), Some(&with(false)), &fails);
        assert!(said.contains("patch Pod p SchedulerError") && !said.contains("bind"), "{said}");
        assert!(!said.contains("Successfully"), "{said}");
        assert!(run_asking(trees(), Some(&with(true)), &fails).contains("bind p a"), "{verb}");
    }
    let lies = |_: usize, _: &Value| Ok(json!({"Nodes": {"items": [{"metadata": {"name": "z"}}]}}));
    let liar = extended(json!([{"urlPrefix": "http://x", "filterVerb": "v"}]));
    let said = run_asking(trees(), Some(&liar), &lies);
    assert!(said.contains("claims a filtered node \"z\" which is not found"), "{said}");
    let scores = extended(json!([{"urlPrefix": "http://x", "prioritizeVerb": "v", "weight": 1}]));
    let two = vec![node("a", "4"), node("b", "4"), pod("p", json!({}))];
    assert!(run_asking(two, Some(&scores), &fails).contains("bind p a"), "it has no say");
}

#[test]
fn who_asks_for_nothing_of_an_extenders_is_not_its_business() {
    let all = extended(json!([{"urlPrefix": "http://x", "filterVerb": "f", "managedResources": [
        {"name": "example.com/gpu", "ignoredByScheduler": true}]}]));
    let gpu =
        json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]});
    assert!(run_with(vec![node("a", "4"), pod("p", json!({}))], Some(&all)).contains("bind p a"));
    let passes = |_: usize, body: &Value| Ok(json!({"Nodes": body["Nodes"].clone()}));
    let said = run_asking(vec![node("a", "4"), pod("p", gpu)], Some(&all), &passes);
    assert!(said.contains("bind p a"), "the resource is the extender's to count: {said}");
}
