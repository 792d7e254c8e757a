"""Files that pods write, and secrets in words: nothing of either reaches the server's memory, disk or messages."""

import json
import time

from cluster import Failure, until

# It measures how fast logs grow and are read.
ALONE = True

# The kubelet's defaults.
LOG_MAX, LOG_FILES = 10 << 20, 5
ARGS = ("--disable", "traefik")
NAMESPACE = "podfiles"
SECRET = "tru5t-n0-0ne"


def kubectl(cluster, *args, **more):
    return cluster.kubectl("-n", NAMESPACE, *args, **more)


def pod(cluster, name, container, kind=None, **spec):
    if kubectl(cluster, "get", "ns", NAMESPACE, check=False).returncode:
        cluster.kubectl("create", "ns", NAMESPACE)
        until(lambda: kubectl(cluster, "get", "sa", "default"), "the default service account")
    made = {"name": "c", "image": "k3rs.io/userspace:1", "command": ["sleep", "100000"], **container}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": [made], **spec},
    }
    kubectl(cluster, "create", "-f", "-", input=json.dumps(manifest))


def get(cluster, name):
    return json.loads(kubectl(cluster, "get", "pod", name, "-o", "json").stdout)


def delete(cluster, *names):
    kubectl(cluster, "delete", "pod", *names, "--wait=false", "--grace-period=0", "--force")


def memory_kib(cluster):
    status = open(f"/proc/{cluster.process.pid}/status").read()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_huge_hosts_file_costs_no_memory(cluster):
    command = "[ -e /keep/once ] && exec sleep 100000; touch /keep/once; truncate -s 2G /etc/hosts; truncate -s 2G /dev/termination-log; exit 1"
    mount = [{"name": "keep", "mountPath": "/keep"}]
    volumes = [{"name": "keep", "emptyDir": {}}]
    before = None
    pod(cluster, "hosts", {"command": ["sh", "-c", command], "volumeMounts": mount}, volumes=volumes, restartPolicy="Always")
    before = memory_kib(cluster)
    until(lambda: (state := get(cluster, "hosts")["status"]["containerStatuses"][0]) and state["restartCount"] and "running" in state["state"], "it is restarted", 40)
    text = kubectl(cluster, "exec", "hosts", "--", "sh", "-c", "wc -c < /etc/hosts; cat /etc/hosts").stdout
    if int(text.split()[0]) > 4096 or "localhost" not in text:
        raise Failure(text[:300])
    message = get(cluster, "hosts")["status"]["containerStatuses"][0]["lastState"]["terminated"].get("message", "")
    if len(message) > 4096:
        raise Failure(f"a message of {len(message)}")
    grown = memory_kib(cluster) - before
    if grown > 20 << 10:
        raise Failure(f"the server grew by {grown} KiB")
    delete(cluster, "hosts")
    return f"{grown} KiB"


def test_a_flood_of_log_keeps_to_its_bound(cluster):
    """Lines, one endless line, zero bytes: each at the speed of a pipe."""
    floods = {"lines": "yes", "endless": "yes | tr -d '\\n'", "zeros": "cat /dev/zero >&2"}
    for name, command in floods.items():
        pod(cluster, f"flood-{name}", {"command": ["sh", "-c", command]})
    until(lambda: all(get(cluster, f"flood-{name}")["status"].get("phase") == "Running" for name in floods), "the floods run")
    roots = [cluster.dir / "log"]
    worst = 0
    end = time.monotonic() + 8
    while time.monotonic() < end:
        for root in roots:
            for one in root.glob(f"{NAMESPACE}_flood-*"):
                sizes = {}
                for path in one.rglob("*.log*"):
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue
                    # By number: a look may meet a file under both its names.
                    sizes[found.st_ino] = found.st_size
                worst = max(worst, sum(sizes.values()))
        # One more, which began while this look went on.
        if worst > (LOG_FILES + 1) * LOG_MAX:
            raise Failure(f"{worst} bytes of log, {LOG_FILES} files of {LOG_MAX} are allowed")
        time.sleep(0.2)
    if worst < LOG_MAX:
        raise Failure(f"only {worst} bytes of log seen in {roots}")
    begun = time.monotonic()
    said = kubectl(cluster, "logs", "flood-lines", "--tail=3").stdout
    if said != "y\ny\ny\n" or time.monotonic() - begun > 10:
        raise Failure(f"{said[:100]!r} after {time.monotonic() - begun:.1f} s")
    # A reader that stays gets some of it, and the server keeps none.
    before = memory_kib(cluster)
    cluster.sh(f"timeout 3 {cluster.kubectl_path} -n {NAMESPACE} logs -f flood-endless | head -c 1000000 | wc -c", check=False)
    grown = memory_kib(cluster) - before
    if grown > 20 << 10:
        raise Failure(f"the server grew by {grown} KiB for a follower")
    delete(cluster, *(f"flood-{name}" for name in floods))
    return f"at most {worst} bytes"


def test_files_of_the_pod_count_as_its_storage(cluster):
    """/etc/hosts, the termination log and the output count, also where only one container has a limit."""
    limit = {"limits": {"ephemeral-storage": "8Mi"}}
    fill = "dd if=/dev/zero of={} bs=1M count=12 2>/dev/null; sleep 100000"
    pod(cluster, "big-hosts", {"command": ["sh", "-c", fill.format("/etc/hosts")], "resources": limit})
    pod(cluster, "big-message", {"command": ["sh", "-c", fill.format("/dev/termination-log")], "resources": limit})
    pod(cluster, "big-output", {"command": ["sh", "-c", "dd if=/dev/zero bs=1M count=12 2>/dev/null | tr '\\0' x | fold -w 4000; sleep 100000"], "resources": limit})
    whole, one = "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi", 'Container c exceeded its local ephemeral storage limit "8Mi"'
    for name, words in (("big-hosts", whole), ("big-message", whole), ("big-output", one)):
        status = until(lambda: (status := get(cluster, name)["status"]).get("reason") == "Evicted" and status, f"{name} is evicted", 60)
        if words not in status["message"]:
            raise Failure(status["message"])
    delete(cluster, "big-hosts", "big-message", "big-output")


