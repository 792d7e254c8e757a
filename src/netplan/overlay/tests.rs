//! What is believed of Nodes, and what this one says.

use super::*;

const DATA: &str = "flannel.alpha.coreos.com/backend-data";
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";

fn own(backend: Backend) -> Nodes {
    let cidr = |text: &str| vec![text.parse().unwrap()];
    Nodes::new(Own {
        node_name: "me".into(),
        backend,
        settings: Settings::default(),
        ipv6: false,
        pod_cidrs: cidr("10.42.0.0/24"),
        cluster_cidrs: cidr("10.42.0.0/16"),
        service_cidrs: cidr("10.42.240.0/20"),
        external: None,
    })
}

fn here() -> Here {
    Here {
        address: "192.0.2.10".parse().ok(),
        addresses: vec![
            ("192.0.2.10".parse().unwrap(), 24),
            ("10.42.0.1".parse().unwrap(), 24),
            ("10.42.99.9".parse().unwrap(), 32),
        ],
        on_link: vec!["192.0.2.0/24".parse().unwrap()],
    }
}

/// A Node as a stock flannel writes it: name, age, pod range, public address, hardware address.
fn node(name: &str, second: u32, block: &str, address: &str, mac: &str) -> Value {
    json!({
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"), "annotations": {
            MANAGED: "true", TYPE: "vxlan", PUBLIC_IP: address,
            DATA: format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#),
        }},
        "spec": {"podCIDR": block, "podCIDRs": [block]},
    })
}

fn verdict(nodes: &Nodes) -> String {
    let (peers, refused) = nodes.peers(&here());
    let peers = peers.iter().map(|p| format!("{} by {} {}", p.block, p.address, Mac(p.end.mac())));
    peers
        .chain(refused.iter().map(|(name, why)| format!("{name}: {why}")))
        .collect::<Vec<_>>()
        .join("; ")
}

const MAC: &str = "5e:1f:00:00:00:02";

