//! Tests against the running kernel, each in a network namespace of its own; skipped without root.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netplan::{Model, NodeInfo, PolicyObject};
use serde_json::{Value, json};

use crate::bridge;
use crate::kernel::Links;
use crate::pods::Pods;
use crate::rules::Rules;
use crate::spoof::Guard;
use crate::{Config, PodRequest, Protocol};

/// A node in a namespace: bridge, pods, rules, and a client outside the cluster.
struct World {
    config: Config,
    pods: Pods,
    rules: Rules,
    model: Model,
    directory: PathBuf,
    netns: Vec<PathBuf>,
}

const NODE_IP: &str = "192.168.77.1";
const OUTSIDE_IP: &str = "192.168.77.2";

fn in_world(name: &str, test: impl FnOnce(&mut World) + Send) {
    let ran = sys::netns::run_in_new(|| {
        let mut world = World::new(name);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&mut world)));
        if result.is_err() {
            println!("{}", nft_list());
        }
        world.clean();
        result
    });
    match ran {
        Err(error) => println!("skipped, no network namespace can be made: {error}"),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Ok(Ok(())) => {}
    }
}

fn nft_list() -> String {
    match Command::new("nft").args(["list", "table", "inet", "k3rs"]).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        }
        Err(error) => format!("skipped, no nft: {error}"),
    }
}

/// A node's, whose files are in `directory`.
pub(crate) fn config(directory: &Path) -> Config {
    Config {
        node_name: "node".into(),
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap(), "fd00:42::/64".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd00:42::/56".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap(), "fd00:43::/112".parse().unwrap()],
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        address_directory: directory.join("addresses"),
        netns_directory: directory.join("netns"),
        bridge: "cni0".into(),
        node_ports: (30000, 32767),
        own_ports: vec![6443, 10250],
        ..Config::default()
    }
}

