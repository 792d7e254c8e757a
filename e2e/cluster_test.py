"""Clusters of several machines, run for real: cluster_test.py BINARY [SETUP ...].

A set-up is `agents` (one server and three agents) or a datastore that three servers and one agent share: `postgres`, `mariadb`, `etcd`, or `embedded`, an etcd
that each of them runs (--cluster-init). Machines are
network namespaces at one bridge (hosts.py). Pods on every node talk to each other, to Services, by DNS and through a policy; then come the
faults, one after another, while writers go on: what was acknowledged must be there in the end, each object once, as it was acknowledged.
Takes about five minutes for a set-up; `make cluster-test`.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from cluster import Failure, until
from faults._databases import Etcd, Mariadb, Postgres
from hosts import Host, Wire, cut, endpoints, is_ready, node_ready, took

DATABASES = {"postgres": Postgres, "mariadb": Mariadb, "etcd": Etcd}
TOKEN = "a-token-of-a-cluster"
LINK_CUT_SECS = 60
TUNNEL_DROPS = 100

PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: e2e}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: e2e}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: k3rs.io/userspace:1
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        command: [sh, -c, "mkdir /www; echo hello from $NODE > /www/index.html; httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: e2e}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: e2e}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"""


class Load(threading.Thread):
    """Creates and updates ConfigMaps through each server in turn, and knows what was acknowledged."""

    def __init__(self, servers, number):
        super().__init__(daemon=True)
        self.servers, self.number = servers, number
        self.ended = threading.Event()
        self.acknowledged, self.refused, self.longest = {}, 0, 0.0

    def run(self):
        idx, last = 0, time.monotonic()
        while not self.ended.is_set():
            server = self.servers[idx % len(self.servers)]
            name, value = f"w{self.number}-{idx // 2}", str(idx)
            verb = ["create", "configmap"] if idx % 2 == 0 else ["patch", "configmap"]
            more = [f"--from-literal=n={value}"] if idx % 2 == 0 else ["--type=merge", "-p", json.dumps({"data": {"n": value}})]
            try:
                done = server.kubectl(*verb, "-n", "load", name, *more, "--request-timeout=5s", check=False, timeout=20)
                good = done.returncode == 0
            except subprocess.TimeoutExpired:
                good = False
            if good:
                self.acknowledged[name] = value
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
            else:
                self.refused += 1
                time.sleep(0.1)
            idx += 1

    def check(self, server):
        """A patch whose answer was lost may stand all the same; an older value may not."""
        there = {one["metadata"]["name"]: one["data"]["n"] for one in server.get("configmap", "-n", "load")["items"] if "n" in (one.get("data") or {})}
        lost = [name for name, value in self.acknowledged.items() if name not in there or int(there[name]) < int(value)]
        if lost:
            raise Failure(f"{len(lost)} of {len(self.acknowledged)} acknowledged writes are lost: {lost[:5]}")


class Setup:
    """The machines of one set-up: `servers`, `agents`, and the database, if there is one."""

    def __init__(self, binary, kind):
        self.kind = kind
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-cluster-"))
        self.wire = Wire(f"k3rs-ct-{os.getpid()}")
        n_servers = 1 if kind == "agents" else 3
        self.servers = [Host(self.wire, self.dir, binary, f"server{idx + 1}", 10 + idx) for idx in range(n_servers)]
        self.agents = [Host(self.wire, self.dir, binary, f"agent{idx + 1}", 20 + idx) for idx in range(3 if kind == "agents" else 1)]
        self.nodes = [*self.servers, *self.agents]
        self.database = None
        if kind in DATABASES:
            self.base = Host(self.wire, self.dir, binary, "database", 30)
            self.database = DATABASES[kind](self.base.inside, self.base.address)

    def start_server(self, host):
        more = ["--datastore-endpoint", self.database.endpoint()] if self.database else []
        if self.kind == "embedded":
            first = self.servers[0]
            more = ["--cluster-init"] if host is first else ["--server", f"https://{first.address}:6443"]
        host.server("--token", TOKEN, *more)

    def start(self):
        if self.database:
            self.database.start()
        # All at once: one of them makes the cluster's keys.
        for server in self.servers:
            self.start_server(server)
            if self.kind == "embedded" and server is self.servers[0]:
                server.wait_up()
        for server in self.servers:
            server.wait_up(120)
        full = (self.servers[0].data / "server" / "node-token").read_text().strip()
        self.agent_token = full
        for agent in self.agents:
            self.start_agent(agent)
        for node in self.nodes:
            until(lambda: node_ready(self.servers[0], node.name), f"{node.name} is Ready", 90)

    def start_agent(self, host):
        host.agent(f"https://{self.servers[0].address}:6443", self.agent_token)

    def start_node(self, host):
        self.start_server(host) if host in self.servers else self.start_agent(host)

    def all_ready(self, server=None, timeout=120):
        server = server or self.servers[-1]
        for node in self.nodes:
            until(lambda: node_ready(server, node.name), f"{node.name} is Ready", timeout)

    def close(self):
        for host in [*self.nodes, *([self.base] if self.database else [])]:
            host.close()
        if self.database:
            self.database.close()
        self.wire.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def web_pods(setup):
    pods = setup.servers[0].get("pods", "-n", "e2e", "-l", "app=web")["items"]
    pods = {pod["spec"]["nodeName"]: pod for pod in pods if is_ready(pod)}
    return pods if len(pods) == len(setup.nodes) else None