#[test]
fn what_nodes_say_of_themselves_is_looked_at() {
    for (block, address, mac, expected) in [
        ("10.42.1.0/24", "192.0.2.11", MAC, "10.42.1.0/24 by 192.0.2.11 5e:1f:00:00:00:02"),
        ("10.42.1.0/24", "203.0.113.7", MAC, "10.42.1.0/24 by 203.0.113.7 5e:1f:00:00:00:02"),
        (
            "10.42.0.128/25",
            "192.0.2.11",
            MAC,
            "n: its pod range 10.42.0.128/25 overlaps this node's",
        ),
        ("10.42.0.0/16", "192.0.2.11", MAC, "n: its pod range 10.42.0.0/16 overlaps this node's"),
        ("0.0.0.0/0", "192.0.2.11", MAC, "n: its pod range 0.0.0.0/0 is outside the cluster's"),
        (
            "192.0.2.0/24",
            "192.0.2.11",
            MAC,
            "n: its pod range 192.0.2.0/24 is outside the cluster's",
        ),
        (
            "10.42.241.0/24",
            "192.0.2.11",
            MAC,
            "n: its pod range 10.42.241.0/24 overlaps the services'",
        ),
        (
            "10.42.99.0/24",
            "192.0.2.11",
            MAC,
            "n: its pod range 10.42.99.0/24 holds the address 10.42.99.9 of this node",
        ),
        ("10.42.1.0/24", "127.0.0.1", MAC, "n: its address 127.0.0.1 is no machine's"),
        ("10.42.1.0/24", "169.254.169.254", MAC, "n: its address 169.254.169.254 is no machine's"),
        ("10.42.1.0/24", "224.0.0.1", MAC, "n: its address 224.0.0.1 is no machine's"),
        ("10.42.1.0/24", "255.255.255.255", MAC, "n: its address 255.255.255.255 is no machine's"),
        (
            "10.42.1.0/24",
            "192.0.2.255",
            MAC,
            "n: its address 192.0.2.255 is that of a whole network",
        ),
        ("10.42.1.0/24", "192.0.2.10", MAC, "n: its address 192.0.2.10 is this node's"),
        ("10.42.1.0/24", "10.42.7.7", MAC, "n: its address 10.42.7.7 is a pod's or a service's"),
        ("10.42.1.0/24", "fd00::1", MAC, "n: its address is \"fd00::1\""),
        (
            "10.42.1.0/24",
            "192.0.2.11",
            "01:00:5e:00:00:01",
            "n: its hardware address 01:00:5e:00:00:01 is no machine's",
        ),
        (
            "10.42.1.0/24",
            "192.0.2.11",
            "ff:ff:ff:ff:ff:ff",
            "n: its hardware address ff:ff:ff:ff:ff:ff is no machine's",
        ),
        (
            "10.42.1.0/24",
            "192.0.2.11",
            "00:00:00:00:00:00",
            "n: its hardware address 00:00:00:00:00:00 is no machine's",
        ),
        (
            "10.42.1.0/24",
            "192.0.2.11",
            "0a:58:0a:2a:00:00",
            "n: its hardware address 0a:58:0a:2a:00:00 is this node's",
        ),
        (
            "10.42.1.0/24",
            "192.0.2.11",
            "5e:1f",
            "n: its backend-data is \"{\\\"VNI\\\":1,\\\"VtepMAC\\\":\\\"5e:1f\\\"}\"",
        ),
        ("fd00::/64", "192.0.2.11", MAC, ""),
        ("nonsense", "192.0.2.11", MAC, ""),
    ] {
        let mut nodes = own(Backend::Vxlan);
        nodes.set(&node("n", 1, block, address, mac));
        assert_eq!(verdict(&nodes), expected, "{block} {address} {mac}");
    }
    for (key, value, expected) in [
        (TYPE, "host-gw", "n: its backend is \"host-gw\", not vxlan"),
        (
            DATA,
            r#"{"VNI":2,"VtepMAC":"5e:1f:00:00:00:02"}"#,
            "n: its backend-data is \"{\\\"VNI\\\":2,\\\"VtepMAC\\\":\\\"5e:1f:00:00:00:02\\\"}\", and VNI 1 is wanted",
        ),
        (DATA, "null", "n: its backend-data is \"null\", and VNI 1 is wanted"),
        (MANAGED, "false", ""),
    ] {
        let mut nodes = own(Backend::Vxlan);
        let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
        tree["metadata"]["annotations"][key] = value.into();
        nodes.set(&tree);
        assert_eq!(verdict(&nodes), expected, "{key} {value}");
    }
    let mut nodes = own(Backend::Vxlan);
    let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
    tree["metadata"]["annotations"][DATA] = "[".repeat(100_000).into();
    nodes.set(&tree);
    assert_eq!(nodes.peers(&here()).1[0].1.len(), "its backend-data is \"\"".len() + 64);
}

#[test]
fn the_older_node_keeps_what_a_younger_one_claims() {
    let old = node("z-old", 1, "10.42.1.0/24", "192.0.2.11", MAC);
    let wide = node("a-wide", 2, "10.42.0.0/17", "192.0.2.12", "5e:1f:00:00:00:03");
    let inner = node("b-inner", 3, "10.42.1.128/25", "192.0.2.12", "5e:1f:00:00:00:04");
    let thief = node("c-thief", 4, "10.42.4.0/24", "192.0.2.13", MAC);
    let renamed = node("d-renamed", 5, "10.42.5.0/24", "192.0.2.11", MAC);
    let expected = "10.42.1.0/24 by 192.0.2.11 5e:1f:00:00:00:02; 10.42.5.0/24 by 192.0.2.11 5e:1f:00:00:00:02; \
        a-wide: its pod range 10.42.0.0/17 overlaps this node's; \
        b-inner: its pod range 10.42.1.128/25 overlaps that of node z-old; \
        c-thief: its hardware address 5e:1f:00:00:00:02 is that of node z-old";
    let all = [&old, &wide, &inner, &thief, &renamed];
    for first in 0..all.len() {
        let mut nodes = own(Backend::Vxlan);
        for idx in 0..all.len() {
            assert!(nodes.set(all[(first + idx) % all.len()]));
        }
        assert!(!nodes.set(&old), "nothing new");
        assert_eq!(verdict(&nodes), expected, "whatever comes first");
    }
    let mut nodes = own(Backend::Vxlan);
    for tree in all {
        nodes.set(tree);
    }
    assert!(nodes.remove("z-old") && !nodes.remove("z-old"));
    assert!(verdict(&nodes).contains("10.42.1.128/25 by 192.0.2.12"));
    assert!(nodes.retain(&["a-wide", "b-inner"]) && !nodes.retain(&["a-wide", "b-inner"]));
    assert_eq!(nodes.claims.len(), 2);
}