impl World {
    fn new(name: &str) -> World {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("k3rs-net-{name}-{}-{n}", std::process::id()));
        let config = config(&directory);
        Links::open().unwrap().set_up(1, "lo").unwrap();
        let pods = Pods::open(config.clone(), 1500).unwrap();
        let node = NodeInfo {
            addresses: Vec::new(),
            node_name: "node".into(),
            zone: String::new(),
            pod_cidrs: config.pod_cidrs.clone(),
            cluster_cidrs: config.cluster_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            dns: vec![("10.43.0.10".parse().unwrap(), "10.42.0.1:10053".parse().unwrap())],
            bridge: "cni0".into(),
            bridge_netfilter: bridge::has_netfilter(),
            masquerade_ipv6: false,
            node_port_cidrs: Vec::new(),
            node_ports: (30000, 32767),
            own_ports: Vec::new(),
            by_plugins: false,
            tunnel: Some(netplan::flannel::Tunnel { vni: 1, port: 8472 }),
            on_loopback: false,
        };
        let mut world = World {
            config,
            pods,
            rules: Rules::open().unwrap(),
            model: Model::new(node),
            directory,
            netns: Vec::new(),
        };
        world.rules.replace(&world.model.table()).unwrap();
        world.outside();
        world
    }

    /// A namespace that stands for a machine beside the node.
    fn outside(&mut self) {
        let path = self.namespace("outside");
        let file = rt::fs::open(&path).unwrap();
        let mut links = Links::open().unwrap();
        use std::os::fd::AsRawFd;
        let veth = wire::rtnetlink::Veth {
            name: "uplink",
            peer: "eth0",
            peer_netns: file.as_raw_fd(),
            peer_mac: [2, 0, 0, 0, 0, 9],
            mtu: 1500,
            master: 0,
        };
        links.change(|| "uplink", &[], |w, s| wire::rtnetlink::create_veth(w, s, &veth)).unwrap();
        let link = links.find("uplink").unwrap().unwrap();
        links.set_address(link.index, "uplink", NODE_IP.parse().unwrap(), 24).unwrap();
        links.set_up(link.index, "uplink").unwrap();
        let mut far = Links::open_in(&file).unwrap();
        let link = far.find("eth0").unwrap().unwrap();
        far.set_address(link.index, "eth0", OUTSIDE_IP.parse().unwrap(), 24).unwrap();
        far.set_up(link.index, "eth0").unwrap();
        far.set_up(1, "lo").unwrap();
    }

    fn namespace(&mut self, name: &str) -> PathBuf {
        let path = self.config.netns_directory.join(name);
        sys::netns::create(&path).unwrap();
        self.netns.push(path.clone());
        path
    }

    fn pod(&mut self, name: &str, host_ports: Vec<crate::HostPort>) -> IpAddr {
        let netns = self.namespace(name);
        let request = PodRequest {
            sandbox_id: name.into(),
            namespace: "default".into(),
            name: name.into(),
            netns,
            host_ports,
            ..PodRequest::default()
        };
        let first = self.pods.add(&request).unwrap();
        assert_eq!(self.pods.add(&request).unwrap(), first);
        self.pods.check().unwrap();
        first.addresses[0]
    }

    /// Runs in the namespace of a pod or of `outside`; `node` is the node itself.
    fn on<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> T {
        if place == "node" {
            return work();
        }
        let file = rt::fs::open(self.config.netns_directory.join(place)).unwrap();
        sys::netns::run_in(file.as_fd(), work).unwrap()
    }

    /// A TCP server in a pod that answers `name` and the client's address.
    fn serve(&self, place: &str, name: &str, address: &str) {
        let listener = self.on(place, || TcpListener::bind(address).unwrap());
        let name = name.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
                let _ = stream.write_all(format!("{name} {peer}").as_bytes());
            }
        });
    }

    fn serve_udp(&self, place: &str, name: &str, address: &str) {
        let socket = self.on(place, || UdpSocket::bind(address).unwrap());
        let name = name.to_owned();
        std::thread::spawn(move || {
            let mut buf = [0; 512];
            while let Ok((_, peer)) = socket.recv_from(&mut buf) {
                let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }

    /// Connects and returns what the server says, or the error's kind.
    fn ask(&self, place: &str, address: &str) -> String {
        let address: SocketAddr = address.parse().unwrap();
        self.on(place, move || {
            let connect = TcpStream::connect_timeout(&address, Duration::from_millis(700));
            let mut text = String::new();
            let read = connect.and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(2)))?;
                stream.read_to_string(&mut text)
            });
            match read {
                Ok(_) => text,
                Err(error) => format!("{:?}", error.kind()),
            }
        })
    }

    fn ask_udp(&self, place: &str, socket: &UdpSocket) -> String {
        self.on(place, || {
            let mut buf = [0; 512];
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            match socket.send(b"?").and_then(|_| socket.recv(&mut buf)) {
                Ok(n) => String::from_utf8_lossy(&buf[..n]).into_owned(),
                Err(error) => format!("{:?}", error.kind()),
            }
        })
    }

    fn apply(&mut self) {
        let changes = self.model.changes();
        if let Err(error) = self.rules.apply(&changes) {
            panic!("{error}\n{changes}");
        }
        // What was changed step by step is what a full load would make.
        assert_eq!(
            self.rules.rule_count().unwrap(),
            Some(crate::rules::count_rules(&self.model.table()))
        );
    }

    fn apply_and_forget_stale(&mut self) {
        self.apply();
        crate::conntrack::forget_stale(&self.model.take_changed_udp()).unwrap();
    }

    fn clean(&mut self) {
        let _ = self.pods.recover(&[]);
        for path in &self.netns {
            let _ = sys::netns::delete(path);
        }
        let _ = rt::fs::remove_dir_all(&self.directory);
    }
}

fn service(name: &str, cluster_ip: &str, spec: Value) -> Value {
    let mut tree = json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                 "ports": [{"name": "web", "protocol": "TCP", "port": 80}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        tree["spec"][key] = value.clone();
    }
    tree
}

fn slice(service: &str, protocol: &str, port: u16, endpoints: &[(&IpAddr, &str)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, state)| {
            let (ready, serving) = (*state == "ready", *state != "dead");
            json!({"addresses": [address.to_string()], "nodeName": "node",
                   "conditions": {"ready": ready, "serving": serving, "terminating": *state == "terminating"}})
        })
        .collect();
    json!({
        "metadata": {"namespace": "default", "name": format!("{service}-abc"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "protocol": protocol, "port": port}],
        "endpoints": endpoints,
    })
}

