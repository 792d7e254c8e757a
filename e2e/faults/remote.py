"""An agent: the server runs with --disable-agent, another process joins it by its token and is its node."""

import json
import os
import signal
import subprocess

from cluster import Failure, host_disk, telling, until

ARGS = ["--disable-agent"]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, "echo started; cat /config/word; mkdir /www; echo hello from $(hostname) > /www/index.html; httpd -f -p 8080 -h /www"]
    volumeMounts: [{name: config, mountPath: /config}]
  volumes:
  - name: config
    configMap: {name: words}
"""

SERVICE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: "first\\n"}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""


class Node:
    """The second process: an agent with directories of its own."""

    def __init__(self, cluster, name="node", args=(), node="node1"):
        self.cluster, self.name, self.extra, self.node = cluster, name, list(args), node
        self.data = cluster.dir / f"{name}-data"
        self.env = dict(
            cluster.env,
            K3RS_ETC_DIR=str(cluster.dir / f"{name}-etc"),
            K3RS_RUN_DIR=str(cluster.dir / f"{name}-run"),
            K3RS_LOG_DIR=str(cluster.dir / f"{name}-log"),
            K3RS_KUBELET_DIR=str(cluster.dir / f"{name}-kubelet"),
        )
        self.log = open(cluster.dir / f"{name}.log", "ab")
        self.process = None

    def args(self):
        return ["--data-dir", str(self.data), "--node-name", self.node]

    def inside(self, command):
        return self.cluster.inside(command)

    def start(self, token=None):
        token = token or (self.cluster.data / "server" / "node-token").read_text().strip()
        command = [self.cluster.binary, "agent", *self.args(), *host_disk(self.data), *self.extra]
        env = dict(self.env, K3S_URL="https://192.0.2.10:6443", K3S_TOKEN=token)
        self.process = subprocess.Popen(
            self.inside(command), env=env, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def wait_says(self, *words):
        until(lambda: self.process.poll() is None and any(word in self.tail() for word in words), f"the agent says {words[0]!r}", 30)

    def ready(self):
        if self.process.poll() is not None:
            raise Failure(f"the node ended with {self.process.returncode}:\n{self.tail()}")
        conditions = self.cluster.get("node", self.node)["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def wait_ready(self):
        until(self.ready, "the node is Ready", 60)

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(20)

    def tail(self):
        return "\n".join((self.cluster.dir / f"{self.name}.log").read_text(errors="replace").splitlines()[-30:])

    def close(self):
        if self.log.closed:
            return
        self.stop(signal.SIGKILL)
        command = [self.cluster.binary, "uninstall", *self.args()]
        subprocess.run(self.inside(command), env=self.env, capture_output=True, timeout=60)
        self.log.close()


NODE = {}


with_log = telling(lambda: f"the node says:\n{NODE['node'].tail()}")


def running(cluster, name):
    def look():
        pod = cluster.get("pod", "-n", "e2e", name)
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        return pod if ready else None

    return until(look, f"pod {name} is ready", 60)


def logs(cluster, name):
    return cluster.kubectl("logs", "-n", "e2e", name).stdout


def fetched(cluster, url):
    """What a client on the node gets, by the rules of the service proxy."""
    return cluster.sh(f"curl -s --max-time 3 {url} || wget -q -T 3 -O - {url}", check=False)


@with_log
def test_a_agents_with_the_wrong_token_are_refused(cluster):
    """And try on: the server may be mended. Neither is told anything, and nothing of it is kept."""
    node = NODE["node"]
    hash, _ = (cluster.data / "server" / "node-token").read_text().strip().split("::")
    for token, words in (
        (f"{hash}::node:wrong", "the server answers 401 not authorized"),
        (f"{hash}::abcdef.0123456789abcdef", "the server answers 401 not authorized"),
        ("K10" + 64 * "0" + "::node:x", "token CA hash does not match the Cluster CA certificate hash: 0000"),
    ):
        node.start(token)
        node.wait_says(words)
        node.stop()
    assert not list(node.data.glob("agent/*.crt")), list(node.data.glob("agent/*"))
    log = cluster.tail(200)
    assert "Sending HTTP 401 response to 192.0.2.10" in log and "wrong" not in log, log
    # An administrator is no agent.
    done = cluster.kubectl("get", "--raw", "/v1-k3s/client-kubelet.crt", check=False)
    assert done.returncode == 1 and "forbidden" in done.stderr, done


@with_log
def test_a_node_over_https_runs_pods(cluster):
    node = NODE["node"]
    node.start()
    node.wait_ready()
    tree = cluster.get("node", "node1")
    assert tree["spec"]["podCIDRs"] == ["10.42.0.0/24"], tree["spec"]
    assert not any(key.startswith("node-role") for key in tree["metadata"]["labels"]), "it is no server's node"
    cluster.kubectl("create", "namespace", "e2e")
    cluster.apply(SERVICE)
    cluster.apply(POD % "one")
    pod = running(cluster, "one")
    assert pod["status"]["podIP"].startswith("10.42.0."), pod["status"]
    assert pod["status"]["hostIP"] == "192.0.2.10"


@with_log
def test_a_bootstrap_token_joins_until_it_is_deleted(cluster):
    """It joins a node of another name; the tokens of the server are not needed for it."""
    k3rs = lambda *args: subprocess.run(
        cluster.inside([cluster.binary, "token", *args]), env=cluster.env, capture_output=True, text=True, timeout=20
    )
    created = k3rs("create", "--description", "rack 7", "--ttl", "1h30m")
    token = created.stdout.strip()
    assert token.startswith("K10") and created.returncode == 0, created
    id = token.split("::")[1].split(".")[0]
    assert f"{id}    1h" in k3rs("list").stdout and "rack 7" in k3rs("list").stdout, k3rs("list")
    ask = lambda: cluster.sh(
        f"curl -sk -H 'Authorization: Bearer {token.split('::')[1]}' https://192.0.2.10:6443/v1-k3s/config"
    )
    assert json.loads(ask())["ClusterDomain"] == "cluster.local", ask()
    assert k3rs("delete", id).stdout == f'bootstrap token "{id}" deleted\n'
    assert json.loads(ask())["code"] == 401, ask()


@with_log
def test_another_agent_cannot_take_its_name(cluster):
    secret = cluster.get("secret", "-n", "kube-system", "node1.node-password.k3s")
    assert secret["immutable"] and list(secret["data"]) == ["hash"], secret
    thief = Node(cluster, "thief", ["--lb-server-port", "6445"])
    try:
        thief.start()
        thief.wait_says("Node password rejected")
        # The server tells of one refusal a second; the thief tries on.
        until(lambda: "unable to verify hash for node 'node1'" in cluster.tail(200), "the server tells of it", 30)
    finally:
        # It made nothing that an uninstall would have to take back; the name's owner is in the same network.
        thief.stop()
        thief.log.close()


@with_log
def test_logs_exec_and_port_forward_go_to_its_port(cluster):
    until(lambda: "first" in logs(cluster, "one"), "the log shows the pod's words")
    done = cluster.kubectl("exec", "-n", "e2e", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "out\n") and "err" in done.stderr, done
    with_input = cluster.kubectl("exec", "-i", "-n", "e2e", "one", "--", "cat", input="passed on\n")
    assert with_input.stdout == "passed on\n", with_input
    settings = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/configz").stdout)["kubeletconfig"]
    if (settings["port"], settings["clusterDNS"]) != (10250, ["10.43.0.10"]):
        raise Failure(f"settings: {settings}")
    summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout)
    assert summary["node"]["nodeName"] == "node1"
    forward = subprocess.Popen(
        cluster.inside([cluster.kubectl_path, "port-forward", "-n", "e2e", "pod/one", "18080:8080"]),
        env=cluster.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: "hello from one" in fetched(cluster, "http://127.0.0.1:18080/"), "the port is forwarded")
    finally:
        forward.kill()
        forward.wait()


@with_log
def test_services_and_configuration_follow(cluster):
    address = cluster.get("service", "-n", "e2e", "web")["spec"]["clusterIP"]
    until(lambda: "hello from one" in fetched(cluster, f"http://{address}/"), "the Service leads to the pod")
    cluster.apply(SERVICE.replace("first", "second"))
    look = lambda: cluster.kubectl("exec", "-n", "e2e", "one", "--", "cat", "/config/word").stdout == "second\n"
    until(look, "the ConfigMap reaches the pod", 90)


@with_log
def test_the_node_lives_on_without_its_server(cluster):
    """Watches resume at a server that was started again, and what was deleted meanwhile is no ghost."""
    node = NODE["node"]
    before = running(cluster, "one")
    address = cluster.get("service", "-n", "e2e", "web")["spec"]["clusterIP"]
    cluster.stop(signal.SIGKILL)
    assert "hello from one" in fetched(cluster, f"http://{address}/"), "rules and pods stay"
    # The node is started again while nobody answers it: it knows its range and its pods.
    node.stop()
    node.start()
    node.wait_says("The node goes on with what it kept")
    until(lambda: "hello from one" in fetched(cluster, f"http://{address}/"), "its services go on as well")
    cluster.start()
    node.wait_ready()
    after = running(cluster, "one")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"], "the container ran on"
    cluster.apply(POD % "two")
    running(cluster, "two")
    cluster.kubectl("delete", "pod", "-n", "e2e", "one", "two")
    cluster.wait_pods_gone("e2e")
    done = fetched(cluster, f"http://{address}/")
    assert "hello" not in done, done


@with_log
def test_a_nodes_address_leads_to_kubelets_only(cluster):
    """A Node is its kubelet's to write: the server comes with its own certificate, and must not be led elsewhere."""
    tree = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "liar"}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(tree))
    for address, port, why in [
        ("127.0.0.1", 6443, "address not allowed"),
        ("192.0.2.10", 6443, "address not allowed"),
        # A kubelet, but another node's.
        ("192.0.2.10", 10250, "certificate"),
    ]:
        status = {"status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }}
        cluster.kubectl("patch", "node", "liar", "--subresource=status", "--type=merge", "-p", json.dumps(status))
        done = cluster.kubectl("get", "--raw", "/api/v1/nodes/liar/proxy/api/v1/secrets", check=False)
        assert done.returncode != 0 and why in done.stderr, (address, port, done)
    cluster.kubectl("delete", "node", "liar")


@with_log
def test_zz_the_node_ends_and_leaves_nothing(cluster):
    node = NODE["node"]
    node.stop()
    assert node.process.returncode == 0, node.tail()
    node.close()
    assert not node.data.exists()
    assert "inet k3rs" not in cluster.sh("nft list tables")


def prepare(cluster):
    node, close = Node(cluster), cluster.close
    NODE["node"] = node

    def close_both():
        node.close()
        close()

    cluster.close = close_both
