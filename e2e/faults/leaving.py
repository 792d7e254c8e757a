"""Uninstall: it takes away everything, says what that was, and never deletes through a mount."""

import os
import pathlib
import subprocess

from cluster import until

NS = "leaving"


def uninstall(cluster, *args):
    command = [cluster.binary, "uninstall", "--data-dir", str(cluster.data), *args]
    return subprocess.run(cluster.inside(command), env=cluster.env, capture_output=True, text=True, timeout=60)


def test_nothing_is_left_and_the_hosts_files_stay(cluster):
    host = cluster.dir / "host"
    (host / "part").mkdir(parents=True)
    (host / "part" / "precious").write_text("stays\n")
    (host / "file").write_text("stays\n")
    cluster.kubectl("create", "namespace", NS)
    cluster.apply(
        f"""
apiVersion: v1
kind: Pod
metadata: {{name: mounts}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: k3rs.io/userspace:1
    command: [sh, -c, 'echo x > /m/x; echo x > /d/x; exec sleep 100000']
    volumeMounts:
    - {{name: memory, mountPath: /m}}
    - {{name: memory, mountPath: /ms, subPath: a/b}}
    - {{name: disk, mountPath: /d}}
    - {{name: disk, mountPath: /ds, subPath: a}}
    - {{name: host, mountPath: /h, subPath: part}}
    - {{name: host, mountPath: /f, subPath: file}}
    - {{name: host, mountPath: /whole}}
    - {{name: config, mountPath: /c/x, subPath: x}}
  volumes:
  - {{name: memory, emptyDir: {{medium: Memory}}}}
  - {{name: disk, emptyDir: {{}}}}
  - {{name: host, hostPath: {{path: {host}}}}}
  - {{name: config, configMap: {{name: c}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: c}}
data: {{x: "1"}}
""",
        NS,
    )
    cluster.kubectl("wait", "-n", NS, "--for=condition=Ready", "pod/mounts", "--timeout=40s", timeout=50)
    uid = cluster.get("pod", "-n", NS, "mounts")["metadata"]["uid"]
    log_dir = pathlib.Path(cluster.env["K3RS_LOG_DIR"])
    until(lambda: (log_dir / f"{NS}_mounts_{uid}").is_dir(), "the pod's log directory")
    # Another kubelet of the machine may use the directory, too.
    (log_dir / "other_pod_11111111-2222-3333-4444-555555555555").mkdir()
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo") if str(cluster.dir) in line]
    assert len(mounts) >= 4, f"the test has what it is about: {mounts}"
    refused = uninstall(cluster)
    assert refused.returncode == 1 and "another k3rs runs" in refused.stderr, refused
    assert (cluster.data / "server").is_dir()
    cluster.stop()
    dry = uninstall(cluster, "--dry-run")
    assert dry.returncode == 0 and cluster.data.exists() and (log_dir / f"{NS}_mounts_{uid}").exists(), dry
    # The server was told where the kubeconfig goes; here nobody says it again.
    done = uninstall(cluster)
    assert done.returncode == 0 and not done.stderr, done
    told = [line.removeprefix("removed ") for line in done.stdout.splitlines()]
    assert told == [line.removeprefix("would remove ") for line in dry.stdout.splitlines()], (done.stdout, dry.stdout)
    for path in (cluster.data, cluster.env["K3RS_RUN_DIR"], cluster.env["KUBECONFIG"], log_dir / f"{NS}_mounts_{uid}"):
        assert str(path) in told, f"{path} is told: {told}"
        assert not os.path.lexists(path), f"{path} is gone"
    assert "1 pod" in told and "nft table inet k3rs" in told, told
    assert not pathlib.Path(cluster.env["K3RS_ETC_DIR"]).exists(), "no empty directory is left"
    assert os.listdir(log_dir) == ["other_pod_11111111-2222-3333-4444-555555555555"], "another kubelet's logs stay"
    assert (host / "part" / "precious").read_text() == "stays\n" and (host / "file").read_text() == "stays\n"
    assert not [line for line in open("/proc/self/mountinfo") if str(cluster.dir) in line]
    assert "k3rs" not in cluster.sh("nft list tables") and "cni0" not in cluster.sh("ip link")
    again = uninstall(cluster)
    assert (again.returncode, again.stderr) == (0, "") and "nothing of k3rs is left" in again.stdout, again
    assert not cluster.data.exists() and not pathlib.Path(cluster.env["K3RS_RUN_DIR"]).exists()


def test_what_is_mounted_by_others_is_not_emptied(cluster):
    """A directory of the host bound into the data directory, and a data directory that is a link."""
    real, host = cluster.dir / "real", cluster.dir / "bound"
    (real / "server").mkdir(parents=True)
    host.mkdir()
    (host / "precious").write_text("stays\n")
    (real / "storage").mkdir()
    cluster.data.symlink_to(real)
    subprocess.run(["mount", "--bind", host, real / "storage"], check=True)
    merged = cluster.dir / "kubeconfig"
    merged.write_text("clusters:\n- cluster: {certificate-authority-data: b3RoZXI=}\n- cluster: {certificate-authority-data: bW9yZQ==}\n")
    done = uninstall(cluster, "--write-kubeconfig", str(merged))
    assert done.returncode == 0, done
    assert (host / "precious").read_text() == "stays\n"
    assert merged.exists(), "a kubeconfig of several clusters is its user's"
    assert not os.path.lexists(cluster.data) and not (real / "storage").exists()


def test_a_disk_of_its_own_stays_empty(cluster):
    (cluster.dir / "disk").mkdir()
    cluster.data.mkdir()
    subprocess.run(["mount", "--bind", cluster.dir / "disk", cluster.data], check=True)
    (cluster.data / "server").mkdir()
    (cluster.data / "server" / "x").write_text("x")
    try:
        done = uninstall(cluster)
        assert done.returncode == 0 and os.listdir(cluster.data) == [], done
    finally:
        subprocess.run(["umount", cluster.data], check=True)