/// Asks until each of `names` has answered, and nobody else.
fn spread(world: &World, place: &str, address: &str, names: &[&str]) {
    let mut seen = stdx::OrdSet::new();
    for _ in 0..60 {
        let answer = world.ask(place, address);
        let name = answer.split(' ').next().unwrap_or("").to_owned();
        assert!(names.contains(&name.as_str()), "{place} -> {address}: {answer}");
        seen.insert(name);
        if seen.len() == names.len() {
            return;
        }
    }
    panic!("{place} -> {address}: only {seen:?} answered");
}

#[test]
fn services_reach_pods_from_everywhere() {
    in_world("services", |world| {
        let a = world.pod("a", Vec::new());
        let b = world.pod("b", Vec::new());
        let client = world.pod("c", Vec::new());
        world.serve("a", "a", "0.0.0.0:8080");
        world.serve("b", "b", "0.0.0.0:8080");
        let spec = json!({"type": "NodePort", "externalIPs": ["192.168.77.50"],
                          "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
        world.model.set_service(&service("web", "10.43.0.5", spec));
        world.apply();
        // No endpoints yet: refused at once, everywhere.
        for (place, address) in [
            ("c", "10.43.0.5:80"),
            ("node", "10.43.0.5:80"),
            ("node", "127.0.0.1:30080"),
            ("outside", "192.168.77.1:30080"),
            ("c", "10.43.7.7:80"),
        ] {
            assert_eq!(world.ask(place, address), "ConnectionRefused", "{place} {address}");
        }
        world.model.set_slice(&slice("web", "TCP", 8080, &[(&a, "ready"), (&b, "ready")]));
        world.apply();
        println!("{}", nft_list());
        for (place, address) in [
            ("c", "10.43.0.5:80"),
            ("node", "10.43.0.5:80"),
            ("node", "127.0.0.1:30080"),
            ("node", "192.168.77.1:30080"),
            ("outside", "192.168.77.1:30080"),
            ("c", "192.168.77.1:30080"),
            ("a", "10.43.0.5:80"), // itself among them: hairpin
        ] {
            spread(world, place, address, &["a", "b"]);
        }
        // A pod's address is kept inside the cluster; a node port client's is not.
        assert!(world.ask("c", "10.43.0.5:80").ends_with(&client.to_string()));
        assert!(world.ask("outside", "192.168.77.1:30080").ends_with("10.42.0.1"));
        // A port that the service has not.
        assert_eq!(world.ask("c", "10.43.0.5:81"), "ConnectionRefused");
        // Terminating endpoints serve only while nothing else does.
        world.model.set_slice(&slice("web", "TCP", 8080, &[(&a, "terminating"), (&b, "ready")]));
        world.apply();
        spread(world, "c", "10.43.0.5:80", &["b"]);
        world.model.set_slice(&slice("web", "TCP", 8080, &[(&a, "terminating"), (&b, "dead")]));
        world.apply();
        spread(world, "c", "10.43.0.5:80", &["a"]);
        world.model.remove_service("default", "web");
        world.apply();
        assert_eq!(world.ask("c", "10.43.0.5:80"), "ConnectionRefused");
    });
}

#[test]
fn traffic_policies_affinity_and_source_ranges() {
    in_world("policies", |world| {
        let a = world.pod("a", Vec::new());
        let b = world.pod("b", Vec::new());
        world.pod("c", Vec::new());
        world.serve("a", "a", "0.0.0.0:8080");
        world.serve("b", "b", "0.0.0.0:8080");
        let ports = json!([{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30080}]);
        // Local: b runs elsewhere as far as the slice says.
        let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports});
        world.model.set_service(&service("local", "10.43.0.6", local));
        let mut endpoints = slice("local", "TCP", 8080, &[(&a, "ready"), (&b, "ready")]);
        endpoints["endpoints"][1]["nodeName"] = json!("other");
        world.model.set_slice(&endpoints);
        world.apply();
        spread(world, "c", "10.43.0.6:80", &["a", "b"]);
        spread(world, "outside", "192.168.77.1:30080", &["a"]);
        spread(world, "node", "192.168.77.1:30080", &["a", "b"]);
        // The client's address is kept.
        assert_eq!(world.ask("outside", "192.168.77.1:30080"), "a 192.168.77.2");
        endpoints["endpoints"][0]["nodeName"] = json!("other");
        world.model.set_slice(&endpoints);
        world.apply();
        assert_eq!(world.ask("outside", "192.168.77.1:30080"), "TimedOut");
        spread(world, "c", "10.43.0.6:80", &["a", "b"]);
        world.model.remove_service("default", "local");
        // Internal traffic policy.
        let internal = json!({"internalTrafficPolicy": "Local"});
        world.model.set_service(&service("inner", "10.43.0.7", internal));
        let mut endpoints = slice("inner", "TCP", 8080, &[(&a, "ready"), (&b, "ready")]);
        endpoints["endpoints"][0]["nodeName"] = json!("other");
        world.model.set_slice(&endpoints);
        world.apply();
        spread(world, "c", "10.43.0.7:80", &["b"]);
        endpoints["endpoints"][1]["nodeName"] = json!("other");
        world.model.set_slice(&endpoints);
        world.apply();
        assert_eq!(world.ask("c", "10.43.0.7:80"), "TimedOut");
        // Affinity: each client stays where it first went.
        let affine = json!({"sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "type": "NodePort",
            "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30090}]});
        world.model.set_service(&service("sticky", "10.43.0.8", affine));
        world.model.set_slice(&slice("sticky", "TCP", 8080, &[(&a, "ready"), (&b, "ready")]));
        world.apply();
        let first = world.ask("c", "10.43.0.8:80");
        for _ in 0..20 {
            assert_eq!(world.ask("c", "10.43.0.8:80"), first);
        }
        let name = world.ask("outside", "192.168.77.1:30090");
        for _ in 0..20 {
            assert_eq!(world.ask("outside", "192.168.77.1:30090"), name);
        }
        println!("{}", nft_list());
        // When its endpoint goes, the client moves; the other endpoint's clients are not touched.
        let (gone, left, other) =
            if first.starts_with('a') { (&a, &b, "b") } else { (&b, &a, "a") };
        world.model.set_slice(&slice("sticky", "TCP", 8080, &[(left, "ready")]));
        world.apply();
        spread(world, "c", "10.43.0.8:80", &[other]);
        world.model.set_slice(&slice("sticky", "TCP", 8080, &[(left, "ready"), (gone, "ready")]));
        world.apply();
        for _ in 0..10 {
            spread(world, "c", "10.43.0.8:80", &[other]);
        }
        world.model.remove_service("default", "sticky");
        // Load balancer address with source ranges.
        let mut balanced = service(
            "lb",
            "10.43.0.9",
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.168.77.0/29"]}),
        );
        balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.168.77.1"}]}});
        world.model.set_service(&balanced);
        world.model.set_slice(&slice("lb", "TCP", 8080, &[(&a, "ready")]));
        world.apply();
        spread(world, "outside", "192.168.77.1:80", &["a"]);
        balanced["spec"]["loadBalancerSourceRanges"] = json!(["10.0.0.0/8", "192.168.77.128/25"]);
        world.model.set_service(&balanced);
        world.apply();
        assert_eq!(world.ask("outside", "192.168.77.1:80"), "TimedOut");
        spread(world, "c", "192.168.77.1:80", &["a"]);
    });
}

#[test]
fn host_ports_and_udp() {
    in_world("hostports", |world| {
        let port = |host_ip: Option<&str>, protocol, host_port| crate::HostPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol,
            host_port,
            container_port: 8080,
        };
        let ports = vec![
            port(None, Protocol::Tcp, 9000),
            port(Some("127.0.0.1"), Protocol::Tcp, 9001),
            port(None, Protocol::Udp, 9000),
        ];
        let a = world.pod("a", ports);
        let b = world.pod("b", Vec::new());
        for name in ["a", "b"] {
            world.serve(name, name, "0.0.0.0:8080");
            world.serve_udp(name, name, "0.0.0.0:8080");
        }
        let targets = world.pods.host_ports();
        world.model.set_host_ports(targets.into_iter().map(crate::host_port).collect());
        world.apply();
        assert_eq!(world.ask("outside", "192.168.77.1:9000"), "a 192.168.77.2");
        assert_eq!(world.ask("node", "127.0.0.1:9000"), "a 10.42.0.1");
        assert_eq!(world.ask("node", "127.0.0.1:9001"), "a 10.42.0.1");
        assert_eq!(world.ask("outside", "192.168.77.1:9001"), "ConnectionRefused");
        assert_eq!(world.ask("b", "192.168.77.1:9000"), format!("a {b}"));
        assert!(world.ask("a", "192.168.77.1:9000").starts_with("a "));
        // UDP through a host port and through a service, with one socket kept for long.
        let connected = |place: &str, to: &str| {
            world.on(place, || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(to).unwrap();
                socket
            })
        };
        let outside = connected("outside", "192.168.77.1:9000");
        assert_eq!(world.ask_udp("outside", &outside), "a 192.168.77.2");
        let inside = connected("b", "10.43.0.9:53");
        let udp = json!({"ports": [{"name": "web", "protocol": "UDP", "port": 53}]});
        world.model.set_service(&service("dns", "10.43.0.9", udp));
        world.apply();
        assert_eq!(world.ask_udp("b", &inside), "ConnectionRefused");
        world.model.set_slice(&slice("dns", "UDP", 8080, &[(&a, "ready")]));
        world.apply_and_forget_stale();
        assert_eq!(world.ask_udp("b", &inside), format!("a {b}"));
        // The endpoint moves: without forgetting, the socket would go on talking to the old one.
        world.model.set_slice(&slice("dns", "UDP", 8080, &[(&b, "ready")]));
        world.apply_and_forget_stale();
        let answer = world.ask_udp("b", &inside);
        assert!(answer.starts_with("b "), "{answer}");
    });
}

