"""What a pod finds around it: processes on their way in, the pod's init, proc, keyrings, its user, sysctls."""

import errno
import io
import json
import os
import pathlib
import re
import subprocess
import tarfile

from cluster import HERE, Failure, until

ARGS = ("--disable", "traefik")
NAMESPACE = "inside"
# SYS_ADMIN, SYS_MODULE, SYS_RAWIO, NET_ADMIN, SYS_BOOT, MAC_ADMIN: no process of these pods has one.
FORBIDDEN = f"{1 << 21 | 1 << 16 | 1 << 17 | 1 << 12 | 1 << 22 | 1 << 33:x}"


def prepare(cluster):
    tools = cluster.dir / "tools"
    tools.mkdir()
    (cluster.dir / "marker").write_text("the host's")
    for program, source in (("watch", "watch_proc.c"), ("stop", "stop_joiners.c")):
        source = HERE / "faults" / source
        subprocess.run(["gcc", "-O1", "-static", "-o", tools / program, source], check=True, capture_output=True)


def kubectl(cluster, *args, **more):
    return cluster.kubectl("-n", NAMESPACE, *args, **more)


def pod(cluster, name, containers, namespace=NAMESPACE, **spec):
    if kubectl(cluster, "get", "ns", NAMESPACE, check=False).returncode:
        cluster.kubectl("create", "ns", NAMESPACE)
        until(lambda: kubectl(cluster, "get", "sa", "default"), "the default service account")
    made = []
    for number, one in enumerate(containers):
        one = {"name": f"c{number}", "image": "k3rs.io/userspace:1", "command": ["sleep", "100000"], **one}
        made.append(one)
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 0, "restartPolicy": "Never", "containers": made, **spec},
    }
    return cluster.kubectl("create", "-f", "-", input=json.dumps(manifest), check=False)


