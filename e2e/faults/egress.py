"""A server without a node, and an agent that takes no connection: with --egress-selector-mode=cluster pods are reached through the
agent's tunnel, by proxies and by webhooks, and nothing but pods is."""

import json

from cluster import run, telling, until
from faults.webhooks import Webhooks
from hosts import Host, Wire, node_ready

ARGS = ["--disable-agent", "--egress-selector-mode", "cluster"]
FOUND = {}

# What anybody else begins is dropped.
CLOSED = """
add table inet e2e
add chain inet e2e input { type filter hook input priority -300; policy accept; }
add rule inet e2e input iifname "eth0" ct state new drop
"""

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, "mkdir /www; echo hello from a pod > /www/index.html; head -c 300000 /dev/zero > /www/big; httpd -f -p 8080 -h /www"]
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
# It names the port at which the test's webhook server listens on its node.
apiVersion: v1
kind: Pod
metadata: {name: hook, labels: {app: hook}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000"], ports: [{containerPort: 9443}]}]
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec: {selector: {app: hook}, ports: [{port: 443, targetPort: 9443}]}
"""


with_log = telling(lambda: f"the agent says:\n{FOUND['node'].tail()}")


@with_log
def test_proxies_reach_pods_of_a_node_that_lets_nothing_in(cluster):
    node = FOUND["node"]
    node.agent("https://192.0.2.10:6443", (cluster.data / "server" / "node-token").read_text().strip())
    until(lambda: node_ready(cluster, node.name), "the node is Ready", 60)
    cluster.apply(PODS, "default")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/hook", "--timeout=60s")
    address = cluster.get("pod", "web")["status"]["podIP"]
    direct = cluster.sh(f"curl -s --max-time 1 http://{address}:8080/; echo $?", check=False)
    assert direct.strip() in ("7", "28"), f"the server has a way of its own: {direct}"
    for path in ("/api/v1/namespaces/default/pods/web/proxy/", "/api/v1/namespaces/default/services/web:80/proxy/"):
        until(lambda: "hello from a pod" in cluster.kubectl("get", "--raw", path, check=False).stdout, f"{path} answers")
    big = cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/services/web:80/proxy/big").stdout
    assert len(big) == 300_000, len(big)


@with_log
def test_webhooks_reach_a_service_there(cluster):
    node = FOUND["node"]
    hooks = Webhooks(node)
    hooks.start()
    try:
        tree = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "e2e"},
                "webhooks": [hooks.hook("/deny", service=True, timeoutSeconds=5)]}
        cluster.kubectl("create", "-f", "-", input=json.dumps(tree))
        until(lambda: cluster.get("endpoints", "hook").get("subsets"), "the Service has its endpoint")
        done = cluster.kubectl("create", "configmap", "good", "--from-literal=a=b", check=False)
        assert done.returncode == 0, done.stderr
        done = cluster.kubectl("create", "configmap", "bad", "--from-literal=webhook-e2e-test=disallow", check=False)
        assert "unwanted key and value" in done.stderr, done
        assert len(hooks.asked()) == 2
        # Without the pod that names the port, what listens there is not a pod's.
        cluster.kubectl("patch", "service", "hook", "--type=json", "-p", '[{"op": "remove", "path": "/spec/selector"}]')
        cluster.kubectl("delete", "pod", "hook")
        slices = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                  "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "hook"}},
                  "endpoints": [{"addresses": [node.address], "nodeName": node.name}], "ports": [{"port": 9443}]}
        cluster.kubectl("delete", "endpointslices", "-l", "kubernetes.io/service-name=hook")
        cluster.kubectl("create", "-f", "-", input=json.dumps(slices))
        # Connections that were kept end with it.
        hooks.stop()
        hooks.start()
        hooks.asked()
        done = cluster.kubectl("create", "configmap", "none", "--from-literal=a=b", check=False)
        assert done.returncode == 1 and "connect not allowed" in done.stderr, done
        assert not hooks.asked()
    finally:
        hooks.stop()
        cluster.kubectl("delete", "validatingwebhookconfiguration", "e2e")


def prepare(cluster):
    wire, close = Wire(cluster.netns), cluster.close
    wire.plug(cluster.inside, "peer0", "p10")
    node = FOUND["node"] = Host(wire, cluster.dir, cluster.binary, "node2", 11)
    run(node.inside(["nft", CLOSED]))

    def close_all():
        node.close()
        try:
            close()
        finally:
            wire.close()

    cluster.close = close_all
