"""Pods whose network is somebody else's: `--flannel-backend=none` and a CNI plugin, which here is a script over `ip`."""

import json
import pathlib
import subprocess
import sys

from cluster import expect, until
from faults._web import serving

ARGS = ["--flannel-backend=none"]

# Pods get addresses of 10.42.0.0/24 on a bridge of the plugin's own. What it is asked, and who has which address, is in files.
PLUGIN = r'''#!PYTHON
import fcntl, json, os, pathlib, subprocess, sys
state = pathlib.Path("STATE")
lock = open(state / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
env, told = os.environ, json.load(sys.stdin)
command, container = env["CNI_COMMAND"], env["CNI_CONTAINERID"]
with open(state / "log", "a") as log:
    print(json.dumps([command, env["CNI_ARGS"], env["CNI_NETNS"], "prevResult" in told]), file=log)
def ip(words, inside=False):
    into = [f"--net={env['CNI_NETNS']}"] if inside else []
    done = subprocess.run(["nsenter", *into, "ip", *words.split()], capture_output=True, text=True)
    if done.returncode != 0:
        print(json.dumps({"code": 100, "msg": "ip " + words, "details": done.stderr}))
        sys.exit(1)
leases, end = state / "leases", "v" + container[:12]
mine = [lease for lease in leases.iterdir() if lease.read_text() == container]
if command == "DEL":
    for lease in mine:
        lease.unlink()
    subprocess.run(["ip", "link", "del", end], capture_output=True)
elif command == "ADD":
    n = next(n for n in range(2, 250) if not (leases / str(n)).exists())
    (leases / str(n)).write_text(container)
    if subprocess.run(["ip", "link", "show", "br-e2e"], capture_output=True).returncode != 0:
        ip("link add br-e2e type bridge")
        ip("address add 10.42.0.1/24 dev br-e2e")
        ip("link set br-e2e up")
    ip(f"link add {end} type veth peer name p{container[:12]}")
    ip(f"link set p{container[:12]} netns {env['CNI_NETNS']}")
    ip(f"link set {end} master br-e2e up")
    ip(f"link set {end} type bridge_slave hairpin on")
    ip(f"link set p{container[:12]} name eth0", True)
    ip(f"address add 10.42.0.{n}/24 dev eth0", True)
    ip("link set eth0 up", True)
    ip("route add default via 10.42.0.1", True)
    print(json.dumps({"cniVersion": "1.0.0", "interfaces": [{"name": end}, {"name": "eth0", "sandbox": env["CNI_NETNS"]}],
                      "ips": [{"interface": 1, "address": f"10.42.0.{n}/24", "gateway": "10.42.0.1"}]}))
'''
CONFIGURATION = {"cniVersion": "1.0.0", "name": "e2e", "plugins": [{"type": "e2e-bridge"}]}

HOST = """
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: node1
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "k3rs.io/userspace:1", command: [sleep, "1000"]}]
"""
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {selector: {app: %(name)s}, ports: [{port: 80, targetPort: 8080}]}
"""
DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: one}}, policyTypes: [Ingress]}
"""


def state(cluster):
    return cluster.dir / "cni-state"


def asked(cluster, command):
    """What the plugin was asked for this, so far."""
    log = state(cluster) / "log"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line for line in lines if line[0] == command]


def ready(cluster):
    # It may be seen before its first status.
    conditions = cluster.get("node", "node1").get("status", {}).get("conditions", [])
    return next(((c["status"], c["message"]) for c in conditions if c["type"] == "Ready"), (None, None))


def fetched(cluster, pod, url):
    return cluster.kubectl("exec", "-n", "e2e", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False).stdout


def reaches(cluster, pod, url, who="one"):
    until(lambda: f"hello from {who}" in fetched(cluster, pod, url), f"{pod} reaches {who} at {url}", 60)


def wait(cluster, pod):
    cluster.kubectl("wait", "-n", "e2e", "--for=condition=Ready", f"pod/{pod}", "--timeout=90s", timeout=100)


def test_a_node_without_a_plugin_says_what_it_waits_for(cluster):
    why = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"
    until(lambda: ready(cluster) == ("False", why), "the node says why it is not Ready", 60)
    cluster.kubectl("create", "namespace", "e2e")
    # What makes the network comes in pods of the host's.
    cluster.apply(HOST)
    wait(cluster, "host")
    cluster.apply(serving("one", "node1", more="ports: [{containerPort: 8080, hostPort: 8088}]") + SERVICE % {"name": "one"})

    def said():
        events = cluster.get("events", "-n", "e2e", "--field-selector", "involvedObject.name=one")["items"]
        return any(event["reason"] == "FailedCreatePodSandBox" and "cni plugin not initialized" in event["message"] for event in events)

    until(said, "the pod says why it does not start", 60)


