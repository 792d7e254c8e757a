"""Servers with a part of the control plane: one with an etcd only, control planes without one on it, an agent that knows only the first."""

import json
import pathlib
import signal

from cluster import telling, until
from hosts import Host, Wire, endpoints, node_ready, took
from faults.embedded_etcd import FAST, FIRST, SECOND, THIRD, TOKEN, URL, create, db_info, etcds, members, shows

import time

START = False
ONLY_ETCD = ("--disable-apiserver", "--disable-controller-manager", "--disable-scheduler")
NO_ETCD = ("--token", TOKEN, "--server", URL, "--disable-etcd")
FOURTH = "192.0.2.13"
FOUND = {}

with_log = telling(lambda: "\n".join(f"{host.name} says:\n{host.tail()}" for host in FOUND["hosts"]))


def code(host, path, *options):
    return host.sh(f"curl -s -k {' '.join(options)} -o /dev/null -w '%{{http_code}}' https://127.0.0.1:6443{path}")


def labels(server, name):
    found = server.get("node", name)["metadata"]["labels"]
    return {label.removeprefix("node-role.kubernetes.io/") for label in found if label.startswith("node-role.kubernetes.io/")}


def resident_kib(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@with_log
def test_a_an_etcd_without_a_control_plane(cluster):
    """It takes servers in, and has no API; nor does it need one."""
    cluster.args = ["--token", TOKEN, "--cluster-init", *ONLY_ETCD, *FAST]
    cluster.start(wait=False)
    until(lambda: cluster.alive() and b"k3rs is up and running" in cluster.said_since(0), "it is up", 60, interval=0.05)
    assert code(cluster, "/readyz") == "503" and code(cluster, "/api/v1/nodes") == "503"
    assert "apiserver disabled" in cluster.sh("curl -s -k https://127.0.0.1:6443/api")
    assert code(cluster, "/ping") == "200" and code(cluster, "/cacerts") == "200"
    assert db_info(cluster)[0] == "200" and members(cluster) == {FIRST: True}
    for user, wanted in (("node", "403"), ("server", "200")):
        assert code(cluster, "/v1-k3s/server-bootstrap", f"-u {user}:{TOKEN}") == wanted, user
    assert code(cluster, "/v1-k3s/encrypt/status", f"-u server:{TOKEN}") == "503"
    assert code(cluster, "/v1-k3s/connect") == "503"
    assert not (cluster.data / "server" / "manifests").exists() and not pathlib.Path(cluster.env["KUBECONFIG"]).exists()
    return f"{resident_kib(cluster.process.pid) / 1024:.1f} MiB resident"


@with_log
def test_b_a_control_plane_on_it(cluster):
    second = FOUND["second"]
    second.server("--server", URL, "--disable-etcd")
    second.ended("K3S_TOKEN is required to join a cluster")
    second.server(*NO_ETCD, "--cluster-cidr", "10.99.0.0/16")
    second.ended("critical configuration value mismatch between servers: cluster-cidr")
    since = time.monotonic()
    second.server(*NO_ETCD)
    second.wait_up()
    took_up = took(since)
    assert not etcds(second.data) and members(cluster) == {FIRST: True}
    until(lambda: node_ready(second, "node2"), "its node is Ready", 60)
    until(lambda: node_ready(second, "node1"), "the etcd's node is Ready", 60)
    until(lambda: labels(second, "node2") == {"control-plane", "master"}, "it has its roles", 60)
    until(lambda: labels(second, "node1") == {"etcd"}, "the etcd has its role", 60)
    until(lambda: endpoints(second) == [SECOND], "one serves the API", 60)
    assert code(second, "/db/info", f"-u server:{TOKEN}") == "404", "it has no members to tell"
    done = second.sh(f"curl -s -k -u server:{TOKEN} https://127.0.0.1:6443/v1-k3s/config")
    assert "DisableAPIServer" not in json.loads(done)
    return f"answers after {took_up}"


POD = """
apiVersion: v1
kind: Pod
metadata: {name: %(node)s, namespace: default}
spec:
  nodeName: %(node)s
  tolerations: [{operator: Exists}]
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sh, -c, "echo begun; sleep 3600"]}]
"""


def runs(server, node):
    server.kubectl("apply", "-f", "-", input=POD % {"node": node})
    until(lambda: "begun" in server.kubectl("logs", node, check=False).stdout, f"a pod on {node} has a log", 60)


@with_log
def test_c_its_machine_is_a_node(cluster):
    """The API server reaches its kubelet."""
    second = FOUND["second"]
    until(lambda: second.get("serviceaccount", "default"), "the service account is there", 60)
    runs(second, "node1")


@with_log
def test_d_an_agent_that_joins_by_it(cluster):
    """It learns where the API is, and remembers."""
    second, agent = FOUND["second"], FOUND["agent"]
    agent.agent(URL, TOKEN)
    until(lambda: agent.alive() and node_ready(second, "node4"), "the agent's node is Ready", 60)
    runs(second, "node4")
    known = agent.data / "agent" / "etc" / "k3s-agent-load-balancer.json"
    until(lambda: f"{SECOND}:6443" in known.read_text(), "it remembers the API server", 60)


@with_log
def test_e_more_of_both(cluster):
    """A second control plane, by the etcd; then its machine gets an etcd as well: roles change with flags."""
    second, third = FOUND["second"], FOUND["third"]
    third.server(*NO_ETCD)
    third.wait_up()
    until(lambda: create(third, "e1"), "it writes", 60)
    shows(second, "e1")
    third.stop()
    # What it had of the datastore was no etcd: it joins as any new server.
    third.server("--token", TOKEN, "--server", URL, *FAST)
    third.wait_up()
    until(lambda: members(cluster) == {FIRST: True, THIRD: True}, "it is a member", 60)
    until(lambda: labels(second, "node3") == {"control-plane", "master", "etcd"}, "it has all roles", 60)
    shows(third, "e1")
    known = second.data / "agent" / "etc" / "k3s-etcd-server-load-balancer.json"
    until(lambda: f"{THIRD}:2379" in known.read_text(), "the control plane knows the new member", 60)


@with_log
def test_f_a_control_plane_outlives_a_member_that_it_used(cluster):
    """With a third one, that one dies that was the only one when the control plane began."""
    second, third, agent = FOUND["second"], FOUND["third"], FOUND["agent"]
    agent.stop()
    # The agent's machine becomes an etcd only: its node stays.
    agent.server("--token", TOKEN, "--server", URL, *ONLY_ETCD, *FAST)
    until(lambda: agent.alive() and members(third) == {FIRST: True, THIRD: True, FOURTH: True}, "it is a member", 60)
    until(lambda: labels(second, "node4") == {"etcd"}, "it has its role", 60)
    known = second.data / "agent" / "etc" / "k3s-etcd-server-load-balancer.json"
    until(lambda: f"{FOURTH}:2379" in known.read_text(), "the control plane knows the third member", 60)
    until(lambda: create(second, "f1"), "it writes", 60)
    cluster.stop(signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: create(second, "f2"), "it writes on", 60, interval=0.05)
    after = took(killed)
    shows(third, "f1")
    # And at a start at which who took it in does not answer.
    second.stop()
    second.server(*NO_ETCD)
    second.wait_up()
    shows(second, "f2")
    return f"written {after} after its member's death"


@with_log
def test_g_it_comes_back_with_a_control_plane(cluster):
    second = FOUND["second"]
    cluster.args = ["--token", TOKEN, *FAST]
    cluster.start(wait=False)
    cluster.wait_up(60)
    shows(cluster, "f2")
    until(lambda: labels(second, "node1") == {"control-plane", "master", "etcd"}, "it has all roles", 60)


@with_log
def test_h_whose_node_is_deleted_is_a_member_no_more(cluster):
    """Whether a server with a control plane has the turn or one without."""
    second, agent = FOUND["second"], FOUND["agent"]
    cluster.kubectl("delete", "node", "node4", "--timeout=90s", timeout=100)
    until(lambda: members(cluster) == {FIRST: True, THIRD: True}, "it is gone", 60)
    agent.ended("this node has been removed from the cluster")
    until(lambda: create(second, "h1"), "writes go on", 60)


@with_log
def test_i_a_member_gives_up_no_member_silently(cluster):
    third = FOUND["third"]
    third.stop()
    third.server(*NO_ETCD)
    third.ended("--disable-etcd: this server has a datastore of its own")


def prepare(cluster):
    close = cluster.close
    wire = Wire(cluster.netns)
    wire.plug(cluster.inside, "peer0", "p10")
    names = {"second": ("node2", SECOND), "third": ("node3", THIRD), "agent": ("node4", FOURTH)}
    for what, (name, address) in names.items():
        FOUND[what] = Host(wire, cluster.dir, cluster.binary, name, int(address.split(".")[3]))
    FOUND["hosts"] = [FOUND[what] for what in names]

    def close_all():
        for host in FOUND["hosts"]:
            host.close()
        close()
        wire.close()

    cluster.close = close_all
