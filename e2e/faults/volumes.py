"""Volumes: a claim made for a pod, a claim for one pod at a time, a volume of the host."""

import json

from cluster import Failure, until

IMAGE = "k3rs.io/userspace:1"


def pod(name, volume, command="sleep 100000", **spec):
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", command], "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [{"name": "d", **volume}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def claim(name, mode="ReadWriteOnce", **spec):
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}, **spec}}


def of(name):
    return {"persistentVolumeClaim": {"claimName": name}}


def ephemeral(mode="ReadWriteOnce"):
    return {"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Mi"}}}}}}


def create(cluster, *objects):
    for one in objects:
        cluster.apply(json.dumps(one), "default")


def runs(cluster, name):
    return cluster.get("pod", name, "-n", "default")["status"].get("phase") == "Running"


def events(cluster, name):
    items = cluster.get("events", "-n", "default", "--field-selector", f"involvedObject.name={name}")["items"]
    return " | ".join(f"{e['reason']}: {e['message']}" for e in items)


def remove(cluster, *names):
    cluster.kubectl("delete", "-n", "default", "--force", "--grace-period=0", "--ignore-not-found", *names)


def test_ephemeral_volume(cluster):
    until(lambda: cluster.get("storageclass", "local-path"), "the storage class is there")
    create(cluster, pod("geph", ephemeral(), "echo kept > /d/f; sleep 100000"))
    until(lambda: runs(cluster, "geph"), "the pod runs")
    owner = cluster.get("pvc", "geph-d", "-n", "default")["metadata"]["ownerReferences"][0]
    if (owner["kind"], owner["name"], owner["controller"]) != ("Pod", "geph", True):
        raise Failure(str(owner))
    remove(cluster, "pod/geph")
    until(lambda: cluster.kubectl("get", "pvc", "geph-d", "-n", "default", check=False).returncode != 0, "its claim is gone")


def test_ephemeral_volume_takes_no_one_elses_claim(cluster):
    create(cluster, claim("thief-d"), pod("thief", ephemeral()))
    words = "PVC default/thief-d was not created for pod default/thief (pod is not owner)"
    until(lambda: events(cluster, "thief").count(words) >= 2, f"controller and scheduler say so: {events(cluster, 'thief')}")
    # Nor where nobody asked the scheduler.
    create(cluster, claim("thief2-d"), pod("user", of("thief2-d")), pod("thief2", ephemeral(), nodeName="node1"))
    until(lambda: "is not owner" in events(cluster, "thief2") and "FailedMount" in events(cluster, "thief2"), "the kubelet says so")
    if runs(cluster, "thief2"):
        raise Failure("it runs")
    remove(cluster, "pod/thief", "pod/thief2", "pod/user", "pvc/thief-d", "pvc/thief2-d")


def test_read_write_once_pod(cluster):
    create(cluster, claim("rwop", "ReadWriteOncePod"), pod("rwop1", of("rwop")))
    until(lambda: runs(cluster, "rwop1"), "the first runs")
    create(cluster, pod("rwop2", of("rwop")), pod("rwop3", of("rwop"), nodeName="node1"))
    words = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
    until(lambda: words in events(cluster, "rwop2"), "the scheduler refuses the second")
    words = "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
    until(lambda: words in events(cluster, "rwop3"), "the kubelet refuses who was not scheduled")
    # It is one after the other, also over a restart of the server.
    cluster.stop()
    cluster.start()
    until(lambda: runs(cluster, "rwop1"), "the first still runs")
    if runs(cluster, "rwop2") or runs(cluster, "rwop3"):
        raise Failure("two use it")
    remove(cluster, "pod/rwop1")
    until(lambda: runs(cluster, "rwop3"), "the next runs")
    remove(cluster, "pod/rwop3")
    until(lambda: runs(cluster, "rwop2"), "and the last")
    remove(cluster, "pod/rwop2", "pvc/rwop")


def volume(name, **source):
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": "5Mi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
        "claimRef": {"namespace": "default", "name": name}, **source}}


def test_host_path_volumes_are_as_a_pods_own(cluster):
    said = []
    for kind in ("", "DirectoryOrCreate", "FileOrCreate", "Directory", "File"):
        name = f"hp-{kind.lower() or 'none'}"
        own = {"path": str(cluster.dir / f"own-{name}"), "type": kind}
        theirs = {"path": str(cluster.dir / f"pv-{name}"), "type": kind}
        create(
            cluster,
            volume(name, hostPath=theirs),
            claim(name, storageClassName="", volumeName=name),
            pod(f"{name}-own", {"hostPath": own}),
            pod(f"{name}-pv", of(name)),
        )
        for way in ("own", "pv"):
            one = f"{name}-{way}"
            how = until(
                lambda: runs(cluster, one) and "runs" or ("type check failed" in events(cluster, one) and "refused"), f"{one} is made or refused ({events(cluster, one)})"
            )
            said.append((kind, way, how))
        if said[-1][2] != said[-2][2]:
            raise Failure(str(said))
        path = lambda way: cluster.dir / f"{way}-{name}"
        if said[-1][2] == "runs" and path("own").stat().st_mode != path("pv").stat().st_mode:
            raise Failure(f"{kind}: other modes")
        remove(cluster, f"pod/{name}-own", f"pod/{name}-pv", f"pvc/{name}", f"pv/{name}")
    if [how for _, _, how in said] != ["runs"] * 6 + ["refused"] * 4:
        raise Failure(str(said))
