//! The whole network room on the running kernel, in a network namespace of its own: a fake API,
//! real links, rules, connections and DNS. Skipped without root.

#![allow(clippy::print_stdout)] // a test program of its own: what it prints is its report

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{Kind, Object, Status};
use client::{Answer, Api, Client, Informers, List, Request, WatchEvent, WatchStream};
use net::{Config, HostPort, Net, PodRequest, Protocol};
use rt::BoxFuture;
use rt::channel::{Receiver, Sender};
use serde_json::{Value, json};
use stdx::OrdMap;

/// Says what is missing; in CI that is a failure.
fn skipped(why: &str) {
    assert!(option_env!("CI").is_none(), "nothing is skipped in CI: {why}");
    println!("skipped, {why}");
}

fn main() {
    for (program, flag) in [("ip", "-V"), ("nft", "-v"), ("dig", "-v"), ("nsenter", "-V")] {
        if let Err(error) = Command::new(program).arg(flag).output() {
            return skipped(&format!("the test needs {program}: {error}"));
        }
    }
    if let Err(error) = sys::netns::enter_new() {
        return skipped(&format!("no network namespace can be made: {error}"));
    }
    // This thread blocks; the room's tasks run on these.
    rt::start_workers(2);
    let directory = std::env::temp_dir().join(format!("k3rs-net-whole-{}", std::process::id()));
    let test = std::panic::catch_unwind(|| whole(&directory));
    for name in ["a", "b", "c", "d", "outside"] {
        let _ = net::delete_netns(&directory.join("netns").join(name));
    }
    let _ = std::fs::remove_dir_all(&directory);
    if let Err(panic) = test {
        println!("{}", run("nft", &["list", "table", "inet", "k3rs"]));
        std::panic::resume_unwind(panic);
    }
    println!("whole: ok");
}

fn whole(directory: &Path) {
    run("ip", &["link", "set", "lo", "up"]);
    let config = config(directory);
    std::fs::create_dir_all(directory).unwrap();
    outside(directory);
    std::fs::write(&config.resolv_conf, "nameserver 192.168.77.2\n").unwrap();
    let api = FakeApi::default();
    api.put(service("kubernetes", "10.43.0.1", json!({})));
    api.put(service("kube-dns", "10.43.0.10", json!({})));
    let informers = Informers::new(Client::new(Arc::new(api.clone())));
    let net =
        rt::block_on(Net::start(config.clone(), informers.clone(), Some(informers), None)).unwrap();
    rt::block_on(net.recover(&[])).unwrap();
    assert_eq!(net.node_ips(), ["192.168.77.1".parse::<IpAddr>().unwrap()]);

    pods_and_services(directory, &net, &api);
    names(directory, &net, &api);
    foreign_hands(directory, &net);
    health(&api);
    let net = restart(directory, net, &api, &config);
    node_moves(&net);

    drop(net);
    rt::block_on(net::teardown(&config)).unwrap();
    rt::block_on(net::teardown(&config)).unwrap();
    assert!(!run("nft", &["list", "ruleset"]).contains("k3rs"));
    let links = run("ip", &["-o", "link"]);
    assert!(!links.contains("cni0") && !links.contains("veth"), "{links}");
    assert!(!run("ip", &["route"]).contains("10.4"));
    assert!(!config.address_directory.exists() && !config.netns_directory.exists());
    println!("teardown: nothing left");
}

fn pods_and_services(directory: &Path, net: &Net, api: &FakeApi) {
    let port = |host_port| HostPort {
        host_ip: None,
        protocol: Protocol::Tcp,
        host_port,
        container_port: 8080,
    };
    let started = Instant::now();
    let a = pod(directory, net, "a", vec![port(9000)]);
    println!("add_pod with a host port: {:?}", started.elapsed());
    let started = Instant::now();
    let b = pod(directory, net, "b", Vec::new());
    println!("add_pod: {:?}", started.elapsed());
    pod(directory, net, "c", Vec::new());
    for name in ["a", "b"] {
        serve(directory, name);
    }
    assert_eq!(ask(directory, "outside", "192.168.77.1:9000"), "a");
    let exposed = json!({"type": "NodePort",
        "ports": [{"name": "web", "protocol": "TCP", "port": 80, "nodePort": 30080}]});
    api.put(service("web", "10.43.0.5", exposed));
    api.put(slice("web", &[(a, None, "node"), (b, None, "node")]));
    eventually("the service answers", || ask(directory, "c", "10.43.0.5:80").len() == 1);
    for place in ["c", "a", "node"] {
        assert!(["a", "b"].contains(&ask(directory, place, "10.43.0.5:80").as_str()), "{place}");
    }
    assert!(["a", "b"].contains(&ask(directory, "outside", "192.168.77.1:30080").as_str()));
    assert!(["a", "b"].contains(&ask(directory, "node", "127.0.0.1:30080").as_str()));
    rt::block_on(net.check()).unwrap();
    println!("services: ok");
}

