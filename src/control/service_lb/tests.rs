//! Which nodes, which ports, which status.

use api::kinds::{ENDPOINT_SLICE, NODE, POD, SERVICE};
use api::{Lens, LensMut, Value, json};

use crate::world::World;

const ENABLE: &str = "svccontroller.k3s.cattle.io/enablelb";
const POOL: &str = "svccontroller.k3s.cattle.io/lbpool";
const TOLERATIONS: &str = "svccontroller.k3s.cattle.io/tolerations";
const REFUSED: &str = "svccontroller.k3s.cattle.io/Refused";

fn node(name: &str, internal: &str, external: &str) -> Value {
    let mut addresses = vec![json!({"type": "InternalIP", "address": internal})];
    if !external.is_empty() {
        addresses.push(json!({"type": "ExternalIP", "address": external}));
    }
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {}}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses}})
}

fn service(name: &str, created: i64, ports: &[i64]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"name": format!("p{port}"), "port": port, "protocol": "TCP"}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "d", "labels": {}, "annotations": {}, "creationTimestamp": format!("2024-01-01T00:00:{created:02}Z")},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": ports}})
}

fn settings(servicelb: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "kube-system", "name": "k3rs-settings"},
        "data": {"servicelb": servicelb, "node-own-ports": "6443/TCP,10250/TCP,8472/UDP", "service-node-port-range": "30000-32767"}})
}

fn world(trees: impl IntoIterator<Item = Value>) -> World {
    let nodes = [node("n1", "192.0.2.1", ""), node("n2", "192.0.2.2", "")];
    let mut world = World::new(
        &["service-controller"],
        [settings("true")].into_iter().chain(nodes).chain(trees),
    );
    world.settle();
    world.assert_fixpoint();
    world
}

/// The addresses of a Service, and the reason why it has not more.
fn shown(world: &World, name: &str) -> String {
    let tree = world.get(&SERVICE, "d", name).unwrap();
    let ingress =
        tree.list("status.loadBalancer.ingress").iter().map(|one| one.str("ip").to_owned());
    let reasons = tree.list("status.conditions").iter().filter(|c| c.str("type") == REFUSED);
    let words: Vec<String> = ingress.chain(reasons.map(|c| c.str("reason").to_owned())).collect();
    let kept = !tree.list("metadata.finalizers").is_empty();
    assert_eq!(kept, !tree.list("status.loadBalancer.ingress").is_empty(), "{tree}");
    words.join(" ")
}

#[test]
fn a_service_gets_the_nodes_and_loses_them() {
    let mut world = world([service("web", 0, &[80, 443])]);
    let tree = world.get(&SERVICE, "d", "web").unwrap();
    let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]);
    let ingress =
        ["192.0.2.1", "192.0.2.2"].map(|ip| json!({"ip": ip, "ipMode": "VIP", "ports": ports}));
    assert_eq!(tree.at("status.loadBalancer.ingress"), &json!(ingress));
    assert_eq!(
        tree.at("metadata.finalizers"),
        &json!(["service.kubernetes.io/load-balancer-cleanup"])
    );
    world.edit(&NODE, "", "n1", |node| {
        node.set("status.conditions", json!([{"type": "Ready", "status": "Unknown"}]))
    });
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.2");
    world.delete(&NODE, "", "n2", "Background");
    world.settle();
    assert_eq!(shown(&world, "web"), "UnAvailableLoadBalancer");
    world.create(node("n3", "192.0.2.3", ""));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.3");
    let told = world.events.join("\n");
    for event in [
        "UpdatedLoadBalancer: Updated LoadBalancer with new IPs: [] -> [192.0.2.1 192.0.2.2]",
        "UpdatedLoadBalancer: Updated LoadBalancer with new IPs: [192.0.2.1 192.0.2.2] -> [192.0.2.2]",
        "UnAvailableLoadBalancer: There are no available nodes for LoadBalancer",
    ] {
        assert!(told.contains(event), "{event}\n{told}");
    }
    // Another type, and back; then it is deleted, and nothing keeps it.
    world.edit(&SERVICE, "d", "web", |tree| {
        tree.set("spec.type", "ClusterIP");
        tree.remove("status.loadBalancer.ingress");
    });
    world.settle();
    assert_eq!(shown(&world, "web"), "");
    world.edit(&SERVICE, "d", "web", |tree| tree.set("spec.type", "LoadBalancer"));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.3");
    world.delete(&SERVICE, "d", "web", "Background");
    world.settle();
    assert!(world.get(&SERVICE, "d", "web").is_none());
}