#[test]
fn many_services_load_fast_and_change_cheaply() {
    const SERVICES: u32 = 5000;
    in_world("many", |world| {
        let address = |first: u8, n: u32| {
            let [_, _, high, low] = (n + 20).to_be_bytes();
            IpAddr::from([10, first, high, low])
        };
        let memory = || {
            let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("");
            line.split_whitespace().nth(1).and_then(|kb| kb.parse::<i64>().ok()).unwrap_or(0)
        };
        let before = memory();
        let started = std::time::Instant::now();
        for n in 0..SERVICES {
            let name = format!("service-{n}");
            world.model.set_service(&service(&name, &address(43, n).to_string(), json!({})));
            let (a, b) = (address(42, n * 2), address(42, n * 2 + 1));
            world.model.set_slice(&slice(&name, "TCP", 8080, &[(&a, "ready"), (&b, "ready")]));
        }
        let read = started.elapsed();
        world.model.changes();
        let planned = started.elapsed();
        let table = world.model.table();
        world.rules.replace(&table).unwrap();
        let loaded = started.elapsed();
        println!(
            "{SERVICES} services, {} endpoints: read {read:?}, planned {planned:?}, in the kernel {loaded:?}",
            SERVICES * 2
        );
        drop(table);
        println!("model memory: about {} kB", memory() - before);
        let mut slowest = Duration::ZERO;
        for n in 0..50u32 {
            let name = format!("service-{}", n * 97);
            let (a, b) = (address(42, n * 97 * 2), address(42, 60_000 + n));
            let changed = slice(&name, "TCP", 8080, &[(&a, "ready"), (&b, "ready")]);
            let started = std::time::Instant::now();
            world.model.set_slice(&changed);
            let changes = world.model.changes();
            assert_eq!(changes.add_elements.len(), 1, "{changes}");
            world.rules.apply(&changes).unwrap();
            slowest = slowest.max(started.elapsed());
        }
        println!("one endpoint changed: at most {slowest:?}");
        assert!(loaded < Duration::from_secs(10), "loading took {loaded:?}");
        assert!(slowest < Duration::from_millis(200), "a change took {slowest:?}");
    });
}

