"""ServiceLB: Services of type LoadBalancer answer on the nodes' addresses, for a client on the nodes' wire."""

import json
import subprocess

from cluster import expect, run, telling, until
from faults._web import serving
from faults.remote import Node

NS = "balanced"
NEAR, FAR, CLIENT = "192.0.2.10", "192.0.2.11", "192.0.2.1"
# No Node names it: the second interface of a machine.
SECOND = "192.0.2.20"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
FOUND = {}


def prepare(cluster):
    """The client is a bridge to which all nodes are plugged."""
    FOUND["wire"] = cluster.netns + "-wire"
    run(["ip", "netns", "add", FOUND["wire"]])
    run(cluster.inside(["ip", "link", "set", "peer0", "netns", FOUND["wire"]]))
    for command in (
        "ip link set lo up",
        "ip link add wire0 type bridge",
        "ip link set peer0 master wire0",
        "ip link set peer0 up",
        f"ip addr add {CLIENT}/24 dev wire0",
        "ip link set wire0 up",
    ):
        run(["ip", "netns", "exec", FOUND["wire"], *command.split()])
    cluster.sh(f"ip addr add {SECOND}/24 dev eth0")
    close = cluster.close

    def close_all():
        if "far" in FOUND:
            FOUND["far"].close()
        close()
        subprocess.run(["ip", "netns", "del", FOUND["wire"]], capture_output=True)

    cluster.close = close_all


class FarNode(Node):
    """node2, on the same wire."""

    def __init__(self, cluster):
        super().__init__(cluster, "far", node="node2")
        self.netns = cluster.netns + "-far"
        run(["ip", "netns", "add", self.netns])
        run(["ip", "netns", "exec", FOUND["wire"], "ip", "link", "add", "peer1", "type", "veth", "peer", "name", "eth0", "netns", self.netns])
        for command in ("ip link set peer1 master wire0", "ip link set peer1 up"):
            run(["ip", "netns", "exec", FOUND["wire"], *command.split()])
        for command in ("ip link set lo up", f"ip addr add {FAR}/24 dev eth0", "ip link set eth0 up", f"ip route add default via {CLIENT}"):
            run(self.inside(command.split()))

    def inside(self, command):
        return ["nsenter", f"--net=/run/netns/{self.netns}", *command]

    def close(self):
        super().close()
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)


def service(cluster, name, app, ports=(80,), annotations=None, labels=None, **spec):
    tree = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NS, "annotations": annotations or {}, "labels": labels or {}},
        "spec": {"type": "LoadBalancer", "selector": {"app": app}, "ports": [{"name": f"p{port}", "port": port, "targetPort": 8080} for port in ports], **spec},
    }
    return cluster.kubectl("apply", "-f", "-", input=json.dumps(tree))


def get(cluster, name):
    return cluster.get("service", "-n", NS, name)


def addresses(cluster, name):
    return [one["ip"] for one in get(cluster, name)["status"]["loadBalancer"].get("ingress", [])]


def wait_addresses(cluster, name, *want):
    until(lambda: addresses(cluster, name) == list(want), f"service {name} has {want}", 60)


def patch(cluster, kind, name, tree, *args):
    where = ("-n", NS) if kind == "service" else ()
    cluster.kubectl("patch", kind, *where, name, "--type=merge", "-p", json.dumps(tree), *args)


def asked(url, seconds=3):
    """What the client on the wire sees: an exit code of curl's and a text."""
    done = subprocess.run(
        ["ip", "netns", "exec", FOUND["wire"], "curl", "-sk", "--max-time", str(seconds), url], capture_output=True, text=True
    )
    return done.returncode, done.stdout.strip()


def who(address, port=80):
    return asked(f"http://{address}:{port}/cgi-bin/who")[1].replace("[::ffff:", "").rstrip("]")


def wait_who(address, want, port=80):
    until(lambda: want in who(address, port), f"{address}:{port} answers {want!r} (it says {who(address, port)!r})", 60)


