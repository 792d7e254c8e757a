"""The node in another process: the server runs with --disable-agent, the node reaches it over HTTPS."""

import json
import os
import shutil
import signal
import subprocess

from cluster import Failure, until

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
    """The second process, on the files that the server wrote for its node."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.data = cluster.dir / "node-data"
        self.env = dict(
            cluster.env,
            K3RS_ETC_DIR=str(cluster.dir / "node-etc"),
            K3RS_RUN_DIR=str(cluster.dir / "node-run"),
            K3RS_LOG_DIR=str(cluster.dir / "node-log"),
        )
        self.log = open(cluster.dir / "node.log", "ab")
        self.process = None

    def args(self):
        return ["--data-dir", str(self.data), "--node-name", "node1"]

    def lay_out(self):
        """As a node has them that joined: its own files, and none of the server's."""
        shutil.copytree(self.cluster.data / "agent", self.data / "agent")
        for path in (self.data / "agent").glob("*.kubeconfig"):
            path.write_text(path.read_text().replace(str(self.cluster.data), str(self.data)))

    def start(self):
        command = [self.cluster.binary, "node", *self.args()]
        self.process = subprocess.Popen(
            self.cluster.inside(command), env=self.env, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ready(self):
        if self.process.poll() is not None:
            raise Failure(f"the node ended with {self.process.returncode}:\n{self.tail()}")
        conditions = self.cluster.get("node", "node1")["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def wait_ready(self):
        until(self.ready, "the node is Ready", 60)

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(20)

    def tail(self):
        return "\n".join((self.cluster.dir / "node.log").read_text(errors="replace").splitlines()[-30:])

    def close(self):
        if self.log.closed:
            return
        self.stop(signal.SIGKILL)
        command = [self.cluster.binary, "uninstall", *self.args()]
        subprocess.run(self.cluster.inside(command), env=self.env, capture_output=True, timeout=60)
        self.log.close()


NODE = {}


def with_log(test):
    """A failure shows what the node says, too."""

    def wrapped(cluster):
        try:
            return test(cluster)
        except Exception as error:
            raise Failure(f"{error}\n--- the node says:\n{NODE['node'].tail()}") from error

    wrapped.__name__ = test.__name__
    return wrapped


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
def test_a_node_over_https_runs_pods(cluster):
    node = NODE["node"]
    node.lay_out()
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
    until(lambda: "without the server" in node.tail() or "goes on with" in node.tail(), "the node goes on alone", 30)
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
    refused = subprocess.run([cluster.binary, "agent", "--server", "https://x"], capture_output=True, text=True)
    assert refused.returncode == 1 and "not supported" in refused.stderr, refused


def prepare(cluster):
    node, close = Node(cluster), cluster.close
    NODE["node"] = node

    def close_both():
        node.close()
        close()

    cluster.close = close_both