#[test]
fn a_refused_change_changes_nothing_and_names_the_culprit() {
    use netplan::table::{Chain, Changes, Frontend, Key, Set, SetKind, Value as Target};
    in_world("refused", |world| {
        let before = nft_list();
        let frontend =
            Frontend { address: "10.43.0.9".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let mut broken = Changes::default();
        broken.add_chains.push(Chain::Named("fine".into()));
        for set in [SetKind::Hairpin, SetKind::Services] {
            let missing = Target::Goto(Chain::Named("missing".into()));
            let set = Set { kind: set, ipv6: false };
            broken.delete_elements.push((set, Key::Frontend(frontend), missing));
        }
        for _ in 0..3 {
            let error = world.rules.apply(&broken).unwrap_err().to_string();
            assert!(error.starts_with("change table inet k3rs: delete elements of "), "{error}");
            assert_eq!(nft_list(), before);
            // The socket is in step: the next change goes through, and is told so.
            let mut fine = Changes::default();
            fine.add_chains.push(Chain::Named("temporary".into()));
            world.rules.apply(&fine).unwrap();
            let mut undo = Changes::default();
            undo.delete_chains.push(Chain::Named("temporary".into()));
            world.rules.apply(&undo).unwrap();
        }
    });
}

/// Node ports on 127.0.0.1 need a kernel setting that would open the node's loopback to pods.
#[test]
fn pods_cannot_reach_what_listens_on_the_nodes_loopback() {
    in_world("loopback", |world| {
        world.pod("c", Vec::new());
        world.serve("node", "secret", "127.0.0.1:9999");
        assert!(world.ask("node", "127.0.0.1:9999").starts_with("secret"));
        // A pod that makes its own loopback addresses lead to the node.
        let prepared = world.on("c", || {
            let ip = |command: &str| {
                Command::new("ip")
                    .args(command.split(' '))
                    .output()
                    .is_ok_and(|o| o.status.success())
            };
            crate::sysctl::set("ipv4/conf/all/route_localnet", "1")
                && ip("address delete 127.0.0.1/8 dev lo")
                && ip("route add 127.0.0.0/8 via 10.42.0.1 src 10.42.0.2")
        });
        if !prepared {
            println!("skipped, no ip to prepare the pod with");
            return;
        }
        assert_eq!(world.ask("c", "127.0.0.1:9999"), "TimedOut");
        // The guard is what stops it: without the rule the pod would get there.
        let flushed =
            Command::new("nft").args("flush chain inet k3rs filter-input".split(' ')).output();
        if flushed.is_ok_and(|output| output.status.success()) {
            assert!(world.ask("c", "127.0.0.1:9999").starts_with("secret"));
        }
    });
}

/// Who sends raw packets on the bridge, as pods may, does not become the node's router.
#[test]
fn the_node_believes_nothing_that_pods_say_about_routes() {
    in_world("routers", |_| {
        for what in [
            "ipv6/conf/cni0/accept_ra",
            "ipv6/conf/cni0/accept_redirects",
            "ipv4/conf/cni0/accept_redirects",
        ] {
            let found = std::fs::read_to_string(format!("/proc/sys/net/{what}")).unwrap();
            assert_eq!(found.trim(), "0", "{what}");
        }
    });
}

#[test]
fn foreign_firewalls_that_drop_are_found() {
    in_world("firewall", |world| {
        let nft = |command: &str| {
            Command::new("nft").args(command.split(' ')).output().is_ok_and(|o| o.status.success())
        };
        if !nft("add table ip filter") {
            println!("skipped, no nft");
            return;
        }
        assert_eq!(world.rules.foreign_drops().unwrap(), []);
        assert!(nft(
            "add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }"
        ));
        assert!(nft(
            "add chain ip filter OUTPUT { type filter hook output priority 0 ; policy drop ; }"
        ));
        let found = world.rules.foreign_drops().unwrap();
        let names: Vec<&str> = found.iter().map(|chain| chain.name.as_str()).collect();
        assert_eq!(names, ["FORWARD"]);
    });
}

#[test]
fn both_families_and_the_nodes_own_endpoints() {
    in_world("families", |world| {
        world.pod("a", Vec::new());
        world.pod("c", Vec::new());
        world.serve("a", "a", "[::]:8080");
        world.serve("node", "node", "0.0.0.0:6443");
        let six = world.pods.addresses_of("a")[1];
        let dual = json!({"clusterIPs": ["10.43.0.5", "fd00:43::5"], "type": "NodePort",
            "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
        world.model.set_service(&service("dual", "10.43.0.5", dual));
        let four = world.pods.addresses_of("a")[0];
        let mut slice6 = slice("dual", "TCP", 8080, &[(&six, "ready")]);
        slice6["metadata"]["name"] = json!("dual-six");
        world.model.set_slice(&slice("dual", "TCP", 8080, &[(&four, "ready")]));
        world.model.set_slice(&slice6);
        // The API server's own service: an endpoint that is the node, with no node name.
        world.model.set_service(&service("kubernetes", "10.43.0.1", json!({})));
        let node: IpAddr = NODE_IP.parse().unwrap();
        let mut api = slice("kubernetes", "TCP", 6443, &[(&node, "ready")]);
        api["endpoints"][0].as_object_mut().unwrap().remove("nodeName");
        world.model.set_slice(&api);
        world.apply();
        for place in ["c", "a", "node"] {
            spread(world, place, "[fd00:43::5]:80", &["a"]);
            spread(world, place, "10.43.0.5:80", &["a"]);
            spread(world, place, "10.43.0.1:80", &["node"]);
        }
        spread(world, "node", "[fd00:42::1]:30080", &["a"]);
        assert_eq!(world.ask("c", "[fd00:43::7]:80"), "ConnectionRefused");
    });
}

#[test]
fn without_bridge_netfilter_pods_of_one_bridge_still_reach_each_other() {
    in_world("plain-bridge", |world| {
        let a = world.pod("a", Vec::new());
        world.pod("c", Vec::new());
        world.serve("a", "a", "0.0.0.0:8080");
        if !crate::sysctl::set("bridge/bridge-nf-call-iptables", "0") {
            println!("skipped, this kernel has no switch for bridge netfilter");
            return;
        }
        let info = NodeInfo { bridge_netfilter: false, ..world.model.node().clone() };
        world.model = Model::new(info);
        world.rules.replace(&world.model.table()).unwrap();
        world.model.set_service(&service("web", "10.43.0.5", json!({})));
        world.model.set_slice(&slice("web", "TCP", 8080, &[(&a, "ready")]));
        world.apply();
        for place in ["c", "a", "node"] {
            spread(world, place, "10.43.0.5:80", &["a"]);
        }
        // Without the masquerade the answer would come from the pod's own address.
        assert_eq!(world.ask("c", "10.43.0.5:80"), "a 10.42.0.1");
    });
}

/// A pod of the API, and a policy that isolates all pods but lets one port of the first one's through.
fn isolate(world: &mut World, pods: &[(&str, IpAddr)]) {
    world.model.set_policies(true);
    let mut local = stdx::OrdMap::new();
    let namespace = json!({"metadata": {"labels": {}}});
    let mut set = |of, namespace: &str, name: &str, tree: &Value| {
        world.model.set_policy_object(of, namespace, name, Some(tree));
    };
    set(PolicyObject::Namespace, "", "default", &namespace);
    for (name, address) in pods {
        let tree = json!({"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": address.to_string()}]}});
        set(PolicyObject::Pod, "default", name, &tree);
        local.insert(*address, ("default".into(), (*name).into()));
    }
    let friend = json!({"podSelector": {"matchLabels": {"app": "b"}}});
    let outside = json!({"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.128.0/17"]}});
    let policy = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [friend, outside], "ports": [{"port": "web"}, {"protocol": "UDP"}]}]}});
    set(PolicyObject::Policy, "default", "all", &policy);
    world.model.set_local_pods(&local);
}

