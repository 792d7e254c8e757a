//! Policies as verdicts and as changes of rules, in tables.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use serde_json::{Value as Tree, json};
use stdx::{OrdMap, prng::Prng};

use crate::Protocol;
use crate::model::{Model, Name, PolicyObject};
use crate::tests::{Kernel, node};

fn pod(labels: Tree, ip: &str) -> Tree {
    json!({
        "metadata": {"labels": labels},
        "spec": {"containers": [{"ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}

/// Of node `n1` are `10.42.0.2` (a/web), `.3` (a/db), `.4` (b/client) and `.9`, of which nothing else is known.
fn world() -> Model {
    let mut model = Model::new(node());
    model.set_policies(true);
    for (name, labels) in [("a", json!({"team": "a"})), ("b", json!({"team": "b"}))] {
        let tree = json!({"metadata": {"labels": labels}});
        model.set_policy_object(PolicyObject::Namespace, "", name, Some(&tree));
    }
    let mut add = |namespace: &str, name: &str, tree: &Tree| {
        model.set_policy_object(PolicyObject::Pod, namespace, name, Some(tree));
    };
    add("a", "web", &pod(json!({"app": "web"}), "10.42.0.2"));
    add("a", "db", &pod(json!({"app": "db"}), "10.42.0.3"));
    add("b", "client", &pod(json!({"app": "client"}), "10.42.0.4"));
    add("b", "far", &pod(json!({"app": "client", "far": "yes"}), "10.42.1.5"));
    let mut other = pod(json!({"app": "client", "port": "other"}), "10.42.1.6");
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    add("b", "other", &other);
    let mut host = pod(json!({"app": "client"}), "10.42.1.7");
    host["spec"]["hostNetwork"] = json!(true);
    add("b", "host", &host);
    let mut done = pod(json!({"app": "client"}), "10.42.1.8");
    done["status"]["phase"] = json!("Succeeded");
    add("b", "done", &done);
    let local = [("2", "a", "web"), ("3", "a", "db"), ("4", "b", "client"), ("9", "b", "new")];
    model.set_local_pods(&local_pods(&local));
    model
}

fn local_pods(all: &[(&str, &str, &str)]) -> OrdMap<IpAddr, Name> {
    let one = |(last, namespace, name): &(&str, &str, &str)| {
        let address = format!("10.42.0.{last}").parse().unwrap();
        (address, ((*namespace).into(), (*name).into()))
    };
    all.iter().map(one).collect()
}

fn set(model: &mut Model, namespace: &str, name: &str, spec: Tree) {
    let tree = json!({"spec": spec});
    model.set_policy_object(PolicyObject::Policy, namespace, name, Some(&tree));
}

/// `10.42.0.4 > 10.42.0.2:8080/TCP`.
fn allows(model: &Model, text: &str) -> bool {
    let (source, to) = text.split_once(" > ").unwrap();
    let (to, protocol) = to.split_once('/').unwrap();
    let (source, to): (IpAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
    let mut left = vec![(Protocol::from_name(protocol).unwrap(), source, to)];
    model.retain_forbidden(&mut left, |connection| *connection);
    left.is_empty()
}

#[test]
fn what_policies_allow() {
    let ingress =
        |rules: Tree| json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules});
    let egress =
        |rules: Tree| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules});
    let far = json!({"podSelector": {"matchLabels": {"far": "yes"}}, "namespaceSelector": {}});
    for (what, policies, allowed, refused) in [
        (
            "no policy",
            vec![],
            "10.42.0.4 > 10.42.0.2:80/TCP, 8.8.8.8 > 10.42.0.2:1/UDP",
            "10.42.1.5 > 10.42.0.9:80/TCP",
        ),
        (
            "default deny of what comes in",
            vec![ingress(json!([]))],
            "10.42.0.2 > 10.42.0.4:80/TCP, 10.42.0.2 > 10.42.0.2:80/TCP, 10.42.0.2 > 8.8.8.8:53/UDP",
            "10.42.0.3 > 10.42.0.2:80/TCP, 10.42.0.4 > 10.42.0.3:80/TCP, 8.8.8.8 > 10.42.0.2:80/TCP",
        ),
        (
            "all that comes in",
            vec![ingress(json!([{}]))],
            "10.42.0.3 > 10.42.0.2:80/TCP, 8.8.8.8 > 10.42.0.2:80/SCTP",
            "",
        ),
        (
            "default deny of what goes out",
            vec![egress(json!([]))],
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.0.2 > 10.42.0.2:80/TCP",
            "10.42.0.2 > 10.42.0.4:80/TCP, 10.42.0.2 > 10.42.0.3:80/TCP, 10.42.0.2 > 8.8.8.8:53/UDP",
        ),
        (
            "pods of the own namespace",
            vec![ingress(json!([{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]))],
            "10.42.0.3 > 10.42.0.2:80/TCP",
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.0.2 > 10.42.0.3:80/TCP",
        ),
        (
            "namespaces by label",
            vec![ingress(
                json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]),
            )],
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.1.5 > 10.42.0.2:80/TCP",
            "10.42.0.3 > 10.42.0.2:80/TCP, 10.42.1.7 > 10.42.0.2:80/TCP, 10.42.1.8 > 10.42.0.2:80/TCP",
        ),
        (
            "pods of other namespaces",
            vec![ingress(json!([{"from": [far]}]))],
            "10.42.1.5 > 10.42.0.2:80/TCP",
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.0.3 > 10.42.0.2:80/TCP",
        ),
        (
            "two peers, two ports",
            vec![ingress(json!([{"from": [far, {"podSelector": {"matchLabels": {"app": "db"}}}],
                "ports": [{"port": 80}, {"protocol": "UDP", "port": 53}]}]))],
            "10.42.1.5 > 10.42.0.2:80/TCP, 10.42.0.3 > 10.42.0.2:53/UDP",
            "10.42.1.5 > 10.42.0.2:80/UDP, 10.42.0.3 > 10.42.0.2:53/TCP, 10.42.0.4 > 10.42.0.2:80/TCP",
        ),
        (
            "ranges of ports, and all of a protocol",
            vec![ingress(json!([{"ports": [{"port": 80, "endPort": 90}, {"protocol": "SCTP"}]}]))],
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.0.4 > 10.42.0.2:90/TCP, 10.42.0.4 > 10.42.0.2:7/SCTP",
            "10.42.0.4 > 10.42.0.2:79/TCP, 10.42.0.4 > 10.42.0.2:91/TCP, 10.42.0.4 > 10.42.0.2:85/UDP",
        ),
        (
            "ports by name",
            vec![ingress(
                json!([{"ports": [{"port": "http"}, {"protocol": "UDP", "port": "dns"}]}]),
            )],
            "10.42.0.4 > 10.42.0.2:8080/TCP, 10.42.0.4 > 10.42.0.2:5353/UDP",
            "10.42.0.4 > 10.42.0.2:8080/UDP, 10.42.0.4 > 10.42.0.2:9090/TCP",
        ),
        (
            "ports by name of whom it goes to",
            vec![egress(json!([{"to": [{"namespaceSelector": {}}], "ports": [{"port": "http"}]}]))],
            "10.42.0.2 > 10.42.1.5:8080/TCP, 10.42.0.2 > 10.42.1.6:9090/TCP",
            "10.42.0.2 > 10.42.1.5:9090/TCP, 10.42.0.2 > 10.42.1.6:8080/TCP, 10.42.0.2 > 8.8.8.8:8080/TCP",
        ),
        (
            "blocks with exceptions",
            vec![egress(
                json!([{"to": [{"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.1.0/29"]}},
                {"ipBlock": {"cidr": "8.8.8.0/24"}}]}]),
            )],
            "10.42.0.2 > 10.42.0.4:80/TCP, 10.42.0.2 > 10.42.1.8:80/TCP, 10.42.0.2 > 8.8.8.255:1/UDP",
            "10.42.0.2 > 10.42.1.5:80/TCP, 10.42.0.2 > 8.8.9.0:1/UDP, 10.42.0.2 > 10.43.0.1:1/UDP",
        ),
        (
            "a rule that names nobody who is there",
            vec![ingress(json!([{"from": [{"podSelector": {"matchLabels": {"app": "none"}}}]}]))],
            "",
            "10.42.0.3 > 10.42.0.2:80/TCP",
        ),
        (
            "policies add up",
            vec![
                ingress(json!([])),
                ingress(json!([{"ports": [{"port": 80}]}])),
                json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": 81}]}]}),
            ],
            "10.42.0.4 > 10.42.0.2:80/TCP, 10.42.0.4 > 10.42.0.3:81/TCP, 10.42.0.4 > 10.42.0.3:80/TCP",
            "10.42.0.4 > 10.42.0.2:81/TCP",
        ),
        (
            "both ends are asked",
            vec![
                egress(json!([{"to": [{"podSelector": {}}]}])),
                ingress(json!([{"ports": [{"port": 80}]}])),
            ],
            "10.42.0.2 > 10.42.0.3:80/TCP",
            "10.42.0.2 > 10.42.0.3:81/TCP, 10.42.0.2 > 10.42.0.4:80/TCP",
        ),
    ] {
        let mut model = world();
        for (idx, spec) in policies.into_iter().enumerate() {
            set(&mut model, "a", &format!("p{idx}"), spec);
        }
        for (list, expected) in [(allowed, true), (refused, false)] {
            for text in list.split(", ").filter(|text| !text.is_empty()) {
                assert_eq!(allows(&model, text), expected, "{what}: {text}");
            }
        }
    }
}