fn names(directory: &Path, _net: &Net, api: &FakeApi) {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    api.put(service("db", "None", json!({"clusterIPs": ["None"]})));
    let peers = [(ip("10.42.0.77"), Some("db-0"), "node"), (ip("10.42.1.78"), None, "other")];
    api.put(slice("db", &peers));
    api.put(service("empty", "None", json!({"clusterIPs": ["None"]})));
    let alias = json!({"type": "ExternalName", "externalName": "www.example.com"});
    api.put(service("alias", "", alias));
    let inner = json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"});
    api.put(service("inner", "", inner));
    upstream(directory);
    let dig = |arguments: &str| dig(directory, arguments);
    eventually("names are known", || {
        dig("db.default.svc.cluster.local +short").lines().count() == 2
            && dig("inner.default.svc.cluster.local +short").lines().count() == 2
    });
    let check = |arguments: &str, expected: &[&str]| {
        let answer = dig(&format!("{arguments} +noall +answer +comments"));
        let words: Vec<&str> = answer.split_whitespace().collect();
        let answer = words.join(" ");
        for part in expected {
            assert!(answer.contains(part), "dig {arguments}: wants {part:?}:\n{answer}");
        }
    };
    let zone = "default.svc.cluster.local";
    check(&format!("web.{zone}"), &["status: NOERROR", "aa", "5 IN A 10.43.0.5"]);
    check(&format!("WEB.{zone}"), &["status: NOERROR", "IN A 10.43.0.5"]);
    check(&format!("web.{zone} AAAA"), &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1"]);
    check(&format!("nothing.{zone}"), &["status: NXDOMAIN", "AUTHORITY: 1"]);
    check("svc.cluster.local", &["status: NOERROR", "ANSWER: 0"]);
    check("default.svc.cluster.local", &["status: NOERROR", "ANSWER: 0"]);
    check("nowhere.svc.cluster.local", &["status: NXDOMAIN"]);
    check(&format!("db.{zone}"), &["IN A 10.42.0.77", "IN A 10.42.1.78"]);
    check(&format!("db-0.db.{zone}"), &["IN A 10.42.0.77", "ANSWER: 1"]);
    check(&format!("10-42-1-78.db.{zone}"), &["IN A 10.42.1.78"]);
    check(&format!("empty.{zone}"), &["status: NXDOMAIN"]);
    check(
        &format!("_web._tcp.web.{zone} SRV"),
        &[&format!("IN SRV 0 100 80 web.{zone}."), "ADDITIONAL: 2"],
    );
    check(&format!("_web._tcp.db.{zone} SRV"), &[&format!("0 50 8080 db-0.db.{zone}.")]);
    check(&format!("_none._tcp.web.{zone} SRV"), &["status: NXDOMAIN"]);
    check("10-42-0-9.default.pod.cluster.local", &["IN A 10.42.0.9"]);
    check("dns-version.cluster.local TXT", &["\"1.1.0\""]);
    check("cluster.local SOA", &["IN SOA ns.dns.cluster.local. hostmaster.cluster.local."]);
    check("cluster.local NS", &["IN NS ns.dns.cluster.local."]);
    check("-x 10.43.0.5", &[&format!("IN PTR web.{zone}.")]);
    check("-x 10.42.0.77", &[&format!("IN PTR db-0.db.{zone}.")]);
    check("-x 10.43.9.9", &["status: NXDOMAIN"]);
    check(
        &format!("inner.{zone}"),
        &[&format!("IN CNAME web.{zone}."), &format!("web.{zone}. 5 IN A 10.43.0.5")],
    );
    check(
        &format!("alias.{zone}"),
        &["IN CNAME www.example.com.", "www.example.com. 30 IN A 192.0.2.7"],
    );
    check("www.example.com", &["status: NOERROR", "IN A 192.0.2.7"]);
    check("www.example.com +tcp", &["IN A 192.0.2.7"]);
    check(&format!("web.{zone} +tcp"), &["IN A 10.43.0.5"]);
    check("nx.example.com", &["status: NXDOMAIN"]);
    check("www.example.com CH TXT", &["status: REFUSED"]);
    // Many endpoints: cut over UDP without EDNS, whole over TCP, which dig then tries itself.
    let many: Vec<(IpAddr, Option<&str>, &str)> =
        (1..=120u8).map(|n| (IpAddr::from([10, 42, 3, n]), None, "other")).collect();
    api.put(service("many", "None", json!({"clusterIPs": ["None"]})));
    api.put(slice("many", &many));
    eventually("many endpoints are known", || {
        dig(&format!("many.{zone} +short")).lines().filter(|l| l.starts_with("10.")).count() == 120
    });
    check(&format!("many.{zone} +noedns +ignore"), &["qr aa tc rd ra"]);
    println!("names: ok");
    throughput(directory);
}

/// How many queries a second, where dnsperf is there.
fn throughput(directory: &Path) {
    let queries = directory.join("queries");
    std::fs::write(&queries, "web.default.svc.cluster.local A\n").unwrap();
    let netns = format!("--net={}", directory.join("netns/c").display());
    let file = queries.display().to_string();
    let arguments = ["dnsperf", "-s", "10.43.0.10", "-d", &file, "-l", "2", "-c", "8", "-T", "1"];
    let output = run("nsenter", &[&[netns.as_str()], &arguments[..]].concat());
    for line in output.lines().filter(|l| l.contains("per second") || l.contains("lost")) {
        println!("DNS: {}", line.trim());
    }
}

/// Whatever others do to our table and links is repaired without being asked.
fn foreign_hands(directory: &Path, net: &Net) {
    let count = || run("nft", &["list", "table", "inet", "k3rs"]).lines().count();
    let before = count();
    for command in [
        "flush ruleset",
        "delete table inet k3rs",
        "flush chain inet k3rs service4",
        "flush map inet k3rs services4",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let started = Instant::now();
        run("nft", &words);
        eventually(command, || count() == before);
        println!("nft {command}: repaired after {:?}", started.elapsed());
    }
    run("ip", &["link", "delete", "cni0"]);
    eventually("the bridge is back", || ask(directory, "c", "10.43.0.5:80").len() == 1);
    eventually_ok("the check passes", || rt::block_on(net.check()));
    println!("foreign hands: ok");
}

fn health(api: &FakeApi) {
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 31999});
    api.put(service("lb", "10.43.0.30", local));
    let http = || {
        let Ok(mut stream) = TcpStream::connect("127.0.0.1:31999") else { return String::new() };
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    };
    eventually("the health port says no", || http().starts_with("HTTP/1.1 503"));
    api.put(slice("lb", &[("10.42.0.2".parse().unwrap(), None, "node")]));
    eventually("the health port says yes", || {
        let text = http();
        text.starts_with("HTTP/1.1 200") && text.contains("\"localEndpoints\":1")
    });
    api.delete("Service", "lb");
    eventually("the health port closes", || http().is_empty());
    println!("health: ok");
}