def test_pods_start_when_the_plugin_comes(cluster):
    (state(cluster) / "leases").mkdir(parents=True)
    plugin = cluster.data / "data" / "cni" / "e2e-bridge"
    plugin.write_text(PLUGIN.replace("PYTHON", sys.executable).replace("STATE", str(state(cluster))))
    plugin.chmod(0o755)
    directory = cluster.data / "agent" / "etc" / "cni" / "net.d"
    (directory / "10-e2e.tmp").write_text(json.dumps(CONFIGURATION))
    (directory / "10-e2e.tmp").rename(directory / "10-e2e.conflist")
    until(lambda: ready(cluster)[0] == "True", "the node is Ready", 60)
    wait(cluster, "one")
    cluster.apply(serving("two", "node1"))
    wait(cluster, "two")
    pods = {name: cluster.get("pod", "-n", "e2e", name) for name in ("one", "two")}
    addresses = {name: pod["status"]["podIP"] for name, pod in pods.items()}
    expect(all(address.startswith("10.42.0.") for address in addresses.values()), addresses)
    expect("cni0" not in cluster.sh("ip link"), "there is no bridge but the plugin's")
    adds = [line[1] for line in asked(cluster, "ADD")]
    uid = pods["one"]["metadata"]["uid"]
    expect(any(args.startswith(f"K8S_POD_UID={uid};IgnoreUnknown=1;K8S_POD_NAMESPACE=e2e;K8S_POD_NAME=one;") for args in adds), adds)
    # Each other, services (its own, too), names of the cluster DNS, and host ports, for which there is no plugin.
    reaches(cluster, "two", f"http://{addresses['one']}:8080/")
    service = cluster.get("service", "-n", "e2e", "one")["spec"]["clusterIP"]
    for pod in ("two", "one"):
        reaches(cluster, pod, f"http://{service}/")
        reaches(cluster, pod, "http://one.e2e.svc.cluster.local/")
    until(lambda: "hello" in cluster.sh("curl -s --max-time 3 http://192.0.2.10:8088/", check=False), "the host port answers", 60)


def test_policies_hold(cluster):
    address = cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"]
    cluster.apply(DENY)
    until(lambda: "hello" not in fetched(cluster, "two", f"http://{address}:8080/"), "the pod is shut", 60)
    cluster.kubectl("delete", "networkpolicy", "-n", "e2e", "closed")
    reaches(cluster, "two", f"http://{address}:8080/")


def test_a_restart_asks_for_nothing_again(cluster):
    address, n_adds = cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"], len(asked(cluster, "ADD"))
    cluster.stop(9)
    cluster.start()
    until(lambda: len(asked(cluster, "CHECK")) >= 2 and ready(cluster)[0] == "True", "the node is Ready again", 60)
    wait(cluster, "one")
    expect(cluster.get("pod", "-n", "e2e", "one")["status"]["podIP"] == address, "its address stays")
    expect(len(asked(cluster, "ADD")) == n_adds, "no pod is added twice")
    reaches(cluster, "two", f"http://{address}:8080/")
    # What a pod was given, it is taken from as it was given, whatever is configured by then.
    (cluster.data / "agent" / "etc" / "cni" / "net.d" / "10-e2e.conflist").unlink()
    until(lambda: ready(cluster)[0] == "False", "the node is not Ready without a configuration", 60)
    cluster.kubectl("delete", "pod", "-n", "e2e", "two", timeout=90)
    until(lambda: len(list((state(cluster) / "leases").iterdir())) == 1, "its address is free", 60)
    expect(all(line[3] for line in asked(cluster, "DEL")[-1:]), "the plugin is told what it answered")


def test_zz_nothing_is_left(cluster):
    cluster.stop()
    # As its operator may: the command need not be told how the server was started.
    command = [cluster.binary, "uninstall", "--data-dir", str(cluster.data)]
    done = subprocess.run(cluster.inside(command), env=cluster.env, capture_output=True, text=True, timeout=120)
    expect(done.returncode == 0, done.stdout + done.stderr)
    expect(list((state(cluster) / "leases").iterdir()) == [], "all addresses are free")
    left = cluster.sh("ip -o link; ip -o address; nft list tables")
    expect(not any(word in left for word in ("10.43.", "inet k3rs", ": v")), left)
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    expect(str(cluster.dir) not in mounts, mounts)
