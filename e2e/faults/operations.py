"""An operator's commands: check-config, completion, killall, rollback, and what a service manager is told."""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess

from cluster import until

START = False

VERSION, OTHER = b"v1.32.9+k3rs1", b"v1.32.9+k3rs2"

POD = """
apiVersion: v1
kind: Pod
metadata: {name: stays, namespace: default}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: a, image: k3rs.io/userspace:1, command: [sleep, "10001"], volumeMounts: [{name: memory, mountPath: /memory}]}
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
"""


def k3rs(cluster, *args, env=None, binary=None, timeout=60):
    return subprocess.run(
        cluster.inside([binary or cluster.binary, *args]), env=dict(cluster.env, **(env or {})), capture_output=True, text=True, timeout=timeout
    )


def processes_of(cgroup):
    """Of all hierarchies: the processes of a cgroup and those below it."""
    found = []
    for procs in pathlib.Path("/sys/fs/cgroup").rglob("cgroup.procs"):
        if cgroup in procs.parts:
            try:
                found += procs.read_text().split()
            except OSError:
                pass
    return found


def is_running(cluster):
    pods = [pod for pod in cluster.get("pods", "-n", "default")["items"] if pod["metadata"]["name"] == "stays"]
    return pods and pods[0]["status"].get("phase") == "Running"


def test_check_config_has_k3s_form_and_exit_code(cluster):
    config = cluster.dir / "config"
    done = k3rs(cluster, "check-config", str(config))
    assert done.returncode == 1 and f"cannot find kernel config {config}" in done.stderr, done
    config.write_text("CONFIG_NAMESPACES=y\nCONFIG_VETH=m\n# CONFIG_BRIDGE is not set\n")
    done = k3rs(cluster, "check-config", str(config), env={"NO_COLOR": "1"})
    lines = done.stdout.splitlines()
    assert "- CONFIG_NAMESPACES: enabled" in lines and "- CONFIG_VETH: enabled (as module)" in lines, done
    failures = [line for line in lines if line.endswith("(fail)")]
    assert "- CONFIG_BRIDGE: missing (fail)" in failures and done.returncode == len(failures) - 1, (done.returncode, failures)
    assert lines[-1] == f"STATUS: {done.returncode} (fail)", lines[-1]
    for head in ("System:", "Limits:", "Generally Necessary:", "Optional Features:"):
        assert head in lines, head
    coloured = k3rs(cluster, "check-config", env={"CONFIG": str(config)}).stdout
    assert "\x1b[37m- CONFIG_NAMESPACES\x1b[m: \x1b[32menabled\x1b[m" in coloured, coloured
    # The compressed form of /proc/config.gz.
    subprocess.run(["gzip", "-k", config], check=True)
    again = k3rs(cluster, "check-config", f"{config}.gz", env={"NO_COLOR": "1"})
    assert again.returncode == done.returncode, again


