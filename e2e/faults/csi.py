"""Storage drivers (CSI): a driver of the tests' own is registered, mounts, hangs, lies, goes and comes back."""

import json
import pathlib
import signal
import subprocess
import threading

from cluster import expect, until
from faults._driver import Driver, Refused, loop, texts
from faults._grpc import fields
from faults.pods import container, create, pod

STAGE, STATS, EXPAND = 1, 2, 3
PATIENCE = 90
# Claims are looked at once a minute.
LOOKED_AT = 150


def about(name, **spec):
    return {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": {"attachRequired": False, **spec}}


def volume(name, driver, handle, **more):
    """A PersistentVolume and its claim."""
    source = {"csi": {"driver": driver, "volumeHandle": handle, **more.pop("csi", {})}} if driver else {}
    both = {key: more[key] for key in ("volumeMode", "storageClassName", "accessModes") if key in more}
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    of_volume = {"capacity": size, "accessModes": modes, "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain", **source, **more}
    of_claim = {"accessModes": modes, "storageClassName": "", "volumeName": name, "resources": {"requests": size}, **both}
    return (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": of_volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": of_claim},
    )


def user(name, volume, command="sleep 100000", **spec):
    """A pod with a volume at /d: the name of a claim, or a source."""
    source = {"persistentVolumeClaim": {"claimName": volume}} if isinstance(volume, str) else volume
    mounts = [{"name": "d", "mountPath": "/d"}]
    return pod(name, container("c", command, volumeMounts=mounts), volumes=[{"name": "d", **source}], **spec)


def device_user(name, claim, command, **source):
    """A pod with a claim's volume as the device /dev/xvda."""
    devices = [{"name": "d", "devicePath": "/dev/xvda"}]
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": claim, **source}}]
    return pod(name, container("c", command, volumeDevices=devices), volumes=volumes)


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


def test_a_node_without_drivers_says_so(cluster):
    found = until(lambda: cluster.get("csinode", "node1"), "a CSINode", PATIENCE)
    expect(not found["spec"].get("drivers") and found["metadata"]["ownerReferences"][0]["kind"] == "Node", f"{found}")


def test_what_is_mounted_in_a_drivers_pod_is_seen_by_the_node(cluster):
    kubelet = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"])
    place = kubelet / "plugins/e2e-sharing"
    mounts = [{"name": "d", "mountPath": "/k", "mountPropagation": "Bidirectional"}]
    volumes = [{"name": "d", "hostPath": {"path": str(kubelet), "type": "Directory"}}]
    command = "mkdir -p /k/plugins/e2e-sharing && mount -t tmpfs tmpfs /k/plugins/e2e-sharing && echo in > /k/plugins/e2e-sharing/f; sleep 100000"
    create(cluster, pod("sharing", container("c", command, volumeMounts=mounts, securityContext={"privileged": True}), volumes=volumes))
    try:
        until(lambda: (place / "f").exists(), "the node sees it", PATIENCE)
        deleted(cluster, "pod/sharing")
    finally:
        subprocess.run(["umount", place], capture_output=True)
    place.rmdir()


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


def test_a_volume_without_a_file_system_is_a_device_in_the_pod(cluster):
    made = volume("raw", "raw.example.com", "h4", volumeMode="Block")
    with Driver(cluster, "raw.example.com", capabilities=(STAGE,)) as driver:
        create(cluster, about("raw.example.com"), *made, device_user("raw", "raw", "echo written > /dev/xvda; sleep 100000"))
        runs(cluster, "raw")
        until(lambda: pathlib.Path(driver.loops["h4"]).open("rb").read(8) == b"written\n", "the device has what was written", PATIENCE)
        (stage,), (publish,) = driver.called("NodeStageVolume"), driver.called("NodePublishVolume")
        expect(1 in fields(fields(stage)[4][0]), "it is staged as a device")
        uid = cluster.get("pod", "raw", "-n", "default")["metadata"]["uid"]
        devices = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"]) / "plugins/kubernetes.io/csi/volumeDevices/publish"
        target = pathlib.Path(fields(publish)[4][0].decode())
        expect(target == devices / "raw" / uid, target)
        create(cluster, device_user("reader", "raw", "grep -q written /dev/xvda && ! (echo no > /dev/xvda) && sleep 100000", readOnly=True))
        runs(cluster, "reader")
        create(cluster, user("confused", "raw"))
        told(cluster, "confused", "volume d has volumeMode Block, but is specified in volumeMounts")
        driver.faults["NodePublishVolume"] = lambda _: b""
        create(cluster, device_user("cheated", "raw", "true"))
        told(cluster, "cheated", 'FailedMapVolume: MapVolume.MapPodDevice failed for volume "raw" : the driver made no device at')
        deleted(cluster, "pod/raw", "pod/reader", "pod/confused", "pod/cheated")
        until(lambda: driver.called("NodeUnstageVolume") and not devices.joinpath("raw").exists(), "nothing is left of it", PATIENCE)


