"""install.sh on a root directory that has nothing but busybox, whose init is its first process: k3rs as a service, and its end."""

import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess

from cluster import HERE, run, until

START = False

VERSION, OTHER = b"v1.32.9+k3rs1", b"v1.32.9+k3rs2"
INSTALLER = HERE.parent / "packaging" / "install.sh"
MACHINE = os.uname().machine
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(MACHINE, "armv7")


class Box:
    """A machine of busybox: its own root, processes and mounts, in the network of the cluster."""

    def __init__(self, cluster, name):
        self.cluster, self.root = cluster, cluster.dir / name
        for folder in ("bin", "sbin", "etc", "proc", "sys", "dev", "run", "tmp", "media", "var/log", "usr/bin", "usr/sbin", "root"):
            (self.root / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.root / "bin/busybox")
        run(["chroot", self.root, "/bin/busybox", "--install", "-s"])
        (self.root / "etc/inittab").write_text("::ctrlaltdel:/bin/true\n")
        shutil.copy(INSTALLER, self.root / "media/install.sh")
        self.process = self.init = None

    def boot(self):
        mounts = "for place in sys dev; do mount --rbind /$place $0/$place && mount --make-rslave $0/$place; done; exec unshare -p -f --mount-proc=$0/proc chroot $0 /sbin/init"
        command = self.cluster.inside(["unshare", "-m", "--propagation", "slave", "sh", "-c", mounts, str(self.root)])
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.cluster.log, stderr=self.cluster.log)
        self.init = until(self.find_init, "init runs", 30, interval=0.02)

    def find_init(self):
        """The child that has become init: before it there are others, which mount."""
        with contextlib.suppress(OSError):
            for child in pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                if os.readlink(f"/proc/{child}/exe") == str(self.root / "bin/busybox") or os.readlink(f"/proc/{child}/exe") == "/bin/busybox":
                    return child
        return None

    def sh(self, command, check=True, **env):
        """In the machine, as a person at its console."""
        env = {"PATH": "/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin", "HOME": "/root", **env}
        done = subprocess.run(
            ["nsenter", "-t", self.init, "-m", "-p", "-n", "-r", "-w", "sh", "-c", command], env=env, capture_output=True, text=True, timeout=120
        )
        assert not check or done.returncode == 0, (command, done)
        return done

    def close(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self.init or self.process.pid), signal.SIGKILL)
            self.process.wait(30)


def offer(box, text, wrong=False):
    """Puts a program and its digest where install.sh looks."""
    (box.root / f"media/k3rs-{ARCH}").write_bytes(text)
    digest = "0" * 64 if wrong else hashlib.sha256(text).hexdigest()
    (box.root / "media/SHA256SUMS").write_text(f"{digest}  k3rs-{ARCH}\n")


def test_nothing_is_installed_without_its_digest(cluster):
    box = Box(cluster, "refusing")
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
    box = Box(cluster, "box")
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
