"""Machines on one wire: network namespaces at a bridge, each with a k3rs server, an agent or a database of its own."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time

from cluster import Failure, find_kubectl, host_disk, run, until

NETWORK = "192.0.2"
NETWORK_V6 = "fd00::"


def wait_end(process, what):
    """Kills what does not end by itself; that is a failure."""
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failure(f"{what} did not end within 30 s")


class Wire:
    """A bridge in a namespace of its own, which knows a port for each machine."""

    def __init__(self, name):
        self.netns = f"{name}-wire"
        run(["ip", "netns", "add", self.netns])
        self.run("ip link add br0 type bridge")
        self.run("ip link set br0 up")

    def run(self, command):
        return run(["nsenter", f"--net=/run/netns/{self.netns}", *command.split()])

    def plug(self, inside, interface, port):
        """Takes the other end of a machine's cable, `interface` in its namespace."""
        run(inside(["ip", "link", "set", interface, "netns", self.netns, "name", port]))
        self.run(f"ip link set {port} master br0")
        self.run(f"ip link set {port} up")

    def cut(self, port):
        self.run(f"ip link set {port} down")

    def mend(self, port):
        self.run(f"ip link set {port} up")

    def close(self):
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)


class Host:
    """One machine: `name` is its node's, too, `number` the last part of its address; `families` has 4, 6 or both."""

    def __init__(self, wire, directory, binary, name, number, families="4"):
        self.wire, self.dir, self.binary, self.name = wire, directory, binary, name
        self.address, self.address_v6 = f"{NETWORK}.{number}", f"{NETWORK_V6}{number}"
        self.port = f"p{number}"
        self.data = directory / f"{name}-data"
        self.kubectl_path = find_kubectl()
        self.env = dict(
            os.environ,
            HOME=str(directory),
            KUBECONFIG=str(directory / f"{name}-kubeconfig"),
            **{f"K3RS_{what}_DIR": str(directory / f"{name}-{what.lower()}") for what in ("ETC", "RUN", "LOG", "KUBELET")},
        )
        self.log_path = directory / f"{name}.log"
        self.log = open(self.log_path, "ab")
        self.process = None
        self.is_node = True
        # What k3rs is started through, and whether the packaged ingress is there: as in cluster.py.
        self.through, self.ingress = [], False
        self.netns = f"{wire.netns}-{number}"
        run(["ip", "netns", "add", self.netns])
        commands = ["ip link set lo up", "ip link add eth0 type veth peer name peer0", "ip link set eth0 up"]
        if "4" in families:
            commands += [f"ip addr add {self.address}/24 dev eth0", f"ip route add default via {NETWORK}.1"]
        if "6" in families:
            commands += [f"ip addr add {self.address_v6}/64 dev eth0 nodad", f"ip -6 route add default via {NETWORK_V6}1"]
        for command in commands:
            run(self.inside(command.split()))
        wire.plug(self.inside, "peer0", self.port)

    def inside(self, command):
        return ["nsenter", f"--net=/run/netns/{self.netns}", *command]

    def sh(self, command, check=True, timeout=30):
        done = subprocess.run(self.inside(["sh", "-c", command]), env=self.env, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise Failure(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def own_args(self):
        return ["--data-dir", str(self.data), "--node-name", self.name]

    def server(self, *args, env=None):
        self.begin(["server", *self.own_args(), *host_disk(self.data), "--write-kubeconfig", self.env["KUBECONFIG"], *([] if self.ingress else ["--disable", "traefik"]), *args], env)

    def agent(self, url, token, *args):
        self.begin(["agent", *self.own_args(), *host_disk(self.data), *args], {"K3S_URL": url, "K3S_TOKEN": token})

    def begin(self, args, env=None):
        self.process = subprocess.Popen(
            self.inside([*self.through, self.binary, *args]), env={**self.env, **(env or {})}, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
        return True

    def ended(self, words):
        """It ends with an error and says why."""
        code = wait_end(self.process, self.name)
        if code == 0 or words not in self.tail():
            raise Failure(f"{self.name} ended with {code} and does not say {words!r}:\n{self.tail()}")

    def wait_up(self, timeout=60):
        until(lambda: self.alive() and self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, f"{self.name} answers", timeout, interval=0.05)

    def kubectl(self, *args, check=True, input=None, timeout=60):
        done = subprocess.run(
            self.inside([self.kubectl_path, *args]), env=self.env, input=input, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise Failure(f"kubectl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-o", "json").stdout)

    def stop(self, sig=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            wait_end(self.process, self.name)

    def tail(self, lines=30):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def close(self):
        if self.log.closed:
            return
        try:
            self.stop(signal.SIGKILL)
        finally:
            subprocess.run(self.inside([self.binary, "uninstall", *self.own_args()]), env=self.env, capture_output=True, timeout=60)
            subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)
            self.log.close()


def cut(pid, port=6443):
    """Ends a process's connections to a port of others, as a lost route would; how many there were."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(434, pid, 0)
    found = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
            except OSError:
                continue
            fd = libc.syscall(438, pidfd, int(name), 0)
            if fd < 0:
                continue
            with socket.socket(fileno=fd) as its:
                try:
                    if its.getpeername()[1:2] == (port,):
                        its.shutdown(socket.SHUT_RDWR)
                        found += 1
                except OSError:
                    pass
    finally:
        os.close(pidfd)
    return found


def is_ready(thing):
    conditions = thing["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def node_ready(server, name):
    return is_ready(server.get("node", name))


def endpoints(server):
    """Where the API is, as the `kubernetes` Service knows it."""
    subsets = server.get("endpoints", "kubernetes").get("subsets") or [{}]
    return sorted(address["ip"] for address in subsets[0].get("addresses", []))


ROLES = ("kube-controller-manager", "kube-scheduler", "k3s-cloud-controller-manager")


def leaders(server):
    """The node whose server has each role."""
    leases = server.get("lease", "-n", "kube-system")["items"]
    held = {lease["metadata"]["name"]: lease["spec"].get("holderIdentity", "").split("_")[0] for lease in leases}
    return {role: held[role] for role in ROLES if held.get(role)}


def took(since):
    return f"{time.monotonic() - since:.1f} s"
