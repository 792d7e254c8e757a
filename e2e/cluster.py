"""A k3rs server in a network namespace of its own, and the tools to look at it."""

import functools
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def find_kubectl(minor=32):
    """The real kubectl: versioned ones beside the dispatcher where there are such."""
    found = shutil.which("kubectl")
    if not found:
        return None
    versioned = pathlib.Path(os.path.realpath(found)).parent / f"kubectl.1.{minor}"
    return str(versioned) if versioned.exists() else found


class Failure(Exception):
    pass


def expect(condition, message):
    """Fails with words for a reader instead of a traceback."""
    if not condition:
        raise Failure(message)


def telling(say):
    """A test whose failure shows what `say()` tells, too."""

    def decorate(test):
        @functools.wraps(test)
        def wrapped(cluster):
            try:
                return test(cluster)
            except Exception as error:
                raise Failure(f"{error}\n--- {say()}") from error

        return wrapped

    return decorate


DISK_MIN_BYTES = 1 << 30


def host_disk(data):
    """Flags of a kubelet whose data directory lies on this host's disk: how full others made it is not its affair.

    With the defaults, which are percentages, pods are evicted and images collected on a disk that still has gigabytes.
    """
    if data.is_mount() or not data.parent.exists():
        return []
    free = shutil.disk_usage(data.parent).free
    expect(free > DISK_MIN_BYTES, f"{data.parent} has only {free >> 20} MiB left")
    floors = "memory.available<100Mi,nodefs.available<256Mi,nodefs.inodesFree<1000"
    return [f"--kubelet-arg=eviction-hard={floors}", "--kubelet-arg=image-gc-high-threshold=100"]


class Cluster:
    def __init__(self, binary, args=()):
        self.binary, self.args = binary, list(args)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3rs-e2e-"))
        self.netns = f"k3rs-e2e-{os.getpid()}-{random.randrange(10000)}"
        self.kubectl_path = find_kubectl()
        self.process = None
        # What the server is started through, e.g. a shell that makes the root read-only.
        self.through = []
        self.names_kubeconfig = True
        # The packaged ingress is a pod of its own: where it is not what is tested, it is left out.
        self.ingress = False
        self.log = open(self.dir / "k3rs.log", "ab")
        self.env = dict(
            os.environ,
            K3RS_ETC_DIR=str(self.dir / "etc"),
            K3RS_RUN_DIR=str(self.dir / "run"),
            K3RS_LOG_DIR=str(self.dir / "log"),
            K3RS_KUBELET_DIR=str(self.dir / "kubelet"),
            KUBECONFIG=str(self.dir / "kubeconfig"),
            HOME=str(self.dir),
        )
        run(["ip", "netns", "add", self.netns])
        # One interface with an address and a default route, as a machine has.
        for command in (
            "ip link set lo up",
            "ip link add eth0 type veth peer name peer0",
            "ip addr add 192.0.2.10/24 dev eth0",
            "ip link set eth0 up",
            "ip link set peer0 up",
            "ip route add default via 192.0.2.1",
        ):
            run(self.inside(command.split()))

    def inside(self, command):
        # Not `ip netns exec`: it remounts /sys, and the cgroups with it.
        return ["nsenter", f"--net=/run/netns/{self.netns}", *command]

    @property
    def data(self):
        return self.dir / "data"

    @property
    def cgroup(self):
        """The cgroup of its pods: of its own, as its data directory is not the default one."""
        return "kubepods-" + hashlib.sha256(str(self.data).encode()).hexdigest()[:8]

    def server_args(self):
        kubeconfig = ["--write-kubeconfig", self.env["KUBECONFIG"]] if self.names_kubeconfig else []
        return ["--data-dir", str(self.data), *kubeconfig, "--node-name", "node1", *([] if self.ingress else ["--disable", "traefik"]), *host_disk(self.data), *self.args]

    def start(self, wait=True):
        """Starts the server and waits until it answers and its node, if it has one, is Ready."""
        started = time.monotonic()
        said = (self.dir / "k3rs.log").stat().st_size
        self.process = subprocess.Popen(
            self.inside([*self.through, self.binary, "server", *self.server_args()]), env=self.env, stdout=self.log, stderr=self.log, start_new_session=True
        )
        if wait:
            self.wait_up()
            if "--disable-agent" not in self.args:
                # What its object says may be of the time before; and what a test looks for on the node is made until then.
                until(lambda: self.alive() and b"k3rs is up and running" in self.said_since(said), "the node is Ready", 60, interval=0.05)
        return time.monotonic() - started

    def said_since(self, offset):
        with open(self.dir / "k3rs.log", "rb") as log:
            log.seek(offset)
            return log.read()

    def wait_up(self, timeout=30):
        until(lambda: self.alive() and self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "the server answers", timeout, interval=0.05)

    def alive(self):
        if self.process.poll() is not None:
            raise Failure(f"k3rs ended with {self.process.returncode}:\n{self.tail()}")
        return True

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure(f"k3rs did not stop within 20 s:\n{self.tail()}")
        return self.process.returncode if self.process else None

    def tail(self, lines=30):
        text = (self.dir / "k3rs.log").read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def log_lines(self):
        return (self.dir / "k3rs.log").read_text(errors="replace").splitlines()

    def kubectl(self, *args, check=True, input=None, timeout=60, binary=None):
        done = subprocess.run(
            self.inside([binary or self.kubectl_path, *args]), env=self.env, input=input, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise Failure(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def apply(self, manifest, namespace="e2e"):
        return self.kubectl("apply", "-n", namespace, "-f", "-", input=manifest)

    def sh(self, command, check=True, timeout=30):
        done = subprocess.run(self.inside(["sh", "-c", command]), env=self.env, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failure(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def pods(self, selector, namespace="e2e"):
        return self.get("pods", "-n", namespace, "-l", selector)["items"]

    def wait_pods_gone(self, namespace, timeout=60):
        until(lambda: not self.get("pods", "-n", namespace)["items"], f"no pods in {namespace}", timeout)

    def uninstall(self):
        return subprocess.run(self.inside([self.binary, "uninstall", *self.server_args()]), env=self.env, capture_output=True, text=True, timeout=60)

    def close(self):
        """Takes everything away, also after a failure."""
        try:
            self.stop(signal.SIGKILL)
        except Failure:
            pass
        self.uninstall()
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def until(condition, what, timeout=30, interval=0.2):
    """Waits for something that is told by no event to a program outside."""
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except (Failure, subprocess.TimeoutExpired, json.JSONDecodeError, KeyError, IndexError) as error:
            last = error
        time.sleep(interval)
    raise Failure(f"after {timeout} s still not: {what} (last: {last!r})")