#[test]
fn neighbours_only_for_host_gw() {
    let mut nodes = own(Backend::HostGw);
    let mut told = |name: &str, address: &str, block: &str| {
        let mut tree = node(name, 1, block, address, MAC);
        tree["metadata"]["annotations"][TYPE] = "host-gw".into();
        tree["metadata"]["annotations"][DATA] = "null".into();
        nodes.set(&tree);
    };
    told("near", "192.0.2.11", "10.42.1.0/24");
    told("far", "203.0.113.7", "10.42.2.0/24");
    assert_eq!(
        verdict(&nodes),
        "10.42.1.0/24 by 192.0.2.11 00:00:00:00:00:00; far: its address 203.0.113.7 is not in the network of \
         this node's interface, as --flannel-backend=host-gw needs it"
    );
    assert_eq!(nodes.peers(&Here::default()), (Vec::new(), Vec::new()), "no address, no entries");
}

#[test]
fn pods_of_ipv6_have_ways_of_their_own() {
    let six = |backend: Backend, pod_cidr: &str| {
        let cidr = |text: &str| text.parse().unwrap();
        Nodes::new(Own {
            node_name: "me".into(),
            backend,
            settings: Settings::default(),
            ipv6: true,
            pod_cidrs: vec![cidr("10.42.0.0/24"), cidr(pod_cidr)],
            cluster_cidrs: vec![cidr("10.42.0.0/16"), cidr("fd42::/56")],
            service_cidrs: vec![cidr("10.43.0.0/16"), cidr("fd43::/112")],
            external: None,
        })
    };
    let here = Here {
        address: "fd00::10".parse().ok(),
        addresses: vec![("fd00::10".parse().unwrap(), 64), ("192.0.2.10".parse().unwrap(), 24)],
        on_link: vec!["fd00::/64".parse().unwrap()],
    };
    let told = |backend: Backend, address: &str, block: &str| {
        let mut tree = node("n", 1, "10.42.1.0/24", "192.0.2.11", MAC);
        let notes = &mut tree["metadata"]["annotations"];
        notes[TYPE] = backend.name().into();
        notes["flannel.alpha.coreos.com/public-ipv6"] = address.into();
        notes["flannel.alpha.coreos.com/backend-v6-data"] =
            format!(r#"{{"VNI":1,"VtepMAC":"{MAC}"}}"#).into();
        tree["spec"]["podCIDRs"] = json!(["10.42.1.0/24", block]);
        tree
    };
    const BLOCK: &str = "fd42:0:0:1::/64";
    for (backend, address, block, expected) in [
        (Backend::Vxlan, "fd00::11", BLOCK, "fd42:0:0:1::/64 by fd00::11 5e:1f:00:00:00:02"),
        (
            Backend::Vxlan,
            "2001:db8:7::1",
            BLOCK,
            "fd42:0:0:1::/64 by 2001:db8:7::1 5e:1f:00:00:00:02",
        ),
        (
            Backend::Vxlan,
            "fd00::ffff:ffff:ffff:ffff",
            BLOCK,
            "fd42:0:0:1::/64 by fd00::ffff:ffff:ffff:ffff 5e:1f:00:00:00:02",
        ),
        (Backend::HostGw, "fd00::11", BLOCK, "fd42:0:0:1::/64 by fd00::11 5e:1f:00:00:00:02"),
        (
            Backend::HostGw,
            "2001:db8:7::1",
            BLOCK,
            "n: its address 2001:db8:7::1 is not in the network of this node's interface, as --flannel-backend=host-gw needs it",
        ),
        (Backend::Vxlan, "192.0.2.11", BLOCK, "n: its address is \"192.0.2.11\""),
        (Backend::Vxlan, "::ffff:192.0.2.11", BLOCK, "n: its address is \"::ffff:192.0.2.11\""),
        (Backend::Vxlan, "fe80::1", BLOCK, "n: its address fe80::1 is no machine's"),
        (Backend::Vxlan, "ff02::1", BLOCK, "n: its address ff02::1 is no machine's"),
        (Backend::Vxlan, "::1", BLOCK, "n: its address ::1 is no machine's"),
        (Backend::Vxlan, "fd00::10", BLOCK, "n: its address fd00::10 is this node's"),
        (Backend::Vxlan, "fd00::", BLOCK, "n: its address fd00:: is that of a whole network"),
        (Backend::Vxlan, "fd42::9", BLOCK, "n: its address fd42::9 is a pod's or a service's"),
        (
            Backend::Vxlan,
            "fd00::11",
            "fd42::/60",
            "n: its pod range fd42::/60 overlaps this node's",
        ),
        (
            Backend::Vxlan,
            "fd00::11",
            "fd00::/64",
            "n: its pod range fd00::/64 is outside the cluster's",
        ),
        (Backend::Vxlan, "fd00::11", "10.42.2.0/24", ""),
    ] {
        let mut nodes = six(backend, "fd42::/64");
        nodes.set(&told(backend, address, block));
        let (peers, refused) = nodes.peers(&here);
        let mac = |peer: &Peer| {
            if backend == Backend::Vxlan { peer.end.mac() } else { [0x5e, 0x1f, 0, 0, 0, 2] }
        };
        let peers = peers.iter().map(|p| format!("{} by {} {}", p.block, p.address, Mac(mac(p))));
        let all: Vec<String> =
            peers.chain(refused.iter().map(|(name, why)| format!("{name}: {why}"))).collect();
        assert_eq!(all.join("; "), expected, "{address} {block}");
    }
    for (block, mac) in [
        ("fd42::/64", "0a:58:00:00:00:00"),
        ("fd42:0:0:ab::/64", "0a:58:00:00:00:ab"),
        ("fd42::7:0:0:0/80", "0a:58:00:00:00:07"),
        ("fd42::70/124", "0a:58:00:00:00:07"),
    ] {
        let nodes = six(Backend::Vxlan, block);
        assert_eq!(Mac(nodes.mac().unwrap()).to_string(), mac, "{block}");
    }
    let mut nodes = six(Backend::Vxlan, "fd42::/64");
    nodes.set(&json!({"metadata": {"name": "me"}}));
    assert_eq!(
        nodes.annotations(&here).unwrap(),
        json!({"metadata": {"annotations": {
            "flannel.alpha.coreos.com/backend-v6-data": "{\"VNI\":1,\"VtepMAC\":\"0a:58:00:00:00:00\"}",
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/public-ipv6": "fd00::10",
        }}})
    );
}

#[test]
fn the_nodes_own_annotations_are_flannels() {
    let mut nodes = own(Backend::Vxlan);
    assert_eq!(nodes.annotations(&here()), None, "its Node is not there yet");
    let mut tree = json!({"metadata": {"name": "me", "annotations": {"a": "b"}}});
    assert!(nodes.set(&tree));
    let patch = nodes.annotations(&here()).unwrap();
    let expected = json!({"metadata": {"annotations": {
        "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"0a:58:0a:2a:00:00\"}",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/public-ip": "192.0.2.10",
    }}});
    assert_eq!(patch, expected);
    tree["metadata"]["annotations"] = expected["metadata"]["annotations"].clone();
    assert!(nodes.set(&tree) && !nodes.set(&tree));
    assert_eq!(nodes.annotations(&here()), None);
    tree["metadata"]["annotations"][OVERWRITE] = "203.0.113.7".into();
    nodes.set(&tree);
    let patch = json!({"metadata": {"annotations": {PUBLIC_IP: "203.0.113.7"}}});
    assert_eq!(nodes.annotations(&here()), Some(patch));
    nodes.own.external = "198.51.100.1".parse().ok();
    let patch = json!({"metadata": {"annotations": {PUBLIC_IP: "198.51.100.1", OVERWRITE: "198.51.100.1"}}});
    assert_eq!(nodes.annotations(&here()), Some(patch));
    nodes.own.external = None;
    nodes.own.backend = Backend::HostGw;
    let patch = nodes.annotations(&here()).unwrap();
    assert_eq!(patch["metadata"]["annotations"][DATA], "null");
    assert!(nodes.remove("me"));
    assert_eq!(nodes.annotations(&here()), None);
}
