"""What daily use of the kubelet found, and how sidecars end."""

import json
import subprocess
import time

from cluster import Failure, until

IMAGE = "k3rs.io/userspace:1"


def container(name, command, **more):
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", command], **more}


def pod(name, *containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}}


def create(cluster, *objects):
    for one in objects:
        cluster.apply(json.dumps(one), "default")


def status(cluster, name):
    return cluster.get("pod", name, "-n", "default")["status"]


def ready(cluster, name):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status(cluster, name).get("conditions", []))


def remove(cluster, *names):
    cluster.kubectl("delete", "-n", "default", "--force", "--grace-period=0", "--ignore-not-found", *names)


def test_node_is_known_by_its_name(cluster):
    said = lambda node: "addresses" in node.get("status", {}) and node
    node = until(lambda: said(cluster.get("node", "node1")), "the node says where it is")
    address = [a["address"] for a in node["status"]["addresses"] if a["type"] == "Hostname"]
    if node["metadata"]["labels"]["kubernetes.io/hostname"] != "node1" or address != ["node1"]:
        raise Failure(f"{node['metadata']['labels']} {address}")


def test_present_labels_decide(cluster):
    wants = lambda name: pod(name, container("c", "sleep 1000"), nodeSelector={"disk": "ssd"}, nodeName="node1")
    cluster.kubectl("label", "node", "node1", "disk=ssd")
    create(cluster, wants("labelled"))
    until(lambda: ready(cluster, "labelled"), "the pod is taken")
    cluster.kubectl("label", "node", "node1", "disk-")
    create(cluster, wants("unlabelled"))
    until(lambda: status(cluster, "unlabelled").get("reason") == "NodeAffinity", "the next is not")
    if not ready(cluster, "labelled"):
        raise Failure("who runs stays")
    remove(cluster, "pod/labelled", "pod/unlabelled")


def test_liveness_restarts_under_on_failure(cluster):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    polite = "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    create(
        cluster,
        pod("alive", container("c", polite, livenessProbe=probe), restartPolicy="OnFailure", terminationGracePeriodSeconds=5),
        pod("starts", container("c", polite, startupProbe=probe), restartPolicy="OnFailure", terminationGracePeriodSeconds=5),
        pod("mortal", container("c", polite, livenessProbe=probe), restartPolicy="Never", terminationGracePeriodSeconds=5),
    )
    for name in ("alive", "starts"):
        until(lambda: status(cluster, name)["containerStatuses"][0]["restartCount"] >= 1, f"{name} starts again")
    until(lambda: status(cluster, "mortal")["phase"] == "Succeeded", "what never restarts does not")
    remove(cluster, "pod/alive", "pod/starts", "pod/mortal")


def test_attach_ends_with_its_input(cluster):
    create(
        cluster,
        pod("listens", container("c", "cat", stdin=True)),
        pod("once", container("c", "cat; echo over; sleep 0.5; echo out", stdin=True, stdinOnce=True), restartPolicy="Never"),
    )
    until(lambda: ready(cluster, "listens") and ready(cluster, "once"), "both run")
    attach = lambda name: subprocess.run(
        cluster.inside([cluster.kubectl_path, "attach", "-i", "-n", "default", name]), env=cluster.env, input="said\n", capture_output=True, text=True, timeout=15
    )
    said = attach("listens")
    if said.returncode or "said" not in said.stdout or not ready(cluster, "listens"):
        raise Failure(f"{said}")
    said = attach("once")
    if said.returncode or "over" not in said.stdout or "out" not in said.stdout:
        raise Failure(f"{said}")
    until(lambda: status(cluster, "once")["phase"] == "Succeeded", "the other's input ended with ours")
    remove(cluster, "pod/listens", "pod/once")


def test_hooks_at_once_signals_in_order(cluster):
    directory = cluster.dir / "order"
    directory.mkdir()
    volumes, mounts = [{"name": "s", "hostPath": {"path": str(directory)}}], [{"name": "s", "mountPath": "/s"}]

    def one(name, **more):
        trap = f"trap 'echo $(date +%s.%N) term {name} >> /s/log; sleep 0.5; echo $(date +%s.%N) end {name} >> /s/log; exit 0' TERM; while true; do sleep 0.1; done"
        hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo $(date +%s.%N) hook {name} >> /s/log; sleep 0.5"]}}}
        return container(name, trap, volumeMounts=mounts, lifecycle=hook, **more)

    sidecars = [one("first", restartPolicy="Always"), one("second", restartPolicy="Always")]
    create(cluster, pod("sidecars", one("main"), volumes=volumes, initContainers=sidecars, terminationGracePeriodSeconds=20))
    until(lambda: ready(cluster, "sidecars"), "the pod runs")
    cluster.kubectl("delete", "pod", "sidecars", "-n", "default")
    log = [line.split() for line in (directory / "log").read_text().splitlines()]
    words = [" ".join(line[1:]) for line in log]
    if sorted(words[:3]) != ["hook first", "hook main", "hook second"]:
        raise Failure(f"hooks: {log}")
    if words[3:] != ["term main", "end main", "term second", "end second", "term first", "end first"]:
        raise Failure(f"signals: {log}")


