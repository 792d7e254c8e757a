//! The planner as a whole: what changes say must add up to what the whole table says; rules as text.

use std::net::SocketAddr;

use serde_json::{Value as Tree, json};
use stdx::{OrdMap, OrdSet, prng::Prng};

use crate::address::Protocol;
use crate::flannel::Tunnel;
use crate::model::{HostPort, Model};
use crate::names::{Answer, RecordData, RecordKind, Zone};
use crate::plan::NodeInfo;
use crate::table::{Changes, Table};

pub(crate) fn node() -> NodeInfo {
    let cidr = |text: &str| text.parse().unwrap();
    NodeInfo {
        node_name: "n1".into(),
        zone: String::new(),
        addresses: vec!["192.0.2.10".parse().unwrap(), "203.0.113.10".parse().unwrap()],
        pod_cidrs: vec![cidr("10.42.0.0/24")],
        cluster_cidrs: vec![cidr("10.42.0.0/16")],
        service_cidrs: vec![cidr("10.43.0.0/16")],
        dns: vec![("10.43.0.10".parse().unwrap(), "10.42.0.1:10053".parse().unwrap())],
        bridge: "cni0".into(),
        bridge_netfilter: true,
        masquerade_ipv6: false,
        node_port_cidrs: Vec::new(),
        node_ports: (30000, 32767),
        own_ports: vec![(Protocol::Tcp, 6443), (Protocol::Tcp, 10250), (Protocol::Udp, 10053)],
        by_plugins: false,
        tunnel: None,
        on_loopback: false,
    }
}

fn service(name: &str, ip: &str, spec: Tree) -> Tree {
    let mut tree = json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
                 "ports": [{"name": "web", "protocol": "TCP", "port": 80}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        tree["spec"][key] = value.clone();
    }
    tree
}

