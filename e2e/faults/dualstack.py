"""Clusters with IPv6: one with both families and one that knows IPv6 only, of two machines each. A client on the machines' wire
looks from outside."""

import json
import pathlib
import subprocess

from cluster import Failure, expect, run, telling, until
from faults._web import serving
from hosts import NETWORK, NETWORK_V6, Host, Wire, node_ready

START = False
NS = "e2e"
BOTH = ["--cluster-cidr=10.42.0.0/16,fd42::/56", "--service-cidr=10.43.0.0/16,fd43::/112"]
IPV6 = ["--cluster-cidr=fd42::/56", "--service-cidr=fd43::/112", "--flannel-backend=host-gw"]
FOUND = {}

# What is the container's beside serving.
CONTAINER = """ports: [{name: http, containerPort: 8080%s}]
env:
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: POD_IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
- {name: HOST_IPS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}"""


def prepare(cluster):
    """The wire, whose bridge is the client and everybody's router."""
    wire, close = Wire(cluster.netns), cluster.close
    FOUND.update(wire=wire, hosts=[], cluster=cluster)
    for command in ("ip link set lo up", f"ip addr add {NETWORK}.1/24 dev br0", f"ip addr add {NETWORK_V6}1/64 dev br0 nodad"):
        wire.run(command)

    def close_all():
        for host in reversed(FOUND["hosts"]):
            host.close()
        wire.close()
        close()

    cluster.close = close_all


def machine(name, number, families):
    cluster = FOUND["cluster"]
    host = Host(FOUND["wire"], cluster.dir, cluster.binary, name, number, families)
    FOUND["hosts"].append(host)
    FOUND[name] = host
    return host


with_log = telling(lambda: "\n".join(f"{host.name} says:\n{host.tail()}" for host in FOUND["hosts"]))


def up(host):
    """It answers, and its own node is Ready."""
    host.wait_up()
    until(lambda: host.alive() and "k3rs is up and running" in host.tail(2000), f"{host.name} is Ready", 60, interval=0.05)


def apply(host, *trees):
    for tree in trees:
        text = tree if isinstance(tree, str) else json.dumps(tree)
        host.kubectl("apply", "-n", NS, "-f", "-", input=text)


def start_pod(host, name, node, host_port=0):
    apply(host, serving(name, node, CONTAINER % (f", hostPort: {host_port}" if host_port else "")))
    host.kubectl("wait", "-n", NS, "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=70)
    return ips(host, name)


def ips(host, pod):
    return [one["ip"] for one in host.get("pod", "-n", NS, pod)["status"]["podIPs"]]


def service(name, app, **spec):
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": ports, **spec}}


def spec_of(host, name):
    return host.get("service", "-n", NS, name)["spec"]


def url(address, port=80, path="cgi-bin/who"):
    return f"http://[{address}]:{port}/{path}" if ":" in address else f"http://{address}:{port}/{path}"


def inside(host, pod, command):
    return host.kubectl("exec", "-n", NS, pod, "--", "sh", "-c", command, check=False).stdout


def plain(text):
    return text.strip().replace("::ffff:", "").replace("[", "").replace("]", "")


def from_pod(host, pod):
    return lambda address, port=80: plain(inside(host, pod, f"timeout 3 wget -q -O - '{url(address, port)}'"))


def from_node(host):
    return lambda address, port=80: plain(host.sh(f"curl -gs --max-time 3 '{url(address, port)}'", check=False))


def from_outside(address, port=80):
    command = ["ip", "netns", "exec", FOUND["wire"].netns, "curl", "-gs", "--max-time", "3", url(address, port)]
    return plain(subprocess.run(command, capture_output=True, text=True).stdout)


def answers(ask, address, port, want):
    said = until(lambda: (ask(address, port) or None), f"{url(address, port)} answers")
    expect(want in said, f"{url(address, port)} says {said!r}, not {want!r}")
    return said


def is_shut(ask, address, port):
    until(lambda: not ask(address, port), f"{url(address, port)} does not answer")


@with_log
def test_a_pod_has_addresses_of_both_families(cluster):
    one = machine("one", 10, "46")
    one.server(*BOTH)
    up(one)
    one.kubectl("create", "namespace", NS)
    addresses = start_pod(one, "web", "one", 8081)
    node = one.get("node", "one")
    blocks = node["spec"]["podCIDRs"]
    expect(blocks == ["10.42.0.0/24", "fd42::/64"] and node["spec"]["podCIDR"] == blocks[0], blocks)
    told = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    expect(told == [one.address, one.address_v6], told)
    expect(addresses[0].startswith("10.42.0.") and addresses[1].startswith("fd42::") and len(addresses) == 2, addresses)
    status = one.get("pod", "-n", NS, "web")["status"]
    expect([status["podIP"], status["hostIP"]] == [addresses[0], one.address], status)
    expect([ip["ip"] for ip in status["hostIPs"]] == told, status["hostIPs"])
    said = inside(one, "web", "echo $POD_IP $POD_IPS $HOST_IPS; cat /etc/hosts; ip -o addr show dev eth0; ip route; ip -6 route; cat /sys/class/net/eth0/mtu")
    for words in (
        f"{addresses[0]} {','.join(addresses)} {','.join(told)}\n",
        f"{addresses[0]}\tweb\n{addresses[1]}\tweb\n",
        f"inet {addresses[0]}/24 ",
        # Without duplicate address detection, which takes two seconds.
        f"inet6 {addresses[1]}/64 scope global flags 02",
        "default via 10.42.0.1 dev eth0",
        "default via fd42::1 dev eth0",
        # What is left of 1500 behind the headers of a tunnel over IPv6.
        "\n1430\n",
    ):
        expect(words in said, f"no {words!r} in {said}")
    host = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "host"}, "spec": {"nodeName": "one", "hostNetwork": True, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "100000"]}]}}
    apply(one, host)
    until(lambda: ips(one, "host") == told, "a pod of the host network has the node's addresses")


