"""Storage drivers (CSI): a driver of the tests' own is registered, mounts, hangs, lies, goes and comes back."""

import json
import pathlib
import signal
import threading

from cluster import expect, until
from faults._driver import Driver, Refused, texts
from faults._grpc import fields
from faults.pods import container, create, pod

STAGE, STATS = 1, 2
PATIENCE = 90


def about(name, **spec):
    return {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": {"attachRequired": False, **spec}}


def volume(name, driver, handle, **more):
    """A PersistentVolume and its claim."""
    source = {"driver": driver, "volumeHandle": handle, **more.pop("csi", {})}
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    of_volume = {"capacity": size, "accessModes": modes, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain", "csi": source, **more}
    of_claim = {"accessModes": modes, "storageClassName": "", "volumeName": name, "resources": {"requests": size}}
    return (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": of_volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": of_claim},
    )


def user(name, volume, command="sleep 100000", **spec):
    """A pod with a volume at /d: the name of a claim, or a source."""
    source = {"persistentVolumeClaim": {"claimName": volume}} if isinstance(volume, str) else volume
    mounts = [{"name": "d", "mountPath": "/d"}]
    return pod(name, container("c", command, volumeMounts=mounts), volumes=[{"name": "d", **source}], **spec)


def runs(cluster, *names):
    for name in names:
        until(lambda: cluster.get("pod", name, "-n", "default")["status"].get("phase") == "Running", f"pod {name} runs", PATIENCE)


def deleted(cluster, *names):
    cluster.kubectl("delete", "-n", "default", "--ignore-not-found", "--wait=true", f"--timeout={PATIENCE}s", *names, timeout=PATIENCE + 30)


def told(cluster, name, words):
    def look():
        items = cluster.get("events", "-n", "default", "--field-selector", f"involvedObject.name={name}")["items"]
        return any(words in f"{e['reason']}: {e['message']}" for e in items)

    until(look, f"an event of {name} says {words!r}", PATIENCE)


def place(cluster, name, spec):
    uid = cluster.get("pod", name, "-n", "default")["metadata"]["uid"]
    return pathlib.Path(cluster.env["K3RS_KUBELET_DIR"]) / "pods" / uid / "volumes/kubernetes.io~csi" / spec


def test_a_driver_is_made_known_and_forgotten(cluster):
    topology = {"topology.e2e.example.com/rack": "r1"}
    node = lambda: cluster.get("node", "node1")["metadata"]
    with Driver(cluster, "known.example.com", topology=topology, volumes_max=7):
        entry = cluster.get("csinode", "node1")["spec"]["drivers"][0]
        want = {"name": "known.example.com", "nodeID": "id-known.example.com", "topologyKeys": list(topology), "allocatable": {"count": 7}}
        expect(entry == want, f"{entry}")
        expect(node()["labels"].items() >= topology.items(), f"{node()['labels']}")
        ids = json.loads(node()["annotations"]["csi.volume.kubernetes.io/nodeid"])
        expect(ids == {"known.example.com": "id-known.example.com"}, f"{ids}")
        expect(cluster.get("csinode", "node1")["metadata"]["ownerReferences"][0]["kind"] == "Node", "the CSINode is the Node's")
    until(lambda: not cluster.get("csinode", "node1")["spec"].get("drivers"), "it is not in the CSINode any more", PATIENCE)
    until(lambda: "csi.volume.kubernetes.io/nodeid" not in node()["annotations"], "nor in the annotation", PATIENCE)


def test_a_volume_is_staged_once_and_published_for_each_pod(cluster):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "csi"}, "stringData": {"password": "hush"}}
    reference = {"name": "csi", "namespace": "default"}
    source = {"fsType": "xfs", "volumeAttributes": {"size": "big"}, "nodeStageSecretRef": reference, "nodePublishSecretRef": reference}
    made = volume("shared", "shared.example.com", "h1", csi=source, mountOptions=["noatime"])
    with Driver(cluster, "shared.example.com", capabilities=(STAGE, STATS)) as driver:
        create(cluster, secret, about("shared.example.com", podInfoOnMount=True), *made)
        create(cluster, user("first", "shared", "echo written > /d/f; sleep 100000"))
        runs(cluster, "first")
        until(lambda: (driver.data / "h1/f").read_text() == "written\n" if (driver.data / "h1/f").exists() else None, "the driver has what was written", PATIENCE)
        create(cluster, user("second", "shared", "grep written /d/f && sleep 100000"))
        runs(cluster, "second")
        (stage,) = driver.called("NodeStageVolume")
        publish = driver.called("NodePublishVolume")
        expect(len(publish) == 2, f"published {len(publish)} times")
        expect(texts(stage, 5) == texts(publish[0], 7) == {"password": "hush"}, "both calls have the secret")
        context = texts(publish[0], 8)
        want = {"size": "big", "csi.storage.k8s.io/pod.name": "first", "csi.storage.k8s.io/ephemeral": "false"}
        expect(context.items() >= want.items(), f"{context}")
        access = fields(fields(stage)[4][0])
        expect(fields(access[1 + 1][0]) == {1: [b"xfs"], 2: [b"noatime"]}, f"{access}")
        expect(fields(access[3][0]) == {1: [1]}, f"one node writes: {access}")
        staged, target = fields(publish[0])[3][0].decode(), fields(publish[0])[4][0].decode()
        expect(target == str(place(cluster, "first", "shared") / "mount"), target)
        expect((pathlib.Path(staged).parent / "vol_data.json").exists(), staged)
        summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout)
        mine = next(pod for pod in summary["pods"] if pod["podRef"]["name"] == "first")
        usage = next(volume for volume in mine["volume"] if volume["name"] == "d")
        got = [usage[key] for key in ("capacityBytes", "availableBytes", "usedBytes", "inodes", "inodesFree", "inodesUsed")]
        expect(got == [100, 60, 40, 10, 6, 4] and usage["pvcRef"]["name"] == "shared", f"{usage}")
        deleted(cluster, "pod/first")
        until(lambda: len(driver.called("NodeUnpublishVolume")) == 1, "it is taken from the first pod", PATIENCE)
        expect(not driver.called("NodeUnstageVolume"), "the second pod has it")
        deleted(cluster, "pod/second")
        until(lambda: driver.called("NodeUnstageVolume") and not pathlib.Path(staged).parent.exists(), "nobody has it", PATIENCE)
        until(lambda: not pathlib.Path(target).parent.exists(), f"{target} is gone", PATIENCE)