/// `endpoints`: `10.42.0.2` is ready and on this node, `10.42.1.2` elsewhere; a `~` before it says
/// terminating but serving, a `!` not ready.
fn slice(service: &str, protocol: &str, endpoints: &[&str]) -> Tree {
    let endpoint = |text: &&str| {
        let address = text.trim_start_matches(['~', '!']);
        let node = if address.starts_with("10.42.0.") { "n1" } else { "n2" };
        json!({"addresses": [address], "nodeName": node, "conditions": {
            "ready": address.len() == text.len(), "serving": !text.starts_with('!'),
            "terminating": text.starts_with('~')}})
    };
    json!({
        "metadata": {"namespace": "ns", "name": format!("{service}-1"),
                     "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "web", "protocol": protocol, "port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<Tree>>(),
    })
}

#[track_caller]
fn check(model: &mut Model, expected: &str) {
    let trim = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let found = model.changes().to_string();
    assert_eq!(trim(&found), trim(expected), "found:\n{found}");
}

#[test]
fn no_pod_speaks_to_the_tunnels_port() {
    let rules = |tunnelled: bool, name: &str| {
        let tunnel = tunnelled.then_some(Tunnel { vni: 1, port: 8472 });
        let table = Model::new(NodeInfo { tunnel, ..node() }).table();
        let chains = table.chains.iter().filter(|(chain, ..)| chain.to_string() == name);
        let rules = chains.flat_map(|(_, _, rules)| rules);
        let text = |rule: &crate::table::Rule| {
            rule.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        rules.map(text).filter(|rule| rule.contains("8472")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        rules(true, "filter-input"),
        "meta nfproto ipv4 iifname \"cni0\" udp dport 8472 drop\n\
         meta nfproto ipv4 iifname \"flannel.1\" udp dport 8472 drop"
    );
    assert_eq!(
        rules(true, "filter-forward"),
        "meta nfproto ipv4 iifname \"cni0\" udp dport 8472 ip daddr != 10.42.0.0/16 drop"
    );
    assert_eq!(rules(false, "filter-input") + &rules(false, "filter-forward"), "");
}

#[test]
fn who_wants_another_proxy_or_none_is_led_nowhere() {
    let mut model = Model::new(node());
    model.set_slice(&slice("web", "TCP", &["10.42.0.2"]));
    let plain = service("web", "10.43.0.5", json!({}));
    for (label, is_led) in
        [("service-proxy-name", false), ("x", true), ("headless", false), ("y", true)]
    {
        let mut labelled = plain.clone();
        labelled["metadata"]["labels"] = json!({format!("service.kubernetes.io/{label}"): ""});
        model.set_service(&labelled);
        let sign = if is_led { "+" } else { "-" };
        let changes = model.changes().to_string();
        let has = changes.contains(&format!("{sign} services4 10.43.0.5 . tcp . 80"));
        // The first has nothing that could go.
        assert!(has || (label == "service-proxy-name" && changes.is_empty()), "{label}: {changes}");
    }
}

#[test]
fn a_service_comes_changes_and_goes() {
    let mut model = Model::new(node());
    model.set_service(&service("web", "10.43.0.5", json!({})));
    // No endpoints: the base rules refuse.
    assert!(model.changes().is_empty());
    model.set_slice(&slice("web", "TCP", &["10.42.0.2", "10.42.1.2", "!10.42.0.9"]));
    check(
        &mut model,
        "+ chain balance4-2
         = chain balance4-2
           meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints4
         + services4 10.43.0.5 . tcp . 80 : goto balance4-2
         + endpoints4 10.43.0.5 . tcp . 80 . 0 : 10.42.0.2 . 8080
         + endpoints4 10.43.0.5 . tcp . 80 . 1 : 10.42.1.2 . 8080
         + hairpin4 10.42.0.2 . 10.42.0.2",
    );
    // The first goes: another takes its place, and nothing else moves.
    model.set_slice(&slice("web", "TCP", &["~10.42.0.2", "10.42.1.2", "10.42.1.3"]));
    check(
        &mut model,
        "- endpoints4 10.43.0.5 . tcp . 80 . 0 : 10.42.0.2 . 8080
         + endpoints4 10.43.0.5 . tcp . 80 . 0 : 10.42.1.3 . 8080",
    );
    model.remove_service("ns", "web");
    model.remove_slice("ns", "web-1");
    let gone = model.changes();
    assert_eq!(gone.delete_chains.len(), 1);
    assert_eq!(model.table().to_string(), Model::new(node()).table().to_string());
}

#[test]
fn clients_are_led_to_their_own_zone_where_all_endpoints_say_theirs() {
    let mut model = Model::new(node());
    model.set_service(&service("web", "10.43.0.5", json!({})));
    let hinted = |zones: &[(&str, &str)]| {
        let addresses: Vec<&str> = zones.iter().map(|(address, _)| *address).collect();
        let mut tree = slice("web", "TCP", &addresses);
        for (idx, (_, zone)) in zones.iter().enumerate().filter(|(_, (_, z))| !z.is_empty()) {
            tree["endpoints"][idx]["hints"] = json!({"forZones": [{"name": zone}]});
        }
        tree
    };
    let leads_to = |model: &mut Model, zones: &[(&str, &str)]| {
        model.set_slice(&hinted(zones));
        model.changes();
        let text = model.table().to_string();
        let lines = text.lines().filter(|line| line.starts_with("endpoints4 10.43.0.5 "));
        let mut all: Vec<&str> = lines.map(|l| l.split(" : ").nth(1).unwrap()).collect();
        all.sort_unstable();
        all.join(", ")
    };
    let both = [("10.42.0.2", "a"), ("10.42.1.2", "b")];
    let all = "10.42.0.2 . 8080, 10.42.1.2 . 8080";
    assert_eq!(leads_to(&mut model, &both), all, "the node's zone is not known");
    model.set_zone("b".into());
    model.changes();
    assert_eq!(leads_to(&mut model, &both), "10.42.1.2 . 8080");
    assert_eq!(leads_to(&mut model, &[("10.42.0.2", "a"), ("10.42.1.2", "")]), all);
    assert_eq!(leads_to(&mut model, &[("10.42.0.2", "a"), ("10.42.1.2", "c")]), all, "none here");
    // Who is not ready has no say, and takes over only when nobody is ready anywhere.
    let gone = [("10.42.0.2", "a"), ("~10.42.1.2", "")];
    assert_eq!(leads_to(&mut model, &gone), "10.42.0.2 . 8080");
    assert_eq!(leads_to(&mut model, &both), "10.42.1.2 . 8080");
    model.set_zone(String::new());
    assert!(!model.changes().is_empty(), "a node that is in no zone");
    assert_eq!(leads_to(&mut model, &both), all);
}

#[test]
fn two_services_want_one_address() {
    let mut model = Model::new(node());
    for (name, ip) in [("a", "10.43.0.5"), ("b", "10.43.0.6")] {
        let external = json!({"externalIPs": ["192.0.2.1"]});
        model.set_service(&service(name, ip, external));
        model.set_slice(&slice(name, "TCP", &["10.42.1.2"]));
    }
    model.changes();
    let holder = |model: &Model| {
        let text = model.table().to_string();
        text.lines().find(|line| line.starts_with("external4 192.0.2.1")).map(str::to_owned)
    };
    let goes_to = |name: &str| {
        Some(format!("external4 192.0.2.1 . tcp . 80 : goto external4/ns/{name}/tcp/80"))
    };
    assert_eq!(holder(&model), goes_to("a"));
    model.remove_service("ns", "a");
    model.changes();
    assert_eq!(holder(&model), goes_to("b"));
    model.remove_service("ns", "b");
    model.changes();
    assert_eq!(holder(&model), None);
}

/// The addresses of the table's elements of a set, `refused4` and the like.
fn keys(model: &Model, set: &str) -> Vec<String> {
    let keys = model.table().to_string();
    let keys = keys.lines().filter_map(|line| line.strip_prefix(set)?.strip_prefix(' '));
    keys.map(|line| line.split(" : ").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn a_service_answers_on_no_address_that_is_not_its_own() {
    for (address, allowed) in [
        ("192.0.2.1", true),
        ("10.99.0.1", true),
        ("127.0.0.1", false),
        ("127.8.0.1", false),
        ("0.0.0.0", false),
        ("0.0.0.7", false),
        ("169.254.169.254", false),
        ("224.0.0.251", false),
        ("255.255.255.255", false),
        // Other services' and pods' addresses, those of this node and of others.
        ("10.43.0.1", false),
        ("10.43.0.10", false),
        ("10.43.200.9", false),
        ("10.42.0.1", false),
        ("10.42.0.9", false),
        ("10.42.77.9", false),
    ] {
        let external = json!({"externalIPs": [address]});
        let balanced =
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]});
        for (spec, ingress) in [(external, json!([])), (balanced, json!([{"ip": address}]))] {
            // With endpoints and without any: refusing somebody else's address is harm enough.
            for endpoints in [&["10.42.1.2"][..], &[]] {
                let mut model = Model::new(node());
                let mut tree = service("web", "10.43.0.5", spec.clone());
                tree["status"] = json!({"loadBalancer": {"ingress": ingress}});
                model.set_service(&tree);
                model.set_slice(&slice("web", "TCP", endpoints));
                model.changes();
                let found = ["external4", "refused4"].map(|set| keys(&model, set));
                let there = found.iter().any(|keys| !keys.is_empty());
                assert_eq!(there, allowed, "{address} {spec} {endpoints:?}: {found:?}");
                let others = keys(&model, "services4");
                assert!(!others.iter().any(|key| key == &format!("{address} . tcp . 80")));
            }
        }
    }
}

#[test]
fn no_rule_leads_to_an_address_that_is_special() {
    for (name, address, on_loopback, allowed) in [
        ("web", "10.42.1.2", false, true),
        ("web", "192.0.2.1", false, true),
        ("web", "127.0.0.1", false, false),
        ("web", "127.0.0.1", true, false),
        ("web", "169.254.169.254", false, false),
        ("web", "0.0.0.0", false, false),
        ("web", "224.0.0.1", false, false),
        ("kubernetes", "127.0.0.1", false, false),
        // A machine without a network serves its API there.
        ("kubernetes", "127.0.0.1", true, true),
        ("kubernetes", "169.254.169.254", true, false),
    ] {
        let mut model = Model::new(NodeInfo { on_loopback, ..node() });
        let put = |mut tree: Tree| {
            tree["metadata"]["namespace"] = json!("default");
            tree
        };
        model.set_service(&put(service(name, "10.43.0.5", json!({}))));
        model.set_slice(&put(slice(name, "TCP", &[address])));
        model.changes();
        let led = keys(&model, "endpoints4").iter().any(|key| key.starts_with("10.43.0.5 "));
        assert_eq!(led, allowed, "{name} {address}");
    }
    let mut model = Model::new(node());
    model.set_service(&service("web", "127.0.0.1", json!({})));
    model.set_slice(&slice("web", "TCP", &["10.42.1.2"]));
    model.changes();
    assert!(!keys(&model, "services4").iter().any(|key| key.starts_with("127.")));
}

/// Behind a router that translates, packets come to another address of the node than the published one.
#[test]
fn a_node_that_serves_a_load_balancer_answers_on_all_its_addresses() {
    let lines = |model: &Model| -> Vec<String> {
        let text = model.table().to_string();
        let kept = |line: &&str| {
            ["external4 ", "balancer-ports4 "].iter().any(|set| line.starts_with(set))
        };
        text.lines().filter(kept).map(str::to_owned).collect()
    };
    let there = "external4 198.51.100.1 . tcp . 80 : goto external4/ns/web/tcp/80";
    let here = "external4 203.0.113.10 . tcp . 80 : goto external4/ns/web/tcp/80";
    let all = "balancer-ports4 tcp . 80 : goto external4/ns/web/tcp/80";
    let ports = json!([{"port": 80, "protocol": "TCP"}]);
    let granted = |ip: &str, ports: &Tree| json!([{"ip": ip, "ports": ports}]);
    let others = json!([{"port": 81, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]);
    let refused = json!([{"port": 80, "protocol": "TCP", "error": "a.b/c"}]);
    for (ingress, want) in [
        (json!([]), vec![]),
        // Another load balancer's address, which says nothing of ports.
        (json!([{"ip": "198.51.100.1"}]), vec![there]),
        (granted("198.51.100.1", &ports), vec![there]),
        (granted("203.0.113.10", &ports), vec![here, all]),
        // What the Service asks for is not what it was granted.
        (granted("203.0.113.10", &others), vec![]),
        (granted("203.0.113.10", &refused), vec![]),
        (json!([{"ip": "203.0.113.10", "ipMode": "Proxy", "ports": ports}]), vec![]),
    ] {
        let mut model = Model::new(node());
        let mut tree = service("web", "10.43.0.5", json!({"type": "LoadBalancer"}));
        tree["status"] = json!({"loadBalancer": {"ingress": ingress}});
        model.set_service(&tree);
        model.set_slice(&slice("web", "TCP", &["10.42.1.2"]));
        model.changes();
        let mut found = lines(&model);
        found.sort_by_key(|line| line.starts_with("balancer"));
        assert_eq!(found, want, "{ingress}");
    }
    let mut model = Model::new(node());
    let ranges = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]});
    let mut tree = service("web", "10.43.0.5", ranges);
    tree["status"] = json!({"loadBalancer": {"ingress": granted("203.0.113.10", &ports)}});
    model.set_service(&tree);
    model.set_slice(&slice("web", "TCP", &["10.42.1.2"]));
    model.changes();
    let guarded = "balancer-ports4 tcp . 80 : goto firewall4/ns/web/tcp/80";
    assert!(lines(&model).iter().any(|line| line == guarded), "{:?}", lines(&model));
    // The node's address is another now.
    model.set_addresses(vec!["192.0.2.10".parse().unwrap()]);
    check(&mut model, &format!("- {guarded}"));
    model.set_addresses(vec!["203.0.113.10".parse().unwrap()]);
    check(&mut model, &format!("+ {guarded}"));
    // Without endpoints nobody answers, and nothing else is refused.
    model.set_slice(&slice("web", "TCP", &[]));
    model.changes();
    assert!(lines(&model).is_empty(), "{:?}", lines(&model));
    let text = model.table().to_string();
    let last = text.lines().find(|line| line.ends_with("vmap @balancer-ports4")).unwrap();
    assert!(last.contains("ip daddr != 127.0.0.0/8"), "{last}");
}

