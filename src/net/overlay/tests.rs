//! The ways to other nodes, in network namespaces of this kernel.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use serde_json::json;
use sys::netlink::{Family, Netlink};
use wire::netlink::messages;

use super::*;

const DEVICE: &str = "flannel.1";

/// A node at 192.0.2.10, in a network namespace; skipped where none can be made.
fn in_a_namespace(name: &str, test: impl FnOnce(&mut World) + Send) {
    let path = std::env::temp_dir().join(format!("k3rs-overlay-{name}-{}", std::process::id()));
    let ran = sys::netns::run_in_new(|| {
        let test = std::panic::AssertUnwindSafe(|| test(&mut World::new(path.clone())));
        let result = std::panic::catch_unwind(test);
        let _ = sys::netns::delete(&path);
        result
    });
    match ran {
        Err(error) => println!("skipped, no network namespace can be made: {error}"),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Ok(Ok(())) => {}
    }
}

struct World {
    links: Links,
    node: NodeLink,
    events: Netlink,
    /// Where the other namespace is.
    directory: PathBuf,
}

impl World {
    fn new(path: PathBuf) -> World {
        let mut links = Links::open().unwrap();
        sys::netns::create(&path).unwrap();
        let other = rt::fs::open(&path).unwrap();
        let bridge = "br";
        links
            .change(String::new, &[], |w, s| rtnl::create_bridge(w, s, bridge, [2; 6], 1500))
            .unwrap();
        let veth = rtnl::Veth {
            name: "eth0",
            peer: "eth0",
            peer_netns: other.as_raw_fd(),
            peer_mac: [2; 6],
            mtu: 1500,
            master: links.find(bridge).unwrap().unwrap().index,
        };
        links.change(String::new, &[], |w, s| rtnl::create_veth(w, s, &veth)).unwrap();
        let eth0 = links.find("eth0").unwrap().unwrap().index;
        links.change(String::new, &[], |w, s| rtnl::set_master(w, s, eth0, 0)).unwrap();
        links.set_up(eth0, "eth0").unwrap();
        links.set_address(eth0, "eth0", "192.0.2.10".parse().unwrap(), 24).unwrap();
        let mut far = Links::open_in(&other).unwrap();
        let index = far.find("eth0").unwrap().unwrap().index;
        far.set_up(index, "eth0").unwrap();
        let node = NodeLink {
            interface: "eth0".into(),
            mtu: 1500,
            addresses: vec!["192.0.2.10".parse().unwrap()],
        };
        const LINKS_NEIGHBOURS_ADDRESSES_ROUTES: u32 = 0x1 | 0x4 | 0x10 | 0x40;
        let events = Netlink::subscribe(Family::Route, LINKS_NEIGHBOURS_ADDRESSES_ROUTES);
        World { links, node, events: events.unwrap(), directory: path }
    }

    /// Routes by way of other nodes, and what the tunnel knows, as text.
    fn entries(&mut self) -> String {
        let mut all: Vec<String> = Vec::new();
        for route in self.links.routes().unwrap().iter().filter(|r| r.gateway.is_some()) {
            let by = if route.on_link { " onlink" } else { "" };
            all.push(format!("{} via {}{by}", shown(route), route.gateway.unwrap()));
        }
        if let Some((tunnel, _)) = self.links.find_vxlan(DEVICE).unwrap() {
            for entry in self.links.neighbours(tunnel.index, false).unwrap() {
                let to = if entry.forwards { "dst" } else { "is" };
                all.push(format!("{:02x} {to} {}", entry.mac[5], entry.address));
            }
        }
        stdx::Arrange::arrange(&mut all[..]);
        all.join(", ")
    }

    /// What the kernel told of changes since the last call: the blocks of routes, and how many others.
    fn changed(&self) -> (Vec<String>, usize) {
        let (mut routes, mut others) = (Vec::new(), 0);
        let mut buf = Vec::new();
        while self.events.receive(&mut buf).is_ok() {
            for message in messages(&buf).flatten() {
                match message.kind {
                    rtnl::RTM_NEWROUTE | rtnl::RTM_DELROUTE => {
                        routes.extend(rtnl::parse_route(&message).map(|route| shown(&route)));
                    }
                    _ => others += 1,
                }
            }
        }
        (routes, others)
    }
}