def fetched(setup, pod, url, server=None):
    server = server or setup.servers[0]
    return server.kubectl("exec", "-n", "e2e", pod["metadata"]["name"], "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False).stdout


def everyone_talks(setup):
    """Each node's pod reaches every other one, the Service by address and by name, and node ports of every machine."""
    pods = until(lambda: web_pods(setup), "a pod on every node is ready", 90)
    service = setup.servers[0].get("service", "-n", "e2e", "web")["spec"]["clusterIP"]
    for pod in pods.values():
        for node, other in pods.items():
            url = f"http://{other['status']['podIP']}:8080/"
            until(lambda: f"hello from {node}" in fetched(setup, pod, url), f"the pod on {pod['spec']['nodeName']} reaches {node}", 60)
        for url in (f"http://{service}/", "http://web.e2e.svc.cluster.local/"):
            until(lambda: "hello from" in fetched(setup, pod, url), f"the pod on {pod['spec']['nodeName']} reaches {url}", 60)
    for host in setup.nodes:
        command = setup.nodes[-1].inside(["curl", "-s", "--max-time", "3", f"http://{host.address}:30080/"])
        until(lambda: "hello from" in subprocess.run(command, capture_output=True, text=True).stdout, f"node port of {host.name}", 60)
    return pods


def talk(setup):
    setup.servers[0].kubectl("create", "namespace", "load")
    setup.servers[0].kubectl("apply", "-f", "-", input=PODS)
    pods = everyone_talks(setup)
    for node, pod in pods.items():
        for server in setup.servers:
            server.kubectl("logs", "-n", "e2e", pod["metadata"]["name"])
    first, last = (pods[host.name] for host in (setup.nodes[0], setup.nodes[-1]))
    url = f"http://{last['status']['podIP']}:8080/"
    setup.servers[0].kubectl("apply", "-f", "-", input=POLICY)
    until(lambda: "hello" not in fetched(setup, first, url), "the policy keeps others out")
    setup.servers[0].kubectl("delete", "-f", "-", input=POLICY)
    until(lambda: "hello" in fetched(setup, first, url), "without it they are let in")


def server_killed(setup):
    victim = setup.servers[0]
    others = setup.servers[1:]
    victim.stop(signal.SIGKILL)
    since = time.monotonic()
    if others:
        command = ["create", "configmap", "-n", "load", f"after-kill-{since}", "--request-timeout=10s"]
        until(lambda: others[0].kubectl(*command, check=False).returncode == 0, "another server writes", 60)
        answered = took(since)
        until(lambda: victim.address not in endpoints(others[0]), "the dead server is told no more", 60)
    setup.start_server(victim)
    victim.wait_up()
    setup.all_ready(victim)
    return f"another server wrote after {answered}" if others else f"back after {took(since)}"


def agent_killed(setup):
    victim = setup.agents[0]
    victim.stop(signal.SIGKILL)
    since = time.monotonic()
    setup.start_agent(victim)
    setup.all_ready()
    return f"Ready {took(since)} later"


def link_cut(setup):
    """For longer than a node's grace period: its Node is not Ready meanwhile, its pods run on, and it comes back by itself."""
    victim = setup.agents[0]
    setup.wire.cut(victim.port)
    end = time.monotonic() + LINK_CUT_SECS
    until(lambda: not node_ready(setup.servers[-1], victim.name), f"{victim.name} is not Ready", 90)
    time.sleep(max(0.0, end - time.monotonic()))
    setup.wire.mend(victim.port)
    since = time.monotonic()
    setup.all_ready()
    return f"Ready {took(since)} after the link was back"


def database_killed(setup):
    if setup.kind == "embedded":
        return etcds_killed(setup)
    if not setup.database:
        return "there is none"
    setup.database.stop()
    time.sleep(5)
    setup.database.start()
    since = time.monotonic()
    setup.servers[0].kubectl("create", "configmap", "-n", "load", f"after-database-{since}", "--request-timeout=30s")
    setup.all_ready()
    return f"a write after {took(since)}"


def etcds_killed(setup):
    """One after another: there is always a majority, and each is started again."""
    for server in setup.servers:
        found = subprocess.run(["pgrep", "-f", f"etcd.*{server.data}/"], capture_output=True, text=True).stdout.split()
        if not found:
            raise Failure(f"{server.name} runs no etcd")
        for pid in found:
            os.kill(int(pid), signal.SIGKILL)
        until(lambda: server.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, f"{server.name} answers", 60)
        time.sleep(3)
    setup.all_ready()


def half_restarted(setup):
    half = setup.nodes[: len(setup.nodes) // 2]
    for host in half:
        host.stop(signal.SIGTERM)
    for host in half:
        setup.start_node(host)
    for host in half:
        if host in setup.servers:
            host.wait_up()
    setup.all_ready()


def tunnels_dropped(setup):
    """An agent's connections to its servers are cut, again and again; logs come through all the same."""
    agent = setup.agents[0]
    pod = web_pods(setup)[agent.name]["metadata"]["name"]
    n_cut, end = 0, time.monotonic() + 180
    while n_cut < TUNNEL_DROPS and time.monotonic() < end:
        n_cut += cut(agent.process.pid)
        time.sleep(0.1)
    since = time.monotonic()
    for server in setup.servers:
        until(lambda: server.kubectl("logs", "-n", "e2e", pod, check=False).returncode == 0, "logs through the tunnel", 60)
    if n_cut < TUNNEL_DROPS:
        raise Failure(f"only {n_cut} connections were there to be cut")
    return f"{n_cut} connections; logs {took(since)} after the last"


FAULTS = (server_killed, agent_killed, link_cut, database_killed, half_restarted, tunnels_dropped)


def run(binary, kind):
    """One set-up: how many steps went well, and how many not."""
    setup, passed, failed = None, 0, 0

    def step(name, work):
        nonlocal passed, failed
        since = time.monotonic()
        try:
            note = work()
            passed += 1
            print(f"ok    {kind}.{name:20} {took(since):>8}  {note or ''}", flush=True)
        except Exception as error:
            failed += 1
            why = str(error) if isinstance(error, Failure) else traceback.format_exc()
            logs = "\n".join(f"--- {host.name}:\n{host.tail(12)}" for host in setup.nodes) if setup else ""
            print(f"FAIL  {kind}.{name:20} {took(since):>8}\n{why}\n{logs}", flush=True)

    try:
        setup = Setup(binary, kind)
        step("start", setup.start)
        step("everyone talks", lambda: talk(setup))
        if failed:
            return passed, failed
        loads = [Load(setup.servers, number) for number in range(2)]
        for load in loads:
            load.start()
        for fault in FAULTS:
            step(fault.__name__.replace("_", " "), lambda: fault(setup))
        for load in loads:
            load.ended.set()
        for load in loads:
            load.join(60)
        step("everyone still talks", lambda: everyone_talks(setup) and None)

        def nothing_lost():
            for server in setup.servers:
                for load in loads:
                    load.check(server)
            n = sum(len(load.acknowledged) for load in loads)
            longest = max(load.longest for load in loads)
            return f"{n} objects, {sum(load.refused for load in loads)} requests refused, {longest:.1f} s at most between two acknowledged ones"

        step("nothing lost", nothing_lost)
    finally:
        if setup:
            setup.close()
    return passed, failed


def main():
    binary, kinds = os.path.realpath(sys.argv[1]), sys.argv[2:] or ["agents", *DATABASES, "embedded"]
    results = [run(binary, kind) for kind in kinds]
    passed, failed = (sum(column) for column in zip(*results))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