def test_another_image_keeps_the_pod_ready(cluster):
    names = [name for image in cluster.get("node", "node1")["status"]["images"] for name in image["names"] if name.startswith("k3rs.io/userspace")]
    other = next((name for name in names if name != IMAGE), None)
    if not other:
        raise Failure(f"the image has one name: {names}")
    polite = "trap 'sleep 0.5; exit 0' TERM; while true; do sleep 0.1; done"
    create(cluster, pod("patched", container("a", polite), container("b", "sleep 1000"), terminationGracePeriodSeconds=5))
    until(lambda: ready(cluster, "patched"), "the pod is ready")
    seen = open(cluster.dir / "watch", "w+")
    watch = subprocess.Popen(
        cluster.inside([cluster.kubectl_path, "get", "pod", "patched", "-n", "default", "-w", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}{"\\n"}']),
        env=cluster.env, stdout=seen, stderr=seen,
    )
    try:
        cluster.kubectl("set", "image", "pod/patched", f"a={other}", "-n", "default")
        restarts = lambda: {s["name"]: s["restartCount"] for s in status(cluster, "patched")["containerStatuses"]}
        until(lambda: restarts() == {"a": 1, "b": 0} and ready(cluster, "patched"), "one container has restarted")
    finally:
        watch.kill()
        watch.wait()
    seen.seek(0)
    said = seen.read().split()
    if set(said) != {"True"}:
        raise Failure(f"ready: {said}")
    remove(cluster, "pod/patched")


def test_the_one_runtime_is_called_runc(cluster):
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    for handler in ("runc", "other"):
        cluster.apply(json.dumps({**kind, "metadata": {"name": f"class-{handler}"}, "handler": handler}), "default")
    for handler in ("runc", "other"):
        create(cluster, pod(handler, container("c", "sleep 1000"), runtimeClassName=f"class-{handler}"))
    until(lambda: ready(cluster, "runc"), "a pod of this class runs")
    words = 'no runtime for "other" is configured'
    events = lambda: cluster.get("events", "-n", "default", "--field-selector", "involvedObject.name=other,reason=FailedCreatePodSandBox")["items"]
    until(lambda: any(words in event["message"] for event in events()), "an event names the handler that there is not")
    if status(cluster, "other")["phase"] != "Pending":
        raise Failure("it runs all the same")
    remove(cluster, "pod/runc", "pod/other")
    cluster.kubectl("delete", "runtimeclass", "class-runc", "class-other")


def test_nothing_is_left_and_nothing_is_said(cluster):
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}}
    volumes = [{"name": "v", "configMap": {"name": "cm"}}, {"name": "e", "emptyDir": {}}]
    mounts = [{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/e/x", "subPath": "deep/er"}]
    create(cluster, config)
    names = [f"churn-{number}" for number in range(6)]
    for delay in (0, 0.3):
        create(cluster, *(pod(name, container("c", "sleep 1000", volumeMounts=mounts), volumes=volumes) for name in names))
        time.sleep(delay)
        for number, name in enumerate(names):
            config["data"]["a"] = f"{delay} {number}"
            create(cluster, config)
            cluster.kubectl("delete", "pod", name, "-n", "default", "--wait=false")
        cluster.kubectl("wait", "--for=delete", "-n", "default", "--timeout=30s", *(f"pod/{name}" for name in names))
    bad = [line for line in cluster.log_lines() if "not empty" in line or "remove the files of pod" in line]
    if bad:
        raise Failure("\n".join(bad))
    alive = {p["metadata"]["uid"] for p in cluster.get("pods", "-A")["items"]}
    left = lambda: [path.name for path in (cluster.data / "agent/pods").iterdir() if path.name not in alive]
    until(lambda: not left(), f"no directories are left: {left()}")
