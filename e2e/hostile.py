"""Hostile pods on a real node: hostile.py BINARY [--seconds N] [--seed N] [--only NAME,...].

Pods with each capability, namespace option, volume type and user run `hostile/*.c`, which tries the known ways out, while
operators exec, attach, probe, follow logs, forward ports, delete, and the server is killed and started again. Fails if anything
of the host was read or written, if the server was slow or not ready, or if pods left memory, mounts, processes or files behind.
"""

import argparse
import base64
import collections
import ctypes
import glob
import hashlib
import http.client
import io
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time

import hostile_pods
from cluster import HERE, Cluster, Failure, run, until

LIVE_MAX = 10
MEMORY_MAX_BYTES = 10 << 20
# The machine may be busy with other things: a server that is stopped by a pod answers later than this, or not at all.
ANSWER_MAX_SECONDS = 10
READ_MAX_BYTES = 256 << 10


class Api:
    """Requests from within the server's network namespace, one connection a thread."""

    def __init__(self, cluster):
        self.cluster, self.local = cluster, threading.local()
        text = pathlib.Path(cluster.env["KUBECONFIG"]).read_text()
        self.context = ssl.create_default_context(cadata=self.part(text, "certificate-authority-data").decode())
        self.context.check_hostname = False
        for name in ("client-certificate-data", "client-key-data"):
            (cluster.dir / name).write_bytes(self.part(text, name))
        self.context.load_cert_chain(cluster.dir / "client-certificate-data", cluster.dir / "client-key-data")

    @staticmethod
    def part(text, name):
        return base64.b64decode(re.search(rf"{name}: (\S+)", text)[1])

    def enter(self):
        if not getattr(self.local, "inside", False):
            with open(f"/run/netns/{self.cluster.netns}") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0x40000000):
                    raise Failure("cannot enter the server's network namespace")
            self.local.inside = True

    def __call__(self, method, path, body=None, kind="application/json", timeout=30, limit=None):
        """The status and what was answered, parsed where it is JSON."""
        self.enter()
        connection = http.client.HTTPSConnection("127.0.0.1", 6443, timeout=timeout, context=self.context)
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers={"Content-Type": kind} if body is not None else {})
            answer = connection.getresponse()
            data = answer.read(limit) if limit else answer.read()
            if "json" in (answer.headers.get("Content-Type") or ""):
                return answer.status, json.loads(data)
            return answer.status, data
        finally:
            connection.close()

    def get(self, path, **more):
        status, answer = self("GET", path, **more)
        if status != 200:
            raise Failure(f"GET {path}: {status} {str(answer)[:300]}")
        return answer