#[test]
fn at_a_start_the_older_service_comes_first() {
    for (older, younger) in [("a", "b"), ("b", "a")] {
        let mut model = Model::new(node());
        for (name, ip, time) in
            [(older, "10.43.0.5", "00:00:00"), (younger, "10.43.0.6", "00:00:01")]
        {
            let mut tree = service(name, ip, json!({"externalIPs": ["192.0.2.1"]}));
            tree["metadata"]["creationTimestamp"] = json!(format!("2024-01-01T{time}Z"));
            model.set_service(&tree);
            model.set_slice(&slice(name, "TCP", &["10.42.1.2"]));
        }
        model.changes();
        let text = model.table().to_string();
        let held = format!("external4 192.0.2.1 . tcp . 80 : goto external4/ns/{older}/tcp/80");
        assert!(text.contains(&held), "{text}");
    }
}

/// The order is what keeps a Service from the node's own ports: addresses of the node change, and only the
/// kernel knows them all.
#[test]
fn the_nodes_own_ports_come_before_what_users_wrote() {
    let text = Model::new(node()).table().to_string();
    let chain = |name: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| *line != format!("chain {name}")).skip(1);
        lines.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
    };
    let own = "meta nfproto ipv4 tcp dport 6443 fib daddr type local return";
    let ranges = "meta nfproto ipv4 tcp dport 30000-32767 fib daddr type local return";
    let at = |rules: &[String], wanted: &str| {
        let place = rules.iter().position(|rule| rule.ends_with(wanted));
        place.unwrap_or_else(|| panic!("no {wanted} in {rules:#?}"))
    };
    let service = chain("service4");
    let users = service.iter().rposition(|rule| rule.ends_with("vmap @external4")).unwrap();
    let balanced =
        service.iter().rposition(|rule| rule.ends_with("vmap @balancer-ports4")).unwrap();
    assert!(users < balanced && balanced + 1 == service.len());
    for first in [own, "vmap @node-ports4", "map @host-address-ports4", "map @host-ports4", ranges]
    {
        assert!(at(&service, first) < users, "{first}\n{service:#?}");
    }
    for others in ["vmap @node-ports4", "map @host-ports4"] {
        assert!(at(&service, own) < at(&service, others));
    }
    let refused = chain("refused4");
    let users = at(&refused, "vmap @refused4");
    assert!(at(&refused, own) < users && at(&refused, ranges) < users, "{refused:#?}");
    assert!(at(&refused, "@refused-node-ports4") < at(&refused, ranges));
}