#[test]
fn verdicts_follow_pods_namespaces_and_policies() {
    let mut model = world();
    let from_b = json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]);
    set(&mut model, "a", "p", json!({"podSelector": {}, "ingress": from_b}));
    model.take_policies_changed();
    let way = "10.42.0.4 > 10.42.0.2:80/TCP";
    assert!(allows(&model, way));
    let tree = json!({"metadata": {"labels": {"team": "c"}}});
    model.set_policy_object(PolicyObject::Namespace, "", "b", Some(&tree));
    assert!(!allows(&model, way) && model.take_policies_changed());
    let tree = json!({"metadata": {"labels": {"team": "b"}}});
    model.set_policy_object(PolicyObject::Namespace, "", "b", Some(&tree));
    assert!(allows(&model, way) && !model.take_policies_changed());
    // A pod is known by the address that it was given before its status says it.
    let unnamed = pod(json!({}), "");
    assert!(!allows(&model, "10.42.0.9 > 10.42.0.2:80/TCP"));
    model.set_policy_object(PolicyObject::Pod, "b", "new", Some(&unnamed));
    assert!(allows(&model, "10.42.0.9 > 10.42.0.2:80/TCP"));
    model.set_policy_object(PolicyObject::Pod, "b", "new", None);
    assert!(!allows(&model, "10.42.0.9 > 10.42.0.4:80/TCP"));
    let changed = json!({"podSelector": {"matchLabels": {"app": "db"}}});
    set(&mut model, "a", "p", changed);
    assert!(allows(&model, "10.42.1.7 > 10.42.0.2:80/TCP"));
    assert!(!allows(&model, "10.42.0.4 > 10.42.0.3:80/TCP"));
    model.set_policy_object(PolicyObject::Policy, "a", "p", None);
    assert!(allows(&model, "10.42.0.4 > 10.42.0.3:80/TCP"));
    model.set_policies(false);
    model.changes();
    assert_eq!(model.table().to_string(), Model::new(node()).table().to_string());
}

