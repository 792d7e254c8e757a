//! Services and pods in, endpoints out.

use api::kinds::{ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE};
use api::{Lens, LensMut, Value, json};

use crate::world::{World, set_ready};

const NAMES: &[&str] = &[
    "endpointslice-controller",
    "endpoint-controller",
    "endpointslicemirroring-controller",
    "generic-garbage-collector",
];

fn service(changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "d", "name": "web", "labels": {"tier": "front"}},
        "spec": {
            "clusterIP": "10.43.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}],
        },
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

fn pod(name: &str, ip: &str, changes: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "d", "name": name, "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    });
    api::patch::merge(&mut tree, &changes);
    tree
}

/// Slices as `type [ports] address:ready/serving/terminating ...`, sorted.
fn slices(world: &World) -> Vec<String> {
    let mut lines: Vec<String> = world
        .list(&ENDPOINT_SLICE)
        .iter()
        .map(|slice| {
            let ports =
                slice.list("ports").iter().map(|p| format!("{}={}", p.str("name"), p.at("port")));
            let mut line =
                format!("{} [{}]", slice.str("addressType"), ports.collect::<Vec<_>>().join(","));
            for endpoint in slice.list("endpoints") {
                let c = |name: &str| u8::from(endpoint.at("conditions").flag(name));
                line += &format!(
                    " {}:{}{}{}",
                    endpoint.str("addresses.0"),
                    c("ready"),
                    c("serving"),
                    c("terminating")
                );
                for field in ["zone", "hostname"] {
                    if endpoint.has(field) {
                        line += &format!(",{}", endpoint.str(field));
                    }
                }
            }
            line
        })
        .collect();
    lines.sort();
    lines
}

fn subsets(world: &World) -> Value {
    let mut tree = world.get(&ENDPOINTS, "d", "web").unwrap_or_default();
    for subset in tree.list_mut("subsets") {
        for field in ["addresses", "notReadyAddresses"] {
            if subset.has(field) {
                let ips: Vec<Value> =
                    subset.list(field).iter().map(|a| a.str("ip").into()).collect();
                subset.set(field, ips);
            }
        }
        let ports: Vec<Value> = subset.list("ports").iter().map(|p| p.at("port").clone()).collect();
        subset.set("ports", ports);
    }
    tree.at("subsets").clone()
}

#[test]
fn table() {
    let two = |a: Value, b: Value| vec![pod("a", "10.0.0.1", a), pod("b", "10.0.0.2", b)];
    let unready = json!({"status": {"conditions": []}});
    let terminating = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let none = || json!({});
    type Case = (&'static str, Value, Vec<Value>, &'static [&'static str], Value);
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("nothing behind it", none(), vec![], &["IPv4 []"], json!([])),
        ("named port, ready and not", none(), two(none(), unready.clone()),
            &["IPv4 [http=8080] 10.0.0.1:110 10.0.0.2:000"],
            json!([{"addresses": ["10.0.0.1"], "notReadyAddresses": ["10.0.0.2"], "ports": [8080]}])),
        ("terminating but still serving", none(), two(none(), terminating.clone()),
            &["IPv4 [http=8080] 10.0.0.1:110 10.0.0.2:011"], json!([{"addresses": ["10.0.0.1"], "ports": [8080]}])),
        ("publishNotReadyAddresses", json!({"spec": {"publishNotReadyAddresses": true}}), two(unready, terminating),
            &["IPv4 [http=8080] 10.0.0.1:100 10.0.0.2:111"], json!([{"addresses": ["10.0.0.1", "10.0.0.2"], "ports": [8080]}])),
        ("finished pods and pods without address do not count", none(),
            two(json!({"status": {"phase": "Succeeded"}}), json!({"status": {"podIP": null, "podIPs": null}})), &["IPv4 []"], json!([])),
        ("a pod without the named port has endpoints without ports in slices, none in Endpoints", none(),
            two(none(), json!({"spec": {"containers": [{"name": "c"}]}})),
            &["IPv4 [] 10.0.0.2:110", "IPv4 [http=8080] 10.0.0.1:110"], json!([{"addresses": ["10.0.0.1"], "ports": [8080]}])),
        ("numbered port", json!({"spec": {"ports": [{"port": 80, "targetPort": 9}, {"name": "x", "port": 81}]}}), two(none(), none()),
            &["IPv4 [=9,x=81] 10.0.0.1:110 10.0.0.2:110"], json!([{"addresses": ["10.0.0.1", "10.0.0.2"], "ports": [9, 81]}])),
        ("dual stack", json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}),
            vec![pod("a", "10.0.0.1", json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}))],
            &["IPv4 [http=8080] 10.0.0.1:110", "IPv6 [http=8080] fd00::1:110"], json!([{"addresses": ["10.0.0.1"], "ports": [8080]}])),
        ("headless without ports, host names", json!({"spec": {"clusterIP": "None", "ports": null}}),
            two(json!({"spec": {"hostname": "h", "subdomain": "web"}}), none()),
            &["IPv4 [] 10.0.0.1:110,h 10.0.0.2:110"], json!([{"addresses": ["10.0.0.1", "10.0.0.2"], "ports": []}])),
        ("external names have none", json!({"spec": {"type": "ExternalName"}}), two(none(), none()), &[], json!([])),
        ("without selector nothing is made", json!({"spec": {"selector": null}}), two(none(), none()), &[], json!([])),
    ];
    for (name, changes, pods, want_slices, want_subsets) in cases {
        let mut world = World::new(NAMES, pods);
        world.create(service(changes));
        world.settle();
        assert_eq!(slices(&world), want_slices, "{name}");
        assert_eq!(subsets(&world), want_subsets, "{name}");
        world.assert_fixpoint();
    }
}