def test_a_pods_own_volume_is_given_to_its_group(cluster):
    spec = {"volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": True, "fsGroupPolicy": "File", "tokenRequests": [{"audience": "vault"}]}
    source = {"csi": {"driver": "inline.example.com", "volumeAttributes": {"a": "b"}}}
    with Driver(cluster, "inline.example.com", capabilities=(STAGE,)) as driver:
        create(cluster, about("inline.example.com", **spec), user("inline", source, securityContext={"fsGroup": 4321}))
        runs(cluster, "inline")
        (publish,) = driver.called("NodePublishVolume")
        context = texts(publish, 8)
        expect(context["csi.storage.k8s.io/ephemeral"] == "true" and context["a"] == "b", f"{context}")
        tokens = json.loads(context["csi.storage.k8s.io/serviceAccount.tokens"])
        expect(tokens["vault"]["token"].count(".") == 2 and tokens["vault"]["expirationTimestamp"], f"{tokens}")
        handle = fields(publish)[1][0].decode()
        expect(handle.startswith("csi-") and len(handle) == 68, handle)
        expect((driver.data / handle).stat().st_gid == 4321, "it is its group's")
        expect(not driver.called("NodeStageVolume"), "it is not staged")
        create(cluster, user("refused", {"csi": {"driver": "inline.example.com", "nodePublishSecretRef": {"name": "missing"}}}))
        told(cluster, "refused", 'fetching NodePublishSecretRef default/missing failed: secrets "missing" not found')
        deleted(cluster, "pod/inline", "pod/refused")
        until(lambda: driver.called("NodeUnpublishVolume"), "it is taken down", PATIENCE)


