"""Power that fails: what must run at most once does; static pods that come back begin anew."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

from cluster import Failure, until

IMAGE = "k3rs.io/userspace:1"


def descendants(pid):
    parents = {}
    for line in subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines():
        child, parent = map(int, line.split())
        parents.setdefault(parent, []).append(child)
    found, pending = [], [pid]
    while pending:
        found.append(pending.pop())
        pending += parents.get(found[-1], [])
    return found


def cut(cluster, boot=False):
    """Server, zygote, shims and containers die at once; with `boot`, so does all that a reboot forgets."""
    pids = descendants(cluster.process.pid)
    # Nothing may see another's end before its own.
    for sig in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
    cluster.process.wait()
    if boot:
        shutil.rmtree(cluster.dir / "run", ignore_errors=True)
    cluster.start()


def container(name, command, **more):
    mounts = [{"name": "s", "mountPath": "/s"}]
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", command], "volumeMounts": mounts, **more}


def spec(directory, policy, containers, init=()):
    volumes = [{"name": "s", "hostPath": {"path": str(directory)}}]
    return {"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "volumes": volumes, "containers": containers, "initContainers": list(init)}


def pod(name, spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def job(name, spec):
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}


def create(cluster, *objects):
    for one in objects:
        cluster.apply(json.dumps(one), "default")


def lines(directory):
    log = directory / "log"
    return sorted(log.read_text().split()) if log.exists() else []


def survives(cluster, boot):
    directory = cluster.dir / f"once-{boot}"
    directory.mkdir()
    say = lambda word, then="": container(word, f"echo {word} >> /s/log{then}")
    long = "; sleep 600"
    tag = "b" if boot else "p"
    create(
        cluster,
        job(f"once-{tag}", spec(directory, "Never", [say("never", long), say("never-done")], [say("never-init")])),
        pod(f"onfail-{tag}", spec(directory, "OnFailure", [say("onfail", long), say("onfail-done")], [say("onfail-init")])),
        pod(f"done-{tag}", spec(directory, "OnFailure", [say("all-done")])),
        pod(f"always-{tag}", spec(directory, "Always", [say("always", long)])),
    )
    once = ["all-done", "always", "never", "never-done", "never-init", "onfail", "onfail-done", "onfail-init"]
    until(lambda: lines(directory) == once, f"everything runs ({lines(directory)})")
    phase = lambda name: cluster.get("pod", name, "-n", "default")["status"]["phase"]
    until(lambda: phase(f"done-{tag}") == "Succeeded", "the pod that is done says so")
    exited = lambda: {s["name"]: "terminated" in s["state"] for s in cluster.get("pod", f"onfail-{tag}", "-n", "default")["status"]["containerStatuses"]}
    until(lambda: exited()["onfail-done"], "the end of the second container is known")
    cut_at = time.time()
    cut(cluster, boot)
    again = sorted(once + ["always", "onfail", "onfail-init"])
    until(lambda: lines(directory) == again, f"only what may run again does: {lines(directory)}")
    failed = lambda: [c["type"] for c in cluster.get("job", f"once-{tag}", "-n", "default")["status"].get("conditions", []) if c["status"] == "True"]
    until(lambda: "Failed" in failed(), "the Job has failed")
    ended = cluster.get("pods", "-n", "default", "-l", f"job-name=once-{tag}")["items"]
    if [one["status"]["phase"] for one in ended] != ["Failed"]:
        raise Failure(f"pods of the Job: {[one['status'] for one in ended]}")
    state = {s["name"]: s["state"]["terminated"] for s in ended[0]["status"]["containerStatuses"]}
    if (state["never"]["exitCode"], state["never"]["reason"]) != (137, "ContainerStatusUnknown") or state["never-done"]["exitCode"] != 0:
        raise Failure(f"ends: {state}")
    last = until(lambda: cluster.get("pod", f"always-{tag}", "-n", "default")["status"]["containerStatuses"][0]["lastState"]["terminated"], "the last state of what runs again")
    finished = time.mktime(time.strptime(last["finishedAt"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    if finished < cut_at - 1:
        raise Failure(f"finished at {last} although power was cut at {cut_at}")
    if phase(f"done-{tag}") != "Succeeded" or lines(directory) != again:
        raise Failure(f"after all: {lines(directory)}")
    cluster.kubectl("delete", "job,pod", "--all", "-n", "default", "--force", "--grace-period=0")


def test_everything_dies(cluster):
    survives(cluster, False)


def test_machine_boots(cluster):
    survives(cluster, True)


def test_an_end_that_only_the_shim_saw(cluster):
    """A container that ends while no server runs has ended, also after a loss of power, under any policy."""
    for policy in ("OnFailure", "Never"):
        directory = cluster.dir / f"alone-{policy}"
        directory.mkdir()
        name = f"alone-{policy.lower()}"
        create(cluster, pod(name, spec(directory, policy, [container("c", "echo c >> /s/log; while [ ! -e /s/go ]; do sleep 0.1; done; echo done > /s/done")])))
        until(lambda: lines(directory) == ["c"], "it runs")
        until(lambda: cluster.get("pod", name, "-n", "default")["status"]["phase"] == "Running", "it is known to run")
        pids = descendants(cluster.process.pid)
        server = cluster.process.pid
        os.kill(server, signal.SIGKILL)
        cluster.process.wait()
        (directory / "go").touch()
        until(lambda: (directory / "done").exists(), "it ends")
        exits = lambda: list((cluster.data / "agent" / "pods").glob("*/exit-*"))
        until(lambda: [one for one in exits() if not one.suffix], f"its shim writes that down {exits()}", 10)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(cluster.dir / "run", ignore_errors=True)
        cluster.start()
        until(lambda: cluster.get("pod", name, "-n", "default")["status"]["phase"] == "Succeeded", f"it has succeeded ({lines(directory)})", 20)
        if lines(directory) != ["c"]:
            raise Failure(f"{policy}: ran again: {lines(directory)}")
        ended = cluster.get("pod", name, "-n", "default")["status"]["containerStatuses"][0]["state"]["terminated"]
        if (ended["exitCode"], ended["reason"]) != (0, "Completed"):
            raise Failure(f"{policy}: {ended}")
        until(lambda: not exits(), "what the journal has is kept once", 10)
        cluster.kubectl("delete", "pod", name, "-n", "default", "--force", "--grace-period=0")


def test_at_any_instant(cluster):
    random.seed(7)
    for attempt in range(3):
        directory = cluster.dir / f"instant-{attempt}"
        directory.mkdir()
        create(cluster, job(f"instant-{attempt}", spec(directory, "Never", [container("c", "echo c >> /s/log; sleep 600")], [container("i", "echo i >> /s/log")])))
        time.sleep(random.uniform(0.0, 0.5))
        cut(cluster, boot=attempt % 2 == 0)

        def settled():
            pods = cluster.get("pods", "-n", "default", "-l", f"job-name=instant-{attempt}")["items"]
            return pods and all(p["status"]["phase"] == "Failed" or "c" in lines(directory) for p in pods)

        until(settled, "the Job's pod runs or has failed")
        said = lines(directory)
        if len(said) != len(set(said)):
            raise Failure(f"ran twice: {said}")
    cluster.kubectl("delete", "job", "--all", "-n", "default", "--force", "--grace-period=0")


def manifest(name, command, grace=3):
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "terminationGracePeriodSeconds": grace, "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", command]}]}})


def manifests(cluster):
    directory = cluster.data / "agent/pod-manifests"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def static(cluster, name):
    return cluster.get("pod", f"{name}-node1", "-n", "default")


def runs(cluster, name):
    one = static(cluster, name)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", []))
    return one["status"]["phase"] == "Running" and ready and one


def other(cluster, name, before):
    """The static pod, if it runs in another container than before."""
    one = runs(cluster, name)
    ids = lambda pod: [s["containerID"] for s in pod["status"]["containerStatuses"]]
    return one and ids(one) != ids(before) and one


def test_static_pod_comes_back_while_it_ends(cluster):
    file = manifests(cluster) / "st.yaml"
    text = manifest("st", "echo two; sleep 1000")
    file.write_text(text)
    first = until(lambda: runs(cluster, "st"), "the static pod runs")
    file.unlink()
    time.sleep(0.3)
    file.write_text(text)
    # The mirror may be made anew before the container is: the container tells one from the other.
    second = until(lambda: other(cluster, "st", first), "it runs again")
    if second["status"]["containerStatuses"][0]["restartCount"]:
        raise Failure(f"it remembers its predecessor: {second['status']}")
    # Edited while it ends: the next begins when the last is gone.
    file.write_text(manifest("st", "echo three; sleep 1000"))
    third = until(lambda: other(cluster, "st", second), "the edited one runs")
    cut(cluster)
    restarts = lambda: [s["restartCount"] for s in (runs(cluster, "st") or {"status": {}})["status"].get("containerStatuses", [])]
    until(lambda: restarts() == [1], "it runs on after a power cut")
    if "three" not in third["spec"]["containers"][0]["command"][2]:
        raise Failure(third["spec"])
    file.unlink()
    until(lambda: cluster.kubectl("get", "pod", "st-node1", check=False).returncode != 0, "its mirror is gone")


def test_two_manifests_with_one_name(cluster):
    directory = manifests(cluster)
    (directory / "a.yaml").write_text(manifest("twin", "echo a; sleep 1000", 1))
    (directory / "b.yaml").write_text(manifest("twin", "echo b; sleep 1000", 1))
    says = lambda word: runs(cluster, "twin") and word in static(cluster, "twin")["spec"]["containers"][0]["command"][2]
    until(lambda: says("echo a"), "the first runs")
    (directory / "a.yaml").unlink()
    until(lambda: says("echo b"), "the second follows")
    (directory / "b.yaml").unlink()
    until(lambda: cluster.kubectl("get", "pod", "twin-node1", check=False).returncode != 0, "its mirror is gone")