#[test]
fn hints_name_the_zone_of_whoever_is_ready() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z1"}}});
    let elsewhere = pod("c", "10.0.0.3", json!({"spec": {"nodeName": "without"}}));
    let unready = pod("b", "10.0.0.2", json!({"status": {"conditions": []}}));
    let close = json!({"spec": {"trafficDistribution": "PreferClose"}});
    let mut world = World::new(
        NAMES,
        [node, pod("a", "10.0.0.1", json!({})), unready, elsewhere, service(close)],
    );
    world.settle();
    let hints = |world: &World| {
        let slice = world.list(&ENDPOINT_SLICE).remove(0);
        let one = |e: &Value| format!("{} {}", e.str("addresses.0"), e.at("hints"));
        let mut all: Vec<String> = slice.list("endpoints").iter().map(one).collect();
        all.sort();
        all.join(", ")
    };
    let close = r#"10.0.0.1 {"forZones":[{"name":"z1"}]}, 10.0.0.2 null, 10.0.0.3 null"#;
    assert_eq!(hints(&world), close);
    let far = "10.0.0.1 null, 10.0.0.2 null, 10.0.0.3 null";
    let annotated =
        json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}});
    for (change, expected) in [
        (annotated, far),
        (json!({"metadata": {"annotations": null}}), close),
        (json!({"spec": {"trafficDistribution": null}}), far),
    ] {
        world.edit(&SERVICE, "d", "web", |tree| api::patch::merge(tree, &change));
        world.settle();
        assert_eq!(hints(&world), expected);
    }
    world.assert_fixpoint();
}

#[test]
fn follows_changes_and_goes_with_its_service() {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z1"}}});
    let mut world = World::new(NAMES, [node, service(json!({}))]);
    world.settle();
    let name = world.names(&ENDPOINT_SLICE)[0].clone();
    world.create(pod("a", "10.0.0.1", json!({})));
    world.settle();
    assert_eq!(slices(&world), ["IPv4 [http=8080] 10.0.0.1:110,z1"]);
    assert_eq!(world.names(&ENDPOINT_SLICE), [name], "the empty slice is used");
    let now = world.now();
    world.edit(&POD, "d", "a", |pod| set_ready(pod, false, now));
    world.settle();
    assert_eq!(slices(&world), ["IPv4 [http=8080] 10.0.0.1:000,z1"]);
    let slice = &world.list(&ENDPOINT_SLICE)[0];
    let labels: Vec<_> = slice.pairs("metadata.labels").collect();
    assert_eq!(
        labels,
        [
            ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
            ("kubernetes.io/service-name", "web"),
            ("tier", "front"),
        ]
    );
    // Slices and Endpoints that someone deletes come back.
    let name = world.names(&ENDPOINT_SLICE)[0].clone();
    world.delete(&ENDPOINT_SLICE, "d", &name, "Background");
    world.delete(&ENDPOINTS, "d", "web", "Background");
    world.settle();
    assert_eq!((world.names(&ENDPOINT_SLICE).len(), world.names(&ENDPOINTS).len()), (1, 1));
    world.edit(&SERVICE, "d", "web", |tree| tree.set("spec.selector", json!({"app": "other"})));
    world.settle();
    assert_eq!(slices(&world), ["IPv4 []"]);
    world.delete(&SERVICE, "d", "web", "Background");
    world.settle();
    assert!(world.names(&ENDPOINT_SLICE).is_empty() && world.names(&ENDPOINTS).is_empty());
}

#[test]
fn large_services_have_slices_of_a_hundred() {
    let mut world = World::new(NAMES, [service(json!({}))]);
    for n in 0..250 {
        world.create(pod(&format!("p{n}"), &format!("10.0.1.{n}"), json!({})));
    }
    world.settle();
    let sizes = |world: &World| {
        let mut sizes: Vec<usize> =
            world.list(&ENDPOINT_SLICE).iter().map(|slice| slice.list("endpoints").len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&world), [50, 100, 100]);
    for n in 0..100 {
        world.delete(&POD, "d", &format!("p{n}"), "Background");
    }
    world.converge();
    assert_eq!(sizes(&world).iter().sum::<usize>(), 150);
    world.assert_fixpoint();
}

#[test]
fn hand_made_endpoints_are_mirrored() {
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": "d", "name": "web"},
        "subsets": [{"addresses": [{"ip": "1.2.3.4"}, {"ip": "fd00::5"}], "notReadyAddresses": [{"ip": "1.2.3.5"}], "ports": [{"port": 443}]}],
    });
    let mut world = World::new(NAMES, [endpoints]);
    world.settle();
    assert!(slices(&world).is_empty(), "not without a service");
    world.create(service(json!({"spec": {"selector": null}})));
    world.settle();
    assert_eq!(slices(&world), ["IPv4 [=443] 1.2.3.4:100 1.2.3.5:000", "IPv6 [=443] fd00::5:100"]);
    world.edit(&ENDPOINTS, "d", "web", |tree| {
        tree.map_mut("metadata.labels")
            .insert("endpointslice.kubernetes.io/skip-mirror".into(), "true".into());
    });
    world.settle();
    assert!(slices(&world).is_empty());
    world.assert_fixpoint();
}
