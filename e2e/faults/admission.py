"""A shortage that will pass is waited for; one that will not is told at once."""

import json

from cluster import Failure, until

IMAGE = "k3rs.io/userspace:1"
STUBBORN = ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"]


class Storm(AssertionError):
    """Not waited over: a pod that failed stays so."""


def pod(name, requests=None, ports=(), **spec):
    container = {"name": "c", "image": IMAGE, "command": STUBBORN, "resources": {"requests": requests or {}}, "ports": list(ports)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 3, **spec}}


def deployment(name, replicas, template):
    template = {"metadata": {"labels": {"app": name}}, "spec": template["spec"]}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}}


def create(cluster, *objects):
    for one in objects:
        cluster.apply(json.dumps(one), "default")


def most(cluster, resource, part):
    """A share of the node that two cannot have."""
    text = until(lambda: cluster.get("node", "node1")["status"]["allocatable"][resource], "the node is there")
    if resource == "cpu":
        milli = int(text[:-1]) if text.endswith("m") else int(text) * 1000
        return f"{int(milli * part)}m"
    return f"{int(int(text.removesuffix('Ki')) * part)}Ki" if text.endswith("Ki") else str(int(int(text) * part))


def running(cluster, app, n=1):
    pods = cluster.pods(f"app={app}", "default")
    failed = [p["status"] for p in pods if p["status"].get("phase") == "Failed"]
    if failed:
        raise Storm(f"{len(failed)} failed pods: {failed[0].get('reason')}: {failed[0].get('message')}")
    return len([p for p in pods if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]) == n


def forced(cluster, app, replacement):
    until(lambda: running(cluster, app), f"{app} runs")
    old = cluster.pods(f"app={app}", "default")[0]["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "-n", "default", "-l", f"app={app}", "--force", "--grace-period=0")
    if replacement:
        create(cluster, replacement)
    name = replacement["metadata"]["name"] if replacement else app
    fresh = lambda: running(cluster, name) and cluster.pods(f"app={name}", "default")[0]["metadata"]["uid"] != old
    until(fresh, f"{name} runs in its place")
    for kind in ("deployment", "pod"):
        cluster.kubectl("delete", kind, "-n", "default", app, name, "--ignore-not-found", "--force", "--grace-period=0")


def test_cpu_of_a_forced_delete(cluster):
    cpu = {"cpu": most(cluster, "cpu", 0.6)}
    create(cluster, deployment("fa", 1, pod("fa", cpu)))
    forced(cluster, "fa", None)


def test_memory_of_a_forced_delete(cluster):
    memory = {"memory": most(cluster, "memory", 0.6)}
    create(cluster, pod("ma", memory))
    forced(cluster, "ma", pod("mb", memory))


def test_host_port_of_a_forced_delete(cluster):
    create(cluster, deployment("storm", 1, pod("storm", ports=[{"containerPort": 80, "hostPort": 981}])))
    forced(cluster, "storm", None)


def test_room_of_preempted_pods(cluster):
    cpu = {"cpu": most(cluster, "cpu", 0.22)}
    create(
        cluster,
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "hi"}, "value": 1000},
        deployment("low", 3, pod("low", cpu, terminationGracePeriodSeconds=0)),
    )
    until(lambda: running(cluster, "low", 3), "the low ones run")
    create(cluster, pod("high", {"cpu": most(cluster, "cpu", 0.7)}, priorityClassName="hi"))
    until(lambda: running(cluster, "high"), "the high one runs")
    running(cluster, "low", 0)
    cluster.kubectl("delete", "deployment/low", "pod/high", "-n", "default", "--force", "--grace-period=0")


def test_what_does_not_pass_is_final(cluster):
    cpu = {"cpu": most(cluster, "cpu", 0.6)}
    create(cluster, pod("stays", cpu))
    until(lambda: running(cluster, "stays"), "it runs")
    create(cluster, pod("late", cpu, nodeName="node1"))
    status = lambda: cluster.get("pod", "late", "-n", "default")["status"]
    until(lambda: status().get("reason") == "OutOfcpu", "the full node refuses")
    if status()["phase"] != "Failed" or "Node didn't have enough resource: cpu" not in status()["message"]:
        raise Failure(str(status()))
    cluster.kubectl("delete", "pod", "stays", "late", "-n", "default", "--force", "--grace-period=0")


def test_requests_that_no_number_holds_fit_nowhere(cluster):
    """Sums of the largest requests are not small, so neither scheduler nor kubelet takes them, and others find their place."""
    largest = {"memory": "9223372036854775807"}
    create(cluster, pod("modest", {"memory": "1Mi", "cpu": "10m"}))
    until(lambda: running(cluster, "modest"), "a modest one runs")
    twice = pod("twice", largest)
    twice["spec"]["containers"].append({**twice["spec"]["containers"][0], "name": "d"})
    create(cluster, pod("direct", largest, nodeName="node1"), twice)
    status = lambda name: cluster.get("pod", name, "-n", "default")["status"]
    until(lambda: status("direct").get("reason") == "OutOfmemory", "the node refuses what it was given")
    until(lambda: any("Insufficient memory" in one.get("message", "") for one in status("twice").get("conditions", [])), "no node has room for two of them")
    create(cluster, pod("next", {"memory": "1Mi"}))
    until(lambda: running(cluster, "next"), "the next finds its place")
    cluster.kubectl("delete", "pod", "modest", "twice", "direct", "next", "-n", "default", "--force", "--grace-period=0")
