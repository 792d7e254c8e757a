"""Two nodes on one wire: pods reach each other through flannel's tunnel, and the server the other node's kubelet through
the agent's own."""

import json
import os
import pathlib
import subprocess

from cluster import Failure, run, telling, until
from faults._web import serving
from faults.remote import Node
from hosts import cut

FAR = "192.0.2.11"

SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec:
  type: NodePort
  selector: {app: %(name)s}
  ports: [{port: 80, targetPort: 8080}]
"""


class FarNode(Node):
    """node2, in a network namespace of its own at the other end of the first one's wire."""

    def __init__(self, cluster):
        super().__init__(cluster, "far", node="node2")
        self.netns = cluster.netns + "-far"
        run(["ip", "netns", "add", self.netns])
        run(cluster.inside(["ip", "link", "set", "peer0", "netns", self.netns]))
        for command in (
            "ip link set lo up",
            "ip link set peer0 name eth0",
            f"ip addr add {FAR}/24 dev eth0",
            "ip link set eth0 up",
            "ip route add default via 192.0.2.1",
        ):
            run(self.inside(command.split()))

    def inside(self, command):
        return ["nsenter", f"--net=/run/netns/{self.netns}", *command]

    def sh(self, command, check=True):
        done = subprocess.run(self.inside(["sh", "-c", command]), capture_output=True, text=True, timeout=30)
        if check and done.returncode != 0:
            raise Failure(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def uninstall(self):
        command = [self.cluster.binary, "uninstall", *self.args()]
        subprocess.run(self.inside(command), env=self.env, capture_output=True, timeout=60)

    def close(self):
        if self.log.closed:
            return
        self.stop(9)
        self.uninstall()
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)
        self.log.close()


FOUND = {}


with_log = telling(lambda: f"node2 says:\n{FOUND['node'].tail()}\n{FOUND['node'].sh('ip route; ip -d link show flannel.1', check=False)}")


def fetched(cluster, pod, url):
    """What a pod gets."""
    done = cluster.kubectl("exec", "-n", "e2e", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False)
    return done.stdout


def answers(cluster, pod, url, who):
    until(lambda: f"hello from {who}" in fetched(cluster, pod, url), f"{pod} reaches {who} at {url}")