/// A restart keeps connections, addresses and host ports; leaks are reclaimed.
fn restart(directory: &Path, net: Net, api: &FakeApi, config: &Config) -> Net {
    let mut kept = at(directory, "c", || {
        let stream = TcpStream::connect("10.43.0.5:80").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream
    });
    let d = pod(directory, &net, "d", Vec::new());
    let before = net.pod_addresses("a");
    drop(net);
    assert_eq!(ask(directory, "outside", "192.168.77.1:9000"), "a");
    let informers = Informers::new(Client::new(Arc::new(api.clone())));
    let net =
        rt::block_on(Net::start(config.clone(), informers.clone(), Some(informers), None)).unwrap();
    let live: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
    rt::block_on(net.recover(&live)).unwrap();
    assert_eq!(net.pod_addresses("a"), before);
    assert!(net.pod_addresses("d").is_empty());
    assert!(!config.address_directory.join(d.to_string()).exists());
    assert_eq!(ask(directory, "outside", "192.168.77.1:9000"), "a");
    eventually_ok("the check passes", || rt::block_on(net.check()));
    let mut byte = [0];
    kept.read_exact(&mut byte).unwrap();
    kept.write_all(b"x").unwrap();
    rt::block_on(net.remove_pod("a")).unwrap();
    rt::block_on(net.remove_pod("a")).unwrap();
    rt::block_on(net.remove_pod("never")).unwrap();
    eventually("the host port is closed", || {
        ask(directory, "outside", "192.168.77.1:9000") == "ConnectionRefused"
    });
    println!("restart: ok");
    net
}

