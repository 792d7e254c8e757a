"""Two k3rs on one host, each in its own network namespace: neither sees, stops or removes what is the other's."""

import os
import pathlib
import subprocess

from cluster import Cluster, until

NS = "twins"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: 'k3rs.io/userspace:1', command: [sh, -c, 'echo %s > /d/who; exec sleep 100000'], volumeMounts: [{name: d, mountPath: /d}]}]
  volumes: [{name: d, emptyDir: {medium: Memory}}]
"""


def who(cluster):
    return cluster.kubectl("exec", "-n", NS, "p", "--", "cat", "/d/who").stdout.strip()


def test_they_do_not_see_each_other(cluster):
    twin = Cluster(cluster.binary)
    try:
        twin.start()
        for one, name in ((cluster, "one"), (twin, "two")):
            one.kubectl("create", "namespace", NS)
            one.apply(POD % name, NS)
        for one in (cluster, twin):
            one.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/p", "--timeout=40s", timeout=50)
        assert (who(cluster), who(twin)) == ("one", "two")
        # The same names and addresses, and nothing of it shared.
        uids = [one.get("pod", "-n", NS, "p")["metadata"]["uid"] for one in (cluster, twin)]
        assert uids[0] != uids[1] and cluster.cgroup != twin.cgroup
        assert len(cluster.get("nodes")["items"]) == len(twin.get("nodes")["items"]) == 1
        # Each network namespace has the abstract sockets of its own server only.
        for one, other in ((cluster, twin), (twin, cluster)):
            sockets = one.sh("cat /proc/net/unix")
            assert str(other.dir) not in sockets, sockets
        # One restarts, and adopts what is its own.
        cluster.stop()
        assert who(twin) == "two"
        cluster.start()
        until(lambda: who(cluster) == "one", "its pod is there again", 20)
        restarts = [one.get("pod", "-n", NS, "p")["status"]["containerStatuses"][0]["restartCount"] for one in (cluster, twin)]
        assert restarts == [0, 0], restarts
        # One leaves; the other's pods, rules and links stay.
        twin.stop()
        done = twin.uninstall()
        assert done.returncode == 0, done
        assert not twin.data.exists()
        assert who(cluster) == "one" and "cni0" in cluster.sh("ip link")
        # It has just started again, and may be loading its rules.
        until(lambda: "k3rs" in cluster.sh("nft list tables"), "its rules are there", 10)
        assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"
    finally:
        twin.close()


def test_one_run_directory_is_one_servers(cluster):
    """Another data directory with this one's run directory is refused, while it runs and while it has pods."""
    said = lambda: subprocess.run(other.inside([other.binary, "server", *other.server_args()]), env=other.env, capture_output=True, text=True, timeout=20)
    other = Cluster(cluster.binary)
    try:
        other.env["K3RS_RUN_DIR"] = str(cluster.dir / "run")
        done = said()
        assert done.returncode and "another k3rs runs with the run directory" in done.stderr + done.stdout and "K3RS_RUN_DIR" in done.stderr + done.stdout, done
        cluster.kubectl("create", "namespace", "lone", check=False)
        until(lambda: cluster.kubectl("get", "serviceaccount", "-n", "lone", "default", check=False).returncode == 0, "its default account")
        cluster.apply(POD % "lone", "lone")
        cluster.kubectl("wait", "-n", "lone", "--for=condition=Ready", "pod/p", "--timeout=40s", timeout=50)
        cluster.stop()
        done = said()
        assert done.returncode and "has pods of the k3rs with the data directory" in done.stderr + done.stdout, done
        cluster.start()
        until(lambda: cluster.kubectl("exec", "-n", "lone", "p", "--", "cat", "/d/who", check=False).stdout.strip() == "lone", "its pod runs on", 20)
        assert cluster.get("pod", "-n", "lone", "p")["status"]["containerStatuses"][0]["restartCount"] == 0
    finally:
        other.env["K3RS_RUN_DIR"] = str(other.dir / "run")
        other.close()


def test_one_kubelet_directory_is_one_servers(cluster):
    other = Cluster(cluster.binary)
    own = other.env["K3RS_KUBELET_DIR"]
    try:
        other.env["K3RS_KUBELET_DIR"] = cluster.env["K3RS_KUBELET_DIR"]
        done = subprocess.run(other.inside([other.binary, "server", *other.server_args()]), env=other.env, capture_output=True, text=True, timeout=60)
        said = done.stderr + done.stdout
        assert done.returncode and "another k3rs runs with the kubelet's directory" in said and "K3RS_KUBELET_DIR" in said, done
    finally:
        other.env["K3RS_KUBELET_DIR"] = own
        other.close()


def test_data_directory_behind_a_link(cluster):
    """Volumes' mounts end with their pod, and are made once, whatever way leads to the data directory."""
    linked = Cluster(cluster.binary)
    mounts = lambda: [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(linked.dir) in line and "/pods/" in line]
    try:
        (linked.dir / "real").mkdir()
        linked.data.symlink_to(linked.dir / "real")
        linked.start()
        linked.kubectl("create", "namespace", NS)
        until(lambda: linked.kubectl("get", "serviceaccount", "-n", NS, "default", check=False).returncode == 0, "its default account")
        linked.apply(POD % "linked", NS)
        linked.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/p", "--timeout=40s", timeout=50)
        before = mounts()
        assert len(before) == 1, before
        linked.stop()
        linked.start()
        until(lambda: who(linked) == "linked", "its pod is there again", 20)
        assert mounts() == before, mounts()
        linked.kubectl("delete", "pod", "-n", NS, "p", "--wait=false")
        until(lambda: not mounts(), "its mounts end", 20)
    finally:
        linked.close()
