"""install.sh on a root directory that has nothing but busybox, whose init is its first process: k3rs as a service, and its end."""

import hashlib
import os
import pathlib
import random
import shutil
import subprocess

from box import Box
from cluster import HERE, until

START = False

VERSION, OTHER = b"v1.32.9+k3rs1", b"v1.32.9+k3rs2"
INSTALLER = HERE.parent / "packaging" / "install.sh"
MACHINE = os.uname().machine
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(MACHINE, "armv7")


def new_box(cluster, name):
    box = Box(cluster, name)
    shutil.copy(INSTALLER, box.root / "media/install.sh")
    return box


def offer(box, text, wrong=False):
    """Puts a program and its digest where install.sh looks."""
    (box.root / f"media/k3rs-{ARCH}").write_bytes(text)
    digest = "0" * 64 if wrong else hashlib.sha256(text).hexdigest()
    (box.root / "media/SHA256SUMS").write_text(f"{digest}  k3rs-{ARCH}\n")


def test_nothing_is_installed_without_its_digest(cluster):
    box = new_box(cluster, "refusing")
    program = cluster.dir / "program"
    shutil.copy(cluster.binary, program)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()

    def install(**env):
        env = {"PATH": os.environ["PATH"], "INSTALL_K3RS_ROOT": str(box.root), "INSTALL_K3RS_INIT": "busybox", **env}
        return subprocess.run(["busybox", "sh", INSTALLER], env=env, capture_output=True, text=True, timeout=60)

    for env, words in [
        ({"INSTALL_K3RS_FILE": str(program)}, "nothing says the digest"),
        ({"INSTALL_K3RS_FILE": str(program), "INSTALL_K3RS_SHA256": "0" * 64}, "Download sha256 does not match"),
        ({"INSTALL_K3RS_URL": "http://192.0.2.1"}, "INSTALL_K3RS_SHA256 has to say the digest"),
        ({"INSTALL_K3RS_URL": "ftp://192.0.2.1"}, "want https://"),
        ({}, "say INSTALL_K3RS_FILE or INSTALL_K3RS_URL"),
        ({"K3S_URL": "https://x:6443"}, "K3S_TOKEN or K3S_TOKEN_FILE is not defined"),
        ({"K3S_URL": "http://x:6443", "K3S_TOKEN": "x"}, "Only https:// URLs are supported"),
        ({"INSTALL_K3S_CHANNEL": "latest"}, "INSTALL_K3S_CHANNEL has no meaning here"),
        ({"INSTALL_K3S_NAME": "a b"}, "Invalid characters for system name"),
    ]:
        done = install(**env)
        assert done.returncode == 1 and words in done.stderr, (env, done)
        assert not list((box.root / "usr/local").rglob("*k3rs*")), env
    for init, unit in [("systemd", "etc/systemd/system/k3s-agent.service"), ("openrc", "etc/init.d/k3s-agent"), ("runit", "etc/sv/k3s-agent/run")]:
        (box.root / "etc/service").mkdir(exist_ok=True)
        done = install(INSTALL_K3RS_INIT=init, INSTALL_K3RS_FILE=str(program), INSTALL_K3RS_SHA256=digest, K3S_URL="https://x:6443", K3S_TOKEN="a $b", INSTALL_K3S_EXEC="--node-label 'a=b c'")
        assert done.returncode == 0, done
        text = (box.root / unit).read_text()
        assert "/usr/local/bin/k3rs" in text and "a=b c" in text and "a $b" not in text, text
    kept = box.root / "etc/systemd/system/k3s-agent.service.env"
    assert kept.read_text() == "K3S_TOKEN='a $b'\nK3S_URL='https://x:6443'\n" and kept.stat().st_mode & 0o777 == 0o600
    assert os.readlink(box.root / "usr/local/bin/k3s") == "k3rs"


def test_a_service_of_busybox_init_from_its_install_to_its_end(cluster):
    box = new_box(cluster, "box")
    box.boot()
    try:
        whole_life(cluster, box)
    finally:
        if (box.root / "usr/local/bin/k3s-killall.sh").exists():
            box.sh("k3s-killall.sh", check=False)
        box.close()


def whole_life(cluster, box):
    data = f"/var/lib/k3rs-{os.getpid()}-{random.randrange(10000)}"
    text = pathlib.Path(cluster.binary).read_bytes()
    words = {"INSTALL_K3S_EXEC": f"server --disable traefik --node-name box --data-dir {data} --node-label 'what=a-box'"}
    cluster.env["KUBECONFIG"] = str(box.root / "etc/rancher/k3s/k3s.yaml")
    offer(box, text, wrong=True)
    done = box.sh("/media/install.sh", check=False, **words)
    assert done.returncode == 1 and "sha256 does not match" in done.stderr, done
    offer(box, text)
    said = box.sh("/media/install.sh", **words).stdout
    assert "busybox: starting k3s" in said, said
    def ready():
        conditions = cluster.get("nodes", "-l", "what=a-box")["items"][0]["status"]["conditions"]
        return [it["status"] for it in conditions if it["type"] == "Ready"] == ["True"]

    until(ready, "the node is Ready", 60)
    assert box.sh("k3s --version").stdout.strip().encode() == b"k3rs version " + VERSION
    assert "No change detected so skipping service start" in box.sh("/media/install.sh", **words).stdout
    # Another version: the one before is kept, and init starts the new one.
    offer(box, text.replace(VERSION, OTHER))
    said = box.sh("/media/install.sh", **words).stdout
    assert "k3rs.previous" in said, said
    until(lambda: OTHER.decode() in cluster.kubectl("get", "--raw", "/version").stdout, "the other version serves", 60)
    until(ready, "the node is Ready again", 60)
    # What was stopped stays stopped.
    box.sh("k3s-killall.sh")
    said = box.sh(f"k3rs rollback --data-dir {data}").stdout
    assert VERSION.decode() in said, said
    box.sh("rm /run/k3s.stopped")
    until(lambda: VERSION.decode() in cluster.kubectl("get", "--raw", "/version").stdout, "the version before serves", 60)
    said = box.sh("k3s-uninstall.sh").stdout
    assert f"removed {data}" in said, said
    left = [str(path.relative_to(box.root)) for path in box.root.rglob("*") if "k3" in path.name and "media" not in path.parts]
    assert not left, left
    assert (box.root / "etc/inittab").read_text() == "::ctrlaltdel:/bin/true\n"