fn config(backend: Backend) -> Config {
    let cidr = |text: &str| vec![text.parse().unwrap()];
    Config {
        node_name: "me".into(),
        pod_cidrs: cidr("10.42.0.0/24"),
        cluster_cidrs: cidr("10.42.0.0/16"),
        service_cidrs: cidr("10.43.0.0/16"),
        bridge: "cni0".into(),
        backend: Some(backend),
        node_ports: (30000, 32767),
        ..Config::default()
    }
}

fn overlay(backend: Backend, nodes: &[(u8, &str)]) -> Overlay {
    let overlay = Overlay::new(&config(backend), backend);
    for (n, address) in nodes {
        tell(&overlay, *n, address);
    }
    overlay.listed.store(true, Ordering::Relaxed);
    overlay
}

/// Node `n` has the block 10.42.n.0/24 and a hardware address that ends in n.
fn tell(overlay: &Overlay, n: u8, address: &str) {
    let data = match overlay.backend {
        Backend::Vxlan => format!(r#"{{"VNI":1,"VtepMAC":"5e:00:00:00:00:{n:02x}"}}"#),
        Backend::HostGw => "null".into(),
        Backend::WireGuard => format!(r#"{{"PublicKey":"{}"}}"#, wire::base64::encode(&[n; 32])),
    };
    say(overlay, n, address, &data);
}

/// As [`tell`], with this for the tunnel.
fn say(overlay: &Overlay, n: u8, address: &str, data: &str) {
    lock(&overlay.ways[0].nodes).set(&json!({
        "metadata": {"name": format!("n{n}"), "annotations": {
            "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            "flannel.alpha.coreos.com/backend-type": overlay.backend.flannel_name(),
            "flannel.alpha.coreos.com/backend-data": data,
            "flannel.alpha.coreos.com/public-ip": address,
        }},
        "spec": {"podCIDRs": [format!("10.42.{n}.0/24")]},
    }));
}

#[test]
fn the_tunnel_has_what_the_nodes_say_and_nothing_else_is_touched() {
    in_a_namespace("vxlan", |world| {
        let step = |world: &World, overlay: &Overlay| overlay.step(&world.node).0.unwrap();
        let first = overlay(Backend::Vxlan, &[]);
        step(world, &first);
        assert!(world.links.find(DEVICE).unwrap().is_none(), "one node needs no tunnel");
        for n in [1, 2] {
            tell(&first, n, &format!("192.0.2.1{n}"));
        }
        step(world, &first);
        let two = "01 dst 192.0.2.11, 01 is 10.42.1.0, 02 dst 192.0.2.12, 02 is 10.42.2.0, \
            10.42.1.0/24 via 10.42.1.0 onlink, 10.42.2.0/24 via 10.42.2.0 onlink";
        assert_eq!(world.entries(), two);
        let (tunnel, vxlan) = world.links.find_vxlan(DEVICE).unwrap().unwrap();
        assert_eq!((tunnel.mtu, &*tunnel.mac), (1450, &[0x0a, 0x58, 10, 42, 0, 0][..]));
        assert_eq!(vxlan.unwrap().local.to_string(), "192.0.2.10");
        for (what, value) in [
            ("ipv4/conf/flannel.1/accept_redirects", "0"),
            ("ipv4/conf/flannel.1/send_redirects", "0"),
            ("ipv6/conf/flannel.1/disable_ipv6", "1"),
        ] {
            assert!(sysctl::is(what, value), "{what}");
        }
        let held = world.links.addresses().unwrap().into_iter();
        let held = held.filter(|a| a.link == tunnel.index).map(|a| (a.address, a.prefix));
        assert_eq!(held.collect::<Vec<_>>(), [("10.42.0.0".parse::<IpAddr>().unwrap(), 32)]);

        // A start over what is there: nothing changes, and before the Nodes are known nothing goes.
        world.changed();
        let again = overlay(Backend::Vxlan, &[(2, "192.0.2.12"), (1, "192.0.2.11")]);
        again.listed.store(false, Ordering::Relaxed);
        tell(&again, 3, "192.0.2.13");
        step(world, &again);
        lock(&again.ways[0].nodes).remove("n3");
        again.listed.store(true, Ordering::Relaxed);
        step(world, &again);
        assert_eq!(world.changed(), (Vec::new(), 0));

        // One node moves, one goes: the other's entries are not touched.
        tell(&again, 2, "192.0.2.99");
        step(world, &again);
        assert_eq!(world.entries(), two.replace("02 dst 192.0.2.12", "02 dst 192.0.2.99"));
        assert_eq!(world.changed().0, Vec::<String>::new(), "its route is the same");
        lock(&again.ways[0].nodes).remove("n2");
        step(world, &again);
        assert_eq!(world.changed().0, ["10.42.2.0/24"]);
        let one = "01 dst 192.0.2.11, 01 is 10.42.1.0, 10.42.1.0/24 via 10.42.1.0 onlink";
        assert_eq!(world.entries(), one);

        // Somebody takes it away; the node's address changes; nobody is left.
        world.links.delete(&tunnel).unwrap();
        assert_eq!(world.entries(), "");
        step(world, &again);
        assert_eq!(world.entries(), one);
        let eth0 = world.links.find("eth0").unwrap().unwrap().index;
        world.links.set_address(eth0, "eth0", "198.51.100.1".parse().unwrap(), 24).unwrap();
        world.node.addresses = vec!["198.51.100.1".parse().unwrap()];
        step(world, &again);
        assert_eq!(world.entries(), one);
        let (_, vxlan) = world.links.find_vxlan(DEVICE).unwrap().unwrap();
        assert_eq!(vxlan.unwrap().local.to_string(), "198.51.100.1");
        lock(&again.ways[0].nodes).remove("n1");
        step(world, &again);
        assert!(world.links.find(DEVICE).unwrap().is_none());
    });
}

#[test]
fn pods_of_both_families_have_a_tunnel_each() {
    in_a_namespace("both", |world| {
        if !sysctl::is("ipv6/conf/eth0/disable_ipv6", "0") {
            return println!("skipped, there is no IPv6");
        }
        let eth0 = world.links.find("eth0").unwrap().unwrap().index;
        world.links.set_address(eth0, "eth0", "fd00::10".parse().unwrap(), 64).unwrap();
        world.node.addresses.push("fd00::10".parse().unwrap());
        let mut config = config(Backend::Vxlan);
        config.pod_cidrs.push("fd42::/64".parse().unwrap());
        config.cluster_cidrs.push("fd42::/56".parse().unwrap());
        let overlay = Overlay::new(&config, Backend::Vxlan);
        overlay.listed.store(true, Ordering::Relaxed);
        for way in &overlay.ways {
            lock(&way.nodes).set(&json!({
                "metadata": {"name": "n1", "annotations": {
                    "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                    "flannel.alpha.coreos.com/backend-type": "vxlan",
                    "flannel.alpha.coreos.com/backend-data": r#"{"VNI":1,"VtepMAC":"5e:00:00:00:00:01"}"#,
                    "flannel.alpha.coreos.com/backend-v6-data": r#"{"VNI":1,"VtepMAC":"5e:00:00:00:06:01"}"#,
                    "flannel.alpha.coreos.com/public-ip": "192.0.2.11",
                    "flannel.alpha.coreos.com/public-ipv6": "fd00::11",
                }},
                "spec": {"podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64"]},
            }));
            lock(&way.nodes).set(&json!({"metadata": {"name": "me"}}));
        }
        let (done, patch) = overlay.step(&world.node);
        done.unwrap();
        let notes = patch.unwrap()["metadata"]["annotations"].as_object().unwrap().len();
        assert_eq!(notes, 6, "of both families");
        let (six, vxlan) = world.links.find_vxlan("flannel-v6.1").unwrap().unwrap();
        assert_eq!((six.mtu, vxlan.unwrap().local.to_string().as_str()), (1430, "fd00::10"));
        assert_eq!(world.links.find(DEVICE).unwrap().unwrap().mtu, 1430);
        let mut entries: Vec<String> = world
            .links
            .neighbours(six.index, true)
            .unwrap()
            .iter()
            .map(|n| format!("{:02x}{:02x} {} {}", n.mac[4], n.mac[5], n.address, n.forwards))
            .collect();
        stdx::Arrange::arrange(&mut entries[..]);
        assert_eq!(entries, ["0601 fd00::11 true", "0601 fd42:0:0:1:: false"]);
        let routes = world.links.routes().unwrap();
        let to = |text: &str| Some((text.parse::<IpAddr>().unwrap(), 64));
        let way = routes.iter().find(|route| route.destination == to("fd42:0:0:1::")).unwrap();
        assert_eq!((way.link, way.on_link), (Some(six.index), true));
        // A start over it changes nothing; without anybody else nothing is left.
        world.changed();
        overlay.step(&world.node).0.unwrap();
        assert_eq!(world.changed(), (Vec::new(), 0));
        for way in &overlay.ways {
            lock(&way.nodes).remove("n1");
        }
        overlay.step(&world.node).0.unwrap();
        assert!(world.links.find("flannel-v6.1").unwrap().is_none());
        assert!(world.links.find(DEVICE).unwrap().is_none());
    });
}

#[test]
fn neighbours_are_routed_to_and_the_backend_can_change() {
    in_a_namespace("host-gw", |world| {
        let vxlan = overlay(Backend::Vxlan, &[(1, "192.0.2.11")]);
        vxlan.step(&world.node).0.unwrap();
        let nodes = [(1, "192.0.2.11"), (2, "192.0.2.12"), (3, "203.0.113.7")];
        let host_gw = overlay(Backend::HostGw, &nodes);
        host_gw.step(&world.node).0.unwrap();
        assert_eq!(world.entries(), "10.42.1.0/24 via 192.0.2.11, 10.42.2.0/24 via 192.0.2.12");
        let why = lock(&host_gw.ways[0].refused).clone();
        assert!(why.len() == 1 && &*why[0].0 == "n3" && why[0].1.contains("host-gw"), "{why:?}");
        world.changed();
        host_gw.step(&world.node).0.unwrap();
        assert_eq!(world.changed(), (Vec::new(), 0));
        tell(&host_gw, 2, "192.0.2.13");
        host_gw.step(&world.node).0.unwrap();
        assert_eq!(world.changed().0, ["10.42.2.0/24"]);
        vxlan.step(&world.node).0.unwrap();
        let back = "01 dst 192.0.2.11, 01 is 10.42.1.0, 10.42.1.0/24 via 10.42.1.0 onlink";
        assert_eq!(world.entries(), back);
        // Routes of others stay, also into the cluster's range.
        let foreign = rtnl::Route {
            destination: Some(("10.42.7.0".parse().unwrap(), 24)),
            gateway: "192.0.2.1".parse().ok(),
            protocol: 4,
            ..rtnl::Route::default()
        };
        world.links.set_route(&foreign).unwrap();
        vxlan.step(&world.node).0.unwrap();
        remove(&config(Backend::Vxlan)).unwrap();
        assert_eq!(world.entries(), "10.42.7.0/24 via 192.0.2.1");
        // A tunnel of another flannel is not ours to remove.
        let eth0 = world.links.find("eth0").unwrap().unwrap().index;
        let local = "192.0.2.10".parse().unwrap();
        let theirs = rtnl::Vxlan { id: 1, link: eth0, local, port: 8472 };
        let make = |w: &mut wire::netlink::Writer, s| {
            rtnl::create_vxlan(w, s, DEVICE, [0x5e, 0, 0, 0, 0, 1], 1450, &theirs);
        };
        world.links.change(String::new, &[], make).unwrap();
        remove(&config(Backend::Vxlan)).unwrap();
        assert!(world.links.find(DEVICE).unwrap().is_some());
    });
}

#[test]
fn a_tunnel_has_the_settings_of_its_file_and_neighbours_need_none() {
    in_a_namespace("settings", |world| {
        let mut config = config(Backend::Vxlan);
        config.tunnel.vni = 7;
        config.tunnel.vxlan_port = 4789;
        config.tunnel.direct = true;
        config.tunnel.mtu = Some(1400);
        let near = Overlay::new(&config, Backend::Vxlan);
        near.listed.store(true, Ordering::Relaxed);
        for (n, address) in [(1, "192.0.2.11"), (2, "203.0.113.7")] {
            let data = format!(r#"{{"VNI":7,"VtepMAC":"5e:00:00:00:00:{n:02x}"}}"#);
            say(&near, n, address, &data);
        }
        let first = overlay(Backend::Vxlan, &[(1, "192.0.2.11")]);
        first.step(&world.node).0.unwrap();
        near.step(&world.node).0.unwrap();
        assert!(world.links.find(DEVICE).unwrap().is_none(), "that of other settings is gone");
        let (tunnel, vxlan) = world.links.find_vxlan("flannel.7").unwrap().unwrap();
        let vxlan = vxlan.unwrap();
        assert_eq!((tunnel.mtu, vxlan.id, vxlan.port), (1350, 7, 4789));
        let expected = "10.42.1.0/24 via 192.0.2.11, 10.42.2.0/24 via 10.42.2.0 onlink";
        assert_eq!(world.entries(), expected);
        world.changed();
        near.step(&world.node).0.unwrap();
        assert_eq!(world.changed(), (Vec::new(), 0));
        remove(&config).unwrap();
        assert!(world.links.find("flannel.7").unwrap().is_none());
    });
}

#[test]
fn wireguard_carries_packets_where_the_kernel_has_it() {
    in_a_namespace("wireguard", |world| {
        let directory = world.directory.clone();
        let mut config = config(Backend::WireGuard);
        config.wireguard_key = directory.with_extension("key");
        let here = Overlay::new(&config, Backend::WireGuard);
        if let Err(error) = here.prepare(&world.node) {
            let why = error.to_string();
            assert!(why.starts_with("the kernel has no WireGuard"), "{why}");
            return println!("skipped, {why}");
        }
        let other = rt::fs::open(&directory).unwrap();
        let in_other = |work: &mut (dyn FnMut() + Send)| {
            sys::netns::run_in(std::os::fd::AsFd::as_fd(&other), work).unwrap();
        };
        let mut far_config = config.clone();
        far_config.node_name = "n1".into();
        far_config.pod_cidrs = vec!["10.42.1.0/24".parse().unwrap()];
        far_config.wireguard_key = directory.with_extension("far.key");
        let far = Overlay::new(&far_config, Backend::WireGuard);
        let far_node =
            NodeLink { addresses: vec!["192.0.2.11".parse().unwrap()], ..world.node.clone() };
        let mut said = None;
        in_other(&mut || {
            let mut links = Links::open().unwrap();
            let eth0 = links.find("eth0").unwrap().unwrap().index;
            links.set_address(eth0, "eth0", "192.0.2.11".parse().unwrap(), 24).unwrap();
            far.listed.store(true, Ordering::Relaxed);
            lock(&far.ways[0].nodes).set(&json!({"metadata": {"name": "n1"}}));
            said = far.step(&far_node).1;
        });
        let data = |patch: &Value| {
            let notes = &patch["metadata"]["annotations"];
            assert_eq!(notes["flannel.alpha.coreos.com/backend-type"], "wireguard");
            notes["flannel.alpha.coreos.com/backend-data"].as_str().unwrap().to_owned()
        };
        here.listed.store(true, Ordering::Relaxed);
        lock(&here.ways[0].nodes).set(&json!({"metadata": {"name": "me"}}));
        let own = data(&here.step(&world.node).1.unwrap());
        let theirs = data(&said.unwrap());
        assert!(own.starts_with(r#"{"PublicKey":""#) && own != theirs, "{own} {theirs}");
        say(&here, 1, "192.0.2.11", &theirs);
        say(&far, 0, "192.0.2.10", &own);
        here.step(&world.node).0.unwrap();
        let mut socket = None;
        in_other(&mut || {
            far.step(&far_node).0.unwrap();
            socket = Some(std::net::UdpSocket::bind("10.42.1.0:9999").unwrap());
        });
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let sender = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        sender.send_to(b"through", "10.42.1.0:9999").unwrap();
        let mut buf = [0; 16];
        let (n, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..n], from.ip().to_string()), (&b"through"[..], "10.42.0.0".to_owned()));
        let link = world.links.find("flannel-wg").unwrap().unwrap();
        assert_eq!((link.mtu, &*link.kind), (1420, "wireguard"));
        // A start over what is there changes nothing: the handshake's result stays.
        world.changed();
        let again = Overlay::new(&config, Backend::WireGuard);
        say(&again, 1, "192.0.2.11", &theirs);
        again.listed.store(true, Ordering::Relaxed);
        again.step(&world.node).0.unwrap();
        assert_eq!(world.changed(), (Vec::new(), 0));
        sender.send_to(b"again", "10.42.1.0:9999").unwrap();
        assert_eq!(socket.recv_from(&mut buf).unwrap().0, 5);
        // Another backend takes its place; a device with another key is not ours to remove.
        let vxlan = overlay(Backend::Vxlan, &[]);
        remove(&vxlan.config).unwrap();
        assert!(world.links.find("flannel-wg").unwrap().is_some());
        remove(&config).unwrap();
        assert!(world.links.find("flannel-wg").unwrap().is_none());
        for key in [&config.wireguard_key, &far_config.wireguard_key] {
            rt::fs::remove_file(key).unwrap();
        }
    });
}
