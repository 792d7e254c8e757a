"""The CPU manager: whole CPUs of Guaranteed pods are theirs alone, others move off them and come back, a restart forgets nothing."""

import json
import os
import pathlib

from cluster import expect, until
from faults._grpc import Grpc, fields
from faults.devices import run_in, socket_of
from faults.pods import container, create, pod, ready, remove, status

# The others are shared at first; a machine of one CPU has none to give away.
ARGS = ("--kubelet-arg=cpu-manager-policy=static", "--kubelet-arg=reserved-cpus=0")

CPUS = sorted(os.sched_getaffinity(0))


def allowed(cluster, name):
    return run_in(cluster, name, "grep Cpus_allowed_list /proc/self/status | cut -f2")


def state(cluster):
    return json.loads((pathlib.Path(cluster.env["K3RS_KUBELET_DIR"]) / "cpu_manager_state").read_text())


def listed(cpus):
    """As the kernel writes a set of CPUs without gaps."""
    return str(cpus[0]) if len(cpus) == 1 else f"{cpus[0]}-{cpus[-1]}"


def guaranteed(name, cpu, **spec):
    limits = {"cpu": cpu, "memory": "32Mi"}
    one = container("c", "exec sleep 1000", resources={"limits": limits})
    return pod(name, one, **spec)


def exclusive(cluster):
    """Of each pod the CPUs that its containers have alone, as the pod resources API tells."""
    client = Grpc(socket_of(cluster, "pod-resources"))
    try:
        got, answer = client.unary("/v1.PodResourcesLister/List", b"")
        expect(got == 0, f"status {got}")
    finally:
        client.close()
    pods = [fields(one) for one in fields(answer).get(1, [])]
    return {it[1][0].decode(): [c.get(3, []) for c in map(fields, it.get(3, []))] for it in pods}


def test_whole_cpus_are_a_containers_own(cluster):
    until(lambda: cluster.get("sa", "default", "-n", "default"), "a service account")
    create(cluster, pod("shared", container("c", "exec sleep 1000")))
    until(lambda: ready(cluster, "shared"), "a pod without limits runs", 60)
    expect(allowed(cluster, "shared") == listed(CPUS), f"it runs everywhere: {allowed(cluster, 'shared')}")
    create(cluster, guaranteed("alone", "1"))
    until(lambda: ready(cluster, "alone"), "a Guaranteed one runs", 60)
    own = allowed(cluster, "alone")
    expect(own != "0" and own.isdigit(), f"it has one CPU that is not reserved: {own}")
    others = [cpu for cpu in CPUS if str(cpu) != own]
    until(lambda: str(own) not in allowed(cluster, "shared"), "the other pod moves away", 5)
    expect(state(cluster)["policyName"] == "static", f"{state(cluster)}")
    expect([list(it.values()) for it in state(cluster)["entries"].values()] == [[own]], f"{state(cluster)}")
    told = exclusive(cluster)
    expect(told["alone"] == [[bytes([int(own)])]] and not any(told["shared"]), f"{told} of {others}")


def test_a_restart_forgets_nothing(cluster):
    before = (allowed(cluster, "alone"), state(cluster))
    cluster.stop()
    cluster.start()
    until(lambda: ready(cluster, "alone"), "it runs on", 60)
    expect((allowed(cluster, "alone"), state(cluster)) == before, f"{state(cluster)} {before}")


def test_what_was_somebodys_is_everybodys_again(cluster):
    remove(cluster, "pod/alone")
    until(lambda: allowed(cluster, "shared") == listed(CPUS), "the other pod has them all", 30)
    expect("entries" not in state(cluster), f"{state(cluster)}")
    create(cluster, guaranteed("part", "500m"))
    until(lambda: ready(cluster, "part"), "half a CPU is nobody's alone", 60)
    expect(allowed(cluster, "part") == listed(CPUS), allowed(cluster, "part"))
    remove(cluster, "pod/part", "pod/shared")
