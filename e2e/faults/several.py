"""Two servers on one PostgreSQL, each with its node: what one acknowledges the other shows, and each survives the other's death
and the database's."""

import json
import signal
import subprocess
import threading
import time

from cluster import telling, until
from faults._databases import Postgres
from faults._web import serving
from hosts import Host, Wire, endpoints, is_ready, leaders, node_ready, took

FAR = "192.0.2.11"
TOKEN = "a-token-of-servers"
FOUND = {}

SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec:
  selector: {app: %(name)s}
  ports: [{port: 80, targetPort: 8080}]
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: %d
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000"]}]
"""


def say():
    far = FOUND["far"]
    return f"the second server says:\n{far.tail()}"


with_log = telling(say)


def start_far(*more, token=TOKEN):
    FOUND["far"].server("--token", token, *more, env={"K3S_DATASTORE_ENDPOINT": FOUND["db"].endpoint()})


@with_log
def test_a_second_servers_with_another_token_or_other_settings_are_refused(cluster):
    far = FOUND["far"]
    start_far(token="another")
    far.ended("bootstrap data already found and encrypted with different token")
    subprocess.run(far.inside(["rm", "-rf", str(far.data)]), check=True)
    until(lambda: endpoints(cluster) == ["192.0.2.10"], "the first server says that it is there", 60)
    for flags, name in ((["--cluster-cidr", "10.99.0.0/16"], "cluster-cidr"), (["--secrets-encryption"], "secrets-encryption")):
        start_far(*flags)
        far.ended(f"critical configuration value mismatch between servers: {name}")
    subprocess.run(far.inside(["rm", "-rf", str(far.data)]), check=True)
    assert node_ready(cluster, "node1")


@with_log
def test_b_a_second_server_is_one_of_the_cluster(cluster):
    far = FOUND["far"]
    start_far()
    far.wait_up()
    until(lambda: node_ready(far, "node2"), "node2 is Ready", 60)
    for server in (cluster, far):
        until(lambda: endpoints(server) == ["192.0.2.10", FAR], "both servers are told", 60)
    until(lambda: len(leaders(far)) == 3, "each role has its leader", 60)
    same = [path.relative_to(cluster.data) for path in (cluster.data / "server" / "tls").glob("*-ca.*")]
    assert len(same) >= 6, same
    for path in same:
        assert (cluster.data / path).read_bytes() == (far.data / path).read_bytes(), path


@with_log
def test_c_what_one_acknowledges_the_other_shows(cluster):
    far = FOUND["far"]
    cluster.kubectl("create", "namespace", "e2e")
    for idx in range(5):
        here, there = (cluster, far) if idx % 2 else (far, cluster)
        made = here.kubectl("create", "configmap", "-n", "e2e", f"c{idx}", f"--from-literal=a={idx}", "-o", "json").stdout
        seen = there.get("configmap", "-n", "e2e", f"c{idx}")
        assert seen["metadata"]["resourceVersion"] == json.loads(made)["metadata"]["resourceVersion"], (made, seen)
        there.kubectl("delete", "configmap", "-n", "e2e", f"c{idx}")
        assert here.kubectl("get", "configmap", "-n", "e2e", f"c{idx}", check=False).returncode == 1


@with_log
def test_d_pods_of_both_reach_each_other_through_either_server(cluster):
    far = FOUND["far"]
    for name, node in (("one", "node1"), ("two", "node2")):
        cluster.kubectl("apply", "-n", "e2e", "-f", "-", input=serving(name, node) + SERVICE % {"name": name})
    for name in ("one", "two"):
        far.kubectl("wait", "-n", "e2e", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    for server, pod, other in ((cluster, "two", "one"), (far, "one", "two")):
        command = ["exec", "-n", "e2e", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", f"http://{other}/"]
        until(lambda: f"hello from {other}" in server.kubectl(*command, check=False).stdout, f"{pod} reaches {other}")
        assert f"hello from {pod}" in server.kubectl("logs", "-n", "e2e", pod).stdout


class Writer(threading.Thread):
    """Creates ConfigMaps through whichever server answers, and remembers those that were acknowledged."""

    def __init__(self, servers):
        super().__init__(daemon=True)
        self.servers, self.done, self.acknowledged, self.refused = servers, threading.Event(), [], 0

    def run(self):
        idx = 0
        while not self.done.is_set():
            server = self.servers[idx % len(self.servers)]
            name = f"w{idx}"
            try:
                made = server.kubectl("create", "configmap", "-n", "e2e", name, f"--from-literal=n={idx}", "--request-timeout=3s", check=False, timeout=20)
                if made.returncode == 0:
                    self.acknowledged.append(name)
                else:
                    self.refused += 1
            except subprocess.TimeoutExpired:
                self.refused += 1
            idx += 1

    def end(self):
        self.done.set()
        self.join(60)
        return self.acknowledged


def lost(server, names):
    there = {one["metadata"]["name"] for one in server.get("configmap", "-n", "e2e")["items"]}
    return sorted(set(names) - there)


@with_log
def test_e_the_database_dies_and_comes_back(cluster):
    """Nothing that was acknowledged is lost, and both servers go on with what it holds."""
    far, db = FOUND["far"], FOUND["db"]
    writer = Writer([cluster, far])
    writer.start()
    until(lambda: len(writer.acknowledged) > 5, "some are written")
    db.stop()
    refused = writer.refused
    until(lambda: writer.refused > refused + 1, "writes are refused without the database", 60)
    db.start()
    before = len(writer.acknowledged)
    until(lambda: len(writer.acknowledged) > before + 5, "writes go on", 60)
    names = writer.end()
    for server in (cluster, far):
        assert not lost(server, names), lost(server, names)
        until(lambda: node_ready(server, "node1") and node_ready(server, "node2"), "both nodes are Ready", 60)
    return f"{len(names)} acknowledged, {writer.refused} refused"


@with_log
def test_f_the_leader_dies_and_the_other_goes_on(cluster):
    """The API answers on; controllers and the scheduler work again within their lease."""
    far = FOUND["far"]
    leader = leaders(far)["kube-scheduler"]
    dies, stays = (cluster, far) if leader == "node1" else (far, cluster)
    node = "node2" if leader == "node1" else "node1"
    writer = Writer([stays])
    writer.start()
    dies.stop(signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: len(writer.acknowledged) > 5, "the other server writes on")
    api = time.monotonic() - killed
    stays.kubectl("apply", "-n", "e2e", "-f", "-", input=DEPLOYMENT % 2)

    def spread():
        pods = [pod for pod in stays.get("pods", "-n", "e2e", "-l", "app=many")["items"]]
        return len([pod for pod in pods if pod["spec"].get("nodeName")]) >= 2

    until(spread, "the other server schedules", 60)
    took = time.monotonic() - killed
    names = writer.end()
    assert not lost(stays, names), lost(stays, names)
    until(lambda: endpoints(stays) == [FAR if stays is far else "192.0.2.10"], "the dead server is told no more", 60)
    return f"5 writes after {api:.1f} s, scheduled {took:.1f} s after the leader's death"


@with_log
def test_g_it_comes_back(cluster):
    far = FOUND["far"]
    if far.process.poll() is not None:
        start_far()
        far.wait_up()
    else:
        cluster.start(wait=False)
        cluster.wait_up()
    for server in (cluster, far):
        until(lambda: endpoints(server) == ["192.0.2.10", FAR], "both servers are told", 60)
        until(lambda: node_ready(server, "node1") and node_ready(server, "node2"), "both nodes are Ready", 60)
    until(lambda: all(is_ready(cluster.get("pod", "-n", "e2e", name)) for name in ("one", "two")), "pods run on", 60)


@with_log
def test_h_who_is_told_to_stop_gives_its_roles_back(cluster):
    """Others need not wait until its Leases expire, 15 seconds after they were renewed."""
    far = FOUND["far"]
    leads = leaders(far)["kube-scheduler"]
    stops, stays, node = (cluster, far, "node2") if leads == "node1" else (far, cluster, "node1")
    stops.stop(signal.SIGTERM)
    since = time.monotonic()
    until(lambda: leaders(stays).get("kube-scheduler") == node, "the other server leads", 12)
    return took(since)


def prepare(cluster):
    close = cluster.close
    wire = Wire(cluster.netns)
    wire.plug(cluster.inside, "peer0", "p10")
    db = FOUND["db"] = Postgres(cluster.inside, "192.0.2.10")
    far = FOUND["far"] = Host(wire, cluster.dir, cluster.binary, "node2", 11)

    def close_all():
        far.close()
        try:
            close()
        finally:
            db.close()
            wire.close()

    cluster.close = close_all
    db.start()
    cluster.args = ["--token", TOKEN, "--datastore-endpoint", db.endpoint()]
