"""The hostile pods of e2e/hostile_pods.py on an emulated machine, a few at a time: each tries every way out once."""

import json
import pathlib
import re
import tempfile

from machine import SLOW, Failure, until  # which makes e2e's modules known
import hostile
import hostile_pods

MARK = "k3rs-canary"
SECRET = f"{MARK}-3f9b1c"
CANARY = "/canary"
# What the first process and the server made known of the machine, to be found unchanged.
WATCHED = (
    f"stat -c '%n %a %u %g %Y %h' {CANARY} {CANARY}/*; cat {CANARY}/secret; cat /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/sysrq "
    "/proc/sys/vm/overcommit_memory /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/ip_forward; sha256sum /proc/1/exe"
)
LEFT = "grep -c k3s/agent/pods /proc/mounts; find /sys/fs/cgroup -type d -path '*kubepods*/pod*' | wc -l; ls /sys/class/net | grep -c veth"


def archives():
    """The images of the pods, as files for the machine's initramfs."""
    with tempfile.TemporaryDirectory(prefix="k3rs-escape-") as scratch:
        directory = pathlib.Path(scratch)
        hostile.build_images(directory / "images", directory)
        return {f"images/{path.name}": path.read_bytes() for path in sorted((directory / "images").iterdir())}


def pods():
    """Those of the suite whose program can be asked to try everything once, and to end."""
    chosen = []
    for pod in hostile_pods.fixed("/host"):
        for container in pod.containers:
            if container["command"][:2] == ["/escape", "run"]:
                container["command"] = ["/escape", "once", "@seed"]
            for probe in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
                container.pop(probe, None)
        if all(container["command"][0] == "/escape" and container["command"][1] == "once" for container in pod.containers):
            pod.spec["restartPolicy"] = "Never"
            chosen.append(pod)
    # Who has every power changes the machine's mounts, on purpose, for whoever comes after.
    return sorted(chosen, key=lambda pod: pod.privileged)


def go(run, seed, at_once):
    machine = run.machine
    heard, refused = [], {}
    machine.shell(f"mkdir -p {CANARY} /host/read-only /host/writable; echo {SECRET} > {CANARY}/secret; chmod 600 {CANARY}/secret; chmod 777 /host/writable")
    machine.shell("for f in /images/*.tar; do k3rs ctr images import $f || exit 1; done", timeout=180)
    kubectl = lambda *args, **more: machine.kubectl(*args, **more).stdout
    kubectl("create", "namespace", "hostile")
    create = lambda *things: kubectl("create", "-n", "hostile", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)}))
    create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "stringData": {"key": "value"}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}},
    )
    until(lambda: kubectl("get", "sa", "default", "-n", "hostile"), "a service account", 60 * SLOW)
    before, left = machine.shell(WATCHED), machine.shell(LEFT, check=False)
    environment = {"CANARY": CANARY, "TOKEN": "/var/lib/rancher/k3s/server/token", "MARK": MARK}

    def hear(pod, container, text):
        for way, what in re.findall(r"^HIT (\S+): (.*)$", text, re.M):
            if not pod.given(container, way, what):
                heard.append(f"{pod.name}/{container}: {way}: {what}")

    # One that has every power and uses none changes nothing for others.
    mounts = machine.shell("grep cgroup /proc/mounts")
    quiet = hostile_pods.Pod("quiet").container(command=["/escape", "sleep", "0"], context={"privileged": True})
    quiet.spec["restartPolicy"] = "Never"
    create(quiet.manifest(environment, seed))
    until(lambda: ended(kubectl, quiet), "quiet ended", 180 * SLOW, interval=2)
    if machine.shell("grep cgroup /proc/mounts") != mounts:
        raise Failure(f"a privileged container changed how cgroups are mounted, from {mounts}")

    waiting, n_tried = pods(), 0
    while waiting:
        batch, waiting = waiting[:at_once], waiting[at_once:]
        created = []
        for pod in batch:
            done = machine.kubectl("create", "-n", "hostile", "-f", "-", input=json.dumps(pod.manifest(environment, seed)), check=False)
            if done.returncode == 0:
                created.append(pod)
            else:
                refused[pod.name] = done.stderr.strip()
        for pod in created:
            try:
                until(lambda: ended(kubectl, pod), f"{pod.name} ended", 180 * SLOW, interval=2)
            except Failure as failure:
                refused[pod.name] = str(failure)
            for container in pod.containers:
                text = machine.kubectl("logs", "-n", "hostile", pod.name, "-c", container["name"], check=False).stdout
                n_tried += text.count("tried")
                hear(pod, container["name"], text)
        kubectl("delete", "pods", "--all", "-n", "hostile", "--grace-period=1", "--timeout=120s", timeout=150)
    # Somebody who looks at everything that joins, while others do: first one who lets go of what it has caught, then one who keeps it.
    n_joined, held = 0, []
    for keeps in (False, True):
        env = [{"name": "HARD", "value": "1"}] if keeps else []
        watch = dict(command=["/escape", "watch", "100000"], capabilities=["SYS_PTRACE"], env=env)
        shared = hostile_pods.Pod(f"watcher-{keeps}".lower(), shareProcessNamespace=True).container(**watch).container("d", command=["/escape", "sleep", "100000"])
        for pod in (shared, hostile_pods.Pod(f"alone-{keeps}".lower()).container(**watch)):
            create(pod.manifest(environment, seed))
            kubectl("wait", "-n", "hostile", "--for=condition=Ready", f"pod/{pod.name}", "--timeout=120s", timeout=150)
            for _ in range(8):
                # Who may trace what joins, as a container may its own processes, keeps its end from its parent, too, for as long as it
                # does not wait for it: that holds up nobody but who asked. (Other runtimes cannot help it, either.)
                try:
                    kubectl("exec", "-n", "hostile", pod.name, "-c", pod.containers[-1]["name"], "--", "/escape", "sleep", "0", timeout=30)
                    n_joined += 1
                except Failure as failure:
                    if not keeps or "no end after" not in str(failure):
                        raise
                    held.append(pod.name)
                    break
            hear(pod, pod.containers[0]["name"], kubectl("logs", "-n", "hostile", pod.name, "-c", pod.containers[0]["name"]))
    kubectl("delete", "pods", "--all", "-n", "hostile", "--grace-period=1", "--timeout=120s", timeout=150)
    until(lambda: machine.shell(LEFT, check=False) == left, "nothing is left of the pods", 60 * SLOW)
    after = machine.shell(WATCHED)
    if after != before:
        heard.append(f"the machine was changed:\n{before}\nbecame\n{after}")
    if heard:
        raise Failure("\n".join(sorted(set(heard))))
    if n_tried < 20:
        raise Failure(f"only {n_tried} containers tried everything; refused: {refused}")
    return f"{n_tried} containers tried every way out, {n_joined} processes joined; held by who watched: {', '.join(held) or 'none'}; refused: {', '.join(sorted(refused)) or 'none'}"


def ended(kubectl, pod):
    status = json.loads(kubectl("get", "pod", pod.name, "-n", "hostile", "-o", "json"))["status"]
    reasons = [container.get("state", {}).get("waiting", {}).get("reason", "") for container in status.get("containerStatuses", [])]
    return status.get("phase") in ("Succeeded", "Failed") or any(reason.endswith("Error") for reason in reasons)