/// The node gets another address: it is noticed, and services go on.
fn node_moves(net: &Net) {
    let changed = net.node_ips_changed();
    let moves = async {
        run("ip", &["address", "add", "192.168.78.1/24", "dev", "uplink"]);
        run("ip", &["address", "delete", "192.168.77.1/24", "dev", "uplink"]);
    };
    rt::block_on(rt::timeout(Duration::from_secs(5), rt::future::zip(changed, moves))).unwrap();
    assert_eq!(net.node_ips(), ["192.168.78.1".parse::<IpAddr>().unwrap()]);
    println!("node moves: ok");
}

fn config(directory: &Path) -> Config {
    Config {
        node_name: "node".into(),
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        resolv_conf: directory.join("resolv.conf"),
        address_directory: directory.join("addresses"),
        netns_directory: directory.join("netns"),
        bridge: "cni0".into(),
        node_ports: (30000, 32767),
        own_ports: vec![6443, 10250],
        ..Config::default()
    }
}

/// A machine beside the node, at 192.168.77.2.
fn outside(directory: &Path) {
    net::create_netns(&directory.join("netns/outside")).unwrap();
    run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0"]);
    let netns = directory.join("netns/outside").display().to_string();
    // `ip link set netns` takes a process or a name; enter the namespace's file with nsenter instead.
    let pid = Command::new("nsenter").arg(format!("--net={netns}")).args(["sleep", "5"]).spawn();
    let mut pid = pid.unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{}/ns/net", pid.id())).unwrap() == own {
        std::thread::yield_now();
    }
    run("ip", &["link", "set", "eth0", "netns", &pid.id().to_string()]);
    let _ = pid.kill();
    let _ = pid.wait();
    run("ip", &["address", "add", "192.168.77.1/24", "dev", "uplink"]);
    run("ip", &["link", "set", "uplink", "up"]);
    let inside = format!("--net={netns}");
    run("nsenter", &[&inside, "ip", "address", "add", "192.168.77.2/24", "dev", "eth0"]);
    run("nsenter", &[&inside, "ip", "link", "set", "eth0", "up"]);
    run("nsenter", &[&inside, "ip", "link", "set", "lo", "up"]);
    run("nsenter", &[&inside, "ip", "route", "add", "192.168.78.0/24", "dev", "eth0"]);
}

fn pod(directory: &Path, net: &Net, name: &str, host_ports: Vec<HostPort>) -> IpAddr {
    let netns = directory.join("netns").join(name);
    if !netns.exists() {
        net::create_netns(&netns).unwrap();
    }
    let request = PodRequest {
        sandbox_id: name.into(),
        namespace: "default".into(),
        name: name.into(),
        netns,
        host_ports,
        ..PodRequest::default()
    };
    rt::block_on(net.add_pod(request)).unwrap().addresses[0]
}

fn at<T: Send>(directory: &Path, place: &str, work: impl FnOnce() -> T + Send) -> T {
    if place == "node" {
        return work();
    }
    let file = std::fs::File::open(directory.join("netns").join(place)).unwrap();
    sys::netns::run_in(file.as_fd(), work).unwrap()
}

/// Answers its name, then waits for the client to say something or go.
fn serve(directory: &Path, name: &str) {
    let listener = at(directory, name, || TcpListener::bind("0.0.0.0:8080").unwrap());
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let name = name.clone();
            std::thread::spawn(move || {
                let _ = stream.write_all(name.as_bytes());
                let _ = stream.read(&mut [0]);
            });
        }
    });
}

fn ask(directory: &Path, place: &str, address: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    at(directory, place, move || {
        let mut byte = [0];
        let read =
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|mut s| {
                s.set_read_timeout(Some(Duration::from_secs(1)))?;
                s.read_exact(&mut byte)
            });
        match read {
            Ok(()) => String::from_utf8_lossy(&byte).into_owned(),
            Err(error) => format!("{:?}", error.kind()),
        }
    })
}