#[test]
fn nodes_are_chosen_by_labels_taints_and_addresses() {
    let label = |key: &'static str, value: &'static str| (key, value);
    let taint = |key: &str, effect: &str| json!([{"key": key, "value": "v", "effect": effect}]);
    let (yes, no, pool) = (label(ENABLE, "true"), label(ENABLE, "false"), label(POOL, "a"));
    let mine = "- {key: mine, operator: Exists}";
    let none = json!([]);
    // What the first node has; what the Service has; the addresses.
    for (labels, taints, pooled, tolerations, want) in [
        (vec![], none.clone(), "", "", "192.0.2.1 192.0.2.2"),
        (vec![], none.clone(), "a", "", "192.0.2.1 192.0.2.2"),
        (vec![yes], none.clone(), "", "", "192.0.2.1"),
        (vec![no], none.clone(), "", "", "UnAvailableLoadBalancer"),
        (vec![yes, pool], none.clone(), "a", "", "192.0.2.1"),
        (vec![yes, pool], none.clone(), "", "", "192.0.2.1"),
        (vec![yes, pool], none.clone(), "b", "", "UnAvailableLoadBalancer"),
        (vec![], taint("mine", "NoSchedule"), "", "", "192.0.2.2"),
        (vec![], taint("mine", "NoExecute"), "", "", "192.0.2.2"),
        (vec![], taint("mine", "PreferNoSchedule"), "", "", "192.0.2.1 192.0.2.2"),
        (vec![], taint("mine", "NoSchedule"), "", mine, "192.0.2.1 192.0.2.2"),
        (
            vec![],
            taint("node-role.kubernetes.io/control-plane", "NoSchedule"),
            "",
            "",
            "192.0.2.1 192.0.2.2",
        ),
        (vec![], none, "", "key: x", "SyncLoadBalancerFailed"),
    ] {
        let mut web = service("web", 0, &[80]);
        if !pooled.is_empty() {
            web["metadata"]["labels"][POOL] = json!(pooled);
        }
        if !tolerations.is_empty() {
            web["metadata"]["annotations"][TOLERATIONS] = json!(tolerations);
        }
        let mut world = world([web]);
        world.edit(&NODE, "", "n1", |node| {
            for (key, value) in &labels {
                node["metadata"]["labels"][*key] = json!(value);
            }
            node["spec"]["taints"] = taints.clone();
        });
        world.settle();
        assert_eq!(shown(&world, "web"), want, "{labels:?} {taints} {pooled:?} {tolerations:?}");
    }
    // External addresses, of any node, come instead of internal ones; families in the Service's order.
    let mut both = service("both", 0, &[81]);
    both["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
    let mut world = world([service("web", 0, &[80]), both]);
    assert_eq!(shown(&world, "both"), "192.0.2.1 192.0.2.2");
    world.create(node("n3", "192.0.2.3", "203.0.113.3"));
    world.create(node("n4", "192.0.2.4", "fd00::4"));
    world.create(node("n5", "192.0.2.5", "127.0.0.1"));
    world.settle();
    assert_eq!(shown(&world, "web"), "203.0.113.3");
    assert_eq!(shown(&world, "both"), "fd00::4 203.0.113.3");
    world.assert_fixpoint();
}

#[test]
fn a_port_is_one_services() {
    // Made later, or at the same time and later by name.
    let mut world = world([
        service("b", 1, &[80]),
        service("a", 2, &[80, 81]),
        service("c", 1, &[80]),
        service("d", 9, &[82]),
    ]);
    assert_eq!(shown(&world, "b"), "192.0.2.1 192.0.2.2");
    assert_eq!(shown(&world, "a"), "PortInUse");
    assert_eq!(shown(&world, "c"), "PortInUse");
    assert_eq!(shown(&world, "d"), "192.0.2.1 192.0.2.2");
    let held = "Service d/a Warning PortInUse: port 80/TCP is held by service d/b on node n1, and 1 more nodes are taken";
    assert_eq!(
        world.events.iter().filter(|event| event.contains(held)).count(),
        1,
        "{:#?}",
        world.events
    );
    // An older one that wants the port since a moment ago takes it from nobody, nor does one that has another.
    world.create(service("old", 0, &[80]));
    world.edit(&SERVICE, "d", "d", |tree| {
        tree.set("metadata.creationTimestamp", "2023-01-01T00:00:00Z")
    });
    world.edit(&SERVICE, "d", "d", |tree| tree.set("spec.ports", json!([{"name": "x", "port": 82, "protocol": "TCP"}, {"name": "y", "port": 80, "protocol": "TCP"}])));
    world.settle();
    assert_eq!(shown(&world, "old"), "PortInUse");
    assert_eq!(shown(&world, "d"), "PortInUse");
    assert_eq!(shown(&world, "b"), "192.0.2.1 192.0.2.2");
    // It goes, and the oldest of those that wait gets it.
    world.edit(&SERVICE, "d", "d", |tree| {
        tree.set("spec.ports", json!([{"name": "x", "port": 82, "protocol": "TCP"}]))
    });
    world.delete(&SERVICE, "d", "b", "Background");
    world.settle();
    assert_eq!(shown(&world, "old"), "192.0.2.1 192.0.2.2");
    assert_eq!([shown(&world, "a"), shown(&world, "c")], ["PortInUse"; 2]);
    assert_eq!(shown(&world, "d"), "192.0.2.1 192.0.2.2");
    // UDP is another port; other pools are other nodes.
    let mut udp = service("udp", 50, &[80]);
    udp["spec"]["ports"][0]["protocol"] = json!("UDP");
    world.create(udp);
    world.settle();
    assert_eq!(shown(&world, "udp"), "192.0.2.1 192.0.2.2");
    world.assert_fixpoint();
}

#[test]
fn pools_share_ports_and_external_addresses_hold_them() {
    let mut world = world([]);
    for (name, pool) in [("n1", "a"), ("n2", "b")] {
        world.edit(&NODE, "", name, |node| {
            node["metadata"]["labels"] = json!({ENABLE: "true", POOL: pool});
        });
    }
    for (name, created, pool) in [("a", 1, "a"), ("b", 2, "b"), ("ab", 3, "")] {
        let mut tree = service(name, created, &[80]);
        if !pool.is_empty() {
            tree["metadata"]["labels"][POOL] = json!(pool);
        }
        world.create(tree);
    }
    world.settle();
    assert_eq!(
        ["a", "b", "ab"].map(|name| shown(&world, name)),
        ["192.0.2.1", "192.0.2.2", "PortInUse"]
    );
    world.delete(&SERVICE, "d", "b", "Background");
    world.settle();
    assert_eq!(shown(&world, "ab"), "192.0.2.2 PortInUse", "it has the rest of the nodes");
    // Who has a node's address as an external one has its ports.
    let mut external = service("external", 0, &[90]);
    external["spec"]["type"] = json!("ClusterIP");
    external["spec"]["externalIPs"] = json!(["192.0.2.2"]);
    world.create(external);
    world.create(service("late", 5, &[90]));
    world.settle();
    assert_eq!(shown(&world, "late"), "192.0.2.1 PortInUse");
    world.assert_fixpoint();
}

#[test]
fn a_pods_port_is_its_own() {
    let pod = |name: &str, node: &str, port: i64| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"}, "spec": {"nodeName": node,
            "containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": port, "protocol": "TCP"}]}]}, "status": {"phase": "Running"}})
    };
    let mut world =
        world([service("web", 0, &[80]), pod("elsewhere", "n1", 81), pod("nowhere", "", 80)]);
    assert_eq!(shown(&world, "web"), "192.0.2.1 192.0.2.2");
    world.create(pod("mine", "n1", 80));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.2 PortInUse");
    let told = "PortInUse: port 80/TCP is held by pod d/mine on node n1";
    assert!(world.events.iter().any(|event| event.ends_with(told)), "{:#?}", world.events);
    world.edit(&POD, "d", "mine", |pod| pod.set("status.phase", "Succeeded"));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.1 192.0.2.2");
    world.assert_fixpoint();
}