def test_a_volume_is_attached_and_detached(cluster):
    made = volume("attached", "attached.example.com", "h2")
    name = lambda: [it["metadata"]["name"] for it in cluster.get("volumeattachments")["items"]]
    used = lambda: cluster.get("node", "node1")["status"].get("volumesInUse")
    unique = "kubernetes.io/csi/attached.example.com^h2"
    with Driver(cluster, "attached.example.com") as driver:
        create(cluster, about("attached.example.com", attachRequired=True), *made, user("attaching", "attached"))
        attachment = until(lambda: name()[0], "a VolumeAttachment", PATIENCE)
        expect(not driver.called("NodePublishVolume"), "it is not attached yet")
        status = {"status": {"attached": True, "attachmentMetadata": {"device": "sda"}}}
        cluster.kubectl("patch", "volumeattachment", attachment, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        runs(cluster, "attaching")
        (publish,) = driver.called("NodePublishVolume")
        expect(texts(publish, 2) == {"device": "sda"}, "the driver learns what the attacher found")
        expect(used() == [unique], f"{used()}")
        expect(cluster.get("node", "node1")["status"]["volumesAttached"] == [{"name": unique, "devicePath": ""}], "the node says so")
        told(cluster, "attaching", 'AttachVolume.Attach succeeded for volume "attached"')
        deleted(cluster, "pod/attaching")
        until(lambda: not name() and not used(), "it is detached", PATIENCE)


def test_a_driver_that_hangs_or_refuses_keeps_no_other_pod(cluster):
    go_on = threading.Event()

    def hang(_):
        go_on.wait(100)
        raise Refused(13, "no disk")

    inline = {"csi": {"driver": "slow.example.com"}}
    with Driver(cluster, "slow.example.com") as driver:
        driver.faults["NodePublishVolume"] = hang
        create(cluster, about("slow.example.com", volumeLifecycleModes=["Ephemeral"]), user("hanging", inline))
        until(lambda: driver.called("NodePublishVolume"), "the driver is asked", PATIENCE)
        create(cluster, user("other", {"emptyDir": {}}))
        runs(cluster, "other")
        go_on.set()
        told(cluster, "hanging", "rpc error: code = Internal desc = no disk")
        # A driver that says that it did, and did not.
        driver.faults["NodePublishVolume"] = lambda _: b""
        told(cluster, "hanging", "the driver mounted nothing at")
        driver.faults.clear()
        runs(cluster, "hanging")
        deleted(cluster, "pod/hanging", "pod/other")


def test_what_nobody_has_keeps_no_driver_waiting(cluster):
    go_on = threading.Event()
    uid = "11111111-2222-3333-4444-555555555555"
    left = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"]) / "pods" / uid / "volumes/kubernetes.io~csi/v"
    (left / "mount").mkdir(parents=True)
    record = {"driverName": "stuck.example.com", "volumeHandle": "h", "specVolID": "v", "volumeLifecycleMode": "Ephemeral", "nodeName": "node1"}
    (left / "vol_data.json").write_text(json.dumps(record))
    stuck = Driver(cluster, "stuck.example.com")
    # It is asked as soon as it is there.
    stuck.faults["NodeUnpublishVolume"] = lambda _: go_on.wait(100) and b""
    with stuck:
        # A look may have been under way when it was registered: the next is half a minute later.
        until(lambda: stuck.called("NodeUnpublishVolume"), "it is to take down what an earlier kubelet left", PATIENCE)
        with Driver(cluster, "prompt.example.com"):
            expect(not go_on.is_set() and left.exists(), "the other is registered meanwhile")
        go_on.set()
        until(lambda: not left.exists(), "it is taken down", PATIENCE)


def test_what_was_mounted_is_known_after_a_restart(cluster):
    made = volume("lasting", "lasting.example.com", "h3")
    with Driver(cluster, "lasting.example.com", capabilities=(STAGE,)) as driver:
        create(cluster, about("lasting.example.com"), *made, user("lasting", "lasting"))
        runs(cluster, "lasting")
        target = place(cluster, "lasting", "lasting")
        cluster.stop(signal.SIGKILL)
        driver.shut()
        cluster.start()
        expect(len(driver.called("NodePublishVolume")) == 1, "it is not mounted again under the pod")
        cluster.kubectl("delete", "pod", "lasting", "-n", "default", "--wait=false")
        # Whoever could take it down is not there.
        until(lambda: any("lasting.example.com not found in the list of registered CSI drivers" in line for line in cluster.log_lines()), "it waits for its driver", PATIENCE)
        expect(target.exists(), "nothing is removed under a driver")
        driver.open()
        until(lambda: driver.called("NodeUnstageVolume") and not target.exists(), "it is taken down", PATIENCE)
        cluster.kubectl("wait", "--for=delete", "pod/lasting", "-n", "default", f"--timeout={PATIENCE}s", timeout=PATIENCE + 30)


def test_a_pod_waits_for_its_driver(cluster):
    create(cluster, about("late.example.com", volumeLifecycleModes=["Ephemeral"]), user("early", {"csi": {"driver": "late.example.com"}}))
    told(cluster, "early", "driver name late.example.com not found in the list of registered CSI drivers")
    with Driver(cluster, "late.example.com"):
        runs(cluster, "early")
        deleted(cluster, "pod/early")
    kubelet = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"])
    until(lambda: not list(kubelet.rglob("vol_data.json")), "nothing is left of any test", PATIENCE)