fn ends(pods: &Pods) -> stdx::OrdMap<String, Vec<IpAddr>> {
    pods.local().ends
}

#[test]
fn policies_hold_between_pods_and_spare_the_node() {
    in_world("policies", |world| {
        let pods: Vec<(&str, IpAddr)> =
            ["a", "b", "c"].into_iter().map(|name| (name, world.pod(name, Vec::new()))).collect();
        world.serve("a", "a", "0.0.0.0:8080");
        world.serve("a", "a", "0.0.0.0:8081");
        let (web, other) = (format!("{}:8080", pods[0].1), format!("{}:8081", pods[0].1));
        let mut guard = Guard::new("cni0", true);
        isolate(world, &pods);
        world.apply();
        guard.set(Some(&ends(&world.pods)));
        for (place, address, expected) in [
            ("b", &web, "a "),
            ("b", &other, "ConnectionRefused"),
            ("c", &web, "ConnectionRefused"),
            ("a", &other, "a "),
            ("node", &other, "a "),
        ] {
            let answer = world.ask(place, address);
            assert!(answer.starts_with(expected), "{place} > {address}: {answer}");
        }
    });
}

#[test]
fn udp_connections_whose_permission_went_are_forgotten() {
    in_world("udp-policies", |world| {
        let pods: Vec<(&str, IpAddr)> =
            ["a", "b", "c"].into_iter().map(|name| (name, world.pod(name, Vec::new()))).collect();
        world.serve_udp("a", "a", "0.0.0.0:9000");
        let socket = |place: &str| {
            let server = format!("{}:9000", pods[0].1);
            world.on(place, move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(server).unwrap();
                socket
            })
        };
        let (allowed, forbidden) = (socket("b"), socket("c"));
        for (place, socket) in [("b", &allowed), ("c", &forbidden)] {
            assert!(world.ask_udp(place, socket).starts_with("a "), "{place}");
        }
        isolate(world, &pods);
        world.apply();
        let mut held = crate::conntrack::of_udp(&world.config.pod_cidrs).unwrap();
        assert_eq!(held.len(), 2, "{held:?}");
        world.model.retain_forbidden(&mut held, |c| (Protocol::Udp, c.source.ip(), c.reply_source));
        assert_eq!(held.len(), 1, "{held:?}");
        crate::conntrack::forget(&held).unwrap();
        assert_eq!(crate::conntrack::of_udp(&world.config.pod_cidrs).unwrap().len(), 1);
        assert!(world.ask_udp("b", &allowed).starts_with("a "));
        assert!(!world.ask_udp("c", &forbidden).starts_with("a "));
    });
}