#[test]
fn the_nodes_own_ports_are_nobodys() {
    for (port, protocol, want) in [
        (6443, "TCP", "PortReserved"),
        (6443, "UDP", "192.0.2.1 192.0.2.2"),
        (10250, "TCP", "PortReserved"),
        (8472, "UDP", "PortReserved"),
        (30000, "TCP", "PortReserved"),
        (32767, "UDP", "PortReserved"),
        (32768, "TCP", "192.0.2.1 192.0.2.2"),
        (443, "TCP", "192.0.2.1 192.0.2.2"),
    ] {
        let mut web = service("web", 0, &[80, port]);
        web["spec"]["ports"][1]["protocol"] = json!(protocol);
        // It holds nothing, either.
        let mut world = world([web, service("other", 5, &[80])]);
        assert_eq!(shown(&world, "web"), want, "{port}/{protocol}");
        let others = if want == "PortReserved" { "192.0.2.1 192.0.2.2" } else { "PortInUse" };
        assert_eq!(shown(&world, "other"), others);
        // One that had good ports asks for that one.
        world.edit(&SERVICE, "d", "other", |tree| {
            tree.set("spec.ports", json!([{"port": 6443, "protocol": "TCP"}]))
        });
        world.settle();
        assert_eq!(shown(&world, "other"), "PortReserved");
    }
    let many: Vec<i64> = (1..=257).collect();
    let mut large = service("large", 0, &[81]);
    large["metadata"]["annotations"]["x"] = json!("x".repeat(600 << 10));
    let world = world([service("many", 0, &many), large]);
    assert_eq!([shown(&world, "many"), shown(&world, "large")], ["TooLarge"; 2]);
}

