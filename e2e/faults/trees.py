"""Trees that containers left: deep ones, and what fsGroup, subPath and links do to the owners and modes of volumes."""

import json
import os
import subprocess

import hostile_images as hostile
from cluster import Failure, until

DEEP = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>
int main(int argc, char **argv) {
    for (int n = 2; n < argc; n++) {
        if (chdir(argv[n])) return 1;
        for (int i = 0; i < atoi(argv[1]); i++) {
            if (mkdir("a", 0777) || chdir("a")) return 2;
        }
    }
    puts("deep");
    fflush(stdout);
    pause();
}
"""
# What `chattr +i` and `+a` do, in each directory that is named.
KEPT = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>
static int keep(const char *path, int flags) {
    int fd = open(path, O_RDONLY);
    return fd < 0 || ioctl(fd, FS_IOC_SETFLAGS, &flags);
}
int main(int argc, char **argv) {
    for (int n = 1; n < argc; n++) {
        if (chdir(argv[n]) || mkdir("kept", 0755) || close(open("kept/file", O_CREAT | O_WRONLY, 0644)) || close(open("log", O_CREAT | O_WRONLY, 0644))) return 1;
        if (keep("kept/file", FS_IMMUTABLE_FL | FS_APPEND_FL) || keep("kept", FS_IMMUTABLE_FL) || keep("log", FS_APPEND_FL) || keep(".", FS_APPEND_FL)) return 2;
    }
    puts("kept");
    fflush(stdout);
    pause();
}
"""
DEPTH = 15000
# A disk that is shared takes milliseconds for a directory.
GONE_MAX = 240


def prepare(cluster):
    (cluster.dir / "tools").mkdir()
    for name, text in (("deep", DEEP), ("kept", KEPT)):
        source = cluster.dir / f"{name}.c"
        source.write_text(text)
        subprocess.run(["gcc", "-static", "-O1", "-o", cluster.dir / "tools" / name, source], check=True)


def pod(name, container, volumes=(), **spec):
    container = {"name": "c", "image": "k3rs.io/userspace:1", **container}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [container], "volumes": list(volumes), **spec}}


def apply(cluster, *objects):
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), "default")


def said(cluster, name, word):
    return until(lambda: word in (text := cluster.kubectl("logs", name).stdout) and text, f"{name} says {word}", 60)


def deep_pod(cluster, name, *places):
    mounts = [{"name": "tools", "mountPath": "/tools"}, {"name": "e", "mountPath": "/e"}]
    volumes = [{"name": "tools", "hostPath": {"path": str(cluster.dir / "tools")}}, {"name": "e", "emptyDir": {}}]
    apply(cluster, pod(name, {"command": ["/tools/deep", str(DEPTH), *places], "volumeMounts": mounts}, volumes))
    said(cluster, name, "deep")
    return cluster.get("pod", name)["metadata"]["uid"]


def test_deep_trees_are_removed(cluster):
    uid = deep_pod(cluster, "deep", "/e", "/")
    cluster.kubectl("delete", "pod", "deep", "--now", "--wait=false")
    until(lambda: not (cluster.data / "agent/pods" / uid).exists(), "the pod's directory is gone", GONE_MAX)
    until(lambda: not os.listdir(cluster.data / "agent/containerd/writable"), "its writable layer is gone", GONE_MAX)
    cluster.alive()


def test_files_that_may_not_be_removed(cluster):
    """Whoever has CAP_LINUX_IMMUTABLE may forbid it for every user; the pod goes all the same."""
    mounts = [{"name": "tools", "mountPath": "/tools"}, {"name": "e", "mountPath": "/e"}]
    volumes = [{"name": "tools", "hostPath": {"path": str(cluster.dir / "tools")}}, {"name": "e", "emptyDir": {}}]
    context = {"capabilities": {"add": ["LINUX_IMMUTABLE"]}}
    apply(cluster, pod("kept", {"command": ["/tools/kept", "/e", "/var"], "volumeMounts": mounts, "securityContext": context}, volumes))
    said(cluster, "kept", "kept")
    uid = cluster.get("pod", "kept")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "kept", "--now", "--wait=false")
    until(lambda: cluster.kubectl("get", "pod", "kept", check=False).returncode, "the pod is gone", 30)
    until(lambda: not (cluster.data / "agent/pods" / uid).exists(), "the pod's directory is gone", 30)
    until(lambda: not os.listdir(cluster.data / "agent/containerd/writable"), "its writable layer is gone", 30)