def test_completion_asks_the_program(cluster):
    link = cluster.dir / "k3s"
    link.symlink_to(cluster.binary)
    script = f"""
        source <({link} completion bash)
        for words in "{link} ser" "{link} server --cluster-i" "{link} token r"; do
          COMP_WORDS=($words); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _k3rs; echo "${{COMPREPLY[*]}}"
        done
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == ["server", "--cluster-init", "rotate"], done
    rc = cluster.dir / ".bashrc"
    rc.write_text("# mine")
    for _ in range(2):
        done = k3rs(cluster, "completion", "bash", "-i")
        assert done.stdout == f"Autocomplete for bash installed in: {rc}\n", done
    text = rc.read_text()
    assert text.startswith("# mine\n") and text.count("(start)") == 1, text
    sourced = subprocess.run(["bash", "-c", f". {rc}; complete -p k3s"], capture_output=True, text=True, timeout=30)
    assert "_k3rs" in sourced.stdout, sourced
    done = k3rs(cluster, "completion", "tcsh")
    assert done.returncode == 1 and 'unknown shell "tcsh"' in done.stderr, done


def test_a_service_manager_is_told(cluster):
    path = cluster.dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(60)
        cluster.env["NOTIFY_SOCKET"] = str(path)
        cluster.start()
        assert manager.recv(64) == b"READY=1"
        cluster.stop()
        assert manager.recv(64) == b"STOPPING=1"
    del cluster.env["NOTIFY_SOCKET"]


def test_killall_ends_what_is_ours_and_keeps_the_data(cluster):
    """The server is found by its lock, pods by their records: a stranger with the same name lives."""
    stranger = cluster.dir / "k3rs"
    shutil.copy("/bin/sleep", stranger)
    other = subprocess.Popen([stranger, "1000"])
    try:
        cluster.start()
        until(lambda: cluster.get("serviceaccounts", "-n", "default")["items"], "the service account")
        cluster.kubectl("apply", "-f", "-", input=POD)
        until(lambda: is_running(cluster), "the pod runs", 60)
        assert processes_of(cluster.cgroup)
        # A driver has staged a volume for it.
        uid = cluster.get("pod", "stays", "-n", "default")["metadata"]["uid"]
        kubelet = pathlib.Path(cluster.env["K3RS_KUBELET_DIR"])
        record = kubelet / "pods" / uid / "volumes/kubernetes.io~csi/v/vol_data.json"
        staged = kubelet / "plugins/kubernetes.io/csi/x.example.com" / hashlib.sha256(b"h").hexdigest() / "globalmount"
        record.parent.mkdir(parents=True)
        staged.mkdir(parents=True)
        record.write_text(json.dumps({"driverName": "x.example.com", "volumeHandle": "h", "specVolID": "v"}))
        subprocess.run(["mount", "-t", "tmpfs", "none", staged], check=True)
        done = k3rs(cluster, "killall", "--data-dir", str(cluster.data))
        assert done.returncode == 0 and f"process {cluster.process.pid}" in done.stdout, done
        assert cluster.process.wait(10) == 0
        assert other.poll() is None, "the stranger was ended"
    finally:
        other.kill()
        other.wait()
    assert not processes_of(cluster.cgroup)
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    assert not [mount for mount in mounts if mount.startswith(str(cluster.dir))], mounts
    shutil.rmtree(record.parents[2])
    assert not (cluster.dir / "run").exists()
    assert "cni0" not in cluster.sh("ip link") and "k3rs" not in cluster.sh("nft list tables")
    # Nothing is there to end any more.
    assert k3rs(cluster, "killall", "--data-dir", str(cluster.data)).returncode == 0
    cluster.start()
    until(lambda: is_running(cluster), "the pod runs again", 60)
    cluster.stop()


def patched(cluster, name):
    """The same program with another version."""
    program = cluster.dir / name
    text = pathlib.Path(cluster.binary).read_bytes()
    assert VERSION in text
    program.write_bytes(text.replace(VERSION, OTHER))
    program.chmod(0o755)
    return program


def names(cluster):
    return {item["metadata"]["name"] for item in cluster.get("configmaps", "-n", "default")["items"]}


def test_rollback_brings_back_the_version_before_and_its_data(cluster):
    mine, folder = cluster.binary, cluster.dir / "bin"
    folder.mkdir()
    program, previous = folder / "k3rs", folder / "k3rs.previous"
    shutil.copy(mine, previous)
    shutil.move(patched(cluster, "new"), program)
    data = ["--data-dir", str(cluster.data)]
    try:
        cluster.start()
        cluster.kubectl("create", "configmap", "before", "-n", "default")
        cluster.stop()
        cluster.binary = str(program)
        cluster.start()
        assert (cluster.data / "version").read_text().encode().strip() == OTHER
        cluster.kubectl("create", "configmap", "after", "-n", "default")
        done = k3rs(cluster, "rollback", *data)
        assert done.returncode == 1 and "another k3rs runs on" in done.stderr, done
        cluster.stop()
        # What is kept of the data would be lost.
        done = k3rs(cluster, "rollback", "--binary", str(program), *data)
        assert done.returncode == 1 and f"is this version, {OTHER.decode()}" in done.stderr, done
        done = k3rs(cluster, "rollback", *data)
        assert done.returncode == 0 and f"{program} is k3rs {VERSION.decode()} now" in done.stdout, done
        cluster.start()
        assert VERSION.decode() in k3rs(cluster, "--version").stdout
        assert {"before"} == names(cluster) & {"before", "after"}, names(cluster)
        cluster.kubectl("create", "configmap", "since", "-n", "default")
        cluster.stop()
        # And back: nothing that was written is lost.
        done = k3rs(cluster, "rollback", *data)
        assert done.returncode == 0 and OTHER.decode() in done.stdout, done
        cluster.start()
        assert {"before", "after"} == names(cluster) & {"before", "after", "since"}, names(cluster)
        cluster.stop()
        done = k3rs(cluster, "rollback", "--keep-data", *data)
        assert done.returncode == 0, done
        cluster.start()
        assert {"before", "after"} == names(cluster) & {"before", "after", "since"}, names(cluster)
        cluster.stop()
    finally:
        cluster.stop()
        cluster.binary = mine


def test_later_data_are_refused_by_name(cluster):
    (cluster.data / "version").write_text("v1.33.0+k3rs1\n")
    cluster.start(wait=False)
    assert cluster.process.wait(30) == 1
    assert "k3rs v1.33.0+k3rs1 ran on" in cluster.tail() and "k3rs rollback" in cluster.tail(), cluster.tail()
    (cluster.data / "version").write_text(VERSION.decode())
    with sqlite3.connect(cluster.data / "server/db/state.db") as store:
        known = store.execute("PRAGMA user_version").fetchone()[0]
        store.execute("PRAGMA user_version = 99")
    store.close()
    cluster.start(wait=False)
    assert cluster.process.wait(30) == 1
    assert "the datastore is of version 99, which a later k3rs wrote" in cluster.tail(), cluster.tail()
    with sqlite3.connect(cluster.data / "server/db/state.db") as store:
        store.execute(f"PRAGMA user_version = {known}")
    store.close()
    done = k3rs(cluster, "rollback", "--data-dir", str(cluster.data), "--binary", os.devnull)
    assert done.returncode == 1 and "there is no program of the version before" in done.stderr, done