def test_a_device_of_the_node_is_given_to_a_pod(cluster):
    device = loop(cluster.dir / "local.img")
    try:
        only = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]}]}]}}
        made = volume("own", None, None, local={"path": device}, nodeAffinity=only, volumeMode="Block")
        false = volume("false", None, None, local={"path": "/dev/null"}, nodeAffinity=only, volumeMode="Block")
        create(cluster, *made, *false, device_user("own", "own", "echo own > /dev/xvda; sleep 100000"), device_user("false", "false", "true"))
        runs(cluster, "own")
        until(lambda: pathlib.Path(device).open("rb").read(4) == b"own\n", "the device has what was written", PATIENCE)
        told(cluster, "false", 'path "/dev/null" is not a block device')
        deleted(cluster, "pod/own", "pod/false")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def resized(cluster, name):
    """As the drivers' helper (external-resizer) does its half."""
    patch = lambda what, tree, *more: cluster.kubectl("patch", what, name, "-n", "default", "--type=merge", *more, "-p", json.dumps(tree))
    size = {"storage": "2Gi"}
    patch("pvc", {"spec": {"resources": {"requests": size}}})
    told(cluster, name, "ExternalExpanding: waiting for an external controller to expand this PVC")
    says = lambda progress, **more: patch("pvc", {"status": {"allocatedResourceStatuses": {"storage": progress}, **more}}, "--subresource=status")
    says("ControllerResizeInProgress", allocatedResources=size)
    patch("pv", {"spec": {"capacity": size}})
    says("NodeResizePending", conditions=[{"type": "FileSystemResizePending", "status": "True"}])


def test_a_volume_grows_under_its_pod_or_before_it(cluster):
    name = "grown.example.com"
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "growing"}, "provisioner": name, "allowVolumeExpansion": True}
    status = lambda claim: cluster.get("pvc", claim, "-n", "default")["status"]
    with Driver(cluster, name, capabilities=(STAGE, EXPAND)) as driver:
        create(cluster, kind, about(name))
        for claim, handle in (("online", "h5"), ("offline", "h6")):
            create(cluster, *volume(claim, name, handle, storageClassName="growing"))
            until(lambda: status(claim).get("phase") == "Bound", f"{claim} is bound", PATIENCE)
        create(cluster, user("grower", "online"))
        runs(cluster, "grower")
        resized(cluster, "online")
        (request,) = until(lambda: driver.called("NodeExpandVolume"), "the driver is asked", LOOKED_AT)
        request = fields(request)
        expect(request[1] == [b"h5"] and fields(request[3][0]) == {1: [2 << 30]}, f"{request}")
        expect(request[2][0].decode() == str(place(cluster, "grower", "online") / "mount"), f"{request[2]}")
        expect(pathlib.Path(request[4][0].decode()).name == "globalmount", f"{request[4]}")
        done = lambda claim: status(claim)["capacity"]["storage"] == "2Gi" and not status(claim).get("conditions") and not status(claim).get("allocatedResourceStatuses")
        until(lambda: done("online"), "the claim is told", PATIENCE)
        for about_it in ("grower", "online"):
            told(cluster, about_it, 'FileSystemResizeSuccessful: MountVolume.NodeExpandVolume succeeded for volume "online" node1')
        # One that cannot: the pod gets the volume as it is, once the claim says so.
        resized(cluster, "offline")

        def refuse(_):
            raise Refused(11, "no room")

        driver.faults["NodeExpandVolume"] = refuse
        create(cluster, user("waiting", "offline"))
        told(cluster, "waiting", 'MountVolume.Setup failed while expanding volume for volume "offline" : Expander.NodeExpand failed to expand the volume rpc error: code = OutOfRange desc = no room')
        runs(cluster, "waiting")
        said = status("offline")
        expect(said["allocatedResourceStatuses"] == {"storage": "NodeResizeInfeasible"} and said["capacity"]["storage"] == "1Gi", f"{said}")
        expect([it["type"] for it in said["conditions"]] == ["FileSystemResizePending", "NodeResizeError"], f"{said}")
        deleted(cluster, "pod/waiting")
        # The helper tries anew, and so does the next pod.
        driver.faults.clear()
        again = {"status": {"allocatedResourceStatuses": {"storage": "NodeResizePending"}}}
        cluster.kubectl("patch", "pvc", "offline", "-n", "default", "--subresource=status", "--type=merge", "-p", json.dumps(again))
        create(cluster, user("next", "offline"))
        runs(cluster, "next")
        until(lambda: done("offline"), "it has grown before the pod has it", PATIENCE)
        deleted(cluster, "pod/grower", "pod/next")


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
