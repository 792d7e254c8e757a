"""Two k3rs on one host, each in its own network namespace: neither sees, stops or removes what is the other's."""

import os
import pathlib

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