#[test]
fn a_cluster_dns_of_ones_own_takes_over_while_it_has_endpoints() {
    let mut model = Model::new(node());
    let ours = model.table().to_string();
    let ports = json!([{"name": "web", "protocol": "UDP", "port": 53}]);
    model.set_service(&service("kube-dns", "10.43.0.10", json!({"ports": ports})));
    assert!(model.changes().is_empty());
    model.set_slice(&slice("kube-dns", "UDP", &["10.42.0.2", "10.42.0.3"]));
    check(
        &mut model,
        "+ chain balance4-2
         - services4 10.43.0.10 . udp . 53 : goto balance4-1
         - endpoints4 10.43.0.10 . udp . 53 . 0 : 10.42.0.1 . 10053
         = chain balance4-2
           meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints4
         + services4 10.43.0.10 . udp . 53 : goto balance4-2
         + endpoints4 10.43.0.10 . udp . 53 . 0 : 10.42.0.2 . 8080
         + endpoints4 10.43.0.10 . udp . 53 . 1 : 10.42.0.3 . 8080
         + hairpin4 10.42.0.2 . 10.42.0.2
         + hairpin4 10.42.0.3 . 10.42.0.3",
    );
    model.set_slice(&slice("kube-dns", "UDP", &[]));
    model.changes();
    assert_eq!(model.table().to_string(), ours);
}