def ready(cluster, name):
    kubectl(cluster, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")


def run(cluster, name, containers, **spec):
    made = pod(cluster, name, containers, **spec)
    if made.returncode:
        raise Failure(made.stderr)
    ready(cluster, name)


def shell(cluster, name, command, container="c0", check=True):
    return kubectl(cluster, "exec", name, "-c", container, "--", "sh", "-c", command, check=check).stdout


def delete(cluster, *names):
    kubectl(cluster, "delete", "pod", *names, "--wait=false", "--grace-period=0", "--force")


def waiting(cluster, name):
    status = json.loads(kubectl(cluster, "get", "pod", name, "-o", "json").stdout)["status"]
    state = status["containerStatuses"][0]["state"]
    return state.get("waiting") or state.get("terminated")


def watcher(cluster, seconds):
    return {
        "command": ["/tools/watch", str(seconds), str(cluster.dir / "marker"), FORBIDDEN],
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
        "volumeMounts": [{"name": "tools", "mountPath": "/tools", "readOnly": True}],
    }


def tools(cluster):
    return [{"name": "tools", "hostPath": {"path": str(cluster.dir / "tools")}}]


def finish_watch(cluster, name):
    shell(cluster, name, "touch /tmp/stop", check=False)
    def report():
        # One that has found enough ends, and is started again where the pod says so.
        for which in ((), ("--previous",)):
            text = kubectl(cluster, "logs", name, "-c", "c0", *which, check=False).stdout
            if "seen" in text:
                return text

    log = until(report, "the watcher's report", 20)
    seen, hits = re.search(r"seen (\d+) hits (\d+)", log).groups()
    if hits != "0" or int(seen) < 100:
        raise Failure(log[-2000:])
    return seen


def many_execs(cluster, name, container):
    # From within the namespace of the cluster, several at once. On a busy machine kubectl itself may miss the
    # streams of a process that ends at once.
    said = cluster.sh(
        f"seq 100 | xargs -P 4 -I{{}} {cluster.kubectl_path} -n {NAMESPACE} exec {name} -c {container} -- true 2>&1", timeout=100, check=False
    )
    if "Internal error" in said or said.count("error:") > 5:
        raise Failure(said)


def test_joiners_show_nothing_of_the_host(cluster):
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    run(cluster, "watch", [{**watcher(cluster, 90), "livenessProbe": probe}], volumes=tools(cluster))
    many_execs(cluster, "watch", "c0")
    seen = finish_watch(cluster, "watch")
    delete(cluster, "watch")
    return f"{seen} looks"


def test_shared_processes_show_nothing_of_the_host(cluster):
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    crashing = {"command": ["sh", "-c", "exit 1"]}
    containers = [watcher(cluster, 90), {"livenessProbe": probe}, crashing]
    pod(cluster, "shared", containers, volumes=tools(cluster), shareProcessNamespace=True, restartPolicy="Always")
    until(lambda: "watching" in kubectl(cluster, "logs", "shared", "-c", "c0", check=False).stdout, "the watcher runs")
    until(lambda: kubectl(cluster, "exec", "shared", "-c", "c1", "--", "true"), "the second container runs")
    many_execs(cluster, "shared", "c1")
    # What stays for ever: the pod's init.
    root = shell(cluster, "shared", "ls -A /proc/1/root/ | wc -l; ls /proc/1/fd | wc -l; ls -A /proc/1/cwd/ | wc -l; wc -l < /proc/1/mountinfo; cat /proc/1/environ | wc -c").split()
    if root[:3] != ["0", "0", "0"] or root[3] != "1":
        raise Failure(f"root, fds, cwd, mounts, environ of the pod's init: {root}")
    status = shell(cluster, "shared", "cat /proc/1/status", container="c1")
    for line in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        if not re.search(rf"^{line}:\s*0+$", status, re.M):
            raise Failure(status)
    # A filter that lets it do nothing but wait.
    if not re.search(r"^Seccomp:\s*2$", status, re.M):
        raise Failure(status)
    if not re.search(r"^NoNewPrivs:\s*1$", status, re.M) or not re.search(r"^Uid:\s*65535\s", status, re.M):
        raise Failure(status)
    # Without SYS_PTRACE not even its links can be read, though both are of one pod.
    denied = shell(cluster, "shared", "ls /proc/1/root/ /proc/1/fd 2>&1; cat /proc/1/maps /proc/1/environ 2>&1; true", container="c1")
    if denied.count("ermission denied") < 3:
        raise Failure(denied)
    # Its proc is the pod's, with the masks.
    processes = shell(cluster, "shared", "cat /proc/[0-9]*/comm | sort | uniq", container="c1")
    if "pause" not in processes or "watch" not in processes:
        raise Failure(processes)
    # A probe or a container on its way in bears the shim's name for a moment; no process does that stays.
    look = "grep -l k3rs-shim /proc/[0-9]*/comm; echo looked"
    until(lambda: shell(cluster, "shared", look, container="c1") == "looked\n", "no process of the pod is a shim")
    masks = shell(cluster, "shared", "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo written; head -c1 /proc/keys | wc -c", container="c1", check=False)
    if masks.split() != ["0"]:
        raise Failure(masks)
    seen = finish_watch(cluster, "shared")
    delete(cluster, "shared")
    return f"{seen} looks"


def test_joiners_hold_no_secrets_of_others(cluster):
    """A process on its way into a container is a copy of the pod's shim: stopped there, its memory holds nothing of other containers."""
    halves = ("S3CRET-of-", "another-container")
    secret = "".join(halves)
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    watching = {
        "command": ["/tools/stop", "scan", "120", *halves],
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
        "volumeMounts": [{"name": "tools", "mountPath": "/tools", "readOnly": True}],
        "livenessProbe": {**probe, "timeoutSeconds": 20},
    }
    # Environment, arguments and output of the others, some of which come and go.
    holder = {"env": [{"name": "SECRET", "value": secret}], "command": ["sh", "-c", "while :; do echo $SECRET; sleep 0.1; done", secret], "livenessProbe": probe}
    passing = {"env": [{"name": "SECRET", "value": secret}], "command": ["sh", "-c", "sleep 1"]}
    pod(cluster, "secrets", [holder, watching, passing], volumes=tools(cluster), restartPolicy="Always")
    until(lambda: "watching" in kubectl(cluster, "logs", "secrets", "-c", "c1", check=False).stdout, "the watcher runs")
    for number in range(60):
        kubectl(cluster, "exec", "secrets", "-c", "c1", "--", "true", check=False)
        if number % 20 == 0:
            kubectl(cluster, "exec", "-i", "secrets", "-c", "c0", "--", "cat", input=secret * 1000, check=False)
    shell(cluster, "secrets", "touch /tmp/stop", container="c1", check=False)

    def report():
        for which in ((), ("--previous",)):
            text = kubectl(cluster, "logs", "secrets", "-c", "c1", *which, check=False).stdout
            if "caught" in text:
                return text

    log = until(report, "the watcher's report", 20)
    caught, hits = re.search(r"caught (\d+) hits (\d+)", log).groups()
    if hits != "0" or int(caught) < 10:
        raise Failure(log[-2000:])
    delete(cluster, "secrets")
    return f"{caught} caught"


def test_a_stopped_joiner_is_killed_in_time(cluster):
    """A process that is stopped on its way into a container costs a probe its time, and does not stay."""
    stopping = {
        "command": ["/tools/stop", "stop"],
        "volumeMounts": [{"name": "tools", "mountPath": "/tools", "readOnly": True}],
        "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1000},
    }
    run(cluster, "stopping", [stopping], volumes=tools(cluster))
    uid = kubectl(cluster, "get", "pod", "stopping", "-o", "jsonpath={.metadata.uid}").stdout

    def failures():
        events = json.loads(kubectl(cluster, "get", "events", "-o", "json").stdout)["items"]
        return sum(one.get("count", 1) for one in events if one["reason"] == "Unhealthy" and one["involvedObject"]["name"] == "stopping")

    until(lambda: failures() >= 6, "six probes time out", 40)
    left = lambda: int(cluster.sh(f"grep -l {uid} /proc/[0-9]*/cgroup | wc -l"))
    # The program, the shim, one on its way in, and that one's parent; for a moment also one that is being killed.
    until(lambda: left() <= 4, f"{left()} processes are in the pod's cgroups")
    delete(cluster, "stopping")
    until(lambda: not kubectl(cluster, "get", "pod", "-o", "name").stdout.count("stopping"), "the pod goes")


def test_copies_lead_nowhere_else(cluster):
    """`kubectl cp` both ways, and from a container whose tar lies."""
    evil = cluster.dir / "tools" / "evil"
    evil.mkdir()
    outside = cluster.dir / "outside"
    outside.mkdir()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:

        def add(name, link=None, text=b""):
            entry = tarfile.TarInfo(name)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))

        add("data/link", str(outside))
        add("data/link/through", text=b"x")
        add("data/dots", "../../outside")
        add("data/dots/through", text=b"x")
        add("../outside/up", text=b"x")
        add(str(outside / "absolute"), text=b"x")
        add("data/good", text=b"good")
    (evil / "archive").write_bytes(archive.getvalue())
    (evil / "tar").write_text("#!/bin/sh\ncat /tools/evil/archive\n")
    (evil / "tar").chmod(0o755)
    mounts = [{"name": "tools", "mountPath": "/tools", "readOnly": True}]
    lying = {"env": [{"name": "PATH", "value": "/tools/evil:/usr/sbin:/usr/bin:/sbin:/bin"}], "volumeMounts": mounts}
    run(cluster, "copies", [{}, lying], volumes=tools(cluster))
    here = cluster.dir / "copied"
    (here / "sub").mkdir(parents=True)
    (here / "sub" / "file").write_text("there and back")
    kubectl(cluster, "cp", str(here), "copies:/tmp/in", "-c", "c0")
    kubectl(cluster, "cp", "copies:/tmp/in", str(cluster.dir / "back"), "-c", "c0")
    if (cluster.dir / "back" / "sub" / "file").read_text() != "there and back":
        raise Failure("a copy of a copy is another")
    kubectl(cluster, "cp", "copies:/data", str(cluster.dir / "lies"), "-c", "c1", check=False)
    if list(outside.iterdir()):
        raise Failure(f"written outside: {list(outside.iterdir())}")
    # Into a container whose links lead out of where it should go: they lead inside it.
    shell(cluster, "copies", f"mkdir -p /tmp/links && ln -s {outside} /tmp/links/out")
    kubectl(cluster, "cp", str(here / "sub" / "file"), "copies:/tmp/links/out", "-c", "c0", check=False)
    if list(outside.iterdir()):
        raise Failure(f"written on the node: {list(outside.iterdir())}")
    delete(cluster, "copies")