def told(cluster, name):
    """Everything that is said about a pod: its status and its events."""
    events = kubectl(cluster, "get", "events", "-o", "json").stdout
    return json.dumps(get(cluster, name)["status"]) + events


def test_secrets_are_in_no_words(cluster):
    if kubectl(cluster, "get", "ns", NAMESPACE, check=False).returncode:
        cluster.kubectl("create", "ns", NAMESPACE)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "type": "Opaque",
        # The second holds a NUL byte, the third what is no path.
        "stringData": {"plain": SECRET, "nul": f"{SECRET}\0rest", "path": f"../{SECRET}/.."},
    }
    kubectl(cluster, "create", "-f", "-", input=json.dumps(secret))
    variable = lambda key: {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}
    cases = {
        "nul-env": ({"env": [variable("nul")]}, "NUL"),
        "nul-from": ({"envFrom": [{"secretRef": {"name": "s"}}]}, "NUL"),
        "nul-arg": ({"env": [variable("nul")], "command": ["echo", "$(S)"]}, "NUL"),
        "nul-other": ({"env": [variable("nul"), {"name": "T", "value": "a$(S)b"}]}, "NUL"),
        "program": ({"env": [variable("plain")], "command": ["$(S)"]}, "$(S)"),
        "program-path": ({"env": [variable("plain")], "command": ["/bin/$(S)", "x"]}, "/bin/$(S)"),
        "program-args": ({"env": [variable("plain")], "command": ["/bin/$(S)"], "args": ["$(S)"]}, "/bin/$(S)"),
        "sub-path": ({"env": [variable("path")], "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(S)"}]}, "subPath"),
    }
    for name, (container, _) in cases.items():
        pod(cluster, name, container, volumes=[{"name": "v", "emptyDir": {}}])
    for name, (_, word) in cases.items():
        until(lambda: word in told(cluster, name), f"{name} is told of with {word}", 20)
        if word == "NUL":
            waiting = get(cluster, name)["status"]["containerStatuses"][0]["state"]["waiting"]
            if waiting["reason"] not in ("CreateContainerError", "CrashLoopBackOff"):
                raise Failure(str(waiting))
    everything = "".join(told(cluster, name) for name in cases) + "\n".join(cluster.log_lines())
    if SECRET in everything:
        at = everything.index(SECRET)
        raise Failure(everything[max(0, at - 400) : at + 100])
    delete(cluster, *cases)


def test_statistics_count_rotated_logs(cluster):
    command = "i=0; while [ $i -lt 32 ]; do head -c 1048576 /dev/zero | tr '\\0' x | fold -w 4000; i=$((i+1)); done; sleep 100000"
    pod(cluster, "rotated", {"command": ["sh", "-c", command]})

    def used():
        summary = json.loads(cluster.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout)
        for one in summary["pods"]:
            if one["podRef"]["name"] == "rotated" and one.get("containers"):
                return one["containers"][0]["logs"]["usedBytes"], one["ephemeral-storage"]["usedBytes"]
        return 0, 0

    # One file has at most 10 MiB.
    until(lambda: used()[0] > 15 << 20 and used()[1] >= used()[0], "all files count", 60)
    delete(cluster, "rotated")


def test_links_among_the_logs_lead_nowhere(cluster):
    """A pod that may write into the node's logs gets no file and no log of others through `kubectl logs`."""
    logs = str(cluster.dir / "log")
    (cluster.dir / "outside").mkdir()
    (cluster.dir / "outside" / "0.log").write_text("2026-01-01T00:00:00Z stdout F of-the-host\n")
    (cluster.dir / "outside" / "plain").write_text("of-the-host\n")
    volumes = [{"name": "logs", "hostPath": {"path": logs}}, {"name": "out", "hostPath": {"path": str(cluster.dir / "outside")}}]
    mounts = [{"name": "logs", "mountPath": "/logs"}]
    pod(cluster, "linker", {"command": ["sh", "-c", "echo own; sleep 100000"], "volumeMounts": mounts}, volumes=volumes[:1])
    until(lambda: "own" in kubectl(cluster, "logs", "linker", check=False).stdout, "its log is read")
    found = kubectl(cluster, "exec", "linker", "--", "find", "/logs", "-path", "*linker*", "-name", "0.log").stdout.split()
    assert found, "its log is in the directory"
    log, directory = found[0], found[0].rsplit("/", 1)[0]
    tries = {
        "file": f"mv {log} {log}.kept; ln -s {cluster.dir}/outside/plain {log}",
        "directory": f"rm {log}; mv {directory} {directory}-kept; ln -s {cluster.dir}/outside {directory}",
        "pipe": f"rm {directory}; mkdir {directory}; mkfifo {log}",
    }
    for name, command in tries.items():
        kubectl(cluster, "exec", "linker", "--", "sh", "-c", command)
        said = kubectl(cluster, "logs", "linker", check=False, timeout=20)
        if "of-the-host" in said.stdout + said.stderr:
            raise Failure(f"{name}: {said.stdout}")
    delete(cluster, "linker")