def wait_nobody(address, port=80):
    until(lambda: asked(f"http://{address}:{port}/")[0] in (7, 28), f"nobody answers at {address}:{port}", 60)


def events(cluster, name, reason):
    found = cluster.get("events", "-n", NS, "--field-selector", f"involvedObject.name={name},reason={reason}")["items"]
    return [event["message"] for event in found]


def wait_event(cluster, name, reason, words):
    until(lambda: any(words in message for message in events(cluster, name, reason)), f"event {reason} of {name}: {words}", 60)


def test_a_service_answers_on_the_nodes_addresses(cluster):
    cluster.kubectl("create", "namespace", NS)
    cluster.apply(serving("web", "node1"), NS)
    cluster.apply(serving("other", "node1"), NS)
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/web", "pod/other", "--timeout=60s", timeout=70)
    done = service(cluster, "web", "web", allocateLoadBalancerNodePorts=False)
    expect("Warning" not in done.stderr, done.stderr)
    wait_addresses(cluster, "web", NEAR)
    tree = get(cluster, "web")
    assert tree["status"]["loadBalancer"]["ingress"] == [{"ip": NEAR, "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}], tree
    assert tree["metadata"]["finalizers"] == [FINALIZER], tree
    assert "nodePort" not in tree["spec"]["ports"][0], tree
    wait_event(cluster, "web", "UpdatedLoadBalancer", f"Updated LoadBalancer with new IPs: [] -> [{NEAR}]")
    wait_who(NEAR, "web to ")
    wait_who(SECOND, "web to ")
    expect(f"web to {CLIENT}" not in who(NEAR), "the client's address is the node's with externalTrafficPolicy Cluster")
    fetch = ("exec", "-n", NS, "other", "--", "timeout", "3", "wget", "-q", "-O", "-", f"http://{NEAR}/cgi-bin/who")
    until(lambda: cluster.kubectl(*fetch, check=False).stdout.startswith("web to "), "a pod reaches it")
    # Loopback is the host's.
    assert cluster.sh("curl -s --max-time 3 http://127.0.0.1/cgi-bin/who", check=False) == ""


def test_local_traffic_keeps_the_clients_address(cluster):
    patch(cluster, "service", "web", {"spec": {"externalTrafficPolicy": "Local"}})
    wait_addresses(cluster, "web", NEAR)
    for address in (NEAR, SECOND):
        wait_who(address, f"web to {CLIENT}")
    patch(cluster, "service", "web", {"spec": {"selector": {"app": "none"}}})
    wait_addresses(cluster, "web")
    wait_nobody(NEAR)
    assert "finalizers" not in get(cluster, "web")["metadata"]
    patch(cluster, "service", "web", {"spec": {"selector": {"app": "web"}}})
    wait_addresses(cluster, "web", NEAR)
    wait_who(NEAR, f"web to {CLIENT}")


def test_source_ranges_are_held(cluster):
    patch(cluster, "service", "web", {"spec": {"loadBalancerSourceRanges": ["198.51.100.0/24"]}})
    for address in (NEAR, SECOND):
        wait_nobody(address)
    patch(cluster, "service", "web", {"spec": {"loadBalancerSourceRanges": ["198.51.100.0/24", f"{CLIENT}/32"]}})
    for address in (NEAR, SECOND):
        wait_who(address, "web to")
    patch(cluster, "service", "web", {"spec": {"loadBalancerSourceRanges": None, "externalTrafficPolicy": "Cluster"}})


def test_a_port_is_one_services(cluster):
    service(cluster, "late", "other", (81, 80))
    wait_event(cluster, "late", "PortInUse", f"port 80/TCP is held by service {NS}/web on node node1")
    # Both of its ports are nobody's for it, and the first has what it had.
    assert addresses(cluster, "late") == []
    wait_nobody(NEAR, 81)
    wait_who(NEAR, "web to")
    # A user adds a port to one that is served.
    service(cluster, "third", "other", (82,))
    wait_addresses(cluster, "third", NEAR)
    wait_who(NEAR, "other to", 82)
    service(cluster, "third", "other", (82, 80))
    wait_event(cluster, "third", "PortInUse", f"held by service {NS}/web")
    wait_addresses(cluster, "third")
    wait_who(NEAR, "web to")
    cluster.kubectl("delete", "service", "-n", NS, "third")
    # It goes, and the other gets what it waited for.
    cluster.kubectl("delete", "service", "-n", NS, "web")
    wait_addresses(cluster, "late", NEAR)
    wait_who(NEAR, "other to")
    wait_who(NEAR, "other to", 81)
    patch(cluster, "service", "late", {"spec": {"type": "ClusterIP", "ports": get(cluster, "late")["spec"]["ports"]}})
    until(lambda: "finalizers" not in get(cluster, "late")["metadata"], "nothing keeps it any more")
    assert addresses(cluster, "late") == []
    wait_nobody(NEAR)
    cluster.kubectl("delete", "service", "-n", NS, "late")


def test_a_pods_port_is_its_own(cluster):
    hosted = serving("hosted", "node1", "ports: [{containerPort: 8080, hostPort: 83}]")
    host = serving("host", "node1", "ports: [{containerPort: 8084}]", port=8084, host_network=True)
    cluster.apply(hosted + host, NS)
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/hosted", "pod/host", "--timeout=60s", timeout=70)
    for port, pod in ((83, "hosted"), (8084, "host")):
        service(cluster, "web", "web", (port,))
        wait_event(cluster, "web", "PortInUse", f"port {port}/TCP is held by pod {NS}/{pod} on node node1")
        wait_addresses(cluster, "web")
        wait_who(NEAR, f"{pod} to", port)
        cluster.kubectl("delete", "pod", "-n", NS, pod)
        wait_addresses(cluster, "web", NEAR)
        wait_who(NEAR, "web to", port)
    cluster.kubectl("delete", "service", "-n", NS, "web")


def test_the_nodes_own_ports_are_nobodys(cluster):
    for port in (6443, 10248, 10053, 30080):
        service(cluster, f"own{port}", "web", (port, 80))
        wait_event(cluster, f"own{port}", "PortReserved", f"port {port}/TCP is the node's own, or one of the node ports")
        assert addresses(cluster, f"own{port}") == []
    wait_nobody(NEAR, 80)
    for address in (NEAR, SECOND):
        until(lambda: "gitVersion" in asked(f"https://{address}:6443/version")[1], f"the API answers at {address}")
        until(lambda: asked(f"https://{address}:10250/healthz")[0] == 0, f"the kubelet answers at {address}")
    # Whatever a status says: on the node's addresses its own ports come first.
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": NEAR, "ports": [{"port": 6443, "protocol": "TCP"}]}]}}}
    patch(cluster, "service", "own6443", {"spec": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}})
    patch(cluster, "service", "own6443", ingress, "--subresource=status")
    wait_addresses(cluster, "own6443")
    until(lambda: "gitVersion" in asked(f"https://{NEAR}:6443/version")[1], "the API answers")
    cluster.kubectl("delete", "service", "-n", NS, *(f"own{port}" for port in (6443, 10248, 10053, 30080)))


def test_two_nodes(cluster):
    far = FOUND["far"] = FarNode(cluster)
    telling(lambda: f"node2 says:\n{far.tail()}")(two_nodes)(cluster)


def two_nodes(cluster):
    far = FOUND["far"]
    far.start()
    far.wait_ready()
    service(cluster, "web", "web")
    wait_addresses(cluster, "web", NEAR, FAR)
    for address in (NEAR, SECOND, FAR):
        wait_who(address, "web to ")
    # Only where its pod is.
    patch(cluster, "service", "web", {"spec": {"externalTrafficPolicy": "Local"}})
    wait_addresses(cluster, "web", NEAR)
    wait_who(NEAR, f"web to {CLIENT}")
    wait_nobody(FAR)
    patch(cluster, "service", "web", {"spec": {"externalTrafficPolicy": "Cluster"}})
    wait_addresses(cluster, "web", NEAR, FAR)
    # Labels choose, and a port is a Service's on the nodes of its pool.
    enable, pool = "svccontroller.k3s.cattle.io/enablelb", "svccontroller.k3s.cattle.io/lbpool"
    cluster.kubectl("label", "node", "node2", f"{enable}=true", f"{pool}=b")
    wait_addresses(cluster, "web", FAR)
    wait_nobody(NEAR)
    wait_who(FAR, "web to ")
    cluster.kubectl("label", "node", "node1", f"{enable}=true", f"{pool}=a")
    cluster.kubectl("label", "service", "-n", NS, "web", f"{pool}=b")
    service(cluster, "other", "other", labels={pool: "a"})
    wait_addresses(cluster, "other", NEAR)
    wait_addresses(cluster, "web", FAR)
    wait_who(NEAR, "other to ")
    wait_who(FAR, "web to ")
    # A node without pods of others: a taint, and who stands it.
    cluster.kubectl("taint", "node", "node2", "mine=yes:NoSchedule")
    wait_addresses(cluster, "web")
    wait_event(cluster, "web", "UnAvailableLoadBalancer", "There are no available nodes for LoadBalancer")
    cluster.kubectl("annotate", "service", "-n", NS, "web", "svccontroller.k3s.cattle.io/tolerations=- {key: mine, operator: Exists}")
    wait_addresses(cluster, "web", FAR)
    wait_who(FAR, "web to ")
    cluster.kubectl("delete", "service", "-n", NS, "other")
    far.close()
    del FOUND["far"]
    cluster.kubectl("delete", "node", "node2")
    cluster.kubectl("label", "node", "node1", f"{enable}-", f"{pool}-")
    wait_addresses(cluster, "web", NEAR)
    wait_who(NEAR, "web to ")


def test_a_restart_changes_nothing(cluster):
    before = get(cluster, "web")
    cluster.stop()
    wait_who(NEAR, "web to")
    cluster.start()
    until(lambda: "is up and running" in cluster.tail(200).split("Received SIGTERM")[-1], "the node is up", 60)
    wait_who(NEAR, "web to ")
    after = get(cluster, "web")
    assert after == before, (before, after)


def test_z_switched_off(cluster):
    cluster.stop()
    cluster.args = ["--disable", "servicelb"]
    cluster.start()
    wait_addresses(cluster, "web")
    wait_nobody(NEAR)
    assert "finalizers" not in get(cluster, "web")["metadata"]
    # Another load balancer's work is left to it.
    service(cluster, "theirs", "web", (90,))
    ingress = {"metadata": {"finalizers": [FINALIZER]}, "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}}}
    patch(cluster, "service", "theirs", ingress, "--subresource=status")
    cluster.stop()
    cluster.start()
    service(cluster, "pending", "web", (91,))
    until(lambda: get(cluster, "pending"), "it is there")
    assert addresses(cluster, "theirs") == ["198.51.100.9"] and addresses(cluster, "pending") == []
    assert get(cluster, "theirs")["metadata"]["finalizers"] == [FINALIZER]
    patch(cluster, "service", "theirs", {"metadata": {"finalizers": None}})
    done = subprocess.run(cluster.inside([cluster.binary, "server", "--servicelb-namespace=x"]), env=cluster.env, capture_output=True, text=True, timeout=30)
    expect(done.returncode == 1 and "ServiceLB needs no pods here" in done.stderr, f"{done}")
    cluster.stop()
    cluster.args = []
    cluster.start()
    wait_addresses(cluster, "web", NEAR)
    wait_addresses(cluster, "theirs", NEAR)
    wait_who(NEAR, "web to ")
    # Behind a router that translates: the outer address is published, and packets come to the inner one.
    cluster.stop()
    cluster.args = ["--node-external-ip", "203.0.113.5"]
    cluster.start()
    wait_addresses(cluster, "web", "203.0.113.5")
    for address in (NEAR, SECOND):
        wait_who(address, "web to ")