#[test]
fn a_pod_changes_only_what_is_its_own() {
    let mut model = world();
    let web = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [
        {"podSelector": {"matchLabels": {"app": "db"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
        "ports": [{"port": 80}, {"port": "http"}]}]});
    set(&mut model, "a", "p", web);
    let text = model.changes().to_string();
    let trimmed: Vec<&str> = text.lines().map(str::trim).collect();
    let wanted = "= chain policy-ingress-4
        meta nfproto ipv4 6 . ip saddr @policy-peers4 jump policy-ingress-4-1
        meta nfproto ipv4 8 . ip saddr @policy-blocks4 jump policy-ingress-4-1
        = chain policy-ingress-4-1
        tcp dport 80 accept
        meta nfproto ipv4 ip daddr . meta l4proto . th dport . 10 @policy-ports4 accept
        = chain isolated-ingress-12
        jump policy-ingress-4
        goto refuse";
    let wanted: Vec<&str> = wanted.lines().map(str::trim).collect();
    let found = trimmed.windows(wanted.len()).any(|lines| lines == wanted);
    assert!(found, "found:\n{text}");
    let check = |model: &mut Model, expected: &str| {
        let found = model.changes().to_string();
        let trim = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        assert_eq!(trim(&found), trim(expected));
    };
    let far = pod(json!({"app": "db"}), "10.42.1.9");
    model.set_policy_object(PolicyObject::Pod, "a", "db-2", Some(&far));
    check(
        &mut model,
        "+ policy-peers4 6 . 10.42.1.9
         + policy-ports4 10.42.1.9 . tcp . 8080 . 10",
    );
    let near = pod(json!({"app": "web"}), "10.42.0.7");
    model.set_policy_object(PolicyObject::Pod, "a", "web-2", Some(&near));
    check(&mut model, "+ policy-ports4 10.42.0.7 . tcp . 8080 . 10");
    let mut local = local_pods(&[("2", "a", "web"), ("3", "a", "db"), ("4", "b", "client")]);
    local.extend(local_pods(&[("7", "a", "web-2")]));
    model.set_local_pods(&local);
    check(
        &mut model,
        "+ hairpin4 10.42.0.7 . 10.42.0.7
         + policy-egress4 10.42.0.7 : goto policy-open
         + policy-ingress4 10.42.0.7 : goto isolated-ingress-12",
    );
}