#[test]
fn local_traffic_is_where_endpoints_are_ready() {
    let slice = |ready: bool, node: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.42.0.2"], "nodeName": node, "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "p", "namespace": "d"}}]})
    };
    let mut web = service("web", 0, &[80]);
    web["spec"]["externalTrafficPolicy"] = json!("Local");
    let mut world = world([web]);
    assert_eq!(shown(&world, "web"), "NoReadyEndpoints");
    world.create(slice(false, "n2"));
    world.settle();
    assert_eq!(shown(&world, "web"), "NoReadyEndpoints");
    assert!(world.events.is_empty(), "{:?}", world.events);
    let endpoints =
        |slice: Value| move |tree: &mut Value| tree.set("endpoints", slice.at("endpoints").clone());
    world.edit(&ENDPOINT_SLICE, "d", "web-1", endpoints(slice(true, "n2")));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.2");
    world.edit(&ENDPOINT_SLICE, "d", "web-1", endpoints(slice(true, "n1")));
    world.settle();
    assert_eq!(shown(&world, "web"), "192.0.2.1");
    world.delete(&ENDPOINT_SLICE, "d", "web-1", "Background");
    world.settle();
    assert_eq!(shown(&world, "web"), "NoReadyEndpoints");
    world.assert_fixpoint();
}

#[test]
fn what_is_another_load_balancers_stays() {
    let ingress = |tree: &mut Value, ip: &str| {
        tree.set("status.loadBalancer.ingress", json!([{"ip": ip, "ipMode": "VIP"}]))
    };
    let mut classed = service("classed", 0, &[80]);
    classed["spec"]["loadBalancerClass"] = json!("a.b/c");
    let mut world = world([classed.clone(), service("web", 1, &[80])]);
    world.edit(&SERVICE, "d", "classed", |tree| ingress(tree, "198.51.100.1"));
    world.settle();
    let addresses = |world: &World, name: &str| {
        let tree = world.get(&SERVICE, "d", name).unwrap();
        tree.list("status.loadBalancer.ingress")
            .iter()
            .map(|one| one.str("ip").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(addresses(&world, "classed"), "198.51.100.1");
    assert_eq!(addresses(&world, "web"), "192.0.2.1 192.0.2.2");
    // Off: what was given goes, what k3s gave as well, and others' stays, with what keeps it.
    for (name, ip) in [("theirs", "198.51.100.1"), ("stock", "192.0.2.1")] {
        let mut tree = service(name, 2, &[9]);
        tree["spec"]["loadBalancerClass"] = json!("a.b/c");
        tree["metadata"]["finalizers"] = json!(["service.kubernetes.io/load-balancer-cleanup"]);
        world.create(tree);
        world.edit(&SERVICE, "d", name, |tree| ingress(tree, ip));
    }
    world.edit(&api::kinds::CONFIG_MAP, "kube-system", "k3rs-settings", |map| {
        map.set("data.servicelb", "false")
    });
    world.settle();
    assert_eq!(shown(&world, "web"), "");
    assert_eq!(addresses(&world, "theirs"), "198.51.100.1");
    assert_eq!(addresses(&world, "stock"), "");
    assert_eq!(addresses(&world, "classed"), "198.51.100.1");
    world.assert_fixpoint();
}

#[test]
fn faults_on_the_way_end_in_the_same() {
    for seed in 0..20 {
        let mut world = world([]);
        world.faults(seed);
        for idx in 0..6 {
            world.create(service(&format!("s{idx}"), idx, &[80 + idx % 2]));
            world.advance(2);
        }
        world.delete(&SERVICE, "d", "s0", "Background");
        world.advance(5);
        world.faultless();
        world.assert_fixpoint();
        let served: Vec<String> = (1..6)
            .filter(|idx| shown(&world, &format!("s{idx}")) == "192.0.2.1 192.0.2.2")
            .map(|idx| format!("s{idx}"))
            .collect();
        assert_eq!(served.len(), 2, "seed {seed}: {served:?}");
    }
}