def build_images(directory, work):
    """The program, compiled here, as images whose users and databases differ."""
    program = work / "escape"
    run(["gcc", "-O1", "-static", "-o", str(program), *map(str, sorted((HERE / "hostile").glob("*.c")))])
    data = program.read_bytes()
    passwd = "root:x:0:0::/:/escape\n1000:x:0:0::/:/escape\nevil:x:0:0:" + "x" * 100000 + ":/:/escape\n"
    users = {"1": ("", "file"), "number": ("1000", "file"), "user": ("evil:evil", "file"), "passwd": ("", "fifo")}
    directory.mkdir(parents=True, exist_ok=True)
    for tag, (user, kind) in users.items():
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in ("tmp", "etc", "v", "proc", "sys", "dev", "var"):
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                tar.addfile(info)
            capable = {"SCHILY.xattr.security.capability": "\1\0\0\2" + "\x7f\0\0\0" + "\0" * 12}
            for name, mode, extra in (("escape", 0o755, {}), ("escape-setuid", 0o6755, {}), ("escape-capable", 0o755, capable)):
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.pax_headers = len(data), mode, extra
                tar.addfile(info, io.BytesIO(data))
            for name, text in (("etc/passwd", passwd), ("etc/group", "root:x:0:\nevil:x:0:evil\n")):
                info = tarfile.TarInfo(name)
                info.size = len(text) if kind == "file" else 0
                info.type = tarfile.REGTYPE if kind == "file" else tarfile.FIFOTYPE
                tar.addfile(info, io.BytesIO(text.encode()))
        layer = layer.getvalue()
        digest = hashlib.sha256(layer).hexdigest()
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"User": user, "Entrypoint": ["/escape"], "Env": ["PATH=/"]},
                             "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}).encode()
        name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = json.dumps([{"Config": name, "RepoTags": [f"docker.io/e2e/escape:{tag}"], "Layers": [f"{digest}/layer.tar"]}]).encode()
        with tarfile.open(directory / f"escape-{tag}.tar", "w") as tar:
            for entry, content in ((name, config), (f"{digest}/layer.tar", layer), ("manifest.json", manifest)):
                info = tarfile.TarInfo(entry)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def tree(root):
    """What is to stay as it is: kind, mode, owner, links, times, content."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        stat = path.lstat()
        content = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (oct(stat.st_mode), stat.st_uid, stat.st_gid, stat.st_nlink, stat.st_mtime_ns, content)
    return found


# Written by the kernel itself, or by whoever else works on this machine.
VOLATILE = re.compile(r"/(random/|ns_last_pid|pty/nr|dentry-state|inode-|file-nr|aio-nr|epoll|sched_domain|net/|user/|nr_threads|cad_pid|stat_refresh|compact_memory|drop_caches|inotify|keys/|tainted|hostname|domainname|seccomp/|hung_task_detect|shm|msg|sem|ip_|nf_|overflow|quota/)")


def sysctls():
    found = {}
    for path in pathlib.Path("/proc/sys").rglob("*"):
        name = str(path)
        if name.startswith(("/proc/sys/kernel/", "/proc/sys/vm/", "/proc/sys/fs/", "/proc/sys/dev/")) and not VOLATILE.search(name) and path.is_file():
            try:
                found[name] = path.read_bytes()
            except OSError:
                pass
    return found


NETWORK = "ip_forward ip_local_port_range ip_unprivileged_port_start ping_group_range tcp_syncookies tcp_fin_timeout tcp_keepalive_time conf/all/route_localnet conf/all/rp_filter".split()


def machine(node):
    """What of the machine no pod may change."""
    devices = {str(path): (oct(path.lstat().st_mode), path.lstat().st_rdev) for path in pathlib.Path("/dev").iterdir()}
    agents = {str(path): path.read_text() for path in pathlib.Path("/sys/fs/cgroup").glob("*/release_agent")}
    mounts = sorted(line.split(" ")[4] for line in open("/proc/self/mountinfo") if re.match(r"/(proc|sys|dev|etc|usr|bin|boot|root)(/|$)", line.split(" ")[4]))
    network = dict(line.split(":", 1) for line in node.sh("cd /proc/sys/net/ipv4; grep . " + " ".join(NETWORK)).splitlines())
    # A router that a pod made of itself.
    routers = dict.fromkeys(re.findall(r".*(?:proto ra|2001:db8:bad:).*", node.sh("ip -6 route; ip -6 -o address")), "")
    return {"sysctl": sysctls(), "network": network, "router": routers, "device": devices, "release agent": agents, "mount": dict.fromkeys(mounts, "")}


def differences(before, after):
    for kind, things in before.items():
        for name in sorted({*things, *after[kind]}):
            if things.get(name) != after[kind].get(name):
                yield f"{kind} {name}: {str(things.get(name))[:80]} became {str(after[kind].get(name))[:80]}"


class Node(Cluster):
    """A server with a canary beside it."""

    def __init__(self, binary):
        super().__init__(binary)
        self.binary = str(self.dir / "k3rs")
        shutil.copy(binary, self.binary)
        self.mark = f"k3rs-canary-{secrets.token_hex(4)}"
        self.secret = f"{self.mark}-{secrets.token_hex(16)}"
        self.canary, self.host = self.dir / "canary", self.dir / "host"

    def prepare(self):
        for path in (self.canary / "deeper", self.host / "read-only", self.host / "writable"):
            path.mkdir(parents=True)
        (self.canary / "secret").write_text(self.secret)
        (self.canary / "secret").chmod(0o600)
        (self.canary / "deeper/file").write_text("x")
        (self.canary / "link").symlink_to("secret")
        (self.host / "writable").chmod(0o777)
        keyed = self.dir / "keyed"
        run(["gcc", "-O1", "-static", "-o", str(keyed), str(HERE / "hostile/host/keyed.c")])
        self.through = [str(keyed), self.secret]
        build_images(self.data / "agent/images", self.dir)

    def environment(self):
        return {"CANARY": str(self.canary), "TOKEN": str(self.data / "server/token"), "MARK": self.mark}

    def close(self):
        # Deeper than Python's recursion goes.
        subprocess.run(["rm", "-rf", str(self.dir / "host")])
        try:
            self.stop(signal.SIGKILL)
        except Failure:
            pass
        self.uninstall()
        # Nothing of a failed run stays, not even what its uninstall could not end.
        for pid in self.ours():
            os.kill(pid, signal.SIGKILL)
        for line in reversed(open("/proc/self/mountinfo").readlines()):
            if str(self.dir) in line.split(" ")[4]:
                subprocess.run(["umount", "-l", line.split(" ")[4]], capture_output=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.dir)], capture_output=True)
        super().close()

    def ours(self):
        """Processes of the product on this node, by their program."""
        found, binary = [], os.stat(self.binary)
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                # Shims run from another mount of the same file. A sealed copy is another file; its words tell whose it is.
                if os.path.samestat(os.stat(entry / "exe"), binary) or ("memfd:" in os.readlink(entry / "exe") and str(self.dir).encode() in (entry / "cmdline").read_bytes()):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def memory(self):
        """Resident and anonymous bytes of all of them."""
        resident = anonymous = 0
        for pid in self.ours():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                resident += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10
                anonymous += int(re.search(r"RssAnon:\s+(\d+)", status)[1]) << 10
            except (OSError, TypeError):
                continue
        return resident, anonymous

    def left(self):
        """What pods may not leave behind."""
        mounts = sorted(line.split(" ")[4] for line in open("/proc/self/mountinfo") if str(self.dir) in line)
        cgroups = {str(path) for root in pathlib.Path("/sys/fs/cgroup").iterdir() for path in (root / self.cgroup).rglob("*") if path.is_dir()}
        cgroups = {path for path in cgroups if "pod" in path.rsplit(self.cgroup, 1)[1]}
        links = len(self.sh("ip -o link show type veth").splitlines())
        pods = [str(path) for place in (self.data / "agent/kubelet/pods", self.dir / "log", self.data / "agent/pods") if place.is_dir() for path in place.iterdir()]
        return {"mounts": mounts, "cgroups": sorted(cgroups), "links": links, "pods": sorted(pods), "processes": len(self.ours())}


class Suite:
    def __init__(self, node, seconds, seed, only):
        self.node, self.seconds, self.seed, self.only = node, seconds, seed, only
        self.faults = collections.OrderedDict()
        self.excused, self.refused, self.done = collections.Counter(), {}, collections.Counter()
        self.pods, self.live, self.read = {}, {}, {}
        self.slowest, self.restarting = 0.0, threading.Event()
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.api = Api(node)

    def fault(self, text):
        with self.lock:
            first = self.faults.setdefault(re.sub(r"\d+", "N", text), [text, 0])
            first[1] += 1
            if first[1] == 1:
                print(f"HIT   {text}", flush=True)

    # What programs say.

    def heard(self, pod, container, line):
        way, _, text = line.partition(": ")
        if self.node.secret in text or text.startswith("reads "):
            text = text.replace(self.node.secret, "THE SECRET").replace(str(self.node.dir), "HOST")
        if pod.given(container, way, text):
            self.excused[way] += 1
        else:
            self.fault(f"{pod.name}/{container}: {way}: {text}")

    def read_logs(self):
        # Not pathlib's glob: a pod's directory may go while it looks.
        for path in map(pathlib.Path, glob.glob(f"{glob.escape(str(self.node.dir))}/log/hostile_*/*/*.log")):
            name = path.parent.parent.name.split("_")[1]
            if name not in self.pods or name.startswith("exhaust-log"):
                continue
            try:
                with open(path, "rb") as file:
                    start = self.read.get(path, 0)
                    file.seek(start)
                    data = file.read(READ_MAX_BYTES)
            except OSError:
                continue
            end = data.rfind(b"\n") + 1
            self.read[path] = start + end
            for line in data[:end].decode(errors="replace").splitlines():
                words = line.split(" ", 3)
                if len(words) == 4 and words[3].startswith("HIT "):
                    self.heard(self.pods[name], path.parent.name, words[3][4:])
                elif len(words) == 4 and words[3] == "tried":
                    self.done["rounds of every way"] += 1
                elif len(words) == 4 and " took " in words[3]:
                    self.done[words[3]] += 1

    # Pods.

    def create(self, pod, number):
        pod.number = number
        manifest = pod.manifest(self.node.environment(), self.seed + number)
        with self.lock:
            self.pods[pod.name] = pod
        try:
            status, answer = self.api("POST", "/api/v1/namespaces/hostile/pods", manifest)
        except (OSError, http.client.HTTPException) as error:
            self.fault(f"the server does not answer: {error!r}")
            return False
        if status == 201:
            self.done["pods"] += 1
            self.live[pod.name] = time.monotonic()
        else:
            self.refused[pod.name] = answer.get("message", str(answer)) if isinstance(answer, dict) else str(answer)
        return True

    def delete(self, name):
        self.live.pop(name, None)
        self.read_logs()
        try:
            status = self.api.get(f"/api/v1/namespaces/hostile/pods/{name}").get("status", {})
            for container in status.get("containerStatuses", []):
                waiting = container.get("state", {}).get("waiting", {})
                if waiting.get("message"):
                    self.refused.setdefault(f"{name}/{container['name']}", waiting["message"])
            if self.node.mark in json.dumps(status):
                self.fault(f"{name}: the secret stands in its status")
            self.api("DELETE", f"/api/v1/namespaces/hostile/pods/{name}", {"gracePeriodSeconds": random.choice([0, 1, 1, 2])})
        except (Failure, OSError, http.client.HTTPException):
            self.live[name] = 0

    def conduct(self):
        """Keeps pods coming and going until the time is over; kills the server once or more in the middle."""
        queue = [pod for pod in hostile_pods.fixed(self.node.host)]
        queue += [hostile_pods.exhausting(what) for what in hostile_pods.EXHAUSTIONS]
        queue += [hostile_pods.reader(number) for number in range(3)]
        rng = random.Random(self.seed)
        rng.shuffle(queue)
        if self.only:
            queue = [pod for pod in queue if any(pod.name.startswith(name) for name in self.only)]
        n_fixed, number, ends = len(queue), 0, 0
        life = max(6.0, min(20.0, self.seconds * LIVE_MAX / (n_fixed + 10) * 0.9))
        started = time.monotonic()
        kills = [started + self.seconds * part for part in ((0.5,) if self.seconds < 120 else (0.3, 0.6, 0.8))]
        while time.monotonic() < started + self.seconds or number < n_fixed:
            if time.monotonic() > started + self.seconds * 2 + 60:
                self.fault(f"only {number} of {n_fixed} pods could be started in {self.seconds * 2 + 60} s")
                break
            while len(self.live) < LIVE_MAX and (number < n_fixed or not self.only):
                pod = queue[number] if number < n_fixed else hostile_pods.mixed(number, self.seed, self.node.host)
                if not self.create(pod, number):
                    break
                number += 1
            if self.node.process.poll() is not None:
                self.fault(f"the server ended by itself with {self.node.process.returncode}: {self.node.tail(2)}")
                ends += 1
                if ends > 2:
                    raise Failure("the server does not stay up")
                self.restart()
            if kills and time.monotonic() > kills[0]:
                kills.pop(0)
                self.restart()
            self.read_logs()
            for name, born in list(self.live.items()):
                if time.monotonic() - born > life:
                    self.delete(name)
            time.sleep(0.5)
        self.n_fixed = n_fixed

    def restart(self):
        self.restarting.set()
        self.node.process.send_signal(signal.SIGKILL)
        self.node.process.wait()
        began = time.monotonic()
        self.node.start(wait=False)
        self.wait_ready()
        self.done["kills of the server"] += 1
        self.back = max(getattr(self, "back", 0), time.monotonic() - began)
        self.restarting.clear()

    def wait_ready(self, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self.node.alive()
            try:
                if self.api("GET", "/readyz", timeout=5)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        raise Failure(f"the server does not answer {timeout} s after it was killed:\n{self.node.tail()}")

    def starve(self):
        """While a pod holds all that the kernel gives root of something, the server starts again and does its work."""
        pod = hostile_pods.exhausting("inotify")
        pod.name = "starving"
        self.create(pod, 0)
        path = self.node.data / "agent/pod-manifests/static.yaml"
        alone = hostile_pods.Pod("static").container(command=["/escape", "sleep", "1000"])
        alone.powers["c"] = set(hostile_pods.CAPABILITIES)
        said = lambda: str(self.api("GET", "/api/v1/namespaces/hostile/pods/starving/log")[1])
        running = lambda name: any(pod["metadata"]["name"] == name and pod["status"].get("phase") == "Running" for pod in self.api.get("/api/v1/namespaces/hostile/pods")["items"])
        try:
            until(lambda: "exhausted" in said(), "a pod takes what there is", 30)
            self.restart()
            for manifest in (json.dumps(alone.manifest({}, 1) | {"metadata": {"name": "static", "namespace": "hostile"}}), None):
                path.write_text(manifest) if manifest else path.unlink()
                until(lambda: running("static-node1") == bool(manifest), "the manifests of the node are followed", 40, interval=0.5)
        finally:
            path.unlink(missing_ok=True)
            self.delete("starving")
        until(lambda: self.remaining() == ["victim"], "both pods are gone", 30)

    # Operators.

    def health(self):
        while not self.stop.wait(0.5):
            asked = time.monotonic()
            try:
                if self.restarting.is_set():
                    continue
                status, _ = self.api("GET", "/readyz", timeout=ANSWER_MAX_SECONDS)
                node = self.api.get("/api/v1/nodes/node1", timeout=ANSWER_MAX_SECONDS)
                took = time.monotonic() - asked
                ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
                if self.restarting.is_set():
                    continue
                self.slowest = max(self.slowest, took)
                if status != 200 or ready["status"] != "True":
                    self.fault(f"the node is not ready: {status} {ready.get('message')}")
                for condition in node["status"]["conditions"]:
                    if condition["type"] != "Ready" and condition["status"] == "True":
                        self.done[condition["type"]] += 1
            except (OSError, http.client.HTTPException, Failure) as error:
                if not self.restarting.is_set() and time.monotonic() - asked > 1:
                    self.fault(f"the server does not answer: {error!r}")

    def operate(self, number):
        rng = random.Random(self.seed * 31 + number)
        verbs = [self.exec_once, self.exec_plain, self.exec_plain, self.exec_terminal, self.follow, self.attach, self.forward, self.proxy, self.debug, self.stdin, self.figures, self.logs]
        while not self.stop.is_set():
            names = [name for name, born in list(self.live.items()) if time.monotonic() - born > 1.5]
            if not names or self.restarting.is_set():
                self.stop.wait(0.2)
                continue
            pod = self.pods[rng.choice(names)]
            container = rng.choice(pod.containers)["name"]
            verb = rng.choice(verbs)
            try:
                verb(pod, container, rng)
                self.done[verb.__name__] += 1
            except subprocess.TimeoutExpired:
                self.done[f"{verb.__name__} cut"] += 1
            except (OSError, http.client.HTTPException, Failure):
                self.done[f"{verb.__name__} failed"] += 1

    def kubectl(self, pod, container, *words, timeout=6, stdin=None, after=()):
        command = self.node.inside([self.node.kubectl_path, "-n", "hostile", words[0], pod.name, "-c", container, *words[1:]])
        process = subprocess.Popen(command, env=self.node.env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            out, _ = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        for line in out.decode(errors="replace").splitlines():
            if line.startswith("HIT "):
                self.heard(pod, container, line.strip()[4:])
        return out

    def exec_once(self, pod, container, rng):
        self.kubectl(pod, container, "exec", "--", "/escape", "once", str(rng.randrange(1000)), timeout=15)

    def exec_plain(self, pod, container, rng):
        self.kubectl(pod, container, "exec", "--", "/escape", "sleep", "0")

    def exec_terminal(self, pod, container, rng):
        self.kubectl(pod, container, "exec", "-t", "--", "/escape", "watch", "1")

    def stdin(self, pod, container, rng):
        self.kubectl(pod, container, "exec", "-i", "--", "/escape", "sleep", "1", stdin=b"x" * (4 << 20))

    def follow(self, pod, container, rng):
        self.kubectl(pod, container, "logs", "-f", "--tail=10", timeout=2)

    def logs(self, pod, container, rng):
        self.api("GET", f"/api/v1/namespaces/hostile/pods/{pod.name}/log?container={container}&tailLines=5", limit=1 << 20, timeout=10)

    def attach(self, pod, container, rng):
        self.kubectl(pod, container, "attach", timeout=1.5)

    def proxy(self, pod, container, rng):
        self.api("GET", f"/api/v1/namespaces/hostile/pods/{pod.name}:8080/proxy/", limit=1 << 20, timeout=5)

    def figures(self, pod, container, rng):
        self.api("GET", "/api/v1/nodes/node1/proxy/stats/summary", timeout=20)

    def debug(self, pod, container, rng):
        name = f"debug-{rng.randrange(100000)}"
        body = {"spec": {"ephemeralContainers": [{"name": name, "image": hostile_pods.IMAGE, "command": ["/escape", "once", "1"], "targetContainerName": container,
                                                  "env": [{"name": key, "value": value} for key, value in self.node.environment().items()]}]}}
        pod.powers[name] = set(hostile_pods.DEFAULTS)
        self.api("PATCH", f"/api/v1/namespaces/hostile/pods/{pod.name}/ephemeralcontainers", body, kind="application/strategic-merge-patch+json")

    def forward(self, pod, container, rng):
        port = rng.randrange(20000, 30000)
        process = subprocess.Popen(self.node.inside([self.node.kubectl_path, "-n", "hostile", "port-forward", pod.name, f"{port}:8080"]), env=self.node.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            process.stdout.readline()
            self.node.sh(f"curl -s --max-time 1 http://127.0.0.1:{port}/ | head -c 100000 >/dev/null", check=False)
        finally:
            process.kill()
            process.communicate()

    # The whole.

    def warm_up(self):
        """Everything that a server does for the first time, so that memory is compared with that."""
        for kind, item in (
            ("namespaces", {"kind": "Namespace", "metadata": {"name": "hostile"}}),
            ("namespaces/hostile/configmaps", {"kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}}),
            ("namespaces/hostile/secrets", {"kind": "Secret", "metadata": {"name": "own"}, "stringData": {"key": "value"}}),
            ("namespaces/hostile/secrets", {"kind": "Secret", "metadata": {"name": "foreign"}, "stringData": {"key": self.node.secret}}),
            ("namespaces/hostile/persistentvolumeclaims", {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}),
        ):
            self.api("POST", f"/api/v1/{kind}", {"apiVersion": "v1", **item})
        until(lambda: self.api("GET", "/api/v1/namespaces/hostile/serviceaccounts/default")[0] == 200, "a service account", 30)
        until(lambda: any(c["type"] == "Ready" and c["status"] == "True" for c in self.api.get("/api/v1/nodes/node1")["status"]["conditions"]), "the node is ready", 60)
        victim = hostile_pods.Pod("victim").container(command=["/escape", "sleep", "100000"], context={"runAsUser": 777}, drop=["ALL"]).volume("foreign", {"secret": {"secretName": "foreign"}})
        victim.volume("claim", {"persistentVolumeClaim": {"claimName": "shared"}})
        # Without what the others look for: its own secret is its own.
        manifest = victim.manifest({}, 1)
        self.api("POST", "/api/v1/namespaces/hostile/pods", manifest)
        until(lambda: self.api.get("/api/v1/namespaces/hostile/pods/victim")["status"].get("phase") == "Running", "the first pod runs", 60)
        for _ in range(3):
            self.kubectl(victim, "c", "exec", "--", "/escape", "sleep", "0")
            self.figures(None, None, None)

    def run(self):
        node = self.node
        canary, program = tree(node.canary), hashlib.sha256(pathlib.Path(node.binary).read_bytes()).hexdigest()
        self.warm_up()
        before = machine(node)
        time.sleep(2)
        memory, left = node.memory(), node.left()
        descriptors = len(os.listdir(f"/proc/{self.server()}/fd"))
        threads = [threading.Thread(target=self.health, daemon=True)]
        threads += [threading.Thread(target=self.operate, args=(number,), daemon=True) for number in range(2 if self.seconds < 120 else 3)]
        if not self.only:
            self.starve()
        for thread in threads:
            thread.start()
        try:
            self.conduct()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(30)
        for name in list(self.live):
            self.delete(name)
        try:
            until(lambda: node.process.poll() is not None or len(self.remaining()) == 1, "only the first pod is left", 90, interval=0.5)
        except Failure:
            self.fault(f"pods stay: {' '.join(self.remaining())}")
        if node.process.poll() is not None:
            raise Failure(f"the server ended by itself with {node.process.returncode}")
        self.read_logs()
        self.check(canary, program, before, memory, left, descriptors)

    def remaining(self):
        try:
            return [pod["metadata"]["name"] for pod in self.api.get("/api/v1/namespaces/hostile/pods")["items"]]
        except (OSError, http.client.HTTPException, Failure) as error:
            return [repr(error)] * 2

    def server(self):
        """The server's own process: nsenter and the keyring's program have become it."""
        return self.node.process.pid

    def check(self, canary, program, before, memory, left, descriptors):
        node = self.node
        for fault in differences({"canary": canary}, {"canary": tree(node.canary)}):
            self.fault(f"the host was written: {fault}")
        if hashlib.sha256(pathlib.Path(node.binary).read_bytes()).hexdigest() != program:
            self.fault("the program's file was written")
        for fault in differences(before, machine(node)):
            self.fault(f"the machine was changed: {fault}")
        for line in node.log_lines():
            if node.mark in line or "panicked" in line:
                self.fault(f"the log says: {line[:300]}")

        def grown():
            found = []
            for name, now in node.left().items():
                more = sorted(set(now) - set(left[name])) if isinstance(now, list) else f"{now} instead of {left[name]}" if now > left[name] else ""
                found += [f"{name}: {more}"] if more else []
            return found

        try:
            until(lambda: not grown(), "nothing is left of the pods", 30, interval=0.5)
        except Failure:
            for what in grown():
                self.fault(f"left behind: {what[:600]}")
        now = len(os.listdir(f"/proc/{self.server()}/fd"))
        if now > descriptors + 16:
            self.fault(f"left behind: {descriptors} descriptors before, {now} now")
        # A build without optimizations has more code to touch than memory to use: of that only its own pages count.
        which = 1 if "/debug/" in os.path.realpath(sys.argv[1]) else 0
        try:
            until(lambda: node.memory()[which] < memory[which] + MEMORY_MAX_BYTES, "the memory is given back", 90, interval=1)
        except Failure:
            self.fault(f"memory: {memory[which] >> 10} KiB before, {node.memory()[which] >> 10} KiB after")
        self.memory = [value >> 10 for value in (*memory, *node.memory())]

    def report(self):
        print(f"pods: {self.n_fixed} fixed, then mixed; done: {dict(sorted(self.done.items()))}")
        print(f"given on purpose: {dict(sorted(self.excused.items()))}")
        for name, why in sorted(self.refused.items()):
            print(f"refused: {name}: {why[:160]}")
        print("memory in KiB (resident, anonymous): {0}, {1} before; {2}, {3} after".format(*self.memory))
        print(f"slowest answer {self.slowest:.2f} s; back {getattr(self, 'back', 0):.2f} s after a kill; {len(self.faults)} faults")
        for text, count in self.faults.values():
            print(f"FAULT {count:5} x {text}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="")
    wanted = parser.parse_args()
    if os.geteuid() != 0:
        print("hostile: skipped: containers need root")
        return 0
    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(1 << 30)
    print(f"hostile: seed {seed}, {wanted.seconds} s", flush=True)
    node = Node(os.path.realpath(wanted.binary))
    suite = None
    failed = True
    try:
        node.prepare()
        node.start()
        suite = Suite(node, wanted.seconds, seed, [name for name in wanted.only.split(",") if name])
        suite.run()
        suite.report()
        failed = bool(suite.faults)
    except Exception as error:
        print(f"FAIL  {error}\n--- k3rs says:\n{node.tail()}", flush=True)
        if suite:
            for text, count in suite.faults.values():
                print(f"FAULT {count:5} x {text}")
        if not isinstance(error, Failure):
            raise
    finally:
        if failed and os.environ.get("K3RS_E2E_KEEP"):
            print(f"kept: {node.dir} netns {node.netns} pid {node.process and node.process.pid}")
        else:
            node.close()
    print("failed" if failed else "ok: nothing of the host was read or written")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