@with_log
def test_services_have_the_families_that_they_ask_for(cluster):
    one, pod = FOUND["one"], from_pod(FOUND["one"], "web")
    apply(
        one,
        service("single", "web"),
        service("six", "web", ipFamilies=["IPv6"]),
        service("prefer", "web", ipFamilyPolicy="PreferDualStack", type="NodePort"),
        service("require", "web", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6", "IPv4"]),
        service("none", "web", clusterIP="None", ipFamilyPolicy="PreferDualStack"),
    )
    for name, families in (("single", "4"), ("six", "6"), ("prefer", "46"), ("require", "64"), ("none", "46")):
        spec, want = spec_of(one, name), [f"IPv{family}" for family in families]
        expect(spec["ipFamilies"] == want, f"{name}: {spec}")
        slices = lambda: one.get("endpointslices", "-n", NS, "-l", f"kubernetes.io/service-name={name}")["items"]
        told = lambda: sorted((s["addressType"], s["endpoints"][0]["addresses"][0]) for s in slices() if s["endpoints"])
        mine = dict(zip(("IPv4", "IPv6"), ips(one, "web")))
        until(lambda: told() == sorted((family, mine[family]) for family in want), f"{name} has a slice of each family")
        for family, address in zip(want, spec["clusterIPs"]):
            if address != "None":
                expect(address.startswith("fd43::" if family == "IPv6" else "10.43."), spec)
                answers(pod, address, 80, "web")
                answers(from_node(one), address, 80, "web")
    done = one.kubectl("patch", "service", "-n", NS, "single", "-p", '{"spec":{"ipFamilies":["IPv4","IPv6"]}}', check=False)
    expect("must be 'RequireDualStack' or 'PreferDualStack'" in done.stderr, done)
    one.kubectl("patch", "service", "-n", NS, "single", "-p", '{"spec":{"ipFamilyPolicy":"RequireDualStack"}}')
    answers(pod, spec_of(one, "single")["clusterIPs"][1], 80, "web")
    one.kubectl("patch", "service", "-n", NS, "single", "-p", '{"spec":{"ipFamilyPolicy":"SingleStack"}}')
    expect(len(spec_of(one, "single")["clusterIPs"]) == 1, "one address is left")
    kubernetes = one.get("service", "-n", "default", "kubernetes")["spec"]
    expect((kubernetes["ipFamilies"], kubernetes["clusterIP"]) == (["IPv4"], "10.43.0.1"), kubernetes)


def looked_up(host, name, kind, server):
    """The answers of one server for a name."""
    kind = "" if kind == "ptr" else f"-type={kind}"
    said = inside(host, "web", f"nslookup {kind} {name} {server}")
    found = [line.split()[-1] for line in said.splitlines() if "name = " in line or line.startswith("Address")]
    return sorted(one for one in found if not one.endswith(":53") and one != server)


def test_names_have_both_families(cluster):
    one = FOUND["one"]
    addresses, spec = ips(one, "web"), spec_of(one, "prefer")
    dns = one.get("service", "-n", "kube-system", "kube-dns")["spec"]
    expect((dns["clusterIPs"], dns["ipFamilyPolicy"]) == (["10.43.0.10", "fd43::a"], "RequireDualStack"), dns)
    expect("nameserver 10.43.0.10\nnameserver fd43::a\n" in inside(one, "web", "cat /etc/resolv.conf"), "the pod asks both")
    for server in dns["clusterIPs"]:
        for name, kind, want in (
            ("prefer", "a", spec["clusterIPs"][:1]),
            ("prefer", "aaaa", spec["clusterIPs"][1:]),
            ("six", "a", []),
            ("none", "a", addresses[:1]),
            ("none", "aaaa", addresses[1:]),
        ):
            found = looked_up(one, f"{name}.{NS}.svc.cluster.local", kind, server)
            expect(found == want, f"{name} {kind} at {server}: {found}, not {want}")
        reverse = looked_up(one, spec["clusterIPs"][1], "ptr", server)
        expect(reverse == [f"prefer.{NS}.svc.cluster.local"], reverse)
    answers(from_pod(one, "web"), f"six.{NS}", 80, "web")


@with_log
def test_who_comes_from_outside_finds_both_families(cluster):
    one, pod = FOUND["one"], ips(FOUND["one"], "web")
    both = dict(ipFamilyPolicy="RequireDualStack")
    external = ["192.0.2.99", "fd00::99"]
    apply(
        one,
        service("local", "web", type="LoadBalancer", externalTrafficPolicy="Local", **both),
        service("extern", "web", externalIPs=external, sessionAffinity="ClientIP", **both),
    )
    wire = FOUND["wire"]
    for address, family in zip(external, ("-4", "-6")):
        wire.run(f"ip {family} route replace {address} via {one.address if family == '-4' else one.address_v6}")
    node_port = spec_of(one, "prefer")["ports"][0]["nodePort"]
    ingress = lambda: [i["ip"] for i in one.get("service", "-n", NS, "local")["status"]["loadBalancer"].get("ingress", [])]
    until(lambda: sorted(ingress()) == [one.address, one.address_v6], "the load balancer has the node's addresses")
    for own, client, extra, cluster_ip in ((one.address, f"{NETWORK}.1", external[0], "10.42.0.1"), (one.address_v6, f"{NETWORK_V6}1", external[1], "fd42::1")):
        # Node ports are masqueraded, host ports and local load balancers keep who asks.
        said = answers(from_outside, own, node_port, "web to ")
        expect(client not in said.split(), f"{said} should name the node")
        answers(from_outside, own, 8081, f"web to {client}")
        answers(from_outside, own, 80, f"web to {client}")
        answers(from_outside, extra, 80, "web to ")
        answers(from_node(one), own, node_port, "web to ")
        answers(from_pod(one, "web"), own, node_port, "web to ")
    sets = one.sh("nft list table inet k3rs")
    expect(sets.count("type ipv6_addr") > 2 and "affinity" in sets, sets)
    # IPv6 leaves as it is, for routers that know the pods.
    wire.run(f"ip -6 route replace fd42::/64 via {one.address_v6}")
    for address, want in ((f"{NETWORK}.1", one.address), (f"{NETWORK_V6}1", pod[1])):
        expect(heard_of(address) == want, f"{address} hears from {heard_of(address)}, not {want}")


# Who opens the first connection.
HEAR = """
import socket, sys
s = socket.create_server((sys.argv[1], 7777), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.settimeout(60)
print("bound", flush=True)
print(s.accept()[1][0], flush=True)
"""


def heard_of(address, host="one", pod="web"):
    """Whom the client sees where the pod sends to it."""
    command = ["ip", "netns", "exec", FOUND["wire"].netns, "python3", "-c", HEAR, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hears:
        try:
            expect(hears.stdout.readline() == "bound\n", "the client listens")
            inside(FOUND[host], pod, f"timeout 5 wget -q -O - '{url(address, 7777)}'")
            return hears.stdout.readline().strip()
        finally:
            hears.kill()


# Tells all neighbours that the address of another is its own: an advertisement with IPv6 in front, from a raw socket.
CLAIM = """
import socket, struct, sys
own, taken = [socket.inet_pton(socket.AF_INET6, a) for a in sys.argv[1:3]]
to = socket.inet_pton(socket.AF_INET6, "ff02::1")
mac = bytes.fromhex(sys.argv[3].replace(":", ""))
body = b"\\x20\\0\\0\\0" + taken + b"\\x02\\x01" + mac
pseudo = own + to + struct.pack("!II", len(body) + 4, 58) + b"\\x88\\0\\0\\0" + body
total = sum(struct.unpack("!%dH" % (len(pseudo) // 2), pseudo))
while total >> 16: total = (total & 0xffff) + (total >> 16)
icmp = b"\\x88\\0" + struct.pack("!H", ~total & 0xffff) + body
ip = struct.pack("!IHBB", 6 << 28, len(icmp), 58, 255) + own + to
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0x86dd))
for _ in range(3): s.send(bytes.fromhex("333300000001") + mac + b"\\x86\\xdd" + ip + icmp)
"""


def of_pod(host, address):
    """What a command begins with that runs in the pod's network, with the host's programs."""
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # Pods of others may have the address, too, but not in this machine's directories.
            if b"httpd" not in (path / "cmdline").read_bytes() or str(host.data) not in (path / "mountinfo").read_text(errors="replace"):
                continue
        except OSError:
            continue
        inside = ["nsenter", "-t", path.name, "-n"]
        shown = subprocess.run([*inside, "ip", "-o", "-6", "addr", "show", "dev", "eth0"], capture_output=True, text=True)
        if f" {address}/" in shown.stdout:
            return inside
    raise Failure(f"no pod has the address {address}")


def takes_no_address(host, own, taken):
    """A pod that is judged by its address has no other's: its node and its neighbours do not believe it."""
    inside = of_pod(host, own)
    seen = lambda address: host.sh(f"ip -6 neigh show {address} dev cni0").partition("lladdr")[2].split()[:1]
    for address in (own, taken):
        until(lambda: from_node(host)(address, 8080) and seen(address), f"the node knows {address}")
    before, (mac,) = seen(taken), seen(own)
    # What comes behind them, and is true, arrives.
    run([*inside, "python3", "-c", CLAIM, own, taken, mac])
    run([*inside, "python3", "-c", CLAIM, own, own, "0a:58:00:00:00:99"])
    until(lambda: seen(own) == ["0a:58:00:00:00:99"], "the pod's word about itself counts")
    expect(seen(taken) == before, f"{taken} was at {before} and is at {seen(taken)}")
    run([*inside, "python3", "-c", CLAIM, own, own, mac])


@with_log
def test_policies_know_addresses_of_both_families(cluster):
    one, pod = FOUND["one"], from_pod(FOUND["one"], "client")
    mine, client = ips(one, "web"), start_pod(one, "client", "one")
    policy = lambda **spec: apply(one, {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec})
    only_web = {"matchLabels": {"app": "web"}}
    for address in mine:
        answers(pod, address, 8080, "web")
    policy(podSelector=only_web, policyTypes=["Ingress"])
    for address in mine:
        is_shut(pod, address, 8080)
    policy(podSelector=only_web, ingress=[{"from": [{"ipBlock": {"cidr": "fd42::/64", "except": ["fd42::ff00/120"]}}]}])
    answers(pod, mine[1], 8080, f"web to {client[1]}")
    is_shut(pod, mine[0], 8080)
    policy(podSelector=only_web, ingress=[{"from": [{"ipBlock": {"cidr": "fd42::/64", "except": [f"{client[1]}/128"]}}]}])
    is_shut(pod, mine[1], 8080)
    takes_no_address(one, client[1], mine[1])
    policy(podSelector=only_web, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": "http"}]}])
    for address in mine:
        answers(pod, address, 8080, "web")
    policy(podSelector={"matchLabels": {"app": "client"}}, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])
    is_shut(pod, mine[1], 8080)
    answers(pod, mine[0], 8080, "web")
    one.kubectl("delete", "networkpolicy", "-n", NS, "--all")


def by_ipv6(host, server, pod):
    """Log, command and forwarded port of a pod, all by the server's IPv6 address."""
    ask = ["--server", f"https://[{server}]:6443", "-n", NS]
    host.kubectl("logs", *ask, pod)
    done = host.kubectl("exec", "-i", *ask, pod, "--", "sh", "-c", "cat; exit 3", input="passed on\n", check=False)
    expect((done.returncode, done.stdout) == (3, "passed on\n"), done)
    forward = subprocess.Popen(
        host.inside([host.kubectl_path, "port-forward", *ask, f"pod/{pod}", "18080:8080"]), env=host.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: pod in from_node(host)("::1", 18080), "the port is forwarded")
    finally:
        forward.kill()
        forward.wait()


@with_log
def test_the_server_is_reached_over_ipv6(cluster):
    one = FOUND["one"]
    by_ipv6(one, one.address_v6, "web")
    ca = one.data / "server/tls/server-ca.crt"
    for address in (one.address_v6, "fd43::1", "::1"):
        done = one.sh(f"openssl s_client -connect '[{one.address_v6}]:6443' -CAfile {ca} -verify_ip {address} -verify_return_error </dev/null 2>&1", check=False)
        expect("Verification: OK" in done, f"{address}: {done}")
    said = one.sh(f"openssl s_client -connect '[{one.address_v6}]:10250' -CAfile {ca} -verify_ip {one.address_v6} -verify_return_error </dev/null 2>&1", check=False)
    expect("Verification: OK" in said, said)


@with_log
def test_a_second_machine_joins_over_ipv6(cluster):
    one, two = FOUND["one"], machine("two", 11, "46")
    expect("flannel" not in one.sh("ip link"), "one node makes no tunnel")
    token = (one.data / "server" / "node-token").read_text().strip()
    two.agent(f"https://[{one.address_v6}]:6443", token)
    until(lambda: two.alive() and node_ready(one, "two"), "two is Ready", 60)
    far, near = start_pod(one, "far", "two"), ips(one, "web")
    expect(far[0].startswith("10.42.1.") and far[1].startswith("fd42:0:0:1::"), far)
    notes = one.get("node", "two")["metadata"]["annotations"]
    shown = {key.partition("/")[2]: value for key, value in notes.items() if key.startswith("flannel")}
    want = {
        "backend-type": "vxlan",
        "kube-subnet-manager": "true",
        "public-ip": two.address,
        "public-ipv6": two.address_v6,
        "backend-data": '{"VNI":1,"VtepMAC":"0a:58:0a:2a:01:00"}',
        "backend-v6-data": '{"VNI":1,"VtepMAC":"0a:58:00:00:00:01"}',
    }
    expect(all(shown.get(key) == value for key, value in want.items()), shown)
    for here, there in ((0, 0), (1, 1)):
        answers(from_pod(one, "web"), far[there], 8080, f"far to {near[here]}")
        answers(from_pod(one, "far"), near[here], 8080, f"web to {far[there]}")
        done = inside(one, "far", f"timeout 9 wget -q -O - '{url(near[here], 8080, 'big')}' | wc -c")
        expect(done.strip() == "300000", f"whole packets: {done}")
    apply(one, service("far", "far", ipFamilyPolicy="RequireDualStack", type="NodePort"))
    spec = spec_of(one, "far")
    for own, address in zip((one.address, one.address_v6), spec["clusterIPs"]):
        answers(from_pod(one, "web"), address, 80, "far")
        answers(from_node(one), address, 80, "far")
        answers(from_outside, own, spec["ports"][0]["nodePort"], "far")
    answers(from_pod(one, "web"), f"far.{NS}", 80, "far")
    by_ipv6(one, one.address_v6, "far")


@with_log
def test_a_restart_leaves_the_ways_as_they_are(cluster):
    one, far = FOUND["one"], ips(FOUND["one"], "far")
    show = "ip -o -d link show flannel-v6.1; ip -6 route show fd42:0:0:1::/64; ip neigh show dev flannel-v6.1 nud permanent; bridge fdb show dev flannel-v6.1; ip -o -6 addr show dev flannel-v6.1 scope global"
    before = one.sh(show)
    for words in ("fd42:0:0:1::/64 via fd42:0:0:1:: dev flannel-v6.1", "vxlan id 1 local fd00::10 dev eth0", "dst fd00::11", "inet6 fd42::/128"):
        expect(words in before, f"no {words!r} in {before}")
    one.stop(9)
    expect("far" in from_node(one)(far[1], 8080), "pods of the other machine are reached without the server")
    one.server(*BOTH)
    one.wait_up()
    answers(from_pod(one, "web"), far[1], 8080, "far")
    expect(one.sh(show) == before, f"{before}\n{one.sh(show)}")


@with_log
def test_a_machine_without_ipv6_says_so(cluster):
    off = machine("off", 12, "4")
    off.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
    off.server(*BOTH, "--disable-agent")
    off.ended("IPv6 is switched off on this machine (sysctl net.ipv6.conf.all.disable_ipv6), and the cluster needs it")
    off.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0")
    off.server(*BOTH, "--disable-agent", "--node-ip=192.0.2.12")
    off.ended("cluster-cidr: [10.42.0.0/16 fd42::/56] and node-ip: [192.0.2.12], must share the same IP version (IPv4, IPv6 or dual-stack)")
    # An address that is announced late is waited for.
    off.server(*BOTH, "--disable-agent")
    until(lambda: "Starting k3rs" in off.tail(3), "it has begun")
    off.sh(f"ip addr add {off.address_v6}/64 dev eth0 nodad")
    off.wait_up()
    off.close()


@with_log
def test_a_cluster_stays_what_it_began_as(cluster):
    """Without flags a machine of IPv6 only begins one of IPv6; that IPv4 comes later, or first, changes nothing."""
    alone = machine("alone", 15, "6")
    alone.server("--disable-agent")
    alone.wait_up()
    primary = lambda: alone.get("service", "-n", "default", "kubernetes")["spec"]["clusterIP"]
    expect(primary() == "fd00:43::1", primary())
    alone.stop()
    alone.sh(f"ip addr add {alone.address}/24 dev eth0")
    alone.server("--disable-agent")
    alone.wait_up()
    expect("invalid" not in alone.tail() and "server: https://[::1]:6443" in open(alone.env["KUBECONFIG"]).read(), alone.tail())
    until(lambda: primary() == "fd00:43::1", "it is of IPv6")
    alone.close()


@with_log
def test_ipv6_alone(cluster):
    for name in ("two", "one"):
        FOUND[name].close()
    three, four = machine("three", 13, "6"), machine("four", 14, "6")
    expect(not three.sh("ip -o -4 addr show dev eth0; ip -4 route"), "there is no IPv4")
    three.server(*IPV6)
    up(three)
    three.kubectl("create", "namespace", NS)
    four.agent(f"https://[{three.address_v6}]:6443", (three.data / "server" / "node-token").read_text().strip())
    web = start_pod(three, "web", "three", 8081)
    expect(len(web) == 1 and web[0].startswith("fd42::"), web)
    kubeconfig = open(three.env["KUBECONFIG"]).read()
    expect("server: https://[::1]:6443" in kubeconfig, kubeconfig)
    until(lambda: four.alive() and node_ready(three, "four"), "four is Ready", 60)
    far = start_pod(three, "far", "four")
    both = service("both", "far", ipFamilyPolicy="RequireDualStack")
    done = three.kubectl("apply", "-n", NS, "-f", "-", input=json.dumps(both), check=False)
    expect("this cluster is not configured for dual-stack services" in done.stderr, done)
    apply(three, service("far", "far", type="LoadBalancer", ipFamilyPolicy="PreferDualStack"))
    spec = spec_of(three, "far")
    expect(spec["ipFamilies"] == ["IPv6"], spec)
    answers(from_pod(three, "web"), far[0], 8080, f"far to {web[0]}")
    answers(from_pod(three, "far"), web[0], 8080, f"web to {far[0]}")
    answers(from_pod(three, "web"), f"far.{NS}.svc.cluster.local", 80, "far")
    for ask in (from_node(three), from_pod(three, "web"), from_outside):
        answers(ask, three.address_v6, spec["ports"][0]["nodePort"], "far")
    answers(from_outside, three.address_v6, 80, "far")
    answers(from_outside, three.address_v6, 8081, "web to fd00::1")
    ingress = lambda: [i["ip"] for i in three.get("service", "-n", NS, "far")["status"]["loadBalancer"].get("ingress", [])]
    until(lambda: sorted(ingress()) == [three.address_v6, four.address_v6], "the load balancer has the nodes' addresses")
    # Neighbours are routed to.
    routes = three.sh("ip -6 route show fd42:0:0:1::/64; ip link")
    expect("via fd00::14 dev eth0" in routes and "flannel" not in routes, routes)
    by_ipv6(three, three.address_v6, "far")
    expect(three.sh("curl -gsk --max-time 5 'https://[fd43::1]/ping'") == "pong", "the API is at its Service")
    done = inside(three, "web", "nc -w 5 kubernetes.default.svc 443 </dev/null && echo connected")
    expect("connected" in done, f"pods find it by name: {done!r}")
