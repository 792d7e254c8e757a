"""flannel's own configuration (--flannel-conf), and WireGuard: on two nodes where the kernel has it, and told where it has not."""

import json
import os
import stat
import subprocess

from cluster import Failure, expect, telling, until
from faults._web import serving
from faults.overlay import FAR, FarNode

PREFIX = "flannel.alpha.coreos.com/"
FOUND = {}


def conf(cluster, name, **backend):
    path = cluster.dir / name
    path.write_text(json.dumps({"Network": "10.42.0.0/16", "EnableNFTables": True, "Backend": backend}))
    return f"--flannel-conf={path}"


def prepare(cluster):
    cluster.args = [*cluster.args, conf(cluster, "vxlan.json", Type="vxlan", VNI=7, Port=4789, MTU=1400)]


with_log = telling(lambda: FOUND["node"].tail() if "node" in FOUND else "")


def notes(cluster, node):
    all_notes = cluster.get("node", node)["metadata"].get("annotations", {})
    return {key.removeprefix(PREFIX): value for key, value in all_notes.items() if key.startswith(PREFIX)}


def fetched(cluster, pod, url):
    done = cluster.kubectl("exec", "-n", "e2e", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", url, check=False)
    return done.stdout


@with_log
def test_a_file_counts_on_each_node(cluster):
    node = FOUND["node"] = FarNode(cluster)
    close = cluster.close

    def close_all():
        node.close()
        close()

    cluster.close = close_all
    node.extra = [cluster.args[-1]]
    node.start()
    node.wait_ready()
    cluster.kubectl("create", "namespace", "e2e")
    for name, on in (("one", "node1"), ("two", "node2")):
        cluster.apply(serving(name, on))
    for name in ("one", "two"):
        cluster.kubectl("wait", "-n", "e2e", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    two = cluster.get("pod", "-n", "e2e", "two")["status"]["podIP"]
    until(lambda: "hello from two" in fetched(cluster, "one", f"http://{two}:8080/"), "one reaches two")
    said = notes(cluster, "node2")
    expect(said.get("backend-data") == '{"VNI":7,"VtepMAC":"0a:58:0a:2a:01:00"}', f"the file's VNI: {said}")
    link = node.sh("ip -d link show flannel.7")
    expect("vxlan id 7" in link and "dstport 4789" in link and "mtu 1350" in link, f"the file's settings: {link}")


@with_log
def test_what_a_file_asks_in_vain_is_refused_by_its_name(cluster):
    for backend, why in (
        ({"Type": "udp"}, 'Backend.Type "udp" is not supported (vxlan, host-gw or wireguard)'),
        ({"Type": "vxlan", "GBP": True}, "GBP is not supported"),
        ({"Type": "host-gw", "Mtu": 1}, 'Backend has an unknown field "Mtu"'),
    ):
        flag = conf(cluster, "wrong.json", **backend)
        command = [cluster.binary, "server", "--data-dir", str(cluster.dir / "never"), flag]
        done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=30)
        expect(done.returncode != 0 and why in done.stdout + done.stderr, f"{backend}: {done}")


@with_log
def test_wireguard_carries_pods_or_the_node_says_that_there_is_none(cluster):
    """The backend is changed: the tunnel of before goes, its settings count no more."""
    node = FOUND["node"]
    node.stop()
    cluster.stop()
    cluster.args = ["--flannel-backend=wireguard-native"]
    node.extra = []
    has_it = cluster.sh("ip link add e2e-wg type wireguard && ip link del e2e-wg; echo $?", check=False).strip() == "0"
    cluster.start(wait=has_it)
    if not has_it:
        until(lambda: "the kernel has no WireGuard" in "\n".join(cluster.log_lines()), "the server says what is missing", 60)

        def told():
            done = cluster.kubectl("get", "node", "node1", "-o", "json", check=False)
            conditions = json.loads(done.stdout)["status"]["conditions"] if done.returncode == 0 else []
            ready = [c for c in conditions if c["type"] == "Ready"]
            return ready and ready[0]["status"] == "False" and "CONFIG_WIREGUARD" in ready[0]["message"]

        until(told, "the Node says what is missing", 60)
        return "this kernel has no WireGuard"
    node.start()
    node.wait_ready()
    one, two = (cluster.get("pod", "-n", "e2e", name)["status"]["podIP"] for name in ("one", "two"))
    until(lambda: "hello from two" in fetched(cluster, "one", f"http://{two}:8080/"), "one reaches two")
    until(lambda: "hello from one" in fetched(cluster, "two", f"http://{one}:8080/"), "two reaches one")
    said = notes(cluster, "node2")
    key = json.loads(said["backend-data"])["PublicKey"]
    expect(said["backend-type"] == "wireguard" and len(key) == 44 and said["public-ip"] == FAR, f"flannel's annotations: {said}")
    mode = os.stat(node.data / "agent" / "net" / "wireguard.key").st_mode
    expect(stat.S_IMODE(mode) == 0o600, f"the key's mode is {oct(mode)}")
    for sh in (cluster.sh, node.sh):
        links = sh("ip -d link show type wireguard; ip link")
        if "flannel-wg" not in links or "flannel.7" in links or "mtu 1420" not in links:
            raise Failure(f"one tunnel of WireGuard's:\n{links}")
