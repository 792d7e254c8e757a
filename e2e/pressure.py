"""Memory and disk pressure on a node whose data directory is a small disk: pressure.py BINARY [--thresholds].

It mounts a tmpfs as the disk and a copy over /proc/meminfo, so it moves into a mount namespace of its own first.
With --thresholds, image garbage collection by disk usage is waited for, too; it looks every five minutes, as upstream does.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import images
import registry
from cluster import Cluster, Failure, run, until

USERSPACE = "k3rs.io/userspace:1"
FILL = "while :; do head -c 1048576 /dev/urandom >> /big; sleep 0.1; done"


class Node:
    def __init__(self, cluster):
        self.cluster = cluster
        self.meminfo = cluster.dir / "meminfo"
        self.memory = pathlib.Path("/proc/meminfo").read_text()
        self.meminfo.write_text(self.memory)
        run(["mount", "--bind", str(self.meminfo), "/proc/meminfo"])
        cluster.data.mkdir()
        run(["mount", "-t", "tmpfs", "-o", "size=100m", "disk", str(cluster.data)])

    def set_available(self, kib):
        self.meminfo.write_text(re.sub(r"MemAvailable: .*", f"MemAvailable: {kib:10} kB", self.memory))

    def used_percent(self):
        space = os.statvfs(self.cluster.data)
        return 100 - 100 * space.f_bavail // space.f_blocks

    def pod(self, name, image=USERSPACE, command=None, request=None):
        container = {"name": "c", "image": image}
        if command:
            container["command"] = ["sh", "-c", command]
        if request:
            container["resources"] = {"requests": {"memory": request}}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        self.cluster.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
        until(lambda: self.status(name)["phase"] == "Running", f"{name} runs", 30)

    def status(self, name):
        return self.cluster.get("pod", "-n", "e2e", name)["status"]

    def evicted(self, name, resource):
        """How it looks, once it is."""
        status = until(lambda: (s := self.status(name))["phase"] == "Failed" and s, f"{name} is evicted", 60)
        target = [c["reason"] for c in status["conditions"] if c["type"] == "DisruptionTarget"]
        if (status["reason"], target) != ("Evicted", ["TerminationByKubelet"]) or f"low on resource: {resource}" not in status["message"]:
            raise Failure(f"{name}: {status}")

    def is_pressed(self, what):
        node = self.cluster.get("node", "node1")
        condition = next(c["status"] for c in node["status"]["conditions"] if c["type"] == f"{what}Pressure")
        taints = [taint["key"] for taint in node["spec"].get("taints", [])]
        return condition == "True" and f"node.kubernetes.io/{what.lower()}-pressure" in taints


def push(cluster, peer, name, size):
    """An image of this many MiB, at a registry: what is imported from files would be pinned."""
    with tempfile.TemporaryDirectory() as work:
        root = pathlib.Path(work) / "root"
        shutil.copytree(cluster.data / "data/current/root", root, symlinks=True)
        (root / "ballast").write_bytes(os.urandom(size << 20))
        archive = pathlib.Path(work) / "image.tar"
        images.archive(root, archive, name, {"Cmd": ["sleep", "1000000"]})
        peer.push(archive, name)


def disk(cluster, node, thresholds):
    peer = registry.Registry(cluster, 5601)
    try:
        for name, size in (("unused:1", 20), ("used:1", 25)):
            push(cluster, peer, name, size)
        node.pod("short", "127.0.0.1:5601/unused:1")
        cluster.kubectl("delete", "pod", "-n", "e2e", "short", "--wait")
        node.pod("long", "127.0.0.1:5601/used:1")
    finally:
        peer.close()
    stored = lambda: cluster.sh(f"{cluster.binary} ctr images ls")  # noqa: E731
    if thresholds:
        space = os.statvfs(cluster.data)
        ballast = cluster.data / "ballast"
        ballast.write_bytes(bytes(space.f_bavail * space.f_bsize - space.f_blocks * space.f_bsize * 12 // 100))
        until(lambda: "unused:1" not in stored(), "the unused image is collected", 330, interval=2)
        ballast.unlink()
    node.pod("modest", command="sleep 1000000")
    node.pod("greedy", command=FILL)
    node.evicted("greedy", "ephemeral-storage")
    until(lambda: node.is_pressed("Disk"), "DiskPressure", 20)
    if node.used_percent() > 70:
        raise Failure(f"what the evicted pod wrote is still there: {node.used_percent()} % used")
    if [node.status(name)["phase"] for name in ("modest", "long")] != ["Running"] * 2:
        raise Failure("more pods went than needed to")
    names = stored()
    if "unused:1" in names or "used:1" not in names or "k3rs.io/userspace:1" not in names:
        raise Failure(f"images after reclaiming: {names}")
    return f"image and writable layer given back, {node.used_percent()} % used"


def memory(cluster, node, _):
    node.set_available(1000)
    try:
        # "long" and "modest" ask for nothing; the one that uses more goes.
        until(lambda: node.is_pressed("Memory"), "MemoryPressure", 30)
        gone = until(lambda: [name for name in ("long", "modest") if node.status(name)["phase"] == "Failed"], "a pod is evicted", 30)
    finally:
        node.set_available(8_000_000)
    node.evicted(gone[0], "memory")
    return f"{gone[0]} evicted"


def main(binary, thresholds):
    cluster = Cluster(binary)
    if not cluster.kubectl_path or not shutil.which("docker-registry") or not shutil.which("skopeo"):
        print("pressure: skipped: no kubectl, docker-registry or skopeo")
        cluster.close()
        return 0
    failed = 0
    try:
        node = Node(cluster)
        cluster.start()
        cluster.kubectl("create", "ns", "e2e")
        until(lambda: cluster.kubectl("get", "sa", "default", "-n", "e2e", check=False).returncode == 0, "the service account", 20)
        for scenario in (disk, memory):
            started = time.monotonic()
            try:
                note = scenario(cluster, node, thresholds)
                print(f"ok    {scenario.__name__:20} {time.monotonic() - started:6.1f} s  {note}", flush=True)
            except Failure as error:
                failed += 1
                print(f"FAIL  {scenario.__name__:20}\n{error}\n--- k3rs says:\n{cluster.tail()}", flush=True)
    finally:
        cluster.close()
        for mount in ("/proc/meminfo", cluster.data):
            subprocess.run(["umount", mount], capture_output=True)
        shutil.rmtree(cluster.dir, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if "K3RS_E2E_MOUNTS" not in os.environ:
        os.environ["K3RS_E2E_MOUNTS"] = "private"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    sys.exit(main(sys.argv[1], "--thresholds" in sys.argv))