/// Many policies and pods, as the kernel takes them.
#[test]
fn a_thousand_policies_load_and_one_pod_more_is_quick() {
    in_world("thousand", |world| {
        world.model.set_policies(true);
        let namespace = json!({"metadata": {"labels": {}}});
        world.model.set_policy_object(PolicyObject::Namespace, "", "ns", Some(&namespace));
        let pod = |app: usize, ip: String| {
            json!({"metadata": {"labels": {"app": app.to_string()}}, "spec": {"containers": []},
                "status": {"podIPs": [{"ip": ip}]}})
        };
        let mut local = stdx::OrdMap::new();
        for n in 0..1000 {
            let ip = format!("10.42.{}.{}", n / 200, n % 200 + 2);
            if n < 100 {
                local.insert(ip.parse().unwrap(), ("ns".into(), format!("p{n}").into()));
            }
            let tree = pod(n % 100, ip);
            world.model.set_policy_object(PolicyObject::Pod, "ns", &format!("p{n}"), Some(&tree));
        }
        world.model.set_local_pods(&local);
        for n in 0..1000 {
            let app = |n: usize| json!({"matchLabels": {"app": (n % 100).to_string()}});
            let policy = json!({"spec": {"podSelector": app(n), "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": app(n + 1)}], "ports": [{"port": n + 1}]}]}});
            world.model.set_policy_object(
                PolicyObject::Policy,
                "ns",
                &format!("n{n}"),
                Some(&policy),
            );
        }
        let started = std::time::Instant::now();
        world.apply();
        println!("a thousand policies: {:?}", started.elapsed());
        let mut best = Duration::MAX;
        for n in 0..10 {
            let tree = pod(7, format!("10.42.9.{}", n + 1));
            let started = std::time::Instant::now();
            let name = format!("more{n}");
            world.model.set_policy_object(PolicyObject::Pod, "ns", &name, Some(&tree));
            local.insert(
                format!("10.42.0.{}", n + 230).parse().unwrap(),
                ("ns".into(), name.into()),
            );
            world.model.set_local_pods(&local);
            world.rules.apply(&world.model.changes()).unwrap();
            best = best.min(started.elapsed());
        }
        println!("one pod more: {best:?}");
        assert!(best < Duration::from_millis(200), "{best:?}");
    });
}