@with_log
def test_pods_of_two_nodes_reach_each_other(cluster):
    node = FOUND["node"]
    assert "flannel.1" not in cluster.sh("ip link"), "one node makes no tunnel"
    node.start()
    node.wait_ready()
    cluster.kubectl("create", "namespace", "e2e")
    for name, on in (("one", "node1"), ("two", "node2")):
        cluster.apply(serving(name, on) + SERVICE % {"name": name})
    address = {}
    for name in ("one", "two"):
        cluster.kubectl("wait", "-n", "e2e", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        address[name] = cluster.get("pod", "-n", "e2e", name)["status"]["podIP"]
    FOUND["address"] = address
    assert address["one"].startswith("10.42.0.") and address["two"].startswith("10.42.1."), address
    answers(cluster, "one", f"http://{address['two']}:8080/", "two")
    answers(cluster, "two", f"http://{address['one']}:8080/", "one")
    # Whole packets fit, and nobody's address is changed on the way.
    done = cluster.kubectl("exec", "-n", "e2e", "two", "--", "sh", "-c",
                           f"cat /sys/class/net/eth0/mtu; timeout 9 wget -q -O - http://{address['one']}:8080/big | wc -c")
    assert done.stdout.split() == ["1450", "300000"], done.stdout
    seen = "".join(f"{int(part):02X}" for part in reversed(address["two"].split(".")))
    connections = cluster.kubectl("exec", "-n", "e2e", "one", "--", "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    assert seen in connections, (seen, connections)
    notes = cluster.get("node", "node2")["metadata"]["annotations"]
    shown = [notes.get(f"flannel.alpha.coreos.com/{key}") for key in ("backend-type", "backend-data", "public-ip", "kube-subnet-manager")]
    assert shown == ["vxlan", '{"VNI":1,"VtepMAC":"0a:58:0a:2a:01:00"}', FAR, "true"], notes


@with_log
def test_services_names_and_node_ports_lead_to_the_other_node(cluster):
    node, services = FOUND["node"], {name: cluster.get("service", "-n", "e2e", name)["spec"] for name in ("one", "two")}
    for here, there in (("one", "two"), ("two", "one")):
        answers(cluster, here, f"http://{services[there]['clusterIP']}/", there)
        answers(cluster, here, f"http://{there}.e2e.svc.cluster.local/", there)
    # The first node sends what comes to it on to the pod of the second, and the other way round; hosts, too.
    for sh, host, name in ((node.sh, "192.0.2.10", "two"), (cluster.sh, FAR, "one"), (cluster.sh, "127.0.0.1", "two")):
        port = services[name]["ports"][0]["nodePort"]
        until(lambda: f"hello from {name}" in sh(f"curl -s --max-time 3 http://{host}:{port}/", check=False), f"{host}:{port} is {name}")
    for sh, name in ((cluster.sh, "two"), (node.sh, "one")):
        assert "hello" in sh(f"curl -s --max-time 3 http://{services[name]['clusterIP']}/")
        assert "hello" in sh(f"curl -s --max-time 3 http://{FOUND['address'][name]}:8080/")


ZONED = """
apiVersion: v1
kind: Service
metadata: {name: zoned}
spec:
  selector: {tier: both}
  trafficDistribution: PreferClose
  ports: [{port: 80, targetPort: 8080}]
"""


@with_log
def test_clients_are_led_to_their_own_zone(cluster):
    node = FOUND["node"]
    for on, zone, pod in (("node1", "a", "one"), ("node2", "b", "two")):
        cluster.kubectl("label", "node", on, f"topology.kubernetes.io/zone={zone}")
        cluster.kubectl("label", "pod", "-n", "e2e", pod, "tier=both")
    cluster.apply(ZONED)
    address = cluster.get("service", "-n", "e2e", "zoned")["spec"]["clusterIP"]

    def led(sh):
        return sh("nft list map inet k3rs endpoints4").count(f"{address} . tcp . 80 .")

    for sh, near in ((cluster.sh, "one"), (node.sh, "two")):
        until(lambda: led(sh) == 1, f"{near} alone is led to")
        said = {sh(f"curl -s --max-time 9 http://{address}/").strip() for _ in range(5)}
        assert said == {f"hello from {near}"}, said
    # Without a zone there is nobody who is near.
    cluster.kubectl("label", "node", "node2", "topology.kubernetes.io/zone-")
    until(lambda: led(node.sh) == 2, "both are led to")
    assert led(cluster.sh) == 1


# A datagram to 10.42.0.2:9 from 10.42.1.77, as the tunnel carries it: VXLAN, Ethernet, IPv4, UDP.
INJECT = """
import socket, struct, sys
to = sys.argv[1]
inner = struct.pack("!HHHH", 9999, 9, 9, 0) + b"x"
def check(b): s = sum(struct.unpack("!10H", b)); s = (s & 0xffff) + (s >> 16); return ~(s + (s >> 16)) & 0xffff
head = lambda c: struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(inner), 1, 0, 64, 17, c, socket.inet_aton("10.42.1.77"), socket.inet_aton(sys.argv[2]))
frame = bytes.fromhex("0a580a2a0000" "0a580a2a0100" "0800") + head(check(head(0))) + inner
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3):
    try: s.sendto(bytes.fromhex("0800000000000100") + frame, (to, 8472))
    except OSError: pass
"""


def mounts(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")
    except OSError:
        return ""


@with_log
def test_pods_put_nothing_into_the_tunnel(cluster):
    """The tunnel believes what reaches its port; a pod that wrote there would speak as any pod of any node."""
    node, one = FOUND["node"], FOUND["address"]["one"]

    def arrived():
        text = cluster.kubectl("exec", "-n", "e2e", "one", "--", "cat", "/proc/net/snmp").stdout
        names, values = [line.split() for line in text.splitlines() if line.startswith("Udp:")]
        return int(values[names.index("NoPorts")])

    def of_pod(address):
        """What a command begins with that runs in the pod's network, with the host's programs."""
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"httpd" not in path.read_bytes():
                    continue
            except OSError:
                continue
            inside = ["nsenter", "-t", path.parts[2], "-n"]
            shown = subprocess.run([*inside, "ip", "-o", "addr", "show", "dev", "eth0"], capture_output=True, text=True)
            # Other tests' pods may have the address, too, but not in these nodes' directories.
            if f"{address}/" in shown.stdout and str(cluster.dir) in mounts(path.parts[2]):
                return inside
        raise Failure(f"no pod has the address {address}")

    before = arrived()
    # To this node, to its end of the tunnel and its bridge, from its own pod and from the other node's.
    for inside in (of_pod(one), of_pod(FOUND["address"]["two"])):
        for to in ("192.0.2.10", "10.42.0.0", "10.42.0.1"):
            run([*inside, "python3", "-c", INJECT, to, one])
    # What follows comes from the other node itself: it arrives, and by then so had what came before.
    run(node.inside(["python3", "-c", INJECT, "192.0.2.10", one]))
    until(lambda: arrived() - before >= 3, "the node's own datagrams arrive")
    assert arrived() - before == 3, (before, arrived())


@with_log
def test_a_restart_leaves_the_ways_as_they_are(cluster):
    state = "ip -o link show flannel.1; ip route show 10.42.1.0/24; ip neigh show dev flannel.1; bridge fdb show dev flannel.1"
    before, two = cluster.sh(state), f"http://{FOUND['address']['two']}:8080/"
    cluster.stop(9)
    assert "hello" in cluster.sh(f"curl -s --max-time 3 {two}"), "without the server"
    cluster.start()
    until(lambda: "hello" in fetched(cluster, "one", two), "the server is back")
    assert cluster.sh(state) == before and "10.42.1.0/24 via 10.42.1.0 dev flannel.1" in before, before


# What the server's side begins is dropped; answers to what the node began pass.
CLOSED = """
add table inet e2e
add chain inet e2e input { type filter hook input priority -300; policy accept; }
add rule inet e2e input ip saddr 192.0.2.10 ct state new drop
"""


def through_the_tunnel(cluster):
    """A log, a command and the kubelet's own API, of the far node."""
    done = cluster.kubectl("exec", "-i", "-n", "e2e", "two", "--", "sh", "-c", "cat; exit 3", input="passed on\n", check=False)
    assert (done.returncode, done.stdout) == (3, "passed on\n"), done
    cluster.kubectl("logs", "-n", "e2e", "two")
    cluster.kubectl("get", "--raw", "/api/v1/nodes/node2/proxy/healthz")


@with_log
def test_a_node_that_lets_nothing_in_is_reached(cluster):
    node = FOUND["node"]
    run(node.inside(["nft", CLOSED]))
    code = cluster.sh(f"curl -sk --max-time 2 https://{FAR}:10250/healthz; echo $?", check=False)
    assert code.strip() == "28", code
    until(lambda: any("Node node2 has opened a tunnel" in line for line in cluster.log_lines()), "the agent opens its tunnel")
    until(lambda: cluster.kubectl("logs", "-n", "e2e", "two", check=False).returncode == 0, "logs come through it")
    through_the_tunnel(cluster)
    settings = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node2/proxy/configz").stdout)
    assert settings["kubeletconfig"]["port"] == 10250, settings
    top = lambda: cluster.kubectl("top", "node", "node2", check=False)
    until(lambda: top().returncode == 0 and "node2" in top().stdout, "its usage is known")
    forward = subprocess.Popen(
        cluster.inside([cluster.kubectl_path, "port-forward", "-n", "e2e", "pod/two", "18080:8080"]),
        env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: "hello from two" in cluster.sh("curl -s --max-time 3 http://127.0.0.1:18080/", check=False), "the port is forwarded")
        big = cluster.sh("curl -s --max-time 20 http://127.0.0.1:18080/big | wc -c")
        assert big.strip() == "300000", big
    finally:
        forward.kill()
        forward.wait()


@with_log
def test_a_tunnel_that_is_cut_comes_back(cluster):
    node, cuts = FOUND["node"], int(os.environ.get("K3RS_E2E_CUTS", "10"))
    opened = lambda: "\n".join(cluster.log_lines()).count("Node node2 has opened a tunnel")
    for _ in range(cuts):
        before = opened()
        assert cut(node.process.pid) > 0
        until(lambda: opened() > before, "the agent opens another tunnel", 30, interval=0.05)
        ask = lambda: cluster.kubectl("get", "--raw", "/api/v1/nodes/node2/proxy/healthz", check=False)
        until(lambda: ask().stdout == "ok", "the kubelet answers through it", 30, interval=0.05)
    through_the_tunnel(cluster)


@with_log
def test_a_tunnel_is_a_nodes_own(cluster):
    """Who opens one is whom its certificate names; others open none."""
    node = FOUND["node"]
    asked = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=='"
    agent = node.data / "agent"
    secret = (cluster.data / "server" / "node-token").read_text().strip().split("::")[1]

    def answer(more):
        text = node.sh(f"curl -sk -m 2 --http1.1 {more} {asked} -o /dev/null -w '%{{http_code}}' https://192.0.2.10:6443/v1-k3s/connect", check=False)
        return text.strip()[-3:]

    proxy = f"--cert {agent}/client-kube-proxy.crt --key {agent}/client-kube-proxy.key"
    for who, more, wants in (("nobody", "", "403"), ("a token", f"-u {secret}", "403"), ("a proxy", proxy, "403")):
        assert answer(more) == wants, (who, answer(more))
    opened = lambda name: "\n".join(cluster.log_lines()).count(f"Node {name} has opened a tunnel")
    before = opened("node1"), opened("node2")
    own = f"--cert {agent}/client-kubelet.crt --key {agent}/client-kubelet.key -H 'k3s-Node-Name: node1'"
    assert answer(own) == "101", answer(own)
    until(lambda: opened("node2") > before[1], "it is the node's own")
    assert opened("node1") == before[0] == 0
    until(lambda: cluster.kubectl("get", "--raw", "/api/v1/nodes/node2/proxy/healthz", check=False).stdout == "ok", "the agent's own tunnel is used")
    run(node.inside(["nft", "delete table inet e2e"]))


@with_log
def test_zz_a_node_that_goes_takes_its_ways_along(cluster):
    node = FOUND["node"]
    cluster.kubectl("delete", "pod,service", "-n", "e2e", "--all", "--wait=false")
    cluster.wait_pods_gone("e2e")
    node.stop()
    cluster.kubectl("delete", "node", "node2")
    until(lambda: "10.42.1.0" not in cluster.sh("ip route") and "flannel.1" not in cluster.sh("ip link"), "no way is left")
    node.uninstall()
    left = node.sh("ip link; ip route; nft list tables")
    assert not any(word in left for word in ("flannel.1", "cni0", "10.42.", "inet k3rs")), left


def prepare(cluster):
    node, close = FarNode(cluster), cluster.close
    FOUND["node"] = node

    def close_both():
        node.close()
        close()

    cluster.close = close_both