#[test]
fn changes_of_policies_always_add_up_to_the_whole() {
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let mut model = world();
        let mut kernel = Kernel::load(&Model::new(node()).table());
        for _ in 0..60 {
            for _ in 0..=prng.below(3) {
                random_step(&mut model, &mut prng);
            }
            kernel.apply(&model.changes());
            assert_eq!(kernel, Kernel::load(&model.table()), "seed {seed}");
        }
        model.set_policies(false);
        kernel.apply(&model.changes());
        assert_eq!(kernel, Kernel::load(&Model::new(node()).table()), "seed {seed}");
    }
}

fn random_step(model: &mut Model, prng: &mut Prng) {
    let n = prng.below(4);
    let name = format!("o{n}");
    let namespace = ["a", "b"][prng.below(2) as usize];
    let label = |prng: &mut Prng| json!({"app": (["web", "db", "client"][prng.below(3) as usize])});
    match prng.below(7) {
        0 => {
            let tree = json!({"metadata": {"labels": {"team": namespace, "n": n.to_string()}}});
            let tree = prng.chance(80).then_some(&tree);
            model.set_policy_object(PolicyObject::Namespace, "", namespace, tree);
        }
        1 => {
            let all = [("2", "a", "web"), ("3", "a", "db"), ("4", "b", "o1"), ("5", "a", "o2")];
            let some: Vec<_> = all.into_iter().filter(|_| prng.chance(60)).collect();
            model.set_local_pods(&local_pods(&some));
        }
        2 | 3 => {
            let tree = pod(label(prng), &format!("10.42.{}.{}", prng.below(2), prng.below(4) + 2));
            let tree = prng.chance(70).then_some(&tree);
            model.set_policy_object(PolicyObject::Pod, namespace, &name, tree);
        }
        4 => model.set_policy_object(PolicyObject::Policy, namespace, &name, None),
        _ => {
            let peer = match prng.below(3) {
                0 => json!({"podSelector": {"matchLabels": label(prng)}}),
                1 => json!({"namespaceSelector": {"matchLabels": {"n": n.to_string()}}}),
                _ => json!({"ipBlock": {"cidr": "10.42.0.0/24", "except": ["10.42.0.2/32"]}}),
            };
            let ports = [json!([]), json!([{"port": "http"}, {"port": 1}]), json!([{"port": 2}])];
            let rules = json!([{"from": [peer.clone(), {"podSelector": {}}], "to": [peer], "ports": (ports[prng.below(3) as usize].clone())}]);
            let types = [json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])];
            let spec = json!({"podSelector": {"matchLabels": label(prng)}, "ingress": rules, "egress": rules,
                "policyTypes": (types[prng.below(3) as usize].clone())});
            set(model, namespace, &name, spec);
        }
    }
}

#[test]
fn a_thousand_policies_and_pods() {
    let mut model = Model::new(node());
    model.set_policies(true);
    let local: OrdMap<IpAddr, Name> = (0..110u8)
        .map(|n| ([10, 42, 0, n + 2].into(), ("ns".into(), format!("p{n}").into())))
        .collect();
    model.set_local_pods(&local);
    let tree = json!({"metadata": {"labels": {}}});
    model.set_policy_object(PolicyObject::Namespace, "", "ns", Some(&tree));
    for n in 0..1000 {
        let tree = pod(
            json!({"app": (n % 100).to_string()}),
            &format!("10.42.{}.{}", n / 250, n % 250 + 2),
        );
        model.set_policy_object(PolicyObject::Pod, "ns", &format!("p{n}"), Some(&tree));
    }
    for n in 0..1000 {
        let app = |n: u32| json!({"matchLabels": {"app": (n % 100).to_string()}});
        let spec = json!({"podSelector": app(n), "ingress": [{"from": [{"podSelector": app(n + 1)}], "ports": [{"port": n + 1}]}]});
        set(&mut model, "ns", &format!("n{n}"), spec);
    }
    model.changes();
    let started = Instant::now();
    let tree = pod(json!({"app": "7"}), "10.42.9.9");
    model.set_policy_object(PolicyObject::Pod, "ns", "new", Some(&tree));
    let changes = model.changes();
    println!("one pod of a thousand: {:?}", started.elapsed());
    assert_eq!((changes.add_elements.len(), changes.set_rules.len()), (1, 0));
}