def test_debug_shares_the_processes_of_its_target(cluster):
    """`kubectl debug --target`: the container's processes, with its proc, and signals to them."""
    target = {"command": ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.2; done", "the-target"]}
    for name, shared in (("own", False), ("whole", True)):
        run(cluster, name, [target, {"command": ["sleep", "54321"]}], shareProcessNamespace=shared)
        kubectl(cluster, "debug", name, "--image=k3rs.io/userspace:1", "--target=c0", "--container=dbg", "--", "sleep", "12345")
        looks = lambda: kubectl(cluster, "exec", name, "-c", "dbg", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", check=False).stdout
        seen = until(lambda: "sleep 12345" in (text := looks()) and text, "the debug container runs")
        if "the-target" not in seen or ("sleep 54321" in seen) != shared:
            raise Failure(f"{name}: {seen}")
        # The target sees it, too, and neither sees more of the other than its processes.
        until(lambda: "sleep 12345" in shell(cluster, name, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", check=False), "the target sees it")
        masks = until(lambda: shell(cluster, name, "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo written; head -c1 /proc/keys | wc -c", container="dbg", check=False), "its masks")
        if masks.split() != ["0"]:
            raise Failure(f"{name}: {masks}")
        number = "1" if not shared else "$(grep -l the-targe[t] /proc/[0-9]*/cmdline | head -1 | cut -d/ -f3)"
        kubectl(cluster, "exec", name, "-c", "dbg", "--", "sh", "-c", f"kill -TERM {number}", check=False)

        def ended():
            statuses = json.loads(kubectl(cluster, "get", "pod", name, "-o", "json").stdout)["status"]["containerStatuses"]
            return next(one for one in statuses if one["name"] == "c0")["state"].get("terminated")

        if until(ended, "the target's end")["exitCode"] != 3:
            raise Failure(f"{name}: {ended()}")
        delete(cluster, name)


def test_exec_works_as_before(cluster):
    """Terminals, input, exit codes, users, groups: with the last fork in between."""
    run(cluster, "hands", [{"securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}, {"securityContext": {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}}}, {"securityContext": {"privileged": True}}], shareProcessNamespace=True)
    # A privileged one has what the node has, which is not everything everywhere.
    own = shell(cluster, "hands", "grep CapPrm /proc/self/status", container="c2").split()[1]
    node = [line.split()[1] for line in pathlib.Path(f"/proc/{cluster.process.pid}/status").read_text().splitlines() if line.startswith("CapPrm:")]
    if [own] != node:
        raise Failure(f"capabilities {own}, not {node}")
    done = kubectl(cluster, "exec", "hands", "-c", "c0", "--", "sh", "-c", "id -u; id -g; exit 7", check=False)
    if (done.returncode, done.stdout.split()) != (7, ["1000", "2000"]):
        raise Failure(f"{done.returncode} {done.stdout} {done.stderr}")
    echoed = kubectl(cluster, "exec", "-i", "hands", "-c", "c1", "--", "cat", input="through\n").stdout
    seccomp = shell(cluster, "hands", "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", container="c1").split()
    if echoed != "through\n" or seccomp != ["NoNewPrivs:", "1", "Seccomp:", "2"]:
        raise Failure(f"{echoed!r} {seccomp}")
    tty = cluster.sh(f"script -qec '{cluster.kubectl_path} -n {NAMESPACE} exec -it hands -c c1 -- sh -c \"tty; ps -o pid,tty,sid | wc -l; kill -INT \\$\\$; echo not\"' /dev/null </dev/null", check=False)
    if "/dev/pts/0" not in tty and "/dev/console" not in tty:
        raise Failure(tty)
    missing = kubectl(cluster, "exec", "hands", "-c", "c1", "--", "/nowhere", check=False)
    if "no such file or directory" not in missing.stderr:
        raise Failure(missing.stderr)
    # What ends at once is heard whole: the shim answers that it runs before it passes on what it says. (Over
    # SPDY: kubectl itself loses what a WebSocket brings before it has made its streams.)
    for idx in range(60):
        said = cluster.sh(f"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false {cluster.kubectl_path} -n {NAMESPACE} exec hands -c c0 -- echo {idx}")
        if said != f"{idx}\n":
            raise Failure(f"exec {idx} said {said!r}")
    delete(cluster, "hands")


def test_the_node_program_cannot_be_written(cluster):
    """`/proc/self/exe` as an entrypoint and as an interpreter is k3rs, but not the node's file."""
    script = "printf '#!/proc/self/exe\\n' > /x/s; chmod 755 /x/s; /x/s; sleep 100000"
    containers = [{"command": ["/proc/self/exe", "--help"]}, {"command": ["sh", "-c", script], "volumeMounts": [{"name": "x", "mountPath": "/x"}]}]
    pod(cluster, "self", containers, volumes=[{"name": "x", "emptyDir": {}}])
    until(lambda: kubectl(cluster, "exec", "self", "-c", "c1", "--", "true"), "the second container runs")
    kubectl(cluster, "exec", "self", "-c", "c1", "--", "/proc/self/exe", "--version", check=False)
    looked = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() not in ("k3rs-shim", "k3rs-zygote", "pause"):
                continue
            program = os.open(process / "exe", os.O_RDONLY)
        except OSError:
            continue
        try:
            # Other nodes of this machine may be of another build.
            if cluster.binary not in os.readlink(f"/proc/self/fd/{program}") and os.fstat(program).st_ino != os.stat(cluster.binary).st_ino:
                continue
            looked += 1
            # A running file is busy, so it is its mode that is set, to what it is.
            os.chmod(f"/proc/self/fd/{program}", os.fstat(program).st_mode & 0o7777)
            raise Failure(f"{process}: its program can be written")
        except OSError as error:
            if error.errno != errno.EROFS:
                raise Failure(f"{process}: {error}")
        finally:
            os.close(program)
    if looked < 2:
        raise Failure(f"{looked} processes of this node")
    delete(cluster, "self")


def test_keyring_is_of_ones_own(cluster):
    """A key of whoever started k3rs (this test's session) is not in a pod's session keyring."""
    run(cluster, "keys", [{}])
    pid = cluster.sh(f"cat $(find /sys/fs/cgroup -path '*{cluster.cgroup}*' -name cgroup.procs 2>/dev/null) 2>/dev/null | sort -u | while read p; do grep -q sleep /proc/$p/comm 2>/dev/null && echo $p; done | head -1", check=False).strip()
    source = cluster.dir / "tools" / "ring.c"
    source.write_text(
        '#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n'
        'int main(){long s=syscall(SYS_keyctl,0,-3,0);char b[300]={0};long n=syscall(SYS_keyctl,6,s,b,299);'
        'int r[64];long m=syscall(SYS_keyctl,11,s,r,sizeof r);printf("%ld %s %ld\\n",s,b,m/4);return n<0;}'
    )
    subprocess.run(["gcc", "-static", "-o", cluster.dir / "tools" / "ring", source], check=True, capture_output=True)
    run(cluster, "ring", [{"command": ["sh", "-c", "/tools/ring; sleep 100000"], "volumeMounts": [{"name": "tools", "mountPath": "/tools"}]}], volumes=tools(cluster))
    own = until(lambda: kubectl(cluster, "logs", "ring").stdout.split(), "the container's keyring")
    again = shell(cluster, "ring", "/tools/ring").split()
    host = subprocess.run([cluster.dir / "tools" / "ring"], capture_output=True, text=True).stdout.split()
    for name, ring in (("container", own), ("exec", again)):
        # Empty, of its own, and only for its possessor.
        if ring[0] == host[0] or ring[-1] != "0" or "3f000000" not in ring[1]:
            raise Failure(f"{name}: {ring}, host: {host}, pid {pid}")
    delete(cluster, "keys", "ring")


def test_proc_mount_unmasked_is_refused(cluster):
    for field in ("containers", "initContainers"):
        containers = [{"securityContext": {"procMount": "Unmasked"}}]
        extra = {}
        if field == "initContainers":
            extra = {field: [{"name": "i", "image": "k3rs.io/userspace:1", "securityContext": {"procMount": "Unmasked"}}]}
            containers = [{}]
        said = pod(cluster, "unmasked", containers, **extra).stderr
        if f"spec.{field}[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`" not in said:
            raise Failure(said or "accepted")


def test_proc_is_no_place_for_volumes(cluster):
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]
    link = [{"name": "i", "image": "k3rs.io/userspace:1", "command": ["ln", "-s", "/proc/sys", "/v/link"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
    cases = {
        "proc": ("/proc", "not of type proc"),
        "slash": ("/proc/", "not of type proc"),
        "dots": ("/tmp/../proc", "not of type proc"),
        "below": ("/proc/sys", "inside /proc"),
        "attr": ("/proc/self/attr", "inside /proc"),
        "link": ("/v/link/kernel", "inside /proc"),
    }
    for name, (path, _) in cases.items():
        mounts = [{"name": "w", "mountPath": path}]
        extra = {"initContainers": link} if name == "link" else {}
        if name == "link":
            mounts.insert(0, {"name": "v", "mountPath": "/v"})
        made = pod(cluster, f"place-{name}", [{"volumeMounts": mounts}], volumes=volumes, **extra)
        if made.returncode:
            raise Failure(made.stderr)
    for name, (path, why) in cases.items():
        said = until(lambda: (state := waiting(cluster, f"place-{name}")) and state.get("reason") not in (None, "ContainerCreating", "PodInitializing") and state, f"{path} is refused")
        if why not in said["message"]:
            raise Failure(f"{path}: {said}")
    message = [{"terminationMessagePath": "/proc/sys/kernel/core_pattern"}]
    pod(cluster, "place-message", message)
    said = until(lambda: (state := waiting(cluster, "place-message")) and state.get("reason") != "ContainerCreating" and state, "the message path is refused")
    if "inside /proc" not in said["message"]:
        raise Failure(str(said))
    # What lxcfs does is allowed.
    (cluster.dir / "tools" / "cpuinfo").write_text("ours\n")
    files = [{"name": "v", "hostPath": {"path": str(cluster.dir / "tools" / "cpuinfo")}}]
    run(cluster, "place-cpuinfo", [{"volumeMounts": [{"name": "v", "mountPath": "/proc/cpuinfo"}]}], volumes=files)
    if shell(cluster, "place-cpuinfo", "cat /proc/cpuinfo") != "ours\n":
        raise Failure("/proc/cpuinfo is not covered")
    delete(cluster, *(f"place-{name}" for name in cases), "place-message", "place-cpuinfo")


def test_run_as_non_root_means_the_user_that_runs(cluster):
    """The numeric user that the container really gets decides, whatever the image's passwd calls it."""
    context = {"runAsNonRoot": True}
    pod(cluster, "root", [{"securityContext": context}])
    said = until(lambda: (state := waiting(cluster, "root")) and state.get("reason") == "CreateContainerConfigError" and state, "root is refused")
    if "image will run as root" not in said["message"]:
        raise Failure(str(said))
    # A passwd file that calls 1000 root: it is a volume here, an image's would be the same.
    passwd = cluster.dir / "tools" / "passwd"
    passwd.write_text("1000:x:0:0::/:/bin/sh\n4294967295:x:0:0::/:/bin/sh\n")
    volumes = [{"name": "p", "hostPath": {"path": str(passwd)}}]
    mount = [{"name": "p", "mountPath": "/etc/passwd"}]
    run(cluster, "mapped", [{"securityContext": {**context, "runAsUser": 1000}, "volumeMounts": mount}], volumes=volumes)
    if shell(cluster, "mapped", "id -u").strip() != "1000":
        raise Failure(shell(cluster, "mapped", "id"))
    delete(cluster, "root", "mapped")


def test_sysctls_of_the_host_are_refused(cluster):
    sysctl = lambda name: {"sysctls": [{"name": name, "value": "1"}]}
    for field, name in (("hostNetwork", "net.ipv4.tcp_syncookies"), ("hostNetwork", "net/ipv4/tcp_syncookies"), ("hostIPC", "kernel.shm_rmid_forced")):
        said = pod(cluster, "sysctl", [{}], securityContext=sysctl(name), **{field: True}).stderr
        if f"may not be specified when '{field}' is true" not in said:
            raise Failure(f"{field} {name}: {said or 'accepted'}")
    run(cluster, "sysctl", [{}], securityContext=sysctl("net.ipv4.tcp_syncookies"))
    delete(cluster, "sysctl")


def test_pods_believe_no_router(cluster):
    """A pod with raw packets, as pods have them, is the router of neither the node nor another pod because it says so."""
    run(cluster, "routers", [{}])
    names = "ipv6/conf/IF/accept_ra ipv6/conf/IF/accept_redirects ipv4/conf/IF/accept_redirects".split()
    look = lambda interface: "cd /proc/sys/net && cat " + " ".join(name.replace("IF", interface) for name in names)
    for who, said in (("the pod", kubectl(cluster, "exec", "routers", "--", "sh", "-c", look("eth0")).stdout), ("the node", cluster.sh(look("cni0")))):
        if said.split() != ["0"] * len(names):
            raise Failure(f"{who}: {names} are {said.split()}")
    kubectl(cluster, "delete", "pod", "routers", "--wait=false")