#[test]
fn node_ports_on_chosen_addresses_and_both_families() {
    let mut info = node();
    info.pod_cidrs.push("fd00:42::/64".parse().unwrap());
    info.cluster_cidrs.push("fd00:42::/56".parse().unwrap());
    info.node_port_cidrs = vec!["192.168.0.0/16".parse().unwrap()];
    info.masquerade_ipv6 = true;
    let text = Model::new(info).table().to_string();
    for line in [
        "meta nfproto ipv4 ip daddr 192.168.0.0/16 meta l4proto . th dport vmap @node-ports4",
        "meta nfproto ipv6 ip6 saddr fd00:42::/64 ip6 daddr != fd00:42::/56 ip6 daddr != ff00::/8 \
         oifname != \"cni0\" masquerade fully-random",
        "meta nfproto ipv4 ip saddr 10.42.0.0/24 ct state invalid drop",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line}\n{text}");
    }
    assert!(!text.contains("@node-ports6"));
}

#[test]
fn objects_of_any_shape_are_read_without_panic() {
    let mut prng = Prng::new(9);
    let mut model = Model::new(node());
    for _ in 0..4000 {
        let spec = json!({"type": "LoadBalancer", "clusterIPs": ["10.43.0.5", "fd00::5"],
            "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "healthCheckNodePort": 31000, "externalTrafficPolicy": "Local",
            "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
        let mut tree = service("web", "10.43.0.5", spec);
        tree["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
        let mut endpoints = slice("web", "TCP", &["10.42.0.2", "~10.42.0.3"]);
        for tree in [&mut tree, &mut endpoints] {
            for _ in 0..=prng.below(3) {
                mutate(tree, &mut prng);
            }
        }
        model.set_service(&tree);
        model.set_slice(&endpoints);
        model.changes();
        let _ = (model.health_checks(), model.take_changed_udp());
    }
    Kernel::load(&model.table());
}

/// Replaces one value somewhere in the tree.
fn mutate(tree: &mut Tree, prng: &mut Prng) {
    let odd = || {
        [
            json!(null),
            json!(-1),
            json!(1u64 << 40),
            json!("x"),
            json!([]),
            json!({}),
            json!(true),
            json!(["::1", "", 3]),
        ]
    };
    let n_children = match &*tree {
        Tree::Object(map) => map.len(),
        Tree::Array(list) => list.len(),
        _ => 0,
    };
    // Names stay, so that the objects meet.
    if n_children == 0 || prng.chance(15) {
        *tree = odd()[prng.below(8) as usize].clone();
        return;
    }
    let idx = prng.below(n_children as u64) as usize;
    match tree {
        Tree::Object(map) => {
            if let Some((key, value)) = map.iter_mut().nth(idx)
                && key != "metadata"
            {
                mutate(value, prng);
            }
        }
        Tree::Array(list) => mutate(&mut list[idx], prng),
        _ => {}
    }
}

#[test]
fn udp_changes_name_the_connections_to_forget() {
    let mut model = Model::new(node());
    let udp = json!({"type": "NodePort",
        "ports": [{"name": "web", "protocol": "UDP", "port": 53, "nodePort": 30053}]});
    model.set_service(&service("dns", "10.43.0.7", udp));
    model.set_slice(&slice("dns", "UDP", &["10.42.0.2"]));
    model.changes();
    let told: Vec<String> = model
        .take_changed_udp()
        .iter()
        .map(|f| format!("{:?} {} {:?}", f.address, f.port, f.endpoints))
        .collect();
    assert_eq!(told, ["Some(10.43.0.7) 53 [10.42.0.2:8080]", "None 30053 [10.42.0.2:8080]"]);
    model.set_slice(&slice("dns", "UDP", &["10.42.0.2"]));
    model.changes();
    assert!(model.take_changed_udp().is_empty());
    model.remove_service("ns", "dns");
    model.changes();
    assert!(model.take_changed_udp().iter().all(|f| f.endpoints.is_empty()));
}

/// What the kernel would hold, fed with changes as `net` applies them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kernel {
    chains: OrdMap<String, Vec<String>>,
    sets: OrdSet<String>,
    elements: OrdMap<String, String>,
}

impl Kernel {
    pub(crate) fn load(table: &Table) -> Kernel {
        let mut kernel = Kernel::default();
        let text = |rules: &[crate::table::Rule]| -> Vec<String> {
            rules.iter().map(|rule| format!("{rule:?}")).collect()
        };
        for (chain, _, rules) in &table.chains {
            assert!(kernel.chains.insert(chain.to_string(), text(rules)).is_none(), "{chain}");
        }
        kernel.sets.extend(table.client_sets.iter().map(|set| set.name.to_string()));
        for (set, key, value) in &table.elements {
            let known = kernel.elements.insert(format!("{} {key}", set.name()), value.to_string());
            assert!(known.is_none(), "{key} twice");
        }
        kernel
    }

    /// Refuses what the kernel would refuse.
    pub(crate) fn apply(&mut self, changes: &Changes) {
        for set in &changes.add_client_sets {
            assert!(self.sets.insert(set.name.to_string()), "set {} twice", set.name);
        }
        for chain in &changes.add_chains {
            assert!(self.chains.insert(chain.to_string(), Vec::new()).is_none(), "{chain} twice");
        }
        for (set, key, value) in &changes.delete_elements {
            let known = self.elements.remove(&format!("{} {key}", set.name()));
            assert_eq!(known, Some(value.to_string()), "delete {} {key}", set.name());
        }
        for (chain, rules) in &changes.set_rules {
            let place = self.chains.get_mut(&chain.to_string()).unwrap();
            *place = rules.iter().map(|rule| format!("{rule:?}")).collect();
        }
        for (set, key, value) in &changes.add_elements {
            let name = format!("{} {key}", set.name());
            assert!(self.elements.insert(name, value.to_string()).is_none(), "{key} twice");
        }
        for chain in &changes.delete_chains {
            assert!(self.chains.remove(&chain.to_string()).is_some(), "delete chain {chain}");
        }
        for set in &changes.delete_client_sets {
            assert!(self.sets.remove(&*set.name), "delete set {}", set.name);
        }
        // Whatever is referred to is there.
        for value in self.elements.values() {
            if let Some(chain) = value.strip_prefix(" : goto ") {
                assert!(self.chains.contains_key(chain), "{chain} is missing");
            }
        }
    }
}

#[test]
fn changes_always_add_up_to_the_whole() {
    for seed in 0..60 {
        let mut prng = Prng::new(seed);
        let mut model = Model::new(node());
        let mut kernel = Kernel::load(&model.table());
        for _ in 0..60 {
            for _ in 0..=prng.below(3) {
                random_step(&mut model, &mut prng);
            }
            kernel.apply(&model.changes());
            let whole = Kernel::load(&model.table());
            assert_eq!(kernel.elements, whole.elements, "seed {seed}");
            assert_eq!(kernel.chains, whole.chains, "seed {seed}");
            assert_eq!(kernel.sets, whole.sets, "seed {seed}");
        }
    }
}

fn random_step(model: &mut Model, prng: &mut Prng) {
    let n = prng.below(4);
    let name = format!("s{n}");
    let chance = |prng: &mut Prng| prng.chance(50);
    match prng.below(6) {
        0 => model.remove_service("ns", &name),
        1 => model.remove_slice("ns", &format!("{name}-1")),
        2 => {
            let ports = (0..prng.below(3)).map(|p| HostPort {
                host_ip: None,
                protocol: Protocol::Udp,
                host_port: 9000 + u16::try_from(prng.below(3)).unwrap(),
                target: SocketAddr::new([10, 42, 0, u8::try_from(p).unwrap()].into(), 80),
            });
            let ports: Vec<HostPort> = ports.collect();
            model.set_host_ports(ports);
        }
        3 => {
            let affine = if chance(prng) { "ClientIP" } else { "None" };
            let policy = |local| if local { "Local" } else { "Cluster" };
            // Node ports and external addresses are fought for on purpose.
            let tree = service(
                &name,
                &format!("10.43.0.{}", 20 + n),
                json!({
                    "type": (if chance(prng) { "NodePort" } else { "ClusterIP" }),
                    "sessionAffinity": affine,
                    "externalIPs": (if chance(prng) { json!(["192.0.2.1"]) } else { json!([]) }),
                    "internalTrafficPolicy": policy(chance(prng)),
                    "externalTrafficPolicy": policy(chance(prng)),
                    "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30000 + prng.below(2)}],
                }),
            );
            model.set_service(&tree);
        }
        _ => {
            let endpoints: Vec<String> = (0..prng.below(5))
                .map(|_| {
                    let state = ["", "", "~", "!"][prng.below(4) as usize];
                    format!("{state}10.42.{}.{}", prng.below(2), prng.below(5) + 2)
                })
                .collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            model.set_slice(&slice(&name, "TCP", &endpoints));
        }
    }
}

#[test]
fn names_follow_the_specification() {
    let mut model = Model::new(node());
    model.set_service(&service("web", "10.43.0.5", json!({})));
    model.set_service(&service("db", "None", json!({"clusterIPs": ["None"]})));
    let mut peers = slice("db", "TCP", &["10.42.0.7", "!10.42.0.8", "10.42.1.9"]);
    peers["endpoints"][0]["hostname"] = json!("db-0");
    model.set_slice(&peers);
    let no_ports = json!({"clusterIPs": ["None"], "ports": []});
    model.set_service(&service("bare", "None", no_ports.clone()));
    let mut peers = slice("bare", "TCP", &["10.42.0.11"]);
    peers["ports"] = json!([]);
    peers["endpoints"][0]["hostname"] = json!("bare-0");
    model.set_slice(&peers);
    model.set_service(&service("nobody", "None", no_ports));
    let alias = json!({"type": "ExternalName", "externalName": "Example.COM.", "clusterIP": ""});
    model.set_service(&service("alias", "", alias));
    model.changes();
    let zone =
        Zone { domain: "cluster.local".into(), servers: vec!["10.43.0.10".parse().unwrap()] };
    let ask = |name: &str, kind| match model.answer(
        &zone,
        name,
        kind,
        Some(&|namespace| namespace == "empty"),
    ) {
        Answer::Elsewhere => "elsewhere".to_owned(),
        Answer::NoName => "no name".to_owned(),
        Answer::Found { records, .. } => {
            let text = |data: &RecordData| match data {
                RecordData::Address(ip) => ip.to_string(),
                RecordData::Alias(name) | RecordData::Pointer(name) => name.clone(),
                RecordData::Service { weight, port, target, .. } => {
                    format!("{weight} {port} {target}")
                }
                other => format!("{other:?}"),
            };
            records.iter().map(|r| text(&r.data)).collect::<Vec<_>>().join(", ")
        }
    };
    use RecordKind::{A, Aaaa, Ptr, Srv};
    for (name, kind, expected) in [
        ("example.com", A, "elsewhere"),
        ("cluster.local.example", A, "elsewhere"),
        ("xcluster.local", A, "elsewhere"),
        ("web.ns.svc.cluster.local", A, "10.43.0.5"),
        ("web.ns.svc.cluster.local", Aaaa, ""),
        ("web.ns.svc.cluster.local", Srv, "100 80 web.ns.svc.cluster.local"),
        ("_web._tcp.web.ns.svc.cluster.local", Srv, "100 80 web.ns.svc.cluster.local"),
        ("_web._udp.web.ns.svc.cluster.local", Srv, "no name"),
        ("_tcp.web.ns.svc.cluster.local", A, ""),
        ("db.ns.svc.cluster.local", A, "10.42.0.7, 10.42.1.9"),
        ("db-0.db.ns.svc.cluster.local", A, "10.42.0.7"),
        ("10-42-0-7.db.ns.svc.cluster.local", A, "no name"),
        ("10-42-0-8.db.ns.svc.cluster.local", A, "no name"),
        ("10-42-1-9.db.ns.svc.cluster.local", A, "10.42.1.9"),
        (
            "_web._tcp.db.ns.svc.cluster.local",
            Srv,
            "50 8080 db-0.db.ns.svc.cluster.local, 50 8080 10-42-1-9.db.ns.svc.cluster.local",
        ),
        ("alias.ns.svc.cluster.local", A, "example.com"),
        ("bare.ns.svc.cluster.local", A, "10.42.0.11"),
        ("bare.ns.svc.cluster.local", Srv, ""),
        ("bare.ns.svc.cluster.local", RecordKind::Txt, ""),
        ("bare-0.bare.ns.svc.cluster.local", Srv, ""),
        ("bare-0.bare.ns.svc.cluster.local", Aaaa, ""),
        ("bare-1.bare.ns.svc.cluster.local", Srv, "no name"),
        ("_web._tcp.bare.ns.svc.cluster.local", Srv, "no name"),
        ("nobody.ns.svc.cluster.local", A, "no name"),
        ("nobody.ns.svc.cluster.local", Srv, "no name"),
        ("web.ns.svc.cluster.local", RecordKind::Txt, ""),
        ("web.ns.svc.cluster.local", RecordKind::Other, ""),
        ("x.web.ns.svc.cluster.local", A, "no name"),
        ("_web._tcp.web.ns.svc.cluster.local", A, ""),
        ("_web._tcp.web.ns.svc.cluster.local", RecordKind::Txt, ""),
        ("svc.cluster.local", Srv, ""),
        ("pod.cluster.local", A, ""),
        ("cluster.local", A, ""),
        ("ns.pod.cluster.local", A, ""),
        ("other.pod.cluster.local", A, "no name"),
        ("1-2-3-4.ns.pod.cluster.local", Aaaa, ""),
        ("nonsense.cluster.local", A, "no name"),
        ("5.0.43.10.in-addr.arpa", Ptr, "web.ns.svc.cluster.local"),
        ("7.0.42.10.in-addr.arpa", Ptr, "db-0.db.ns.svc.cluster.local"),
        ("8.0.42.10.in-addr.arpa", Ptr, "no name"),
        ("1.1.1.1.in-addr.arpa", Ptr, "elsewhere"),
        ("ns.svc.cluster.local", A, ""),
        ("other.svc.cluster.local", A, "no name"),
        ("empty.svc.cluster.local", A, ""),
        ("empty.pod.cluster.local", A, ""),
        ("web.empty.svc.cluster.local", A, "no name"),
        ("1-2-3-4.empty.pod.cluster.local", A, "1.2.3.4"),
        ("1-2-3-4.other.pod.cluster.local", A, "no name"),
        ("1-2-3-4.ns.pod.cluster.local", A, "1.2.3.4"),
        ("x.ns.pod.cluster.local", A, "no name"),
        ("a.b.c.d.e.f.g.svc.cluster.local", A, "no name"),
        ("ns.dns.cluster.local", A, "10.43.0.10"),
    ] {
        assert_eq!(ask(name, kind), expected, "{name} {kind:?}");
    }
}