def test_deep_trees_at_start(cluster):
    """The node starts with what is left of pods, containers and layers that nobody knows, and does not wait for its removal."""
    cluster.stop()
    orphan = cluster.data / "agent/pods/00000000-0000-0000-0000-000000000001"
    places = [orphan / "volumes/kubernetes.io~empty-dir/e", cluster.data / "agent/containerd/writable/unknown", cluster.data / "agent/containerd/l/.half"]
    for place in places:
        place.mkdir(parents=True)
        with subprocess.Popen([cluster.dir / "tools/deep", str(DEPTH // 3), str(place)], stdout=subprocess.PIPE) as maker:
            maker.stdout.readline()
            maker.kill()
    cluster.start()
    apply(cluster, pod("beside", {"command": ["sh", "-c", "echo runs; sleep 600"]}))
    said(cluster, "beside", "runs")
    for left in (orphan, *places[1:]):
        until(lambda left=left: not left.exists(), f"{left} is gone", GONE_MAX)
    until(lambda: not list((cluster.data / "agent/containerd/l").glob(".gone.*")), "the layer is gone", GONE_MAX)
    cluster.kubectl("delete", "pod", "beside", "--now")


CLAIM = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}


def test_fs_group_leaves_the_hosts_modes(cluster):
    """PostgreSQL's directory of mode 0700 on local-path is still so when its second pod starts."""
    host = cluster.dir / "hostpath"
    host.mkdir(mode=0o700)
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "h", "hostPath": {"path": str(host)}}]
    mounts = [{"name": "d", "mountPath": "/d"}, {"name": "h", "mountPath": "/h"}]
    first = "mkdir -m 0700 /d/pg && echo 1 > /d/pg/f && chmod 0600 /d/pg/f && ln -s /etc/passwd /d/link && echo done; sleep 600"
    second = "stat -c '%a %g' /d /d/pg /d/pg/f /h; echo done; sleep 600"
    apply(cluster, CLAIM)
    for n, (command, policy) in enumerate(((first, "Always"), (second, "Always"), (second, "OnRootMismatch"))):
        apply(cluster, pod(f"pg{n}", {"command": ["sh", "-c", command], "volumeMounts": mounts}, volumes, securityContext={"fsGroup": 3000, "fsGroupChangePolicy": policy}))
        text = said(cluster, f"pg{n}", "done")
        if n and text.split() != ["777", "0", "700", "0", "600", "0", "700", "0", "done"]:
            raise Failure(f"{policy}: {text}")
        cluster.kubectl("delete", "pod", f"pg{n}", "--now")


def test_sub_path_has_the_mode_of_its_volume(cluster):
    user = {"runAsUser": 1234, "runAsGroup": 1234}
    claim = {**CLAIM, "metadata": {"name": "sub"}}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "sub"}}, {"name": "e", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]
    mounts = [{"name": "d", "mountPath": "/pvc", "subPath": "data"}, {"name": "e", "mountPath": "/empty", "subPath": "a/b"}, {"name": "m", "mountPath": "/memory", "subPath": "x"},
              {"name": "e", "mountPath": "/expr", "subPathExpr": "$(POD)"}]  # fmt: skip
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    command = "for d in /pvc /empty /memory /expr; do touch $d/f && echo $d $(stat -c '%a %u:%g' $d); done; echo done; sleep 600"
    apply(cluster, claim, pod("sp", {"command": ["sh", "-c", command], "volumeMounts": mounts, "env": env}, volumes, securityContext=user))
    text = said(cluster, "sp", "done")
    if text.splitlines() != ["/pvc 777 0:0", "/empty 777 0:0", "/memory 777 0:0", "/expr 777 0:0", "done"]:
        raise Failure(text)
    apply(cluster, pod("group", {"command": ["sh", "-c", command], "volumeMounts": mounts[1:], "env": env}, volumes[1:], securityContext={**user, "fsGroup": 3000}))
    text = said(cluster, "group", "done")
    wanted = ["/empty 2777 0:3000", "/expr 2777 0:3000"]
    if not set(wanted) <= set(text.splitlines()):
        raise Failure(text)
    cluster.kubectl("delete", "pod", "sp", "group", "--now")


def test_sub_path_through_a_link(cluster):
    """A link that a pod put into its volume does not lead a later subPath, nor fsGroup, to the host."""
    outside = hostile.outside_tree(cluster.dir)
    before = hostile.snapshot(outside)
    claim = {**CLAIM, "metadata": {"name": "links"}}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "links"}}]
    mounts = [{"name": "d", "mountPath": "/d"}]
    apply(cluster, claim, pod("linker", {"command": ["sh", "-c", f"ln -s {outside} /d/out; ln -s {outside}/file /d/file; ln -s / /d/root; echo done; sleep 600"], "volumeMounts": mounts}, volumes))
    said(cluster, "linker", "done")
    mounts = [{"name": "d", "mountPath": f"/m{n}", "subPath": path} for n, path in enumerate(("out/new/er", "file", f"root/{outside}/dir"))]
    apply(cluster, pod("linked", {"command": ["sh", "-c", "chmod 777 /m0 /m2; echo hostile > /m2/file; echo done; sleep 600"], "volumeMounts": mounts[::2]}, volumes, securityContext={"fsGroup": 3000}))
    said(cluster, "linked", "done")
    apply(cluster, pod("linked-file", {"command": ["sh", "-c", "chmod 777 /m1; echo done; sleep 600"], "volumeMounts": mounts[1:2]}, volumes))
    until(lambda: cluster.get("pod", "linked-file")["status"].get("containerStatuses", [{}])[0].get("state"), "it was tried", 30)
    if hostile.snapshot(outside) != before:
        raise Failure("a link in a volume led to the host")
    cluster.kubectl("delete", "pods", "--all", "--now")