/// A name server beside the node that knows `www.example.com`.
fn upstream(directory: &Path) {
    use wire::dns::{Answer, Data, Query, Section, code, kind};
    let answer = |message: &[u8]| {
        let query = Query::parse(message).ok()?;
        let known = query.name.to_lower_text() == "www.example.com";
        let code = if known { code::NO_ERROR } else { code::NAME_ERROR };
        let mut answer = Answer::new(&query, code, true, 1232);
        if known && query.kind == kind::A {
            let data = Data::Address("192.0.2.7".parse().unwrap());
            answer.record(Section::Answer, &query.name, 300, &data);
        }
        Some(answer.finish())
    };
    let socket = at(directory, "outside", || UdpSocket::bind("192.168.77.2:53").unwrap());
    std::thread::spawn(move || {
        let mut buf = [0; 1500];
        while let Ok((n, peer)) = socket.recv_from(&mut buf) {
            if let Some(answer) = answer(&buf[..n]) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
}

/// `dig` in pod c, through the cluster DNS address.
fn dig(directory: &Path, arguments: &str) -> String {
    let netns = format!("--net={}", directory.join("netns/c").display());
    let fixed = [netns.as_str(), "dig", "@10.43.0.10", "+time=2", "+tries=1"];
    let words: Vec<&str> = arguments.split_whitespace().collect();
    run("nsenter", &[&fixed[..], &words].concat())
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    eventually_ok(what, || if is_true() { Ok(()) } else { Err(()) });
}

fn eventually_ok<E: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> Result<(), E>) {
    const WAIT_MAX: Duration = Duration::from_secs(10);
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(()) => return,
            Err(error) if started.elapsed() > WAIT_MAX => panic!("not in time: {what}: {error:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn service(name: &str, cluster_ip: &str, spec: Value) -> Value {
    let mut tree = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                 "ports": [{"name": "web", "protocol": "TCP", "port": 80}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        tree["spec"][key] = value.clone();
    }
    if cluster_ip.is_empty() {
        tree["spec"].as_object_mut().unwrap().retain(|key, _| !key.starts_with("clusterIP"));
    }
    tree
}

fn slice(service: &str, endpoints: &[(IpAddr, Option<&str>, &str)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, hostname, node)| {
            let mut endpoint = json!({"addresses": [address.to_string()], "nodeName": node,
                "conditions": {"ready": true, "serving": true, "terminating": false}});
            if let Some(hostname) = hostname {
                endpoint["hostname"] = json!(hostname);
            }
            endpoint
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": format!("{service}-abc"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints,
    })
}

/// Objects in memory, behind the door that informers use.
#[derive(Clone, Default)]
struct FakeApi {
    state: Arc<Mutex<FakeState>>,
}

#[derive(Default)]
struct FakeState {
    revision: u64,
    objects: OrdMap<(&'static str, String), Object>,
    watchers: Vec<(&'static str, Sender<WatchEvent>)>,
}

impl FakeApi {
    fn put(&self, mut tree: Value) {
        let kind = api::kinds::of_tree(&tree).unwrap();
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        tree["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let object = Object::from_tree(kind, &tree).unwrap();
        state.objects.insert((kind.name, object.name().to_owned()), object.clone());
        state.tell(kind, WatchEvent::Modified(object));
    }

    fn delete(&self, kind: &'static str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let object = state.objects.remove(&(kind, name.to_owned())).unwrap();
        let mut tree = object.tree();
        tree["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let last = Object::from_tree(object.kind(), &tree).unwrap();
        state.tell(object.kind(), WatchEvent::Deleted(last));
    }
}

impl FakeState {
    fn tell(&mut self, kind: &'static Kind, event: WatchEvent) {
        self.watchers
            .retain(|(name, sender)| *name != kind.name || sender.try_send(event.clone()).is_ok());
    }
}

impl Api for FakeApi {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, Status>> {
        let state = self.state.lock().unwrap();
        let of_kind = state.objects.values().filter(|o| o.kind() == request.kind);
        let list =
            List { items: of_kind.cloned().collect(), revision: state.revision, ..List::default() };
        Box::pin(rt::future::ready(Ok(Answer::List(list))))
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Status>> {
        let (sender, receiver) = rt::channel::bounded(1000);
        let mut state = self.state.lock().unwrap();
        let from: u64 = request.list.resource_version.parse().unwrap_or(0);
        // What came between the list and the watch.
        for object in state.objects.values() {
            if object.kind() == request.kind && object.revision() > from {
                sender.try_send(WatchEvent::Modified(object.clone())).unwrap();
            }
        }
        state.watchers.push((request.kind.name, sender));
        let watch: Box<dyn WatchStream> = Box::new(FakeWatch(receiver));
        Box::pin(rt::future::ready(Ok(watch)))
    }
}

struct FakeWatch(Receiver<WatchEvent>);

impl WatchStream for FakeWatch {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<WatchEvent, Status>>> {
        Box::pin(async { self.0.recv().await.ok().map(Ok) })
    }
}
